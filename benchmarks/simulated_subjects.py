"""Simulated subjects of two classes, fixed scores and trained models on them, and how their figures vary: many data
sets at once, by the intervals that judge everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from fusion.evaluation.variation import Combined, Variation
from fusion.metrics._ranked_rows import OneAgainstRest, RankedPairs
from fusion.metrics.jackknife import Spread, Strata, influences, intervals, p_values, spread_of_procedure

_Floats = NDArray[np.float64]

#: Figures that are looked at.
FIGURES = ("balanced_accuracy", "sensitivity", "specificity", "auroc")

#: Spread between subjects and within them: an intraclass correlation of a half.
BETWEEN, WITHIN = 1.0, 1.0

#: Cells of a subject where nothing else is said.
CELLS = 12

#: Folds of a cross-validation.
FOLDS = 5

KEY = ("image", "balanced_accuracy")


@dataclass(frozen=True)
class Seen:
    """Figures of one data set or more, as in `FIGURES`: float64 (..., 4) of all subjects, (subjects, ..., 4) without
    each in turn."""

    values: _Floats
    left_out: _Floats

    @classmethod
    def of(
        cls,
        score: _Floats,
        is_positive: NDArray[np.bool_],
        groups: NDArray[np.intp],
        cut: float = 0.5,
        parts: NDArray[np.intp] | None = None,
    ) -> Seen:
        """Of scored rows, each predicted positive above the cut."""
        size = int(groups.max()) + 1
        cells, right = (np.bincount(groups, part, size) for part in (np.ones(len(score)), (score > cut) == is_positive))
        recalls, without = [], []
        for kind in (True, False):
            own = np.bincount(groups[is_positive == kind], minlength=size) > 0
            hits, number = right[own].sum(), cells[own].sum()
            recalls.append(hits / number)
            without.append(np.where(own, (hits - right) / np.maximum(number - cells, 1), hits / number))
        pairs = RankedPairs.of(OneAgainstRest.of(score, is_positive, groups, size, parts))
        both, areas = (recalls[0] + recalls[1]) / 2, pairs.auroc(np.ones((size, 1)))[0]
        left_out = np.column_stack([(without[0] + without[1]) / 2, *without, pairs.left_out()])
        return cls(np.array([both, *recalls, areas]), left_out)

    @classmethod
    def all_of(cls, seen: Sequence[Seen]) -> Seen:
        """Of many data sets, along the axis before the figures."""
        return cls(np.stack([one.values for one in seen]), np.stack([one.left_out for one in seen], axis=1))

    def influences(self, strata: Strata) -> _Floats:
        """float64 (subjects, all figures)."""
        return influences(self.left_out.reshape(len(self.left_out), -1), strata)


def bounds(seen: Seen, spread: Spread, strata: Strata) -> tuple[_Floats, _Floats]:
    """float64 (data sets, 4) each, of figures whose positive class comes first in `strata`."""
    positives, negatives = strata.numbers.values()
    behind = np.tile([strata.smallest, positives, negatives, strata.smallest], len(seen.values))
    low, high, _ = intervals(seen.values.ravel(), spread, behind, is_share=True)
    return low.reshape(seen.values.shape), high.reshape(seen.values.shape)


def told(values: _Floats, low: _Floats, high: _Floats, truth: float) -> dict[str, float]:
    """Share of the intervals of one figure that hold the truth (one that is not there holds nothing), and their mean
    width over that of the oracle's."""
    covered, width = np.mean((low <= truth) & (truth <= high)), np.mean(high - low) / (2 * 1.96 * np.std(values))
    return {"coverage": float(covered), "width": float(width)}


# ---- scores of fixed models -----------------------------------------------------------------------------------------


def fixed_scores(
    rng: np.random.Generator, sizes: tuple[list[int], list[int]], d: float
) -> tuple[NDArray[np.bool_], _Floats, NDArray[np.intp]]:
    """Whether cells are positive, their scores and groups: +-d, an effect of the subject and noise of the cell,
    positive above 0."""
    cells = np.concatenate(sizes)
    groups = np.repeat(np.arange(len(cells)), cells)
    is_positive = groups < len(sizes[0])
    noise = rng.normal(0, BETWEEN, len(cells))[groups] + rng.normal(0, WITHIN, len(groups))
    return is_positive, norm.cdf(np.where(is_positive, d, -d) + noise), groups


def by_subject(score: _Floats, sizes: tuple[list[int], list[int]]) -> Seen:
    """Figures of the subjects' mean scores."""
    cells = np.concatenate(sizes)
    means = np.add.reduceat(score, np.append(0, np.cumsum(cells)[:-1])) / cells
    return Seen.of(means, np.arange(len(cells)) < len(sizes[0]), np.arange(len(cells)))


