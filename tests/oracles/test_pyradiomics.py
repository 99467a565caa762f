"""What pyradiomics says of one image, stored by ``pyradiomics_values.py``, and what we say of it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from extractors.colour.extractor import Colour
from extractors.morphology.extractor import Morphology
from extractors.texture._cooccurrence import (
    Cooccurrence,
    count_pairs,
    inverse_difference_moment_normalised,
    inverse_difference_normalised,
    offsets_of,
)
from extractors.texture.extractor import Texture, quantise
from fusion.images.cell import Cell
from tests.builders.cells import measured
from tests.oracles.pyradiomics_values import BIN_WIDTH, image

THEIRS = json.loads((Path(__file__).parent / "pyradiomics.json").read_text())["values"]

GLCM = {
    "Autocorrelation": "autocorrelation",
    "ClusterProminence": "cluster_prominence",
    "ClusterShade": "cluster_shade",
    "ClusterTendency": "sum_variance",
    "Contrast": "contrast",
    "Correlation": "correlation",
    "DifferenceAverage": "difference_average",
    "DifferenceEntropy": "difference_entropy",
    "DifferenceVariance": "difference_variance",
    "Id": "inverse_difference",
    "Idm": "inverse_difference_moment",
    "Imc1": "information_correlation_1",
    "Imc2": "information_correlation_2",
    "InverseVariance": "inverse_variance",
    "JointEnergy": "angular_second_moment",
    "JointEntropy": "entropy",
    "MaximumProbability": "joint_maximum",
    "SumAverage": "sum_average",
    "SumEntropy": "sum_entropy",
    "SumSquares": "sum_of_squares",
}
RUNS = {
    "GrayLevelNonUniformity": "level_non_uniformity",
    "GrayLevelNonUniformityNormalized": "level_non_uniformity_normalised",
    "GrayLevelVariance": "level_variance",
    "HighGrayLevelRunEmphasis": "high_level_emphasis",
    "LongRunEmphasis": "large_emphasis",
    "LongRunHighGrayLevelEmphasis": "large_high_level_emphasis",
    "LongRunLowGrayLevelEmphasis": "large_low_level_emphasis",
    "LowGrayLevelRunEmphasis": "low_level_emphasis",
    "RunEntropy": "size_entropy",
    "RunLengthNonUniformity": "size_non_uniformity",
    "RunLengthNonUniformityNormalized": "size_non_uniformity_normalised",
    "RunPercentage": "percentage",
    "RunVariance": "size_variance",
    "ShortRunEmphasis": "small_emphasis",
    "ShortRunHighGrayLevelEmphasis": "small_high_level_emphasis",
    "ShortRunLowGrayLevelEmphasis": "small_low_level_emphasis",
}
OF_ZONES = {"Run": "Zone", "LongRun": "LargeArea", "ShortRun": "SmallArea", "RunLength": "SizeZone"}


def of_zones(name):
    """What pyradiomics calls the same statistic of zones."""
    for run in sorted(OF_ZONES, key=len, reverse=True):
        if run in name:
            return name.replace(run, OF_ZONES[run])
    return name


@pytest.fixture(scope="module")
def cell():
    grey, mask = image()
    return Cell(np.repeat(grey[..., None], 3, axis=2), mask, np.zeros_like(mask))


@pytest.fixture(scope="module")
def texture(cell):
    return measured(Texture(levels=256 // BIN_WIDTH), cell)


@pytest.mark.parametrize("name", GLCM)
def test_co_occurrences(texture, name):
    assert texture[f"cell_glcm_{GLCM[name]}_d1_mean"] == pytest.approx(THEIRS[f"glcm_{name}"], rel=1e-5)


def test_inverse_differences_over_the_levels_that_there_are(cell):
    """pyradiomics takes the brightest level that occurs for the number of levels, we all that could."""
    levels = quantise(np.ascontiguousarray(cell.rgb[..., 0]), 256 // BIN_WIDTH)
    counts, first = count_pairs(levels, cell.mask.view(np.uint8), 1, offsets_of([1]))
    glcm = Cooccurrence.from_counts(counts[0], first + 1, int(levels[cell.mask].max()) + 1)
    assert inverse_difference_normalised(glcm).mean() == pytest.approx(THEIRS["glcm_Idn"], rel=1e-5)
    assert inverse_difference_moment_normalised(glcm).mean() == pytest.approx(THEIRS["glcm_Idmn"], rel=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_runs_and_zones(texture, name):
    assert texture[f"cell_glrlm_{RUNS[name]}_mean"] == pytest.approx(THEIRS[f"glrlm_{name}"], rel=1e-5)
    assert texture[f"cell_glszm_{RUNS[name]}"] == pytest.approx(THEIRS[f"glszm_{of_zones(name)}"], rel=1e-5)


def test_grey_values(cell):
    ours = measured(Colour(percentiles=(10, 25, 50, 75, 90)), cell)
    assert ours["cell_red_mean"] == pytest.approx(THEIRS["firstorder_Mean"], rel=1e-5)
    assert ours["cell_red_std"] ** 2 == pytest.approx(THEIRS["firstorder_Variance"], rel=1e-5)
    assert ours["cell_red_skewness"] == pytest.approx(THEIRS["firstorder_Skewness"], rel=1e-5)
    assert ours["cell_red_kurtosis"] + 3 == pytest.approx(THEIRS["firstorder_Kurtosis"], rel=1e-5)
    for percent, name in ((10, "10Percentile"), (50, "Median"), (90, "90Percentile")):
        assert ours[f"cell_red_percentile_{percent}"] == pytest.approx(THEIRS[f"firstorder_{name}"], rel=1e-5)
    between = ours["cell_red_percentile_75"] - ours["cell_red_percentile_25"]
    assert between == pytest.approx(THEIRS["firstorder_InterquartileRange"], rel=1e-5)


def test_size_and_axes(cell):
    ours = measured(Morphology(), cell)
    assert ours["cell_area"] == THEIRS["shape2D_PixelSurface"]
    # Of pixels as points; ours are unit squares.
    for axis in ("major", "minor"):
        points = math.sqrt(ours[f"cell_{axis}_axis"] ** 2 - 16 / 12)
        assert points == pytest.approx(THEIRS[f"shape2D_{axis.title()}AxisLength"], rel=1e-5)
    # Its contour runs through the middles of the outermost pixels, so that a square of 2 pixels is 1 wide.
    assert ours["cell_max_feret"] == pytest.approx(THEIRS["shape2D_MaximumDiameter"], abs=1.5)
