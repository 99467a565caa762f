"""Paired tests keep their level when cells share subjects; the test by cell does not, and is shown not to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fusion.evaluation._paired_tests import clustered_delong, holm, mcnemar_p, permutation_p
from fusion.metrics.jackknife import p_values, spread_of
from fusion.metrics.judgement import judge_scores
from fusion.metrics.scored_rows import METRICS

#: Subjects a class, cells a subject, spread between subjects and within: an intraclass correlation of 0.5.
SUBJECTS, CELLS, BETWEEN, WITHIN = 25, 12, 1.0, 1.0


def two_scores(rng, gap_a=0.8, gap_b=0.8, between=BETWEEN):
    """Two scores of the same cells, equally good where the gaps are, each with subject effects of its own."""
    groups = np.repeat(np.arange(2 * SUBJECTS), CELLS)
    sign = np.where(groups % 2, 1, -1)
    a, b = (
        sign * gap + rng.normal(0, between, 2 * SUBJECTS)[groups] + rng.normal(0, WITHIN, len(groups))
        for gap in (gap_a, gap_b)
    )
    return sign > 0, a, b, groups


def jackknife_p(positive, a, b, groups):
    """p of the primary test, of balanced accuracy and of AUROC."""
    y = np.where(positive, "b", "a")
    judged = [judge_scores(y, np.column_stack([-s, s]) / 20 + 0.5, ["a", "b"], groups, positive="b") for s in (a, b)]
    influence = judged[0].influences["image"] - judged[1].influences["image"]
    columns = [METRICS.index(metric) for metric in ("balanced_accuracy", "auroc")]
    gaps = [
        judged[0].figures["image"][METRICS[at]]["value"] - judged[1].figures["image"][METRICS[at]]["value"]
        for at in columns
    ]
    spread = spread_of(influence[:, columns], judged[0].strata["image"])
    return p_values(gaps, spread, [SUBJECTS, SUBJECTS])


def p_of_every_test(rng, **design):
    """p of every test on one simulated data set."""
    positive, a, b, groups = two_scores(rng, **design)
    right = [(score > 0) == positive for score in (a, b)]
    primary = jackknife_p(positive, a, b, groups)
    return {
        "jackknife": primary[0],
        "jackknife auroc": primary[1],
        "delong": clustered_delong(positive, a, b, groups).p,
        "delong by cell": clustered_delong(positive, a, b, np.arange(len(groups))).p,
        "permutation": permutation_p(*right, positive, groups, n_permutations=999, seed=1),
        "mcnemar": mcnemar_p(*right),
    }


def rejected(runs, **design):
    """Share of simulated data sets in which each test says p < 0.05."""
    found = [p_of_every_test(np.random.default_rng([3, run]), **design) for run in range(runs)]
    return {test: float(np.mean([p[test] < 0.05 for p in found])) for test in found[0]}


BY_SUBJECT = ("jackknife", "jackknife auroc", "delong", "permutation")


def test_tests_by_subject_keep_their_level_and_tests_by_cell_do_not():
    share = rejected(60)
    # Of 60 at 5%, more than 8 are rejected in less than 1 of 200 cases.
    assert all(share[test] <= 8 / 60 for test in BY_SUBJECT), share
    assert share["mcnemar"] > 0.2, share
    assert share["delong by cell"] > 0.2, share


@pytest.mark.slow
def test_under_a_true_null_three_to_seven_in_a_hundred_are_rejected():
    share = rejected(500)
    for test in BY_SUBJECT:
        assert 0.03 <= share[test] <= 0.07, share
    assert share["mcnemar"] > 0.25, share


@pytest.mark.slow
def test_without_subject_effects_tests_by_cell_are_right_too():
    share = rejected(500, between=0.0)
    for test in ("delong by cell", "mcnemar"):
        assert 0.02 <= share[test] <= 0.07, share


def test_a_true_difference_is_found():
    share = rejected(20, gap_a=1.6, gap_b=0.4)
    assert all(share[test] >= 0.9 for test in BY_SUBJECT), share


# ---- clustered DeLong -----------------------------------------------------------------------------------------------


def by_definition(positive, a, b, groups):
    """Obuchowski's sums, written out: S10 / m + S01 / n + 2 S11 / (m n) of A and B and their covariance."""
    m, n = positive.sum(), (~positive).sum()
    ids = np.unique(groups)
    kernel = {}
    for name, score in (("a", a), ("b", b)):
        x, y = score[positive], score[~positive]
        psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
        kernel[name] = psi.mean(axis=1), psi.mean(axis=0), psi.mean()
    sums = {
        name: (
            np.array([(v10 - area)[groups[positive] == g].sum() for g in ids]),
            np.array([(v01 - area)[groups[~positive] == g].sum() for g in ids]),
        )
        for name, (v10, v01, area) in kernel.items()
    }
    i10, i01, i = len(set(groups[positive])), len(set(groups[~positive])), len(ids)

    def covariance(r, s):
        s10 = i10 / ((i10 - 1) * m) * (sums[r][0] @ sums[s][0])
        s01 = i01 / ((i01 - 1) * n) * (sums[r][1] @ sums[s][1])
        s11 = [i / (i - 1) * (sums[p][0] @ sums[q][1]) for p, q in ((r, s), (s, r))]
        return s10 / m + s01 / n + sum(s11) / (m * n)

    variance = covariance("a", "a") + covariance("b", "b") - 2 * covariance("a", "b")
    return kernel["a"][2], kernel["b"][2], np.sqrt(variance)


