"""The figures of each class against the rest, with intervals: what means over classes hide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.metrics.classification import pooled
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of, spread_of_procedure
from fusion.metrics.scored_rows import ScoredRows, prepare

_Floats = NDArray[np.float64]

#: The figures of a class: of its cells (the share that is recognised, and the mean probability that they are given of
#: it), of what is predicted as it, of both, of the other cells, and of pairs of cells.
CLASS_METRICS = (
    "sensitivity",
    "mean_probability",
    "precision",
    "f1",
    "specificity",
    "auroc",
    "calibration_intercept",
    "calibration_slope",
)

#: Those that have no end on either side.
_FREE = ("calibration_intercept", "calibration_slope")


def class_figures(result: Result, at: int) -> list[dict[str, Any]]:
    """Every class of one entry, cell by cell.

    Returns
    -------
    Plain values: "class", "cells", "subjects", and {"value", "low", "high"} of every metric of ``CLASS_METRICS``.
    Precision is at the shares of classes among these cells; it is NaN, as F1 is, where these are all of the class or
    none is, since it is 1 or 0 then whatever the scores. Intervals are those of ``metrics.judgement``: of the
    procedure where several models scored the cells.
    """
    scores = result.scores[at]
    tested = (scores.fold >= 0).any(axis=1)
    whole = _rows(result, at, np.flatnonzero(tested))
    names = list(result.classes)
    strata = Strata.from_counts(whole.class_counts, names)
    everyone = np.ones((whole.n_groups, 1))
    sums = _own_probabilities(whole)
    areas = [pairs.auroc(everyone) for pairs in whole.pairs]
    values = _values(whole.confusions(everyone), sums.sum(axis=0, keepdims=True), areas)
    recalibrated = [part.values(everyone) for part in whole.recalibrations]
    values = _with_calibration(values, recalibrated, result)[0]
    influence = influences(_left_out(whole, result), strata)
    models = int(np.sum([len(np.unique(fold[fold >= 0])) for fold in scores.fold]))
    if models > 1:
        repeats = [_rows(result, at, np.array([repeat])) for repeat in np.flatnonzero(tested)]
        is_whole = all(len(np.unique(rows.groups)) == whole.n_groups for rows in repeats)
        by_repeat = np.array([influences(_left_out(rows, result), strata) for rows in repeats]) if is_whole else None
        share = float(np.mean([1 / max(2, len(np.unique(fold[fold >= 0]))) for fold in scores.fold[tested]]))
        spread = spread_of_procedure(influence, by_repeat, strata, share)
    else:
        spread = spread_of(influence, strata)
    ends = [(-np.inf, np.inf) if metric in _FREE else (0.0, 1.0) for _ in names for metric in CLASS_METRICS]
    # Of a class without cells there is its specificity alone, which the cells of the others tell.
    behind = [strata.numbers.get(name, strata.smallest) for name in names for _ in CLASS_METRICS]
    bottom, top = np.array(ends).T
    low, high, _ = intervals(values, spread, behind, bottom, top, is_share=True)
    found = []
    for which, name in enumerate(names):
        row: dict[str, Any] = {
            "class": name,
            "cells": int(np.count_nonzero(np.array(result.cells.y, object) == name)),
            "subjects": strata.numbers.get(name, 0),
        }
        for column, metric in enumerate(CLASS_METRICS):
            place = which * len(CLASS_METRICS) + column
            row[metric] = {part: float(of[place]) for part, of in (("value", values), ("low", low), ("high", high))}
        found.append(row)
    return found


def _rows(result: Result, at: int, repeats: NDArray[np.intp]) -> ScoredRows:
    """The scored rows of these repeats, in the groups of all cells that were tested."""
    scores, cells = result.scores[at], result.cells
    y, proba, ids, repeat, cell = pooled(np.array(cells.y, object), scores.proba[repeats], cells.groups)
    column = None if result.positive is None else result.classes.index(result.positive)
    fold = scores.fold[repeats][repeat, cell]
    known = np.unique(cells.groups[(scores.fold >= 0).any(axis=0)])
    return prepare(
        y,
        proba,
        result.classes,
        ids,
        result.positive,
        numbers=known,
        predicted=scores.predicted(column)[repeats][repeat, cell],
        parts=repeat * (int(scores.fold.max()) + 1) + fold,
    )


def _left_out(rows: ScoredRows, result: Result) -> _Floats:
    """float64 (n_groups, classes x metrics): the figures without each group in turn."""
    k = len(result.classes)
    confusions = (rows.counts.sum(axis=0) - rows.counts).reshape(-1, k, k)
    sums = _own_probabilities(rows)
    values = _values(confusions, sums.sum(axis=0) - sums, [pairs.left_out() for pairs in rows.pairs])
    return _with_calibration(values, [part.left_out() for part in rows.recalibrations], result)


def _own_probabilities(rows: ScoredRows) -> _Floats:
    """float64 (groups, K): sums over the rows of each class of the score that they are given of it."""
    found = np.zeros((rows.n_groups, rows.scores.shape[1]))
    np.add.at(found, (rows.groups, rows.codes), rows.scores[np.arange(len(rows.codes)), rows.codes])
    return found


def _values(confusions: _Floats, sums: _Floats, areas: list[_Floats]) -> _Floats:
    """float64 (B, classes, 6)."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    total = true.sum(axis=1, keepdims=True)
    # Of two classes the AUROC of one is that of the other.
    auroc = np.stack(areas if len(areas) == hits.shape[1] else areas * hits.shape[1], axis=1)
    is_told = (true > 0) & (true < total)
    return np.stack(
        [
            _ratio(hits, true),
            _ratio(sums, true),
            np.where(is_told, _ratio(hits, predicted), np.nan),
            np.where(is_told, _ratio(2 * hits, true + predicted), np.nan),
            _ratio(total - true - predicted + hits, total - true),
            auroc,
        ],
        axis=2,
    )


def _ratio(part: _Floats, whole: _Floats) -> _Floats:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _with_calibration(values: _Floats, recalibrated: list[_Floats], result: Result) -> _Floats:
    """float64 (B, classes x metrics). Of two classes the slope of one is that of the other, and the intercept its
    opposite."""
    if len(recalibrated) < len(result.classes):
        positive = list(result.classes).index(str(result.positive))
        opposite = recalibrated[0] * np.array([-1.0, 1.0])
        recalibrated = [recalibrated[0] if at == positive else opposite for at in range(2)]
    whole = np.concatenate([values, np.stack(recalibrated, axis=1)], axis=2)
    return whole.reshape(len(whole), -1)
