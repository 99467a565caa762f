"""What a model of all blocks relies on: what it loses without each block's values, and the features its trees go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import gram, metrics
from fusion.extraction import Progress
from fusion.fitting import Workload, shares_distances
from fusion.intervals import can_be_drawn, draw_groups, percentile
from fusion.splits import Split
from fusion.table import FeatureTable

_Floats = NDArray[np.float64]

#: Splits whose models are asked: what ten models agree on, a hundred will not gainsay.
_SPLITS = 10

#: Times that a block's values are exchanged; the subjects are what is scarce, not the exchanges.
_EXCHANGES = 3

#: Features told of a block.
_TOP = 5


#: Asked for cells of a test part: float64 (n, classes) where a block (its number, None for no block) has the values
#: of training rows, counted within the training part.
_Ask = Callable[[int | None, NDArray[np.intp]], _Floats]


def importance(
    load: Workload,
    classifiers: Sequence[str],
    classes: Sequence[str],
    positive: str | None,
    n_boot: int,
    *,
    memory: float = 0.0,
    progress: Progress | None = None,
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
    memory : bytes that shared distances may hold; see ``fitting.shares_distances``.

    Returns
    -------
    Plain values: "classifier", "cells" (held-out cells asked), "blocks": [{"block", "value", "low", "high"}] (the loss,
    the largest first), "features": {block: [{"feature", "share"}]}, the share of all absolute SHAP values, for trees
    only.
    """
    from threadpoolctl import threadpool_limits

    chosen = np.unique(np.linspace(0, len(load.splits) - 1, _SPLITS).round().astype(int)).tolist()
    column = None if positive is None else list(classes).index(positive)
    rows = []
    with threadpool_limits(1):  # the same sums on any machine
        for number, name in enumerate(classifiers):
            shares = shares_distances(name, load, memory)
            rng = np.random.default_rng(load.config.seed)
            lost: list[_Floats] = []
            shap = np.zeros(len(load.table.columns))
            for done, at in enumerate(chosen, start=1):
                table, split = load.table_of(at), load.splits[at]
                ask, cut, found = (_on_distances if shares else _on_columns)(load, table, split, name)
                lost.append(_lost(ask, cut, table, split, classes, column, rng))
                shap += found
                if progress is not None:
                    progress("asking", number * len(chosen) + done, len(classifiers) * len(chosen), 0)
            asked = np.concatenate([load.splits[at].test for at in chosen])
            blocks = _judged(np.concatenate(lost), load.table, asked, classes, n_boot, load.config.seed)
            row: dict[str, Any] = {"classifier": name, "cells": len(np.unique(asked)), "blocks": blocks}
            rows.append({**row, "features": _top(shap, load.table)} if shap.any() else row)
    return rows


def _on_columns(load: Workload, table: FeatureTable, split: Split, name: str) -> tuple[_Ask, float | None, _Floats]:
    """How a model is asked, its threshold, and float64 (d,) the mean absolute SHAP value of each column, or zeros."""
    from fusion.training import fit

    model = fit(table, split.train, name, load.config)
    sources = [table.sources[row] for row in split.test]
    parts = list(table.blocks.values())

    def ask(which: int | None, strangers: NDArray[np.intp]) -> _Floats:
        X = table.X[split.test]  # a copy
        if which is not None:
            X[:, parts[which]] = table.X[split.train[strangers], parts[which]]
        return model.predict_proba(X, sources)

    shap = np.zeros(len(table.columns))
    if hasattr(model.classifier, "contributions"):
        rows: Any = model.harmonised(table.X[split.test], sources)
        shap = np.abs(model.classifier.contributions(rows)[:, :, :-1]).mean(axis=1).sum(axis=0)
    return ask, model.cut, shap


def _on_distances(load: Workload, table: FeatureTable, split: Split, name: str) -> tuple[_Ask, float | None, _Floats]:
    """The same, where distances within blocks are at hand: those of strangers' values are in them already."""
    from fusion.model import build_seeded

    config = load.config
    layer = {"random_state": config.seed, **config.layer}
    shared = gram.SharedDistances(table.X, table.blocks, split.train, split.test, layer)
    machine: Any = build_seeded(name, config.params(name), config.seed)
    machine.fit_distances(shared.of(list(table.blocks)), np.array(table.y)[split.train], table.groups[split.train])

    def ask(which: int | None, strangers: NDArray[np.intp]) -> _Floats:
        rows = np.repeat(shared.test_rows[:, None], len(table.blocks), axis=1)
        if which is not None:
            rows[:, which] = strangers
        return machine.predict_proba_distances(rows)

    return ask, None, np.zeros(len(table.columns))


def _lost(
    ask: _Ask,
    cut: float | None,
    table: FeatureTable,
    split: Split,
    classes: Sequence[str],
    positive: int | None,
    rng: np.random.Generator,
) -> _Floats:
    """float64 (test cells, blocks): 1 where a cell is right and would not be without the block, -1 the other way."""
    codes = np.searchsorted(list(classes), np.array(table.y, object)[split.test].astype(str))
    cuts = None if cut is None else np.full(len(codes), cut)

    def right(which: int | None, strangers: NDArray[np.intp]) -> _Floats:
        return (metrics.called(ask(which, strangers), cuts, positive) == codes).astype(np.float64)

    whole = right(None, np.empty(0, np.intp))
    lost = np.zeros((len(split.test), len(table.blocks)))
    for _ in range(_EXCHANGES):
        strangers = rng.integers(len(split.train), size=len(split.test))
        for which in range(len(table.blocks)):
            lost[:, which] += (whole - right(which, strangers)) / _EXCHANGES
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
