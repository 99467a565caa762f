"""What ``fusion inspect`` asks of a finished result: its labels."""
