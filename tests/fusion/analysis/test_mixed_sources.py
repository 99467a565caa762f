"""Two laboratories under one name are told by their files and their cells; one laboratory is not taken for two."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis.mixed_sources import difference, mixed_sources
from fusion.data.dataset import load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.plugins.registry import build_extractor
from tests.builders.images import paint, write_image


def site(folder, kinds):
    """Cells of two classes, in images of so many kinds: (side of the image, times as large, file's ending)."""
    rows = []
    for at in range(48):
        side, scale, ending = kinds[at % len(kinds)]
        rng = np.random.default_rng(at)
        label = "ab"[at // 2 % 2]
        radius = scale * (12 + 6 * "ab".index(label) + rng.normal())
        write_image(folder / f"{at:03d}{ending}", paint(at, side=side, radius=radius))
        rows.append(f"{at:03d}{ending},{label},east")
    table = folder / "cells.csv"
    table.write_text("path,label,source\n" + "\n".join(rows) + "\n")
    return table


@pytest.mark.parametrize(
    ("kinds", "what"),
    [
        ([(110, 1.0, ".png"), (110, 1.6, ".bmp")], "24 of 48 images looked at are "),
        ([(110, 1.0, ".png"), (130, 1.6, ".png")], "24 of 48 images looked at are of 1"),
        ([(110, 1.0, ".png"), (130, 1.0, ".bmp")], None),  # cells alike, whatever they are stored in
        ([(110, 1.0, ".png")], None),
    ],
)
def test_a_source_of_two_kinds_of_images_with_other_cells_is_stamped(tmp_path, kinds, what):
    dataset = load_dataset(site(tmp_path, kinds), store=tmp_path / "store")
    table = extract(dataset, [build_extractor("morphology", {})], FeatureStore(tmp_path / "store"), jobs=1).table
    stamps = mixed_sources(dataset, table, table.y)
    assert len(stamps) == (what is not None)
    assert all(stamp.startswith(f"east: {what}") for stamp in stamps)
    assert mixed_sources(dataset.select(classes=["a"]), table, table.y) != [] or what is None
    elsewhere = replace(table, keys=tuple(f"other {key}" for key in table.keys))
    assert mixed_sources(dataset, elsewhere, table.y) == []  # as the cells of --test beside those of training


def test_a_difference_that_classes_explain_is_none():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 40).astype(object)
    X = rng.normal(size=(80, 30)) + 5 * (y == "b")[:, None]
    X[rng.random(X.shape) < 0.05] = np.nan
    is_one = rng.random(80) < np.where(y == "b", 0.9, 0.1)
    assert difference(X, is_one, y) < 0.3
    assert difference(X, y == "b", y) == 0  # no class on both sides
    X[is_one] += 2
    assert difference(X, is_one, y) == pytest.approx(2, abs=0.3)


def test_subjects_and_cells_without_features_are_not_asked():
    names = [str(at) for at in range(40)]
    assert mixed_sources(None, FeatureTable.of_cells(np.empty((40, 0), np.float32), [], names), names) == []
