"""Statistics of a patient's cells, and penalised linear models: what ``pool`` is made of, and ``mil`` in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classifiers.class_weights import balanced_weights

if TYPE_CHECKING:
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]

#: Statistics of every column, in this order: mean, spread, and these. Quantiles of a tenth need ten cells; a share of
#: witnesses below that is seen by mean and spread alone.
QUANTILES = (0.1, 0.5, 0.9)
STATISTICS = 2 + len(QUANTILES)


def pooled_statistics(X: Bags) -> _Floats:
    """float64 (n, 5 d): mean, standard deviation (NaN of one cell), quantiles of every column, statistic by statistic.

    Of each the expectation is the same for any number of cells, but for a quantile that lies beyond the outermost one.
    """
    rows = np.empty((len(X), STATISTICS, X.shape[1]))
    for at, own in enumerate(X.rows):
        cells = np.asarray(X.cells[own], np.float64)
        rows[at, 0] = cells.mean(axis=0)
        rows[at, 1] = cells.std(axis=0, ddof=1) if len(cells) > 1 else np.nan
        rows[at, 2:] = np.quantile(cells, QUANTILES, axis=0, method="median_unbiased")
    return rows.reshape(len(X), -1)


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
