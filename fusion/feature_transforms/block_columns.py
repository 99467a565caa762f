"""Which columns of a table belong to which block."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def block_columns(columns: Iterable[str]) -> dict[str, NDArray[np.intp]]:
    """Block name -> intp positions of its columns, for columns that are named ``block.feature``."""
    positions: dict[str, list[int]] = {}
    for at, column in enumerate(columns):
        positions.setdefault(column.rpartition(".")[0], []).append(at)
    return {name: np.array(own, np.intp) for name, own in positions.items()}


def block_slices(columns: Iterable[str]) -> dict[str, slice]:
    """Block name -> its columns, for columns that are named ``block.feature`` and stand block by block.

    >>> block_slices(["colour.red", "colour.blue", "morphology.area"])
    {'colour': slice(0, 2, None), 'morphology': slice(2, 3, None)}
    """
    return {name: slice(int(own[0]), int(own[-1]) + 1) for name, own in block_columns(columns).items()}
