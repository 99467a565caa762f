"""Features that stay in the store: a matrix whose rows are read where they are needed, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fusion.features.store import Block

#: Rows read at once: 58 MB of 1,786 features.
BATCH = 8192


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Stands in a ``FeatureTable`` for its float32 (n, d), which may be larger than the memory.

    Attributes
    ----------
    blocks : what the store holds of each extractor, side by side.
    rows : for each of them intp (n,), which row is whose.
    columns : intp, which of all columns there are, in which order.
    """

    blocks: tuple[Block, ...]
    rows: tuple[NDArray[np.intp], ...]
    columns: NDArray[np.intp]

    @classmethod
    def from_blocks(cls, blocks: Sequence[Block], rows: Sequence[NDArray[np.intp]]) -> StoredRows:
        """All columns of these blocks."""
        return cls(tuple(blocks), tuple(rows), np.arange(sum(block.width for block in blocks)))

    @property
    def shape(self) -> tuple[int, int]:
        """As an array's."""
        return len(self), len(self.columns)

    def __len__(self) -> int:
        return len(self.rows[0])

    def __getitem__(self, which: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """float32 in memory: the rows of these numbers."""
        parts = []
        for block, rows in zip(self.blocks, self.rows, strict=True):
            parts.append(block.rows(rows[which]))
            block.release_pages()
        X = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return X if np.array_equal(self.columns, np.arange(X.shape[1])) else X[:, self.columns]

    def take(self, which: NDArray[np.intp]) -> StoredRows:
        """These rows, still in the store."""
        return StoredRows(self.blocks, tuple(rows[which] for rows in self.rows), self.columns)

    def pick(self, columns: Sequence[int]) -> StoredRows:
        """These columns, in this order, still in the store."""
        return StoredRows(self.blocks, self.rows, self.columns[np.asarray(columns, np.intp)])

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """All rows in order, ``BATCH`` at a time."""
        for start in range(0, len(self), BATCH):
            yield self[start : start + BATCH]


def is_stored(X: Any) -> TypeGuard[StoredRows]:
    """Whether a table's features are still in the store."""
    return isinstance(X, StoredRows)


def rows_of(X: Any, rows: NDArray[np.intp]) -> Any:
    """Features of these rows, in the store still if they are there."""
    return X.take(rows) if is_stored(X) else X[rows]


def sample_rows(X: Any, most: int, seed: int) -> NDArray[np.intp]:
    """Numbers of at most so many rows, drawn without replacement, ascending; of all rows where there are no more."""
    if len(X) <= most:
        return np.arange(len(X))
    return np.sort(np.random.default_rng(seed).choice(len(X), most, replace=False))
