"""Content keys by the million, as Arrow strings: found in each other without an object of Python for each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

#: Keys in one piece of an Arrow array: a list of so many is there while they are taken in.
_PIECE = 1 << 14


def as_arrow(keys: Iterable[str] | pa.ChunkedArray) -> pa.ChunkedArray:
    """The keys in order; what is in Arrow already stays as it is."""
    import pyarrow as pa

    if isinstance(keys, pa.ChunkedArray):
        return keys
    rest, pieces = iter(keys), []
    while piece := list(islice(rest, _PIECE)):
        pieces.append(pa.array(piece, pa.string()))
    return pa.chunked_array(pieces, pa.string())


def positions(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.intp]:
    """Index of the first occurrence of every key, -1 where there is none."""
    import pyarrow.compute as pc

    if not len(among) or not len(keys):
        return np.full(len(keys), -1, np.intp)
    found = pc.index_in(keys, value_set=among)
    return found.fill_null(-1).to_numpy().astype(np.intp)


def distinct(keys: pa.ChunkedArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each key occurs first, ascending; and for every key, which of those it is."""
    first = positions(keys, keys)
    is_first = first == np.arange(len(first))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first]
