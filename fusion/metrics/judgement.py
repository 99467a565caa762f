"""Every figure of held-out scores with its interval: what it is about, how many subjects it rests on, and what must be
read with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.metrics._ranked_rows import ratio
from fusion.metrics.absent_classes import absent_classes, left_out_figures, mean_note
from fusion.metrics.classification import (
    LEVELS,
    pooled,
    predicted_classes,
    tested,
)
from fusion.metrics.jackknife import Spread, Strata, influences, intervals, spread_of, spread_of_procedure
from fusion.metrics.scored_rows import AT_PREVALENCE, METRICS, RECALLS_AND_AREAS, ScoredRows, as_told, prepare
from fusion.metrics.subject_level import label_of_subjects, pool_subjects

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]

#: Subjects a class below which every figure carries a note.
FEW_SUBJECTS = 10

#: Kish's effective share of the subjects below which a figure by cells has one beside it in which subjects weigh alike.
_UNEVEN = 0.7

#: Groups up to which subjects are weighed alike; above, they are single cells or nearly.
_MOST_WEIGHED = 500

#: The kinds of figures: of these fitted models on other subjects of this kind, and of this way of building a model,
#: trained anew on as many subjects.
MODELS, PROCEDURE = "models", "procedure"


@dataclass(frozen=True, eq=False)
class Judgement:
    """The performance of scores.

    Attributes
    ----------
    figures : plain values: "image", "subject" (mean score of its cells) and "vote" (majority of its cells) hold
        {metric: figure}; "n_images", "n_subjects" (groups); "classes"; "positive" (None for more than two classes);
        "absent", classes without a cell, for which some figures are NaN and say why in their notes; "prevalence";
        "confusion", the counts of cells, a row for each true and a column for each predicted class, summed over
        repeats; "left_out", why there are no figures of subjects (NaN, then), "" where there are.
        A figure is {"value", "low", "high", "kind", "method", "subjects", "effective_subjects", "note"}: a 95%
        interval, never without width, NaN where there is none; "procedure" where several models scored the cells,
        "models" else; "jackknife", "exact" or "none"; subjects of each class, and Kish's effective number of them; and
        what must be read with it, or "". A figure of the procedure has "models" {"low", "high"} too.
        Where subjects have very different numbers of cells, four figures of the level "image" also have
        "subject_weighted": {"value", "low", "high"}, in which each subject counts alike.
    influences : for each judged level float64 (groups, metrics), columns as in ``METRICS``: sums of squares are
        variances, those of differences between two results on the same cells are variances of the difference.
    strata : for each judged level, the samples that the groups are of.
    by_repeat : for each judged level float64 (repeats, groups, metrics), the influences of each repeat by itself; empty
        where there are not several that test every group.
    test_share : share of the groups that a model was tested on; None for scores of a single model.
    """

    figures: dict[str, Any]
    influences: dict[str, _Floats]
    strata: dict[str, Strata]
    by_repeat: dict[str, _Floats]
    test_share: float | None


def judge_scores(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    *,
    positive: str | None = None,
    prevalence: float = 0.5,
    threshold: _Floats | None = None,
    costs: _Floats | None = None,
    folds: ArrayLike | None = None,
    subjects: ArrayLike | None = None,
    subject_labels: Sequence[str | None] | None = None,
) -> Judgement:
    """Metrics of held-out scores at all levels, with 95% intervals over groups (``fusion.metrics.jackknife``).

    Cells of one subject are alike, so a subject is left out with all its cells or not at all. With a group for every
    cell, cells are taken as independent. Nothing is drawn at random.

    AUROC counts pairs of cells, and AUPRC ranks cells, that one model has scored, of the same fold and repeat, since
    scores of different models are not on one scale (LeDell, Petersen and van der Laan 2015, Electron. J. Stat.
    9:1583-1607). Where folds have one class each, as where subjects are left out in turn, they are of one repeat, and
    the figure's note says so.

    Parameters
    ----------
    y, classes, positive, prevalence : see ``image_metrics``.
    proba : float (n, K), or (repeats, n, K) with NaN for cells that a repeat did not test. Repeats are pooled: a cell
        scored in five repeats is five rows of one group.
    groups : n group numbers, the unit that is left out.
    threshold, costs : float64 (n,) or (repeats, n), the threshold of each cell in each repeat, and (n, K) or (repeats,
        n, K), what predicting each class is expected to cost; see ``predicted_classes``.
    folds : whole numbers (n,) or (repeats, n), which model of the repeat scored the cell; None for a single model.
    subjects : n numbers of the cells' subjects, who are pooled one by one; a group may hold several, who share an
        image, say. None takes the groups.
    subject_labels : n labels of the cells' subjects, one of ``classes`` each, which the figures of subjects are about
        then; None takes the class of a subject's cells. See ``fusion.metrics.subject_level``.

    Raises
    ------
    ValueError : see ``image_metrics``.
    """
    names = [str(label) for label in classes]
    scores = np.asarray(proba, np.float64)
    scores = scores[None] if scores.ndim == 2 else scores
    return _judge(
        _Given(y, names, groups, positive, prevalence, threshold, costs, folds, subjects, subject_labels), scores
    )


def _judge(held: _Given, scores: _Floats) -> Judgement:
    """Every level of what was given, and how it varies."""
    names, prevalence = held.names, held.prevalence
    levels, left_out, pairs_note = _levels(held, scores)
    images = levels["image"]
    repeats = _repeats(held, scores)
    test_share = _test_share(scores, held.folds)
    found: dict[str, Any] = {}
    influence, strata, by_repeat = {}, {}, {}
    for level in LEVELS:
        if level not in levels:
            found[level] = {metric: _unknown(left_out, test_share) for metric in METRICS}
            continue
        strata[level] = Strata.from_counts(levels[level].class_counts, names)
        influence[level] = influences(levels[level].left_out(), strata[level])
        by_repeat[level] = np.array([influences(rows[level].left_out(), strata[level]) for rows in repeats])
        models = spread_of(influence[level], strata[level])
        procedure = None
        if test_share is not None:
            procedure = spread_of_procedure(influence[level], by_repeat[level], strata[level], test_share)
        found[level] = _figures(levels[level], (models, procedure), strata[level], names, pairs_note)
        absent = absent_classes(levels[level].class_counts, names)
        reasons = left_out_figures(names, absent, levels[level].positive)
        found[level] |= {metric: _unknown(reason, test_share) for metric, reason in reasons.items()}
    _weigh_subjects(found["image"], images, strata["image"], names)
    everyone = np.ones((images.n_groups, 1))
    found |= {
        "n_images": int(tested(scores).any(axis=0).sum()),
        "n_subjects": images.n_groups,
        "classes": names,
        "positive": None if images.positive is None else names[images.positive],
        "absent": absent_classes(images.class_counts, names),
        "prevalence": prevalence,
        "confusion": images.confusions(everyone)[0].astype(int).tolist(),
        "left_out": left_out,
    }
    return Judgement(found, influence, strata, by_repeat, test_share)


def ranges_of(n_classes: int) -> tuple[_Floats, _Floats]:
    """The lower and upper end of every metric, float64 (metrics,) each."""
    low, high = np.zeros(len(METRICS)), np.ones(len(METRICS))
    low[METRICS.index("mcc")] = -1
    high[METRICS.index("log_loss")] = np.inf
    for metric in ("calibration_intercept", "calibration_slope", "ece"):
        low[METRICS.index(metric)], high[METRICS.index(metric)] = -np.inf, np.inf
    high[METRICS.index("brier")] = 1 if n_classes == 2 else 2
    return low, high


def subjects_behind(strata: Strata, names: Sequence[str], positive: int | None) -> NDArray[np.intp]:
    """intp (metrics,): groups of the smallest class that each metric is about."""
    found: NDArray[np.intp] = np.full(len(METRICS), strata.smallest, np.intp)
    if positive is not None:
        found[METRICS.index("sensitivity")] = strata.numbers.get(names[positive], 0)
        found[METRICS.index("specificity")] = strata.numbers.get(names[1 - positive], 0)
    return found


def few_subjects_note(strata: Strata) -> str:
    """What must be read with figures of few subjects; "" where every class has ten."""
    few = {name: number for name, number in strata.numbers.items() if number < FEW_SUBJECTS}
    listed = ", ".join(f"{number} of {name}" for name, number in few.items())
    if strata.smallest < 2:
        return f"no interval: a class has a single subject ({listed})" if few else "no interval: no subject"
    return f"few subjects: {listed}" if few else ""


def _figures(
    rows: ScoredRows, spreads: tuple[Spread, Spread | None], strata: Strata, names: Sequence[str], pairs_note: str
) -> dict[str, dict[str, Any]]:
    """Every metric of one level with its interval, of the procedure where that is known."""
    values = rows.figures(np.ones((rows.n_groups, 1)))[0]
    behind, ends = subjects_behind(strata, names, rows.positive), ranges_of(len(names))
    models, procedure = spreads
    is_share = [metric not in AT_PREVALENCE for metric in METRICS]

    def within(spread: Spread) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
        low, high, exact = intervals(values, spread, behind, *ends, is_share)
        if rows.positive is not None:
            low, high = _at_prevalence(low, high, exact, rows.prevalence)
        return low, high, exact

    low, high, exact = within(models if procedure is None else procedure)
    inner = None if procedure is None else within(models)
    note = few_subjects_note(strata)
    absent = absent_classes(rows.class_counts, names)
    found = {}
    for at, metric in enumerate(METRICS):
        notes = [note, mean_note(metric, names, absent), pairs_note if metric in ("auroc", "auprc") else ""]
        if np.isnan(low[at]) and not np.isnan(values[at]) and strata.smallest > 1:
            notes.append("no interval: it does not vary, or cannot be had without one of the subjects")
        found[metric] = {
            "value": float(as_told(metric, values[at])),
            "low": float(as_told(metric, low[at])),
            "high": float(as_told(metric, high[at])),
            "kind": MODELS if procedure is None else PROCEDURE,
            "method": "none" if np.isnan(low[at]) else ("exact" if exact[at] else "jackknife"),
            "subjects": dict(strata.numbers),
            "effective_subjects": dict(strata.effective),
            "note": "; ".join(part for part in notes if part),
        }
        if inner is not None:
            low_of_models, high_of_models = (float(as_told(metric, part[at])) for part in inner[:2])
            found[metric]["models"] = {"low": low_of_models, "high": high_of_models}
    return found


def _at_prevalence(low: _Floats, high: _Floats, exact: NDArray[np.bool_], prevalence: float) -> tuple[_Floats, _Floats]:
    """Bounds of every metric, those of PPV and NPV of two classes no further than from both ends of sensitivity and
    specificity: these are all that they depend on. Where neither varies that is what is known of them."""
    sensitivity, specificity = (
        np.array([end[METRICS.index(name)] for end in (low, high)]) for name in ("sensitivity", "specificity")
    )
    low, high = low.copy(), high.copy()
    for metric, own, other, share in (
        ("ppv", sensitivity, specificity, prevalence),
        ("npv", specificity, sensitivity, 1 - prevalence),
    ):
        at = METRICS.index(metric)
        right = own * share
        least, most = ratio(right, right + (1 - other) * (1 - share))
        low[at], high[at] = (least, most) if exact[at] else (np.maximum(low[at], least), np.minimum(high[at], most))
    return low, high


def _unknown(reason: str, test_share: float | None) -> dict[str, Any]:
    """A figure of a level that cannot be judged."""
    nothing = {"low": float("nan"), "high": float("nan")}
    return {
        "value": float("nan"),
        **nothing,
        "kind": MODELS if test_share is None else PROCEDURE,
        "method": "none",
        "subjects": {},
        "effective_subjects": {},
        "note": reason,
        **({} if test_share is None else {"models": dict(nothing)}),
    }


def _weigh_subjects(figures: dict[str, dict[str, Any]], rows: ScoredRows, strata: Strata, names: Sequence[str]) -> None:
    """Add what figures are where every subject counts alike, if subjects differ much in cells."""
    share = [strata.effective[name] / number for name, number in strata.numbers.items()]
    if not strata.is_pure or strata.smallest < 2 or min(share) >= _UNEVEN or rows.n_groups > _MOST_WEIGHED:
        return
    columns = [METRICS.index(metric) for metric in RECALLS_AND_AREAS]
    weights = 1 / rows.counts.sum(axis=1)
    weights /= weights.min()
    values = rows.recalls_and_areas(weights[:, None])[0]
    without = np.tile(weights[:, None], rows.n_groups)
    np.fill_diagonal(without, 0)
    alike = Strata(strata.of, strata.numbers, {name: float(n) for name, n in strata.numbers.items()}, True)
    influence = influences(rows.recalls_and_areas(without), alike)
    behind = subjects_behind(alike, names, rows.positive)[columns]
    low, high, _ = intervals(values, spread_of(influence, alike), behind, is_share=True)
    for at, metric in enumerate(RECALLS_AND_AREAS):
        figures[metric]["subject_weighted"] = {
            "value": float(values[at]),
            "low": float(low[at]),
            "high": float(high[at]),
        }


@dataclass(frozen=True, eq=False)
class _Given:
    """What ``judge_scores`` is told beside the scores."""

    y: ArrayLike
    names: list[str]
    groups: ArrayLike
    positive: str | None
    prevalence: float
    threshold: _Floats | None
    costs: _Floats | None
    folds: ArrayLike | None
    subjects: ArrayLike | None
    subject_labels: Sequence[str | None] | None

    def of_repeat(self, at: int) -> _Given:
        """Of one repeat, with pairs over all its folds: which rows share a fold is another thing in each repeat, and no
        part of what its models differ by."""
        threshold = None if self.threshold is None else np.atleast_2d(self.threshold)[at : at + 1]
        costs = None if self.costs is None else _of_rounds(self.costs)[at : at + 1]
        return replace(self, threshold=threshold, costs=costs, folds=None)


def _repeats(held: _Given, scores: _Floats) -> list[dict[str, ScoredRows]]:
    """The rows of each repeat by itself, where there are several that test every group."""
    if len(scores) < 2 or held.folds is None:
        return []
    ids, is_tested = np.asarray(held.groups), tested(scores)
    everyone = len(np.unique(ids[is_tested.any(axis=0)]))
    if any(len(np.unique(ids[of])) < everyone for of in is_tested):
        return []
    return [_levels(held.of_repeat(at), scores[at : at + 1])[0] for at in range(len(scores))]


def _test_share(scores: _Floats, folds: ArrayLike | None) -> float | None:
    """Mean share of a repeat's cells that one of its models was tested on; None where a single model scored all."""
    if folds is None:
        return None
    shares = []
    for of, is_tested in zip(np.atleast_2d(np.asarray(folds)), tested(scores), strict=True):
        counts = np.unique(of[is_tested], return_counts=True)[1]
        shares += (counts / len(of)).tolist()
    return float(np.mean(shares)) if len(shares) > 1 else None


