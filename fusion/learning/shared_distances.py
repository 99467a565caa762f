"""Squared distances between cells, computed once a block and summed for every set of blocks.

A fused row is the concatenation of its blocks, each multiplied with a weight, so that the squared distance of two rows
is the weighted sum of the squared distances within the blocks. All RBF-kernel SVMs of all 2**k - 1 sets of k blocks,
and of any grid of C and gamma, come from k matrices: what costs a product over thousands of columns costs a sum of k
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.learning.scaled_blocks import scale_block

_Floats = NDArray[np.float64]

#: Rows of a kernel that are computed at a time: with some thousand columns they stay in the second-level cache.
_CHUNK_ROWS = 16

#: Rows of a product of matrices at a time: large enough for BLAS, small against the product.
_PRODUCT_ROWS = 512


#: Widths of an RBF kernel by name, in shares of 1 / (columns x variance).
NAMED_WIDTHS = {"scale": 1.0, "wide": 0.1}


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

    @classmethod
    def between(cls, X: _Floats) -> Self:
        """The distances between float64 (n, d) rows, all of them training rows."""
        squares = np.einsum("ij,ij->i", X, X)
        return cls(len(X), X.shape[1], (_among(X, squares),), (1.0,), X.sum(axis=1), squares)

    def gamma(self, asked: float | str, rows: NDArray[np.intp]) -> float:
        """The kernel's width: ``asked``, or for "scale" 1 / (columns x variance of all values in these rows), as in
        scikit-learn; for "auto" 1 / columns; for "wide" a tenth of "scale"."""
        if asked == "auto":
            return 1 / self.n_features
        if asked not in NAMED_WIDTHS:
            return float(asked)
        share = NAMED_WIDTHS[str(asked)]
        size = len(rows) * self.n_features
        mean = self.sums[rows].sum() / size
        variance = float(self.squares[rows].sum() / size - mean**2)
        return share / (self.n_features * variance) if variance > 0 else share

    def kernel(
        self, gamma: float, rows: NDArray[np.intp], columns: NDArray[np.intp], out: _Floats | None = None
    ) -> _Floats:
        """float64 (rows, columns) of exp(-gamma x squared distance); ``columns`` are training rows.

        ``rows`` is intp (n,), or (n, blocks): then a row is put together of blocks of other rows. ``out`` is where the
        kernel is written to, None for new memory.
        """
        whole = len(columns) == self.n_train and bool((columns == np.arange(self.n_train)).all())
        outcome = np.empty((len(rows), len(columns))) if out is None else out
        for start in range(0, len(rows), _CHUNK_ROWS):
            some, into = rows[start : start + _CHUNK_ROWS], outcome[start : start + _CHUNK_ROWS]
            if some.ndim == 1:
                total = self.total[some]
            else:
                total = self._sum([part[of] for part, of in zip(self.parts, some.T, strict=True)])
            np.multiply(total if whole else total[:, columns], -gamma, out=into)
            np.exp(into, out=into)
        return outcome

    @cached_property
    def total(self) -> _Floats:
        """float64 (n, n_train): the squared distances of whole rows, summed once for all folds and widths."""
        if len(self.parts) == 1 and self.factors == (1.0,):
            return self.parts[0]
        total = np.empty_like(self.parts[0])
        for start in range(0, len(total), _CHUNK_ROWS):
            total[start : start + _CHUNK_ROWS] = self._sum([part[start : start + _CHUNK_ROWS] for part in self.parts])
        return total

    def _sum(self, rows: Sequence[_Floats]) -> _Floats:
        """The weighted sum of some rows of every block."""
        total = rows[0] * self.factors[0]
        for part, factor in zip(rows[1:], self.factors[1:], strict=True):
            total += part * factor
        return total

    def only(self, train: NDArray[np.intp], others: NDArray[np.intp]) -> DistancesOfRows:
        """The distances of some training rows, and of others to these: slices, when they are asked for."""
        return DistancesOfRows(self, len(train), np.concatenate([train, others]))

    def __deepcopy__(self, memo: object) -> Self:
        # Nothing in it changes; scikit-learn's clone would otherwise copy gigabytes for every fold.
        return self


@dataclass(frozen=True, eq=False)
class DistancesOfRows:
    """What ``Distances`` are, of some of its rows.

    Attributes
    ----------
    whole : the distances.
    n_train : how many of the rows are training rows: the first, which are training rows of the whole.
    at : intp (n,), where each row is in the whole.
    """

    whole: Distances
    n_train: int
    at: NDArray[np.intp]

    def gamma(self, asked: float | str, rows: NDArray[np.intp]) -> float:
        """As of ``Distances``, from these rows alone."""
        return self.whole.gamma(asked, self.at[rows])

    def kernel(
        self, gamma: float, rows: NDArray[np.intp], columns: NDArray[np.intp], out: _Floats | None = None
    ) -> _Floats:
        """As of ``Distances``."""
        return self.whole.kernel(gamma, self.at[rows], self.at[columns], out)

    def __deepcopy__(self, memo: object) -> Self:
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
    squared = np.empty((len(rows), len(train)))
    _among(train_rows, squares[: len(train)], out=squared[: len(train)])
    squared_distances(block.test, train_rows, out=squared[len(train) :])
    return _BlockDistances(squared, rows.sum(axis=1), squares, block.variances)


def squared_distances(X: _Floats, Y: _Floats, out: _Floats | None = None) -> _Floats:
    """float64 (n, m) between the rows of both, by products of matrices in blocks."""
    outcome = np.empty((len(X), len(Y))) if out is None else out
    of_x, of_y = np.einsum("ij,ij->i", X, X), np.einsum("ij,ij->i", Y, Y)
    for start in range(0, len(X), _PRODUCT_ROWS):
        rows = slice(start, start + _PRODUCT_ROWS)
        _finish(X[rows] @ Y.T, of_x[rows], of_y, outcome[rows])
    return outcome


def _among(X: _Floats, squares: _Floats, out: _Floats | None = None) -> _Floats:
    """float64 (n, n) between the rows of one matrix: half of it is computed, and the other half is its mirror."""
    outcome = np.empty((len(X), len(X))) if out is None else out
    for start in range(0, len(X), _PRODUCT_ROWS):
        stop = min(start + _PRODUCT_ROWS, len(X))
        rows = slice(start, stop)
        _finish(X[rows] @ X[:stop].T, squares[rows], squares[:stop], outcome[rows, :stop])
        outcome[:start, rows] = outcome[rows, :start].T
        # The mirror of the block on the diagonal: rounding may differ between its halves.
        own = outcome[rows, rows]
        own[:] = np.tril(own) + np.tril(own, -1).T
    np.fill_diagonal(outcome, 0)
    return outcome


def _finish(products: _Floats, of_x: _Floats, of_y: _Floats, out: _Floats) -> None:
    """Squared distances from products and squares, a few rows at a time while they are in the cache."""
    for start in range(0, len(products), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        some = products[rows]
        some *= -2
        some += of_x[rows, None]
        some += of_y
        # Of two equal rows the difference of large sums leaves rounding, which must not be negative.
        np.maximum(some, 0, out=out[rows])
