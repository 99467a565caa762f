"""What cells say of their patient before any network looks: few coordinates of a cell, and models of cells.

Nobody has said which cells make a patient ill, but cells that only ill patients have are told from all others by a
model that learns every cell under its patient's label: where they lie, it is sure. How much what cells say is worth is
learnt from patients that are held out of the models by which their own cells are scored, so that a model that knows its
training cells by heart is no more believed for it; new patients are scored by models of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.patients._linear_models import (
    ABSENT,
    STATISTICS,
    logistic,
    pooled_statistics,
    scaled,
    softmax,
    standard,
)

if TYPE_CHECKING:
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]
_Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

#: Cells of a class that a model of cells needs, and patients that must have them.
_LEAST_CELLS, _LEAST_PATIENTS = 10, 4

#: Cells, as many of every patient as go, that principal components are of.
_CELLS_OF_COMPONENTS = 20_000

#: Cells that a model of cells learns from, and landmarks by which it knows where a cell lies. With 200 of these few lie
#: among the witnesses, and which do is chance.
_CELLS_OF_MODEL, _LANDMARKS = 20_000, 500

#: Inverse strength of the penalty of a model of cells, of one of patients by statistics of components, and of the model
#: of what these say. With 1 for the last the linear model of patients' columns is believed too little where it is right
#: of nearly all (docs/patients.md); 3, 10 and 30 are the same.
_CELL_C, _POOLED_C, _STATISTICS_C = 1.0, 0.2, 3.0

#: No cell is surer of a class than this, in odds: a patient does not hang on one.
SUREST = 100.0

#: Exponents of the means of a patient's cells, from all alike (0) to those that say most.
EXPONENTS = (0.0, 1.0, 2.0, 4.0)

#: Exponent by which cells are told to be looked at: one ten times as odd weighs a hundred times as much.
_SHARPNESS = 2.0


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of cells, each divided by the root of its standard deviation.

    Whitened, noise would weigh as much as what cells differ by; not at all, the first few would be all there is.

    Attributes
    ----------
    mean, axes : float32 (d,) and (k, d).
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def of(cls, X: Bags, most: int, seed: int) -> Self:
        """At most ``most`` components of these cells; their mean variance is 1."""
        cells = np.asarray(X.cells[X.drawn(_CELLS_OF_COMPONENTS, seed)], np.float32)  # a copy, by rows
        mean = cells.mean(axis=0, dtype=np.float64).astype(np.float32)
        cells -= mean
        if len(cells) > cells.shape[1]:
            variances, vectors = np.linalg.eigh(np.asarray(cells.T @ cells, np.float64))
            axes = vectors.T
        else:
            _, singular, axes = np.linalg.svd(cells.astype(np.float64), full_matrices=False)
            variances = singular**2
        order = np.argsort(-variances, kind="stable")[:most]
        deviations = np.sqrt(np.maximum(variances[order], 0) / max(1, len(cells) - 1))
        # What does not vary is rounding, and would be rounding divided by rounding.
        varies = np.flatnonzero(deviations > 1e-5 * deviations[0])
        if not len(varies):
            return cls(mean, np.zeros((1, len(mean)), np.float32))
        scale = np.sqrt(deviations[varies] * deviations[varies].mean())
        return cls(mean, np.asarray(axes[order[varies]] / scale[:, None], np.float32))

    def changed(self, X: Bags) -> Bags:
        """Bags of the same cells by their components, float32."""
        return X.changed(lambda some: (some.stacked - self.mean) @ self.axes.T)


@dataclass(frozen=True, eq=False)
class CellModels:
    """Logistic regression of cells on how near they lie to landmarks, and of patients on what their cells say.

    Landmarks are cells; a radial kernel between them and any cell spans the Nystroem approximation of a kernel machine
    (Williams and Seeger 2001, NIPS 13:682-688).

    Attributes
    ----------
    landmarks : float64 (m, k).
    weights, intercepts : float64 (m, c) and (c,), of the classes that cells have, or their patients.
    pooled_centre, pooled_scale : float64 (5 k,), of mean, spread and quantiles of a bag's components.
    pooled_weights, pooled_intercepts : float64 (K, 5 k) and (K,), of the patient's classes by these.
    centre, scale : float64 (s,), of what cells of a patient say, and of these margins.
    coef, intercept : float64 (K, s) and (K,), of the patient's classes by all of that.
    inherits : bool (1,), whether cells have the classes of their patients.
    """

    landmarks: _Floats
    weights: _Floats
    intercepts: _Floats
    pooled_centre: _Floats
    pooled_scale: _Floats
    pooled_weights: _Floats
    pooled_intercepts: _Floats
    centre: _Floats
    scale: _Floats
    coef: _Floats
    intercept: _Floats
    inherits: NDArray[np.bool_]

    @classmethod
    def fit(
        cls,
        X: Bags,
        beside: _Floats,
        codes: NDArray[np.intp],
        kinds: NDArray[np.intp] | None,
        folds: _Folds,
        seed: int,
    ) -> tuple[CellModels, _Floats]:
        """The models of bags of components, and float64 (n, K): what they say of each bag, which they have not met.

        Parameters
        ----------
        beside : float64 (n, K), what another model says of each bag, which it has not met.
        codes : intp (n,), the classes of the bags.
        kinds : intp, for each of ``X.stacked`` what it is itself, -1 where nobody says; None where patients' classes
            are all that is known.
        folds : of whole bags, which leave out every bag once.
        """
        rng = np.random.default_rng(seed)
        drawn = X.drawn(_LANDMARKS, seed)  # of every bag alike
        landmarks = np.asarray(X.cells[rng.permutation(drawn)[:_LANDMARKS]], np.float64)
        cells = _LabelledCells(X, codes[X.owners] if kinds is None else kinds, landmarks, _whitening(landmarks))
        pooled, none, count = pooled_statistics(X), np.empty(0), int(codes.max()) + 1
        pooled_centre, pooled_scale = standard(pooled)
        pooled = scaled(pooled, pooled_centre, pooled_scale)

        def model(bags: NDArray[np.intp]) -> CellModels:
            weights, intercepts = cells.model(bags, rng)
            own = logistic(pooled[bags], codes[bags], _POOLED_C, count, ABSENT)
            inherits = np.array([kinds is None])
            parts = (landmarks, weights, intercepts, pooled_centre, pooled_scale, *own)
            return cls(*parts, none, none, none, none, inherits)

        said = np.empty((len(X), len(EXPONENTS) * cells.count + 2 * count))
        for train, test in folds:
            said[test] = model(train)._asked(X[test], beside[test])[0]
        centre, scale = standard(said)
        coef, intercept = logistic(scaled(said, centre, scale), codes, _STATISTICS_C, count, ABSENT)
        fitted = replace(model(np.arange(len(X))), centre=centre, scale=scale, coef=coef, intercept=intercept)
        return fitted, fitted._margins(said)

    def fits_together(self, components: int) -> bool:
        """Whether there are as many statistics as components and classes of cells have, and these classes are the
        patients' where they say so."""
        kinds = self.weights.shape[1]
        is_own = not self.inherits[0] or kinds == len(self.intercept)
        return (
            is_own
            and len(self.centre) == len(EXPONENTS) * kinds + 2 * len(self.intercept)
            and len(self.pooled_centre) == STATISTICS * components
        )

    def predict(self, X: Bags, beside: _Floats) -> tuple[_Floats, _Floats]:
        """Margins float64 (n, K) of bags of components, of which another model says ``beside``; and how much each of
        their cells speaks for the class that is highest, float64 (k,), 1 in sum over each bag."""
        said, scores = self._asked(X, beside)
        margins = self._margins(said)
        own = np.split(scores, np.cumsum(X.sizes)[:-1])
        weights = [self._weights(each, int(at)) for each, at in zip(own, margins.argmax(axis=1), strict=True)]
        return margins, np.concatenate(weights)

    def _asked(self, X: Bags, beside: _Floats) -> tuple[_Floats, _Floats]:
        """What cells, statistics and the other model say of each bag, float64 (n, s); what each cell says, (k, c)."""
        scores = [self._scores(np.asarray(some.stacked, np.float64)) for some in X.batches()]
        said = [_statistics(some, own) for some, own in zip(X.batches(), scores, strict=True)]
        pooled = scaled(pooled_statistics(X), self.pooled_centre, self.pooled_scale)
        margins = pooled @ self.pooled_weights.T + self.pooled_intercepts
        return np.hstack([np.concatenate(said), margins, beside]), np.concatenate(scores)

    def _margins(self, said: _Floats) -> _Floats:
        return np.asarray(scaled(said, self.centre, self.scale) @ self.coef.T + self.intercept)

    def _scores(self, cells: _Floats) -> _Floats:
        """float64 (k, c): the log odds of each class against all others, of cells."""
        proba = softmax(_kernel(cells, self.landmarks) @ self.weights + self.intercepts)
        return np.asarray(np.log(np.clip(proba / np.maximum(1 - proba, 1e-12), 1 / SUREST, SUREST)))

    def _weights(self, scores: _Floats, at: int) -> _Floats:
        """How much cells of a bag speak for a class, of scores (k, c); 1 in sum. By kinds of cells it is what the
        patient's margin makes of each."""
        if self.inherits[0]:
            said = scores[:, at]
        else:
            own = (self.coef[at] * self.scale)[: len(EXPONENTS) * scores.shape[1]]
            counts = own.reshape(len(EXPONENTS), -1).sum(axis=0)
            counts -= counts.mean()
            said = scores @ (counts / max(np.abs(counts).sum(), 1e-300))
        odds = np.exp(_SHARPNESS * (said - said.max()))
        return np.asarray(odds / odds.sum())


