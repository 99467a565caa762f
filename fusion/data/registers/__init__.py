"""Registers as files: cards of public data sets, and hashes of those of their images that were at hand."""
