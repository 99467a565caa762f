"""Logistic regression: the plain baseline that every other classifier has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers._row_batches import Batched
from classifiers.class_weights import balanced_weights, inner_folds
from fusion.bundles.bundle_files import Kept, read_arrays, read_described, write_arrays, write_facts
from fusion.bundles.onnx_graph import Graph
from fusion.learning.parameter_search import Span

#: The file of arrays.
_ARRAYS = "logreg.safetensors"

#: Folds of the search for C.
_SEARCH_FOLDS = 5


class LogisticClassifier(ClassifierMixin, BaseEstimator):
    """L2-penalised (multinomial) logistic regression, classes weighted equally.

    Source: Cox (1958), J. R. Statist. Soc. B 20:215-242. Its probabilities need no calibration of their own.

    Parameters
    ----------
    C : inverse strength of the penalty. 0.3: fused blocks have more columns than a subject has cells.
    max_iter : steps of the solver, enough for standardised input to converge.
    search : choose C of 0.003, 0.03, 0.3 and 3 by log loss on folds of whole groups; what was chosen is ``chosen_``.
        ``C`` then plays no part.
    trials : of the search, by optuna, C of 0.0001 to 100; 0 tries the four.
    random_state : seed of these folds.
    """

    prepares: ClassVar[str] = "standard"

    def __init__(
        self,
        C: float = 0.3,
        max_iter: int = 5000,
        search: bool = False,
        trials: int = 0,
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.search = search
        self.trials = trials
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on float (n, d) without NaN and n labels; ``groups`` matter to ``search`` alone.

        Rows that are read batch by batch are held by ``search`` alone; else weights are those of all rows at once
        within the solver's tolerance.

        Raises
        ------
        ValueError : a single class, NaN or inf.
        """
        if isinstance(X, Batched):
            if not self.search:
                return self._fit_batches(X, y)
            X = np.concatenate(list(X.batches()))
        X, y = validate_data(self, X, y, dtype=np.float64)
        codes = self._codes(y)
        from sklearn.linear_model import LogisticRegression

        regression = LogisticRegression(C=self.C, max_iter=self.max_iter)
        self.chosen_ = {}
        if self.search:
            from classifiers._grid_search import best_of

            folds = inner_folds(codes, groups, _SEARCH_FOLDS, self.random_state)
            chosen = best_of(
                regression,
                X,
                codes,
                folds,
                "neg_log_loss",
                grid={"C": [0.003, 0.03, 0.3, 3.0]},
                spans={"C": Span(1e-4, 100)},
                trials=self.trials,
                seed=self.random_state,
            )
            self.chosen_ = {"C": float(chosen["C"])}
            regression.set_params(**self.chosen_)
        regression.fit(X, codes, sample_weight=balanced_weights(codes))
        self.coef_, self.intercept_, self.n_iter_ = regression.coef_, regression.intercept_, regression.n_iter_
        return self

    def batches_by(self) -> str:
        """No parameter asks for it: rows are read batch by batch where they are given so."""
        return ""

    def _fit_batches(self, X: Batched, y: ArrayLike) -> Self:
        from classifiers._batched_logistic import fit

        codes = self._codes(y)
        self.n_features_in_, self.chosen_ = X.shape[1], {}
        self.coef_, self.intercept_, steps = fit(X, codes, balanced_weights(codes), self.C, self.max_iter)
        self.n_iter_ = np.array([steps], np.int32)
        return self

    def _codes(self, y: ArrayLike) -> NDArray[np.intp]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        return codes

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes), at equal class shares."""
        check_is_fitted(self)
        scores = validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_.T + self.intercept_
        if scores.shape[1] == 1:
            # The logistic function, of whichever sign does not overflow.
            less = np.exp(-np.abs(scores))
            second = np.where(scores > 0, 1.0, less) / (1 + less)
            return np.hstack([1 - second, second])
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> NDArray:
        """The most probable class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add the regression to a graph; the name of float64 (n, classes) for float64 (n, d) ``rows``."""
        from classifiers._onnx_forms import logistic

        check_is_fitted(self)
        return logistic(graph, rows, self.coef_, self.intercept_)

    def linear_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64 (classes, d) and (classes,): each class's margin is ``weights @ x + intercept``."""
        check_is_fitted(self)
        weights, intercept = self.coef_, self.intercept_
        if len(weights) == 1:
            return np.concatenate([-weights, weights]), np.concatenate([-intercept, intercept])
        return weights, intercept

    def save(self, folder: Path) -> None:
        """Write ``logreg.safetensors`` and ``classifier.json``: plain arrays and plain values."""
        check_is_fitted(self)
        write_arrays(folder / _ARRAYS, {"weights": self.coef_, "intercept": self.intercept_})
        write_facts(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : arrays or values that are not those of a logistic regression.
        """
        fitted = read_described(folder, cls, (_ARRAYS,))
        scores = 1 if len(fitted.classes_) == 2 else len(fitted.classes_)
        expected = {"weights": Kept(np.float64, (scores, "columns")), "intercept": Kept(np.float64, (scores,))}
        arrays = read_arrays(folder / _ARRAYS, expected, columns=fitted.n_features_in_)
        fitted.coef_, fitted.intercept_ = arrays["weights"], arrays["intercept"]
        return fitted
