"""What cells say of their patient before any network looks: few coordinates of a cell, and models of cells.

Nobody has said which cells make a patient ill, but cells that only ill patients have are told from all others by a
model that learns every cell under its patient's label: where they lie, it is sure. Patients are held out of the models
by which their own cells are scored, so that a model that knows its training cells by heart is no more believed for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.patients._linear_models import STATISTICS, logistic, pooled_statistics, softmax

if TYPE_CHECKING:
    from fusion.data.patients.bags import Bags

_Floats = NDArray[np.float64]
_Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

#: Cells of a class that a model of cells needs, and patients that must have them.
_LEAST_CELLS, _LEAST_PATIENTS = 10, 4

#: Cells, as many of every patient as go, that principal components are of.
_CELLS_OF_COMPONENTS = 20_000

#: Cells that a model of cells learns from, and landmarks by which it knows where a cell lies.
_CELLS_OF_MODEL, _LANDMARKS = 50_000, 200

#: Inverse strength of the penalty of a model of cells, of one of patients by statistics of components, and of the model
#: of what these say.
_CELL_C, _POOLED_C, _STATISTICS_C = 1.0, 0.2, 1.0

#: Log odds of a class that no cell has in a fold.
_ABSENT = -20.0

#: No cell is surer of a class than this, in odds: a patient does not hang on one.
_SUREST = 100.0

#: Exponents of the means of a patient's cells, from all alike (0) to those that say most.
_EXPONENTS = (0.0, 1.0, 2.0, 4.0)

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
    """Logistic regressions of cells on how near they lie to landmarks, one a fold; and of patients on what these say.

    Landmarks are cells; a radial kernel between them and any cell spans the Nystroem approximation of a kernel machine
    (Williams and Seeger 2001, NIPS 13:682-688).

    Attributes
    ----------
    landmarks : float64 (m, k).
    weights, intercepts : float64 (folds, m, c) and (folds, c), of the classes that cells have, or their patients.
    pooled_centre, pooled_scale : float64 (5 k,), of mean, spread and quantiles of a bag's components.
    pooled_weights, pooled_intercepts : float64 (folds, K, 5 k) and (folds, K), of the patient's classes by these.
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
        cls, X: Bags, codes: NDArray[np.intp], kinds: NDArray[np.intp] | None, folds: _Folds, seed: int
    ) -> tuple[Self, _Floats]:
        """The models of bags of components, and float64 (n, K): what they say of each bag, which they have not met.

        Parameters
        ----------
        codes : intp (n,), the classes of the bags.
        kinds : intp, for each of ``X.stacked`` what it is itself, -1 where nobody says; None where patients' classes
            are all that is known.
        folds : of whole bags, which leave out every bag once.
        """
        targets, owners = (codes[X.owners] if kinds is None else kinds), X.owners
        rng = np.random.default_rng(seed)
        drawn = X.drawn(_LANDMARKS, seed)  # of every bag alike
        landmarks = np.asarray(X.cells[rng.permutation(drawn)[:_LANDMARKS]], np.float64)
        basis, count = _whitening(landmarks), int(targets.max()) + 1
        is_known, cells = targets >= 0, X.stacked
        weights, intercepts = [], []
        for train, _ in folds:
            rows = np.flatnonzero(np.isin(owners, train) & is_known)
            if len(rows) > _CELLS_OF_MODEL:
                rows = rng.choice(rows, _CELLS_OF_MODEL, replace=False)
            near = _kernel(np.asarray(cells[rows], np.float64), landmarks) @ basis
            own, offset = logistic(near, targets[rows], _CELL_C, count, _ABSENT)
            weights.append(basis @ own.T)
            intercepts.append(offset)
        pooled = pooled_statistics(X)
        pooled_centre, pooled_scale = _standard(pooled)
        by_fold = [
            logistic(
                _scaled(pooled[train], pooled_centre, pooled_scale),
                codes[train],
                _POOLED_C,
                int(codes.max()) + 1,
                _ABSENT,
            )
            for train, _ in folds
        ]
        none = np.empty(0)
        bare = cls(
            landmarks,
            np.stack(weights),
            np.stack(intercepts),
            pooled_centre,
            pooled_scale,
            np.stack([own for own, _ in by_fold]),
            np.stack([offset for _, offset in by_fold]),
            none,
            none,
            none,
            none,
            np.array([kinds is None]),
        )
        said = np.empty((len(X), len(_EXPONENTS) * count + int(codes.max()) + 1))
        for at, (_, test) in enumerate(folds):
            said[test] = bare._asked(X[test], [at])[0]
        centre, scale = _standard(said)
        coef, intercept = logistic(_scaled(said, centre, scale), codes, _STATISTICS_C, int(codes.max()) + 1, _ABSENT)
        fitted = replace(bare, centre=centre, scale=scale, coef=coef, intercept=intercept)
        return fitted, fitted._margins(said)

    def fits_together(self, components: int) -> bool:
        """Whether there are as many statistics as components and classes of cells have, and these classes are the
        patients' where they say so."""
        folds, _, kinds = self.weights.shape
        is_own = not self.inherits[0] or kinds == len(self.intercept)
        return (
            folds > 0
            and len(self.centre) == len(_EXPONENTS) * kinds + len(self.intercept)
            and (is_own and len(self.pooled_centre) == STATISTICS * components)
        )

    def predict(self, X: Bags) -> tuple[_Floats, _Floats]:
        """Margins float64 (n, K) of bags of components, and how much each of their cells speaks for the class that is
        highest, float64 (k,), 1 in sum over each bag."""
        said, scores = self._asked(X, range(len(self.weights)))
        margins = self._margins(said)
        own = np.split(scores, np.cumsum(X.sizes)[:-1])
        weights = [self._weights(each, int(at)) for each, at in zip(own, margins.argmax(axis=1), strict=True)]
        return margins, np.concatenate(weights)

    def _asked(self, X: Bags, models: Sequence[int]) -> tuple[_Floats, _Floats]:
        """What cells of each bag say, and its statistics, float64 (n, s); and what each cell says, (k, c)."""
        scores = [self._scores(np.asarray(some.stacked, np.float64), models) for some in X.batches()]
        said = [_statistics(some, own) for some, own in zip(X.batches(), scores, strict=True)]
        scaled = _scaled(pooled_statistics(X), self.pooled_centre, self.pooled_scale)
        margins = [scaled @ self.pooled_weights[at].T + self.pooled_intercepts[at] for at in models]
        return np.hstack([np.concatenate(said), np.mean(margins, axis=0)]), np.concatenate(scores)

    def _margins(self, said: _Floats) -> _Floats:
        return np.asarray(_scaled(said, self.centre, self.scale) @ self.coef.T + self.intercept)

    def _scores(self, cells: _Floats, models: Sequence[int]) -> _Floats:
        """float64 (k, c): the log odds of each class against all others, of cells: the mean over these models."""
        near = _kernel(cells, self.landmarks)
        total = np.zeros((len(near), self.weights.shape[2]))
        for at in models:
            proba = softmax(near @ self.weights[at] + self.intercepts[at])
            total += np.log(np.clip(proba / np.maximum(1 - proba, 1e-12), 1 / _SUREST, _SUREST))
        return total / len(models)

    def _weights(self, scores: _Floats, at: int) -> _Floats:
        """How much cells of a bag speak for a class, of scores (k, c); 1 in sum. By kinds of cells it is what the
        patient's margin makes of each."""
        if self.inherits[0]:
            said = scores[:, at]
        else:
            own = (self.coef[at] * self.scale)[: len(_EXPONENTS) * scores.shape[1]]
            counts = own.reshape(len(_EXPONENTS), -1).sum(axis=0)
            counts -= counts.mean()
            said = scores @ (counts / max(np.abs(counts).sum(), 1e-300))
        odds = np.exp(_SHARPNESS * (said - said.max()))
        return np.asarray(odds / odds.sum())


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
    """float64 (k, m): exp(-distance^2 / d) in d components of variance 1 on average, so that two cells have about
    exp(-2)."""
    squares = (cells**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1) - 2 * cells @ landmarks.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / max(1, cells.shape[1])))


