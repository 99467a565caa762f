"""Morphology against scikit-image's region properties and mahotas, with each difference of definition stated."""

import math

import mahotas
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from skimage.measure import moments_central, moments_hu, moments_normalized, perimeter_crofton, regionprops
from skimage.morphology import convex_hull_image

from extractors.morphology._region import Region
from extractors.morphology._zernike import ZERNIKE_ORDERS
from extractors.morphology.extractor import Morphology
from tests.builders.cells import irregular_cell, measured, solid_cell


def shapes():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:120, :120] - 59.5
    angle = np.arctan2(y, x)
    star = np.hypot(y, x) < 35 + 12 * np.sin(5 * angle + 0.4)
    ring = (np.hypot(y, x) < 40) & (np.hypot(y - 5, x) > 12)
    return {
        "cell": irregular_cell(2).mask,
        "nucleus": irregular_cell(2).nucleus,
        "star": star,
        "ring": ring,
        "slanted ellipse": ((x + y) / 70) ** 2 + ((x - y) / 30) ** 2 < 1,
        "speckled": star & (rng.random(star.shape) > 0.1),
        "in two parts": (np.hypot(y, x + 30) < 20) | (np.hypot(y + 10, x - 30) < 15),
    }


@pytest.fixture(params=shapes())
def mask(request):
    return shapes()[request.param]


@pytest.fixture
def of(mask):
    return {name.removeprefix("cell_"): value for name, value in measured(Morphology(), solid_cell(mask)).items()}


@pytest.fixture
def region(mask):
    return regionprops(mask.astype(np.uint8))[0]


def test_what_is_defined_alike_is_equal(of, region, mask):
    assert of["area"] == region.area
    assert of["extent"] == pytest.approx(region.extent, rel=1e-6)
    assert of["equivalent_diameter"] == pytest.approx(region.equivalent_diameter_area, rel=1e-6)
    assert of["perimeter"] == pytest.approx(perimeter_crofton(mask, directions=4), rel=1e-6)
    assert of["euler_number"] == region.euler_number


def test_axes_are_those_of_squares_instead_of_points(of, region):
    # A unit square's own variance, 1 / 12, is all that differs: the square of an axis grows by 16 / 12.
    major, minor = (math.sqrt(axis**2 + 16 / 12) for axis in (region.axis_major_length, region.axis_minor_length))
    assert of["major_axis"] == pytest.approx(major, rel=1e-6)
    assert of["minor_axis"] == pytest.approx(minor, rel=1e-6)
    assert of["eccentricity"] == pytest.approx(math.sqrt(1 - (minor / major) ** 2), abs=1e-6)
    assert of["eccentricity"] == pytest.approx(region.eccentricity, abs=0.002)


def test_the_hull_is_that_of_pixel_centres(of, region, mask):
    hull = convex_hull_image(mask, offset_coordinates=False)
    assert of["convex_area"] == hull.sum()
    assert of["solidity"] == pytest.approx(mask.sum() / hull.sum(), rel=1e-6)
    # By default scikit-image's hull goes round the middles of the pixels' sides: up to half a pixel wider.
    assert region.solidity <= of["solidity"] <= region.solidity * 1.03
    assert of["convex_perimeter"] == pytest.approx(perimeter_crofton(hull, directions=4), rel=1e-6)


def test_feret_diameters(of, region, mask):
    assert of["max_feret"] == pytest.approx(pdist(np.argwhere(mask)).max() + 1, rel=1e-6)
    # scikit-image measures its wider hull between the middles of pixels' sides, 0.7 to 1 from middle to middle.
    assert of["max_feret"] == pytest.approx(region.feret_diameter_max, abs=0.75)
    # The smallest width, by trying directions a twentieth of a degree apart.
    angles = np.radians(np.arange(0, 180, 0.05))
    places = np.argwhere(mask) @ np.stack([np.sin(angles), np.cos(angles)])
    assert of["min_feret"] == pytest.approx(np.ptp(places, axis=0).min() + 1, abs=0.05)


def test_hu_moments(of, mask):
    expected = moments_hu(moments_normalized(moments_central(mask.astype(float))))
    expected[6] = abs(expected[6])  # a smear has no left and right
    for number, invariant in enumerate(expected, start=1):
        scaled = math.copysign(math.log10(1 + abs(invariant) / 1e-12), invariant)
        assert of[f"hu_{number}"] == pytest.approx(scaled, abs=1e-4)


def test_zernike_magnitudes(of, mask):
    orders = [(n, m) for n in range(9) for m in range(n % 2, n + 1, 2)]
    # The same normalisation: about the centroid, in a circle out to the farthest pixel and half a pixel on.
    away = np.hypot(*(np.argwhere(mask) - np.argwhere(mask).mean(axis=0)).T).max() + 0.5
    assert Region.from_mask(mask).radius == pytest.approx(away, rel=1e-9)
    expected = dict(zip(orders, mahotas.features.zernike_moments(mask.astype(float), away, degree=8), strict=True))
    for n, m in ZERNIKE_ORDERS:
        assert of[f"zernike_{n}_{m}"] == pytest.approx(expected[n, m], abs=1e-6)
    # The two that are left out tell nothing.
    assert set(orders) - set(ZERNIKE_ORDERS) == {(0, 0), (1, 1)}
    assert expected[0, 0] == pytest.approx(1 / math.pi)
    assert expected[1, 1] == pytest.approx(0, abs=1e-9)
