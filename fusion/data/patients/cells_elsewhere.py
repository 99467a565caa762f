"""Cells of patients that are not held: they are read, changed, exchanged or joined whenever some are asked for.

Each of these stands where an array of cells could: it has a ``shape`` and a length, and gives the rows of some numbers
as an array. What it is made of may lie in memory, in the store, or be such cells itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fusion.feature_transforms.harmonisation import Harmoniser

_Change = Callable[[NDArray[Any]], NDArray[Any]]

#: Cells that are read, changed or judged at a time: of 2,699 features 173 MB as float64.
BATCH_CELLS = 8192


@dataclass(frozen=True, eq=False)
class ChangedCells:
    """Cells as a change makes them of others.

    Attributes
    ----------
    source : the cells before.
    change : makes float (k, d') of float (k, d).
    columns : intp, which of the d' columns these are.
    """

    source: Any
    change: _Change
    columns: NDArray[np.intp]

    @classmethod
    def of(cls, source: Any, change: _Change) -> Self:
        """All columns that the change makes."""
        return cls(source, change, np.arange(change(source[np.arange(min(1, len(source)))]).shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.source), len(self.columns)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """float32 in memory: the rows of these numbers, some at a time."""
        found = np.empty((len(rows), len(self.columns)), np.float32)
        for start in range(0, len(rows), BATCH_CELLS):
            some = slice(start, start + BATCH_CELLS)
            found[some] = self.change(self.source[rows[some]])[:, self.columns]
        return found

    def pick(self, columns: NDArray[np.intp]) -> Self:
        """These columns of the same cells."""
        return replace(self, columns=self.columns[columns])


@dataclass(frozen=True, eq=False)
class HarmonisedCells:
    """Cells, each through the map of its source.

    Attributes
    ----------
    source : the m cells before.
    harmoniser : with a map of every source that is to be changed: no source is new to it.
    sources : object (m,), names, None where unknown.
    columns : intp, which of the columns these are.
    dtype : of what is given; the maps work in float64.
    """

    source: Any
    harmoniser: Harmoniser
    sources: NDArray[Any]
    columns: NDArray[np.intp]
    dtype: Any = np.float64

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.source), len(self.columns)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """In memory: the rows of these numbers, some at a time."""
        found = np.empty((len(rows), len(self.columns)), self.dtype)
        for start in range(0, len(rows), BATCH_CELLS):
            some = rows[start : start + BATCH_CELLS]
            X = self.harmoniser.transform(self.source[some], self.sources[some].tolist())
            found[start : start + len(some)] = X[:, self.columns]
        return found

    def pick(self, columns: NDArray[np.intp]) -> Self:
        """These columns of the same cells."""
        return replace(self, columns=self.columns[columns])


@dataclass(frozen=True, eq=False)
class ExchangedCells:
    """Cells that have some columns from others.

    Attributes
    ----------
    source, rows : cells, and intp (k,), which of them these are.
    donors, donor_rows : the cells that give, and intp (k,), which of them gives to each.
    part : the columns that are given.
    """

    source: Any
    rows: NDArray[np.intp]
    donors: Any
    donor_rows: NDArray[np.intp]
    part: slice

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.rows), int(self.source.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """In memory: the rows of these numbers."""
        found = np.array(self.source[self.rows[rows]])
        for start in range(0, len(found), BATCH_CELLS):
            some = slice(start, start + BATCH_CELLS)
            found[some, self.part] = self.donors[self.donor_rows[rows[some]]][:, self.part]
        return found


@dataclass(frozen=True, eq=False)
class JoinedCells:
    """The cells of one place, and then those of another.

    Attributes
    ----------
    parts : both.
    columns : intp, which of their columns these are; None for all, in their order.
    """

    parts: Sequence[Any]
    columns: NDArray[np.intp] | None = None
    _starts: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.cumsum([0, *(len(part) for part in self.parts)]))

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        width = int(self.parts[0].shape[1]) if self.columns is None else len(self.columns)
        return len(self), width

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """In memory: the rows of these numbers."""
        rows = np.asarray(rows)
        found: NDArray[Any] = np.empty((len(rows), self.shape[1]), np.float32)
        for part, start, end in zip(self.parts, self._starts, self._starts[1:], strict=False):
            own = np.flatnonzero((rows >= start) & (rows < end))
            if len(own):
                X = np.asarray(part[rows[own] - start])
                found[own] = X if self.columns is None else X[:, self.columns]
        return found

    def pick(self, columns: NDArray[np.intp]) -> Self:
        """These columns of the same cells."""
        return replace(self, columns=np.asarray(columns) if self.columns is None else self.columns[columns])


@dataclass(frozen=True, eq=False)
class WidenedCells:
    """Cells that are read when they are asked for, with further columns that are held.

    Attributes
    ----------
    source : the m cells before.
    more : float32 (m, e), their further, last columns.
    columns : intp, which of all columns these are.
    """

    source: Any
    more: NDArray[np.float32]
    columns: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.source), len(self.columns)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """In memory: the rows of these numbers."""
        return np.hstack([np.asarray(self.source[rows]), self.more[rows]])[:, self.columns]

    def pick(self, columns: NDArray[np.intp]) -> Self:
        """These columns of the same cells."""
        return replace(self, columns=self.columns[columns])


def widen_cells(cells: Any, more: NDArray[np.float32]) -> Any:
    """The same cells with further, last columns: an array where they are one."""
    if isinstance(cells, np.ndarray):
        return np.hstack([cells, more])
    return WidenedCells(cells, more, np.arange(cells.shape[1] + more.shape[1]))


@dataclass(frozen=True, eq=False)
class OrderedCells:
    """Some of the cells in an order, for a classifier that reads them batch by batch.

    Attributes
    ----------
    source, rows : cells, and intp (k,), which of them these are.
    """

    source: Any
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self.rows), int(self.source.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """All rows in order, ``BATCH_CELLS`` at a time."""
        for start in range(0, len(self.rows), BATCH_CELLS):
            yield np.asarray(self.source[self.rows[start : start + BATCH_CELLS]], np.float32)


def join_cells(first: Any, second: Any) -> Any:
    """The cells of both: an array where both are, else read whenever some are asked for."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.vstack([first, second])
    return JoinedCells((first, second))
