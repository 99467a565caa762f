"""Squared distances between cells, computed once a block and summed for every set of blocks.

A fused row is the concatenation of its blocks, each multiplied with a weight, so that the squared distance of two rows
is the weighted sum of the squared distances within the blocks. All RBF-kernel SVMs of all 2**k - 1 sets of k blocks,
and of any grid of C and gamma, come from k matrices: what costs a product over thousands of columns costs a sum of k
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.learning.scaled_blocks import scale_block

_Floats = NDArray[np.float64]

#: Rows of a kernel that are summed at a time: with some thousand columns they stay in the second-level cache.
_CHUNK_ROWS = 16


@dataclass(frozen=True, eq=False)
class _BlockDistances:
    """One block of one fold, scaled as the fusion layer scales it and not yet weighted.

    Attributes
    ----------
    squared : float64 (n_train + n_test, n_train), squared distances; training rows first.
    sums, squares : float64 (n_train + n_test,), each row's sum of values and of squares.
    variances : float64 (d,), of the outgoing columns in the training part.
    """

    squared: _Floats
    sums: _Floats
    squares: _Floats
    variances: _Floats


@dataclass(frozen=True, eq=False)
class Distances:
    """Squared distances between the fused rows of one set of blocks, summed when they are asked for.

    Attributes
    ----------
    n_train, n_features : training rows, and columns of a fused row.
    parts, factors : the blocks' matrices and what each is multiplied with.
    sums, squares : float64 (n,), each fused row's sum of values and of squares.
    """

    n_train: int
    n_features: int
    parts: tuple[_Floats, ...]
    factors: tuple[float, ...]
    sums: _Floats
    squares: _Floats

    def gamma(self, asked: float | str, rows: NDArray[np.intp]) -> float:
        """The kernel's width: ``asked``, or for "scale" 1 / (columns x variance of all values in these rows), as in
        scikit-learn; for "auto" 1 / columns."""
        if asked == "auto":
            return 1 / self.n_features
        if asked != "scale":
            return float(asked)
        size = len(rows) * self.n_features
        mean = self.sums[rows].sum() / size
        variance = float(self.squares[rows].sum() / size - mean**2)
        return 1 / (self.n_features * variance) if variance > 0 else 1.0

    def kernel(self, gamma: float, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> _Floats:
        """float64 (rows, columns) of exp(-gamma x squared distance); ``columns`` are training rows.

        ``rows`` is intp (n,), or (n, blocks): then a row is put together of blocks of other rows.
        """
        whole = len(columns) == self.n_train and bool((columns == np.arange(self.n_train)).all())
        outcome = np.empty((len(rows), len(columns)))
        for start in range(0, len(rows), _CHUNK_ROWS):
            some = rows[start : start + _CHUNK_ROWS]
            chosen = some.T if some.ndim == 2 else [some] * len(self.parts)
            total = self.parts[0][chosen[0]] * (-gamma * self.factors[0])
            for part, factor, those in zip(self.parts[1:], self.factors[1:], chosen[1:], strict=True):
                total += part[those] * (-gamma * factor)
            np.exp(total if whole else total[:, columns], out=outcome[start : start + _CHUNK_ROWS])
        return outcome

    def __deepcopy__(self, memo: object) -> Self:
        # Nothing in it changes; scikit-learn's clone would otherwise copy gigabytes for every fold.
        return self


class SharedDistances:
    """The distances of every block in one fold, from which those of any set of blocks are had at once.

    Parameters
    ----------
    X : float32 (n, d) features of all cells, NaN allowed.
    blocks : block name -> its columns.
    train, test : row numbers.
    layer : parameters of the fusion layer, which is fitted on the training rows alone.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        blocks: Mapping[str, slice],
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        layer: Mapping[str, Any],
    ) -> None:
        self.n_train, self.n_test = len(train), len(test)
        self._weights = layer.get("weights", "equal")
        self._blocks = {name: _measure(X[:, part], name, train, test, layer) for name, part in blocks.items()}

    @property
    def test_rows(self) -> NDArray[np.intp]:
        """The rows of the distances that are the test part."""
        return np.arange(self.n_train, self.n_train + self.n_test)

    def of(self, names: Sequence[str]) -> Distances:
        """The distances between rows fused from these blocks."""
        from fusion.feature_transforms.fusion_layer import block_weights

        blocks = [self._blocks[name] for name in names]
        weights = block_weights(self._weights, names, [block.variances for block in blocks])
        return Distances(
            n_train=self.n_train,
            n_features=sum(len(block.variances) for block in blocks),
            parts=tuple(block.squared for block in blocks),
            factors=tuple(weight**2 for weight in weights),
            sums=np.sum([w * block.sums for w, block in zip(weights, blocks, strict=True)], axis=0),
            squares=np.sum([w**2 * block.squares for w, block in zip(weights, blocks, strict=True)], axis=0),
        )


def memory_needed(n_train: int, n_test: int, n_blocks: int) -> int:
    """Bytes that ``SharedDistances`` and the kernel of one fit hold at most."""
    # The matrices, one more of them while it is made, and the kernel with the copy that an SVM may take of it.
    return 8 * (n_train + n_test) * n_train * (n_blocks + 1) + 2 * 8 * n_train * n_train


def _measure(
    X: NDArray[np.float32], name: str, train: NDArray[np.intp], test: NDArray[np.intp], layer: Mapping[str, Any]
) -> _BlockDistances:
    block = scale_block(X, name, train, test, layer)
    train_rows, rows = block.train, np.vstack([block.train, block.test])
    squares = np.einsum("ij,ij->i", rows, rows)
    squared = rows @ train_rows.T
    squared *= -2
    squared += squares[:, None]
    squared += squares[: len(train)]
    # Of two equal rows the difference of large sums leaves rounding, which must not be negative, nor a row differ
    # from itself.
    np.maximum(squared, 0, out=squared)
    squared[np.arange(len(train)), np.arange(len(train))] = 0
    return _BlockDistances(squared, rows.sum(axis=1), squares, block.variances)
