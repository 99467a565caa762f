"""The digital phantom of the Image Biomarker Standardisation Initiative: every value of the families that we compute.

The phantom is a stack of four slices of 5 x 4. Where the IBSI looks at slices, so do we: a value is the mean over the
slices, of matrices by direction ("averaged") or of their sum over directions ("slice-merged"); or it is of the sum over
slices, by direction ("direction-merged") or over all ("merged").

Zwanenburg et al. (2020), Radiology 295(2):328-338, doi 10.1148/radiol.2020191145, and chapter 3 of
ibsi.readthedocs.io, to whose three digits ours must round.
"""

import math

import numpy as np
import pytest

from extractors.colour.extractor import Colour
from extractors.texture import _cooccurrence, _runs_and_zones
from extractors.texture._cooccurrence import Cooccurrence, count_pairs, offsets_of
from extractors.texture._runs_and_zones import Sizes, count_runs, count_zones
from fusion.images.cell import Cell
from tests.builders.cells import measured

# Grey levels 1 .. 6 of the four slices, 0 where the phantom's mask is not set.
PHANTOM = np.uint8(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
LEVELS = 6

AVERAGED, SLICE_MERGED, DIRECTION_MERGED, MERGED = range(4)
IN_WORDS = ("2D, averaged", "2D, slice-merged", "2.5D, direction-merged", "2.5D, merged")

# Code, the function of ours that it is, and the values: of co-occurrences and runs in the order of IN_WORDS, of zones
# "2D" and "2.5D".
GLCM = {
    "GYBY": ("joint_maximum", (0.519, 0.512, 0.489, 0.492)),
    "60VM": ("sum_average", (2.14, 2.14, 2.2, 2.2)),
    "UR99": ("sum_of_squares", (2.69, 2.71, 3.22, 3.24)),
    "TU9B": ("entropy", (2.05, 2.24, 2.48, 2.61)),
    "TF7R": ("difference_average", (1.42, 1.4, 1.46, 1.44)),
    "D3YU": ("difference_variance", (2.9, 3.06, 3.11, 3.23)),
    "NTRS": ("difference_entropy", (1.4, 1.49, 1.61, 1.67)),
    "ZGXS": ("sum_average", (4.28, 4.29, 4.41, 4.41)),
    "OEEB": ("sum_variance", (5.47, 5.66, 7.48, 7.65)),
    "P6QZ": ("sum_entropy", (1.6, 1.79, 2.01, 2.14)),
    "8ZQL": ("angular_second_moment", (0.368, 0.352, 0.286, 0.277)),
    "ACUI": ("contrast", (5.28, 5.19, 5.39, 5.29)),
    "8S9J": ("difference_average", (1.42, 1.4, 1.46, 1.44)),
    "IB1Z": ("inverse_difference", (0.678, 0.683, 0.668, 0.673)),
    "NDRX": ("inverse_difference_normalised", (0.851, 0.854, 0.847, 0.85)),
    "WF0Z": ("inverse_difference_moment", (0.619, 0.625, 0.606, 0.613)),
    "1QCO": ("inverse_difference_moment_normalised", (0.899, 0.901, 0.897, 0.899)),
    "E8JP": ("inverse_variance", (0.0567, 0.0553, 0.0597, 0.0582)),
    "NI2N": ("correlation", (-0.0121, 0.0173, 0.178, 0.182)),
    "QWB0": ("autocorrelation", (5.09, 5.14, 5.4, 5.45)),
    "DG8W": ("sum_variance", (5.47, 5.66, 7.48, 7.65)),
    "7NFM": ("cluster_shade", (7.0, 6.98, 16.6, 16.4)),
    "AE86": ("cluster_prominence", (79.1, 80.4, 147.0, 142.0)),
    "R8DG": ("information_correlation_1", (-0.155, -0.0341, -0.124, -0.0334)),
    "JN9H": ("information_correlation_2", (0.487, 0.263, 0.487, 0.291)),
}

GLRLM = {
    "22OV": ("small_emphasis", (0.641, 0.661, 0.665, 0.68)),
    "W4KF": ("large_emphasis", (3.78, 3.51, 3.46, 3.27)),
    "V3SW": ("low_level_emphasis", (0.604, 0.609, 0.58, 0.585)),
    "G3QZ": ("high_level_emphasis", (9.82, 9.74, 10.3, 10.2)),
    "HTZT": ("small_low_level_emphasis", (0.294, 0.311, 0.296, 0.312)),
    "GD3A": ("small_high_level_emphasis", (8.57, 8.67, 9.03, 9.05)),
    "IVPO": ("large_low_level_emphasis", (3.14, 2.92, 2.79, 2.63)),
    "3KUM": ("large_high_level_emphasis", (17.4, 16.1, 17.9, 17.0)),
    "R5YN": ("level_non_uniformity", (5.2, 20.5, 19.5, 77.1)),
    "OVBL": ("level_non_uniformity_normalised", (0.46, 0.456, 0.413, 0.412)),
    "W92Y": ("size_non_uniformity", (6.12, 21.6, 22.3, 83.2)),
    "IC23": ("size_non_uniformity_normalised", (0.492, 0.441, 0.461, 0.445)),
    "9ZK5": ("percentage", (0.627, 0.627, 0.632, 0.632)),
    "8CE5": ("level_variance", (3.35, 3.37, 3.58, 3.59)),
    "SXLW": ("size_variance", (0.761, 0.778, 0.758, 0.767)),
    "HJ9O": ("size_entropy", (2.17, 2.57, 2.52, 2.76)),
}

GLSZM = {
    "small zone emphasis": ("small_emphasis", (0.363, 0.368)),
    "48P8": ("large_emphasis", (43.9, 34.2)),
    "XMSY": ("low_level_emphasis", (0.371, 0.368)),
    "5GN9": ("high_level_emphasis", (16.4, 16.2)),
    "5RAI": ("small_low_level_emphasis", (0.0259, 0.0295)),
    "HW1V": ("small_high_level_emphasis", (10.3, 9.87)),
    "YH51": ("large_low_level_emphasis", (40.4, 30.6)),
    "J17V": ("large_high_level_emphasis", (113.0, 107.0)),
    "JNSA": ("level_non_uniformity", (1.41, 5.44)),
    "Y1RO": ("level_non_uniformity_normalised", (0.323, 0.302)),
    "4JP3": ("size_non_uniformity", (1.49, 3.44)),
    "VB3A": ("size_non_uniformity_normalised", (0.333, 0.191)),
    "P30P": ("percentage", (0.24, 0.243)),
    "BYLV": ("level_variance", (3.97, 3.92)),
    "3NSA": ("size_variance", (21.0, 17.3)),
    "GU8N": ("size_entropy", (1.93, 3.08)),
}

# Of the grey values themselves: what it is made of in the column of one channel.
GREY_VALUES = {
    "Q4LE": (lambda of: of["mean"], 2.15),
    "ECT3": (lambda of: of["std"] ** 2, 3.05),
    "KE2A": (lambda of: of["skewness"], 1.08),
    "IPH6": (lambda of: of["kurtosis"], -0.355),
    "Y12H": (lambda of: of["percentile_50"], 1),
    "1GSF": (lambda of: of["percentile_0"], 1),
    "QG58": (lambda of: of["percentile_10"], 1),
    "8DWT": (lambda of: of["percentile_90"], 4),
    "84IY": (lambda of: of["percentile_100"], 6),
    "SALO": (lambda of: of["percentile_75"] - of["percentile_25"], 3),
    "2OJQ": (lambda of: of["percentile_100"] - of["percentile_0"], 5),
    "7TET": (lambda of: of["std"] / of["mean"], 0.812),
    "5ZWQ": (lambda of: math.hypot(of["mean"], of["std"]), 2.77),
}

# What is the same but for a factor.
FACTORS = {"60VM": 0.5}


def three_digits(value):
    """Half a unit of the third digit, within which all that rounds to ``value`` lies."""
    return pytest.approx(value, abs=0.5001 * 10.0 ** (math.floor(math.log10(abs(value))) - 2))


def merge(counts, aggregation):
    """From (slices, directions, n, m) to groups of matrices: (groups, k, n, m), to be averaged within and between."""
    if aggregation in (DIRECTION_MERGED, MERGED):
        counts = counts.sum(axis=0, keepdims=True)
    if aggregation in (SLICE_MERGED, MERGED):
        counts = counts.sum(axis=1, keepdims=True)
    return counts


def full_size(counts, first, columns):
    """Counts with a row for every grey level and a column for every size."""
    full = np.zeros((*counts.shape[:-2], LEVELS, columns), counts.dtype)
    full[..., first : first + counts.shape[-2], : counts.shape[-1]] = counts
    return full


def pairs():
    """(slices, directions, n, n)."""
    counted = (count_pairs(part - (part > 0), (part > 0).view(np.uint8), 1, offsets_of([1])) for part in PHANTOM)
    found = []
    for counts, first in counted:
        full = np.zeros((4, LEVELS, LEVELS), np.uint32)
        full[:, first : first + counts.shape[2], first : first + counts.shape[3]] = counts[0]
        found.append(full)
    return np.array(found)


def runs():
    """(slices, directions, n, 5), and the pixels of each slice."""
    counted = [count_runs(part - (part > 0), (part > 0).view(np.uint8), 1) for part in PHANTOM]
    counts = np.array([full_size(counts[0], first, 5) for counts, first, _ in counted])
    return counts, np.array([pixels[0] for _, _, pixels in counted])


def zones():
    """(slices, n, 20), and the pixels of each slice."""
    found, inside = np.zeros((len(PHANTOM), LEVELS, 20)), []
    for at, part in enumerate(PHANTOM):
        counts, size, first, pixels = count_zones(part - (part > 0), (part > 0).view(np.uint8), 1)
        found[at][first : first + counts.shape[1], size.astype(int) - 1] = counts[0]
        inside.append(pixels[0])
    return found, np.array(inside)


@pytest.mark.parametrize("aggregation", range(4), ids=IN_WORDS)
@pytest.mark.parametrize("code", GLCM)
def test_cooccurrence(code, aggregation):
    name, values = GLCM[code]
    counts = merge(pairs(), aggregation)
    glcm = Cooccurrence.from_counts(counts.reshape(-1, LEVELS, LEVELS))
    found = getattr(_cooccurrence, name)(glcm) * FACTORS.get(code, 1)
    assert found.mean() == three_digits(values[aggregation])


@pytest.mark.parametrize("aggregation", range(4), ids=IN_WORDS)
@pytest.mark.parametrize("code", GLRLM)
def test_runs(code, aggregation):
    name, values = GLRLM[code]
    counts, pixels = runs()
    pixels = merge(np.broadcast_to(pixels[:, None, None, None], (4, 4, 1, 1)), aggregation).ravel()
    counts = merge(counts, aggregation)
    sizes = Sizes(counts.reshape(-1, *counts.shape[2:]), np.arange(1.0, 6), 1, pixels)
    assert getattr(_runs_and_zones, name)(sizes).mean() == three_digits(values[aggregation])


@pytest.mark.parametrize("merged", [False, True], ids=["2D", "2.5D"])
@pytest.mark.parametrize("code", GLSZM)
def test_zones(code, merged):
    name, values = GLSZM[code]
    counts, pixels = zones()
    if merged:
        counts, pixels = counts.sum(axis=0, keepdims=True), pixels.sum(keepdims=True)
    sizes = Sizes(counts, np.arange(1.0, 21), 1, pixels)
    assert getattr(_runs_and_zones, name)(sizes).mean() == three_digits(values[merged])


def test_every_statistic_of_these_families_is_held_against_the_ibsi():
    of = {"glcm": (GLCM, _cooccurrence), "glrlm": (GLRLM, _runs_and_zones), "glszm": (GLSZM, _runs_and_zones)}
    for table, room in of.values():
        assert {name for name, _ in table.values()} == {statistic.__name__ for statistic in room.STATISTICS}
    assert [len(table) for table, _ in of.values()] == [25, 16, 16]
    assert sum(len(values) for table, _ in of.values() for _, values in table.values()) == 196


@pytest.mark.parametrize("code", GREY_VALUES)
def test_grey_values(code):
    slices = PHANTOM.reshape(-1, PHANTOM.shape[-1])
    cell = Cell(np.repeat(slices[..., None], 3, axis=2), slices > 0, np.zeros(slices.shape, bool))
    of_cell = measured(Colour(percentiles=(0, 10, 25, 50, 75, 90, 100)), cell)
    compute, value = GREY_VALUES[code]
    of = {name.removeprefix("cell_red_"): each for name, each in of_cell.items() if name.startswith("cell_red_")}
    assert compute(of) == three_digits(value)
