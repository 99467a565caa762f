"""Tables of cells, and comparisons of blocks on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.leakage.protocols import make_plan
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit, Fits
from fusion.learning.recipe import Recipe, recipe_of
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.settings.commands import AblateConfig
from fusion.workflows.ablate import compare
from fusion.workflows.run_facts import choose_positive


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
        data="cells", output=tmp_path / "out", jobs=1, **{"repeats": 1, "compare": ["svm", "logreg"], **given}
    )


def run(table, settings):
    plan = make_plan(table, settings.split, settings.splits, settings.rounds, settings.seed)
    return compare(Study(table), plan, Dataset(Path("cells"), "table", ()), settings)


def recipe(table, classifier, **given) -> Recipe:
    """The recipe that these settings ask for, on all blocks of the table."""
    settings = AblateConfig(data="cells", output=Path("out"), **given)
    positive = choose_positive(Study(table).classes, settings.positive)
    return replace(recipe_of(settings, classifier, list(table.blocks)), positive=positive)


def fits_of(table, splits, recipes, memory=0.0) -> Fits:
    """Fits of these recipes in these splits, of which nothing is kept."""
    return Fits(Study(table), tuple(splits), tuple(recipes), Run(Path("unused"), memory=memory))


def fitted(table, split, classifier, **given):
    """Probabilities, threshold and chosen parameters of one fit on all blocks, as a comparison makes it."""
    (found,) = run_fits([Fit(0, 0)], fits_of(table, [split], [recipe(table, classifier, **given)]))
    return found.proba, found.threshold, dict(found.chosen)


def scores_with_and_without_scrambled_labels(measured, **given):
    """For each classifier float64 (test cells, classes) twice: by the true labels, and with the test part's swapped.

    ``measured`` makes the table of the labels.
    """
    classifiers = ["svm", "xgb", "logreg"]
    table = measured(np.array(cells().y, object))
    split = make_plan(table, "grouped", 5, 1, 0).rounds[0][0]
    y = np.array(table.y, object)
    y[split.test] = np.where(y[split.test] == "all", "hem", "all")
    found = []
    for each in (table, measured(y)):
        # Every block by itself as well: fits that share blocks or distances are among them.
        sets = [tuple(table.blocks), *((block,) for block in table.blocks)]
        recipes = [replace(recipe(each, name, **given), blocks=one) for name in classifiers for one in sets]
        load = fits_of(each, [split], recipes, memory=1e9)
        done = run_fits([Fit(number, 0) for number in range(len(recipes))], load)
        whole = [one for one in done if load.recipes[one.fit.recipe].blocks == sets[0]]
        found.append({load.recipes[one.fit.recipe].classifier: one.proba for one in whole})
    return {name: (found[0][name], found[1][name]) for name in classifiers}
