"""RBF-kernel SVMs of plain arrays: kernels are products of matrices, libsvm finds the optimum, a few lines predict.

libsvm computes a kernel value by value, in a loop over the columns; a product of matrices (BLAS) does the same sums
twenty to fifty times as fast. So libsvm is given the finished kernel, and is asked for nothing but the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from fusion.learning.shared_distances import NAMED_WIDTHS, Distances, DistancesOfRows, squared_distances
from fusion.plugins.classifiers import Parts

_Floats = NDArray[np.float64]
_Rows = NDArray[np.intp]

#: Rows whose kernel is held at a time when predicting: of 10,000 vectors these are 80 MB.
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Decision:
    """What a fitted SVM says of a row by the row's kernel with some vectors.

    Attributes
    ----------
    weights : float64 (vectors, pairs), a column a pair of classes (i, j), i before j; one for two classes. Of an
        approximate SVM a column a class, or one for two classes.
    intercept : float64 (pairs,).
    classes : how many there are.
    votes : whether columns are pairs of classes that vote.
    """

    weights: _Floats
    intercept: _Floats
    classes: int
    votes: bool

    def __call__(self, kernel: _Floats) -> _Floats:
        """float64 (n,) for two classes, above 0 for the second; else (n, classes), as ``SVC.decision_function``."""
        scores = kernel @ self.weights + self.intercept
        if self.classes == 2:
            return scores[:, 0]
        return _voted(scores, self.classes) if self.votes else scores


def _voted(scores: _Floats, classes: int) -> _Floats:
    """float64 (n, classes): pairs won, ties broken by how sure each pair is, as scikit-learn counts them."""
    votes, sums = np.zeros((2, len(scores), classes))
    for at, (i, j) in enumerate(combinations(range(classes), 2)):
        is_first = scores[:, at] >= 0
        votes[:, i] += is_first
        votes[:, j] += ~is_first
        sums[:, i] += scores[:, at]
        sums[:, j] -= scores[:, at]
    # Less than a third of a vote: no pair that was won is outweighed.
    return votes + sums / (3 * (np.abs(sums) + 1))


def fit_decision(kernel: _Floats, codes: NDArray[np.intp], C: float, weights: _Floats | None) -> tuple[_Rows, Decision]:
    """The rows that are support vectors, and the decision by the kernel with these.

    Parameters
    ----------
    kernel : float64 (n, n) of the training rows.
    codes : n class numbers.
    C : penalty of a margin violation.
    weights : of the rows, None for 1 each.
    """
    from sklearn.svm import SVC

    fitted = SVC(C=C, kernel="precomputed").fit(kernel, codes, sample_weight=weights)
    return fitted.support_, Decision(_by_pair(fitted), fitted.intercept_.copy(), len(fitted.classes_), True)


def _by_pair(fitted: Any) -> _Floats:
    """float64 (vectors, pairs): what is stored for a vector of class i are its weights against the others, those before
    i first (libsvm's FAQ, "how do I get the coefficients")."""
    dual, counts = fitted.dual_coef_, fitted.n_support_
    if len(counts) == 2:
        return np.ascontiguousarray(dual.T)
    starts = np.concatenate([[0], np.cumsum(counts)])
    pairs = list(combinations(range(len(counts)), 2))
    weights = np.zeros((dual.shape[1], len(pairs)))
    for at, (i, j) in enumerate(pairs):
        of_i, of_j = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[of_i, at], weights[of_j, at] = dual[j - 1, of_i], dual[i, of_j]
    return weights


class Kernels(Protocol):
    """Kernels between training rows, for an SVM whose samples are row numbers."""

    def learn(self, gamma: float | str, rows: _Rows) -> tuple[float, _Floats]:
        """The width, and the kernel of these rows with themselves; the array is the caller's until the next call."""
        ...

    def score(self, gamma: float, learnt: _Rows, rows: _Rows, support: _Rows) -> _Floats:
        """The kernel of ``rows`` with those of the rows ``learnt`` that ``support`` counts."""
        ...


class SlicedKernels:
    """Kernels as slices of one matrix of distances: folds inside a training part compute none of their own."""

    def __init__(self, distances: Distances | DistancesOfRows) -> None:
        self.distances = distances
        self._buffer = np.empty(0)

    def learn(self, gamma: float | str, rows: _Rows) -> tuple[float, _Floats]:
        # One buffer for all folds: fresh memory of this size costs more than the exponential.
        if self._buffer.size < len(rows) ** 2:
            self._buffer = np.empty(max(len(rows), self.distances.n_train) ** 2)
        width = self.distances.gamma(gamma, rows)
        kernel = self._buffer[: len(rows) ** 2].reshape(len(rows), len(rows))
        return width, self.distances.kernel(width, rows, rows, out=kernel)

    def score(self, gamma: float, learnt: _Rows, rows: _Rows, support: _Rows) -> _Floats:
        return self.distances.kernel(gamma, rows, learnt[support])

    def __deepcopy__(self, memo: object) -> Self:
        return self  # scikit-learn's clone would otherwise copy gigabytes for every fold


class TrainingFeatures:
    """Features of the training rows, of which folds inside are slices."""

    def __init__(self, X: _Floats) -> None:
        self.whole = X

    def learn(self, rows: _Rows) -> _Floats:
        """float64 (n, d): these rows, as a model that has met no others sees them."""
        return self.whole if len(rows) == len(self.whole) else self.whole[rows]

    def score(self, learnt: _Rows, rows: _Rows) -> _Floats:
        """float64 (k, d): the rows to score, as the model of the rows ``learnt`` sees them."""
        return self.whole[rows]

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing in it changes but what is remembered: a clone needs no other


class FeaturesOfParts(TrainingFeatures):
    """Features that are learnt anew for every fold inside the training part."""

    def __init__(self, X: _Floats, parts: Parts) -> None:
        super().__init__(X)
        self._parts = parts
        self._known: dict[bytes, tuple[_Rows, _Floats, _Floats]] = {}

    def learn(self, rows: _Rows) -> _Floats:
        return self.whole if len(rows) == len(self.whole) else self._of(rows)[1]

    def score(self, learnt: _Rows, rows: _Rows) -> _Floats:
        if len(learnt) == len(self.whole):
            return self.whole[rows]
        test, _, X = self._of(learnt)
        return X[np.searchsorted(test, rows)]

    def _of(self, rows: _Rows) -> tuple[_Rows, _Floats, _Floats]:
        key = rows.tobytes()
        if key not in self._known:
            test = np.setdiff1d(np.arange(len(self.whole)), rows)
            X, scored = (np.asarray(part, np.float64) for part in self._parts(rows, test))
            self._known[key] = (test, X, scored)
        return self._known[key]


class KernelsOfParts:
    """Kernels of features that are learnt anew for every fold inside the training part."""

    def __init__(self, features: FeaturesOfParts) -> None:
        self.features = features

    def learn(self, gamma: float | str, rows: _Rows) -> tuple[float, _Floats]:
        X = self.features.learn(rows)
        return SlicedKernels(Distances.between(X)).learn(gamma, np.arange(len(rows)))

    def score(self, gamma: float, learnt: _Rows, rows: _Rows, support: _Rows) -> _Floats:
        return rbf_kernel(self.features.score(learnt, rows), self.features.learn(learnt)[support], gamma)

    def __deepcopy__(self, memo: object) -> Self:
        return self


def rbf_kernel(X: _Floats, vectors: _Floats, gamma: float) -> _Floats:
    """float64 (n, m): exp(-gamma |x - v|^2)."""
    kernel = squared_distances(X, vectors)
    kernel *= -gamma
    return np.exp(kernel, out=kernel)


@dataclass(frozen=True, eq=False)
class RbfSVM:
    """A fitted RBF-kernel SVM with a sigmoid for every score: plain arrays.

    Attributes
    ----------
    vectors : float64 (m, d), support vectors or landmarks; None where they are rows of distances.
    gamma : the kernel's width.
    decision : of the kernel with the vectors.
    slope, offset : float64 (scores,): a probability is 1 / (1 + exp(slope x score + offset)).
    """

    vectors: _Floats | None
    gamma: float
    decision: Decision
    slope: _Floats
    offset: _Floats

    def predict_proba(self, X: _Floats) -> _Floats:
        """float64 (n, classes) of float64 (n, d)."""
        assert self.vectors is not None
        parts = [
            self.of_kernel(rbf_kernel(X[start : start + _BATCH], self.vectors, self.gamma))
            for start in range(0, max(len(X), 1), _BATCH)
        ]
        return np.concatenate(parts)

    def of_kernel(self, kernel: _Floats) -> _Floats:
        """float64 (n, classes) by the kernel (n, m) with the vectors."""
        scores = self.decision(kernel)
        columns = scores[:, None] if scores.ndim == 1 else scores
        z = self.slope * columns + self.offset
        # The logistic function, of whichever sign does not overflow.
        less = np.exp(-np.abs(z))
        proba = np.where(z > 0, less, 1.0) / (1 + less)
        if proba.shape[1] == 1:
            return np.column_stack([1 - proba, proba])
        sums = proba.sum(axis=1, keepdims=True)
        return np.divide(proba, sums, out=np.full_like(proba, 1 / proba.shape[1]), where=sums > 0)


def fit_landmarks(
    X: _Floats,
    codes: NDArray[np.intp],
    weights: _Floats | None,
    *,
    C: float,
    gamma: float,
    landmarks: int,
    seed: int | None,
) -> tuple[_Floats, Decision]:
    """Landmarks, float64 (m, d), and a linear SVM (squared hinge loss) on the kernel that they approximate.

    Time grows with rows x landmarks**2, not with the square of the rows.
    Source: Williams and Seeger (2001), NIPS 13:682-688 (Nystroem's method), as scikit-learn has it.

    Parameters
    ----------
    X, codes, weights : training rows, their class numbers, and what they weigh.
    C, gamma : as of an exact SVM; the width is a number.
    landmarks : how many, drawn from the training rows.
    seed : of that draw.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.svm import LinearSVC

    mapped = Nystroem(gamma=gamma, n_components=min(landmarks, len(X)), random_state=seed).fit(X)
    linear = LinearSVC(C=C, dual=False, max_iter=5000).fit(mapped.transform(X), codes, weights)
    by_class = mapped.normalization_.T @ linear.coef_.T
    return mapped.components_, Decision(by_class, np.atleast_1d(linear.intercept_), len(linear.classes_), False)


class OnRows(ClassifierMixin, BaseEstimator):
    """What scikit-learn calibrates and searches: an SVM whose samples are row numbers, (n, 1)."""

    classes_: NDArray[np.intp]
    gamma_: float
    decision_: Decision
    #: The training rows that are support vectors, or the landmarks themselves.
    vectors_: Any

    def predict(self, X: _Rows) -> _Rows:
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def decision_function(self, X: _Rows) -> _Floats:
        raise NotImplementedError


class ExactOnRows(OnRows):
    """An exact SVM: its vectors are row numbers."""

    def __init__(self, C: float, gamma: float | str, kernels: Kernels) -> None:
        self.C = C
        self.gamma = gamma
        self.kernels = kernels

    def fit(self, X: _Rows, y: _Rows, sample_weight: _Floats | None = None) -> Self:
        self.rows_, self.classes_ = X[:, 0], np.unique(y)
        self.gamma_, kernel = self.kernels.learn(self.gamma, self.rows_)
        self.support_, self.decision_ = fit_decision(kernel, y, self.C, sample_weight)
        self.vectors_ = self.rows_[self.support_]
        return self

    def decision_function(self, X: _Rows) -> _Floats:
        return self.decision_(self.kernels.score(self.gamma_, self.rows_, X[:, 0], self.support_))


class LandmarksOnRows(OnRows):
    """An approximate SVM: its vectors are landmarks."""

    def __init__(
        self, C: float, gamma: float | str, landmarks: int, random_state: int | None, features: TrainingFeatures
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.landmarks = landmarks
        self.random_state = random_state
        self.features = features

    def fit(self, X: _Rows, y: _Rows, sample_weight: _Floats | None = None) -> Self:
        self.rows_, self.classes_ = X[:, 0], np.unique(y)
        features = self.features.learn(self.rows_)
        self.gamma_ = kernel_width(self.gamma, features)
        self.vectors_, self.decision_ = fit_landmarks(
            features,
            y,
            sample_weight,
            C=self.C,
            gamma=self.gamma_,
            landmarks=self.landmarks,
            seed=self.random_state,
        )
        return self

    def decision_function(self, X: _Rows) -> _Floats:
        return self.decision_(rbf_kernel(self.features.score(self.rows_, X[:, 0]), self.vectors_, self.gamma_))


def kernel_width(asked: float | str, X: _Floats) -> float:
    """``asked``, or for "scale" 1 / (columns x variance of all values), for "auto" 1 / columns, as in scikit-learn; for
    "wide" a tenth of "scale"."""
    if asked == "auto":
        return 1 / X.shape[1]
    if asked not in NAMED_WIDTHS:
        return float(asked)
    variance = float(X.var())
    return NAMED_WIDTHS[str(asked)] / (X.shape[1] * variance) if variance > 0 else NAMED_WIDTHS[str(asked)]
