"""Tables of cells, and comparisons of blocks on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion import fitting
from fusion.ablation import compare
from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.io.run_checkpoint import Checkpoint
from fusion.leakage.protocols import make_plan
from fusion.settings.commands import AblateConfig


def cells(subjects=20, each=6, class_effect=0.6, subject_effect=1.0, seed=0, prefix=True):
    """Two blocks of measurements with class and subject effects of known size."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(subjects), each)
    sign = np.where(group % 2, 1.0, -1.0)
    message = np.array([1.0, 0, 0, 0.5, 0, 0, 0])
    X = class_effect * sign[:, None] * message + rng.normal(size=(len(group), 7))
    X += subject_effect * rng.normal(size=(subjects, 7))[group]
    names = tuple(f"{at}.bmp" for at in range(len(group)))
    ids = tuple(f"{'H' if at % 2 and prefix else 'P'}{at}" for at in group)
    return FeatureTable(
        X=X.astype(np.float32),
        columns=("a.0", "a.1", "a.2", "b.0", "b.1", "b.2", "b.3"),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple("hem" if at % 2 else "all" for at in group),
        subjects=ids,
        folds=(None,) * len(group),
        groups=merge_groups(ids, names),
        subjects_known=True,
    )


def config(tmp_path, **given):
    return AblateConfig(
        data="cells", output=tmp_path / "out", jobs=1, **{"bootstrap": 100, "compare": ["svm", "logreg"], **given}
    )


def run(table, settings):
    plan = make_plan(table, settings.split, settings.splits, settings.rounds, settings.seed)
    return compare(table, plan, Dataset(Path("cells"), "table", ()), settings)


def scores_with_and_without_scrambled_labels(tmp_path, measured, **settings):
    """For each classifier float64 (test cells, classes) twice: by the true labels, and with the test part's swapped.

    ``measured`` makes the table of the labels.
    """
    settings = config(tmp_path, compare=["svm", "xgb", "logreg"], **settings)
    table = measured(np.array(cells().y, object))
    split = make_plan(table, "grouped", 5, 1, 0).rounds[0][0]
    y = np.array(table.y, object)
    y[split.test] = np.where(y[split.test] == "all", "hem", "all")
    fits = [fitting.Fit(name, tuple(table.blocks), 0) for name in settings.compare]
    found = []
    for at, each in enumerate((table, measured(y))):
        load = fitting.Workload(each, (split,), settings, Checkpoint(tmp_path / str(at)))
        done = fitting.run_fits(fits, load, jobs=1, memory=1e9)
        found.append({fit.classifier: proba for fit, proba, *_ in done})
    return {name: (found[0][name], found[1][name]) for name in settings.compare}
