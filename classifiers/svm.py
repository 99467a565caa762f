"""Support vector machine with calibrated probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers._grid_search import best_of
from classifiers.class_weights import balanced_weights, inner_folds
from classifiers.rbf_svm import FastSVM, LandmarkSVM, rbf_svm
from fusion.bundles.model_bundle import load_sklearn, save_sklearn
from fusion.bundles.onnx_graph import Graph
from fusion.learning.parameter_search import Span
from fusion.learning.shared_distances import Distances
from fusion.plugins import Parts


class SupportVectorClassifier(ClassifierMixin, BaseEstimator):
    """C-SVC with an RBF kernel, classes weighted equally, probabilities by Platt scaling.

    The sigmoid is fitted on decision values of cells held out by group (``CalibratedClassifierCV(ensemble=False)``),
    then one SVM is fitted on all cells. Sources: Cortes and Vapnik (1995), Machine Learning 20:273-297; Platt
    (1999), Advances in Large Margin Classifiers, 61-74.

    Parameters
    ----------
    C : penalty of a margin violation. 10: standardised features of a few hundred cells are rarely overfitted by it.
    gamma : kernel width; "scale" is 1 / (number of features x variance).
    calibration_folds : folds for the sigmoid, fewer where a class has fewer groups.
    search : choose C of 1, 10, 100 and gamma of 0.3, 1 and 3 times 1 / (features x variance) by balanced accuracy on
        the same folds; what was chosen is ``chosen_``. ``C`` and ``gamma`` then play no part.
    trials : of the search, by optuna, C of 0.1 to 1000 and gamma of a tenth to ten times the usual; 0 tries the grid.
    landmarks : 0 fits the exact SVM; else an approximate one by so many training cells, for tables that the exact
        one takes hours for: see ``rbf_svm.LandmarkSVM``.
    random_state : seed of the folds, and of the choice of landmarks.
    """

    prepares: ClassVar[str] = "standard"

    def __init__(
        self,
        C: float = 10.0,
        gamma: float | str = "scale",
        calibration_folds: int = 5,
        search: bool = False,
        trials: int = 0,
        landmarks: int = 0,
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.calibration_folds = calibration_folds
        self.search = search
        self.trials = trials
        self.landmarks = landmarks
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on float (n, d) without NaN and n labels; the calibration's folds respect ``groups``.

        Raises
        ------
        ValueError : a single class, a class with a single sample, NaN or inf.
        """
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        variance = float(rows.var())
        scale = 1 / (rows.shape[1] * variance) if variance > 0 else 1.0
        svm_model = _machine(self.C, self.gamma, self.landmarks, self.random_state, rows)
        return self._calibrate(svm_model, rows, labels, groups, scale)

    def fit_distances(self, distances: Distances, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on the training rows of ``distances`` and n labels, as ``fit`` does on the features they came from.

        The same SVM to the rounding of a sum: what is saved is computing the distances, which comparisons of many
        feature sets share. Such a model predicts rows of these distances only, by ``predict_proba_distances``.
        """
        rows = np.arange(distances.n_train)
        svm_model = _PrecomputedSVM(self.C, self.gamma, distances)
        return self._calibrate(svm_model, rows[:, None], np.asarray(y), groups, distances.gamma("scale", rows))

    @property
    def fits_distances(self) -> bool:
        """Whether it can be fitted on distances: one that goes by landmarks has no use for all of them."""
        return not self.landmarks

    def fit_held_out(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike, parts: Parts) -> Self:
        """Fit as ``fit`` does; the sigmoid, and a search, by cells that ``parts`` gives for every fold held out."""
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        variance = float(rows.var())
        scale = 1 / (rows.shape[1] * variance) if variance > 0 else 1.0
        svm_model = _MachineOnParts(self.C, self.gamma, self.landmarks, self.random_state, _Parts(rows, parts))
        self._calibrate(svm_model, np.arange(len(rows))[:, None], labels, groups, scale)
        (fitted,) = self.model_.calibrated_classifiers_
        fitted.estimator = _stored(fitted.estimator.svm_)
        self.model_.estimator = fitted.estimator
        return self

    def predict_proba_distances(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (n, classes) for these rows, (n,) or (n, blocks), of the distances that were fitted."""
        check_is_fitted(self)
        return self.model_.predict_proba(rows if rows.ndim == 2 else rows[:, None])

    def _calibrate(self, svm_model: Any, X: Any, y: Any, groups: ArrayLike | None, scale: float) -> Self:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        folds = inner_folds(codes, groups, self.calibration_folds, self.random_state)
        self.chosen_ = {}
        if self.search:
            # In this order, so that of equally good ones the smoothest is taken.
            grid = {"C": [1.0, 10.0, 100.0], "gamma": [0.3 * scale, scale, 3 * scale]}
            spans = {"C": Span(0.1, 1000), "gamma": Span(0.1 * scale, 10 * scale)}
            chosen = best_of(
                svm_model,
                X,
                codes,
                folds,
                "balanced_accuracy",
                grid=grid,
                spans=spans,
                trials=self.trials,
                seed=self.random_state,
            )
            self.chosen_ = {name: float(value) for name, value in chosen.items()}
            svm_model.set_params(**self.chosen_)
        self.model_ = CalibratedClassifierCV(svm_model, method="sigmoid", ensemble=False, cv=folds)
        self.model_.fit(X, codes, sample_weight=balanced_weights(codes))
        self.model_.cv = None  # the folds have served; they would only be stored
        if isinstance(svm_model, FastSVM):
            (fitted,) = self.model_.calibrated_classifiers_
            fitted.estimator = _stored(fitted.estimator)
            self.model_.estimator = SVC(C=self.C, gamma=self.gamma)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes), at equal class shares."""
        check_is_fitted(self)
        return self.model_.predict_proba(validate_data(self, X, dtype=np.float64, reset=False))

    def predict(self, X: ArrayLike) -> NDArray:
        """The most probable class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add the SVM to a graph; the name of float64 (n, classes) for float64 (n, d) ``rows``."""
        from classifiers._onnx_forms import svm

        check_is_fitted(self)
        return svm(graph, rows, self.model_)

    def save(self, folder: Path) -> None:
        """Write ``svm.skops``: scikit-learn's own objects, without pickle."""
        save_sklearn(self, folder / "svm.skops")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``svm.skops``; raises BundleError on any type that is not on the list."""
        return load_sklearn(folder / "svm.skops", cls, also=_STORED_TYPES)


class _PrecomputedSVM(ClassifierMixin, BaseEstimator):
    """An RBF-kernel SVM whose samples are row numbers of shared distances, so that calibration can split them."""

    def __init__(self, C: float, gamma: float | str, distances: Distances) -> None:
        self.C = C
        self.gamma = gamma
        self.distances = distances

    def fit(self, X: NDArray, y: NDArray, sample_weight: NDArray | None = None) -> Self:
        self.rows_ = X[:, 0]
        self.gamma_ = self.distances.gamma(self.gamma, self.rows_)
        self.svm_ = SVC(C=self.C, kernel="precomputed")
        self.svm_.fit(self.distances.kernel(self.gamma_, self.rows_, self.rows_), y, sample_weight=sample_weight)
        self.classes_ = self.svm_.classes_
        return self

    def decision_function(self, X: NDArray) -> NDArray[np.float64]:
        rows = X[:, 0] if X.shape[1] == 1 else X
        return self.svm_.decision_function(self.distances.kernel(self.gamma_, rows, self.rows_))

    def predict(self, X: NDArray) -> NDArray:
        return self.svm_.predict(self.distances.kernel(self.gamma_, X[:, 0], self.rows_))


class _Parts:
    """Features of the whole training part, and of the folds inside it, by the rows that are learnt from."""

    def __init__(self, whole: NDArray[np.float64], parts: Parts) -> None:
        self.whole = whole
        self._parts = parts
        self._known: dict[bytes, tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]] = {}

    def learnt_from(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (n, d): these rows, as a model that has met no others sees them."""
        return self.whole if len(rows) == len(self.whole) else self._of(rows)[1]

    def scored(self, learnt: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (k, d): the rows to score, as the model of the rows ``learnt`` sees them."""
        if len(learnt) == len(self.whole):
            return self.whole[rows]
        test, _, X = self._of(learnt)
        return X[np.searchsorted(test, rows)]

    def _of(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        key = rows.tobytes()
        if key not in self._known:
            test = np.setdiff1d(np.arange(len(self.whole)), rows)
            self._known[key] = (test, *self._parts(rows, test))
        return self._known[key]

    def __deepcopy__(self, memo: object) -> Self:
        # Nothing in it changes but what is remembered; scikit-learn's clone would learn every fold again.
        return self


class _MachineOnParts(ClassifierMixin, BaseEstimator):
    """An RBF-kernel SVM whose samples are row numbers, so that folds inside see features of their own."""

    def __init__(self, C: float, gamma: float | str, landmarks: int, random_state: int | None, parts: _Parts) -> None:
        self.C = C
        self.gamma = gamma
        self.landmarks = landmarks
        self.random_state = random_state
        self.parts = parts

    def fit(self, X: NDArray, y: NDArray, sample_weight: NDArray | None = None) -> Self:
        self.rows_ = X[:, 0]
        rows = self.parts.learnt_from(self.rows_)
        self.svm_ = _machine(self.C, self.gamma, self.landmarks, self.random_state, rows)
        self.svm_.fit(rows, y, sample_weight=sample_weight)
        self.classes_ = self.svm_.classes_
        return self

    def decision_function(self, X: NDArray) -> NDArray[np.float64]:
        return self.svm_.decision_function(self.parts.scored(self.rows_, X[:, 0]))

    def predict(self, X: NDArray) -> NDArray:
        return self.svm_.predict(self.parts.scored(self.rows_, X[:, 0]))


def _machine(C: float, gamma: float | str, landmarks: int, seed: int | None, rows: NDArray[np.float64]) -> Any:
    return LandmarkSVM(C, gamma, landmarks, seed) if landmarks else rbf_svm(C, gamma, rows)


def _stored(svm_model: Any) -> Any:
    """The fitted SVM as scikit-learn's own, or one by landmarks."""
    return svm_model.plain() if isinstance(svm_model, FastSVM) else svm_model


#: What a fitted SupportVectorClassifier is made of beyond what skops trusts by itself.
_STORED_TYPES = (
    "classifiers.svm.SupportVectorClassifier",
    "classifiers.rbf_svm.LandmarkSVM",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
)
