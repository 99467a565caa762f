"""What a model of all blocks relies on: what it loses without each block's values, and the features its trees go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.learning.fits import Fit, Fits
from fusion.learning.fused_model import HeldOutModel
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of_procedure
from fusion.metrics.judgement import PROCEDURE
from fusion.metrics.scored_rows import ratio

_Floats = NDArray[np.float64]

#: Splits whose models are asked: what ten models agree on, a hundred will not gainsay.
_SPLITS = 10

#: Times that a block's values are exchanged; the subjects are what is scarce, not the exchanges.
_EXCHANGES = 3

#: Features listed of a block.
_TOP = 5


@dataclass(frozen=True)
class BlockImportance:
    """Asks models of all blocks, as they are fitted, what they lose without each block and which columns they go by.

    Nothing is fitted for it: it is an ``Examination`` of the fits of the comparison, on whichever worker these are
    made.

    Attributes
    ----------
    keys : of the answers: "lost", float64 (test cells, blocks), 1 where a cell is right and would not be without the
        block, -1 the other way; "contributions", float64 (d,), the mean absolute SHAP value of each column, or zeros.
    """

    keys: tuple[str, ...] = ("lost", "contributions")

    def asks(self, load: Fits, fit: Fit) -> bool:
        """Whether a fit is of all blocks, and its split among those that are asked."""
        return load.recipes[fit.recipe].features == tuple(load.compared) and fit.split in asked_splits(load)

    def __call__(self, load: Fits, fit: Fit, model: HeldOutModel) -> dict[str, _Floats]:
        """The answers of one model."""
        columns = sum(part.stop - part.start for part in load.study_of(fit.split).select(load.compared).blocks.values())
        shap = np.zeros(columns)
        if model.contributions is not None:
            shap = np.abs(model.contributions()[:, :, :-1]).mean(axis=1).sum(axis=0)
        return {"lost": _lost(load, fit, model), "contributions": shap}


def asked_splits(load: Fits) -> list[int]:
    """The splits whose models are asked: at most ten, spread over all."""
    chosen: list[int] = np.unique(np.linspace(0, len(load.splits) - 1, _SPLITS).round().astype(int)).tolist()
    return chosen


def importance(load: Fits, answers: Mapping[Fit, Mapping[str, _Floats]]) -> list[dict[str, Any]]:
    """Permutation importance of blocks, and of trees' features by SHAP, from cells that models have not learnt from.

    A block's importance is what balanced accuracy loses where its columns, all together, are those of other cells:
    drawn from the training part, so that a test part of a single subject has other subjects' values too. Two blocks
    that are redundant stand in for each other, and then neither is missed; what they add is given by Shapley values.
    Source: Breiman (2001), Machine Learning 45:5-32, section 10; by groups of columns as in Au et al. (2022), Data
    Min. Knowl. Discov. 36:1401-1450. Features of trees by the mean absolute tree SHAP value over held-out cells
    (Lundberg et al. 2020, Nature Machine Intelligence 2:56-67).

    Parameters
    ----------
    load : of a comparison; those recipes were asked that learn from all of its blocks, and from features alone.
    answers : of ``BlockImportance``, by fit.

    Returns
    -------
    Plain values, a row a recipe: "classifier", "cells" (held-out cells asked), "blocks": [{"block", "value", "low",
    "high"}] (the loss, the largest first), "features": {block: [{"feature", "share"}]}, the share of all absolute SHAP
    values, for trees only.
    """
    splits, rows = asked_splits(load), []
    table = load.study_of(0).select(load.compared)
    tested = [load.splits[at].test for at in splits]
    for number in sorted({fit.recipe for fit in answers}):
        found = [answers[Fit(number, at)] for at in splits]
        row: dict[str, Any] = {
            "classifier": load.recipes[number].label,
            "cells": len(np.unique(np.concatenate(tested))),
            "blocks": _judged([each["lost"] for each in found], table, tested, load.study.classes),
        }
        shap = np.sum([each["contributions"] for each in found], axis=0)
        rows.append({**row, "features": _top(shap, table)} if shap.any() else row)
    return rows


def _lost(load: Fits, fit: Fit, model: HeldOutModel) -> _Floats:
    """float64 (test cells, blocks): 1 where a cell is right and would not be without the block, -1 the other way."""
    recipe, split, classes = load.recipes[fit.recipe], load.splits[fit.split], load.study.classes
    column = None if recipe.positive is None else classes.index(recipe.positive)
    codes = np.searchsorted(list(classes), np.array(load.study.table.y, object)[split.test].astype(str))
    # Of each split its own: whichever worker is the first.
    rng = np.random.default_rng([recipe.seed, fit.split])

    def right(proba: _Floats) -> _Floats:
        return (model.decision.predicted(proba, column) == codes).astype(np.float64)

    whole = right(model.predict_proba())
    lost = np.zeros((len(split.test), len(load.compared)))
    for _ in range(_EXCHANGES):
        exchanged = rng.integers(len(split.train), size=len(split.test))
        for which in range(len(load.compared)):
            lost[:, which] += (whole - right(model.predict_proba(which, exchanged))) / _EXCHANGES
    return lost


def _judged(
    lost: Sequence[_Floats], table: FeatureTable, tested: Sequence[NDArray[np.intp]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The mean loss over classes of each block with its interval over groups, the largest first.

    The interval is of the procedure: as for figures that were cross-validated once, since which subjects shaped the
    models does not show in one test of each.
    """
    cells, every = np.concatenate(tested), np.concatenate(lost)
    codes = np.searchsorted(list(classes), np.array(table.y, object)[cells].astype(str))
    ids = np.unique(table.groups[cells], return_inverse=True)[1]
    counts = np.zeros((ids.max() + 1, len(classes)))
    sums = np.zeros((*counts.shape, every.shape[1]))
    np.add.at(counts, (ids, codes), 1)
    np.add.at(sums, (ids, codes), every)
    occurs = counts.any(axis=0)
    counts, sums, names = (
        counts[:, occurs],
        sums[:, occurs],
        [str(classes[at]) for at in np.flatnonzero(occurs).tolist()],
    )
    strata = Strata.from_counts(counts, names)
    values = (sums.sum(axis=0) / counts.sum(axis=0)[:, None]).mean(axis=0)
    without = ratio(sums.sum(axis=0) - sums, (counts.sum(axis=0) - counts)[:, :, None]).mean(axis=1)
    spread = spread_of_procedure(influences(without, strata), None, strata, 1 / len(tested))
    low, high, _ = intervals(values, spread, [strata.smallest], -1.0, 1.0)
    rows = [
        {"block": name, "value": float(values[at]), "low": float(low[at]), "high": float(high[at]), "kind": PROCEDURE}
        for at, name in enumerate(table.blocks)
    ]
    return sorted(rows, key=lambda row: -row["value"])


def _top(shap: _Floats, table: FeatureTable) -> Mapping[str, list[dict[str, Any]]]:
    """The features of each block with the largest share of all SHAP values."""
    shares = shap / shap.sum()
    found = {}
    for name, part in table.blocks.items():
        best = part.start + np.argsort(-shares[part], kind="stable")[:_TOP]
        found[name] = [
            {"feature": table.columns[at], "share": float(shares[at])} for at in best.tolist() if shares[at] > 0
        ]
    return found