@pytest.mark.parametrize("mixed", [True, False])
def test_the_clustered_variance_is_obuchowskis(mixed):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 8)
    positive = rng.random(80) < 0.4 if mixed else groups % 2 == 0
    a, b = (np.round(positive * 0.5 + rng.normal(size=80), 1) for _ in range(2))
    found = clustered_delong(positive, a, b, groups)
    assert_allclose((found.a, found.b, found.error), by_definition(positive, a, b, groups), rtol=1e-12)


def test_without_groups_it_is_delong():
    rng = np.random.default_rng(1)
    positive = np.arange(300) < 120
    a, b = (positive * 0.7 + rng.normal(size=300) for _ in range(2))
    wins = [(s[positive][:, None] > s[~positive]) * 1.0 for s in (a, b)]
    gap = wins[0] - wins[1]
    expected = np.sqrt(gap.mean(axis=1).var(ddof=1) / 120 + gap.mean(axis=0).var(ddof=1) / 180)
    found = clustered_delong(positive, a, b, np.arange(300))
    assert_allclose(found.error, expected, rtol=1e-12)


def test_equal_scores_do_not_differ_and_too_few_groups_say_nothing():
    positive = np.array([True, True, False, False])
    score = np.array([0.9, 0.4, 0.5, 0.1])
    same = clustered_delong(positive, score, 2 * score, [0, 1, 2, 3])
    assert (same.difference, same.p) == (0, 1)
    assert np.isnan(clustered_delong(positive, score, -score, [0, 0, 1, 2]).p)


# ---- permutation, McNemar, Holm -------------------------------------------------------------------------------------


def test_all_exchanges_of_few_subjects_are_counted():
    # Subject 0 holds 3/4 of the difference and subject 1 the rest: only equal signs of both reach it, 2 of 4 ways.
    right_a = np.array([1, 1, 1, 1], bool)
    right_b = np.array([0, 0, 0, 0], bool)
    p = permutation_p(right_a, right_b, [0, 0, 1, 1], [0, 0, 0, 1])
    assert p == 0.5
    assert permutation_p(right_a, right_a, [0, 0, 1, 1], [0, 0, 0, 1]) == 1


def test_random_exchanges_agree_with_all_of_them(monkeypatch):
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(12), 5)
    right_a, right_b = rng.random(60) < 0.8, rng.random(60) < 0.6
    exact = permutation_p(right_a, right_b, groups % 2, groups)
    monkeypatch.setattr("fusion.evaluation._paired_tests._ALL_EXCHANGES", 0)
    assert_allclose(permutation_p(right_a, right_b, groups % 2, groups, n_permutations=40_000), exact, atol=0.01)


def test_mcnemar_counts_the_cells_on_which_the_two_disagree():
    a = np.array([1] * 8 + [0] * 2 + [1] * 30, bool)
    b = np.array([0] * 8 + [1] * 2 + [1] * 30, bool)
    assert mcnemar_p(a, b) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar_p(a, a) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_holms_values_are_in_order_and_between_the_values_and_bonferronis(values):
    adjusted = holm(values)
    assert all(p <= q <= min(1, len(values) * p) + 1e-12 for p, q in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_holm_by_hand():
    assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert_allclose(holm([0.02, float("nan")]), [0.02, np.nan])
