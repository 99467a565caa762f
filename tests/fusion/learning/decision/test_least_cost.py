"""The rule of several classes that costs least: known optima, and the whole road from costs to predictions."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fusion as package
from fusion.bundles.model_bundle import BundleError, ModelBundle
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import Split
from fusion.learning.decision.least_cost import least_cost_weights
from fusion.learning.decision.thresholds import DecisionSettings, least_cost_threshold
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit
from fusion.learning.fused_model import fuse
from tests.builders.command_line import assert_refused, fusion
from tests.builders.comparisons import cells, fits_of, recipe

COSTS = np.array([[0.0, 1.0, 8.0], [2.0, 0.0, 1.0], [1.0, 3.0, 0.0]])


def drawn(n, k=3, seed=0):
    """Calibrated probabilities and classes drawn by them."""
    draw = np.random.default_rng(seed)
    proba = draw.dirichlet(np.ones(k), n)
    return proba, (draw.random(n)[:, None] > proba.cumsum(axis=1)).sum(axis=1)


def paid(proba, codes, weights, costs=COSTS):
    predicted = ((proba * weights) @ costs).argmin(axis=1)
    return costs[codes, predicted].mean()


def test_calibrated_probabilities_are_taken_at_their_word():
    weights = least_cost_weights(*drawn(4000), COSTS)
    proba, codes = drawn(100_000, seed=1)
    assert paid(proba, codes, weights) <= 1.01 * paid(proba, codes, np.ones(3))  # the Bayes rule, the least there is


@pytest.mark.parametrize("costs", [COSTS, 1 - np.eye(3)], ids=["costs", "mistakes"])
def test_another_prior_is_undone(costs):
    prior = np.array([6.0, 1.0, 0.5])

    def shifted(proba):
        return proba * prior / (proba * prior).sum(axis=1, keepdims=True)

    proba, codes = drawn(4000)
    weights = least_cost_weights(shifted(proba), codes, costs)
    assert_allclose(np.log(weights * prior / np.exp(np.log(prior).mean())), 0, atol=0.25)
    new, of = drawn(100_000, seed=1)
    assert paid(shifted(new), of, weights, costs) <= 1.01 * paid(new, of, np.ones(3), costs)
    assert paid(shifted(new), of, np.ones(3), costs) > 1.1 * paid(new, of, np.ones(3), costs)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_on_a_fine_grid_costs_less(seed):
    draw = np.random.default_rng(seed)
    costs = draw.uniform(0.2, 4, (3, 3)) * (1 - np.eye(3))
    proba, codes = drawn(60, seed=seed)
    grid = np.exp(np.linspace(-3, 3, 41))
    least = min(paid(proba, codes, np.array([1, a, b]), costs) for a in grid for b in grid)
    assert paid(proba, codes, least_cost_weights(proba, codes, costs), costs) <= least * 1.02 + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_of_two_classes_costs_least_of_all(seed):
    draw = np.random.default_rng(seed)
    score, is_positive = draw.random(50).round(2), draw.random(50) < 0.3
    missed, false = draw.uniform(0.1, 10, 2)

    def cost(threshold):
        predicted = score >= threshold
        return missed * (is_positive & ~predicted).sum() + false * (~is_positive & predicted).sum()

    found = least_cost_threshold(score, is_positive, missed, false)
    assert_allclose(cost(found), min(cost(at) for at in np.arange(-0.005, 1.02, 0.005)))


def three(**given):
    table = cells(subjects=30, class_effect=1.0, **given)
    names = np.array(["a", "b", "c"], object)
    X = table.X.copy()
    X[:, 2] += 1.5 * (table.groups % 3 == 2)
    return replace(table, X=X, y=tuple(names[table.groups % 3]))


def fitted(table, split, **given):
    own = recipe(table, "logreg", **given)
    (found,) = run_fits([Fit(0, 0)], fits_of(table, [split], [own]))
    return found


@pytest.mark.parametrize("given", [{"costs": {"a": {"c": 9}}}, {"threshold": "balanced-accuracy"}], ids=str)
def test_labels_of_test_cells_change_no_rule(given):
    table = three()
    test = np.flatnonzero(table.groups < 9)
    split = Split(np.flatnonzero(table.groups >= 9), test, table.groups)
    found = fitted(table, split, **given)
    turned = np.array(table.y, object)
    turned[test] = np.roll(turned[test], 1)
    again = fitted(replace(table, y=tuple(turned)), split, **given)
    assert_array_equal(again.costs, found.costs)
    assert found.costs.shape == (3, 3)
    assert not np.diag(found.costs).any()


def test_a_cell_is_of_the_class_with_the_highest_probability_over_its_threshold():
    table = three()
    split = Split(np.flatnonzero(table.groups >= 9), np.flatnonzero(table.groups < 9), table.groups)
    found = fitted(table, split, threshold="a:0.5,b:0.2,c:0.4")
    assert_array_equal(found.expected_costs.argmin(axis=1), (found.proba / [0.5, 0.2, 0.4]).argmax(axis=1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": "sensitivity:0.9"}, "two classes"),
        ({"threshold": "0.4"}, "two classes"),
        ({"threshold": "a:0.5,b:0.2"}, "one threshold for each class"),
        ({"costs": {"a": {"d": 2}}}, "not among the cells"),
    ],
)
def test_what_three_classes_cannot_have_is_refused(settings, said):
    table = three()
    with pytest.raises(UsageError) as refusal:
        fitted(table, Split(np.arange(90), np.arange(90, 180), table.groups), **settings)
    assert said in f"{refusal.value} {refusal.value.__dict__}"


def test_two_classes_without_a_positive_one_have_no_threshold():
    with pytest.raises(UsageError, match="positive"):
        DecisionSettings(threshold="0.3").check_classes(["a", "b"], None)


def test_the_graph_predicts_by_costs():
    from fusion.bundles import onnx_export
    from tests.fusion.bundles.test_onnx_export import BLOCKS, bundle_of, run
    from tests.fusion.bundles.test_onnx_export import cells as measured

    X, y, groups = measured(3)
    model = fuse(X, y, groups, BLOCKS, "logreg", costs={"all": {"reactive": 20}, "hem": {"reactive": 20}})
    built, _ = onnx_export.build(bundle_of(model, "logreg"))
    _, label = run(built, {"features": X})
    codes = model.decision.predicted(model.predict_proba(X), None)
    assert list(label) == [model.classes[at] for at in codes]
    assert list(label) != [model.classes[at] for at in model.predict_proba(X).argmax(axis=1)]


@pytest.fixture(scope="module")
def listed(synthetic, tmp_path_factory):
    """The synthetic cells as a table of three classes."""
    file = tmp_path_factory.mktemp("listed") / "cells.csv"
    rows = []
    for at, path in enumerate(sorted(synthetic.rglob("*.bmp"), key=lambda path: path.parent.name)):
        own = path.parent.name if at // 3 % 3 else "other"
        rows.append({"path": str(path), "label": own, "subject": f"P{at // 3}"})
    with file.open("w", newline="") as sink:
        table = csv.DictWriter(sink, rows[0])
        table.writeheader()
        table.writerows(rows)
    return file


def test_costs_go_all_the_way_from_training_to_judge(listed, synthetic_store, tmp_path):
    asked = ("--set", "costs.other.hem=20", "--set", "costs.other.all=20", "--store", synthetic_store, "--json")
    words = ("--features", "colour", "--splits", "2")
    trained = fusion("train", listed, *words, "--classifier", "logreg", *asked, "-o", tmp_path / "model")
    assert trained.exit_code == 0, trained.stderr
    found = json.loads(trained.stdout)
    assert found["findings"]["costs"]["matrix"][2] == [20, 20, 0]
    (row,) = found["findings"]["costs"]["rows"]
    assert row["low"] <= row["value"] <= row["high"]
    assert row["value"] < row["most_probable"]  # what 'other' costs is worth some mistakes of others

    bundle = ModelBundle.load(tmp_path / "model")
    images = [row["path"] for row in csv.DictReader(listed.open())][:20]
    told = json.loads(fusion("predict", tmp_path / "model", *images, "--json").stdout)
    assert_array_equal(told["costs"], bundle.model.costs)
    for row in told["predictions"]:
        proba = np.array([row["probability"][name] for name in bundle.classes])
        assert row["class"] == bundle.classes[int((proba @ bundle.model.costs).argmin())]

    out = tmp_path / "evaluated"
    evaluated = fusion("evaluate", tmp_path / "model", listed, "--allow-leakage", *asked, "-o", out)
    assert evaluated.exit_code == 0, evaluated.stderr
    frame = pd.read_parquet(out / "scores.parquet")
    proba = frame[[f"p_{name}" for name in bundle.classes]].to_numpy()
    own = (1 - np.eye(3)) + 19 * np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0]])
    assert list(frame["predicted"]) == [bundle.classes[at] for at in (proba @ own).argmin(axis=1)]

    assert "What mistakes cost" in (out / "report.html").read_text()
    assert "other predicted as hem 20" in (out / "methods.md").read_text()

    judged = package.judge(frame)  # the columns cost_<class> say what was predicted
    assert_array_equal(judged.scores[0].predicted(None)[0], (proba @ own).argmin(axis=1))

    manifest = json.loads((tmp_path / "model" / "model.json").read_text())
    manifest["costs"][0][1] = -1
    (tmp_path / "model" / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="costs"):
        ModelBundle.load(tmp_path / "model")


def test_an_ablation_by_costs_is_judged_and_compared_to_the_last_bit(tmp_path):
    from tests.builders.comparisons import config, run

    settings = config(tmp_path, compare=["logreg"], subsets=["a", "a+b"], splits=3, repeats=2, costs={"a": {"c": 9}})
    found = run(three(), settings)
    found.save(tmp_path / "one", tmp_path)
    again = package.judge(pd.read_parquet(tmp_path / "one" / "scores.parquet"), seed=settings.seed)
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame(), check_exact=True)
    plain = run(three(), config(tmp_path, compare=["logreg"], subsets=["a", "a+b"], splits=3, repeats=2))
    assert not np.array_equal(found.scores[0].predicted(None), plain.scores[0].predicted(None))
    plain.save(tmp_path / "other", tmp_path)
    done = fusion("compare", tmp_path / "one", tmp_path / "other", "--json")
    assert done.exit_code == 0, done.stderr
    first = json.loads(done.stdout)["differences"][0]
    gap = found.figures[0]["image"]["balanced_accuracy"]["value"]
    gap -= plain.figures[0]["image"]["balanced_accuracy"]["value"]
    assert_allclose(first["balanced_accuracy"]["value"], gap, atol=1e-12)


def test_two_rules_are_refused_by_the_table(synthetic, tmp_path):
    words = ("--features", "colour", "--threshold", "0.3", "--set", "costs.all.hem=2", "-o", tmp_path / "m")
    assert_refused(fusion("train", synthetic, *words), 2, "two rules", "Leave one of them out")