@dataclass(frozen=True, eq=False)
class _LabelledCells:
    """Cells that models are learnt from.

    Attributes
    ----------
    bags : whose they are.
    targets : intp, what each of ``bags.stacked`` is taken for, -1 for unknown.
    landmarks, basis : see ``CellModels`` and ``_whitening``.
    """

    bags: Bags
    targets: NDArray[np.intp]
    landmarks: _Floats
    basis: _Floats

    @property
    def count(self) -> int:
        """Classes of cells."""
        return int(self.targets.max()) + 1

    def model(self, bags: NDArray[np.intp], rng: np.random.Generator) -> tuple[_Floats, _Floats]:
        """Weights float64 (m, c) and intercepts (c,) of the cells of these bags."""
        rows = np.flatnonzero(np.isin(self.bags.owners, bags) & (self.targets >= 0))
        if len(rows) > _CELLS_OF_MODEL:
            rows = rng.choice(rows, _CELLS_OF_MODEL, replace=False)
        near = _kernel(np.asarray(self.bags.stacked[rows], np.float64), self.landmarks) @ self.basis
        own, offset = logistic(near, self.targets[rows], _CELL_C, self.count, ABSENT)
        return self.basis @ own.T, offset


def kinds_in_folds(X: Bags, folds: _Folds) -> NDArray[np.intp] | None:
    """intp, the number of what each of ``X.stacked`` is labelled as, -1 where nobody says; None where cells are not
    labelled, or too few of a kind in a fold to learn from."""
    names = kinds_of(X)
    if not all(are_told(X[train]) and len(kinds_of(X[train])) == len(names) for train, _ in folds):
        return None
    labels = X.stacked_labels
    found = np.full(len(labels), -1, np.intp)
    told = np.flatnonzero([label is not None for label in labels])
    found[told] = np.searchsorted(names, labels[told].astype(str))
    return found