def _levels(held: _Given, scores: _Floats) -> tuple[dict[str, ScoredRows], str, str]:
    """The rows of each level that can be judged, why there are none of subjects, and a note on AUROC's pairs."""
    names, positive, prevalence = held.names, held.positive, held.prevalence
    threshold, folds = held.threshold, held.folds
    labels, scores, ids, repeat, cell = pooled(held.y, scores, held.groups)
    column = names.index(str(positive)) if positive in names else None
    thresholds = None if threshold is None else np.atleast_2d(threshold)[repeat, cell]
    costs = None if held.costs is None else _of_rounds(held.costs)[repeat, cell]
    predicted = predicted_classes(scores, thresholds, column, costs)
    fold = np.zeros(len(cell), np.intp) if folds is None else np.atleast_2d(np.asarray(folds))[repeat, cell]
    parts, note = comparable_parts(labels, repeat, fold)
    images = prepare(labels, scores, names, ids, positive, prevalence, predicted=predicted, parts=parts)
    levels = {"image": images}
    who = np.unique(ids if held.subjects is None else np.asarray(held.subjects)[cell], return_inverse=True)[1]
    owned = held.subject_labels
    own, reason = label_of_subjects(labels, who, None if owned is None else [owned[at] for at in cell.tolist()])
    if own is None:
        return levels, reason, note
    # A subject is scored anew in each repeat: its row is that of one repeat, not the mean over all.
    apart = repeat * (int(who.max(initial=0)) + 1) + who
    pool = pool_subjects(own, scores, apart, predicted, thresholds, costs)
    row_of = np.unique(apart, return_inverse=True)[1]
    # Subjects with cells in several folds are of no one model.
    is_whole = bool((parts == parts[pool.first][row_of]).all())
    pooled_levels = (("subject", pool.means, pool.threshold, pool.costs), ("vote", pool.votes, None, None))
    for level, means, limit, cost in pooled_levels:
        levels[level] = prepare(
            pool.labels,
            means,
            names,
            images.groups[pool.first],
            positive,
            prevalence,
            np.arange(images.n_groups),
            predicted=predicted_classes(means, limit, column, cost),
            parts=(parts if is_whole else repeat)[pool.first],
        )
    return levels, "", note


def _of_rounds(costs: _Floats) -> _Floats:
    """float64 (repeats, n, K)."""
    return costs[None] if costs.ndim == 2 else costs


def comparable_parts(
    labels: NDArray[Any], repeat: NDArray[np.intp], fold: NDArray[np.intp]
) -> tuple[NDArray[np.intp], str]:
    """intp (rows,): what AUROC's pairs must have in common, and a note where that is not the model."""
    models = np.unique(repeat * (int(fold.max(initial=0)) + 1) + fold, return_inverse=True)[1]
    codes = np.unique(labels, return_inverse=True)[1]
    held = np.zeros((models.max(initial=0) + 1, codes.max(initial=0) + 1), bool)
    held[models, codes] = True
    several = held.sum(axis=1) > 1
    if not held.any(axis=0).sum() > 1 or several[models].mean() > 0.5:
        return models, ""
    return repeat, "AUROC and AUPRC rank scores of different models: most folds have one class"
