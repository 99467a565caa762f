"""Local binary patterns against scikit-image."""

import math

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skimage.feature import local_binary_pattern

from extractors.texture import local_binary_patterns

CIRCLES = [(8, 1), (16, 2), (24, 3), (12, 2), (5, 3)]


def disagreeing(grey, points, radius):
    """(n, 2) places where ours and theirs differ, among pixels whose circle stays inside the picture."""
    theirs = local_binary_pattern(grey, points, radius, method="uniform")
    differs = local_binary_patterns(grey, points, radius) != theirs
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
def test_every_pixel_of_a_smooth_picture_agrees_but_ties(points, radius):
    """Where a point is exactly as bright as the centre it is set; there, rounding decides."""
    noise = cv2.GaussianBlur(np.random.default_rng(16).normal(size=(200, 200)), (0, 0), 3)
    grey = (noise * 300 + 128).clip(0, 255).astype(np.uint8)
    places = disagreeing(grey, points, radius)
    assert len(places) <= 4  # of 37,000
    assert all(has_tie(grey, y, x, points, radius) for y, x in places)
