"""Trees draw columns by the weights that the fusion layer gives blocks to everybody else."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from classifiers.boosting import BoostedTreesClassifier
from fusion.feature_transforms.column_weights import column_weights
from fusion.feature_transforms.fusion_layer import FusionLayer
from fusion.learning.fused_model import fuse

BLOCKS = {"morphology": list(range(10)), "texture": list(range(10, 70)), "colour": list(range(70, 90))}


def labelled(cells=600):
    """Cells whose class every column tells alike."""
    draws = np.random.default_rng(0)
    y = draws.integers(0, 2, cells)
    return (draws.normal(size=(cells, 90)) + y[:, None]).astype(np.float32), y


def splits(booster):
    """How often the trees split on each of 90 columns."""
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    columns = [
        column
        for tree in trees
        for column, child in zip(tree["split_indices"], tree["left_children"], strict=True)
        if child != -1
    ]
    return np.bincount(columns, minlength=90)


@pytest.mark.parametrize(
    "params",
    [
        {"weights": {"texture": 0.3}},
        {"emphasis": 0.2},
        {"weights": {"texture": 0.3}, "emphasis": 0.2},
        {"weights": "none", "emphasis": 0.2},
    ],
)
def test_a_columns_weight_is_its_share_of_the_fused_variance(params):
    layer = FusionLayer(BLOCKS, emphasised={"morphology": [0, 3], "colour": [1]}, **params)
    X, _ = labelled()
    variances = layer.fit_transform(X).var(axis=0)
    assert_allclose(column_weights(layer), variances / variances.sum(), rtol=1e-9)


def test_blocks_that_nothing_is_said_of_are_drawn_as_they_are():
    assert column_weights(FusionLayer(BLOCKS)) is None
    assert column_weights(FusionLayer(BLOCKS, weights="none")) is None
    assert column_weights(FusionLayer(BLOCKS, weights={})) is None


@pytest.mark.parametrize("given", [{}, {"staged_from": 100}, {"external_memory": True}], ids=str)
def test_trees_split_on_columns_in_the_shares_of_their_weights(given):
    X, y = labelled()
    weights = column_weights(FusionLayer(BLOCKS, weights={"texture": 0.1}))
    model = BoostedTreesClassifier(n_estimators=70, max_depth=1, colsample_bytree=0.03, **given)
    alike = splits(model.fit(X, y).booster_)
    drawn = splits(model.draw_by(weights).fit(X, y).booster_)
    assert alike[10:70].sum() > 0.4 * alike.sum()
    assert drawn[10:70].sum() < 0.1 * drawn.sum()
    assert drawn[:10].sum() > 2 * alike[:10].sum()


@pytest.mark.parametrize("steps", [{}, {"calibrate": "logistic"}, {"fuse": "late"}], ids=str)
def test_a_recipe_of_weights_changes_its_trees(steps):
    X, y = labelled(120)
    blocks = {name: slice(own[0], own[-1] + 1) for name, own in BLOCKS.items()}

    def scores(layer):
        params = {"n_estimators": 10, "colsample_bytree": 0.1}
        emphasised = {"emphasised": {"colour": [0, 1, 2]}} if "emphasis" in layer else {}
        model = fuse(X, y, np.arange(120), blocks, "xgb", params=params, layer={**layer, **emphasised}, **steps)
        return model.predict_proba(X)

    plain = scores({})
    assert_array_equal(scores({"weights": "none"}), plain)
    assert not np.array_equal(scores({"emphasis": 0.5}), plain)


def test_a_block_without_weight_is_refused():
    X, y = labelled(60)
    blocks = {name: slice(own[0], own[-1] + 1) for name, own in BLOCKS.items()}
    with pytest.raises(ValueError, match="leave such a block out"):
        fuse(X, y, np.arange(60), blocks, "xgb", layer={"weights": {"texture": 0.0}})


def test_weights_that_trees_could_not_heed_are_refused():
    X, y = labelled(60)
    blocks = {name: slice(own[0], own[-1] + 1) for name, own in BLOCKS.items()}
    every = {"params": {"colsample_bytree": 1.0, "n_estimators": 2}}
    with pytest.raises(ValueError, match="lower colsample_bytree"):
        fuse(X, y, np.arange(60), blocks, "xgb", layer={"weights": {"texture": 0.3}}, **every)
    fuse(
        X[:, :10],
        y,
        np.arange(60),
        {"morphology": blocks["morphology"]},
        "xgb",
        layer={"weights": {"texture": 0.3}},
        **every,
    )
