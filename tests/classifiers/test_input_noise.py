"""Trees of noisy copies: what a cut says near the cells, and nothing of what a search is judged by."""

import numpy as np
import pytest
import xgboost
from numpy.testing import assert_allclose, assert_array_equal

from classifiers._input_noise import COPIES, noisy_copies
from classifiers.boosting import BoostedTreesClassifier


def cells(n, seed):
    """Two classes that ten columns tell a little each."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, n)
    X = draw.normal(size=(n, 10)) + 0.35 * y[:, None]
    return X.astype(np.float32), y


def test_copies_lie_around_the_cells_in_proportion_to_each_columns_spread():
    X = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32) * [1, 100, 0, 1]
    X = X.astype(np.float32)
    X[::3, 1] = np.nan
    X[:, 3] = np.nan
    copies = noisy_copies(X, 0.5, seed=1).reshape(COPIES, *X.shape)
    moved = copies - X
    assert_allclose(moved[..., 0].std(), 0.5 * X[:, 0].std(), rtol=0.02)
    assert_allclose(np.nanstd(moved[..., 1]), 0.5 * np.nanstd(X[:, 1]), rtol=0.02)
    assert_array_equal(moved[..., 2], 0)
    assert_array_equal(np.isnan(copies), np.broadcast_to(np.isnan(X), copies.shape))
    assert abs(np.corrcoef(moved[0, :, 0], moved[1, :, 0])[0, 1]) < 0.1


def test_trees_are_those_that_xgboost_grows_on_the_copies():
    X, y = cells(300, 0)
    model = BoostedTreesClassifier(n_estimators=20, input_noise=0.6).fit(X, y)
    weights = 1 / np.bincount(y)[y]
    data = xgboost.QuantileDMatrix(
        noisy_copies(X, 0.6, seed=0),
        label=np.tile(y, COPIES),
        weight=np.tile(weights / weights.mean(), COPIES),
        max_bin=32,
    )
    expected = xgboost.train(model._settings(), data, num_boost_round=20)
    assert_allclose(model.predict_proba(X)[:, 1], expected.inplace_predict(X), atol=1e-6)


@pytest.mark.parametrize("staged_from", [1, 4096], ids=["in stages", "tree by tree"])
def test_a_cut_is_less_sure_of_what_lies_near_it(staged_from):
    """Two heaps of cells with nothing between them: any cut there parts them, and trees are as sure next to it."""
    draw = np.random.default_rng(0)
    y = np.tile([0, 1], 100)
    X = (draw.normal(scale=0.3, size=(200, 3)) + np.where(y, 1, -1)[:, None]).astype(np.float32)
    asked = np.repeat(np.float32([[-1], [-0.4], [-0.1], [0.1], [1]]), 3, axis=1)
    sure, noisy = (
        BoostedTreesClassifier(n_estimators=60, input_noise=noise, staged_from=staged_from)
        .fit(X, y)
        .predict_proba(asked)[:, 1]
        for noise in (0, 0.6)
    )
    assert sure[0] == sure[1]
    assert min(abs(sure - 0.5)) > 0.35
    assert noisy[1] - noisy[0] > 0.03
    assert max(abs(noisy[2:4] - 0.5)) < 0.35
    assert (np.diff(noisy) > 0).all()


def test_a_search_is_judged_on_cells_as_they_are_that_no_copy_was_learnt_from(monkeypatch):
    X, y = cells(90, 0)
    seen = []
    folded = xgboost.cv

    def watched(settings, data, **options):
        values = data.get_data().toarray()
        for train, test in options["folds"]:
            assert_array_equal(values[test], X[test])
            assert not set(test) & set(train % len(X))
            assert len(train) == COPIES * len(np.unique(train % len(X)))
            assert train.min() >= len(X)
            assert_array_equal(data.get_label()[train], y[train % len(X)])
        seen.append(settings)
        return folded(settings, data, **options)

    monkeypatch.setattr(xgboost, "cv", watched)
    model = BoostedTreesClassifier(input_noise=0.6, search=True).fit(X, y, np.arange(90) // 3)
    assert len(seen) == 6
    assert model.chosen_["n_estimators"] >= 1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"input_noise": -0.1}, "input_noise is -0.1, and a standard deviation is 0 or more"),
        ({"input_noise": float("nan")}, "input_noise is nan"),
        ({"input_noise": 0.6, "external_memory": True}, "copies cells in memory, and external_memory"),
        ({"input_noise": 0.6, "scheduler": "tcp://localhost:1"}, "copies cells in memory, and scheduler"),
    ],
)
def test_noise_that_cannot_be_is_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        BoostedTreesClassifier(**parameters).fit(*cells(60, 0))
