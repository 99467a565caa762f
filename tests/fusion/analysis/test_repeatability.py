"""Intraclass correlations of what was measured twice, over the cells of patients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.analysis.repeatability import (
    agreement_of_features,
    correlation,
    repeated_over_patients,
    share_over_patients,
    sums_of_patients,
)


@pytest.fixture
def measured():
    """Two measurements of 60 cells, one value unknown, and the cells of twelve patients in another order each time."""
    rng = np.random.default_rng(0)
    first = 1e4 + rng.normal(size=(60, 4)) * [1, 1, 100, 0]
    second = first + rng.normal(size=(60, 4)) * [0.1, 1, 20, 0]
    first[3, 1] = np.nan
    pairs = [(np.arange(at, 60, 12), np.arange(at, 60, 12)) for at in range(12)]
    return first, second, pairs


def test_sums_of_patients_give_what_all_cells_together_give(measured):
    first, second, pairs = measured
    sums = np.stack(list(sums_of_patients(pairs, first, second)))
    whole = agreement_of_features(first, second)
    assert_allclose(correlation(sums.sum(axis=0)), whole)
    assert np.isnan(whole[3])
    assert whole[0] > 0.97 > whole[1]
    # The unknown value is no pair.
    assert sums[:, 0].sum(axis=0).tolist() == [60, 59, 60, 60]
    without = np.delete(np.arange(60), pairs[5][0])
    assert_allclose(
        correlation(sums.sum(axis=0) - sums[5]), agreement_of_features(first[without], second[without]), rtol=1e-9
    )


def test_cells_are_read_some_at_a_time(measured, monkeypatch):
    first, second, pairs = measured
    whole = np.stack(list(sums_of_patients(pairs, first, second)))
    most = []

    class Watched:
        shape = first.shape

        def __getitem__(self, rows):
            most.append(len(rows))
            return first[rows]

    monkeypatch.setattr("fusion.analysis.repeatability._BATCH", 2)
    assert_allclose(np.stack(list(sums_of_patients(pairs, Watched(), second))), whole, atol=1e-9)
    assert max(most) == 2


def test_an_interval_over_patients_holds_what_other_patients_have():
    """Patients whose cells share an error: the correlation of 12 of them lies around that of thousands."""
    rng = np.random.default_rng(1)

    def drawn(patients):
        truth = rng.normal(size=(patients, 10, 1))
        other = truth + 0.6 * rng.normal(size=(patients, 1, 1)) + 0.3 * rng.normal(size=truth.shape)
        pairs = [(np.arange(10 * at, 10 * at + 10),) * 2 for at in range(patients)]
        return np.stack(list(sums_of_patients(pairs, truth.reshape(-1, 1), other.reshape(-1, 1))))

    true = float(correlation(drawn(4000).sum(axis=0))[0])
    held, width = 0, []
    for _ in range(200):
        found = repeated_over_patients(drawn(12), ["a", "b"] * 6, lambda each: float(each[0]))
        held += found["low"] <= true <= found["high"]
        width.append(found["high"] - found["low"])
    assert held >= 180
    assert np.median(width) < 0.6


def test_what_hardly_moves_is_known_well_from_few_patients():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(60, 1))
    other = truth + 0.01 * rng.normal(size=truth.shape)
    pairs = [(np.arange(10 * at, 10 * at + 10),) * 2 for at in range(6)]
    sums = np.stack(list(sums_of_patients(pairs, truth, other)))
    found = repeated_over_patients(sums, ["a", "b"] * 3, lambda each: float(each[0]))
    assert 0.99 < found["low"] < found["value"] < found["high"] <= 1


def test_a_share_of_all_patients_has_an_exact_interval():
    found = share_over_patients(np.ones(12, bool), ["a", "b"] * 6)
    assert found["value"] == found["high"] == 1
    # The rule of three of six patients of a class: 0.025 ** (1 / 6).
    assert found["low"] == pytest.approx(0.025 ** (1 / 6))
    alone = share_over_patients(np.array([True, True, False]), ["a", "a", "b"])
    assert np.isnan(alone["low"])