def _whitening(landmarks: _Floats) -> _Floats:
    """float64 (m, r): makes of nearness to landmarks coordinates whose dot product is the kernel."""
    values, vectors = np.linalg.eigh(_kernel(landmarks, landmarks))
    kept = values > 1e-6 * values.max()
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _standard(rows: _Floats) -> tuple[_Floats, _Floats]:
    """Means float64 (s,) and inverse standard deviations, 0 for what does not vary or nobody knows."""
    known = ~np.isnan(rows).all(axis=0)
    centre, spread = np.zeros((2, rows.shape[1]))
    centre[known], spread[known] = np.nanmean(rows[:, known], axis=0), np.nanstd(rows[:, known], axis=0)
    return centre, np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-300), 0.0)


def _scaled(rows: _Floats, centre: _Floats, scale: _Floats) -> _Floats:
    return np.asarray((np.where(np.isnan(rows), centre, rows) - centre) * scale)


def _statistics(X: Bags, scores: _Floats) -> _Floats:
    """float64 (n, 4 c): of each class the exponential means of a bag's scores, log(mean(exp(r s))) / r.

    Of all cells alike at r = 0, of those that say most at 4: a few witnesses move the latter alone.
    """
    found = [X.mean(scores)]
    for exponent in _EXPONENTS[1:]:
        found.append(np.log(X.mean(np.exp(exponent * scores))) / exponent)
    return np.hstack(found)
