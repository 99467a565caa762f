"""What a classifier of images learns from and is asked with: images, feature blocks, or both, one row a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CellInputs:
    """Images and features of n cells. Images stay where they are, on disk perhaps, until a batch is asked for.

    Attributes
    ----------
    X : float32 (n, d); NaN where a feature is undefined, a whole block of NaN where a cell does not have it.
    blocks : block name -> its columns in ``X``, side by side from the first column on.
    source : uint8 (m, S, S, 3), or None where there are no images.
    rows : intp (n,), which images of ``source`` these are.
    sources : n names of the sites that the cells are from, None where unknown; () is n times None.
    """

    X: NDArray[np.float32]
    blocks: Mapping[str, slice]
    source: NDArray[np.uint8] | None = None
    rows: NDArray[np.intp] | None = None
    sources: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        if self.source is not None and self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.source)))
        if self.rows is not None and len(self.rows) != len(self.X):
            raise ValueError(f"{len(self.rows)} images for {len(self.X)} rows of features")
        if self.sources and len(self.sources) != len(self.X):
            raise ValueError(f"{len(self.sources)} sources for {len(self.X)} rows of features")

    def __len__(self) -> int:
        return len(self.X)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d) of the features."""
        return (len(self.X), self.X.shape[1])

    def take(self, rows: NDArray[np.intp]) -> CellInputs:
        """These cells, in this order; no image is copied."""
        of = tuple(self.sources[row] for row in rows) if self.sources else ()
        return replace(self, X=self.X[rows], rows=None if self.rows is None else self.rows[rows], sources=of)

    def images(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """uint8 (k, S, S, 3): the images of these cells, in memory."""
        assert self.source is not None
        assert self.rows is not None
        return np.asarray(self.source[self.rows[rows]])