def strata_of(cells: tuple[Sequence[int], Sequence[int]]) -> Strata:
    """Of subjects of so many rows, the positive ones first."""
    counts = [[[size, 0], [0, size]][which] for which, sizes in enumerate(cells) for size in sizes]
    return Strata.from_counts(np.array(counts, np.float64), ["b", "a"])


# ---- models trained anew --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Two sets of features of the same cells: each of some that tell the classes apart, and of some that do not."""

    telling: int = 3
    useless: int = 7
    gap: float = 1.2
    shared: bool = False  # whether the second set is the first with as many useless features more
    ahead: float = 0.0  # by how much more the first set's features tell

    def means(self) -> tuple[_Floats, list[list[int]]]:
        """What lies between the classes along each feature, half of it, and the columns of both sets."""
        size = self.telling + self.useless
        of = [
            np.append(np.full(self.telling, gap / np.sqrt(self.telling)), np.zeros(self.useless))
            for gap in (self.gap + self.ahead, self.gap)
        ]
        if self.shared:
            return np.append(of[0], np.zeros(size)), [list(range(size)), list(range(2 * size))]
        return np.concatenate(of), [list(range(size)), list(range(size, 2 * size))]


def deal(rng: np.random.Generator, subjects: tuple[int, int]) -> NDArray[np.intp]:
    """A fold for each subject, each class dealt evenly."""
    dealt = [
        (rng.permutation(number) + offset) % FOLDS for offset, number in zip((0, subjects[0]), subjects, strict=True)
    ]
    return np.concatenate(dealt)


@dataclass(frozen=True)
class Trained:
    """What a cross-validation says of one set of features, over all repeats and (repeats, ...) in each by itself, and
    what its models really achieve, float64 (4,)."""

    whole: Seen
    by_repeat: tuple[Seen, ...]
    truth: _Floats


def train_anew(
    rng: np.random.Generator, subjects: tuple[int, int], features: Features, repeats: int = 5
) -> list[Trained]:
    """Two linear discriminants cross-validated on one data set."""
    groups = np.repeat(np.arange(sum(subjects)), CELLS)
    is_positive = groups < subjects[0]
    means, sets = features.means()
    X = np.where(is_positive, 1, -1)[:, None] * means + rng.normal(0, BETWEEN, (sum(subjects), len(means)))[groups]
    X += rng.normal(0, WITHIN, X.shape)
    dealt = np.stack([deal(rng, subjects) for _ in range(repeats)])
    return [_crossed(X[:, columns], means[columns], dealt, subjects[0]) for columns in sets]


def held_out(
    X: _Floats, means: _Floats, dealt: NDArray[np.intp], positives: int
) -> tuple[_Floats, NDArray[np.intp], _Floats]:
    """float64 (repeats, cells): scores, positive above 0, by discriminants of each repeat's other folds; the fold of
    each cell likewise; and what these really achieve."""
    subjects = dealt.shape[1]
    moments, kinds = _Moments.of(X, subjects), np.arange(subjects) < positives
    folds = np.repeat(dealt, CELLS, axis=1)
    score, truth = np.empty(folds.shape), []
    for repeat, fold in enumerate(dealt):
        for at in np.unique(fold):
            slope, intercept = moments.discriminant(fold != at, kinds)
            test = folds[repeat] == at
            score[repeat, test] = X[test] @ slope + intercept
            truth.append(_really(slope, intercept, means))
    return score, folds, np.mean(truth, axis=0)


def _crossed(X: _Floats, means: _Floats, dealt: NDArray[np.intp], positives: int) -> Trained:
    """Discriminants of each repeat's training subjects, judged on the others."""
    score, folds, truth = held_out(X, means, dealt, positives)
    groups = np.repeat(np.arange(dealt.shape[1]), CELLS)
    is_positive, repeats = groups < positives, len(score)
    models = (folds + FOLDS * np.arange(repeats)[:, None]).ravel()
    whole = Seen.of(score.ravel(), np.tile(is_positive, repeats), np.tile(groups, repeats), 0.0, models)
    return Trained(whole, tuple(Seen.of(one, is_positive, groups, 0.0) for one in score), truth)


@dataclass(frozen=True)
class _Moments:
    """Sums over the cells of each subject, of which a discriminant of any subjects follows in no time."""

    first: _Floats
    second: _Floats

    @classmethod
    def of(cls, X: _Floats, subjects: int) -> _Moments:
        cells = X.reshape(subjects, CELLS, -1)
        return cls(cells.sum(axis=1), np.einsum("sci,scj->sij", cells, cells))

    def discriminant(self, learnt: NDArray[np.bool_], is_positive: NDArray[np.bool_]) -> tuple[_Floats, float]:
        """Slope and intercept of Fisher's discriminant, classes weighed alike, a little shrunk."""
        means, within = [], np.zeros(self.second.shape[1:])
        for members in (learnt & is_positive, learnt & ~is_positive):
            cells = CELLS * members.sum()
            mean = self.first[members].sum(axis=0) / cells
            within += (self.second[members].sum(axis=0) / cells - np.outer(mean, mean)) / 2
            means.append(mean)
        slope = np.linalg.solve(within + 0.05 * np.eye(len(within)), means[0] - means[1])
        return slope, float(-slope @ (means[0] + means[1]) / 2)


