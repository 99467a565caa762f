"""Patients go the road that cells go: splits, inner folds, calibration, thresholds, judgement."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.data.feature_table import AugmentedCells
from fusion.leakage.protocols import make_plan
from fusion.learning._inner_folds import InnerFolds
from fusion.learning.cross_validation import cross_validate
from fusion.learning.fused_model import fit_rows
from fusion.learning.learn import learn
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.settings.learning import HarmoniseSettings
from tests.builders.comparisons import fits_of
from tests.builders.patients import cells_of_patients, patients, relabelled


def recipe(classifier="logreg", **given):
    return Recipe(("a", "b"), classifier, unit="subject", positive="ill", **given)


def scored(table, asked):
    plan = make_plan(table, "grouped", 4, 1, 0)
    fits = fits_of(table, [split for _, split in plan.splits], [asked])
    return cross_validate(fits, plan)[0]


def test_a_patient_of_one_cell_is_that_cell():
    """A cell is a bag of one: what is learnt of both is the same."""
    cells, _ = cells_of_patients(patients=30, each=1, effect=1.0)
    bags = cells.by_subject()
    both = [scored(bags, recipe()), scored(cells, replace(recipe(), unit="cell"))]
    assert_array_equal(both[0].fold, both[1].fold)
    assert_allclose(both[0].proba, both[1].proba, atol=1e-6)


def test_a_classifier_of_cells_says_of_a_patient_the_mean_over_its_cells():
    cells, _ = cells_of_patients(patients=12, sizes=[5, 9, 3, 7] * 3)
    study = Study(cells).by_subject()
    model = learn(study, study.everyone, recipe(), Run(None))
    of_cells = model.features.classifier.classifier.predict_proba(model.features.fused(cells.X))
    expected = [of_cells[rows].mean(axis=0) for rows in study.table.cells]
    assert_allclose(model.predict_proba(study.everyone), expected, atol=1e-5)


@pytest.mark.parametrize("classifier", ["logreg", "svm", "xgb"])
def test_patients_whose_cells_differ_are_told_apart_and_by_permuted_labels_are_not(classifier):
    table = patients(patients=32, each=8, share=1.0, effect=2.0)
    held = scored(table, recipe(classifier)).proba[0, :, 0]
    is_ill = np.array(table.y) == "ill"
    assert held[is_ill].min() > held[~is_ill].max() - 0.1
    wrong = [scored(one, recipe(classifier)).proba[0, :, 0] for one in (relabelled(table, seed) for seed in range(3))]
    assert abs(np.mean([np.mean(p[is_ill]) - np.mean(p[~is_ill]) for p in wrong])) < 0.2


@pytest.mark.parametrize(
    "steps",
    [
        {"calibrate": "logistic"},
        {"threshold": "balanced-accuracy"},
        {"layer": {"pca": 2}},
        {"classifier": "svm", "calibrate": "temperature", "threshold": "sensitivity:0.9"},
        {"classifier": "xgb", "calibrate": "isotonic"},
    ],
)
def test_steps_of_a_recipe_hold_patients_out_by_themselves(steps):
    table = patients(patients=24, each=6)
    found = scored(table, recipe(**{"classifier": "logreg", **steps}))
    assert np.isfinite(found.proba).all()
    assert_allclose(found.proba.sum(axis=2), 1, atol=1e-6)
    if "threshold" in steps:
        assert ((found.threshold > 0) & (found.threshold < 1)).all()


@pytest.mark.parametrize("classifier", ["logreg", "pool"])
@pytest.mark.parametrize("more", [{}, {"calibrate": "logistic"}, {"stability": 0.1}])
def test_blocks_of_patients_are_fused_late_too(classifier, more):
    """The block that shows the blasts is believed, the other one is not; and what is kept says the same."""
    table = patients(patients=32, each=8, share=1.0, effect=3.0, between=0.3)
    asked = recipe(classifier, fuse="late", layer={}, **more)
    rows = Study(table).training_rows(("a", "b"), np.arange(24))
    model = fit_rows(rows, table.blocks, asked, InnerFolds(rows))
    late = model.classifier
    assert late.weights[0] > 2 * late.weights[1]
    rest = table.X[np.arange(24, 32)]
    of_blocks = late.block_scores(model.fused_bags(rest))
    assert of_blocks.shape == (8, 2, 2)
    is_ill = np.array(table.y)[24:] == "ill"
    assert model.predict_proba(rest)[is_ill, 0].min() > model.predict_proba(rest)[~is_ill, 0].max()


def test_labels_of_the_test_part_have_no_say_in_its_scores():
    table = patients(patients=24, each=6)
    split = make_plan(table, "grouped", 4, 1, 0).rounds[0][0]
    y = np.array(table.y, object)
    y[split.test] = np.where(y[split.test] == "ill", "well", "ill")
    both = []
    for each in (table, replace(table, y=tuple(y.tolist()))):
        rows = Study(each).training_rows(("a", "b"), split.train)
        model = fit_rows(rows, each.blocks, recipe(calibrate="logistic"), InnerFolds(rows))
        both.append(model.predict_proba(each.X[split.test]))
    assert_array_equal(*both)


def test_folds_inside_take_whole_patients():
    rows = Study(patients(patients=8, sizes=[3, 5, 2, 4] * 2)).training_rows(("a", "b"), np.arange(8))
    part = InnerFolds(rows).part(np.array([0, 2, 5]), np.array([1]))
    assert_array_equal(part.rows.X.sizes, [3, 2, 5])
    assert_array_equal(part.X.sizes, [5])
    assert part.rows.y.tolist() == ["ill", "ill", "well"]


def test_harmonised_and_selected_features_are_of_cells():
    cells, _ = cells_of_patients(patients=24, each=8)
    sites = tuple("east" if int(name[1:]) % 4 < 2 else "west" for name in cells.subjects)
    X = cells.X + np.where(np.array(sites)[:, None] == "east", 5.0, 0.0).astype(np.float32)
    table = replace(cells, X=X, sources=sites).by_subject()
    from fusion.settings.learning import HarmoniseSettings

    found = scored(table, recipe(harmonise=HarmoniseSettings(method="standard"), stability=0.1))
    assert np.isfinite(found.proba).all()


def test_the_mix_of_a_new_site_is_estimated_by_what_cells_are_and_supposed_where_nobody_knows():
    harmonise = HarmoniseSettings(method="standard", transductive=True, mix="estimated")
    for told, known in ((True, ("blast", "normal")), (False, ())):
        table = patients(told=told, patients=16, share=0.5)
        study = Study(table)
        model = learn(study, study.everyone, recipe(harmonise=harmonise), Run(None)).features
        assert model.harmoniser.classes == known
        assert (model.harmoniser.mix is not None) == told


def test_labels_of_a_few_cells_of_a_site_tell_no_mix():
    table, kinds = cells_of_patients(patients=16, share=0.5)
    some = [kind if at < 9 else None for at, kind in enumerate(kinds)]
    assert Study(table.by_subject(some)).training_rows(("a", "b"), np.arange(16)).labelled() is None
    more = [kind if at < 40 else None for at, kind in enumerate(kinds)]
    own = Study(table.by_subject(more)).training_rows(("a", "b"), np.arange(16)).of_labelled_cells(0)
    assert sorted(set(own.y)) == ["blast", "normal"]
    assert len(own) == 40


def augmented_patients(seed=0):
    """Patients whose cells have two augmented versions each, from sites of their own; one cell has no second one."""
    cells, kinds = cells_of_patients(patients=12, each=5)
    X = np.stack([cells.X + 1, cells.X + 2]).astype(np.float32)
    there = np.ones(X.shape[:2], bool)
    there[1, :5] = False
    cells = replace(cells, augmented=AugmentedCells(X, there, are_sources=True), sources=("here",) * len(cells))
    return cells.by_subject(kinds)


def test_augmented_cells_of_a_patient_are_that_patient_once_more():
    table = augmented_patients()
    rows = Study(table).training_rows(("b",), np.array([0, 3]))
    assert (rows.count, len(rows)) == (2, 5)  # of the first patient nobody has the second version
    assert rows.y.tolist() == ["ill", "well", "ill", "well", "well"]
    assert rows.sources == ("here", "here", "here~1", "here~1", "here~2")
    assert_array_equal(rows.X[2:3].stacked, rows.X[:1].stacked + 1)
    assert_array_equal(rows.X[4:5].stacked, rows.X[1:2].stacked + 2)
    assert rows.X[4:5].stacked_labels.tolist() == ["normal"] * 5
    # A fold takes a patient's augmented cells along, and never those of another.
    assert set(rows.only(np.array([1])).groups) == {table.groups[3]}
    assert len(rows.without_augmented()) == 2


@pytest.mark.parametrize("classifier", ["logreg", "pool"])
def test_a_model_learns_from_augmented_patients_and_keeps_no_map_of_them(classifier):
    study = Study(augmented_patients())
    steps = {"harmonise": HarmoniseSettings(method="standard", transductive=True), "stability": 0.0}
    model = learn(study, study.everyone, recipe(classifier, **steps), Run(None)).features
    assert list(model.harmoniser.maps) == ["here"]
    plain = learn(Study(replace(study.table, augmented=None)), study.everyone, recipe(classifier, **steps), Run(None))
    X, sources = study.table.X, study.table.sources
    assert not np.allclose(model.predict_proba(X, sources), plain.features.predict_proba(X, sources))
