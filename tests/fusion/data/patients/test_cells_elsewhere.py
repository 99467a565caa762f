"""Cells that are not held: each stands for the array that one would have made of them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.data.patients import cells_elsewhere
from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import ChangedCells, ExchangedCells, HarmonisedCells, JoinedCells, join_cells
from fusion.feature_transforms.harmonisation import Harmoniser

CELLS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
ASKED = [np.array([39, 0, 7, 7, 21]), np.arange(40), np.array([], np.intp)]


def doubled(some):
    return np.hstack([2 * some, some[:, :1]])


def harmonised():
    sources = np.array(["east", "west"] * 20, object)
    fitted = Harmoniser.fit(CELLS, ["a", "b", "b", "a"] * 10, sources.tolist(), method="standard")
    return HarmonisedCells(CELLS, fitted, sources, np.arange(5)), fitted.transform(CELLS, sources.tolist())


def each_kind():
    """Cells elsewhere beside the array that they stand for."""
    donors, given = CELLS[::-1] + 1, np.arange(40) % 3
    mixed = CELLS.copy()
    mixed[:, 1:3] = donors[given][:, 1:3]
    return {
        "changed": (ChangedCells.of(CELLS, doubled), doubled(CELLS)),
        "harmonised": harmonised(),
        "exchanged": (ExchangedCells(CELLS, np.arange(40), donors, given, slice(1, 3)), mixed),
        "joined": (JoinedCells((CELLS[:13], ChangedCells.of(CELLS[13:], lambda some: some))), CELLS),
    }


@pytest.mark.parametrize("kind", ["changed", "harmonised", "exchanged", "joined"])
def test_they_give_the_rows_that_are_asked_for(kind, monkeypatch):
    monkeypatch.setattr(cells_elsewhere, "BATCH_CELLS", 8)
    cells, expected = each_kind()[kind]
    assert (cells.shape, len(cells)) == (expected.shape, 40)
    for rows in ASKED:
        assert_array_equal(cells[rows], expected[rows])
    if kind != "exchanged":  # which nobody takes columns of
        picked = cells.pick(np.array([4, 1, 2])).pick(np.array([2, 0]))
        assert picked.shape == (40, 2)
        assert_array_equal(picked[ASKED[0]], expected[ASKED[0]][:, [2, 4]])


def test_two_arrays_are_joined_as_one():
    assert isinstance(join_cells(CELLS[:4], CELLS[4:]), np.ndarray)


def test_columns_that_are_exchanged_are_the_same_wherever_the_cells_lie():
    rows = (np.array([3, 1]), np.array([0]), np.array([9, 8, 7]))
    held, elsewhere = Bags(CELLS, rows), Bags(JoinedCells((CELLS[:5], CELLS[5:])), rows)
    order = np.array([2, 0, 1])
    mixed = held.with_columns(slice(0, 2), held[order])
    other = elsewhere.with_columns(slice(0, 2), elsewhere[order])
    assert isinstance(other.cells, ExchangedCells)
    assert_array_equal(other.stacked, mixed.stacked)