def _really(slope: _Floats, intercept: float, means: _Floats) -> tuple[float, float, float, float]:
    """What a linear model achieves on cells of new subjects, in closed form."""
    apart, spread = float(slope @ means), float(np.linalg.norm(slope) * np.hypot(BETWEEN, WITHIN))
    sensitivity, specificity = norm.cdf((apart + intercept) / spread), norm.cdf((apart - intercept) / spread)
    return (sensitivity + specificity) / 2, sensitivity, specificity, norm.cdf(np.sqrt(2) * apart / spread)


@dataclass(frozen=True)
class Compared:
    """Many data sets: figures of the first set of features, of the second less it, and how they vary as procedures."""

    first: Seen
    spread: Spread
    apart: _Floats
    spread_apart: Spread
    strata: Strata

    @classmethod
    def of(cls, trained: Sequence[Sequence[Trained]], subjects: tuple[int, int]) -> Compared:
        strata = strata_of(([CELLS] * subjects[0], [CELLS] * subjects[1]))
        sets = list(zip(*trained, strict=True))
        whole = [Seen.all_of([one.whole for one in of]) for of in sets]
        varied = [seen.influences(strata) for seen in whole]
        repeated = [
            np.stack(
                [Seen.all_of(each).influences(strata) for each in zip(*(one.by_repeat for one in of), strict=True)]
            )
            for of in sets
        ]
        share = 1 / FOLDS
        spreads = [
            spread_of_procedure(varied[0], repeated[0], strata, share),
            spread_of_procedure(*(part[..., :: len(FIGURES)] for part in _less(varied, repeated)), strata, share),
        ]
        apart = whole[0].values[:, 0] - whole[1].values[:, 0]
        return cls(whole[0], spreads[0], apart, spreads[1], strata)

    def p(self) -> _Floats:
        """Of "there is no difference in balanced accuracy", of each data set."""
        return p_values(self.apart, self.spread_apart, [self.strata.smallest])


def _less(*parts: Sequence[_Floats]) -> list[_Floats]:
    return [first - second for first, second in parts]


# ---- entries beside each other --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """Balanced accuracies of entries on one data set, how they vary over its subjects, and the true ones."""

    values: _Floats
    influence: _Floats
    strata: Strata
    truth: _Floats

    @property
    def variations(self) -> list[Variation]:
        """Of each entry."""
        nothing = np.empty((0, len(self.influence)))
        return [Variation({KEY: one}, {KEY: nothing}, {KEY[0]: self.strata}, None) for one in self.influence.T]

    def difference(self, margin: float | None = None) -> dict[str, Any]:
        """The first minus the second, with the primary test."""
        apart, nothing = self.influence[:, 0] - self.influence[:, 1], np.empty((0, len(self.influence)))
        return Combined(apart, nothing, self.strata, None).difference(float(self.values[0] - self.values[1]), margin)


def entries(
    rng: np.random.Generator,
    subjects: tuple[int, int],
    count: int,
    ahead: float = 0.0,
    correlation: float = 0.66,
    leading: int = 1,
) -> Entries:
    """Entries whose scores of a subject go together, the first ``leading`` of them ``ahead``."""
    size = sum(subjects)
    sign = np.repeat([1, -1], subjects)[:, None]
    shared = rng.normal(size=(size, 1)), rng.normal(size=(size, CELLS))
    d = np.full(count, 1.0)
    d[:leading] += ahead
    right = np.empty((size, count))
    for at, gap in enumerate(d):
        own = rng.normal(size=(size, 1)), rng.normal(size=(size, CELLS))
        subject, cell = (
            np.sqrt(correlation) * both + np.sqrt(1 - correlation) * alone
            for both, alone in zip(shared, own, strict=True)
        )
        right[:, at] = ((sign * gap + BETWEEN * subject + WITHIN * cell > 0) == (sign > 0)).mean(axis=1)
    strata = strata_of(([CELLS] * subjects[0], [CELLS] * subjects[1]))
    parts = np.split(right, [subjects[0]])
    means = [part.mean(axis=0) for part in parts]
    without = [(part.sum(axis=0) - part) / (len(part) - 1) for part in parts]
    left_out = np.concatenate([(without[0] + means[1]) / 2, (means[0] + without[1]) / 2])
    truth = norm.cdf(d / np.hypot(BETWEEN, WITHIN))
    return Entries((means[0] + means[1]) / 2, influences(left_out, strata), strata, truth)
