"""RBF-kernel SVM for tables that libsvm is slow on: by Intel's library where it is installed, and by landmarks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC, LinearSVC

#: Values of a table from which Intel's SVMs are worth the seconds that it takes to load them.
_WORTH_LOADING = 1_000_000

_Floats = NDArray[np.float64]


def rbf_svm(C: float, gamma: float | str, X: _Floats) -> SVC:
    """An SVM to be fitted on ``X``: scikit-learn's, or one that Intel's library fits, where that pays.

    Only where the extra ``fast`` is installed and the table has a million values. Nothing of scikit-learn is patched.
    """
    if X.size >= _WORTH_LOADING and find_spec("sklearnex") is not None:
        return FastSVM(C=C, gamma=gamma)
    return SVC(C=C, gamma=gamma)


class FastSVM(SVC):
    """scikit-learn's SVC, fitted and asked by scikit-learn-intelex: the same optimum, found with wider instructions."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        from sklearnex.svm import SVC as IntelSVC

        quick = IntelSVC(C=self.C, gamma=self.gamma).fit(X, y, sample_weight=sample_weight)
        for name in _SAME:
            setattr(self, name, getattr(quick, name))
        # As libsvm has them.
        for name in ("support_", "_n_support"):
            setattr(self, name, np.ascontiguousarray(getattr(quick, name), np.int32))
        for name in ("support_vectors_", "dual_coef_", "_dual_coef_", "intercept_", "_intercept_"):
            setattr(self, name, np.array(getattr(quick, name), np.float64, order="C"))
        self.quick_ = quick
        return self

    def decision_function(self, X: Any) -> _Floats:
        return self.quick_.decision_function(X)

    def predict(self, X: Any) -> NDArray[Any]:
        return self.quick_.predict(X)

    def plain(self) -> SVC:
        """The fitted SVM as scikit-learn's own, which is stored and asked wherever it is loaded."""
        svm_model = SVC(C=self.C, gamma=self.gamma)
        svm_model.__dict__.update({name: value for name, value in self.__dict__.items() if name != "quick_"})
        return svm_model


#: Fitted values that mean the same in both libraries.
_SAME = (
    "_gamma",
    "_sparse",
    "classes_",
    "class_weight_",
    "shape_fit_",
    "n_features_in_",
    "fit_status_",
    "n_iter_",
    "_probA",
    "_probB",
)


class LandmarkSVM(ClassifierMixin, BaseEstimator):
    """An approximate RBF-kernel SVM: the kernel is known by its values at some training rows, the landmarks.

    What a linear SVM (squared hinge loss) learns from coordinates whose products are the approximate kernel comes
    down to a weight for each landmark. Time grows with rows x landmarks**2, not with the square of the rows.
    Source: Williams and Seeger (2001), NIPS 13:682-688 (Nystroem's method).

    Parameters
    ----------
    C, gamma : as of ``SVC``.
    landmarks : how many, drawn from the training rows.
    random_state : seed of that draw.

    Attributes
    ----------
    support_vectors_ : float64 (m, d), the landmarks.
    weights_, intercept_ : float64 (m, K) and (K,), K of 1 for two classes.
    """

    def __init__(
        self, C: float = 10.0, gamma: float | str = "scale", landmarks: int = 2000, random_state: int | None = 0
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.landmarks = landmarks
        self.random_state = random_state

    def fit(self, X: _Floats, y: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Self:
        variance = float(X.var())
        scale = 1 / (X.shape[1] * variance) if variance > 0 else 1.0
        self._gamma = {"scale": scale, "auto": 1 / X.shape[1]}.get(str(self.gamma)) or float(self.gamma)
        rng = np.random.default_rng(self.random_state)
        chosen = np.sort(rng.choice(len(X), min(self.landmarks, len(X)), replace=False))
        self.support_vectors_ = np.ascontiguousarray(X[chosen])
        values, vectors = np.linalg.eigh(self._kernel(self.support_vectors_))
        # Directions that are rounding would be blown up to columns of noise.
        kept = values > values[-1] * 1e-10
        root = vectors[:, kept] / np.sqrt(values[kept])
        linear = LinearSVC(C=self.C, dual=False, max_iter=5000).fit(self._kernel(X) @ root, y, sample_weight)
        self.classes_, self.intercept_ = linear.classes_, np.atleast_1d(linear.intercept_)
        self.weights_ = np.ascontiguousarray(root @ linear.coef_.T)
        return self

    def decision_function(self, X: _Floats) -> _Floats:
        scores = self._kernel(X) @ self.weights_ + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: _Floats) -> NDArray[Any]:
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def _kernel(self, X: _Floats) -> _Floats:
        from sklearn.metrics.pairwise import rbf_kernel

        return rbf_kernel(X, self.support_vectors_, gamma=self._gamma)
