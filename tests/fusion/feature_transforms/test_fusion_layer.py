"""The fusion layer does what scikit-learn's steps do block by block, and lets no block outweigh another."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusion.feature_transforms.fusion_layer import FusionLayer

BLOCKS = {"shape": range(6), "texture": range(6, 30), "colour": range(30, 31)}


def table(n=120, seed=0, missing=0.05):
    """float32 (n, 31): correlated columns of very different size, a twentieth of them missing."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 31)) @ (np.eye(31) + 0.3 * rng.normal(size=(31, 31)))
    X = X * 10.0 ** rng.integers(-3, 4, size=31) + rng.normal(size=31)
    X[rng.random(X.shape) < missing] = np.nan
    return X.astype(np.float32)


def frame(X):
    return pd.DataFrame(X, columns=[f"{name}.f{at}" for name, part in BLOCKS.items() for at in part])


@parametrize_with_checks(
    [
        FusionLayer(),
        FusionLayer(scale="robust", pca=0.9, clip=None),
        FusionLayer(scale="none", pca=2, weights="none"),
        FusionLayer(emphasis=0.3, emphasised={"features": [0]}),
    ]
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


# ---- what it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "scaler"), [("standard", StandardScaler()), ("robust", RobustScaler())])
def test_each_block_is_imputed_and_scaled_as_by_scikit_learn(scale, scaler):
    train, test = table(seed=0), table(40, seed=1)
    layer = FusionLayer(BLOCKS, scale=scale, weights="none", clip=None).fit(train)
    peer = make_pipeline(SimpleImputer(strategy="median"), scaler).fit(train.astype(float))
    assert_allclose(layer.transform(test), peer.transform(test.astype(float)), rtol=1e-9, atol=1e-9)
    assert layer.transform(test).dtype == np.float64


def test_without_scaling_values_stay_as_they_are():
    X = table(missing=0)
    assert_array_equal(FusionLayer(BLOCKS, scale="none", weights="none").fit_transform(X), X.astype(float))


@pytest.mark.parametrize("asked", [4, 0.8])
@pytest.mark.parametrize("n", [120, 20])
def test_each_block_is_reduced_as_by_scikit_learn(n, asked):
    train, test = table(n), table(40, seed=1)
    layer = FusionLayer(BLOCKS, pca={"texture": asked}, weights="none", clip=None).fit(train)
    names = layer.get_feature_names_out()
    part = [name.startswith("texture.pc") for name in names]
    steps = SimpleImputer(strategy="median"), StandardScaler(), PCA(asked, svd_solver="full")
    peer = make_pipeline(*steps).fit(train[:, 6:30].astype(float))
    assert sum(part) == peer[-1].n_components_
    assert_allclose(layer.transform(test)[:, part], peer.transform(test[:, 6:30].astype(float)), atol=1e-6)
    assert sum(part) + 6 + 1 == len(names)


def test_components_beyond_the_rank_of_a_block_are_left_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 8))
    assert FusionLayer(pca=8).fit_transform(X).shape == (50, 3)
    assert FusionLayer(pca=8).fit_transform(rng.normal(size=(5, 8))).shape == (5, 4)


@pytest.mark.parametrize("pca", [None, 3, 0.9, {"texture": 5}])
@pytest.mark.parametrize("scale", ["standard", "robust", "none"])
def test_equal_weights_give_every_block_the_same_mean_squared_distance(scale, pca):
    layer = FusionLayer(BLOCKS, scale=scale, pca=pca)
    out = layer.fit_transform(table())
    blocks = np.array([name.partition(".")[0] for name in layer.get_feature_names_out()])
    distances = [np.mean(pdist(out[:, blocks == name], "sqeuclidean")) for name in BLOCKS]
    assert_allclose(distances, distances[0], rtol=1e-9)
    # The fused columns have variance 1 on average, so that a penalty means the same for one block and for many.
    assert_allclose(out.var(axis=0).mean(), 1, rtol=1e-9)


def test_a_lone_standardised_block_is_not_changed_by_weights():
    X = table()
    equal, none = (FusionLayer(weights=weights, clip=None).fit_transform(X) for weights in ("equal", "none"))
    assert_allclose(equal, none, rtol=1e-9)