def kinds_of(X: Bags) -> NDArray[Any]:
    """What cells are labelled as, sorted."""
    return np.unique(np.array([label for label in X.stacked_labels if label is not None], str))


def are_told(X: Bags) -> bool:
    """Whether there are cells of two kinds, enough of each and of enough patients, to learn a model of cells from."""
    if X.labels is None:
        return False
    labels, owners = X.stacked_labels, X.owners
    kinds = kinds_of(X)
    counts = [(labels == kind) for kind in kinds]
    return len(kinds) > 1 and all(
        own.sum() >= _LEAST_CELLS and len(np.unique(owners[own])) >= _LEAST_PATIENTS for own in counts
    )


def _kernel(cells: _Floats, landmarks: _Floats) -> _Floats:
    """float64 (k, m): the mean of exp(-distance^2 / d) and of its cube, in d components of variance 1 on average, so
    that two cells have about exp(-2) and exp(-6).

    The wide one tells cells that differ by a shift, the narrow one kinds of cells that lie close together, as real ones
    do.
    """
    near = 2 * cells @ landmarks.T
    near -= (cells**2).sum(axis=1)[:, None]
    near -= (landmarks**2).sum(axis=1)
    near /= max(1, cells.shape[1])
    np.exp(np.minimum(near, 0, out=near), out=near)
    narrow = near * near
    narrow *= near
    narrow += near
    return np.asarray(narrow / 2)


def _whitening(landmarks: _Floats) -> _Floats:
    """float64 (m, r): makes of nearness to landmarks coordinates whose dot product is the kernel."""
    values, vectors = np.linalg.eigh(_kernel(landmarks, landmarks))
    kept = values > 1e-6 * values.max()
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _statistics(X: Bags, scores: _Floats) -> _Floats:
    """float64 (n, 4 c): of each class the exponential means of a bag's scores, log(mean(exp(r s))) / r.

    Of all cells alike at r = 0, of those that say most at 4: a few witnesses move the latter alone.
    """
    found = [X.mean(scores)]
    for exponent in EXPONENTS[1:]:
        found.append(np.log(X.mean(np.exp(exponent * scores))) / exponent)
    return np.hstack(found)
