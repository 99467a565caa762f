"""Calibration: what each method can mend, and what it cannot."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fusion.leakage.grouped_splits import Split
from fusion.learning.decision.calibration import Calibration, fit_calibration
from fusion.metrics import classification
from tests.builders.comparisons import fitted
from tests.builders.tables import table_of


def over_confident(n=6000, k=2, factor=3.0, seed=0):
    """Probabilities whose logits are too large by a factor, and classes drawn by the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n, k))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    loud = np.exp(factor * logits)
    return loud / loud.sum(axis=1, keepdims=True), codes, true


@pytest.mark.parametrize("k", [2, 4])
def test_a_temperature_finds_how_over_confident_scores_are(k):
    proba, codes, true = over_confident(k=k)
    found = fit_calibration("temperature", proba, codes)
    assert 1 / found.slopes[0] == pytest.approx(3, rel=0.08)
    assert set(found.slopes) == {found.slopes[0]}
    assert not any(found.intercepts)
    assert np.abs(found.apply(proba) - true).max() < 0.03
    assert_array_equal(found.apply(proba).argmax(axis=1), proba.argmax(axis=1))


@pytest.mark.parametrize("method", ["logistic", "temperature", "isotonic"])
@pytest.mark.parametrize("k", [2, 3])
def test_calibrated_scores_are_better_on_other_cells(method, k):
    proba, codes, _ = over_confident(k=k)
    fresh, answers, _ = over_confident(k=k, seed=1)
    classes = [str(at) for at in range(k)]
    calibrated = fit_calibration(method, proba, codes).apply(fresh)
    assert_allclose(calibrated.sum(axis=1), 1)
    before, after = (classification.image_metrics(answers.astype(str), p, classes) for p in (fresh, calibrated))
    for loss in ("ece", "brier", "log_loss"):
        assert after[loss] < before[loss], loss
    assert after["ece"] < before["ece"] / 3


def test_isotonic_is_scikit_learns_and_never_sure():
    proba, codes, _ = over_confident(300)
    least = 1 / 302
    theirs = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(proba[:, 1], codes == 1)
    ours = fit_calibration("isotonic", proba, codes)
    grid = np.linspace(0, 1, 500)
    assert_allclose(ours.apply(np.column_stack([1 - grid, grid]))[:, 1], theirs.predict(grid), atol=1e-12)
    assert ours.apply(np.array([[0.0, 1.0], [1.0, 0.0]])).min() >= least


@pytest.mark.parametrize("classifier", ["logreg", "svm"])
def test_only_what_has_an_intercept_says_how_common_a_class_is(classifier):
    table = table_of(subjects=80, cells=10)
    is_kept = (table.groups % 2 == 0) | (table.groups % 20 == 1)  # 40 subjects of hem, 4 of all
    table = table.take(np.flatnonzero(is_kept))
    test = table.groups >= 40
    split = Split(np.flatnonzero(~test), np.flatnonzero(test), table.groups)
    share = np.mean(np.array(table.y)[test] == "all")
    means = {
        how: fitted(table, split, classifier, calibrate=how)[0][:, 0].mean()
        for how in ("none", "temperature", "logistic")
    }
    assert share == pytest.approx(1 / 11)
    if classifier == "logreg":
        assert means["none"] > 3 * share
        assert means["temperature"] > 3 * share
    assert means["logistic"] == pytest.approx(share, abs=0.04)


def test_a_logistic_calibration_is_scikit_learns_logistic_regression_of_the_log_odds():
    proba, codes, _ = over_confident(20_000)
    found = fit_calibration("logistic", proba, codes)
    odds = np.log(proba[:, 1] / proba[:, 0])
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(odds[:, None], codes)
    # Platt's targets are a ten thousandth away from 0 and 1 here.
    assert_allclose(found.slopes, np.repeat(theirs.coef_, 2), rtol=2e-3)
    assert_allclose(found.intercepts, [0, theirs.intercept_[0]], atol=2e-3)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_logistic_calibration_mends_slope_and_intercept_of_every_class(k):
    _, codes, true = over_confident(20_000, k=k)
    tilt = np.linspace(-1.5, 1.5, k)
    loud = np.exp(3 * np.log(true) + tilt)
    loud /= loud.sum(axis=1, keepdims=True)
    found = fit_calibration("logistic", loud, codes)
    assert np.abs(found.apply(loud) - true).max() < 0.05
    assert_allclose(found.apply(loud).mean(axis=0), np.bincount(codes) / len(codes), atol=1e-3)
    assert np.abs(fit_calibration("temperature", loud, codes).apply(loud) - true).max() > 0.1


@pytest.mark.parametrize("k", [2, 3])
def test_classes_that_are_told_apart_without_a_mistake_leave_probabilities_below_1(k):
    codes = np.arange(60) % k
    proba = np.full((60, k), 0.01)
    proba[np.arange(60), codes] = 1 - 0.01 * (k - 1)
    calibrated = fit_calibration("logistic", proba, codes).apply(proba)
    of_own = calibrated[np.arange(60), codes]
    assert_allclose(of_own, (60 / k + 1) / (60 / k + 2), atol=1e-6)  # Laplace's rule of succession


def test_scores_that_say_the_opposite_are_not_turned_round():
    proba, codes, _ = over_confident(500)
    found = fit_calibration("logistic", proba, 1 - codes)
    order = np.argsort(proba[:, 1])
    assert (np.diff(found.apply(proba)[order, 1]) >= 0).all()


@pytest.mark.parametrize("method", ["logistic", "temperature", "isotonic"])
def test_a_calibration_is_stored_and_comes_back(method):
    for k in (2, 3):
        proba, codes, _ = over_confident(400, k=k)
        fitted = fit_calibration(method, proba, codes)
        again = Calibration.from_json(json.loads(json.dumps(fitted.to_json())))
        assert_array_equal(again.apply(proba), fitted.apply(proba))


@pytest.mark.parametrize(
    "change",
    [{"slopes": [1.0, -1.0]}, {"slopes": [1.0]}, {"intercepts": [0.0, float("nan")]}, {"slopes": [], "intercepts": []}],
)
def test_a_stored_calibration_that_cannot_be_is_refused(change):
    plain = {"slopes": [1.0, 1.0], "intercepts": [0.0, 0.5], "knots": []}
    Calibration.from_json(plain)
    with pytest.raises(ValueError, match="cannot be"):
        Calibration.from_json({**plain, **change})
