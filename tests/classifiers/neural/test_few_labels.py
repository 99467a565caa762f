"""A trained network by a few labelled cells: its head's inputs, a new head on them, and a fine-tuning from there."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from classifiers.linear import LogisticClassifier
from classifiers.neural.estimator import NeuralClassifier
from fusion.data.classifier_inputs import CellInputs
from fusion.plugins.networks import AdaptsToSites
from tests.builders.images import paint

SMALL = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "size": 32,
    "drop_path": 0.0,
    "head": [16],
    "head_dropout": [0.0, 0.1],
}
QUICK = {"epochs": 1, "batch_size": 8, "learning_rate": 3e-3, "patience": 0, "validation": 0.0}


def fitted(classes="ab", fusion="gated", columns=3, turns=1, **more):
    """A network of cells whose size tells their class, and the cells."""
    many = len(classes)
    images = np.stack([paint(at, side=32, radius=13 - 3 * (at % many)) for at in range(24)])
    X = np.random.default_rng(0).normal(5, 3, size=(24, columns)).astype(np.float32)
    X[3] = np.nan
    inputs = CellInputs(X, {"f": slice(0, columns)} if columns else {}, images)
    y = np.array(list(classes))[np.arange(24) % many]
    model = NeuralClassifier({**SMALL, "fusion": fusion}, QUICK, turns=turns, device="cpu", threads=1, **more)
    return model.fit(inputs, y), inputs, y


@pytest.mark.parametrize(
    ("fusion", "columns", "turns"), [("gated", 0, 1), ("gated", 3, 4), ("film", 3, 1), ("attention", 3, 2)]
)
def test_what_the_head_is_given_says_what_the_network_says(fusion, columns, turns):
    model, inputs, _ = fitted(fusion=fusion, columns=columns, turns=turns)
    assert isinstance(model, AdaptsToSites)
    given = model.head_inputs(inputs)
    assert given.shape[:2] == (24, turns)
    assert_allclose(model.judge_head_inputs(given), model.predict_proba(inputs), atol=1e-6)


@pytest.mark.parametrize("classes", ["ab", "abc"])
def test_a_new_head_is_logistic_regression_and_the_rest_is_shared(classes, tmp_path):
    model, inputs, y = fitted(classes)
    before = model.predict_proba(inputs)
    given = model.head_inputs(inputs)
    refitted = model.with_refitted_head(given, y)
    rows = given[:, 0].astype(float) / np.sqrt(given[:, 0].astype(float).var(axis=0).mean())
    by_hand = LogisticClassifier().fit(rows, y).predict_proba(rows)
    assert_allclose(refitted.judge_head_inputs(given), by_hand, atol=1e-5)
    assert_allclose(refitted.predict_proba(inputs), by_hand, atol=1e-5)
    assert refitted.sees_as(model)
    assert_array_equal(model.predict_proba(inputs), before)
    refitted.save(tmp_path)
    assert_allclose(NeuralClassifier.load(tmp_path).predict_proba(inputs), by_hand, atol=1e-5)


def test_fine_tuning_leaves_the_network_it_began_from_and_is_the_same_twice():
    model, inputs, y = fitted()
    before = model.predict_proba(inputs)
    tuned, again = model.fine_tuned(inputs, y), model.fine_tuned(inputs, y)
    assert_array_equal(model.predict_proba(inputs), before)
    assert_array_equal(tuned.predict_proba(inputs), again.predict_proba(inputs))
    rows = np.arange(24), np.searchsorted(model.classes_, y)
    assert -np.log(tuned.predict_proba(inputs)[rows]).mean() < -np.log(before[rows]).mean()
    assert not tuned.sees_as(model)
    assert len(tuned.history_) > len(model.history_)


def test_fine_tuning_keeps_to_what_a_recipe_trains():
    model, inputs, y = fitted()
    frozen = model.set_params(training={**QUICK, "tune": "none"}).fine_tuned(inputs, y)
    trunk = (net.network_.backbone.backbone.state_dict() for net in (model, frozen))
    for one, other in zip(*(each.values() for each in trunk), strict=True):
        assert_array_equal(one.numpy(), other.numpy())


def test_at_a_site_cells_are_judged_alone_as_together():
    model, inputs, _ = fitted(batch_statistics="source")
    there = CellInputs(inputs.X * 2, inputs.blocks, 255 - inputs.source, sources=("there",) * 24)
    assert list(model.new_sites(there.sources)) == ["there"]
    home = model.at_site(there)
    together = model.predict_proba(there)
    assert_allclose(home.predict_proba(there.take(np.arange(1))), together[:1], atol=1e-5)
    assert home.new_sites(there.sources) == {}
    assert list(home.new_sites((None,) * 24)) == [""]  # where it was trained is now another site
    assert fitted()[0].new_sites(("there",) * 24) == {}
