"""Calibration and thresholds: what they are, and that no test cell has a say in them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.metrics import balanced_accuracy_score, recall_score

from fusion.bundles.bundle_files import BundleError
from fusion.bundles.model_bundle import ModelBundle
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import Split
from fusion.learning.decision.thresholds import (
    DecisionSettings,
    best_threshold,
    held_out,
    threshold_of_sensitivity,
)
from fusion.metrics.judgement import judge_scores
from tests.builders.command_line import assert_refused, fusion
from tests.builders.comparisons import fitted
from tests.builders.tables import table_of


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_thresholds_are_the_best_of_all(pairs, share):
    score = np.array([s for s, _ in pairs]) / 20
    is_positive = np.array([p for _, p in pairs])
    if is_positive.all() or not is_positive.any():
        return
    every = [-1.0, *score, *(score + 1e-9)]
    best = max(balanced_accuracy_score(is_positive, score >= threshold) for threshold in every)
    assert balanced_accuracy_score(is_positive, score >= best_threshold(score, is_positive)) == pytest.approx(best)
    threshold = threshold_of_sensitivity(score, is_positive, share)
    assert recall_score(is_positive, score >= threshold) >= share - 1e-12
    higher = [other for other in every if other > threshold and (score >= other).sum() < (score >= threshold).sum()]
    assert all(recall_score(is_positive, score >= other) < share for other in higher)


def test_no_group_is_scored_by_a_model_that_has_seen_it():
    groups = np.repeat(np.arange(12), 5)
    y = np.where(groups % 2, "all", "hem")
    asked = []

    def score(train, test):
        asked.append((set(groups[train]), set(groups[test])))
        return np.full((len(test), 2), 0.5)

    assert held_out(score, y, groups, 0).shape == (60, 2)
    assert len(asked) == 5
    assert all(not seen & scored for seen, scored in asked)
    assert set().union(*(scored for _, scored in asked)) == set(range(12))


@pytest.mark.parametrize("calibrate", ["none", "logistic", "temperature", "isotonic"])
@pytest.mark.parametrize("threshold", [None, "balanced-accuracy", "sensitivity:0.9", "0.3"])
@pytest.mark.parametrize("classifier", ["logreg", "xgb"])
def test_labels_of_test_cells_change_nothing(calibrate, threshold, classifier):
    table = table_of()
    test = np.flatnonzero(table.groups < 6)
    split = Split(np.flatnonzero(table.groups >= 6), test, table.groups)
    config = {"calibrate": calibrate, "threshold": threshold, "classifiers": {"xgb": {"n_estimators": 20}}}
    proba, chosen_threshold, _ = fitted(table, split, classifier, **config)
    turned = np.array(table.y, object)
    turned[test] = np.where(turned[test] == "all", "hem", "all")
    again = fitted(replace(table, y=tuple(turned)), split, classifier, **config)
    assert_array_equal(again[0], proba)
    assert np.isnan(chosen_threshold) if threshold is None else again[1] == chosen_threshold


def test_a_threshold_moves_calls_and_leaves_scores():
    y, groups = np.array(["p", "p", "n", "n"]), np.arange(4)
    proba = np.array([[0.4, 0.6], [0.7, 0.3], [0.75, 0.25], [0.9, 0.1]])  # of n and p
    usual = judge_scores(y, proba, ["n", "p"], groups, positive="p").figures
    moved = judge_scores(y, proba, ["n", "p"], groups, positive="p", threshold=np.full(4, 0.3)).figures
    assert (usual["image"]["sensitivity"]["value"], moved["image"]["sensitivity"]["value"]) == (0.5, 1)
    assert moved["image"]["specificity"]["value"] == 1
    assert moved["confusion"] == [[2, 0], [0, 2]]
    for level in ("image", "subject", "vote"):
        assert moved[level]["balanced_accuracy"]["value"] == 1
    for metric in ("auroc", "brier", "log_loss", "ece"):
        assert repr(moved["image"][metric]) == repr(usual["image"][metric])  # NaN is not itself


@pytest.mark.parametrize("text", ["best", "sensitivity", "sensitivity:2", "specificity:0.9", "1", "-0.1", "nan"])
def test_thresholds_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="threshold"):
        DecisionSettings("none", text)


def test_a_threshold_for_three_classes_is_refused():
    table = table_of()
    labels = np.array(table.y, object)
    labels[table.groups % 3 == 0] = "other"
    three = replace(table, y=tuple(labels))
    with pytest.raises(UsageError, match="two classes"):
        fitted(three, Split(np.arange(96, 192), np.arange(96), three.groups), "logreg", threshold="0.4")


def test_a_model_keeps_them_and_calls_by_them(synthetic, tmp_path):
    model = tmp_path / "model"
    words = ("--features", "morphology", "--classifier", "logreg", "-o", model)
    asked = ("--calibrate", "isotonic", "--threshold", "sensitivity:0.95")
    trained = fusion("train", synthetic, *words, *asked)
    assert trained.exit_code == 0, trained.stderr
    assert "chosen inside each training part" in trained.stderr
    bundle = ModelBundle.load(model)
    assert bundle.model.calibration.knots
    images = sorted(synthetic.rglob("*.bmp"))[:12]
    rows = json.loads(fusion("predict", model, *images, "--json").stdout)["predictions"]
    for row in rows:
        assert row["class"] == ("all" if row["probability"]["all"] >= bundle.model.threshold else "hem")

    manifest = json.loads((model / "model.json").read_text())
    manifest["calibration"]["knots"][0][1][0] = 7.0
    (model / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot be"):
        ModelBundle.load(model)


def test_wrong_use_is_told(synthetic, tmp_path):
    result = fusion("train", synthetic, "--features", "morphology", "--threshold", "high", "-o", tmp_path / "m")
    assert_refused(result, 2, "--threshold", "high", "balanced-accuracy")
