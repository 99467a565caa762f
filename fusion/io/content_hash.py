"""What a file holds, as a key: its hash, and a million of these found in each other without an object for each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.io import arrow_arrays

if TYPE_CHECKING:
    import pyarrow as pa

#: Keys in one piece of an Arrow array: a list of so many is there while they are taken in.
_PIECE = 1 << 14

#: Letters of a content key: 256 bits in hexadecimal digits.
_DIGITS = 64


def hash_content(*parts: bytes | memoryview) -> str:
    """64 hex digits of the bytes of these parts, one after the other: what tells an image's, a mask's, pixels' content.

    BLAKE3: as hard to forge as SHA-256, in a quarter of the time of a processor that has instructions for that one,
    and in a tenth of that of others. It is asked of everything that is measured.
    Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn (2020), github.com/BLAKE3-team/BLAKE3-specs.
    """
    from blake3 import blake3

    digest = blake3()
    for part in parts:
        digest.update(part)
    return str(digest.hexdigest())


def as_arrow(keys: Iterable[str] | pa.ChunkedArray) -> pa.ChunkedArray:
    """The keys in order; what is in Arrow already stays as it is."""
    import pyarrow as pa

    if isinstance(keys, pa.ChunkedArray):
        return keys
    rest, pieces = iter(keys), []
    while piece := list(islice(rest, _PIECE)):
        pieces.append(arrow_arrays.texts(piece))
    return pa.chunked_array(pieces, pa.string())


def positions(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.intp]:
    """Index of the first occurrence of every key, -1 where there is none."""
    import pyarrow.compute as pc

    if not len(among) or not len(keys):
        return np.full(len(keys), -1, np.intp)
    found = _by_sorting(keys, among)
    if found is None:
        found = pc.index_in(keys, value_set=among).fill_null(-1).to_numpy().astype(np.intp)
    return found


def _by_sorting(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.intp] | None:
    """``positions`` of content keys by their first digits in order, in a tenth of the room of Arrow's hash table.

    None where a key has not the length of one, or where two different ones begin alike.
    """
    if not (_are_digests(keys) and _are_digests(among)):
        return None
    present = _beginnings(among)
    order = np.argsort(present, kind="stable")
    present, sought = present[order], _beginnings(keys)
    at = np.searchsorted(present, sought)
    at[at == len(order)] = 0
    found = np.where(present[at] == sought, order[at], -1)
    hit = np.flatnonzero(found >= 0)
    for word in range(_DIGITS // 8):
        if not np.array_equal(_word(keys, word)[hit], _word(among, word)[found[hit]]):
            return None
    return found


def _are_digests(keys: pa.ChunkedArray) -> bool:
    """Whether each has as many letters as a content key."""
    import pyarrow as pa

    return pa.types.is_string(keys.type) and all(
        not piece.null_count and (np.diff(_starts(piece)) == _DIGITS).all() for piece in keys.chunks
    )


def _starts(piece: pa.StringArray) -> NDArray[np.int32]:
    """int32 (n + 1,): where each text begins among all letters, and where the last one ends."""
    if not len(piece):  # may have no room for the end
        return np.zeros(1, np.int32)
    return np.frombuffer(piece.buffers()[1], np.int32)[piece.offset : piece.offset + len(piece) + 1]


def _word(keys: pa.ChunkedArray, word: int) -> NDArray[np.uint64]:
    """uint64 (n,): eight of each key's digits, as one number."""
    parts = [np.empty(0, np.uint64)]
    for piece in filter(len, keys.chunks):
        digits = np.frombuffer(piece.buffers()[2], np.uint8)[_starts(piece)[0] :][: len(piece) * _DIGITS]
        parts.append(digits.reshape(-1, _DIGITS)[:, 8 * word : 8 * word + 8].copy().view(np.uint64)[:, 0])
    return np.concatenate(parts)


def _beginnings(keys: pa.ChunkedArray) -> NDArray[np.uint64]:
    """uint64 (n,): the first 16 digits of each key folded into one number; the odd factor spreads the first eight."""
    return _word(keys, 0) * np.uint64(0x9E3779B97F4A7C15) + _word(keys, 1)


def distinct(keys: pa.ChunkedArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each key occurs first, ascending; and for every key, which of those it is."""
    first = positions(keys, keys)
    is_first = first == np.arange(len(first))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first]
