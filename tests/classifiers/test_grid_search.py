"""The search for a classifier's parameters inside its training part."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from classifiers.boosting import BoostedTreesClassifier
from classifiers.linear import LogisticClassifier
from classifiers.svm import SupportVectorClassifier
from fusion.learning.shared_distances import SharedDistances
from tests.builders.command_line import assert_refused, fusion
from tests.builders.tables import rings


@pytest.mark.parametrize("kind", [SupportVectorClassifier, LogisticClassifier, BoostedTreesClassifier])
def test_a_search_says_what_it_chose_and_is_no_worse_than_the_worst_of_its_grid(kind):
    X, y, groups = rings()
    model = kind(search=True).fit(X[:160], y[:160], groups[:160])
    assert model.chosen_
    assert kind().fit(X[:160], y[:160], groups[:160]).chosen_ == {}
    again = kind(search=True).fit(X[:160], y[:160], groups[:160])
    assert again.chosen_ == model.chosen_
    assert_allclose(again.predict_proba(X), model.predict_proba(X))


def test_the_svm_finds_the_width_that_parts_rings():
    X, y, groups = rings(seed=1)
    model = SupportVectorClassifier(search=True).fit(X[:160], y[:160], groups[:160])
    assert (model.predict(X[160:]) == y[160:]).mean() > 0.9
    # The grid is centred on the usual width.
    scale = 1 / (X.shape[1] * X[:160].var())
    factor = model.chosen_["gamma"] / scale
    assert min(abs(factor - of) for of in (0.3, 1, 3)) < 1e-6


def test_shared_distances_choose_what_columns_choose():
    X, y, groups = rings(seed=2)
    X = X.astype(np.float32)
    blocks = {"a": slice(0, 3), "b": slice(3, 6)}
    train, test = np.arange(160), np.arange(160, 240)
    from fusion.feature_transforms.fusion_layer import FusionLayer

    layer = FusionLayer(blocks={name: list(range(part.start, part.stop)) for name, part in blocks.items()})
    rows = layer.fit_transform(X[train])
    plain = SupportVectorClassifier(search=True).fit(rows, y[train], groups[train])
    shared = SharedDistances(X, blocks, train, test, {})
    other = SupportVectorClassifier(search=True).fit_distances(shared.of(("a", "b")), y[train], groups[train])
    assert other.chosen_["C"] == plain.chosen_["C"]
    assert other.chosen_["gamma"] == pytest.approx(plain.chosen_["gamma"])
    assert_allclose(
        other.predict_proba_distances(shared.test_rows), plain.predict_proba(layer.transform(X[test])), atol=1e-6
    )


def test_logistic_regression_takes_a_strong_penalty_where_columns_are_noise():
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(120, 300)), np.arange(120) % 2, np.repeat(np.arange(24), 5)
    assert LogisticClassifier(search=True).fit(X, y, groups).chosen_["C"] == 0.003
    X[:, 0] += 6 * y
    assert LogisticClassifier(search=True).fit(X, y, groups).chosen_["C"] > 0.003


def test_trees_stop_where_more_do_not_help():
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(150, 5)), np.arange(150) % 2, np.repeat(np.arange(30), 5)
    noise = BoostedTreesClassifier(search=True).fit(X, y, groups).chosen_
    X[:, 0] += 1.5 * y
    signal = BoostedTreesClassifier(search=True).fit(X, y, groups)
    assert noise["n_estimators"] < signal.chosen_["n_estimators"] <= 1000
    assert signal.booster_.num_boosted_rounds() == signal.chosen_["n_estimators"]


def test_groups_stay_whole_in_the_search(monkeypatch):
    X, y, groups = rings()
    seen = []
    from classifiers import linear

    whole = linear.inner_folds

    def watched(*arguments):
        seen.extend(whole(*arguments))
        return seen

    monkeypatch.setattr(linear, "inner_folds", watched)
    LogisticClassifier(search=True).fit(X, y, groups)
    assert seen
    assert all(not set(groups[train]) & set(groups[test]) for train, test in seen)


@pytest.mark.slow
def test_what_every_fold_chose_is_told(synthetic, tmp_path):
    out = tmp_path / "result"
    words = ("--search", "--splits", 3)
    done = fusion(
        "ablate",
        synthetic,
        "--features",
        "morphology,colour",
        "--classifiers",
        "logreg",
        *words,
        "--repeats",
        1,
        "-o",
        out,
    )
    assert done.exit_code == 0, done.stderr
    rows = json.loads((out / "result.json").read_text())["findings"]["chosen"]
    assert len(rows) == 3 * 3  # three sets of blocks, three folds
    assert all(row["C"] in (0.003, 0.03, 0.3, 3.0) for row in rows)
    trained = fusion(
        "train", synthetic, "--features", "morphology", "--classifier", "logreg", *words, "-o", tmp_path / "m"
    )
    assert "folds inside them chose C" in trained.stderr


def test_a_classifier_that_has_no_search_says_so(synthetic, tmp_path):
    words = ("--classifier", "neural", "--search", "-o", tmp_path / "m")
    assert_refused(fusion("train", synthetic, *words), 2, "neural", "search")
