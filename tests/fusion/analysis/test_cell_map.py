"""The map of the cells: principal components of what is fused, and what lies between groups of cells."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis import cell_map as module
from fusion.analysis.cell_map import cell_map
from fusion.data.feature_table import FeatureTable


def table(n=120, by_class=0.0, by_source=0.0):
    rng = np.random.default_rng(0)
    label, site = np.arange(n) % 2, np.arange(n) // 2 % 2
    X = rng.normal(size=(n, 6))
    X[:, :3] += by_class * label[:, None]
    X[:, 3:] += by_source * site[:, None]
    cells = FeatureTable.of_cells(
        X.astype(np.float32), [f"{'ab'[at // 3]}.f{at}" for at in range(6)], [f"{at}.png" for at in range(n)]
    )
    return replace(cells, y=tuple("ph"[at] for at in label), sources=tuple("ns"[at] for at in site))


def test_places_are_the_principal_components_of_scaled_features():
    cells = table(by_class=2)
    found = cell_map(cells, np.arange(len(cells)))
    scaled = (cells.X - cells.X.mean(axis=0)) / cells.X.std(axis=0)
    _, sizes, axes = np.linalg.svd(scaled, full_matrices=False)
    places = np.array([point[1:] for point in found["points"]])
    expected = scaled @ axes[:2].T
    for ours, theirs in zip(places.T, expected.T, strict=True):
        assert abs(np.corrcoef(ours, theirs)[0, 1]) == pytest.approx(1, abs=1e-4)
    assert found["variance"] == pytest.approx((sizes**2 / (sizes**2).sum())[:2], abs=1e-3)


def test_what_lies_between_classes_and_sources_is_told_and_nothing_where_nothing_does():
    by_source = cell_map(table(by_source=6), np.arange(120))["explained"]
    assert by_source["source"] > 0.6
    assert abs(by_source["class"]) < 0.1
    nothing = cell_map(table(), np.arange(120))["explained"]
    assert all(abs(share) < 0.1 for share in nothing.values())
    assert "group" not in nothing


def test_labels_change_nothing_but_what_lies_between_them():
    cells = table(by_class=1)
    shuffled = replace(cells, y=tuple(np.random.default_rng(1).permutation(cells.y)))
    first, second = (cell_map(each, np.arange(120)) for each in (cells, shuffled))
    assert first["points"] == second["points"]


def test_of_many_cells_some_are_drawn_and_only_judged_ones(monkeypatch):
    monkeypatch.setattr(module, "CELLS", 30)
    judged = np.arange(40, 120)
    found = cell_map(table(), judged)
    rows = [row for row, *_ in found["points"]]
    assert len(rows) == 30
    assert set(rows) <= set(judged.tolist())
    assert found["judged"] == 80
    assert cell_map(table(), np.arange(2)) is None
