"""Shares of classes in a new site: found where they can be told, with intervals that hold them, and else refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.metrics.class_shares import LEAST_CELLS, WORTH, ClassShares

CLASSES = ("a", "b", "c")
EQUAL = np.full(3, 1 / 3)


def probabilities(counts, seed=0, apart=2.5, supposed=EQUAL):
    """float64 (n, 3): what a calibrated classifier says that supposes these shares, of classes so far apart."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(3), counts)
    centres = apart * np.eye(3)
    X = centres[codes] + rng.normal(size=(len(codes), 3))
    odds = supposed * np.exp(-0.5 * ((X[:, None] - centres) ** 2).sum(axis=2))
    return odds / odds.sum(axis=1, keepdims=True)


def shares_of(proba, supposed=EQUAL, groups=None, **more):
    return ClassShares.of("b", CLASSES, proba, supposed, np.arange(len(proba)) if groups is None else groups, **more)


@pytest.mark.parametrize("supposed", [EQUAL, np.array([0.7, 0.2, 0.1])])
def test_shares_are_found_whatever_the_classifier_supposes(supposed):
    found = shares_of(probabilities([700, 200, 100], supposed=supposed), supposed)
    assert found.shares == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert sum(found.shares) == pytest.approx(1)
    assert all(low < share < high for low, share, high in zip(found.low, found.shares, found.high, strict=True))


def test_no_site_counts_for_more_than_some_cells_of_known_class():
    few, many = (shares_of(probabilities([n, n, n])) for n in (20, 2000))
    widths = [np.subtract(found.high, found.low).mean() for found in (few, many)]
    # Wilson's interval of a third of as many known cells.
    z = 1.96
    least = 2 * z * np.sqrt((2 / 9 + z**2 / (4 * WORTH)) / WORTH) / (1 + z**2 / WORTH)
    assert least <= widths[1] < 1.01 * least < widths[0]


def test_cells_of_few_subjects_tell_less():
    proba = probabilities([100, 60, 40])
    each = shares_of(proba)
    whole = shares_of(proba, groups=np.arange(200) // 25)  # each subject's cells are of hardly more than one class
    assert whole.groups == 8
    assert_allclose(whole.shares, each.shares)
    assert np.subtract(whole.high, whole.low).mean() > 1.3 * np.subtract(each.high, each.low).mean()
    alone = shares_of(proba, groups=np.zeros(200, int))  # of the one subject's own cells
    assert_allclose(alone.low, each.low)


def test_chance_of_the_cells_is_what_it_is_over_draws(monkeypatch):
    monkeypatch.setattr("fusion.metrics.class_shares.WORTH", 10**9)
    rng, truth = np.random.default_rng(5), np.array([0.5, 0.3, 0.2])
    held = []
    for seed in range(150):
        found = shares_of(probabilities(rng.multinomial(120, truth), seed))
        held.append((np.array(found.low) <= truth) & (truth <= found.high))
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_class_that_may_be_others_begins_at_nothing():
    proba = probabilities([150, 100, 50])
    proba[200:250] = [0.05, 0.5, 0.45]  # as good as b, and nothing else is c
    proba[250:] = [0.05, 0.45, 0.5]
    assert shares_of(proba).low[2] == 0


def test_what_cannot_be_told_is_refused_and_said():
    proba = probabilities([40, 30, 30])
    few = shares_of(proba[: LEAST_CELLS - 1])
    unsure = shares_of(np.tile(EQUAL, (50, 1)))
    outside = shares_of(proba, outside=np.arange(100) < 60)
    assert [found.refusal for found in (few, unsure, outside)] == [
        "fewer than 10 cells",
        "the model is too unsure of their classes",
        "60 of 100 cells are out of distribution",
    ]
    assert few.line == "Shares of classes in 'b' cannot be told beyond what is predicted: fewer than 10 cells."
    assert few.to_json() == {"source": "b", "cells": 9, "groups": 9, "shares": None, "refusal": "fewer than 10 cells"}
    assert shares_of(proba, outside=np.arange(100) < 40).refusal == ""


def test_one_class_alone_and_sure_cells_are_no_trouble():
    sure = np.tile([1.0, 0.0, 0.0], (30, 1))
    found = shares_of(sure)
    assert_array_equal(found.shares, [1, 0, 0])
    assert found.low[0] > 0.7
    assert max(found.high[1:]) < 0.3
    assert found.line.startswith("Estimated shares of classes in 'b', 95% intervals: a 100% [")
