"""Local binary patterns against scikit-image, threshold adjacency statistics against mahotas."""

import math

import cv2
import mahotas
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.feature import local_binary_pattern

from extractors.texture._local_patterns import (
    count_adjacent,
    local_binary_patterns,
    otsu_threshold,
    pattern_histogram,
    range_codes,
    shares,
    threshold_adjacency,
)
from tests.builders.cells import irregular_cell

CIRCLES = [(8, 1), (16, 2), (24, 3), (12, 2), (5, 3), (32, 4), (40, 5), (64, 6)]


def disagreeing(grey, points, radius):
    """(n, 2) places where ours and theirs differ, among pixels whose circle stays inside the image."""
    theirs = local_binary_pattern(grey, points, radius, method="uniform")
    differs = local_binary_patterns(grey, np.ones_like(grey), points, radius) != theirs
    reach = radius + 1
    return np.argwhere(differs[reach:-reach, reach:-reach]) + reach


def has_tie(grey, y, x, points, radius):
    """Whether a point on the circle is exactly as bright as the centre, in whole numbers."""
    for point in range(points):
        angle = 2 * math.pi * point / points
        top, down = divmod(round(-radius * math.sin(angle) * 100_000), 100_000)
        left, right = divmod(round(radius * math.cos(angle) * 100_000), 100_000)
        corners = grey[y + top : y + top + 2, x + left : x + left + 2].astype(int) - int(grey[y, x])
        upper, lower = (int(row[0]) * (100_000 - right) + int(row[1]) * right for row in corners)
        if upper * (100_000 - down) + lower * down == 0:
            return True
    return False


@pytest.mark.parametrize(("points", "radius"), CIRCLES)
def test_every_pixel_of_noise_agrees(points, radius):
    grey = np.random.default_rng(points).integers(0, 256, (150, 130), np.uint8)
    assert_array_equal(disagreeing(grey, points, radius), np.empty((0, 2)))


@pytest.mark.parametrize(("points", "radius"), CIRCLES)
def test_every_pixel_of_a_smooth_image_agrees_but_ties(points, radius):
    """Where a point is exactly as bright as the centre it is set; there, rounding decides."""
    noise = cv2.GaussianBlur(np.random.default_rng(16).normal(size=(200, 200)), (0, 0), 3)
    grey = (noise * 300 + 128).clip(0, 255).astype(np.uint8)
    places = disagreeing(grey, points, radius)
    assert len(places) <= 4  # of 37,000
    assert all(has_tie(grey, y, x, points, radius) for y, x in places)


@pytest.mark.parametrize(("points", "radius"), CIRCLES)
@pytest.mark.parametrize("seed", range(3))
def test_histograms_of_cells_are_within_a_thousandth_of_scikit_images(points, radius, seed):
    cell = irregular_cell(seed, side=240)
    grey = cell.rgb[..., 1].copy()
    # Every circle of a pixel this deep in the cell lies in it.
    reach = 2 * radius + 3
    deep = cv2.erode(cell.mask.view(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    theirs = local_binary_pattern(grey, points, radius, method="uniform")[deep].astype(int)
    ours = local_binary_patterns(grey, deep.view(np.uint8), points, radius)[deep]
    expected, found = (np.bincount(each, minlength=points + 2) / deep.sum() for each in (theirs, ours))
    assert np.abs(expected - found).sum() < 1e-3


def test_a_histogram_of_a_full_image_is_scikit_images_inside_of_the_frame():
    grey = np.random.default_rng(2).integers(0, 256, (60, 50), np.uint8)
    theirs = local_binary_pattern(grey, 8, 1, method="uniform")[1:-1, 1:-1].astype(int).ravel()
    ours = pattern_histogram(grey, np.ones_like(grey), 1, 8, 1)[0]
    assert_allclose(ours, np.bincount(theirs, minlength=10) / theirs.size, rtol=1e-12)


# ---- threshold adjacency --------------------------------------------------------------------------------------------


@pytest.fixture(params=range(3))
def smooth(request):
    noise = cv2.GaussianBlur(np.random.default_rng(request.param).normal(size=(70, 90)), (0, 0), 1.5)
    return (noise * 250 + 110).clip(0, 255).astype(np.uint8)


def test_otsus_threshold_is_mahotass(smooth):
    assert otsu_threshold(np.bincount(smooth.ravel(), minlength=256).astype(float)) == mahotas.otsu(smooth)


def test_threshold_adjacency_is_mahotass_pftas(smooth):
    """Theirs counts what is out of the range first, and of the others the neighbours out of the range."""
    # Where the image ends theirs goes on with its mirror image; ours counts no pixel there, so it gets the mirror.
    framed = np.pad(smooth, 1, mode="symmetric")
    fits = np.pad(np.ones(smooth.shape, np.uint8), 1)
    codes = range_codes(np.bincount(smooth.ravel(), minlength=256).astype(float))[None]
    within, out = shares(count_adjacent(framed, fits, codes))[0].swapaxes(0, 1)
    theirs_out, theirs_within = mahotas.features.pftas(smooth).reshape(2, 3, 9)
    assert_allclose(out, theirs_out, atol=1e-12)
    assert_allclose(within, theirs_within[:, ::-1], atol=1e-12)


def test_threshold_adjacency_by_hand():
    # Above Otsu's threshold lie eight pixels of 200: their mean is 200, their deviation 0, so the first range is empty
    # and no pixel is above the mean.
    grey = np.full((5, 5), 10, np.uint8)
    grey[1:4, 1:4] = 200
    grey[2, 2] = 10
    found = threshold_adjacency(grey, np.ones_like(grey), 1)[0]
    assert np.isnan(found[:, 0]).all()
    assert_array_equal(found[:, 1], np.eye(9)[[0, 0, 0]])  # all nine inner pixels are out, with no neighbour in
    grey[1, 1] = 201
    found = threshold_adjacency(grey, np.ones_like(grey), 1)[0]
    # Brighter than the mean is only the corner, which has no neighbour so bright; three of the others touch it.
    assert_array_equal(found[2, 0], np.eye(9)[0])
    assert_allclose(found[2, 1], [5 / 8, 3 / 8, 0, 0, 0, 0, 0, 0, 0])
