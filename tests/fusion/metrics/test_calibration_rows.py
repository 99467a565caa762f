"""Calibration intercept, slope and error: reference values, and what chance makes of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from fusion.metrics._calibration_rows import CalibrationError, Recalibration
from fusion.metrics.classification import image_metrics
from fusion.metrics.judgement import judge_scores


def scored(subjects, cells, seed, slope=1.0, shift=0.0):
    """Cells of subjects with a level of their own, and the probabilities that they were drawn by, or others."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(subjects), cells)
    odds = rng.normal(0, 1.2, len(groups)) + rng.normal(0, 0.7, subjects)[groups]
    y = np.where(rng.random(len(groups)) < 1 / (1 + np.exp(-odds)), "b", "a")
    p = 1 / (1 + np.exp(-(slope * odds + shift)))
    return y, np.column_stack([1 - p, p]), groups


def figures(y, proba, groups):
    return judge_scores(y, proba, ["a", "b"], groups, positive="b").figures["image"]


def test_intercept_and_slope_are_scikit_learns_logistic_regression():
    y, proba, groups = scored(30, 40, 0, slope=2.0, shift=0.8)
    odds = np.log(proba[:, 1] / proba[:, 0])
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(odds[:, None], y == "b")
    found = figures(y, proba, groups)
    assert_allclose(found["calibration_slope"]["value"], theirs.coef_[0, 0], rtol=1e-5)
    assert 0.4 < found["calibration_slope"]["value"] < 0.6
    shifted = 1 / (1 + np.exp(-(odds + found["calibration_intercept"]["value"])))
    assert shifted.mean() == pytest.approx((y == "b").mean(), abs=1e-9)  # what "in the large" means
    assert found["calibration_intercept"]["value"] < -0.5


def test_without_each_subject_one_step_is_as_good_as_all():
    y, proba, groups = scored(12, 25, 1)
    whole = Recalibration.from_scores(proba[:, 1], y == "b", groups, 12)
    for left, (intercept, slope) in enumerate(whole.left_out()):
        rest = groups != left
        exact = Recalibration.from_scores(proba[rest, 1], y[rest] == "b", groups[rest], 12)
        assert_allclose([intercept, slope], [exact.intercept, exact.slope], atol=0.02)


def test_classes_that_scores_tell_apart_without_a_mistake_have_no_slope():
    y = np.repeat(["a", "b"], 50)
    p = np.repeat([0.1, 0.9], 50) + np.tile(np.linspace(0, 0.05, 50), 2)
    assert np.isnan(image_metrics(y, np.column_stack([1 - p, p]), ["a", "b"])["calibration_slope"])


@pytest.mark.parametrize(("subjects", "cells"), [(15, 20), (66, 40)])
def test_intervals_of_intercept_and_slope_cover_the_truth(subjects, cells):
    covered = np.zeros(2)
    for seed in range(200):
        found = figures(*scored(subjects, cells, seed, slope=2.0, shift=0.0))
        for at, (metric, truth) in enumerate((("calibration_intercept", None), ("calibration_slope", 0.5))):
            held = found[metric]
            assert held["low"] < held["high"]
            covered[at] += truth is None or held["low"] <= truth <= held["high"]
    assert (covered >= 0.9 * 200).all()


@pytest.mark.slow
def test_a_perfect_score_has_no_calibration_error_however_few_the_cells():
    """The plain estimate says .10 of 100 cells."""
    found = []
    for seed in range(200):
        for n in (100, 400, 2000):
            rng = np.random.default_rng([seed, n])
            p = rng.uniform(size=n)
            y = np.where(rng.random(n) < p, "b", "a")
            found.append((n, image_metrics(y, np.column_stack([1 - p, p]), ["a", "b"])["ece"]))
    few, more, many = (np.array([value for of, value in found if of == n]) for n in (100, 400, 2000))
    assert np.isnan(few).all()  # too little to tell
    assert np.nanmean(more) < 0.025
    assert np.nanmean(many) < 0.015


def test_of_calibrated_scores_the_squared_error_is_below_0_as_often_as_above():
    """What chance makes of it is taken off: a plain square is never below 0."""
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        p = rng.uniform(size=(40, 10))
        gaps = (p - (rng.random(p.shape) < p)).reshape(40, 2, 5).sum(axis=2)
        found.append(CalibrationError(gaps, np.full((40, 2), 5.0)).squared(np.ones((40, 1)))[0])
    assert 0.3 < np.mean(np.array(found) < 0) < 0.8
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)


def test_a_calibration_error_that_is_there_is_told():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=4000)
    y = np.where(rng.random(4000) < p, "b", "a")
    wrong = np.clip(p + 0.1, 0, 1)
    gap = np.sqrt(np.mean((wrong - p) ** 2))
    assert image_metrics(y, np.column_stack([1 - wrong, wrong]), ["a", "b"])["ece"] == pytest.approx(gap, abs=0.01)


def test_subjects_are_too_few_for_bins():
    """24 subjects are one or two bins: what differs there is no calibration error."""
    _, proba, groups = scored(24, 20, 0)
    whole = np.array([np.bincount(groups, proba[:, 1])[at] / 20 for at in range(24)])
    labels = np.where(np.arange(24) % 2, "b", "a")
    held = judge_scores(labels, np.column_stack([1 - whole, whole]), ["a", "b"], np.arange(24), positive="b").figures
    assert np.isnan(held["subject"]["ece"]["value"])


def test_of_more_than_two_classes_the_slope_is_a_mean_and_the_intercept_none():
    rng = np.random.default_rng(0)
    true = rng.dirichlet([1, 1, 1], 3000)
    y = np.array(["a", "b", "c"])[(true.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)]
    found = image_metrics(y, true, ["a", "b", "c"])
    assert found["calibration_slope"] == pytest.approx(1, abs=0.1)
    assert np.isnan(found["calibration_intercept"])
