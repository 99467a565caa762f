"""Co-occurrence against Haralick's own example, mahotas and scikit-image; the IBSI's phantom is in ``test_ibsi``.

Where they differ from the definitions, a test shows it by hand.
"""

import math

import mahotas
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.feature import graycomatrix, graycoprops

from extractors.texture._cooccurrence import (
    STATISTICS,
    Cooccurrence,
    cooccurrence_statistics,
    count_pairs,
    difference_variance,
    entropy,
    offsets_of,
)
from tests.builders.cells import irregular_cell

NAMES = [statistic.__name__ for statistic in STATISTICS]
HARALICKS = 13  # the first of them


def counts_of(levels, distance=1, inside=None, number=None):
    """Symmetric counts at 0, 45, 90 and 135 degrees."""
    inside = np.ones(levels.shape, bool) if inside is None else inside
    counts, first = count_pairs(levels, inside.view(np.uint8), 1, offsets_of([distance]))
    number = number or int(levels.max()) + 1
    full = np.zeros((4, number, number), np.int64)
    full[:, first : first + counts.shape[2], first : first + counts.shape[3]] = counts[0]
    return full + full.swapaxes(1, 2)


def statistics(levels, distance=1, inside=None):
    """(13, 2): Haralick's statistics of 32 levels, mean and range."""
    inside = np.ones(levels.shape, bool) if inside is None else inside
    return cooccurrence_statistics(levels, inside.view(np.uint8), 1, 32, [distance])[0, :HARALICKS, 0]


@pytest.fixture
def levels():
    """A full rectangle of 32 grey levels, neither noise nor smooth."""
    return irregular_cell(4).rgb[10:80, 20:90, 1] // np.uint8(8)


# ---- Haralick, Shanmugam and Dinstein (1973), figure 3 --------------------------------------------------------------

HARALICK = np.uint8([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]])


def test_haralicks_matrices():
    horizontal, right_diagonal, vertical, left_diagonal = counts_of(HARALICK)
    assert_array_equal(horizontal, [[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]])
    assert_array_equal(vertical, [[6, 0, 2, 0], [0, 4, 2, 0], [2, 2, 2, 2], [0, 0, 2, 0]])
    assert_array_equal(left_diagonal, [[2, 1, 3, 0], [1, 2, 1, 0], [3, 1, 0, 2], [0, 0, 2, 0]])
    assert_array_equal(right_diagonal, [[4, 1, 0, 0], [1, 2, 2, 0], [0, 2, 4, 1], [0, 0, 1, 0]])


def test_statistics_of_haralicks_horizontal_matrix_by_hand():
    glcm = Cooccurrence.from_counts(counts_of(HARALICK)[:1].astype(np.uint32))
    of = {statistic.__name__: float(statistic(glcm)[0]) for statistic in STATISTICS}
    # Out of 24: the marginal is 7 6 8 3; i + j = 2 .. 8 is 4 4 6 0 6 2 2; abs(i - j) = 0 .. 3 is 16 6 2 0.
    mean = (7 * 1 + 6 * 2 + 8 * 3 + 3 * 4) / 24
    variance = (7 * 1 + 6 * 4 + 8 * 9 + 3 * 16) / 24 - mean**2
    covariance = (4 * 1 + 2 * 2 * 2 + 2 * 1 * 3 + 4 * 4 + 6 * 9 + 2 * 1 * 12 + 2 * 16) / 24 - mean**2
    assert of["angular_second_moment"] == pytest.approx(84 / 576)
    assert of["contrast"] == pytest.approx((6 * 1 + 2 * 4) / 24)
    assert of["correlation"] == pytest.approx(covariance / variance)
    assert of["sum_of_squares"] == pytest.approx(variance)
    assert of["inverse_difference_moment"] == pytest.approx((16 + 6 / 2 + 2 / 5) / 24)
    assert of["sum_average"] == pytest.approx(2 * mean)
    assert of["sum_variance"] == pytest.approx(2 * variance + 2 * covariance)
    assert of["sum_entropy"] == pytest.approx(bits(4, 4, 6, 6, 2, 2))
    assert of["entropy"] == pytest.approx(bits(4, 4, 6, 2, 2, 2, 1, 1, 1, 1))
    assert of["difference_variance"] == pytest.approx(14 / 24 - (10 / 24) ** 2)
    assert of["difference_entropy"] == pytest.approx(bits(16, 6, 2))
    information = 2 * bits(7, 6, 8, 3) - bits(4, 4, 6, 2, 2, 2, 1, 1, 1, 1)
    assert of["information_correlation_1"] == pytest.approx(-information / bits(7, 6, 8, 3))
    assert of["information_correlation_2"] == pytest.approx(math.sqrt(1 - math.exp(-2 * information)))


