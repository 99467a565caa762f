"""Boosted trees of many cells, grown in stages: each sees a draw of the columns, and nothing of the others.

XGBoost counts every column of its matrix for every tree, drawn for it or not: ``colsample_bytree`` saves the choice of
splits alone. A matrix of the drawn columns is counted in proportion, so columns are drawn once a stage of many trees
instead of once a tree. Each stage begins with the margins of those before it; what comes out is one model, whose trees
name the columns as all do. Bins come from some thousand of the cells, which tell 32 quantiles as well as all do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from classifiers._row_batches import Batched

#: Stages, and cells whose values give the bins.
STAGES, _SKETCHED = 7, 1024

#: The matrix of these columns with the bins of another; with XGBoost's own of all cells where there is none.
Bins = Callable[[NDArray[np.intp], xgboost.QuantileDMatrix], xgboost.DMatrix]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Some columns of a matrix that is read batch by batch."""

    X: Batched
    columns: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape[0], len(self.columns)

    def batches(self) -> Iterator[NDArray[np.float32]]:
        for batch in self.X.batches():
            yield np.ascontiguousarray(batch[:, self.columns])


def grow(
    X: Batched,
    weights: NDArray[np.float64],
    bins: Bins,
    settings: dict[str, Any],
    trees: int,
    column_weights: NDArray[np.float32] | None = None,
) -> xgboost.Booster:
    """The trees of all stages, as one model of all columns.

    Parameters
    ----------
    X : float32 (n, d), whose sample gives the bins.
    weights : float64 (n,), of the cells.
    bins : the labelled matrix of some columns, with the bins of a sample.
    settings : XGBoost's; ``colsample_bytree`` is the share of the columns that a stage sees.
    trees : of each class.
    column_weights : float32 (d,), what columns are drawn in proportion to; None for all alike.
    """
    columns, stages = X.shape[1], min(STAGES, trees)
    width = max(1, round(settings["colsample_bytree"] * columns))
    draw = np.random.default_rng(settings["seed"])
    rows = np.sort(draw.choice(X.shape[0], min(_SKETCHED, X.shape[0]), replace=False))
    sample, weights = _rows(X, rows), weights[rows]
    shares = None if column_weights is None else column_weights / column_weights.sum(dtype=np.float64)
    grown: list[tuple[NDArray[np.intp], xgboost.Booster]] = []
    margins: NDArray[np.float32] | None = None
    for stage in range(stages):
        drawn = np.sort(draw.choice(columns, width, replace=False, p=shares))
        sketch = xgboost.QuantileDMatrix(
            np.ascontiguousarray(sample[:, drawn]),
            weight=weights,
            max_bin=settings["max_bin"],
            nthread=settings["nthread"],
        )
        data = bins(drawn, sketch)
        if margins is not None:
            data.set_base_margin(margins)
        own = {**settings, "colsample_bytree": 1.0, "seed": settings["seed"] + stage}
        rounds = trees // stages + (stage < trees % stages)
        booster = xgboost.train(own, data, num_boost_round=rounds)
        margins = booster.predict(data, output_margin=True)
        grown.append((drawn, booster))
    return _joined(grown, columns, settings["nthread"])


def _rows(X: Batched, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """float32 (n, d): rows in ascending order."""
    found, begin = [], 0
    for batch in X.batches():
        found.append(batch[rows[(rows >= begin) & (rows < begin + len(batch))] - begin])
        begin += len(batch)
    return np.concatenate(found)


def _joined(grown: Sequence[tuple[NDArray[np.intp], xgboost.Booster]], columns: int, threads: int) -> xgboost.Booster:
    """One model of models that each add to those before, of the columns that each was given."""
    models = [json.loads(bytes(booster.save_raw("json"))) for _, booster in grown]
    forests = [model["learner"]["gradient_booster"]["model"] for model in models]
    whole, forest = models[0], forests[0]
    trees: list[dict[str, Any]] = []
    for (drawn, _), stage in zip(grown, forests, strict=True):
        for tree in stage["trees"]:
            tree["id"] = len(trees)
            tree["tree_param"]["num_feature"] = str(columns)
            # A leaf names no column, but holds a number there all the same.
            tree["split_indices"] = [
                int(drawn[column]) if child != -1 else 0
                for column, child in zip(tree["split_indices"], tree["left_children"], strict=True)
            ]
            trees.append(tree)
    rounds = sum(len(stage["iteration_indptr"]) - 1 for stage in forests)
    a_round = len(trees) // rounds
    forest["trees"] = trees
    forest["tree_info"] = [info for stage in forests for info in stage["tree_info"]]
    forest["iteration_indptr"] = list(range(0, len(trees) + 1, a_round))
    forest["gbtree_model_param"]["num_trees"] = str(len(trees))
    whole["learner"]["learner_model_param"]["num_feature"] = str(columns)
    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(json.dumps(whole, separators=(",", ":")).encode()))
    return booster
