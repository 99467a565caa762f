"""Jackknife intervals against hand-computed values and other people's code, and that they cover the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import binomtest, norm, t, ttest_1samp

from fusion.metrics.jackknife import (
    Strata,
    influences,
    intervals,
    one_sided_p,
    p_values,
    spread_of,
    spread_of_procedure,
)
from fusion.metrics.judgement import judge_scores
from tests.builders.scores import subject_scores


def one_class(values):
    """Strata and influences of the mean of one value a subject."""
    values = np.asarray(values, float)
    strata = Strata.from_counts(np.ones((len(values), 1)), ["a"])
    return strata, influences(((values.sum() - values) / (len(values) - 1))[:, None], strata)


def test_the_variance_of_a_mean_is_the_usual_one():
    values = np.array([0.2, 0.9, 0.4, 0.7, 0.5])
    strata, influence = one_class(values)
    spread = spread_of(influence, strata)
    assert_allclose(spread.variance, values.var(ddof=1) / 5, rtol=1e-12)
    assert_allclose(spread.degrees, 4)


def test_degrees_of_freedom_are_satterthwaites_over_effective_subjects():
    # Of each class the mean over its cells: one subject of 30 cells among three of 10 counts as 3 of 4.
    counts = np.array([[30, 0], [10, 0], [10, 0], [10, 0], [0, 10], [0, 10], [0, 10]])
    strata = Strata.from_counts(counts, ["a", "b"])
    assert strata.effective == {"a": 60**2 / 1200, "b": 3.0}
    rng = np.random.default_rng(0)
    influence = rng.normal(size=(7, 1))
    parts = np.array([(influence[:4] ** 2).sum(), (influence[4:] ** 2).sum()])
    expected = parts.sum() ** 2 / (parts**2 / [3 - 1, 3 - 1]).sum()
    assert_allclose(spread_of(influence, strata).degrees, expected)


def test_in_the_middle_of_its_range_an_interval_is_students():
    values = np.array([-0.02, 0.03, 0.01, -0.01, 0.0, 0.02])
    strata, influence = one_class(values)
    low, high, exact = intervals([values.mean()], spread_of(influence, strata), [6], -1.0, 1.0)
    half = t.ppf(0.975, 5) * values.std(ddof=1) / np.sqrt(6)
    assert_allclose([low[0], high[0]], [values.mean() - half, values.mean() + half], atol=1e-4)
    assert not exact[0]
    assert_allclose(
        p_values([values.mean()], spread_of(influence, strata), [6]), ttest_1samp(values, 0).pvalue, rtol=0.01
    )


@pytest.mark.parametrize("n", [4, 12, 26])
def test_where_nothing_varies_the_bound_is_clopper_and_pearsons(n):
    strata, influence = one_class(np.ones(n))
    spread = spread_of(influence, strata)
    low, high, exact = intervals([1.0], spread, [n])
    assert_allclose([low[0], high[0]], binomtest(n, n).proportion_ci(0.95, "exact"), rtol=1e-12)
    low, high, _ = intervals([0.0], spread, [n])
    assert_allclose([low[0], high[0]], binomtest(0, n).proportion_ci(0.95, "exact"), rtol=1e-12)
    assert exact[0]
    assert_allclose(p_values([1.0], spread, [n]), binomtest(n, n).pvalue, rtol=1e-12)  # the sign test
    # Two entries that agree on everybody seen may differ on those not seen.
    low, high, _ = intervals([0.0], spread, [n], -1.0, 1.0)
    assert_allclose([low[0], high[0]], [-(1 - 0.025 ** (1 / n)), 1 - 0.025 ** (1 / n)], rtol=1e-12)
    assert p_values([0.0], spread, [n]) == 1


@given(
    values=st.lists(st.floats(-1, 1), min_size=2, max_size=12),
    scale=st.sampled_from([1.0, 0.5, 0.01, 0.0]),
)
@settings(max_examples=200, deadline=None)
def test_a_difference_is_significant_exactly_where_its_interval_leaves_0_out(values, scale):
    differences = np.asarray(values) * scale
    strata, influence = one_class(differences)
    spread, n = spread_of(influence, strata), [len(values)]
    low, high, _ = intervals([differences.mean()], spread, n, -1.0, 1.0)
    (p,) = p_values([differences.mean()], spread, n)
    assert low[0] < high[0]
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (low[0] > 0 or high[0] < 0)
    (worse,) = one_sided_p([differences.mean()], -0.05, spread, n)
    assert 0 <= worse <= 1


def test_a_figure_with_one_end_has_its_interval_on_the_logarithm():
    values = np.array([0.2, 0.9, 0.4, 0.7, 0.5])
    strata, influence = one_class(values)
    low, high, _ = intervals([values.mean()], spread_of(influence, strata), [5], 0.0, np.inf)
    half = t.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5) / values.mean()
    assert_allclose(np.log([low[0], high[0]]), np.log(values.mean()) + np.array([-half, half]), rtol=1e-12)
    nothing = spread_of(np.zeros((5, 1)), strata)
    assert np.isnan(intervals([0.4], nothing, [5], 0.0, np.inf)[0])


def test_two_that_differ_by_the_margin_in_a_few_subjects_are_called_equivalent_in_5_of_100():
    """Nearly the same entries differ in a few subjects: Student's t calls them equivalent more often."""
    draw, margin, runs, n = np.random.default_rng(3), 0.05, 1500, 30
    values = np.where(draw.random((runs, n)) < 0.2, 0.25, 0.0) + draw.normal(0, 0.01, (runs, n))  # .05 on average
    strata, influence = one_class(values[0])
    influence = np.column_stack([one_class(row)[1][:, 0] for row in values])
    spread, means = spread_of(influence, strata), values.mean(axis=1)
    found = one_sided_p(-means, -margin, spread.mirrored, [n] * runs) < 0.05
    plain = t.cdf((means - margin) / np.sqrt(spread.variance), n - 1) < 0.05
    assert plain.mean() > 0.08
    assert found.mean() < 0.07


