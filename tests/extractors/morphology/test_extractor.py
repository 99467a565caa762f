"""Morphology: known shapes have their known sizes, and nothing depends on where or how a cell lies."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from extractors.morphology.extractor import Morphology
from fusion.images.cell import Cell
from fusion.plugins.extractors import Extractor
from tests.builders.cells import (
    TURNS,
    degenerate_cells,
    irregular_cell,
    measured,
    pad,
    random_cells,
    solid_cell,
    turned,
)
from tests.extractors.conftest import examples

MORPHOLOGY = Morphology()


def disc(radius, side=None):
    side = side or 2 * int(radius) + 5
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(y, x) <= radius


def ellipse(half_major, half_minor, degrees, side=201):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle = math.radians(degrees)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return (along / half_major) ** 2 + (across / half_minor) ** 2 <= 1


def shape(mask):
    """The features of a cell's contour by their names without ``cell_``."""
    return {name.removeprefix("cell_"): value for name, value in measured(MORPHOLOGY, solid_cell(mask)).items()}


def test_keeps_the_protocol_and_names_every_column():
    assert isinstance(MORPHOLOGY, Extractor)
    names = MORPHOLOGY.feature_names()
    assert len(set(names)) == len(names)
    values = MORPHOLOGY.extract([irregular_cell(0), irregular_cell(1)])
    assert values.dtype == np.float32
    assert values.shape == (2, len(names))
    assert MORPHOLOGY.extract([]).shape == (0, len(names))
    assert not np.isnan(values).any()


def test_a_rectangle_has_the_sizes_of_a_rectangle():
    of = shape(np.pad(np.ones((20, 30), bool), 5))
    assert of["area"] == of["convex_area"] == 600
    assert of["extent"] == of["solidity"] == of["convexity"] == of["symmetry"] == 1
    assert of["rectangle_aspect"] == 1.5
    assert of["min_feret"] == 20
    assert of["max_feret"] == pytest.approx(math.hypot(29, 19) + 1)
    # The variance of position along a side of length n is n**2 / 12.
    assert of["major_axis"] == pytest.approx(4 * 30 / math.sqrt(12))
    assert of["minor_axis"] == pytest.approx(4 * 20 / math.sqrt(12))
    assert of["eccentricity"] == pytest.approx(math.sqrt(5) / 3)
    assert of["elongation"] == pytest.approx(1 / 3)
    assert of["equivalent_diameter"] == pytest.approx(math.sqrt(2400 / math.pi))
    # 20 rows, 30 columns and 49 diagonals each way are crossed.
    assert of["perimeter"] == pytest.approx(math.pi / 4 * (20 + 30 + 98 / math.sqrt(2)))
    assert of["perimeter"] == of["convex_perimeter"]


@pytest.mark.parametrize("radius", [20, 33.5, 80])
def test_a_disc_is_round(radius):
    of = shape(disc(radius))
    assert of["perimeter"] == pytest.approx(2 * math.pi * radius, rel=0.02)
    assert of["form_factor"] == pytest.approx(1, abs=0.04)
    assert of["roundness"] == pytest.approx(1, abs=0.005)
    assert of["solidity"] == of["convexity"] == of["symmetry"] == 1
    assert of["eccentricity"] == pytest.approx(0, abs=1e-3)
    assert of["contour_irregularity"] < 0.02
    assert of["max_feret"] == pytest.approx(2 * radius + 0.5, abs=0.6)
    assert of["min_feret"] == pytest.approx(2 * radius + 0.5, abs=0.6)


@pytest.mark.parametrize("degrees", [0, 17, 30, 45, 90])
def test_an_ellipse_keeps_its_shape_at_any_angle(degrees):
    of = shape(ellipse(80, 40, degrees))
    assert of["major_axis"] == pytest.approx(160, rel=0.005)
    assert of["minor_axis"] == pytest.approx(80, rel=0.005)
    assert of["eccentricity"] == pytest.approx(math.sqrt(0.75), abs=0.005)
    assert of["roundness"] == pytest.approx(0.5, abs=0.005)
    assert of["rectangle_aspect"] == pytest.approx(2, abs=0.03)
    assert of["feret_aspect"] == pytest.approx(2, abs=0.03)
    assert of["solidity"] == of["symmetry"] == 1
    # Of a continuous ellipse: eta20 + eta02 = (a**2 + b**2) / (4 pi a b), and its difference squared.
    assert of["hu_1"] == pytest.approx(math.log10(1 + 2.5 / (4 * math.pi) / 1e-12), abs=0.01)
    assert of["hu_2"] == pytest.approx(math.log10(1 + (1.5 / (4 * math.pi)) ** 2 / 1e-12), abs=0.02)


def test_the_euler_number_counts_parts_and_holes():
    ring = disc(20) & ~disc(5, 45)
    assert shape(disc(20))["euler_number"] == 1
    assert shape(ring)["euler_number"] == 0
    two = np.zeros((10, 10), bool)
    two[1:4, 1:4] = two[6:9, 6:9] = True
    assert shape(two)["euler_number"] == 2
    two[4, 4] = two[5, 5] = True  # joined by corners
    assert shape(two)["euler_number"] == 1
    # Four pixels round one close it in, though outside and inside touch by corners.
    assert shape([[0, 1, 0], [1, 0, 1], [0, 1, 0]])["euler_number"] == 0


def test_a_bay_lowers_solidity_by_its_area():
    mask = np.ones((20, 20), bool)
    mask[:10, :10] = False  # the hull cuts off 10 + 9 + .. + 1 pixels of the bay's 100
    of = shape(mask)
    assert of["convex_area"] == 400 - 55
    assert of["solidity"] == pytest.approx(300 / 345)
    assert of["symmetry"] < 0.9


