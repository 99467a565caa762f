"""How much a figure differs from split to split: the luck of one deal, which a mean over folds hides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.metrics.classification import tested

_Floats = NDArray[np.float64]


def split_spread(result: Result) -> list[dict[str, Any]]:
    """Balanced accuracy of every entry, cell by cell, of each fold and of each repeat by itself.

    Returns
    -------
    Plain values, one an entry: "features", "classifier"; "folds" and "repeats" with "count", "least", "median" and
    "most"; "one_sided", the test parts that lack a class, of which there is no balanced accuracy. [] where a single
    model scored all cells. They describe these splits and are no intervals: folds share what they are learnt from.
    """
    rows = []
    for scores in result.scores:
        folds, repeats = _by_split(result, scores)
        if len(folds) < 2:
            return []
        whole = folds[~np.isnan(folds)]
        rows.append(
            {
                "features": list(scores.features),
                "classifier": scores.classifier,
                "folds": _spread(whole),
                "repeats": _spread(repeats[~np.isnan(repeats)]),
                "one_sided": len(folds) - len(whole),
            }
        )
    return rows


def _by_split(result: Result, scores: Scores) -> tuple[_Floats, _Floats]:
    """float64 (test parts,) and (repeats,): balanced accuracy, NaN where a class is missing."""
    classes = list(result.classes)
    positive = None if result.positive is None else classes.index(result.positive)
    true = np.array([classes.index(str(label)) for label in result.cells.y], np.intp)
    is_tested, predicted = tested(scores.proba), scores.predicted(positive)
    by_fold, by_repeat = [], []
    for repeat in np.flatnonzero(is_tested.any(axis=1)):
        cells = np.flatnonzero(is_tested[repeat])
        right = predicted[repeat, cells] == true[cells]
        fold = np.unique(scores.fold[repeat, cells], return_inverse=True)[1]
        by_fold.append(_balanced(true[cells], right, fold, len(classes)))
        by_repeat.append(_balanced(true[cells], right, np.zeros_like(fold), len(classes)))
    return np.concatenate(by_fold), np.concatenate(by_repeat)


def _balanced(true: NDArray[np.intp], right: NDArray[np.bool_], part: NDArray[np.intp], classes: int) -> _Floats:
    """float64 (parts,): mean over classes of the share of its cells that is recognised."""
    place, parts = part * classes + true, int(part.max()) + 1
    found, total = (np.bincount(place, weights, parts * classes) for weights in (right.astype(float), None))
    with np.errstate(invalid="ignore"):
        return np.asarray((found / total).reshape(parts, classes).mean(axis=1), np.float64)


def _spread(values: _Floats) -> dict[str, float]:
    if not len(values):
        return {"count": 0, **dict.fromkeys(("least", "median", "most"), float("nan"))}
    least, median, most = np.quantile(values, (0, 0.5, 1)).tolist()
    return {"count": len(values), "least": least, "median": median, "most": most}
