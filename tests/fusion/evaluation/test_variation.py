"""Differences of two entries: intervals, tests and equivalence that are about what they say."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t

from fusion.evaluation.variation import Combined, Variation
from fusion.metrics.jackknife import Strata, influences

KEY = ("image", "balanced_accuracy")


def of_subjects(differences, repeats=None, test_share=None):
    """How the mean of one difference a subject varies."""
    differences = np.asarray(differences, float)
    strata = Strata.from_counts(np.ones((len(differences), 1)), ["a"])

    def influence(part):
        return influences(((part.sum() - part) / (len(part) - 1))[:, None], strata)[:, 0]

    parts = np.empty((0, len(differences))) if repeats is None else np.array([influence(part) for part in repeats])
    return Combined(influence(differences), parts, strata, test_share)


def test_a_difference_has_students_interval_and_says_what_it_is_about():
    gaps = np.array([0.03, -0.01, 0.05, 0.02, 0.01, 0.04, 0.0, 0.02])
    found = of_subjects(gaps).difference(gaps.mean())
    half = t.ppf(0.975, 7) * gaps.std(ddof=1) / np.sqrt(8)
    assert_allclose([found["low"], found["high"]], gaps.mean() + np.array([-half, half]), atol=1e-3)
    assert found["kind"] == "models"
    assert found["p"] < 0.05
    error = gaps.std(ddof=1) / np.sqrt(8)
    assert_allclose(found["detectable"], (t.ppf(0.975, 7) + t.ppf(0.8, 7)) * error)
    trained = of_subjects(gaps, test_share=0.2).difference(gaps.mean())
    assert trained["kind"] == "procedure"
    assert trained["low"] < found["low"] < found["high"] < trained["high"]


def test_equivalence_and_non_inferiority_are_one_sided_tests_at_the_margin():
    gaps = 0.005 + np.array([0.03, -0.02, 0.01, -0.03, 0.02, 0.0, -0.01, 0.0])  # without skew, which is taken out
    found = of_subjects(gaps).difference(gaps.mean(), margin=0.05)
    error = gaps.std(ddof=1) / np.sqrt(8)
    assert found["margin"] == 0.05
    assert found["non_inferiority_p"] == pytest.approx(t.sf((gaps.mean() + 0.05) / error, 7))
    assert found["equivalence_p"] == pytest.approx(
        max(t.sf((gaps.mean() + 0.05) / error, 7), t.sf((0.05 - gaps.mean()) / error, 7))
    )
    assert found["equivalence_p"] < 0.05 < of_subjects(10 * gaps).difference(0.0, margin=0.05)["equivalence_p"]


def test_two_entries_that_agree_on_everybody_are_not_equal_beyond_doubt():
    found = of_subjects(np.zeros(12)).difference(0.0, margin=0.05)
    assert found["p"] == 1
    assert found["low"] == pytest.approx(-(1 - 0.025 ** (1 / 12)))
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 12))
    assert found["equivalence_p"] == pytest.approx(0.95**12)  # one subject in twenty unlike the rest is often missed


def test_differences_of_an_entry_and_itself_vary_by_nothing():
    one = of_subjects([0.5, 0.7, 0.9])
    entry = Variation({KEY: one.influence}, {KEY: one.by_repeat}, {"image": one.strata}, None)
    combined = entry.combined([entry], (1.0, -1.0), KEY)
    assert_allclose(combined.influence, 0)
    assert combined.difference(0.0)["p"] == 1


def test_a_level_that_was_left_out_says_nothing():
    nothing = Variation({("subject", "auroc"): np.full(3, np.nan)}, {("subject", "auroc"): np.empty((0, 3))}, {}, None)
    found = nothing.combined([nothing], (1.0, -1.0), ("subject", "auroc")).difference(0.1, margin=0.1)
    assert np.isnan([found[part] for part in ("low", "high", "p", "detectable", "equivalence_p")]).all()


def equivalent(runs, true_gap, margin, subjects=30):
    found = []
    for run in range(runs):
        gaps = true_gap + np.random.default_rng([1, run]).normal(0, 0.1, subjects)
        found.append(of_subjects(gaps).difference(gaps.mean(), margin)["equivalence_p"])
    return np.mean(np.array(found) < 0.05)


def test_equivalence_holds_its_level_at_the_margin_and_is_found_within_it():
    assert equivalent(400, 0.05, 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert equivalent(200, 0.0, 0.08) >= 0.8
