"""Support vector machine with calibrated probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.class_weights import balanced_weights, inner_folds
from classifiers.rbf_svm import (
    Decision,
    ExactOnRows,
    FeaturesOfParts,
    Kernels,
    KernelsOfParts,
    LandmarksOnRows,
    OnRows,
    RbfSVM,
    SlicedKernels,
    TrainingFeatures,
    kernel_width,
)
from fusion.bundles.bundle_files import (
    BundleError,
    Kept,
    read_arrays,
    read_described,
    write_arrays,
    write_facts,
)
from fusion.bundles.onnx_graph import Graph
from fusion.learning.parameter_search import Span
from fusion.learning.shared_distances import Distances, DistancesOfRows
from fusion.plugins.classifiers import Parts

#: The file of arrays.
_ARRAYS = "svm.safetensors"

#: (train, test) row numbers.
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


class SupportVectorClassifier(ClassifierMixin, BaseEstimator):
    """C-SVC with an RBF kernel, classes weighted equally, probabilities by Platt scaling.

    The sigmoid is fitted on decision values of cells held out by group (``CalibratedClassifierCV(ensemble=False)``),
    then one SVM is fitted on all cells. Sources: Cortes and Vapnik (1995), Machine Learning 20:273-297; Platt
    (1999), Advances in Large Margin Classifiers, 61-74.

    Parameters
    ----------
    C : penalty of a margin violation. 10: standardised features of a few hundred cells are rarely overfitted by it.
    gamma : kernel width; "scale" is 1 / (number of features x variance), as in scikit-learn, and "wide" a tenth of it.
        Of the hundreds of columns of a block, the former makes a cell nearly as far from its own kind as from others;
        the latter was chosen on one laboratory's cells and confirmed on others': docs/evaluation.md.
    calibration_folds : folds for the sigmoid, fewer where a class has fewer groups.
    search : choose C of 1, 10, 100 and gamma of 0.3, 1 and 3 times "wide" by balanced accuracy on the same folds; what
        was chosen is ``chosen_``. ``C`` and ``gamma`` then play no part.
    trials : of the search, by optuna, C of 0.1 to 1000 and gamma of a tenth to ten times the usual; 0 tries the grid.
    landmarks : 0 fits the exact SVM; else an approximate one by so many training cells, for tables that the exact
        one takes hours for: see ``rbf_svm.fit_landmarks``.
    random_state : seed of the folds, and of the choice of landmarks.
    """

    prepares: ClassVar[str] = "standard"

    def __init__(
        self,
        C: float = 10.0,
        gamma: float | str = "wide",
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
        folds = self._folds(labels, groups)  # what cannot be learnt is refused before distances are computed
        if self.landmarks:
            return self._fit(self._by_landmarks(TrainingFeatures(rows)), *folds, rows)
        return self._fit(self._exact(SlicedKernels(Distances.between(rows))), *folds, rows)

    def fit_distances(
        self,
        distances: Distances | DistancesOfRows,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        X: ArrayLike | None = None,
    ) -> Self:
        """Fit on the training rows of ``distances`` and n labels, as ``fit`` does on the features they came from.

        The same SVM to the rounding of a sum: what is saved is computing the distances, which comparisons of many
        feature sets share. Without ``X``, the training rows themselves, such a model predicts rows of these distances
        only, by ``predict_proba_distances``.
        """
        rows = None if X is None else validate_data(self, X, dtype=np.float64)
        folds = self._folds(np.asarray(y), groups)
        self._distances = distances
        fitted = self._fit(self._exact(SlicedKernels(distances)), *folds, rows)
        if rows is not None:
            del self._distances  # a fitted model holds no matrix of all pairs
        return fitted

    @property
    def fits_distances(self) -> bool:
        """Whether it can be fitted on distances: one that goes by landmarks has no use for all of them."""
        return not self.landmarks

    @property
    def growth(self) -> float:
        """Time grows with the square of the cells, all pairs of them; by landmarks with their number."""
        return 1.0 if self.landmarks else 2.0

    def fit_held_out(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike, parts: Parts) -> Self:
        """Fit as ``fit`` does; the sigmoid, and a search, by cells that ``parts`` gives for every fold held out."""
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        folds, features = self._folds(labels, groups), FeaturesOfParts(rows, parts)
        if self.landmarks:
            return self._fit(self._by_landmarks(features), *folds, rows)
        return self._fit(self._exact(KernelsOfParts(features)), *folds, rows)

    def predict_proba_distances(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (n, classes) for these rows, (n,) or (n, blocks), of the distances that were fitted."""
        check_is_fitted(self)
        return self.model_.of_kernel(self._distances.kernel(self.model_.gamma, rows, self._support))

    def _exact(self, kernels: Kernels) -> OnRows:
        return ExactOnRows(self.C, self.gamma, kernels)

    def _by_landmarks(self, features: TrainingFeatures) -> OnRows:
        return LandmarksOnRows(self.C, self.gamma, self.landmarks, self.random_state, features)

    def _folds(self, y: NDArray[Any], groups: ArrayLike | None) -> tuple[NDArray[np.intp], Folds]:
        """The class numbers of the labels, and the folds of the calibration."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        return codes, inner_folds(codes, groups, self.calibration_folds, self.random_state)

    def _fit(self, svm: OnRows, codes: NDArray[np.intp], folds: Folds, X: NDArray[np.float64] | None) -> Self:
        """Search, calibrate and fit ``svm``; its vectors are rows of ``X``, or of distances where that is None."""
        from sklearn.calibration import CalibratedClassifierCV

        rows = np.arange(len(codes))[:, None]
        self.chosen_ = self._search(svm, rows, codes, folds, X) if self.search else {}
        svm.set_params(**self.chosen_)
        calibrated = CalibratedClassifierCV(svm, method="sigmoid", ensemble=False, cv=folds)
        (fitted,) = calibrated.fit(rows, codes, sample_weight=balanced_weights(codes)).calibrated_classifiers_
        slope, offset = (np.array([getattr(each, name) for each in fitted.calibrators]) for name in ("a_", "b_"))
        vectors = fitted.estimator.vectors_
        if vectors.ndim == 1:
            self._support = vectors
            vectors = None if X is None else X[vectors]
        self.model_ = RbfSVM(vectors, fitted.estimator.gamma_, fitted.estimator.decision_, slope, offset)
        return self

    def _search(
        self, svm: OnRows, rows: NDArray[np.intp], codes: NDArray[np.intp], folds: Folds, X: NDArray[np.float64] | None
    ) -> dict[str, float]:
        """The best C and gamma, around the usual width."""
        from classifiers._grid_search import best_of

        scale = self._distances.gamma("wide", rows[:, 0]) if X is None else kernel_width("wide", X)
        chosen = best_of(
            svm,
            rows,
            codes,
            folds,
            "balanced_accuracy",
            # In this order, so that of equally good ones the smoothest is taken.
            grid={"C": [1.0, 10.0, 100.0], "gamma": [0.3 * scale, scale, 3 * scale]},
            spans={"C": Span(0.1, 1000), "gamma": Span(0.1 * scale, 10 * scale)},
            trials=self.trials,
            seed=self.random_state,
        )
        return {name: float(value) for name, value in chosen.items()}

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
        """Write ``svm.safetensors`` and ``classifier.json``: plain arrays and plain values."""
        check_is_fitted(self)
        model = self.model_
        if model.vectors is None:
            raise BundleError("an SVM that was fitted on distances has no vectors to be stored")
        arrays = {
            "vectors": model.vectors,
            "gamma": np.array([model.gamma]),
            "weights": model.decision.weights,
            "intercept": model.decision.intercept,
            "slope": model.slope,
            "offset": model.offset,
        }
        write_arrays(folder / _ARRAYS, arrays)
        write_facts(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : arrays or values that are not those of such an SVM.
        """
        fitted = read_described(folder, cls, (_ARRAYS,))
        k = len(fitted.classes_)
        votes = not fitted.landmarks
        pairs, scores = (k * (k - 1) // 2 if votes else 1 if k == 2 else k), 1 if k == 2 else k
        floats = {
            "vectors": ("vectors", "columns"),
            "gamma": (1,),
            "weights": ("vectors", pairs),
            "intercept": (pairs,),
            "slope": (scores,),
            "offset": (scores,),
        }
        expected = {name: Kept(np.float64, shape) for name, shape in floats.items()}
        arrays = read_arrays(folder / _ARRAYS, expected, columns=fitted.n_features_in_)
        gamma = float(arrays["gamma"][0])
        if not gamma > 0 or not len(arrays["vectors"]):
            raise BundleError(
                f"{folder / _ARRAYS} holds no such model", found=f"{len(arrays['vectors'])} vectors, gamma {gamma}"
            )
        decision = Decision(arrays["weights"], arrays["intercept"], k, votes)
        fitted.model_ = RbfSVM(arrays["vectors"], gamma, decision, arrays["slope"], arrays["offset"])
        return fitted
