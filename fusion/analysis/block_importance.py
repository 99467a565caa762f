"""What a model of all blocks relies on: what it loses without each block's values, and the features its trees go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.data.patients.bags import Bags
from fusion.leakage.grouped_splits import Split
from fusion.learning import shared_distances
from fusion.learning.fits import Fit, Fits, prepare_split
from fusion.learning.fused_model import Decision, decide, score_slice
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of_procedure
from fusion.metrics.judgement import PROCEDURE
from fusion.metrics.scored_rows import ratio
from fusion.plugins import Contributes, FitsDistances

_Floats = NDArray[np.float64]

#: Splits whose models are asked: what ten models agree on, a hundred will not gainsay.
_SPLITS = 10

#: Times that a block's values are exchanged; the subjects are what is scarce, not the exchanges.
_EXCHANGES = 3

#: Features listed of a block.
_TOP = 5


#: Asked for cells of a test part: float64 (n, classes) where a block (its number, None for no block) has the values
#: of training rows, counted within the training part.
_Ask = Callable[[int | None, NDArray[np.intp]], _Floats]


def importance(fits: Fits) -> list[dict[str, Any]]:
    """Permutation importance of blocks, and of trees' features by SHAP, from cells that models have not learnt from.

    A block's importance is what balanced accuracy loses where its columns, all together, are those of other cells:
    drawn from the training part, so that a test part of a single subject has other subjects' values too. Two blocks
    that are redundant stand in for each other, and then neither is missed; what they add is given by Shapley values.
    Source: Breiman (2001), Machine Learning 45:5-32, section 10; by groups of columns as in Au et al. (2022), Data
    Min. Knowl. Discov. 36:1401-1450. Features of trees by the mean absolute tree SHAP value over held-out cells
    (Lundberg et al. 2020, Nature Machine Intelligence 2:56-67).

    Parameters
    ----------
    fits : of a comparison; those recipes are asked that learn from all of its blocks, and from features alone. At most
        ten of the splits are used, spread over all.

    Returns
    -------
    Plain values, a row a recipe: "classifier", "cells" (held-out cells asked), "blocks": [{"block", "value", "low",
    "high"}] (the loss, the largest first), "features": {block: [{"feature", "share"}]}, the share of all absolute SHAP
    values, for trees only.
    """
    from threadpoolctl import threadpool_limits

    chosen = np.unique(np.linspace(0, len(fits.splits) - 1, _SPLITS).round().astype(int)).tolist()
    asked = [at for at, recipe in enumerate(fits.recipes) if recipe.features == tuple(fits.compared)]
    rows = []
    with threadpool_limits(1):  # the same sums on any machine
        for number, at in enumerate(asked):
            rows.append(_of_recipe(fits, at, chosen, (number * len(chosen), len(asked) * len(chosen))))
    return rows


def _of_recipe(fits: Fits, number: int, splits: Sequence[int], progress: tuple[int, int]) -> dict[str, Any]:
    recipe, classes = fits.recipes[number], fits.study.classes
    column = None if recipe.positive is None else classes.index(recipe.positive)
    on_distances = fits.shared[recipe.label] == "distances"
    rng = np.random.default_rng(recipe.seed)
    lost: list[_Floats] = []
    table = fits.study_of(0).select(fits.compared)
    shap = np.zeros(len(table.columns))
    for done, at in enumerate(splits, start=1):
        own, split = fits.study_of(at).select(fits.compared), fits.splits[at]
        ask, rule, found = (_on_distances if on_distances else _on_columns)(fits, Fit(number, at), own)
        lost.append(_permutation_importance(ask, rule, own, split, classes, column, rng))
        shap += found
        fits.run.tell("asking", progress[0] + done, progress[1])
    cells = np.concatenate([fits.splits[at].test for at in splits])
    blocks = _judged(lost, table, [fits.splits[at].test for at in splits], classes)
    row: dict[str, Any] = {"classifier": recipe.label, "cells": len(np.unique(cells)), "blocks": blocks}
    return {**row, "features": _top(shap, table)} if shap.any() else row


def _on_columns(fits: Fits, fit: Fit, table: FeatureTable) -> tuple[_Ask, Decision, _Floats]:
    """How a model is asked, by what it predicts, and float64 (d,) the mean absolute SHAP value of each column, or
    zeros."""
    split, model = fits.splits[fit.split], fits.fuse(fit)
    sources = [table.sources[row] for row in split.test]
    parts = list(table.blocks.values())

    def ask(which: int | None, permuted: NDArray[np.intp]) -> _Floats:
        X = table.X[split.test]  # a copy
        if which is not None and isinstance(X, Bags):
            X = X.with_columns(parts[which], table.X[split.train[permuted]])
        elif which is not None:
            X[:, parts[which]] = table.X[split.train[permuted], parts[which]]
        return model.predict_proba(X, sources)

    shap = np.zeros(len(table.columns))
    if isinstance(model.classifier, Contributes):
        rows: Any = model.harmonised(table.X[split.test], sources)
        shap = np.abs(model.classifier.contributions(rows)[:, :, :-1]).mean(axis=1).sum(axis=0)
    return ask, model.decision, shap


def _on_distances(fits: Fits, fit: Fit, table: FeatureTable) -> tuple[_Ask, Decision, _Floats]:
    """The same, where distances within blocks are at hand: those of other cells' values are in them already."""
    recipe, classes = fits.recipes[fit.recipe], fits.study.classes
    prepared = prepare_split(fits, fit.split, list(table.blocks), recipe)
    shared = prepared.shared_by(shared_distances.SharedDistances)
    distances, rows, classifier = shared.of(list(table.blocks)), prepared.rows, recipe.build()
    assert isinstance(classifier, FitsDistances)
    classifier.fit_distances(distances, rows.y, rows.groups)
    decision = decide(
        recipe,
        classes,
        lambda learnt, held: score_slice(recipe.build(), distances, rows.positions(learnt), held, rows),
        rows,
    )

    def ask(which: int | None, permuted: NDArray[np.intp]) -> _Floats:
        mixed = np.repeat(shared.test_rows[:, None], len(table.blocks), axis=1)
        if which is not None:
            mixed[:, which] = permuted
        return decision.calibrate(classifier.predict_proba_distances(mixed))

    return ask, decision, np.zeros(len(table.columns))


def _permutation_importance(
    ask: _Ask,
    rule: Decision,
    table: FeatureTable,
    split: Split,
    classes: Sequence[str],
    positive: int | None,
    rng: np.random.Generator,
) -> _Floats:
    """float64 (test cells, blocks): 1 where a cell is right and would not be without the block, -1 the other way."""
    codes = np.searchsorted(list(classes), np.array(table.y, object)[split.test].astype(str))

    def right(which: int | None, permuted: NDArray[np.intp]) -> _Floats:
        return (rule.predicted(ask(which, permuted), positive) == codes).astype(np.float64)

    whole = right(None, np.empty(0, np.intp))
    lost = np.zeros((len(split.test), len(table.blocks)))
    for _ in range(_EXCHANGES):
        permuted = rng.integers(len(split.train), size=len(split.test))
        for which in range(len(table.blocks)):
            lost[:, which] += (whole - right(which, permuted)) / _EXCHANGES
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
