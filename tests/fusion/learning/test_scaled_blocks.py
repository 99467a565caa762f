"""Blocks that are scaled once are fused to the very rows that the fusion layer makes of all columns."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.learning.fits import Fits
from fusion.learning.scaled_blocks import ScaledBlocks
from tests.builders.blocks import BLOCKS, LAYERS, cells, fused
from tests.builders.comparisons import cells as table_of_cells
from tests.builders.comparisons import config, run


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("names", [("a",), ("a", "c"), ("a", "b", "c")], ids="+".join)
def test_the_fused_rows_are_those_of_the_layer(layer, names):
    X, _, _ = cells()
    train, test = np.arange(0, 120), np.arange(120, 160)
    for found, expected in zip(
        ScaledBlocks(X, BLOCKS, train, test, layer).of(names), fused(X, names, train, test, layer), strict=True
    ):
        assert_array_equal(found, expected)


def test_a_test_row_changes_no_training_row():
    X, _, _ = cells()
    train, test = np.arange(0, 120), np.arange(120, 160)
    changed = X.copy()
    changed[test] = 1e6
    first, second = (ScaledBlocks(data, BLOCKS, train, test, {}).of(("a", "b"))[0] for data in (X, changed))
    assert_array_equal(first, second)


def test_fits_on_blocks_scaled_once_give_the_probabilities_of_fits_alone(monkeypatch, tmp_path):
    scores = []
    for at, shared in enumerate(("scaling", "nothing")):
        monkeypatch.setattr(Fits, "_shared", lambda self, name, shared=shared: shared)
        scores.append(run(table_of_cells(subjects=12), config(tmp_path / str(at))).scores)
    for one, other in zip(*scores, strict=True):
        assert (one.features, one.classifier) == (other.features, other.classifier)
        assert_array_equal(one.proba, other.proba)
