"""Labels permuted by subject: what is permuted, what is scored by them, and that sharing changes nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.analysis import null
from fusion.analysis.null import check_null, permuted_labels
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import Plan, make_plan
from fusion.learning import fits as fits_module
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit
from tests.builders.comparisons import cells, config, fits_of, recipe, run
from tests.builders.tables import table_of


def test_whole_subjects_exchange_their_labels():
    table = cells(subjects=14)
    splits = [split for _, split in make_plan(table, "grouped", 3, 1, 0).splits]
    drawn = permuted_labels(table.y, table.groups, splits, 20, 0)
    assert len({tuple(labels) for labels in drawn}) > 15
    for labels in drawn:
        of_group = [set(labels[table.groups == group]) for group in np.unique(table.groups)]
        assert all(len(held) == 1 for held in of_group)
        assert sum(held == {"all"} for held in of_group) == 7
        for split in splits:
            assert all(
                len(np.unique(table.groups[split.train][labels[split.train] == name])) > 1 for name in ("all", "hem")
            )
    assert all(
        (a == b).all() for a, b in zip(drawn, permuted_labels(table.y, table.groups, splits, 20, 0), strict=True)
    )


def test_where_subjects_hold_several_classes_cells_exchange_within_their_subject():
    groups = np.repeat(np.arange(6), 10)
    y = np.where(np.arange(60) % 3 == 0, "b", "a")
    (drawn,) = permuted_labels(y.tolist(), groups, [], 1, 0)
    assert (drawn != y).any()
    for group in range(6):
        assert sorted(drawn[groups == group]) == sorted(y[groups == group])


def test_too_few_subjects_to_permute_are_told():
    y, groups = ["a", "a", "b", "b"], np.arange(4)
    splits = [split for _, split in make_plan(table_of(subjects=4, cells=1), "grouped", 2, 1, 0).splits]
    with pytest.raises(UsageError, match="no permutation"):
        permuted_labels(y, groups, splits, 1, 0)


def test_by_chance_the_road_scores_a_half_and_the_truth_stands_out(tmp_path):
    table = cells(subjects=24, class_effect=1.5, subject_effect=0.3)
    result = run(table, config(tmp_path, repeats=1, compare=["logreg"], null=19))
    found = result.findings["null"]
    assert found["permutations"] == 19
    assert [tuple(row["features"]) for row in found["rows"]] == [scores.features for scores in result.scores]
    for row in found["rows"]:
        assert 0.35 < row["balanced_accuracy"]["mean"] < 0.6
        assert 0.35 < row["auroc"]["mean"] < 0.65
    # The best of three is picked in every permutation, too.
    assert found["best"]["mean"] > max(row["balanced_accuracy"]["mean"] for row in found["rows"])
    assert found["best"]["p"] == pytest.approx(1 / 20)
    best = result.figures[result.ranked()[0]]["image"]["balanced_accuracy"]["value"]
    assert found["best"]["value"] == best


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_what_permutations_share_changes_no_score(classifier, monkeypatch):
    table = cells(subjects=12)
    (split, *_) = (split for _, split in make_plan(table, "grouped", 3, 1, 0).splits)
    labels = tuple(permuted_labels(table.y, table.groups, [split], 3, 0))

    def scores(memory, worth):
        monkeypatch.setattr(fits_module, "_WORTH_SHARING", worth)
        load = replace(fits_of(table, [split], [recipe(table, classifier)], memory=memory), permuted=labels)
        shared = load.shared[classifier]
        done = {one.fit.labels: one.proba for one in run_fits([Fit(0, 0, at) for at in (1, 2, 3)], load)}
        return shared, done

    how, together = scores(1e9, 1)
    assert how == ("distances" if classifier == "svm" else "scaling")
    monkeypatch.setattr(fits_module.Fits, "_shared", lambda self, name: "nothing")
    _, alone = scores(1e9, 1)
    for at in (1, 2, 3):
        assert_allclose(together[at], alone[at], atol=1e-6)
    assert not np.allclose(alone[1], alone[2])


def test_networks_are_not_trained_so_many_times():
    table = table_of()
    plain = recipe(table, "logreg")
    check_null([plain], 100)
    check_null([replace(plain, learnt=("a",))], 0)
    with pytest.raises(UsageError, match="100 times over"):
        check_null([replace(plain, learnt=("a",))], 100)


def test_an_external_test_set_keeps_its_labels():
    table = cells(subjects=12)
    split = Split(np.flatnonzero(table.groups < 8), np.flatnonzero(table.groups >= 8), table.groups)
    fits = fits_of(table, [split], [recipe(table, "logreg")])
    drawn = null._labels(SimpleNamespace(cells=table), fits, Plan("external", ((split,),)), 5, 0)
    y = np.array(table.y, object)
    for labels in drawn:
        assert_array_equal(labels[split.test], y[split.test])
    assert any((labels != y).any() for labels in drawn)
