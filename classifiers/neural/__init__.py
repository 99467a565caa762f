"""The end-to-end network: the trunk of the extractor ``cnn``, a fusion layer for feature blocks, and a head."""
