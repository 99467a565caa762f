"""Distances between pixels are those of OpenCV's exact transform, and discs those that these distances draw."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from extractors.euclidean import near, square_within, squared_distance

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.integers(0, 1))


@settings(deadline=None)  # the first compiles
@given(mask=MASKS)
def test_squared_distances_are_exact(mask):
    framed = np.pad(mask, 1)
    expected = np.rint(ndimage.distance_transform_edt(framed) ** 2)
    np.testing.assert_array_equal(squared_distance(framed), expected)


@pytest.mark.parametrize("height", [9, 180, 361, 364, 420])
@pytest.mark.parametrize("width", [63, 400])
def test_squared_distances_are_exact_in_large_regions(height, width):
    mask = np.pad(np.ones((height, width), np.uint8), 1)
    mask[height // 3, width // 4 : width // 2] = 0
    expected = np.rint(ndimage.distance_transform_edt(mask) ** 2)
    np.testing.assert_array_equal(squared_distance(mask), expected)


@settings(deadline=None)
@given(mask=MASKS, radius=st.floats(0, 40))
def test_what_is_near_is_what_lies_within_the_radius(mask, radius):
    depth = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    expected = (depth <= np.float32(radius)) & mask.any()
    np.testing.assert_array_equal(near(mask, square_within(radius)), expected)


@pytest.mark.parametrize(("radius", "square"), [(0.0, 0), (0.99, 0), (1.0, 1), (2**0.5, 2), (5.0, 25), (7.1, 50)])
def test_the_square_of_a_distance_within_a_radius(radius, square):
    assert square_within(radius) == square
