"""Metrics of held-out scores, cell by cell and subject by subject, with intervals that resample subjects.

Conventions, the same everywhere:

- the predicted class of a row is the one with the highest score, of equals the first in ``classes``;
- a mean over classes goes over the classes that occur among the true labels (for ``f1_macro``: among true or predicted
  labels), as in scikit-learn;
- what is undefined (AUROC without a negative, say) is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: In the order of the columns that ``_Rows.figures`` returns.
_METRICS = ("accuracy", "balanced_accuracy", "f1_weighted", "f1_macro", "auroc", "sensitivity", "specificity")

#: Weights that a chunk of replicates may hold, rows by replicates: 4 million are 32 MB.
_CHUNK = 4_000_000

#: Rounds of redrawing replicates that lost a class. A class in 2 of many groups is lost once in 7 draws, so that even
#: ten such classes leave less than one replicate in a thousand after 30 rounds.
_REDRAWS = 30

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]


def default_positive(classes: _Labels) -> str:
    """The class of two that sensitivity is about: 'all' beside 'hem', else the second, as in scikit-learn."""
    return "all" if {str(label) for label in classes} == {"all", "hem"} else str(classes[1])


def image_metrics(y: ArrayLike, proba: ArrayLike, classes: _Labels, positive: str | None = None) -> dict[str, float]:
    """Metrics of n scored rows.

    Parameters
    ----------
    y : n labels, each one of ``classes``.
    proba : float (n, K) scores, a column for each class.
    classes : K >= 2 labels.
    positive : for two classes, the one that sensitivity and AUROC are about; None takes ``default_positive``.

    Returns
    -------
    accuracy : share of rows whose predicted class is the true one.
    balanced_accuracy : mean over classes of the share of its rows that is recognised.
    f1_weighted, f1_macro : mean over classes of 2 TP / (2 TP + FP + FN), weighted by the class's rows, or not.
    auroc : probability that a positive row scores higher than a negative one, ties counted half (Hanley and McNeil
        1982, Radiology 143:29-36); for more than two classes, the mean over classes of each against the rest.
    sensitivity, specificity : share of positive rows called positive, and of the others called otherwise; for more
        than two classes, the mean over classes of each against the rest.

    All without unit, 0 to 1, or NaN.

    Raises
    ------
    ValueError : shapes that disagree, no rows, scores that are not finite, or an unknown label.
    """
    rows = _rows(y, proba, classes, np.zeros(len(np.asarray(proba)), np.intp), positive)
    return dict(zip(_METRICS, rows.figures(np.ones((1, 1)))[0].tolist(), strict=True))


def by_subject(y: ArrayLike, proba: ArrayLike, groups: ArrayLike) -> tuple[NDArray[Any], _Floats, NDArray[np.intp]]:
    """One row for each group and label: the mean score of its cells.

    A leukaemic subject gives one row. A subject whose cells are of several types gives one row for each type.

    Parameters
    ----------
    y, proba, groups : n labels, float (n, K) scores, n group numbers.

    Returns
    -------
    labels (m,), float64 (m, K) mean scores, intp (m,) groups; ordered by group, then label.
    """
    labels, codes = np.unique(np.asarray(y, object).astype(str), return_inverse=True)
    numbers, ids = np.unique(np.asarray(groups), return_inverse=True)
    pairs, row = np.unique(ids * len(labels) + codes, return_inverse=True)
    scores = np.asarray(proba, np.float64)
    sums = np.column_stack([np.bincount(row, column, len(pairs)) for column in scores.T])
    group, label = np.divmod(pairs, len(labels))
    return labels[label], sums / np.bincount(row)[:, None], numbers[group].astype(np.intp)


def evaluate(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    *,
    positive: str | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics of held-out scores at both levels, with 95% intervals by resampling groups.

    Cells of one subject are alike, so a subject is drawn with all its cells or not at all: the cluster bootstrap of
    Field and Welsh (2007), J. R. Statist. Soc. B 69(3):369-390, with percentile intervals. Where every group has one
    label, groups are drawn within each label, as many as there are: how many leukaemic and healthy subjects were
    included is a choice, not chance (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.2).
    Where groups hold several labels they are drawn from all, and a replicate that lost a class is drawn again. Both
    levels use the same draws. With a group for every cell this is the ordinary bootstrap.

    Parameters
    ----------
    y, proba, classes, positive : see ``image_metrics``.
    groups : n group numbers, the unit that is resampled.
    n_boot : replicates.
    seed : the same seed gives the same intervals.

    Returns
    -------
    Plain values: "image" and "subject" hold {metric: {"value", "low", "high"}}; "n_images", "n_subjects" (groups);
    "classes"; "positive" (None for more than two classes); "confusion", the counts of cells, a row for each true and a
    column for each predicted class. "low" and "high" are NaN where a class that occurs has a single group: nothing is
    known then of how its subjects differ.

    Raises
    ------
    ValueError : see ``image_metrics``.
    """
    images = _rows(y, proba, classes, groups, positive)
    labels, means, numbers = by_subject(y, proba, groups)
    subjects = _rows(labels, means, classes, numbers, positive)
    bounds = _intervals([images, subjects], n_boot, np.random.default_rng(seed))
    everyone = np.ones((images.n_groups, 1))
    result: dict[str, Any] = {
        level: {
            metric: {"value": value, "low": low, "high": high}
            for metric, value, low, high in zip(_METRICS, rows.figures(everyone)[0].tolist(), *bound, strict=True)
        }
        for level, rows, bound in zip(("image", "subject"), (images, subjects), bounds, strict=True)
    }
    names = [str(label) for label in classes]
    return result | {
        "n_images": len(images.codes),
        "n_subjects": images.n_groups,
        "classes": names,
        "positive": None if images.positive is None else names[images.positive],
        "confusion": images.confusions(everyone)[0].astype(int).tolist(),
    }


