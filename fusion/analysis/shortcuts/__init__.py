"""Shortcuts: whether the class can be told from what is no part of the cell."""
