"""Smoothed contours: analytic shapes have their known lobes, bays, clefts and curvature at every size and angle."""

import math

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from extractors.morphology.extractor import CONTOUR_FEATURES, PAIR_FEATURES, Morphology, fourier, zernike
from tests.builders.cells import measured, solid_cell

MORPHOLOGY = Morphology()


def drawn(radius, size, turned=0.0, off=(0.2, -0.35)):
    """bool: all pixels whose middle is within ``size * radius(angle)`` of a point that is no pixel's middle."""
    reach = size * radius(np.linspace(0, 2 * np.pi, 3600)).max()
    side = 2 * int(reach) + 8
    y, x = np.mgrid[:side, :side] - side / 2
    y, x = y - off[0], x - off[1]
    return np.hypot(y, x) <= size * radius(np.arctan2(y, x) - turned)


def ellipse(major, minor):
    return lambda angle: 1 / np.hypot(np.cos(angle) / major, np.sin(angle) / minor)


def rose(lobes, height):
    return lambda angle: 1 + height * np.cos(lobes * angle)


def rectangle(long, short):
    return lambda angle: np.minimum(long / np.abs(np.cos(angle) + 1e-9), short / np.abs(np.sin(angle) + 1e-9))


def with_wedge(size, depth, mouth, turned):
    """A disc, and a wedge cut out of it: depth and mouth in diameters of the disc."""
    side = 2 * size + 12
    y, x = np.mgrid[:side, :side] - side / 2 + 0.21
    outwards = x * math.cos(turned) + y * math.sin(turned) - size + 2 * size * depth
    aside = y * math.cos(turned) - x * math.sin(turned)
    wedge = (outwards > 0) & (np.abs(aside) < outwards * mouth / depth / 2)
    return (np.hypot(y, x) <= size) & ~wedge


def shape(mask):
    """The features of a cell's contour by their names without ``cell_``."""
    return {name.removeprefix("cell_"): value for name, value in measured(MORPHOLOGY, solid_cell(mask)).items()}


def along(radius, points=4096):
    """complex (points,), at equal distances along a curve given by its radius."""
    angle = np.linspace(0, 2 * np.pi, 40_001)
    place = radius(angle) * np.exp(1j * angle)
    length = np.concatenate([[0], np.abs(np.diff(place)).cumsum()])
    return np.interp(np.arange(points) / points * length[-1], length, place)


# Steps of pixels are what is left of a tolerance: they are a larger share of a smaller shape.
SIZES = {20: 1.0, 40: 0.4, 110: 0.12}
sizes = pytest.mark.parametrize("size", SIZES)
sizes_and_steps = pytest.mark.parametrize(("size", "steps"), SIZES.items())
angles = pytest.mark.parametrize("turned", [0, 0.3, 0.8])


@sizes_and_steps
def test_a_disc_has_the_curvature_of_a_circle_all_along(size, steps):
    of = shape(drawn(rose(1, 0), size))
    assert of["bending_energy"] == pytest.approx(1, abs=0.06 * steps)
    assert of["curvature_mean_absolute"] == pytest.approx(1, abs=0.002)
    assert of["curvature_std"] < 0.25 * steps
    assert of["curvature_min"] == pytest.approx(1, abs=0.6 * steps)
    assert of["curvature_max"] == pytest.approx(1, abs=0.6 * steps)
    assert of["ellipse_deviation"] < 0.15 / size
    assert max(of[f"fourier_{waves}"] for waves in range(2, 13)) < 0.005 * steps
    assert of["fractal_dimension"] == pytest.approx(1, abs=0.005)


@sizes
@angles
@pytest.mark.parametrize(
    "radius",
    [rose(1, 0), ellipse(1.2, 0.8), ellipse(1.5, 0.7), rose(3, 0.08), rectangle(1, 1)],
    ids=["disc", "ellipse", "long ellipse", "triangle", "square"],
)
def test_a_convex_contour_has_one_lobe_and_neither_bay_nor_cleft(radius, size, turned):
    of = shape(drawn(radius, size, turned))
    assert of["bulges"] == 1
    bays = ("inflections", "concavity_count", "concavity_depth", "concavity_depth_sum", "cleft_depth", "cleft_width")
    assert [of[name] for name in bays] == [0] * 6


@angles
@pytest.mark.parametrize(("size", "tolerance"), {20: 0.08, 40: 0.06, 110: 0.02}.items())
def test_every_convex_contour_turns_once_and_never_back(size, tolerance, turned):
    for radius in (rose(1, 0), ellipse(1.2, 0.8), rose(3, 0.08)):
        assert shape(drawn(radius, size, turned))["curvature_mean_absolute"] == pytest.approx(1, abs=0.01)
    # Along a straight side the steps of pixels are all the curvature there is.
    of_square = shape(drawn(rectangle(1, 1), size, turned))
    assert of_square["curvature_mean_absolute"] == pytest.approx(1, abs=tolerance)


