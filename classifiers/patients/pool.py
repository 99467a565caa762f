"""Patients by statistics of their cells: the baseline that learning from bags has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from classifiers.class_weights import balanced_weights, inner_folds
from classifiers.patients._cell_scores import are_told, kinds_of
from fusion.bundles.bundle_files import (
    BundleError,
    Kept,
    read_arrays,
    read_described,
    write_arrays,
    write_facts,
)

if TYPE_CHECKING:
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]

#: The file of arrays.
_ARRAYS = "pool.safetensors"

#: Statistics of every column, in this order. Quantiles of a tenth need ten cells; a share of witnesses below that is
#: seen by mean and spread alone.
_QUANTILES = (0.1, 0.5, 0.9)
_STATISTICS = 2 + len(_QUANTILES)

#: Folds by which the cells of a patient are called by a model of cells that has not met the patient.
_CELL_FOLDS = 5

#: Strength of the model of cells.
_CELL_C = 0.01

#: Inverse strengths of the penalty that a search tries.
_TRIED = (0.001, 0.01, 0.1, 1.0)

#: Folds of the search.
_SEARCH_FOLDS = 5


class PooledClassifier(ClassifierMixin, BaseEstimator):
    """Mean, spread and quantiles of every fused feature over a patient's cells, then penalised logistic regression.

    Where cells have labels of their own, the share of cells that a model of cells calls each class counts too: for
    training patients by models that have not met them. How many cells a patient has plays no part: of no statistic
    does the expectation grow with their number, but for quantiles of fewer than some ten cells.

    Each kind of statistic has the same weight in sum, as blocks have in the fusion layer. Fitted in the span of the
    patients (the representer theorem), so that ten thousand statistics of a hundred patients take no longer than a
    hundred.

    Parameters
    ----------
    C : inverse strength of the L2 penalty. 0.1: a hundred patients have a hundred times as many statistics.
    cell_labels : use what cells are labelled, where they are.
    search : choose C of 0.001, 0.01, 0.1 and 1 by log loss on folds of whole groups; ``C`` then plays no part.
    random_state : seed of all folds.
    """

    prepares: ClassVar[str] = "standard"
    takes_bags: ClassVar[bool] = True

    def __init__(
        self, C: float = 0.1, cell_labels: bool = True, search: bool = False, random_state: int | None = 0
    ) -> None:
        self.C = C
        self.cell_labels = cell_labels
        self.search = search
        self.random_state = random_state

    def fit(self, X: Bags, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on n bags of fused cells and n labels.

        Raises
        ------
        ValueError : a single class.
        """
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        self.n_features_in_ = X.shape[1]
        self.chosen_: dict[str, float] = {}
        self._fit_cells(X, codes, groups)
        pooled = _pooled(X)
        if self.cell_weights_ is not None:
            pooled = np.hstack([pooled, self._held_out_shares(X, codes, groups)])
        known = ~np.isnan(pooled).all(axis=0)
        self.centre_, spread = np.zeros((2, pooled.shape[1]))
        self.centre_[known], spread[known] = np.nanmean(pooled[:, known], axis=0), np.nanstd(pooled[:, known], axis=0)
        # A statistic that does not vary tells nobody from anybody, and would be rounding divided by rounding.
        self.scale_ = np.where(spread > 1e-9 * (1 + np.abs(self.centre_)), 1 / np.maximum(spread, 1e-300), 0.0)
        self.scale_ *= self._weights(pooled.shape[1])
        Z = self._scaled(pooled)
        strength = self._chosen_strength(Z, codes, groups) if self.search else self.C
        self.coef_, self.intercept_ = _logistic(Z, codes, strength)
        return self

    def predict_proba(self, X: Bags) -> _Floats:
        """float64 (n, classes), at equal class shares."""
        check_is_fitted(self)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"bags of {X.shape[1]} columns, and the model was fitted on {self.n_features_in_}")
        pooled = _pooled(X)
        if self.cell_weights_ is not None:
            pooled = np.hstack([pooled, _shares(X, self.cell_weights_, self.cell_intercepts_)])
        return _softmax(self._scaled(pooled) @ self.coef_.T + self.intercept_)

    def predict(self, X: Bags) -> NDArray[Any]:
        """The most probable class of each bag."""
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def _scaled(self, pooled: _Floats) -> _Floats:
        """Statistics as they are learnt from; the spread of a single cell, of which nobody knows, is the usual one."""
        return (np.where(np.isnan(pooled), self.centre_, pooled) - self.centre_) * self.scale_

    def _weights(self, width: int) -> _Floats:
        """float64 (width,): 1 for statistics of columns; shares of kinds weigh as much as one of these in all."""
        weights, plain = np.ones(width), _STATISTICS * self.n_features_in_
        weights[plain:] = np.sqrt(self.n_features_in_ / max(1, width - plain))
        return weights

    # ---- the model of cells ------------------------------------------------------------------------------------------

    def _fit_cells(self, X: Bags, codes: NDArray[np.intp], groups: ArrayLike | None) -> None:
        self.cell_weights_, self.cell_intercepts_ = None, None
        if self.cell_labels and are_told(X):
            self.cell_weights_, self.cell_intercepts_ = _cell_model(X)

    def _held_out_shares(self, X: Bags, codes: NDArray[np.intp], groups: ArrayLike | None) -> _Floats:
        """float64 (n, kinds): shares of cells by kind, by models that have not met the patient's group; where a fold
        leaves kinds without cells, by the model of all."""
        found = _shares(X, self.cell_weights_, self.cell_intercepts_)
        kinds = kinds_of(X)
        for train, test in inner_folds(codes, groups, _CELL_FOLDS, self.random_state):
            if are_told(X[train]) and np.array_equal(kinds_of(X[train]), kinds):
                found[test] = _shares(X[test], *_cell_model(X[train]))
        return found

    def _chosen_strength(self, Z: _Floats, codes: NDArray[np.intp], groups: ArrayLike | None) -> float:
        folds = inner_folds(codes, groups, _SEARCH_FOLDS, self.random_state)
        losses = []
        for strength in _TRIED:
            loss = 0.0
            for train, test in folds:
                weights, intercept = _logistic(Z[train], codes[train], strength, len(self.classes_))
                proba = _softmax(Z[test] @ weights.T + intercept)
                own = balanced_weights(codes[test])
                loss -= float(own @ np.log(np.maximum(proba[np.arange(len(test)), codes[test]], 1e-12)))
            losses.append(loss)
        strength = _TRIED[int(np.argmin(losses))]
        self.chosen_ = {"C": strength}
        return strength

    # ---- storage -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write ``pool.safetensors`` and ``classifier.json``: plain arrays and plain values."""
        check_is_fitted(self)
        kinds = np.zeros((0, self.n_features_in_)) if self.cell_weights_ is None else self.cell_weights_
        intercepts = np.zeros(0) if self.cell_intercepts_ is None else self.cell_intercepts_
        arrays = {
            "weights": self.coef_,
            "intercept": self.intercept_,
            "centre": self.centre_,
            "scale": self.scale_,
            "cell_weights": kinds,
            "cell_intercepts": intercepts,
        }
        write_arrays(folder / _ARRAYS, arrays)
        write_facts(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : arrays or values that are not those of such a classifier.
        """
        fitted = read_described(folder, cls, (_ARRAYS,))
        expected = {
            "weights": Kept(np.float64, (len(fitted.classes_), "statistics")),
            "intercept": Kept(np.float64, (len(fitted.classes_),)),
            "centre": Kept(np.float64, ("statistics",)),
            "scale": Kept(np.float64, ("statistics",)),
            "cell_weights": Kept(np.float64, ("kinds", "columns")),
            "cell_intercepts": Kept(np.float64, ("kinds",)),
        }
        arrays = read_arrays(folder / _ARRAYS, expected, columns=fitted.n_features_in_)
        kinds = len(arrays["cell_weights"])
        if len(arrays["centre"]) != _STATISTICS * fitted.n_features_in_ + kinds:
            raise BundleError(f"{folder / _ARRAYS} holds no such model", found=f"{len(arrays['centre'])} statistics")
        fitted.coef_, fitted.intercept_ = arrays["weights"], arrays["intercept"]
        fitted.centre_, fitted.scale_ = arrays["centre"], arrays["scale"]
        fitted.cell_weights_ = arrays["cell_weights"] if kinds else None
        fitted.cell_intercepts_ = arrays["cell_intercepts"] if kinds else None
        return fitted


def _pooled(X: Bags) -> _Floats:
    """float64 (n, 5 d): mean, standard deviation (NaN of one cell), quantiles of every column, statistic by statistic.

    Of each the expectation is the same for any number of cells, but for a quantile that lies beyond the outermost one.
    """
    rows = np.empty((len(X), _STATISTICS, X.shape[1]))
    for at, own in enumerate(X.rows):
        cells = np.asarray(X.cells[own], np.float64)
        rows[at, 0] = cells.mean(axis=0)
        rows[at, 1] = cells.std(axis=0, ddof=1) if len(cells) > 1 else np.nan
        rows[at, 2:] = np.quantile(cells, _QUANTILES, axis=0, method="median_unbiased")
    return rows.reshape(len(X), -1)


def _cell_model(X: Bags) -> tuple[_Floats, _Floats]:
    """Weights (kinds, d) and intercepts (kinds,) of logistic regression over the labelled cells."""
    labels = X.stacked_labels
    told = np.flatnonzero([label is not None for label in labels])
    codes = np.searchsorted(kinds_of(X), labels[told].astype(str))
    return _logistic(np.asarray(X.stacked[told], np.float64), codes, _CELL_C)


def _shares(X: Bags, weights: _Floats | None, intercepts: _Floats | None) -> _Floats:
    """float64 (n, kinds): the mean probability of each kind over a bag's cells."""
    assert weights is not None
    assert intercepts is not None
    return np.concatenate([some.mean(_softmax(some.stacked @ weights.T + intercepts)) for some in X.batches()])


def _logistic(Z: _Floats, codes: NDArray[np.intp], strength: float, classes: int = 0) -> tuple[_Floats, _Floats]:
    """Weights (classes, d) and intercepts (classes,) of L2-penalised logistic regression, classes weighted equally.

    The solution lies in the span of the rows: where there are more columns than rows, it is found there.
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
    full, offsets = np.zeros((count, weights.shape[1])), np.full(count, -1e3)
    full[regression.classes_], offsets[regression.classes_] = weights, intercept
    return full, offsets


def _softmax(scores: _Floats) -> _Floats:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
