"""Calls that not every operating system has, each with what is done where it has not: nowhere else is one made."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

#: What renameat2 of Linux and renamex_np of macOS call an exchange; renameat2's word for "the working folder".
_EXCHANGE, _HERE = 2, -100

#: MADV_DONTNEED of Linux and macOS. Pages of a mapped file are read again from the file, whose bytes never change.
_DONTNEED = 4


def exchange_names(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step; False where system or disk cannot, and nothing is done.

    Examples
    --------
    >>> exchange_names(Path("absent"), Path("absent too"))
    False
    """
    libc = _libc()
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return bool(libc is not None and libc.renamex_np(*names, _EXCHANGE) == 0)
        return bool(libc is not None and libc.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)
    except AttributeError:  # C libraries of before 2018
        return False


def trim_heap() -> None:
    """Return what is free in the C library's heap, by glibc's malloc_trim(3); others do so by themselves, or never."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def forget_pages(address: int, size: int) -> None:
    """Count no page of a mapped file as memory of this process until it is read again, by madvise(2); where there is
    none, the system takes pages back when it needs them."""
    advise = _function("madvise") if os.name == "posix" else None
    if advise is not None:
        advise(ctypes.c_void_p(address), ctypes.c_size_t(size), _DONTNEED)


def total_memory() -> float | None:
    """Bytes of the machine's memory; None where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems not these names
        return None


def usable_cores() -> int:
    """Processors that this process may run on; all of the machine's where it does not say."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def processor_name() -> str:
    """What the processor is called, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


@cache
def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # Windows has no such handle
        return None


def _function(name: str) -> Callable[..., int] | None:
    return getattr(_libc(), name, None)