@angles
@pytest.mark.parametrize(("major", "minor"), [(1.1, 0.9), (1.22, 0.82), (1.4, 0.7)])
def test_an_ellipse_has_the_curvature_of_an_ellipse(major, minor, turned):
    of = shape(drawn(ellipse(major, minor), 110, turned))
    # minor / major**2 at the flat sides and major / minor**2 at the ends, in units of 2 pi over the length.
    place = along(ellipse(major, minor))
    unit = 2 * math.pi / (4096 * abs(place[1] - place[0]))
    flat, sharp = minor / major**2 / unit, major / minor**2 / unit
    # An upright side is a straight row of 40 pixels; and smoothing takes some curvature from a sharp end.
    assert of["curvature_min"] == pytest.approx(flat, abs=0.12)
    assert of["curvature_max"] == pytest.approx(sharp, rel=0.08, abs=0.05)
    assert of["ellipse_deviation"] < 0.003


@sizes
@angles
@pytest.mark.parametrize(("lobes", "height"), [(2, 0.45), (3, 0.25), (4, 0.2), (5, 0.15), (6, 0.12)])
def test_a_rose_has_its_bulges(lobes, height, size, turned):
    pixel = 1 / (2 * size)  # in diameters
    of = shape(drawn(rose(lobes, height), size, turned))
    assert of["bulges"] == lobes
    assert of["concavity_count"] == lobes
    assert of["inflections"] == 2 * lobes
    assert of["curvature_min"] < 0
    place = along(rose(lobes, height))
    corners = np.stack([place.real, place.imag], axis=1)
    hull = ConvexHull(corners)
    deepest = -(hull.equations @ np.vstack([corners.T, np.ones(4096)])).max(axis=0).min()
    diameter = 2 * math.sqrt(1 + height**2 / 2)
    assert of["concavity_depth"] == pytest.approx(deepest / diameter, rel=0.03, abs=0.8 * pixel)
    assert of["concavity_depth_sum"] == pytest.approx(lobes * deepest / diameter, rel=0.03, abs=lobes * 0.8 * pixel)


@sizes_and_steps
@pytest.mark.parametrize(("lobes", "height"), [(2, 0.2), (3, 0.15), (4, 0.1), (7, 0.06), (11, 0.03)])
def test_fourier_descriptors_are_those_of_the_curve(lobes, height, size, steps):
    of = shape(drawn(rose(lobes, height), size, 0.4))
    coefficients = np.abs(np.fft.fft(along(rose(lobes, height))))
    for waves in range(2, 13):
        expected = math.hypot(coefficients[1 + waves], coefficients[1 - waves]) / coefficients[1]
        assert of[f"fourier_{waves}"] == pytest.approx(expected, rel=0.05, abs=0.006 * steps)
    assert max(range(2, 13), key=lambda waves: of[f"fourier_{waves}"]) == lobes
    if height * size > 1:  # what the docstring says of small waves, if they are no smaller than a pixel
        assert of[f"fourier_{lobes}"] == pytest.approx(height * math.sqrt((1 + lobes**-2) / 2), rel=0.12)


@sizes_and_steps
@angles
@pytest.mark.parametrize(("waves", "height"), [(3, 0.05), (5, 0.03), (8, 0.02)])
def test_the_deviation_from_an_ellipse_is_the_one_it_was_drawn_with(waves, height, size, steps, turned):
    mask = drawn(lambda angle: ellipse(1.15, 0.9)(angle) * (1 + height * np.cos(waves * angle)), size, turned)
    assert shape(mask)["ellipse_deviation"] == pytest.approx(height / math.sqrt(2), rel=0.04, abs=0.004 * steps)


@angles
@pytest.mark.parametrize(("size", "short", "wide"), [(40, 0.25, 0.25), (110, 0.1, 0.1)])
@pytest.mark.parametrize(("depth", "mouth"), [(0.3, 0.1), (0.3, 0.2), (0.2, 0.2), (0.4, 0.3)])
def test_a_wedge_is_a_cleft_of_its_depth_and_width(depth, mouth, size, short, wide, turned):
    mask = with_wedge(size, depth, mouth, turned)
    of = shape(mask)
    assert of["bulges"] == of["concavity_count"] == 1
    assert of["inflections"] == 2
    # From the line across the mouth, which lies so far inside the circle.
    inside = 0.5 - math.sqrt(0.25 - mouth**2 / 4)
    unit = 2 * size / of["equivalent_diameter"]
    # Steps of pixels close the tip of a wedge, so that it is never too deep.
    assert (1 - short) * (depth - inside) * unit < of["cleft_depth"] < 1.02 * (depth - inside) * unit
    assert of["cleft_depth"] == of["concavity_depth"]
    assert of["cleft_width"] == pytest.approx(mouth / 2 * (1 - inside / depth) * unit, rel=wide)


