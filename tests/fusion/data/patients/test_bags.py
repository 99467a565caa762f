from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.data.patients import bags as bags_module
from fusion.data.patients import cells_elsewhere
from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import BATCH_CELLS, ChangedCells
from tests.builders.patients import cells_of_patients


@pytest.fixture
def bags():
    cells = np.arange(24, dtype=np.float32).reshape(8, 3)
    return Bags(cells, (np.array([5, 0]), np.array([1]), np.array([2, 3, 7])), np.array(list("abcdefgh"), object))


def test_what_a_matrix_does_by_rows_bags_do_by_bags(bags):
    some = bags[np.array([2, 0])]
    assert some.shape == (2, 3)
    assert_array_equal(some.stacked, bags.cells[[2, 3, 7, 5, 0]])
    assert some.stacked_labels.tolist() == ["c", "d", "h", "f", "a"]
    assert_array_equal(some.owners, [0, 0, 0, 1, 1])
    assert_array_equal(bags[:, [2, 0]].stacked, bags.stacked[:, [2, 0]])
    assert_array_equal(bags[1:].sizes, [1, 3])
    assert_array_equal(bags[np.array([True, False, True])].sizes, [2, 3])


def test_means_and_medians_are_those_of_each_bag(bags):
    values = bags.stacked
    parts = [values[:2], values[2:3], values[3:]]
    assert_array_equal(bags.mean(values), [part.mean(axis=0) for part in parts])
    assert_array_equal(bags.medians(values[:, 0]), [np.median(part[:, 0]) for part in parts])


def test_a_change_sees_every_cell_once_and_in_its_bag(bags):
    calls = []

    def double(some):
        calls.append(len(some))
        return 2 * some.stacked

    assert_array_equal(bags.changed(double).stacked, 2 * bags.stacked)
    assert calls == [3]
    large = Bags(np.ones((3 * BATCH_CELLS, 1), np.float32), tuple(np.arange(3 * BATCH_CELLS).reshape(6, -1)))
    assert [len(some) for some in large.batches()] == [2, 2, 2]


def test_one_after_the_other_they_keep_their_cells(bags):
    both = bags[np.array([1])].followed_by(bags[np.array([2])])
    assert_array_equal(both.stacked, bags.cells[[1, 2, 3, 7]])
    assert both.stacked_labels.tolist() == ["b", "c", "d", "h"]


def test_columns_of_other_bags_are_taken_again_from_the_first_where_these_are_smaller(bags):
    mixed = bags[np.array([2])].with_columns(slice(1, 2), bags[np.array([0])])
    assert_array_equal(mixed.stacked[:, 1], bags.cells[[5, 0, 5], 1])
    assert_array_equal(mixed.stacked[:, [0, 2]], bags.cells[[2, 3, 7]][:, [0, 2]])


def test_of_many_cells_each_bag_gives_as_many():
    table, _ = cells_of_patients(patients=4, sizes=[100, 3, 50, 80])
    X = table.by_subject().X
    owner = np.repeat(np.arange(4), [100, 3, 50, 80])
    assert_array_equal(np.bincount(owner[X.drawn(40, 0)]), [10, 3, 10, 10])
    assert len(np.unique(X.drawn(40, 0))) == 33
    assert_array_equal(X.drawn(1000, 0), np.arange(233))


def test_a_bag_without_cells_is_none():
    with pytest.raises(ValueError, match="without cells"):
        Bags(np.ones((2, 2)), (np.array([0]), np.array([], np.intp)))


def test_an_averaged_patient_is_the_mean_of_what_is_known_of_its_cells():
    table, _ = cells_of_patients(patients=3, sizes=[2, 1, 3], columns=2)
    X = table.X.copy()
    X[0, 0] = np.nan
    X[2, 1] = np.nan
    found = replace(table, X=X).by_subject().averaged().X
    assert_allclose(found[:, 0], [X[1, 0], X[2, 0], X[3:, 0].mean()], rtol=1e-6)
    assert np.isnan(found[1, 1])


class _ReadByNumber:
    """Cells that lie elsewhere, as a store gives them; it counts what is read of them at once."""

    def __init__(self, cells):
        self.cells, self.shape, self.most = cells, cells.shape, 0

    def __len__(self):
        return len(self.cells)

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return self.cells[np.asarray(rows)]

    def pick(self, columns):
        return _ReadByNumber(self.cells[:, columns])


def test_cells_that_lie_elsewhere_are_changed_batch_by_batch_to_the_same_numbers(monkeypatch):
    for module in (bags_module, cells_elsewhere):
        monkeypatch.setattr(module, "BATCH_CELLS", 8)
    cells = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    rows = (np.arange(40, 60), np.arange(7), np.array([30, 9, 31]))
    held, elsewhere = Bags(cells, rows), _ReadByNumber(cells)
    stored = Bags(elsewhere, rows)

    def change(some):
        return np.hstack([some * 2, some[:, :1] ** 2])

    plain, late = held.fused(change), stored.fused(change)
    assert isinstance(late.cells, ChangedCells)
    assert_array_equal(late.stacked, plain.stacked)
    assert_array_equal(late[:, 2:5].stacked, plain[:, 2:5].stacked)
    assert_array_equal(late[np.array([2, 0])].stacked, plain[np.array([2, 0])].stacked)
    assert_array_equal(late.stacked_rows(np.array([3, 21])), plain.stacked[[3, 21]])
    assert_array_equal(stored.followed_by(held).stacked, held.followed_by(held).stacked)
    assert elsewhere.most <= 60
    elsewhere.most = 0
    for some in late.batches():
        assert_array_equal(some.stacked, change(np.concatenate([cells[own] for own in some.rows])).astype(np.float32))
    assert elsewhere.most <= 8  # never more than a batch, though the first bag holds twenty