def test_a_ragged_contour_shows():
    smooth = disc(40)
    angle = np.arctan2(*(np.mgrid[:85, :85] - 42))
    ragged = np.hypot(*(np.mgrid[:85, :85] - 42)) <= 36 + 4 * np.sign(np.sin(12 * angle))
    of_smooth, of_ragged = shape(smooth), shape(ragged)
    for name in ("form_factor", "convexity", "solidity"):
        assert of_ragged[name] < 0.95 * of_smooth[name]
    assert of_ragged["contour_irregularity"] > 5 * of_smooth["contour_irregularity"]
    assert of_ragged["roundness"] == pytest.approx(1, abs=0.12)


def test_a_turned_rectangle_has_its_own_aspect_not_its_boxs():
    corners = cv2.boxPoints(((100.0, 100.0), (120.0, 40.0), 33.0))
    mask = cv2.fillConvexPoly(np.zeros((200, 200), np.uint8), corners.round().astype(np.int32), 1) > 0
    of = shape(mask)
    assert of["rectangle_aspect"] == pytest.approx(3, abs=0.1)
    assert of["extent"] < 0.6


def test_of_rectangles_of_one_area_the_longest_counts():
    corners = np.zeros((6, 6), bool)
    corners[[0, 0, 0, 2, 2, 4, 5], [0, 3, 4, 0, 5, 3, 4]] = True
    # 6 by 6 upright, and 7.2 by 5 along the side from row 5, column 4 to row 2, column 0: 36 each.
    for quarters in range(4):
        assert shape(np.rot90(corners, quarters))["rectangle_aspect"] == pytest.approx(1.44)


def test_the_sign_of_handedness_is_dropped_and_size_does_not_matter():
    hook = np.zeros((40, 40), bool)
    hook[5:35, 5:12], hook[28:35, 5:30] = True, True
    of, of_mirrored, of_large = shape(hook), shape(hook[:, ::-1]), shape(np.kron(hook, np.ones((4, 4), bool)))
    assert of["hu_7"] > 1
    assert of["hu_7"] == pytest.approx(of_mirrored["hu_7"])
    for number in range(1, 8):
        assert of[f"hu_{number}"] == pytest.approx(of_large[f"hu_{number}"], abs=0.05)


def test_relations_of_nucleus_and_cell():
    mask = disc(40, 101)
    nucleus = np.roll(disc(15, 101), (6, 8), (0, 1))
    of = measured(MORPHOLOGY, solid_cell(mask, nucleus))
    assert of["nucleus_cell_area_ratio"] == pytest.approx(nucleus.sum() / mask.sum())
    assert of["nucleus_offset"] == pytest.approx(10 / of["cell_equivalent_diameter"])
    assert of["nucleus_count"] == 1
    lobes = np.roll(disc(10, 101), -15, 1) | np.roll(disc(10, 101), 15, 1)
    assert measured(MORPHOLOGY, solid_cell(mask, lobes))["nucleus_count"] == 2
    touching_by_a_corner = np.kron(np.eye(2), np.ones((4, 4)))
    assert measured(MORPHOLOGY, solid_cell(np.ones((8, 8)), touching_by_a_corner))["nucleus_count"] == 1


def test_an_empty_nucleus_is_nan_where_undefined_and_0_where_counted():
    of = measured(MORPHOLOGY, solid_cell(disc(20)))
    assert of.pop("nucleus_cell_area_ratio") == 0
    assert of.pop("nucleus_count") == 0
    assert all(math.isnan(value) == name.startswith("nucleus_") for name, value in of.items())


def test_values_are_pixels_whatever_the_scale_of_the_image():
    cell = irregular_cell()
    scaled = Cell(cell.rgb, cell.mask, cell.nucleus, um_per_px=0.25)
    assert_array_equal(MORPHOLOGY.extract([scaled]), MORPHOLOGY.extract([cell]))


@pytest.mark.parametrize("widths", [(0, 0, 0, 7), (200, 0, 31, 0), (3, 5, 8, 13)])
def test_background_changes_nothing(widths):
    cell = irregular_cell()
    assert_array_equal(MORPHOLOGY.extract([pad(cell, widths, 0)]), MORPHOLOGY.extract([cell]))


@pytest.mark.parametrize(("quarters", "mirrored"), TURNS)
def test_turning_and_mirroring_changes_nothing(quarters, mirrored):
    cell = irregular_cell()
    assert_allclose(MORPHOLOGY.extract([turned(cell, quarters, mirrored)]), MORPHOLOGY.extract([cell]), rtol=1e-6)


@examples
@given(random_cells())
def test_any_turned_cell_measures_the_same(cell):
    expected = MORPHOLOGY.extract([cell])
    assert not np.isinf(expected).any()
    for quarters, mirrored in TURNS:
        assert_allclose(MORPHOLOGY.extract([turned(cell, quarters, mirrored)]), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", degenerate_cells())
def test_degenerate_cells_have_values_or_nan(case):
    cell = degenerate_cells()[case]
    of = measured(MORPHOLOGY, cell)
    assert not np.isinf(list(of.values())).any()
    # A single pixel has no mean distance from its own centre, and boxes of two sizes fit into 8 pixels; all else of a
    # cell is defined.
    undefined = {name for name, value in of.items() if math.isnan(value) and name.startswith("cell_")}
    assert undefined == ({"cell_contour_irregularity", "cell_fractal_dimension"} if cell.mask.sum() == 1 else set())
    for name in ("solidity", "extent", "symmetry"):
        assert 0 < of[f"cell_{name}"] <= 1
    for name in ("feret_aspect", "rectangle_aspect"):
        assert of[f"cell_{name}"] >= 1
