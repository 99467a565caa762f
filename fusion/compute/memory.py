"""Memory that nobody needs: giving it back to the operating system, and looking for it no oftener than pays."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return what is free in Arrow's pool and in the C library's heap; takes some milliseconds.

    Of 100,000 images, listing them, looking them up and telling their cells apart leaves 50 MB there.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = _trimming()
    if trim is not None:
        trim(0)


def collect_rarely() -> None:
    """Look for cycles of unused objects after 50,000 new ones instead of 700: for a process of ours, as it begins.

    Libraries make half a million objects that stay; going through them again and again took an eighth of a start.
    """
    gc.set_threshold(50_000, 10, 10)


@cache
def _trimming() -> Callable[[int], int] | None:
    """malloc_trim(3) of glibc; other C libraries return memory by themselves, or not at all."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no such handle
        return None
