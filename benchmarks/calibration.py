"""Which calibration brings what, on real cells: each laboratory left out in turn, and folds of all of them.

A table with a column `source`, as for `fusion ablate`. Every method is learnt from the same held-out scores inside each
training part, and put on the same models:

    .venv/bin/python -m benchmarks.calibration cells.csv --features morphology,texture,colour
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.evaluation.results import interval
from fusion.leakage.protocols import make_plan
from fusion.learning.decision.calibration import fit_calibration
from fusion.learning.decision.thresholds import held_out
from fusion.learning.fused_model import FusedModel, fuse
from fusion.metrics.judgement import judge_scores
from fusion.settings.commands import AblateConfig
from fusion.settings.learning import HarmoniseSettings
from fusion.workflows.loading import Inputs, load_training_cells

METHODS = ("none", "logistic", "temperature", "isotonic")
SHOWN = ("brier", "log_loss", "calibration_slope", "balanced_accuracy")
SPLITS = {"laboratories left out": "leave-one-source-out", "folds": "grouped"}


def calibrated(table: FeatureTable, classifier: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of every method on the cells that were held out."""
    y, groups = np.array(table.y, object), table.groups
    classes = sorted(set(table.y))
    plan = make_plan(table, split, 5, 1, 0)
    proba = {method: np.full((len(y), len(classes)), np.nan) for method in METHODS}
    fold = np.full(len(y), -1)

    def learnt(rows: NDArray[np.intp]) -> FusedModel:
        own = [table.sources[at] for at in rows]
        steps: dict[str, Any] = {"harmonise": HarmoniseSettings(method="standard", transductive=True)}
        return fuse(table.X[rows], y[rows], groups[rows], table.blocks, classifier, sources=own, **steps)

    def scored(model: FusedModel, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        return model.predict_proba(table.X[rows], [table.sources[at] for at in rows])

    for at, (_, part) in enumerate(plan.splits):
        train = part.train
        inner = held_out(
            lambda a, b, train=train: scored(learnt(train[a]), train[b]),  # type: ignore[misc]
            y[train],
            groups[train],
            0,
        )
        test, codes = scored(learnt(train), part.test), np.searchsorted(classes, y[train].astype(str))
        fold[part.test] = at
        for method in METHODS:
            found = fit_calibration(method, inner, codes)  # type: ignore[arg-type]
            proba[method][part.test] = test if found is None else found.apply(test)
    for method, scores in proba.items():
        yield method, judge_scores(y, scores, classes, groups, folds=fold).figures["image"]


def main() -> None:
    """Print a row for every split, classifier and method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", default="morphology,texture,colour")
    parser.add_argument("--classifiers", default="logreg,svm,xgb")
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    config = AblateConfig(
        data=given.data, ignore_columns="mask", features=given.features, store=given.store, output=Path("unused")
    )
    table = Inputs.of(config).measure(load_training_cells(config), config).study.table
    print("| held out | classifier | calibration | " + " | ".join(SHOWN) + " |")
    print("| --- | --- | --- |" + " --- |" * len(SHOWN), flush=True)
    for called, split in SPLITS.items():
        for classifier in given.classifiers.split(","):
            for method, figures in calibrated(table, classifier, split):
                told = " | ".join(interval(figures[metric]) for metric in SHOWN)
                print(f"| {called} | {classifier} | {method} | {told} |", flush=True)


if __name__ == "__main__":
    main()