def test_a_factor_multiplies_a_block_on_top_of_equal_weights():
    X = table()
    equal, twice = (FusionLayer(BLOCKS, weights=weights).fit_transform(X) for weights in ("equal", {"shape": 2}))
    assert_allclose(twice[:, :6], 2 * equal[:, :6], rtol=1e-15)
    assert_array_equal(twice[:, 6:], equal[:, 6:])


@pytest.mark.parametrize("pca", [None, 4])
def test_emphasised_columns_have_their_share_of_a_block_which_weighs_as_before(pca):
    """And a block without such columns, or of nothing else, is as it was."""
    X, chosen = table(), {"shape": [2, 5], "colour": [0], "elsewhere": [9]}
    plain, own = (
        FusionLayer(BLOCKS, pca=pca, **more).fit_transform(X) for more in ({}, {"emphasis": 0.4, "emphasised": chosen})
    )
    if pca is None:
        varies = own[:, :6].var(axis=0)
        assert varies[[2, 5]].sum() == pytest.approx(0.4 * varies.sum())
        assert_allclose(own[:, [0, 1, 3, 4]] / plain[:, [0, 1, 3, 4]], (0.6 / (4 / 6)) ** 0.5)
        assert varies.sum() == pytest.approx(plain[:, :6].var(axis=0).sum())
    else:
        # Components of the emphasised columns, not components emphasised: without them what is left is less.
        assert not np.allclose(own[:, :4], plain[:, :4])
    assert_allclose(own[:, -25 if pca is None else -5 :], plain[:, -25 if pca is None else -5 :])


def test_blocks_come_out_in_the_order_given_and_others_are_left_out():
    X = table()
    out = FusionLayer({"b": [7, 3], "a": [0]}, weights="none").fit_transform(X)
    assert_array_equal(out, FusionLayer(weights="none").fit_transform(X)[:, [7, 3, 0]])


# ---- what may go wrong in a table -----------------------------------------------------------------------------------


def test_nothing_is_learnt_from_the_rows_transformed():
    train, test = table(), table(40, seed=1)
    layer = FusionLayer(BLOCKS, pca={"texture": 5}).fit(train)
    before = {name: array.copy() for name, array in layer.state().items()}
    whole = layer.transform(test)
    odd = test.copy()
    odd[1:] = 1e6
    assert_allclose(layer.transform(odd)[0], whole[0], rtol=1e-10)
    assert_allclose(layer.transform(test[:1])[0], whole[0], rtol=1e-10)
    for name, array in layer.state().items():
        assert_array_equal(array, before[name])


def test_a_missing_value_becomes_the_training_median():
    train = np.array([[1.0, 5], [2, 6], [9, 7], [np.nan, 8]])
    out = FusionLayer().fit(train).transform([[np.nan, 5], [2, 5]])
    assert_array_equal(out[0], out[1])


