"""Shapes of masks, against scikit-image and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.draw import ellipse
from skimage.measure import label, regionprops
from skimage.morphology import disk

from fusion.images.segmentation._mask_geometry import centroid, opened, polygon, radius_of, regions, solidity

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))


def largest_filled(mask):
    """By labels and flood, where the filled areas have one largest."""
    found = [ndimage.binary_fill_holes(label(mask, connectivity=2) == at) for at in range(1, label(mask).max() + 1)]
    found = [region for region in found if region.any()]
    areas = sorted(int(region.sum()) for region in found)
    return max(found, key=np.sum) if found and areas[-1:] != areas[-2:-1] else None


@given(mask=masks)
def test_the_largest_region_is_that_of_most_pixels_once_filled(mask):
    expected = largest_filled(mask)
    if expected is not None:
        np.testing.assert_array_equal(regions(mask), expected)
    assert regions(mask).any() == mask.any()


def test_regions_below_the_share_are_left_out():
    mask = np.zeros((40, 40), bool)
    mask[2:12, 2:12], mask[20:25, 20:25], mask[30:32, 30:32] = True, True, True
    kept = regions(mask, 0.05)
    assert kept[5, 5]
    assert kept[22, 22]
    assert not kept[31, 31]


@given(mask=masks, radius=st.integers(1, 4))
def test_opening_by_distance_is_opening_by_a_disc_and_a_pixel_more_at_most(mask, radius):
    expected = ndimage.binary_opening(np.pad(mask, radius), disk(radius))[radius:-radius, radius:-radius]
    found = opened(mask, radius)
    assert not (expected & ~found).any()
    assert not (found & ~(mask & ndimage.binary_dilation(expected, np.ones((3, 3))))).any()


def test_an_ellipse_is_drawn_and_measured_as_it_is():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([30 + 20 * np.cos(angle), 25 + 12 * np.sin(angle)], axis=1)
    mask = polygon(points, (60, 70))
    expected = np.zeros((60, 70), bool)
    expected[ellipse(25, 30, 12, 20)] = True
    # A filled polygon takes the pixels on its border too: at most one all around.
    assert not (expected & ~mask).any()
    assert mask.sum() - expected.sum() < 2 * np.pi * 20
    assert centroid(mask) == pytest.approx((30, 25), abs=0.1)
    assert solidity(points) == pytest.approx(1)
    assert radius_of(np.pi * 49) == pytest.approx(7)


def test_solidity_is_that_of_scikit_image():
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    radius = 200 * (1 + 0.3 * np.cos(5 * angle))
    points = np.stack([300 + radius * np.cos(angle), 300 + radius * np.sin(angle)], axis=1)
    expected = regionprops(polygon(points, (600, 600)).astype(int))[0].solidity
    assert solidity(points) == pytest.approx(expected, abs=0.005)


def test_a_curve_without_area_has_no_solidity():
    assert solidity(np.array([[1.0, 1.0], [5.0, 5.0], [1.0, 1.0]])) == 0
