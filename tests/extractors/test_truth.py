"""From the pixels of synthetic cells, through our own segmentation, back to what they were painted with."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.stats import spearmanr

from extractors.morphology.extractor import Morphology
from fusion.images.cell import read_cell


@pytest.fixture(scope="module")
def truth(synthetic):
    with (synthetic / "truth.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def measured(synthetic, truth):
    """Name of a feature to its values, a cell each."""
    morphology = Morphology()
    values = morphology.extract([read_cell(synthetic / row["path"]) for row in truth])
    return dict(zip(morphology.feature_names(), values.T.astype(float), strict=True))


def column(truth, name):
    return np.array([float(row[name]) for row in truth])


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        ("cell_area", "cell_area_px"),
        ("nucleus_area", "nucleus_area_px"),
        ("nucleus_cell_area_ratio", "nucleus_ratio"),
        ("cell_major_axis", "major_axis_px"),
        ("cell_minor_axis", "minor_axis_px"),
    ],
)
def test_sizes_are_within_three_percent_of_the_truth(measured, truth, feature, name):
    ratio = measured[feature] / column(truth, name)
    assert np.median(np.abs(ratio - 1)) < 0.03


def test_the_deviation_from_an_ellipse_is_the_irregularity_of_the_contour(measured, truth):
    irregularity = column(truth, "contour_irregularity")
    ratio = measured["cell_ellipse_deviation"] / irregularity
    assert np.median(np.abs(ratio - 1)) < 0.03
    # One cell in three has a cleft, which draws the ellipse of its pixels in after it.
    assert np.quantile(ratio, 0.05) > 0.8
    assert np.quantile(ratio, 0.95) < 1.1
    assert spearmanr(measured["cell_ellipse_deviation"], irregularity).statistic > 0.97