def test_columns_that_say_nothing_become_exactly_zero_and_weigh_nothing():
    X = table(missing=0).astype(float)
    X[:, 7] = 0.1
    X[:, 8] = np.nan
    X[:, 9] = np.float32(3) * (1 + np.finfo(np.float32).eps * (np.arange(len(X)) % 3))
    layer = FusionLayer(BLOCKS).fit(X)
    out, odd = layer.transform(X), layer.transform(X + 100)
    for column in (7, 8, 9):
        assert (out[:, column] == 0).all()
        assert (odd[:, column] == 0).all()
    assert_allclose(out[:, 6:30].var(axis=0).sum(), out[:, :6].var(axis=0).sum(), rtol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pca", [None, 2, 0.5])
def test_a_block_without_any_information_is_all_zero(pca):
    X = table(missing=0)
    X[:, :6] = np.nan
    out = FusionLayer(BLOCKS, pca=pca).fit_transform(X)
    assert (out[:, : 6 if pca is None else 1] == 0).all()
    assert np.isfinite(out).all()
    assert_allclose(out.var(axis=0).sum(), np.count_nonzero(out.var(axis=0)), rtol=1e-9)


def test_a_feature_that_is_mostly_zero_survives_robust_scaling():
    X = np.zeros((40, 1))
    X[:5, 0] = 3
    assert_allclose(FusionLayer(scale="robust").fit_transform(X).std(), 1, rtol=1e-12)


def test_an_absurd_value_is_clipped():
    layer = FusionLayer(weights="none").fit(table(missing=0))
    assert np.abs(layer.transform(np.full((1, 31), 1e30))).max() == 10
    assert np.abs(FusionLayer(weights="none", clip=3).fit_transform(table())).max() <= 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scale": "minmax"}, "scale"),
        ({"weights": "unequal"}, "weights"),
        ({"weights": {"a": -1}}, "weights"),
        ({"pca": 0}, "pca"),
        ({"pca": 1.5}, "pca"),
        ({"pca": True}, "pca"),
        ({"pca": {"a": "all"}}, "pca"),
        ({"clip": 0}, "clip"),
        ({"emphasis": 0}, "emphasis"),
        ({"emphasis": 1.0}, "emphasis"),
        ({"blocks": {"a": [0, 1], "b": [1]}}, "blocks"),
        ({"blocks": {"a": [31]}}, "blocks"),
        ({"blocks": {"a": [-1]}}, "blocks"),
        ({"blocks": {"a": []}}, "block"),
        ({"blocks": {}}, "block"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        FusionLayer(**params).fit(table())


def test_infinity_is_refused():
    X = table()
    X[3, 3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        FusionLayer().fit(X)


# ---- names ----------------------------------------------------------------------------------------------------------


def test_blocks_are_read_from_column_names():
    X = frame(table())
    named = FusionLayer().fit(X)
    assert named.block_names_ == list(BLOCKS)
    assert list(named.get_feature_names_out()) == list(X.columns)
    assert_array_equal(named.transform(X), FusionLayer(BLOCKS).fit_transform(X.to_numpy()))
    with pytest.raises(ValueError, match="feature names"):
        named.transform(X.iloc[:, ::-1])


def test_columns_without_a_name_are_one_block():
    assert FusionLayer().fit(table()).block_names_ == ["features"]
    assert FusionLayer().fit(pd.DataFrame({"a": [1.0, 2], "b": [2.0, 5]})).block_names_ == ["features"]


def test_names_of_the_output():
    layer = FusionLayer({"shape": [0, 1], "texture": [2, 3, 4]}, pca={"texture": 2, "absent": 3}).fit(table())
    assert list(layer.get_feature_names_out()) == ["shape.x0", "shape.x1", "texture.pc0", "texture.pc1"]


def test_it_gives_a_data_frame_on_request():
    X = frame(table())
    layer = FusionLayer(pca={"texture": 3}).set_output(transform="pandas")
    out = layer.fit_transform(X)
    assert list(out.columns) == [*X.columns[:6], "texture.pc0", "texture.pc1", "texture.pc2", "colour.f30"]
    assert_array_equal(out.to_numpy(), clone(layer).set_output(transform="default").fit_transform(X))
    assert out.index.equals(X.index)


# ---- storage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"emphasis": 0.2, "emphasised": {"texture": [1, 3]}},
        {"pca": 5, "scale": "robust"},
        {"pca": {"texture": 0.9}, "weights": {"shape": 0.5}, "clip": None},
    ],
)
@pytest.mark.parametrize("n", [120, 20])
def test_a_stored_layer_transforms_to_the_same_bits(params, named, n):
    from safetensors.numpy import load, save

    train, test = table(n), table(40, seed=1)
    blocks = {name: list(part) for name, part in BLOCKS.items()}
    layer = FusionLayer(None if named else blocks, **params).fit(frame(train) if named else train)
    kept = json.loads(json.dumps(layer.get_params()))
    again = FusionLayer.from_state(kept, load(save(layer.state())))
    test = frame(test) if named else test
    assert_array_equal(again.transform(test), layer.transform(test))
    assert_array_equal(again.get_feature_names_out(), layer.get_feature_names_out())
    assert again.n_features_in_ == layer.n_features_in_
    assert again.get_params() == layer.get_params()
    if named:
        with pytest.raises(ValueError, match="feature names"):
            again.transform(test.iloc[:, ::-1])


def test_stored_arrays_that_do_not_fit_are_refused():
    layer = FusionLayer(pca=3).fit(table())
    state = layer.state()
    with pytest.raises(KeyError):
        FusionLayer.from_state(layer.get_params(), {k: v for k, v in state.items() if k != "0.fill"})
    for change in ({"0.fill": np.zeros(3)}, {"0.columns": np.arange(31) + 1}, {"0.components": np.zeros((2, 5))}):
        with pytest.raises(ValueError, match="do not fit"):
            FusionLayer.from_state(layer.get_params(), state | change)
