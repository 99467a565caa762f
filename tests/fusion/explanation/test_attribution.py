"""What features add to a verdict: sums that are the margin, and a direction that masking confirms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.explanation._attribution import attribute, value_of_block
from fusion.learning.fused_model import fuse
from fusion.learning.training_quantiles import LEVELS, learn_reference

BLOCKS = {"one": slice(0, 8), "two": slice(8, 14), "three": slice(14, 20)}


def cells(n=240, classes=2, seed=0):
    """float32 (n, 20) with class effects in some columns, NaN here and there, labels, groups."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = rng.normal(size=(n, 20))
    X[:, [0, 8, 14]] += 1.2 * codes[:, None]
    X[:, 1] = X[:, 0] + 0.1 * rng.normal(size=n)  # two that say the same
    X[rng.random(X.shape) < 0.02] = np.nan
    return X.astype(np.float32), np.array(["a", "b", "c"])[codes], np.arange(n) // 6


def margin(model, X, target):
    """The margin as the classifier's own library gives it."""
    at = model.classes.index(target)
    if model.layer is None:
        import xgboost

        found = model.classifier.booster_.predict(xgboost.DMatrix(X), output_margin=True)
        return (found if at else -found) if found.ndim == 1 else found[:, at]
    from sklearn.linear_model import LogisticRegression

    peer, own = LogisticRegression(), model.classifier
    peer.classes_, peer.coef_, peer.intercept_ = own.classes_, own.coef_, own.intercept_
    found = peer.decision_function(model.layer.transform(X))
    return (found if at else -found) if found.ndim == 1 else found[:, at]


@pytest.mark.parametrize("name", ["xgb", "logreg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_sum_to_the_margin(name, classes):
    X, y, groups = cells(classes=classes)
    model = fuse(X, y, groups, BLOCKS, name)
    typical = learn_reference(X, y, model.classes).typical
    for target in model.classes:
        expected = margin(model, X[:20], target)
        for row, theirs in zip(X[:20], expected, strict=True):
            found = attribute(model, BLOCKS, row, typical, target)
            assert found.is_additive
            assert abs(found.base + found.columns.sum() - theirs) < 1e-5
            assert abs(found.base + sum(found.blocks.values()) - theirs) < 1e-5
            assert found.score == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("pca", [None, 3, {"one": 0.9}])
def test_linear_contributions_go_back_through_components_to_named_columns(pca):
    X, y, groups = cells()
    model = fuse(X, y, groups, BLOCKS, "logreg", layer={"pca": pca})
    typical = learn_reference(X, y, model.classes).typical
    found = attribute(model, BLOCKS, X[3], typical, "b")
    before = margin(model, X[3:4], "b")[0]
    for column in range(20):  # of a linear model, a contribution is exactly what masking takes away
        masked = X[3:4].copy()
        masked[0, column] = typical[column]
        assert before - margin(model, masked, "b")[0] == pytest.approx(found.columns[column], abs=1e-8)


def test_blocks_of_any_model_sum_to_its_log_odds():
    X, y, groups = cells()
    model = fuse(X, y, groups, BLOCKS, "svm")
    typical = learn_reference(X, y, model.classes).typical
    found = attribute(model, BLOCKS, X[5], typical, "a")
    p, usual = model.predict_proba(np.stack([X[5], typical]))[:, 0]
    assert not found.is_additive
    assert found.score == pytest.approx(np.log(p / (1 - p)))
    assert found.base == pytest.approx(np.log(usual / (1 - usual)))
    assert found.base + sum(found.blocks.values()) == pytest.approx(found.score)
    assert "Approximate" in found.limits


@pytest.mark.parametrize("name", ["svm", "xgb", "logreg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_blocks_of_a_late_fusion_sum_to_its_margin(name, classes):
    X, y, groups = cells(120, classes=classes)
    params = {"n_estimators": 10} if name == "xgb" else {}
    calibrate = "temperature" if name == "logreg" else "none"  # before which margins are
    model = fuse(X, y, groups, BLOCKS, name, fuse="late", params=params, calibrate=calibrate)
    typical = learn_reference(X, y, model.classes).typical
    late = model.classifier
    for target, row in zip(model.classes, X, strict=False):
        found, at = attribute(model, BLOCKS, row, typical, target), model.classes.index(target)
        proba = late.predict_proba(row[None])[0]
        logs = np.log(proba) - np.log(proba).mean()
        expected = logs[at] - logs[1 - at] if classes == 2 else logs[at]
        assert found.score == pytest.approx(expected, abs=1e-6)
        assert found.base + sum(found.blocks.values()) == pytest.approx(expected, abs=1e-6)
        assert "Blocks are exact" in found.limits
        # At the cell's own values a block has its contribution, and none at the training medians.
        for block, part in BLOCKS.items():
            ask = value_of_block(model, BLOCKS, block, row, typical, target).ask
            assert_allclose(ask(np.stack([row[part], typical[part]])), [found.blocks[block], 0], atol=1e-9)


def test_sampled_orders_of_many_blocks_sum_too_and_find_the_one_that_matters():
    X, y, groups = cells()
    blocks = {f"b{at}": slice(at, at + 1) for at in range(12)}
    model = fuse(X[:, :12], y, groups, blocks, "svm")
    typical = learn_reference(X[:, :12], y, model.classes).typical
    found = attribute(model, blocks, X[5, :12], typical, "a")
    assert found.base + sum(found.blocks.values()) == pytest.approx(found.score)
    assert max(found.blocks, key=lambda name: abs(found.blocks[name])) in ("b0", "b1", "b8")


def test_a_calibrated_models_contributions_are_of_its_margin_before():
    X, y, groups = cells()
    plain = fuse(X, y, groups, BLOCKS, "svm")
    finished = fuse(X, y, groups, BLOCKS, "svm", calibrate="temperature")
    typical = learn_reference(X, y, plain.classes).typical
    one, two = (attribute(model, BLOCKS, X[5], typical, "a") for model in (plain, finished))
    assert_allclose(one.columns, two.columns)
    assert one.score == pytest.approx(two.score)


def test_the_share_below_is_that_of_the_cells_themselves():
    rng = np.random.default_rng(3)
    X = rng.gamma(2.0, size=(4000, 1)).astype(np.float32)
    y = np.where(np.arange(4000) % 2, "a", "b")
    known = learn_reference(X, y, ["a", "b"])
    for value in (0.1, 1.0, 2.5, 6.0):
        expected = [np.mean(X[y == label, 0] < value) for label in ("a", "b")]
        assert_allclose(known.shares_below(0, value), expected, atol=0.013)  # half a step between two levels
    assert known.shares_below(0, -1.0).tolist() == [0, 0]
    assert known.shares_below(0, 1e9).tolist() == [1, 1]
    assert known.medians(0) == pytest.approx([np.median(X[y == label]) for label in ("a", "b")])
    assert np.isnan(known.shares_below(0, np.nan)).all()


def test_of_values_that_most_cells_share_half_are_below():
    X = np.zeros((100, 2), np.float32)
    X[:10, 0] = 5.0
    X[:, 1] = np.nan
    known = learn_reference(X, ["a"] * 100, ["a"])
    assert known.shares_below(0, 0.0)[0] == pytest.approx(0.45, abs=0.03)
    assert known.shares_below(0, 1.0)[0] == pytest.approx(0.9, abs=0.03)
    assert np.isnan(known.shares_below(1, 1.0)[0])
    assert len(LEVELS) == known.quantiles.shape[1]