@sizes_and_steps
def test_a_wide_bay_is_an_indentation_not_a_cleft(size, steps):
    mask = drawn(rose(1, 0), size)
    y, x = np.mgrid[: len(mask), : len(mask)] - len(mask) / 2
    of = shape(mask & (np.hypot(y - 0.2, x + 0.35 - size) > 0.4 * size))
    assert of["concavity_count"] == of["bulges"] == 1
    assert of["inflections"] == 2
    # The bite's centre is on the circle: half its radius squared over the circle's lies outside the line across.
    deep = (0.4 - 0.4**2 / 2) * 2 * size / of["equivalent_diameter"] / 2
    assert of["concavity_depth"] == pytest.approx(deep, rel=0.05, abs=0.03 * steps)
    assert of["cleft_depth"] == of["cleft_width"] == 0


@pytest.mark.parametrize("size", [12, 30])
def test_bulges_of_all_parts_count_but_no_crumbs(size):
    two = np.zeros((3 * size, 6 * size), bool)
    y, x = np.mgrid[: 3 * size, : 6 * size] - 1.5 * size
    for part in range(2):
        two |= np.hypot(y, x - 2.5 * size * part) < size
    assert shape(two)["bulges"] == 2
    two[0, :3] = True
    assert shape(two)["bulges"] == 2
    bridged = two | ((np.abs(y) < size / 3) & (x > 0) & (x < 2.5 * size))
    assert shape(bridged)["bulges"] == 2


def test_size_does_not_matter():
    small, large = (shape(drawn(lambda a: rose(3, 0.2)(a) * ellipse(1.1, 0.9)(a), size, 0.5)) for size in (60, 180))
    in_pixels = ("area", "perimeter", "convex", "diameter", "axis", "feret", "hu_")
    compared = [
        name for name in small if not name.startswith("nucleus") and not any(unit in name for unit in in_pixels)
    ]
    assert len(compared) > 50
    for name in compared:
        assert small[name] == pytest.approx(large[name], rel=0.05, abs=0.01), name


@pytest.mark.parametrize("turned", np.linspace(0, 1.5, 6))
def test_turning_by_any_angle_changes_little(turned):
    def radius(angle):
        return rose(3, 0.2)(angle) * ellipse(1.1, 0.9)(angle) * (1 + 0.05 * np.sin(5 * angle))

    upright, slanting = shape(drawn(radius, 80)), shape(drawn(radius, 80, turned))
    for name in ("inflections", "bulges", "concavity_count", "cleft_depth"):
        assert upright[name] == slanting[name]
    for name in (
        "ellipse_deviation",
        "bending_energy",
        "curvature_mean_absolute",
        "curvature_std",
        "curvature_min",
        "curvature_max",
        "concavity_depth",
        "concavity_depth_sum",
        *(f"fourier_{waves}" for waves in range(2, 13)),
    ):
        assert upright[name] == pytest.approx(slanting[name], rel=0.05, abs=0.004), name


def snowflake(side, rounds=6):
    """Koch's snowflake, whose contour has the dimension log 4 / log 3."""
    import cv2

    corners = np.array([0, np.exp(1j * np.pi / 3), 1, 0])
    for _ in range(rounds):
        start, third = corners[:-1], np.diff(corners) / 3
        tip = start + third + third * np.exp(1j * np.pi / 3)
        corners = np.append(np.stack([start, start + third, tip, start + 2 * third], axis=1), corners[-1])
    corners -= corners.real.min() + 1j * corners.imag.min()
    corners *= side / corners.imag.max()
    corners = np.stack([corners.real, corners.imag], axis=1).round().astype(np.int32) + 5
    return cv2.fillPoly(np.zeros((side + 11, side + 11), np.uint8), [corners], [1]) > 0


def test_the_fractal_dimension_is_that_of_koch_the_better_the_more_pixels():
    true = math.log(4) / math.log(3)
    dimensions = [shape(snowflake(side))["fractal_dimension"] for side in (60, 230, 900)]
    assert dimensions == sorted(dimensions)
    assert dimensions[0] > 1.05
    assert dimensions[-1] == pytest.approx(true, abs=0.02)


@pytest.mark.parametrize("size", [8, 9, 33, 64, 230])
def test_the_contour_of_a_square_is_a_line(size):
    assert shape(np.ones((size, size)))["fractal_dimension"] == pytest.approx(1, abs=1e-6)


def test_boxes_are_counted_at_every_place():
    mask = np.zeros((16, 16), bool)
    mask[0, 0] = mask[15, 15] = True
    of = shape(mask)
    # Boxes reach over 1, 2 and 4 pixels: 4, 9 and 25 of them hold a lone pixel and something else.
    counts = np.log2([8, 18 / 4, 50 / 16])
    assert of["fractal_dimension"] == pytest.approx((counts[0] - counts[2]) / 2)


def test_every_feature_is_defined_where_the_docs_can_find_it():
    for feature in (*CONTOUR_FEATURES, *PAIR_FEATURES, fourier, zernike):
        assert "Unit: " in feature.__doc__, feature.__name__
