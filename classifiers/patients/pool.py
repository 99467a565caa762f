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
from classifiers.patients._linear_models import STATISTICS, logistic, pooled_statistics, softmax
from fusion.bundles.bundle_files import (
    BundleError,
    Kept,
    read_arrays,
    read_described,
    write_arrays,
    write_facts,
)

if TYPE_CHECKING:
    from fusion.bundles.onnx_graph import Graph
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]

#: The file of arrays.
_ARRAYS = "pool.safetensors"

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

    @property
    def scores_held_out(self) -> bool:
        """Whether cells that have labels are called by models that have not met their patient, or C is chosen."""
        return self.cell_labels or self.search

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
        pooled = pooled_statistics(X)
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
        self.coef_, self.intercept_ = logistic(Z, codes, strength)
        return self

    def predict_proba(self, X: Bags) -> _Floats:
        """float64 (n, classes), at equal class shares."""
        check_is_fitted(self)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"bags of {X.shape[1]} columns, and the model was fitted on {self.n_features_in_}")
        pooled = pooled_statistics(X)
        if self.cell_weights_ is not None:
            pooled = np.hstack([pooled, _shares(X, self.cell_weights_, self.cell_intercepts_)])
        return softmax(self._scaled(pooled) @ self.coef_.T + self.intercept_)

    def predict(self, X: Bags) -> NDArray[Any]:
        """The most probable class of each bag."""
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def _scaled(self, pooled: _Floats) -> _Floats:
        """Statistics as they are learnt from; the spread of a single cell, of which nobody knows, is the usual one."""
        return (np.where(np.isnan(pooled), self.centre_, pooled) - self.centre_) * self.scale_

    def _weights(self, width: int) -> _Floats:
        """float64 (width,): 1 for statistics of columns; shares of kinds weigh as much as one of these in all."""
        weights, plain = np.ones(width), STATISTICS * self.n_features_in_
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
                weights, intercept = logistic(Z[train], codes[train], strength, len(self.classes_))
                proba = softmax(Z[test] @ weights.T + intercept)
                own = balanced_weights(codes[test])
                loss -= float(own @ np.log(np.maximum(proba[np.arange(len(test)), codes[test]], 1e-12)))
            losses.append(loss)
        strength = _TRIED[int(np.argmin(losses))]
        self.chosen_ = {"C": strength}
        return strength

    # ---- storage -----------------------------------------------------------------------------------------------------

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add it to a graph; the name of float64 (1, classes) for the cells of one bag, float (k, d)."""
        from classifiers.patients._onnx_forms import pool

        return pool(graph, rows, self)

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
        if len(arrays["centre"]) != STATISTICS * fitted.n_features_in_ + kinds:
            raise BundleError(f"{folder / _ARRAYS} holds no such model", found=f"{len(arrays['centre'])} statistics")
        fitted.coef_, fitted.intercept_ = arrays["weights"], arrays["intercept"]
        fitted.centre_, fitted.scale_ = arrays["centre"], arrays["scale"]
        fitted.cell_weights_ = arrays["cell_weights"] if kinds else None
        fitted.cell_intercepts_ = arrays["cell_intercepts"] if kinds else None
        return fitted


def _cell_model(X: Bags) -> tuple[_Floats, _Floats]:
    """Weights (kinds, d) and intercepts (kinds,) of logistic regression over the labelled cells."""
    labels = X.stacked_labels
    told = np.flatnonzero([label is not None for label in labels])
    codes = np.searchsorted(kinds_of(X), labels[told].astype(str))
    return logistic(np.asarray(X.stacked_rows(told), np.float64), codes, _CELL_C)


def _shares(X: Bags, weights: _Floats | None, intercepts: _Floats | None) -> _Floats:
    """float64 (n, kinds): the mean probability of each kind over a bag's cells."""
    assert weights is not None
    assert intercepts is not None
    return np.concatenate([some.mean(softmax(some.stacked @ weights.T + intercepts)) for some in X.batches()])