# ---- many replicates at once ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Scored rows of one level, ready to be judged under any weights of their groups.

    Attributes
    ----------
    codes : intp (n,), the true class.
    scores : float64 (n, K).
    groups : intp (n,), 0 to n_groups - 1.
    positive : column of the positive class, None for more than two classes.
    counts : float64 (n_groups, K * K), the confusion counts of each group.
    pairs : what AUROC needs, of the positive class or, for more than two classes, of each.
    """

    codes: NDArray[np.intp]
    scores: _Floats
    groups: NDArray[np.intp]
    n_groups: int
    positive: int | None
    counts: _Floats
    pairs: tuple[_Pairs, ...]

    def confusions(self, weights: _Floats) -> _Floats:
        """float64 (B, K, K) weighted confusion counts for weights (n_groups, B); true classes along the rows."""
        k = self.scores.shape[1]
        return (weights.T @ self.counts).reshape(-1, k, k)

    def figures(self, weights: _Floats) -> _Floats:
        """float64 (B, metrics) for weights (n_groups, B) of whole numbers: how often each group was drawn."""
        confusions = self.confusions(weights)
        hits = np.diagonal(confusions, axis1=1, axis2=2)
        true, called = confusions.sum(axis=2), confusions.sum(axis=1)
        total = true.sum(axis=1, keepdims=True)
        occurs = true > 0
        recall = _ratio(hits, true)
        others_right = _ratio(total - true - called + hits, total - true)
        f1 = _ratio(2 * hits, true + called)
        if self.positive is None:
            auroc = _mean(np.stack([pairs.auroc(weights) for pairs in self.pairs], axis=1), occurs)
            sensitivity, specificity = _mean(recall, occurs), _mean(others_right, occurs)
        else:
            auroc = self.pairs[0].auroc(weights)
            sensitivity, specificity = recall[:, self.positive], others_right[:, self.positive]
        return np.column_stack(
            [
                hits.sum(axis=1) / total[:, 0],
                _mean(recall, occurs),
                np.nansum(f1 * true, axis=1) / total[:, 0],
                _mean(f1, true + called > 0),
                auroc,
                sensitivity,
                specificity,
            ]
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Rows of one class and of the rest, sorted for the Mann-Whitney statistic under weights.

    Attributes
    ----------
    positives, negatives : intp group of each row of the class, and of each other row in ascending order of score.
    below, upto : intp, for each positive the number of negatives that score less, and no more.
    wins : float64 (groups, groups) or None: how often a positive of the one group beats a negative of the other.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]
    wins: _Floats | None

    @classmethod
    def of(cls, score: _Floats, is_positive: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int) -> _Pairs:
        negatives = np.flatnonzero(~is_positive)
        negatives = negatives[np.argsort(score[negatives], kind="stable")]
        # In order of score too: the look-ups in ``_won`` then walk through memory instead of jumping.
        positives = np.flatnonzero(is_positive)
        positives = positives[np.argsort(score[positives], kind="stable")]
        against = score[negatives]
        below, upto = (np.searchsorted(against, score[positives], side) for side in ("left", "right"))
        pairs = cls(groups[positives], groups[negatives], below, upto, None)
        if n_groups * len(score) > _CHUNK:
            return pairs
        # Few groups: count the pairs between groups once, so that a replicate costs groups**2 instead of rows.
        wins = np.zeros((n_groups, n_groups))
        np.add.at(wins, pairs.positives, pairs._won(np.eye(n_groups)))
        return cls(pairs.positives, pairs.negatives, below, upto, wins)

    def auroc(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (n_groups, B); NaN without a positive or a negative."""
        if self.wins is not None:
            won = np.einsum("gb,gb->b", weights, self.wins @ weights)
        else:
            won = np.einsum("ib,ib->b", weights[self.positives], self._won(weights))
        sizes = [np.bincount(part, minlength=len(weights)) @ weights for part in (self.positives, self.negatives)]
        return _ratio(won, sizes[0] * sizes[1])

    def _won(self, weights: _Floats) -> _Floats:
        """float64 (positives, B): weight of the negatives that each positive beats, those it ties with by half."""
        total = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=total[1:])
        return (total[self.below] + total[self.upto]) / 2


