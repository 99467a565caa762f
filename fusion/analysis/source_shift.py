"""How far the cells of one source lie from those of all others: what a model of the one has to fear among the others.

For each source and block: can a classifier tell the source's cells from the rest (a two-sample test, held-out cells of
groups that it has not met), how far apart the two clouds lie, and which features differ most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import SplitError, affordable_splits, grouped_folds
from fusion.metrics.judgement import judge_scores

#: Features that are named, and cells of each side whose distances are averaged: 500 cost 10 MB and a tenth of a second.
NAMED, _CELLS = 10, 500

#: Replicates behind each interval: ends are shown with two digits.
_BOOTSTRAP = 500

#: Beside each other's source, a classifier learns every source that it can tell by a line, and no finer.
_STRENGTH = 0.1


@dataclass(frozen=True)
class Shift:
    """One block of one source against all others.

    Attributes
    ----------
    source, block, cells : which, and how many cells the source has.
    auroc, low, high : of a logistic regression that tells the source's held-out cells from the rest, with an interval
        by group; 0.5 where they are alike, NaN where the groups do not suffice for two folds or nothing varies.
    mmd : squared maximum mean discrepancy, Gaussian kernel of the median distance, unbiased: about 0 where alike.
    features : the most shifted ones with their Kolmogorov-Smirnov distance, 0 to 1.

    Sources: Lopez-Paz and Oquab (2017), ICLR; Gretton et al. (2012), JMLR 13:723-773, lemma 6.
    """

    source: str
    block: str
    cells: int
    auroc: float
    low: float
    high: float
    mmd: float
    features: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def shifts(table: FeatureTable, seed: int = 0) -> list[Shift]:
    """Every source against all others, block by block.

    Raises
    ------
    UsageError : fewer than two sources. Cells without one take no part.
    """
    table = table.take(np.flatnonzero([source is not None for source in table.sources]))
    sources = np.array(table.sources, object)
    names = sorted(set(table.sources), key=str)
    if len(names) < 2:
        raise UsageError(
            "no shift between sources", found=f"{len(names)} sources", expected="two, in a column 'source'"
        )
    found = []
    for name in names:
        is_own = sources == name
        for block, part in table.blocks.items():
            X = _prepared(table.X[:, part])
            auroc, low, high = _separability(X, is_own, table.groups, seed)
            distances = _distances(table.X[:, part], is_own)
            order = np.argsort(-distances, kind="stable")[:NAMED]
            columns = table.columns[part]
            features = tuple((columns[at], float(distances[at])) for at in order)
            count = int(is_own.sum())
            found.append(Shift(str(name), block, count, auroc, low, high, _discrepancy(X, is_own), features))
    return found


def _prepared(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standardised columns that vary, undefined values at the median."""
    rows = X.astype(np.float64)
    rows = rows[:, ~np.isnan(rows).all(axis=0)]
    rows = np.where(np.isnan(rows), np.nanmedian(rows, axis=0), rows)
    spread = rows.std(axis=0)
    varies = spread > 1e-6 * np.abs(rows).max(axis=0)
    # As in the fusion layer: what is ten spreads out is a blunder or a source of its own, and tells enough at ten.
    return np.clip((rows[:, varies] - rows[:, varies].mean(axis=0)) / spread[varies], -10, 10)


def _separability(
    X: NDArray[np.float64], is_own: NDArray[np.bool_], groups: NDArray[np.intp], seed: int
) -> tuple[float, float, float]:
    from sklearn.linear_model import LogisticRegression

    if not X.shape[1]:  # nothing varies, and so nothing tells
        return float("nan"), float("nan"), float("nan")
    y = np.where(is_own, "own", "rest")
    try:
        folds = grouped_folds(y, groups, affordable_splits(y, groups, 5), seed)
    except SplitError:  # a source of a single group cannot be judged on another
        return float("nan"), float("nan"), float("nan")
    proba, dealt = np.empty((len(X), 2)), np.zeros(len(X), np.intp)
    for number, fold in enumerate(folds):
        dealt[fold.test] = number
        model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=500)
        proba[fold.test] = model.fit(X[fold.train], y[fold.train]).predict_proba(X[fold.test])
    judged = judge_scores(y, proba, ["own", "rest"], groups, positive="own", folds=dealt)
    figure = judged.figures["image"]["auroc"]
    return float(figure["value"]), float(figure["low"]), float(figure["high"])


def _discrepancy(X: NDArray[np.float64], is_own: NDArray[np.bool_]) -> float:
    own, rest = (_sample_rows(X[rows]) for rows in (is_own, ~is_own))
    if min(len(own), len(rest)) < 2:
        return float("nan")
    both = np.vstack([own, rest])
    squares = (both**2).sum(axis=1)
    squared = np.maximum(squares[:, None] + squares - 2 * both @ both.T, 0)
    width = np.median(squared[np.triu_indices(len(both), 1)])
    kernel = np.exp(-squared / (width if width > 0 else 1.0))
    m = len(own)
    within = [
        (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1)) for part in (kernel[:m, :m], kernel[m:, m:])
    ]
    return float(sum(within) - 2 * kernel[:m, m:].mean())


def _sample_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most ``_CELLS`` of them, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _CELLS)).round().astype(np.intp)]


def _distances(X: NDArray[np.float32], is_own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Kolmogorov-Smirnov distance of every column, 0 where a side has no value."""
    found = np.zeros(X.shape[1])
    for at, column in enumerate(X.T):
        own, rest = (np.sort(side[~np.isnan(side)]) for side in (column[is_own], column[~is_own]))
        if len(own) and len(rest):
            values = np.concatenate([own, rest])
            shares = [np.searchsorted(side, values, "right") / len(side) for side in (own, rest)]
            found[at] = np.abs(shares[0] - shares[1]).max()
    return found


def lines(found: Sequence[Shift]) -> list[str]:
    """What a person should know, a line a source and block, the strongest features below it."""
    sentences = []
    for shift in found:
        interval = "" if np.isnan(shift.auroc) else f"{shift.auroc:.2f} [{shift.low:.2f}, {shift.high:.2f}]"
        sentences.append(
            f"shift of {shift.source}, {shift.block}: distinguished with AUROC {interval or 'undefined'}, "
            f"MMD {shift.mmd:.3f}"
        )
        sentences.append("  most: " + ", ".join(f"{name} {distance:.2f}" for name, distance in shift.features))
    return sentences
