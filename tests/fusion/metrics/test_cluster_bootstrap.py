"""BCa intervals: those of SciPy on the same replicates, nearer to 95% than percentiles, and honest where they fail."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import bootstrap, norm

from fusion.metrics.classification import METRICS, judge_scores
from fusion.metrics.cluster_bootstrap import bca, percentile, strata_of


def without_each(samples, statistic):
    """The statistic without each member of each sample, one after the other."""
    found = []
    for which, sample in enumerate(samples):
        for at in range(len(sample)):
            rest = [np.delete(other, at) if which == number else other for number, other in enumerate(samples)]
            found.append(statistic(*rest))
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(40,), (30, 50)])
def test_a_bca_interval_is_scipys_for_one_and_for_two_samples(sizes, seed):
    rng = np.random.default_rng(seed)
    samples = [rng.exponential(1 + at, size) for at, size in enumerate(sizes)]
    statistic = np.mean if len(sizes) == 1 else (lambda a, b, axis=-1: np.mean(a, axis=axis) - np.std(b, axis=axis))
    expected = bootstrap(samples, statistic, n_resamples=2000, method="BCa", rng=rng)
    low, high, corrected = bca(
        np.array([statistic(*samples)]),
        expected.bootstrap_distribution[:, None],
        without_each(samples, statistic)[:, None],
        np.repeat(np.arange(len(sizes)), sizes),
    )
    assert corrected.all()
    assert_allclose([low[0], high[0]], expected.confidence_interval, rtol=1e-9)


def skewed(rng, n=200):
    """Values, replicates and values without each of 20 groups, of three figures that are means of groups."""
    parts = rng.exponential(size=(20, 3))
    return parts.mean(axis=0), parts[rng.integers(20, size=(n, 20))].mean(axis=1), (parts.sum(axis=0) - parts) / 19


def test_where_bca_cannot_be_had_the_interval_is_the_percentile_one_and_that_is_told():
    rng = np.random.default_rng(0)
    values, replicates, left_out = skewed(rng, 500)
    one_sample = np.zeros(20, int)
    plain = percentile(replicates)
    assert bca(values, replicates, left_out, one_sample)[2].all()

    undefined = left_out.copy()
    undefined[4, 1] = np.nan  # without group 4 the second figure is undefined
    same = np.column_stack([left_out[:, :2], np.full(20, values[2])])  # and no group changes the third
    far = values - [10, 0, 0]  # below every replicate
    for of, rest, which in ((values, undefined, 1), (values, same, 2), (far, left_out, 0)):
        low, high, corrected = bca(of, replicates, rest, one_sample)
        assert corrected.tolist() == [at != which for at in range(3)]
        assert (low[which], high[which]) == (plain[0][which], plain[1][which])

    low, high, corrected = bca(values, replicates, left_out[:0], one_sample)
    assert not corrected.any()
    assert_allclose([low, high], plain)
    low, high, corrected = bca(values, replicates[:0], left_out, one_sample)
    assert np.isnan(low).all()
    assert not corrected.any()


def test_groups_of_one_label_each_are_samples_by_label_and_others_are_one():
    assert strata_of(np.array([[1, 0], [0, 1], [1, 0]], bool)).tolist() == [0, 1, 0]
    assert strata_of(np.array([[1, 0], [1, 1], [1, 0]], bool)).tolist() == [0, 0, 0]


def judged(run, subjects, d, n_boot):
    """Scores +-d + subject effect + noise of 12 cells a subject, called positive above 0."""
    rng = np.random.default_rng(run)
    groups = np.repeat(np.arange(subjects), 12)
    sign = np.where(groups % 2, 1, -1)
    score = norm.cdf(sign * d + rng.normal(size=subjects)[groups] + rng.normal(size=len(groups)))
    proba = np.column_stack([1 - score, score])
    return judge_scores(np.where(sign > 0, "b", "a"), proba, ["a", "b"], groups, n_boot=n_boot, seed=run)


def test_every_figure_says_how_its_interval_was_made():
    found = judged(0, 20, 0.8, 500).figures["image"]
    assert found["auroc"]["method"] == found["balanced_accuracy"]["method"] == "bca"
    # Resampling makes a calibration error larger: corrected for that, its interval would leave the replicates.
    assert found["ece"]["method"] == "percentile"
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1], 1200)
    many = judge_scores(np.repeat(["a", "b"], 600), proba, ["a", "b"], np.arange(1200), n_boot=50)
    assert {figure["method"] for figure in many.figures["image"].values()} == {"percentile"}
    one = judge_scores(np.repeat(["a", "b"], 600), proba, ["a", "b"], np.repeat([0, 1], 600), n_boot=50)
    assert {figure["method"] for figure in one.figures["image"].values()} == {"none"}


def test_a_perfect_score_has_no_spread_and_no_correction():
    groups = np.repeat(np.arange(10), 5)
    y = np.where(groups % 2, "b", "a")
    proba = np.column_stack([y == "a", y == "b"]).astype(float)
    figure = judge_scores(y, proba, ["a", "b"], groups, n_boot=100).figures["image"]["balanced_accuracy"]
    assert figure == {"value": 1.0, "low": 1.0, "high": 1.0, "method": "percentile"}


def coverage(runs, subjects, d, n_boot):
    """Shares of data sets whose BCa and percentile intervals hold the true balanced accuracy and AUROC."""
    truths = norm.cdf(d / np.sqrt(2)), norm.cdf(2 * d / 2)
    covered = np.zeros((2, 2))
    for run in range(runs):
        judgement = judged(run, subjects, d, n_boot)
        plain = percentile(judgement.replicates["image"])
        for at, (metric, truth) in enumerate(zip(("balanced_accuracy", "auroc"), truths, strict=True)):
            figure, column = judgement.figures["image"][metric], METRICS.index(metric)
            covered[0, at] += figure["low"] <= truth <= figure["high"]
            covered[1, at] += plain[0][column] <= truth <= plain[1][column]
    return covered / runs


def test_near_the_upper_end_bca_intervals_cover_the_truth_more_often_than_percentile_ones():
    # An AUROC of 0.977 by 40 subjects: replicates lie too high, and crowd below 1.
    corrected, plain = coverage(120, 40, 2.0, 400)
    assert (corrected > plain).all(), (corrected, plain)
    assert (corrected >= 0.89).all(), corrected


@pytest.mark.slow
@pytest.mark.parametrize(("subjects", "d"), [(60, 0.8), (73, 1.5)])
def test_of_500_bca_intervals_92_to_98_in_a_hundred_cover_the_truth(subjects, d):
    corrected = coverage(500, subjects, d, 1000)[0]
    assert (corrected >= 0.92).all(), corrected
    assert (corrected <= 0.98).all(), corrected
