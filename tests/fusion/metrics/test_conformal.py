"""Thresholds of promises: their ranks, their level by exact probability, and against MAPIE."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import beta

from fusion.metrics.conformal import (
    draw_cells,
    risk_threshold,
    set_threshold,
    subjects_for_level,
    subjects_for_risk,
)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [9, 15, 19, 30, 50, 131])
def test_the_level_of_a_set_is_exact_over_draws(n, level):
    """The k-th lowest of n scores lies below a new one with probability 1 - k / (n + 1): no simulation needed."""
    scores = np.arange(1, n + 1, dtype=float)  # the score is its rank
    draws = (np.arange(2000) + 0.5) / 2000
    ranks = np.array([set_threshold(scores, level, draw) for draw in draws])
    if n < subjects_for_level(level):
        assert (ranks == -math.inf).all()
        return
    assert_allclose(np.mean(1 - ranks / (n + 1)), level, atol=1e-3)
    assert set(np.unique(ranks)) <= {math.floor((n + 1) * (1 - level) + 1e-9), math.ceil((n + 1) * (1 - level) - 1e-9)}


def test_sets_of_a_higher_level_hold_those_of_a_lower_one():
    scores, levels = np.random.default_rng(0).random(40), np.linspace(0.5, 0.97, 60)
    thresholds = [set_threshold(scores, level, 0.37) for level in levels]
    assert (np.diff(thresholds) <= 0).all()


def test_equal_scores_keep_the_promise_more_often_never_less():
    scores = np.repeat([0.2, 0.9], [2, 28])
    assert set_threshold(scores, 0.95, 0.99) == 0.2
    assert set_threshold(scores, 0.9, 0.99) == 0.9


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_fewest_subjects_for_a_level(level, needed):
    assert subjects_for_level(level) == needed
    assert set_threshold(np.ones(needed), level, 0.0) == 1.0
    assert set_threshold(np.ones(needed - 1), level, 0.999) == -math.inf


@pytest.mark.parametrize("n", [19, 40, 100])
def test_risk_on_average_is_kept_by_the_mean_of_the_miss_rate(n):
    rank = risk_threshold(np.arange(1, n + 1, dtype=float), 0.05, None)
    assert rank / (n + 1) <= 0.05 < (rank + 1) / (n + 1)  # the miss rate at a rank is Beta(rank, n + 1 - rank)


@pytest.mark.parametrize("n", [59, 93, 200, 1000])
def test_risk_with_confidence_is_kept_in_so_many_trainings(n):
    rank = risk_threshold(np.arange(1, n + 1, dtype=float), 0.05, 0.95)
    assert beta.sf(0.05, rank, n + 1 - rank) <= 0.05 < beta.sf(0.05, rank + 1, n - rank)


@pytest.mark.parametrize(("confidence", "needed"), [(None, 19), (0.95, 59), (0.99, 90)])
def test_the_fewest_subjects_for_a_risk(confidence, needed):
    assert subjects_for_risk(0.05, confidence) == needed
    assert risk_threshold(np.arange(needed, dtype=float), 0.05, confidence) == 0.0
    assert risk_threshold(np.arange(needed - 1, dtype=float), 0.05, confidence) == -math.inf


def test_one_cell_of_each_subject_is_drawn_each_as_likely():
    subjects = np.array([4, 4, 4, 9, 2, 2])
    rng = np.random.default_rng(0)
    drawn = np.array([draw_cells(subjects, rng) for _ in range(3000)])
    assert (subjects[drawn] == [2, 4, 9]).all()
    counts = np.bincount(drawn.ravel(), minlength=6) / 3000
    assert_allclose(counts, [1 / 3, 1 / 3, 1 / 3, 1, 0.5, 0.5], atol=0.04)


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset")
def test_of_independent_cells_a_class_has_the_threshold_of_mapie():
    """MAPIE's split conformal sets by the least ambiguous score, of one class: where ranks are whole both agree."""
    classification = pytest.importorskip("mapie.classification", reason="mapie is not installed")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 99)  # 100 times any level in percent is whole
    X = rng.normal(size=(198, 2)) + y[:, None]
    model = LogisticRegression().fit(X, y)
    own = model.predict_proba(X)[np.arange(198), y]
    new = rng.normal(size=(500, 2)) + 0.5
    for code in (0, 1):
        peer = classification.SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac", prefit=True)
        peer.conformalize(X[y == code], y[y == code])
        inside = peer.predict_set(new)[1][:, code, 0]
        ours = model.predict_proba(new)[:, code] >= set_threshold(own[y == code], 0.9, 0.5)
        assert (inside == ours).all()