def test_a_class_with_one_subject_says_nothing():
    strata = Strata.from_counts(np.array([[3, 0], [3, 0], [0, 3]]), ["a", "b"])
    spread = spread_of(np.ones((3, 2)), strata)
    assert np.isnan(spread.variance).all()
    assert np.isnan(intervals([0.5, 0.5], spread, [1, 1])[0]).all()


def test_models_trained_anew_add_what_repeats_differ_by():
    rng = np.random.default_rng(0)
    strata = Strata.from_counts(np.ones((10, 1)), ["a"])
    repeats = rng.normal(0, 1, (10, 1)) + rng.normal(0, 0.2, (5, 10, 1))
    whole = repeats.mean(axis=0)
    plain = spread_of(whole, strata)
    between = repeats.var(axis=0, ddof=1).sum()
    assert_allclose(spread_of_procedure(whole, repeats, strata, 0.2).variance, plain.variance + 4 * between)
    wild = whole + rng.normal(0, 9, (5, 10, 1))
    assert_allclose(spread_of_procedure(whole, wild, strata, 0.2).variance, 2 * plain.variance)
    assert_allclose(spread_of_procedure(whole, repeats[:1], strata, 0.2).variance, 1.6 * plain.variance)


# ---- that they cover the truth --------------------------------------------------------------------------------------


def covered(runs, sizes, by_cell=False):
    """Of ``runs`` data sets, the share whose intervals hold the true balanced accuracy, sensitivity and AUROC."""
    d = 0.8
    truths = {"balanced_accuracy": d / np.sqrt(2), "sensitivity": d / np.sqrt(2), "auroc": 2 * d / 2}
    count = np.zeros(3)
    for run in range(runs):
        y, proba, groups = subject_scores(np.random.default_rng(run), sizes, d)
        unit = np.arange(len(groups)) if by_cell else groups
        found = judge_scores(y, proba, ["a", "b"], unit, positive="b").figures["image"]
        count += [found[m]["low"] <= norm.cdf(truth) <= found[m]["high"] for m, truth in truths.items()]
    return count / runs


def test_intervals_by_subject_cover_the_truth_and_intervals_by_cell_do_not():
    share = covered(150, ([8] * 4, [8] * 4))
    assert (share >= 0.90).all(), share  # the bootstrap has .73 and .63 here
    assert (covered(60, ([12] * 12, [12] * 12), by_cell=True) < 0.8).all()
