"""Loops compiled by numba, wherever they are: on the first call, and kept on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable)


def _spare_scipy() -> None:
    """Let numba set its array functions up without SciPy's linear algebra: importing it takes a seventh of a start.

    numba looks there only for whether ``np.cov`` and the like have a faster inner product. ``np.dot`` and all else of
    linear algebra ask again when they are compiled, and find it.
    """
    from numba.np import linalg

    try:
        look = linalg.ensure_blas
    except AttributeError:  # another numba
        return
    if "scipy.linalg" in sys.modules:  # it is there anyway
        return

    def refuse() -> None:
        raise ImportError("not now")

    linalg.ensure_blas = refuse
    try:
        import numba.np.arraymath  # noqa: F401  # numba would import it before the first loop
    finally:
        linalg.ensure_blas = look


_spare_scipy()


def compiled(loop: Loop) -> Loop:
    """Compile on the first call and keep the machine code on disk; in memory only where no folder can be written.

    Dividing by 0 gives what NumPy gives: to look for it takes longer than dividing.
    """
    try:
        return cast(Loop, njit(cache=True, nogil=True, error_model="numpy")(loop))
    except RuntimeError:  # numba refuses to cache in a read-only installation without a home
        return cast(Loop, njit(nogil=True, error_model="numpy")(loop))
