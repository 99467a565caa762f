"""Bands of curves: they hold the curve, and neither dip nor spike where few subjects vary."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from fusion import judge
from fusion.evaluation.curves import precision_curve, reliability_curve, risk_coverage_curve, roc_curve


def judged(positives, negatives, gap, seed, cells=12, hard=None):
    """Scores of ``positives`` + ``negatives`` subjects; of ``hard`` all but these are far from the threshold."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(positives + negatives), cells)
    is_positive = groups < positives
    score = np.where(is_positive, gap, -gap) + rng.normal(0, 1, positives + negatives)[groups]
    score += rng.normal(0, 1, len(groups))
    if hard is not None:
        score = np.where(np.isin(groups, hard), score / 4, np.where(is_positive, 9, -9) + score / 9)
    rows = {"subject": [f"s{at}" for at in groups], "label": np.where(is_positive, "ill", "well"), "entry": "mine"}
    return judge(pd.DataFrame({**rows, "score": norm.cdf(score)}), positive="ill", seed=0)


def false_positives(precision, at, share):
    """The share of negatives called positive at a sensitivity, by the precision there; ``share`` positives over
    negatives."""
    return at * (1 / precision - 1) * share


@given(
    subjects=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    gap=st.floats(0, 2.5),
    few=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=10, deadline=None)
def test_bands_hold_their_curves_and_are_no_wider_than_where_each_subject_is_all_right_or_all_wrong(
    subjects, gap, few, seed
):
    result = judged(*subjects, gap, seed, hard=[0, subjects[0]] if few else None)
    for draw in (roc_curve, precision_curve, reliability_curve, risk_coverage_curve):
        curve = draw(result, 0)
        known = ~np.isnan(curve.low)
        assert (curve.low[known] <= curve.y[known] + 1e-9).all(), draw
        assert (curve.y[known] <= curve.high[known] + 1e-9).all(), draw
        assert (curve.low[known] < curve.high[known]).all(), draw
        assert (curve.low[known] >= 0).all(), draw
        assert (curve.high[known] <= 1).all(), draw
    share, n = subjects[0] / subjects[1], min(subjects)
    curve = precision_curve(result, 0)
    called = false_positives(curve.y, curve.x, share)
    widest = np.nan_to_num(beta.ppf(0.975, called * n + 1, (1 - called) * n), nan=1)  # all of them: no upper bound
    most = false_positives(curve.low, curve.x, share)
    assert (most <= np.maximum(widest, called) + 1e-9).all()
    # More of the positives are never found with fewer false ones, and the band knows.
    teeth = np.maximum.accumulate(called) > called + 1e-12
    assert (np.diff(np.where(teeth, np.maximum.accumulate(most), most)) >= -1e-9).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_risk_coverage_band_does_not_fall_to_0_where_a_single_cell_is_wrong(seed):
    curve = risk_coverage_curve(judged(8, 7, 1.2, seed), 0)
    # From where half of the cells are answered every subject has one among them.
    some = curve.x >= 0.5
    exact = beta.ppf(0.025, 7 * curve.y[some], 7 * (1 - curve.y[some]) + 1)
    assert (curve.low[some] >= exact - 1e-9).all()
    # Its mistakes among more cells bound those among less: (1 - low) x cells never falls.
    mistakes = (1 - curve.low) * curve.x
    assert (np.diff(mistakes[some]) >= -0.02).all()


def test_where_few_are_sure_a_band_is_of_the_subjects_that_have_a_cell_there():
    """The surest cells are of one ill and of two well subjects, who are all right: of the ill ones one is known."""
    result = judged(6, 6, 0.0, 3, hard=range(1, 6))
    sure = np.array([subject in ("s0", "s11", "s10") for subject in result.cells.subjects], float)
    curve = risk_coverage_curve(result, 0, sure)
    assert curve.y[0] == 1
    assert curve.low[0] == pytest.approx(0.025)  # one of one, by Clopper and Pearson
