"""Memory that nobody needs: giving it back to the operating system, and looking for it no oftener than pays."""

from __future__ import annotations

import gc

from fusion.compute.platform_calls import trim_heap


def give_back() -> None:
    """Return what is free in Arrow's pool and in the C library's heap; takes some milliseconds.

    Of 100,000 images, listing them, looking them up and telling their cells apart leaves 50 MB there.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim_heap()


def collect_rarely() -> None:
    """Look for cycles of unused objects after 50,000 new ones instead of 700: for a process of ours, as it begins.

    Libraries make half a million objects that stay; going through them again and again took an eighth of a start.
    """
    gc.set_threshold(50_000, 10, 10)
