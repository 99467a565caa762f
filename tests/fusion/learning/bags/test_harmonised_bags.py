"""Patients of several sites: each cell goes through the map of its source, read a batch at a time."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import JoinedCells
from fusion.feature_transforms.harmonisation import Harmoniser
from fusion.learning.bags import harmonised_bags
from fusion.learning.bags.harmonised_bags import harmonise_bags

RNG = np.random.default_rng(0)
CELLS = RNG.normal(size=(60, 4)).astype(np.float32) + np.repeat([0, 5, 9], 20)[:, None].astype(np.float32)
#: Patients of a training source, five of a new one, and one of whom there are too few cells.
ROWS = (np.arange(3, 19), *np.array_split(np.arange(39, 20, -1), 5), np.array([41, 40, 45]))
SOURCES = ["east", *["new"] * 5, "few"]


def fitted(transductive):
    train = RNG.normal(size=(50, 4))
    return Harmoniser.fit(train, ["a", "b"] * 25, ["east", "west"] * 25, method="standard", transductive=transductive)


@pytest.mark.parametrize("transductive", [False, True])
@pytest.mark.parametrize("cells", [CELLS, JoinedCells((CELLS[:30], CELLS[30:]))], ids=["held", "elsewhere"])
def test_cells_are_harmonised_as_all_of_them_together(transductive, cells):
    harmoniser, bags = fitted(transductive), Bags(cells, ROWS)
    expected = harmoniser.transform(bags.stacked, bags.spread(SOURCES))
    found = harmonise_bags(harmoniser, bags, SOURCES)
    assert_array_equal(found.stacked, expected)
    assert_array_equal(np.concatenate([found[at : at + 1].stacked for at in range(7)]), expected)
    assert_array_equal(harmonise_bags(harmoniser, bags, SOURCES, np.float32).stacked, expected.astype(np.float32))
    assert (expected[16:35] != bags.stacked[16:35]).all() == transductive


def test_a_new_source_of_very_many_cells_is_described_by_some_of_each_patient(monkeypatch):
    monkeypatch.setattr(harmonised_bags, "CELLS_OF_SOURCE", 21)
    read = []

    class Counted(JoinedCells):
        def __getitem__(self, rows):
            read.append(len(rows))
            return super().__getitem__(rows)

    bags = Bags(Counted((CELLS[:30], CELLS[30:])), ROWS)
    found = harmonise_bags(fitted(True), bags, ["new"] * 7)
    assert read == [21]
    assert abs(found.stacked.mean(axis=0)).max() < 2  # from 7, though by some of them alone


def test_without_a_harmoniser_bags_are_themselves():
    bags = Bags(CELLS, ROWS)
    assert harmonise_bags(None, bags, SOURCES) is bags


def test_a_new_source_of_few_patients_is_left_as_it_is():
    """What describes a patient alone is what the patient has."""
    harmoniser, bags = fitted(True), Bags(CELLS, ROWS[:5])
    found = harmonise_bags(harmoniser, bags, SOURCES[:5])
    assert_array_equal(found[1:].stacked, bags[1:].stacked)
    assert harmonised_bags.sources_of_few_patients(harmoniser, SOURCES, range(7)) == ["few"]
    assert harmonised_bags.sources_of_few_patients(fitted(False), SOURCES, range(7)) == []