def bits(*counts):
    return -sum(count / 24 * math.log2(count / 24) for count in counts)


# ---- mahotas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_mahotas_agrees_on_a_full_rectangle(levels, distance):
    ours = statistics(levels, distance)
    theirs = mahotas.features.haralick(
        levels, distance=distance, return_mean_ptp=True, use_x_minus_y_variance=True
    ).reshape(2, 13)
    theirs[0, NAMES.index("sum_average")] += 2  # mahotas counts grey levels from 0, Haralick from 1
    assert_allclose(ours.T, theirs, rtol=1e-5)


def test_mahotas_default_difference_variance_is_not_one():
    # Steps of 0, 1, 1 and 2 levels: mean 1, variance 1 / 2.
    counts = np.array([[[2, 1, 1], [1, 0, 1], [1, 1, 0]]])
    assert_array_equal(counts.sum(), 8)
    assert difference_variance(Cooccurrence.from_counts(counts.astype(np.uint32))) == pytest.approx(0.5)
    default = mahotas.features.texture.haralick_features(counts.astype(np.int32))[0, 9]
    assert default == pytest.approx(np.var([1 / 4, 1 / 2, 1 / 4]))
    assert default == pytest.approx(1 / 72)


def test_mahotas_ignoring_zeros_loses_the_darkest_level_and_a_mask_does_not(levels):
    """Its only mask is 'not 0', so a black pixel inside the cell is background. Without one, they agree."""
    inside = irregular_cell(4).mask[10:80, 20:90]
    masked = np.where(inside, levels + 1, 0).astype(np.uint8)
    ours = statistics(levels, inside=inside)[:, 0]
    theirs = mahotas.features.haralick(masked, ignore_zeros=True, return_mean=True, use_x_minus_y_variance=True)
    assert_allclose(ours, theirs, rtol=1e-5)  # levels moved up by 1, so the sum average agrees here


# ---- scikit-image ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "at"), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 2), (4, 0), (4, 2)])
def test_scikit_image_agrees_where_its_offsets_are_whole(levels, distance, at):
    # Theirs are angles in an image whose rows count downwards, ours in one seen upright, as Haralick's are.
    theirs = graycomatrix(levels, [distance], [-at * math.pi / 4], levels=32, symmetric=True)
    counts = counts_of(levels, distance, number=32)[at : at + 1]
    assert_array_equal(counts[0], theirs[..., 0, 0])
    glcm = Cooccurrence.from_counts(counts.astype(np.uint32))
    for name, statistic in zip(NAMES, STATISTICS, strict=True):
        theirs_called = {
            "angular_second_moment": "ASM",
            "contrast": "contrast",
            "correlation": "correlation",
            "sum_of_squares": "variance",
            "inverse_difference_moment": "homogeneity",
            "difference_average": "dissimilarity",
        }.get(name)
        if theirs_called:
            assert statistic(glcm)[0] == pytest.approx(graycoprops(theirs, theirs_called)[0, 0], rel=1e-9), name
    assert entropy(glcm)[0] * math.log(2) == pytest.approx(graycoprops(theirs, "entropy")[0, 0])  # theirs in nats


def test_scikit_image_rounds_distance_2_on_the_diagonal_to_1(levels):
    rounded = graycomatrix(levels, [2], [-math.pi / 4], levels=32, symmetric=True)[..., 0, 0]
    assert_array_equal(rounded, counts_of(levels, 1, number=32)[1])
    assert (rounded != counts_of(levels, 2, number=32)[1]).any()
