"""Statistics of a patient's cells, and penalised linear models: what ``pool`` is made of, and ``mil`` in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.class_weights import balanced_weights

if TYPE_CHECKING:
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]
_Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

#: Statistics of every column, in this order: mean, spread, and these. Quantiles of a tenth need ten cells; a share of
#: witnesses below that is seen by mean and spread alone.
QUANTILES = (0.1, 0.5, 0.9)
STATISTICS = 2 + len(QUANTILES)

#: Log odds of a class that no bag, or no cell, has in a fold.
ABSENT = -20.0


def pooled_statistics(X: Bags) -> _Floats:
    """float64 (n, 5 d): mean, standard deviation (NaN of one cell), quantiles of every column, statistic by statistic.

    Of each the expectation is the same for any number of cells, but for a quantile that lies beyond the outermost one.
    """
    rows = np.empty((len(X), STATISTICS, X.shape[1]))
    for at, own in enumerate(X.rows):
        cells = np.asarray(X.cells[own], np.float64)
        rows[at, 0] = cells.mean(axis=0)
        rows[at, 1] = cells.std(axis=0, ddof=1) if len(cells) > 1 else np.nan
        rows[at, 2:] = quantiles_of_columns(cells)
    return rows.reshape(len(X), -1)


def quantiles_of_columns(cells: _Floats) -> _Floats:
    """float64 (3, d): ``QUANTILES`` of every column of (k, d), NaN of one that holds a NaN.

    The same bits as ``numpy.quantile`` gives by ``method="median_unbiased"`` (definition 8 of Hyndman and Fan 1996, The
    American Statistician 50:361-365), which for bags of a hundred cells takes five times as long: it parts the columns
    about each quantile, where processors sort them whole at once.
    """
    ordered, last = np.sort(cells, axis=0), len(cells) - 1
    found = np.empty((len(QUANTILES), cells.shape[1]))
    for at, share in enumerate(QUANTILES):
        place = min(max(len(cells) * share + (1 / 3 + share * (1 - 1 / 3 - 1 / 3)) - 1, 0.0), float(last))
        below = int(place)
        low, high, part = ordered[below], ordered[min(below + 1, last)], place - below
        found[at] = low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
    found[:, np.isnan(ordered[-1])] = np.nan
    return found


def logistic(
    Z: _Floats, codes: NDArray[np.intp], strength: float, classes: int = 0, absent: float = -1e3
) -> tuple[_Floats, _Floats]:
    """Weights (classes, d) and intercepts (classes,) of L2-penalised logistic regression, classes weighted equally.

    A class of no row has the intercept ``absent`` and no weight. The solution lies in the span of the rows: where there
    are more columns than rows, it is found there.
    """
    from sklearn.linear_model import LogisticRegression

    basis = None
    rows = Z
    if Z.shape[1] > len(Z):
        basis, values, axes = np.linalg.svd(Z, full_matrices=False)
        rows = basis * values
    regression = LogisticRegression(C=strength, max_iter=5000)
    regression.fit(rows, codes, sample_weight=balanced_weights(codes))
    weights, intercept = regression.coef_, regression.intercept_
    if basis is not None:
        weights = weights @ axes
    if len(weights) == 1:  # one margin of two classes: half of it for, half against
        weights, intercept = np.vstack([-weights, weights]) / 2, np.concatenate([-intercept, intercept]) / 2
    count = max(classes, int(codes.max()) + 1)
    full, offsets = np.zeros((count, weights.shape[1])), np.full(count, absent)
    full[regression.classes_], offsets[regression.classes_] = weights, intercept
    return full, offsets


def softmax(scores: _Floats) -> _Floats:
    """float64 (n, classes): probabilities of margins."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def standard(rows: _Floats) -> tuple[_Floats, _Floats]:
    """Means float64 (s,) and inverse standard deviations, 0 for what does not vary or nobody knows."""
    known = ~np.isnan(rows).all(axis=0)
    centre, spread = np.zeros((2, rows.shape[1]))
    centre[known], spread[known] = np.nanmean(rows[:, known], axis=0), np.nanstd(rows[:, known], axis=0)
    return centre, np.where(spread > 1e-9 * (1 + np.abs(centre)), 1 / np.maximum(spread, 1e-300), 0.0)


def scaled(rows: _Floats, centre: _Floats, scale: _Floats) -> _Floats:
    """Rows by the scale of ``standard``; what is unknown is the usual."""
    return np.asarray((np.where(np.isnan(rows), centre, rows) - centre) * scale)


@dataclass(frozen=True, eq=False)
class PooledModel:
    """Penalised logistic regression of bags by statistics of every column, as ``pool`` is where no cell is labelled.

    Attributes
    ----------
    centre, scale : float64 (5 d,), of mean, spread and quantiles of a bag's columns.
    weights, intercepts : float64 (K, 5 d) and (K,), of the bags' classes by these.
    """

    centre: _Floats
    scale: _Floats
    weights: _Floats
    intercepts: _Floats

    @classmethod
    def fit(cls, X: Bags, codes: NDArray[np.intp], folds: _Folds, strength: float) -> tuple[Self, _Floats]:
        """The model of n bags, and float64 (n, K): the margins of each by a model that has not met it.

        Parameters
        ----------
        folds : of whole bags, which leave out every bag once.
        strength : inverse strength of the penalty.
        """
        rows = pooled_statistics(X)
        centre, scale = standard(rows)
        rows = scaled(rows, centre, scale)
        # All folds' solutions lie in the span of all bags, which is found once.
        basis, values, axes = np.linalg.svd(rows, full_matrices=False)
        rows, count = basis * values, int(codes.max()) + 1
        margins = np.empty((len(X), count))
        for train, test in folds:
            weights, intercepts = logistic(rows[train], codes[train], strength, count, ABSENT)
            margins[test] = rows[test] @ weights.T + intercepts
        weights, intercepts = logistic(rows, codes, strength, count, ABSENT)
        return cls(centre, scale, weights @ axes, intercepts), margins

    def margins(self, X: Bags) -> _Floats:
        """float64 (n, K) of bags that it has not met."""
        rows = scaled(pooled_statistics(X), self.centre, self.scale)
        return np.asarray(rows @ self.weights.T + self.intercepts)
