"""Sample sizes: what they promise is what simulated studies find."""

import math

import numpy as np
import pytest
from scipy import stats

from fusion.evaluation.sample_size import (
    Spreads,
    assumed_spreads,
    pilot_spreads,
    power,
    smallest_difference,
    subjects_needed,
)


def found_share(difference, subjects, deviations, runs=4000, seed=0):
    """How many of so many simulated studies find it, by Welch's test of scipy on the subjects' differences: half of the
    sum of two classes' means is half the difference of one and the negative other."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(difference, s, (runs, n)) for s, n in zip(deviations, subjects, strict=True))
    return float((stats.ttest_ind(a, -b, axis=1, equal_var=False).pvalue < 0.05).mean())


@pytest.mark.parametrize("difference", [0.0, 0.05, 0.1])
@pytest.mark.parametrize(
    ("subjects", "deviations"),
    [((6, 6), (0.1, 0.1)), ((47, 26), (0.2, 0.2)), ((30, 8), (0.1, 0.3))],
)
def test_the_power_is_that_of_simulated_studies(difference, subjects, deviations):
    names = ("all", "hem")
    spreads = Spreads(dict(zip(names, deviations, strict=True)), {}, "")
    said = power(difference, dict(zip(names, subjects, strict=True)), spreads, training=0.0)
    assert said == pytest.approx(found_share(difference, subjects, deviations), abs=0.03)


def test_the_fewest_subjects_are_the_fewest():
    spreads = assumed_spreads(["all", "hem"], 0.85, 100, 0.2, 0.66)
    shares = {"all": 0.64, "hem": 0.36}
    found = subjects_needed(0.05, shares, spreads, asked=0.8)
    assert power(0.05, found, spreads) >= 0.8 > power(0.05, {name: n - 1 for name, n in found.items()}, spreads)
    assert smallest_difference(found, spreads, asked=0.8) <= 0.05
    assert smallest_difference({name: n - 1 for name, n in found.items()}, spreads, asked=0.8) > 0.05
    assert subjects_needed(1e-6, shares, spreads) is None
    assert math.isnan(smallest_difference({"all": 1, "hem": 9}, spreads))


def test_what_is_trained_anew_needs_more_subjects():
    spreads = assumed_spreads(["all", "hem"], 0.85, 100, 0.2, 0.66)
    fixed, trained = (smallest_difference({"all": 20, "hem": 20}, spreads, training=share) for share in (0.0, 1.0))
    assert trained == pytest.approx(fixed * math.sqrt(2), rel=0.01)


def test_assumptions_are_the_spread_of_cells_drawn_by_them():
    rng = np.random.default_rng(0)
    rho, m, p = 0.2, 30, 0.8
    # A beta-binomial has exactly this correlation within a subject.
    share = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), (2, 40_000))
    right = rng.binomial(m, share) / m
    said = assumed_spreads(["all"], p, m, rho, 0.0).deviations["all"]
    assert said == pytest.approx((right[0] - right[1]).std(), rel=0.02)


def test_a_pilots_spread_is_the_standard_error_of_its_classes():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(20), 5)
    labels = np.where(who % 2, "all", "hem")
    differences = rng.normal(0, 0.1, 20)[who] + rng.choice([-1.0, 0, 1], 100) * 0.2
    found = pilot_spreads(differences, labels, who, "")
    means = differences.reshape(20, 5).mean(axis=1)
    assert found.subjects == {"all": 10, "hem": 10}
    assert found.deviations["all"] == pytest.approx(means[1::2].std(ddof=1))
    wider = found.cautious().deviations
    assert all(1 < wider[name] / deviation < 1.5 for name, deviation in found.deviations.items())
