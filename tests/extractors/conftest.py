"""Cells to measure: irregular ones, degenerate ones, the same cell padded or turned, and random ones for hypothesis."""

from __future__ import annotations

from hypothesis import settings

# The first example compiles the kernels, which takes seconds: no example is too slow.
examples = settings(deadline=None, max_examples=40)