def _rows(y: ArrayLike, proba: ArrayLike, classes: _Labels, groups: ArrayLike, positive: str | None) -> _Rows:
    """Check everything once, and prepare it."""
    names = [str(label) for label in classes]
    labels = np.asarray(y, object).astype(str)
    scores = np.asarray(proba, np.float64)
    ids = np.asarray(groups)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"two or more different classes are needed, not {names}")
    if scores.shape != (len(labels), len(names)) or ids.shape != labels.shape or not len(labels):
        raise ValueError(
            f"labels {labels.shape}, scores {scores.shape}, groups {ids.shape} and {len(names)} classes disagree"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if unknown := sorted(set(labels.tolist()) - set(names)):
        raise ValueError(f"labels {unknown} are none of the classes {names}")
    if positive is not None and (len(names) > 2 or str(positive) not in names):
        raise ValueError(f"'{positive}' cannot be the positive class of {names}")
    codes = np.array([names.index(label) for label in labels.tolist()], np.intp)
    numbers, rank = np.unique(ids, return_inverse=True)
    k = len(names)
    column = names.index(str(positive or default_positive(names))) if k == 2 else None
    ranked = range(k) if column is None else [column]
    cell = (rank * k + codes) * k + scores.argmax(axis=1)
    return _Rows(
        codes=codes,
        scores=scores,
        groups=rank,
        n_groups=len(numbers),
        positive=column,
        counts=np.bincount(cell, minlength=len(numbers) * k * k).reshape(len(numbers), k * k).astype(np.float64),
        pairs=tuple(_Pairs.of(scores[:, c], codes == c, rank, len(numbers)) for c in ranked),
    )


def _intervals(levels: Sequence[_Rows], n_boot: int, rng: np.random.Generator) -> list[tuple[list[float], list[float]]]:
    """For each level, the lower and the upper bounds of all metrics from the same draws of groups."""
    images = levels[0]
    k = images.scores.shape[1]
    holds = np.zeros((images.n_groups, k), bool)
    holds[images.groups, images.codes] = True
    per_class = holds.sum(axis=0)
    if per_class[per_class > 0].min() < 2:
        unknown = [float("nan")] * len(_METRICS)
        return [(unknown, unknown) for _ in levels]
    size = max(1, _CHUNK // len(images.codes))
    parts: list[list[_Floats]] = [[] for _ in levels]
    for start in range(0, n_boot, size):
        weights = _draw(holds, min(size, n_boot - start), rng)
        for part, level in zip(parts, levels, strict=True):
            part.append(level.figures(weights))
    bounds = []
    for part in parts:
        replicates = np.concatenate(part)
        defined = ~np.isnan(replicates).all(axis=0)
        both = np.full((2, len(_METRICS)), np.nan)
        both[:, defined] = np.nanquantile(replicates[:, defined], (0.025, 0.975), axis=0)
        bounds.append((both[0].tolist(), both[1].tolist()))
    return bounds


def _draw(holds: NDArray[np.bool_], n_boot: int, rng: np.random.Generator) -> _Floats:
    """float64 (groups, n_boot): how often each group is drawn; ``holds`` says which classes a group has."""
    if (holds.sum(axis=1) == 1).all():
        strata = [np.flatnonzero(column) for column in holds.T if column.any()]
        return _draw_within(strata, len(holds), n_boot, rng)
    everyone = [np.arange(len(holds))]
    weights = _draw_within(everyone, len(holds), n_boot, rng)
    needed = holds[:, holds.any(axis=0)].astype(np.float64)
    for _ in range(_REDRAWS):
        lost = np.flatnonzero((needed.T @ weights == 0).any(axis=0))
        if not len(lost):
            break
        weights[:, lost] = _draw_within(everyone, len(holds), len(lost), rng)
    return weights


def _draw_within(strata: Sequence[NDArray[np.intp]], n_groups: int, n_boot: int, rng: np.random.Generator) -> _Floats:
    """Draw from each stratum as many groups as it has, with replacement."""
    weights = np.zeros((n_groups, n_boot))
    for members in strata:
        drawn = rng.integers(len(members), size=(len(members), n_boot)) * n_boot + np.arange(n_boot)
        weights[members] = np.bincount(drawn.ravel(), minlength=len(members) * n_boot).reshape(-1, n_boot)
    return weights


def _ratio(part: _Floats, whole: _Floats) -> _Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean(values: _Floats, where: NDArray[np.bool_]) -> _Floats:
    """float64 (B,): mean of the chosen entries of each row of (B, K); NaN if one of them is, or there are none."""
    return _ratio(np.where(where, values, 0).sum(axis=1), where.sum(axis=1).astype(np.float64))
