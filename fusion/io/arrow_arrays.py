"""Arrow arrays from values of Python and NumPy.

``pyarrow.array`` imports pandas to ask whether these are its own: half a second of processor time in every command, for
values that never are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def texts(values: Sequence[str | None]) -> pa.StringArray:
    """Strings of 2 GB together at most; None stays one, as null."""
    import pyarrow as pa

    return _of_bytes([None if value is None else value.encode() for value in values], pa.string())


def blobs(values: Sequence[bytes]) -> pa.BinaryArray:
    """Bytes of 2 GB together at most."""
    import pyarrow as pa

    return _of_bytes(values, pa.binary())


def numbers(values: NDArray) -> pa.Array:
    """(n,) numbers, in the memory where they are if they lie side by side; NaN stays NaN."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def values(array: pa.Array | pa.ChunkedArray) -> NDArray:
    """(n,) of numbers without nulls: where they lie, if in one piece, and not to be written to."""
    import pyarrow as pa

    pieces = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    dtype = np.dtype(array.type.to_pandas_dtype())
    found = [
        np.frombuffer(piece.buffers()[1], dtype, len(piece), piece.offset * dtype.itemsize)
        for piece in pieces
        if len(piece)
    ]
    return found[0] if len(found) == 1 else np.concatenate([np.empty(0, dtype), *found])


def empty(schema: pa.Schema) -> pa.Table:
    """A table without rows."""
    import pyarrow as pa

    return pa.Table.from_batches([], schema=schema)


def _of_bytes(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    ends = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value or b"") for value in values], out=ends[1:])
    if ends[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{ends[-1]} bytes do not fit into one array of Arrow's")
    is_there = np.array([value is not None for value in values], bool)
    validity = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    buffers = [validity, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(value or b"" for value in values))]
    return pa.Array.from_buffers(kind, len(values), buffers)
