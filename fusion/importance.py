"""What a model of all blocks relies on: what it loses without each block's values, and the features its trees go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import metrics
from fusion.fitting import Workload
from fusion.intervals import can_be_drawn, draw_groups, percentile
from fusion.model import FusedModel
from fusion.splits import Split
from fusion.table import FeatureTable

_Floats = NDArray[np.float64]

#: Splits whose models are asked: what ten models agree on, a hundred will not gainsay.
_SPLITS = 10

#: Times that a block's values are exchanged; the subjects are what is scarce, not the exchanges.
_EXCHANGES = 3

#: Features told of a block.
_TOP = 5


def importance(
    load: Workload, classifiers: Sequence[str], classes: Sequence[str], positive: str | None, n_boot: int
) -> list[dict[str, Any]]:
    """What models of all blocks rely on, a row a classifier, from cells that they have not learnt from.

    A block's importance is what balanced accuracy loses where its columns, all together, are those of other cells:
    drawn from the training part, so that a test part of a single subject has strangers' values too. Two blocks that say
    the same stand in for each other, and then neither is missed; what they are worth is told by Shapley values.
    Source: Breiman (2001), Machine Learning 45:5-32, section 10; by groups of columns as in Au et al. (2022), Data
    Min. Knowl. Discov. 36:1401-1450. Features of trees by the mean absolute tree SHAP value over held-out cells
    (Lundberg et al. 2020, Nature Machine Intelligence 2:56-67).

    Parameters
    ----------
    load : table and splits; at most ten of the splits are used, spread over all.
    n_boot : draws of groups, for percentile intervals.

    Returns
    -------
    Plain values: "classifier", "cells" (held-out cells asked), "blocks": [{"block", "value", "low", "high"}] (the loss,
    the largest first), "features": {block: [{"feature", "share"}]}, the share of all absolute SHAP values, for trees
    only.
    """
    from threadpoolctl import threadpool_limits

    rows = []
    with threadpool_limits(1):  # the same sums on any machine
        for name in classifiers:
            rows.append({"classifier": name, **_of_classifier(load, name, classes, positive, n_boot)})
    return rows


def _of_classifier(
    load: Workload, name: str, classes: Sequence[str], positive: str | None, n_boot: int
) -> dict[str, Any]:
    from fusion.training import fit

    column = None if positive is None else list(classes).index(positive)
    rng = np.random.default_rng(load.config.seed)
    lost: list[_Floats] = []
    cells: list[NDArray[np.intp]] = []
    shap = np.zeros(len(load.table.columns))
    chosen = np.unique(np.linspace(0, len(load.splits) - 1, _SPLITS).round().astype(int))
    for at in chosen.tolist():
        table, split = load.table_of(at), load.splits[at]
        model = fit(table, split.train, name, load.config)
        lost.append(_lost(model, table, split, classes, column, rng))
        cells.append(split.test)
        if hasattr(model.classifier, "contributions"):
            rows: Any = model.harmonised(table.X[split.test], [table.sources[row] for row in split.test])
            shap += np.abs(model.classifier.contributions(rows)[:, :, :-1]).mean(axis=1).sum(axis=0)
    asked = np.concatenate(cells)
    blocks = _judged(np.concatenate(lost), load.table, asked, classes, n_boot, load.config.seed)
    found: dict[str, Any] = {"cells": len(np.unique(asked)), "blocks": blocks}
    return {**found, "features": _top(shap, load.table)} if shap.any() else found


def _lost(
    model: FusedModel,
    table: FeatureTable,
    split: Split,
    classes: Sequence[str],
    positive: int | None,
    rng: np.random.Generator,
) -> _Floats:
    """float64 (test cells, blocks): 1 where a cell is right and would not be without the block, -1 the other way."""
    codes = np.searchsorted(list(classes), np.array(table.y, object)[split.test].astype(str))
    sources = [table.sources[row] for row in split.test]

    def right(X: NDArray[np.float32]) -> _Floats:
        proba = model.predict_proba(X, sources)
        cut = None if model.cut is None else np.full(len(X), model.cut)
        return (metrics.called(proba, cut, positive) == codes).astype(np.float64)

    whole = right(table.X[split.test])
    lost = np.zeros((len(split.test), len(table.blocks)))
    for _ in range(_EXCHANGES):
        strangers = rng.choice(split.train, len(split.test))
        for which, part in enumerate(table.blocks.values()):
            X = table.X[split.test].copy()
            X[:, part] = table.X[strangers, part]
            lost[:, which] += (whole - right(X)) / _EXCHANGES
    return lost


def _judged(
    lost: _Floats, table: FeatureTable, cells: NDArray[np.intp], classes: Sequence[str], n_boot: int, seed: int
) -> list[dict[str, Any]]:
    """The mean loss over classes of each block with its interval over groups, the largest first."""
    codes = np.searchsorted(list(classes), np.array(table.y, object)[cells].astype(str))
    ids = np.unique(table.groups[cells], return_inverse=True)[1]
    counts = np.zeros((len(classes), ids.max() + 1))
    sums = np.zeros((lost.shape[1], *counts.shape))
    np.add.at(counts, (codes, ids), 1)
    for which in range(lost.shape[1]):
        np.add.at(sums[which], (codes, ids), lost[:, which])
    occurs = counts.any(axis=1)
    counts, sums = counts[occurs], sums[:, occurs]

    def mean(weights: _Floats) -> _Floats:
        return np.stack([((part @ weights) / (counts @ weights)).mean(axis=0) for part in sums], axis=1)

    values = mean(np.ones((counts.shape[1], 1)))[0]
    low = high = np.full(len(values), np.nan)
    if can_be_drawn(counts.T > 0):
        low, high = percentile(mean(draw_groups(counts.T > 0, n_boot, np.random.default_rng(seed))))
    rows = [
        {"block": name, "value": float(values[at]), "low": float(low[at]), "high": float(high[at])}
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
