"""Metrics of held-out scores, cell by cell and subject by subject, with intervals that resample subjects.

Conventions, the same everywhere:

- the predicted class of a row is the one with the highest score, of equals the first in ``classes``; where there is a
  threshold, the positive class from there on (a subject's mean score is held against its cells' mean threshold);
- a mean over classes goes over the classes that occur among the true labels (for ``f1_macro``: among true or predicted
  labels), as in scikit-learn;
- what is undefined (AUROC without a negative, say) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.metrics import scored_rows as rows_module
from fusion.metrics.cluster_bootstrap import bca, can_be_drawn, draw_groups, strata_of
from fusion.metrics.scored_rows import METRICS, ScoredRows, default_positive, prepare
from fusion.metrics.subject_level import label_of_subjects, pool_subjects

__all__ = [
    "LEVELS",
    "METRICS",
    "Judgement",
    "default_positive",
    "image_metrics",
    "judge_scores",
    "pooled",
]

#: Cell by cell; subject by subject by the mean of its cells' scores, and by the majority of its cells.
LEVELS = ("image", "subject", "vote")

#: Groups up to which each is left out once for BCa intervals. With more, replicates are near normal, and leaving out
#: ten thousand images one by one would take longer than the bootstrap.
MOST_LEFT_OUT = 500

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]


def image_metrics(
    y: ArrayLike, proba: ArrayLike, classes: _Labels, positive: str | None = None, prevalence: float = 0.5
) -> dict[str, float]:
    """Metrics of n scored rows.

    Parameters
    ----------
    y : n labels, each one of ``classes``.
    proba : float (n, K) scores, a column for each class.
    classes : K >= 2 labels.
    positive : for two classes, the one that sensitivity and AUROC are about; None takes ``default_positive``.
    prevalence : share of positives for which PPV and NPV are reported.

    Returns
    -------
    accuracy : share of rows whose predicted class is the true one.
    balanced_accuracy : mean over classes of the share of its rows that is recognised.
    f1_weighted, f1_macro : mean over classes of 2 TP / (2 TP + FP + FN), weighted by the class's rows, or not.
    auroc : probability that a positive row scores higher than a negative one, ties counted half (Hanley and McNeil
        1982, Radiology 143:29-36); for more than two classes, the mean over classes of each against the rest.
    sensitivity, specificity : share of positive rows predicted positive, and of the others predicted otherwise; for
        more than two classes, the mean over classes of each against the rest.
    mcc : correlation of true and predicted class, -1 to 1 (Matthews 1975, Biochim. Biophys. Acta 405:442-451; for more
        than two classes Gorodkin 2004, Comput. Biol. Chem. 28:367-374).
    auprc : average precision, the area under the precision-recall curve as a staircase; for more than two classes the
        mean over classes of each against the rest. Chance is the share of positives, not 0.5.
    ppv, npv : share of the rows called positive that are, and of those predicted otherwise, had ``prevalence`` of the
        rows been positive (Bayes' rule on sensitivity and specificity); for more than two classes, the mean over
        classes of each against the rest.
    brier : mean squared error of the scores, 0 to 1; for more than two classes summed over classes, 0 to 2 (Brier 1950,
        Mon. Weather Rev. 78:1-3).
    log_loss : mean of -ln(score of the true class), in nats, from 0.
    ece : expected calibration error, the mean distance between confidence and share of hits over 15 bins of equally
        many rows (Nguyen and O'Connor 2015, EMNLP, 1587-1598). Its bins are those of all rows in every replicate.

    All without unit but ``log_loss``; 0 to 1 where nothing else is said; or NaN. Our classifiers weigh classes alike,
    so that their scores mean "if classes were equally common": where they are not, ``brier``, ``log_loss`` and ``ece``
    count that difference too.

    Raises
    ------
    ValueError : shapes that disagree, no rows, scores that are not finite, or an unknown label.
    """
    rows = prepare(y, proba, classes, np.zeros(len(np.asarray(proba)), np.intp), positive, prevalence)
    return dict(zip(METRICS, rows.figures(np.ones((1, 1)))[0].tolist(), strict=True))


def predicted_classes(scores: _Floats, threshold: _Floats | None, positive: int | None) -> NDArray[np.intp]:
    """intp (n,), the column of each row's predicted class.

    Parameters
    ----------
    scores : float64 (n, K).
    threshold : float64 (n,), from which score of column ``positive`` on a row of two classes is predicted positive;
        None takes the highest score.
    """
    if threshold is None or positive is None:
        return scores.argmax(axis=1)
    return np.where(scores[:, positive] >= threshold, positive, 1 - positive)


@dataclass(frozen=True, eq=False)
class Judgement:
    """The performance of scores.

    Attributes
    ----------
    figures : plain values: "image", "subject" (mean score of its cells) and "vote" (majority of its cells) hold
        {metric: {"value", "low", "high", "method"}}, the last "bca", "percentile" or "none"; "left_out" says why there
        are no figures of subjects (NaN, then), "" where there are; "n_images", "n_subjects"
        (groups); "classes"; "positive" (None for more than two classes); "prevalence"; "confusion", the counts of
        cells, a row for each true and a column for each predicted class, summed over repeats. "low" and "high" are NaN
        where a class that occurs has a single group: nothing is known then of how its subjects differ.
    replicates : for each level float64 (n_boot, metrics), columns as in ``rows.METRICS``. The same seed on the same
        cells draws the same subjects, so that differences between replicates of two results are replicates of the
        difference. Empty (0 rows) where there is no interval.
    """

    figures: dict[str, Any]
    replicates: dict[str, _Floats]


def judge_scores(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    *,
    positive: str | None = None,
    prevalence: float = 0.5,
    n_boot: int = 2000,
    seed: int = 0,
    threshold: _Floats | None = None,
    subjects: ArrayLike | None = None,
    subject_labels: Sequence[str | None] | None = None,
) -> Judgement:
    """Metrics of held-out scores at all levels, with 95% intervals by resampling groups.

    Cells of one subject are alike, so a subject is drawn with all its cells or not at all: the cluster bootstrap of
    Field and Welsh (2007), J. R. Statist. Soc. B 69(3):369-390, with BCa intervals (``bca``) where they can
    be had and there are at most 500 groups, else with percentile intervals. Where every group has one label, groups
    are drawn within each label, as many as there are: how many leukaemic and healthy subjects were included is a
    choice, not chance (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.2).
    Where groups hold several labels they are drawn from all, and a replicate that lost a class is drawn again. All
    levels use the same draws. With a group for every cell this is the ordinary bootstrap.

    Parameters
    ----------
    y, classes, positive, prevalence : see ``image_metrics``.
    proba : float (n, K), or (repeats, n, K) with NaN for cells that a repeat did not test. Repeats are pooled: a cell
        scored in five repeats is five rows of one group.
    groups : n group numbers, the unit that is resampled.
    n_boot : replicates.
    seed : the same seed gives the same intervals.
    threshold : float64 (n,) or (repeats, n), the threshold of each cell in each repeat; see ``predicted_classes``.
    subjects : n numbers of the cells' subjects, who are pooled one by one; a group may hold several, who share an
        image, say. None takes the groups.
    subject_labels : n labels of the cells' subjects, one of ``classes`` each, which the figures of subjects are about
        then; None takes the class of a subject's cells. See ``fusion.metrics.subject_level``.

    Raises
    ------
    ValueError : see ``image_metrics``.
    """
    levels, left_out = _levels(y, proba, classes, groups, positive, prevalence, threshold, subjects, subject_labels)
    images = levels["image"]
    holds = np.zeros((images.n_groups, images.scores.shape[1]), bool)
    holds[images.groups, images.codes] = True
    replicates = _replicates(levels, holds, n_boot, np.random.default_rng(seed))
    everyone = np.ones((images.n_groups, 1))
    names = [str(label) for label in classes]
    tested = _tested(np.asarray(proba, np.float64))
    figures = _with_intervals(levels, holds, replicates) | {
        "left_out": left_out,
        "n_images": int(tested.any(axis=0).sum()),
        "n_subjects": images.n_groups,
        "classes": names,
        "positive": None if images.positive is None else names[images.positive],
        "prevalence": prevalence,
        "confusion": images.confusions(everyone)[0].astype(int).tolist(),
    }
    return Judgement(figures, replicates)


def _with_intervals(
    levels: Mapping[str, ScoredRows], holds: NDArray[np.bool_], replicates: Mapping[str, _Floats]
) -> dict[str, Any]:
    """Value and interval of every metric at every level."""
    left_out = _left_out(levels, holds)
    result: dict[str, Any] = {}
    for level, rows in levels.items():
        values = rows.figures(np.ones((len(holds), 1)))[0]
        low, high, is_bca = bca(values, replicates[level], left_out[level], strata_of(holds))
        result[level] = {
            metric: {"value": value, "low": lower, "high": upper, "method": _method(lower, corrected)}
            for metric, value, lower, upper, corrected in zip(
                METRICS, values.tolist(), low.tolist(), high.tolist(), is_bca.tolist(), strict=True
            )
        }
    unknown = {"value": math.nan, "low": math.nan, "high": math.nan, "method": "none"}
    return {level: result.get(level) or {metric: dict(unknown) for metric in METRICS} for level in LEVELS}


def pooled(
    y: ArrayLike, proba: ArrayLike, groups: ArrayLike
) -> tuple[NDArray[Any], _Floats, NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """The tested (repeat, cell) pairs as rows: labels, scores (m, K), groups, repeat numbers, cell numbers."""
    scores = np.asarray(proba, np.float64)
    scores = scores[None] if scores.ndim == 2 else scores
    labels, ids = np.asarray(y, object).astype(str), np.asarray(groups)
    if scores.shape[1] != len(labels) or ids.shape != labels.shape:
        raise ValueError(f"labels {labels.shape}, scores {scores.shape} and groups {ids.shape} disagree")
    repeat, cell = np.nonzero(_tested(scores))
    return labels[cell], scores[repeat, cell], ids[cell], repeat, cell


def _tested(scores: _Floats) -> NDArray[np.bool_]:
    """bool (repeats, n): which cells have a score. Without repeats all must have, and NaN among them is a fault."""
    if scores.ndim == 2:
        return np.ones((1, len(scores)), bool)
    return np.asarray(~np.isnan(scores).all(axis=2))


def _levels(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    positive: str | None,
    prevalence: float,
    threshold: _Floats | None,
    subjects: ArrayLike | None,
    subject_labels: Sequence[str | None] | None,
) -> tuple[dict[str, ScoredRows], str]:
    """Rows by level, and why there are none of subjects."""
    labels, scores, ids, repeat, cell = pooled(y, proba, groups)
    names = [str(label) for label in classes]
    column = names.index(str(positive)) if positive is not None else None
    thresholds = None if threshold is None else np.atleast_2d(threshold)[repeat, cell]
    predicted = predicted_classes(scores, thresholds, column)
    images = prepare(labels, scores, classes, ids, positive, prevalence, predicted=predicted)
    levels = {"image": images}
    who = np.unique(groups if subjects is None else np.asarray(subjects), return_inverse=True)[1]
    own, reason = label_of_subjects(
        labels, who[cell], None if subject_labels is None else [subject_labels[at] for at in cell.tolist()]
    )
    if own is None:
        return levels, reason
    # A subject is scored anew in each repeat: its row is that of one repeat, not the mean over all.
    rows = pool_subjects(own, scores, repeat * (who.max() + 1) + who[cell], predicted, thresholds)
    everyone, of = np.arange(images.n_groups), images.groups[rows.first]
    for level, of_level, limit in (("subject", rows.means, rows.threshold), ("vote", rows.votes, None)):
        by_mean = predicted_classes(of_level, limit, column)
        levels[level] = prepare(rows.labels, of_level, classes, of, positive, prevalence, everyone, predicted=by_mean)
    return levels, ""


def _method(low: float, corrected: bool) -> str:
    """How an interval was made."""
    if np.isnan(low):
        return "none"
    return "bca" if corrected else "percentile"


def _replicates(
    levels: Mapping[str, ScoredRows], holds: NDArray[np.bool_], n_boot: int, rng: np.random.Generator
) -> dict[str, _Floats]:
    """For each level float64 (n_boot, metrics) from the same draws of groups; no rows where none can be drawn."""
    if not can_be_drawn(holds):
        return {level: np.empty((0, len(METRICS))) for level in levels}
    size = _chunk(levels)
    return _figures_of_levels(
        levels, (draw_groups(holds, min(size, n_boot - at), rng) for at in range(0, n_boot, size))
    )


def _left_out(levels: Mapping[str, ScoredRows], holds: NDArray[np.bool_]) -> dict[str, _Floats]:
    """For each level float64 (groups, metrics) without each group; no rows where there is no interval, or too many."""
    if not can_be_drawn(holds) or len(holds) > MOST_LEFT_OUT:
        return {level: np.empty((0, len(METRICS))) for level in levels}
    everyone_but_one, size = 1 - np.eye(len(holds)), _chunk(levels)
    return _figures_of_levels(levels, (everyone_but_one[:, at : at + size] for at in range(0, len(holds), size)))


def _chunk(levels: Mapping[str, ScoredRows]) -> int:
    return max(1, rows_module.CHUNK // len(levels["image"].codes))


def _figures_of_levels(levels: Mapping[str, ScoredRows], parts: Iterable[_Floats]) -> dict[str, _Floats]:
    """For each level the figures under all weights, part after part."""
    found: dict[str, list[_Floats]] = {level: [] for level in levels}
    for weights in parts:
        for level, rows in levels.items():
            found[level].append(rows.figures(weights))
    return {level: np.concatenate(part) for level, part in found.items()}
