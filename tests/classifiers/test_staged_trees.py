"""Trees of many cells, grown in stages on some of the columns, are one model of all of them."""

import json

import numpy as np
import pytest
import xgboost
from numpy.testing import assert_allclose, assert_array_equal

from classifiers import _staged_trees
from classifiers.boosting import BoostedTreesClassifier


@pytest.fixture(scope="module", params=[2, 3], ids=["two classes", "three classes"])
def problem(request):
    """More cells than a sample of them, some values missing."""
    draws = np.random.default_rng(0)
    y = draws.integers(0, request.param, BoostedTreesClassifier().staged_from + 100)
    X = draws.normal(size=(len(y), 12)).astype(np.float32)
    X[:, :4] += 0.7 * y[:, None]
    X[draws.random(X.shape) < 0.02] = np.nan
    return X, y


class Pieces:
    def __init__(self, X, size):
        self.X, self.size, self.shape = X, size, X.shape

    def batches(self):
        return (self.X[at : at + self.size] for at in range(0, len(self.X), self.size))


def test_stages_on_all_columns_are_the_trees_that_xgboost_grows_in_one_go(problem):
    X, y = problem
    model = BoostedTreesClassifier(n_estimators=13, subsample=1.0, colsample_bytree=0.9999).fit(X, y)
    weights = 1 / np.bincount(y)[y]
    weights /= weights.mean()
    rows = np.sort(np.random.default_rng(0).choice(len(X), _staged_trees._SKETCHED, replace=False))
    sketch = xgboost.QuantileDMatrix(X[rows], weight=weights[rows], max_bin=32)
    data = xgboost.QuantileDMatrix(X, label=y, weight=weights, max_bin=32, ref=sketch)
    whole = xgboost.train({**model._settings(), "colsample_bytree": 1.0}, data, num_boost_round=13)
    expected = whole.inplace_predict(X)
    expected = np.stack([1 - expected, expected], axis=1) if expected.ndim == 1 else expected
    assert_allclose(model.predict_proba(X), expected, atol=1e-6)


def test_a_stage_sees_its_columns_alone_and_all_of_them_are_one_model(problem, tmp_path):
    X, y = problem
    model = BoostedTreesClassifier(n_estimators=2 * _staged_trees.STAGES).fit(X, y)
    outputs = 1 if y.max() == 1 else 3
    trees = json.loads(bytes(model.booster_.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    assert len(trees) == 2 * _staged_trees.STAGES * outputs
    seen = [
        {column for column, child in zip(tree["split_indices"], tree["left_children"], strict=True) if child != -1}
        for tree in trees
    ]
    stages = [set().union(*seen[at : at + 2 * outputs]) for at in range(0, len(seen), 2 * outputs)]
    assert all(len(stage) <= 4 for stage in stages)  # a third of twelve columns
    assert len(set().union(*stages)) > 4
    model.save(tmp_path)
    assert_array_equal(BoostedTreesClassifier.load(tmp_path).predict_proba(X), model.predict_proba(X))
    margins = model.booster_.inplace_predict(X[:50], predict_type="margin")
    shares = model.contributions(X[:50]).sum(axis=2)
    assert_allclose(shares[:, 1] if outputs == 1 else shares, margins, atol=1e-4)


@pytest.mark.parametrize("size", [10_000, 700])
def test_external_memory_grows_the_very_same_stages(problem, size):
    X, y = problem
    inside = BoostedTreesClassifier(n_estimators=10).fit(X, y)
    outside = BoostedTreesClassifier(n_estimators=10, external_memory=True).fit(Pieces(X, size), y)
    assert_array_equal(outside.predict_proba(X), inside.predict_proba(X))


def test_a_model_says_again_what_it_said_and_another_seed_draws_other_columns(problem):
    X, y = problem
    first, again, other = (BoostedTreesClassifier(n_estimators=5, random_state=seed).fit(X, y) for seed in (1, 1, 2))
    assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert (first.predict_proba(X) != other.predict_proba(X)).any()
