"""What ``fusion demo`` does: the whole way on synthetic cells, told in five lines and shown on a page."""
