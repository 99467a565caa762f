"""Colour: known for known colours, and of the pixels alone, wherever they lie."""

import csv
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from extractors.colour._colour_spaces import AZURE, CHANNELS, EOSIN_Y
from extractors.colour._vacuoles import find_vacuoles
from extractors.colour.extractor import Colour
from fusion.images.cell import Cell, read_cell
from fusion.plugins.extractors import Extractor
from fusion.plugins.registry import fingerprint
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
from tests.builders.images import real_data
from tests.extractors.conftest import examples

COLOUR = Colour()


def cell_of(colours):
    """A row of pixels, without a nucleus."""
    rgb = np.array([colours], np.uint8)
    mask = np.ones(rgb.shape[:2], bool)
    return Cell(rgb, mask, np.zeros_like(mask))


def test_keeps_the_protocol_and_names_every_column():
    assert isinstance(COLOUR, Extractor)
    names = COLOUR.feature_names()
    assert len(set(names)) == len(names)
    values = COLOUR.extract([irregular_cell(0), irregular_cell(1)])
    assert values.dtype == np.float32
    assert values.shape == (2, len(names))
    assert COLOUR.extract([]).shape == (0, len(names))
    assert not np.isnan(values).any()


@pytest.mark.parametrize("percentiles", [(-1,), (101,), (50, 50)])
def test_percentiles_out_of_range_are_refused(percentiles):
    with pytest.raises(ValueError, match="percentiles"):
        Colour(percentiles=percentiles)


def test_percentiles_change_columns_and_fingerprint():
    assert len(COLOUR.feature_names()) - len(Colour(percentiles=(50,)).feature_names()) == 3 * len(CHANNELS) * 4
    assert fingerprint(Colour(percentiles=(50,)), "1") != fingerprint(COLOUR, "1")


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        # Lab of the corners of sRGB as tabulated by Lindbloom, brucelindbloom.com, under D65.
        ((255, 0, 0), {"hue": 0, "saturation": 1, "value": 255, "lab_l": 53.24, "lab_a": 80.09, "lab_b": 67.20}),
        ((0, 255, 0), {"hue": -240, "saturation": 1, "value": 255, "lab_l": 87.73, "lab_a": -86.18, "lab_b": 83.18}),
        ((0, 0, 255), {"hue": -120, "saturation": 1, "value": 255, "lab_l": 32.30, "lab_a": 79.19, "lab_b": -107.86}),
        ((255, 255, 255), {"hue": math.nan, "saturation": 0, "value": 255, "lab_l": 100, "lab_a": 0, "lab_b": 0}),
        ((0, 0, 0), {"hue": math.nan, "saturation": 0, "value": 0, "lab_l": 0, "lab_a": 0, "lab_b": 0}),
        ((170, 0, 255), {"hue": -80, "saturation": 1, "value": 255}),
        ((128, 64, 64), {"hue": 0, "saturation": 0.5, "value": 128}),
    ],
)
def test_known_colours(colour, expected):
    of = measured(COLOUR, cell_of([colour] * 5))
    for channel, value in expected.items():
        assert of[f"cell_{channel}_mean"] == pytest.approx(value, abs=0.015, nan_ok=True), channel


def test_statistics_of_a_few_values():
    of = measured(COLOUR, cell_of([(value, 0, 0) for value in (10, 20, 30, 40, 100)]))
    assert of["cell_red_mean"] == 40
    assert of["cell_red_std"] == pytest.approx(math.sqrt(1000))
    # Deviations -30 -20 -10 0 60: m2 = 1000, m3 = 36,000, m4 = 2,788,000.
    assert of["cell_red_skewness"] == pytest.approx(36_000 / 1000**1.5)
    assert of["cell_red_kurtosis"] == pytest.approx(2.788 - 3, abs=1e-6)
    assert [of[f"cell_red_percentile_{percent}"] for percent in COLOUR.percentiles] == [12, 20, 30, 40, 88]
    assert measured(COLOUR, cell_of([(10, 0, 0), (90, 0, 0)]))["cell_red_kurtosis"] == -2


def test_hue_is_averaged_round_the_circle_and_grey_has_none():
    ten_degrees_either_side_of_red = [(255, 0, 42), (255, 42, 0)]
    of = measured(COLOUR, cell_of([*ten_degrees_either_side_of_red, (90, 90, 90)]))
    assert of["cell_hue_mean"] == pytest.approx(0, abs=1e-4)
    assert of["cell_hue_std"] == pytest.approx(9.9, abs=0.1)
    opposite = measured(COLOUR, cell_of([(255, 0, 0), (0, 255, 255)]))
    assert np.isnan(opposite["cell_hue_mean"])
    assert np.isnan(opposite["cell_hue_std"])


def test_contrast_is_of_mean_colours():
    mask = np.ones((4, 4), bool)
    nucleus = mask.copy()
    nucleus[2:] = False
    rgb = np.where(nucleus[..., None], np.uint8([0, 0, 255]), np.uint8([255, 0, 0]))
    of = measured(COLOUR, Cell(rgb, mask, nucleus))
    assert of["contrast_lab_l"] == pytest.approx(32.30 - 53.24, abs=0.02)
    assert of["contrast_lab_a"] == pytest.approx(79.19 - 80.09, abs=0.02)
    assert of["contrast_lab_b"] == pytest.approx(-107.86 - 67.20, abs=0.02)
    assert of["contrast_delta_e"] == pytest.approx(176.3, abs=0.1)


def test_a_darker_stain_has_more_of_every_dye():
    light, dark = (measured(COLOUR, cell_of([colour])) for colour in ((200, 150, 210), (150, 90, 170)))
    assert dark["cell_haematoxylin_mean"] > light["cell_haematoxylin_mean"] > 0
    assert measured(COLOUR, cell_of([(255, 255, 255)]))["cell_haematoxylin_mean"] == 0


def dyed(*amounts):
    """The colour that light has behind (density, vector) of dyes, by Beer's law."""
    return tuple(255 * 10 ** -sum(amount * np.asarray(vector) for amount, vector in amounts))


def test_a_known_mixture_of_azure_and_eosin_is_taken_apart_again():
    of = measured(COLOUR, cell_of([np.rint(dyed((0.6, AZURE), (0.3, EOSIN_Y)))]))
    assert of["cell_azure_mean"] == pytest.approx(0.6, abs=0.01)
    assert of["cell_eosin_y_mean"] == pytest.approx(0.3, abs=0.01)
    assert of["cell_residual_mean"] == pytest.approx(0, abs=0.01)
    assert of["cytoplasm_azure_share"] == pytest.approx(2 / 3, abs=0.01)
    assert measured(COLOUR, cell_of([(200, 170, 40)]))["cell_residual_mean"] > 0.1  # yellow


def two_parts(nucleus_colour, cytoplasm_colour):
    mask = np.ones((4, 4), bool)
    nucleus = np.arange(16).reshape(4, 4) < 6
    rgb = np.where(nucleus[..., None], np.rint(nucleus_colour), np.rint(cytoplasm_colour)).astype(np.uint8)
    return measured(COLOUR, Cell(rgb, mask, nucleus))


def test_basophilia_is_relative_to_the_nucleus_and_blind_to_the_depth_of_the_stain():
    def measure(blue, depth):
        return two_parts(
            dyed((0.8 * depth, AZURE), (0.4 * depth, EOSIN_Y)), dyed((blue * depth, AZURE), (0.2 * depth, EOSIN_Y))
        )

    pale, deep = measure(0.1, 1), measure(0.6, 1)
    assert pale["cytoplasm_basophilia"] == pytest.approx(0.1 / 0.8, abs=0.01)
    assert deep["cytoplasm_basophilia"] == pytest.approx(0.6 / 0.8, abs=0.01)
    assert deep["cytoplasm_azure_share"] == pytest.approx(0.75, abs=0.01)
    for name in ("cytoplasm_basophilia", "cytoplasm_azure_share"):
        assert measure(0.6, 0.7)[name] == pytest.approx(deep[name], abs=0.01)
    assert deep["contrast_azure"] == pytest.approx(0.2, abs=0.01)
    assert deep["contrast_eosin_y"] == pytest.approx(0.2, abs=0.01)


def test_basophilia_is_undefined_without_dye_or_region():
    of = two_parts((255, 255, 255), (255, 255, 255))
    assert np.isnan([of["cytoplasm_basophilia"], of["cytoplasm_azure_share"]]).all()
    without_nucleus = measured(COLOUR, cell_of([(120, 90, 160)] * 3))
    assert np.isnan(without_nucleus["cytoplasm_basophilia"])
    assert without_nucleus["cytoplasm_azure_share"] > 0


def test_lymphocytes_are_more_basophilic_than_neutrophils():
    """As every atlas of blood cells says: blue cytoplasm against pinkish tan."""
    folder = real_data("seg-wbc-1")
    of = {"lymphocyte": [], "neutrophil": []}
    with (folder / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            if row["label"] in of and len(of[row["label"]]) < 20:
                values = measured(COLOUR, read_cell(folder / row["path"], folder / row["mask"]))
                of[row["label"]].append([values["cytoplasm_basophilia"], values["cytoplasm_azure_share"]])
    blue, tan = (np.nanmedian(rows, axis=0) for rows in of.values())
    assert (blue > 1.2 * tan).all()


def painted(vacuoles, tone=(150, 120, 185), paleness=0.2, blur=0.8, noise=6, seed=0, side=220):
    """A round cell with a nucleus and pale discs (y, x, radius), and its share of cytoplasm under them.

    ``paleness`` is the discs' optical density as a part of the cytoplasm's.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask, nucleus = np.hypot(y, x) < 0.46 * side, np.hypot(y + 25, x) < 0.22 * side
    holes = np.zeros_like(mask)
    for down, right, radius in vacuoles:
        holes |= np.hypot(y - down, x - right) < radius
    tone = np.array(tone, float)
    rgb = np.where(holes[..., None], 255 * (tone / 255) ** paleness, tone)
    rgb = np.where(nucleus[..., None], (90, 50, 130), rgb)
    rgb = cv2.GaussianBlur(rgb, (0, 0), blur) + np.random.default_rng(seed).normal(0, noise, rgb.shape)
    rgb = np.where(mask[..., None], rgb.clip(1, 255), 0).astype(np.uint8)
    cytoplasm = mask & ~nucleus
    return Cell(rgb, mask, nucleus), (holes & cytoplasm).sum() / cytoplasm.sum()


FEW = ((50, 10, 7), (60, -30, 5), (10, 75, 9))
MANY = tuple(
    (70 * math.sin(angle) - 5, 75 * math.cos(angle), 12) for angle in np.radians([-20, 0, 25, 50, 75, 100, 125, 150])
)


@pytest.mark.parametrize("vacuoles", [FEW, MANY, FEW[:1]])
@pytest.mark.parametrize("tone", [(150, 120, 185), (205, 190, 225), (70, 35, 85)])
@pytest.mark.parametrize("noise", [2, 6])
def test_painted_vacuoles_are_found_whatever_the_tone_of_the_cytoplasm(vacuoles, tone, noise):
    cell, share = painted(vacuoles, tone, noise=noise)
    assert measured(COLOUR, cell)["cytoplasm_vacuole_fraction"] == pytest.approx(share, rel=0.1)


def test_vacuoles_lie_where_they_were_painted():
    cell, _ = painted(FEW, blur=0.01, noise=0)
    y, x = np.mgrid[:220, :220] - 109.5
    expected = np.any([np.hypot(y - down, x - right) < radius for down, right, radius in FEW], axis=0)
    found = np.zeros_like(cell.mask)
    rows, columns = np.nonzero(cell.mask)
    found[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = find_vacuoles(cell)
    # The opening with a cross may take single pixels off a disc's outermost row.
    assert np.count_nonzero(found != expected) <= 12


@pytest.mark.parametrize("noise", [0, 6, 15])
def test_a_cytoplasm_without_holes_has_no_vacuoles(noise):
    for seed in range(5):
        assert measured(COLOUR, painted((), noise=noise, seed=seed)[0])["cytoplasm_vacuole_fraction"] == 0


def test_pale_rims_crescents_and_specks_are_no_vacuoles():
    cell, _ = painted((), noise=2)
    y, x = np.mgrid[:220, :220] - 109.5
    around_nucleus, outer = np.hypot(y + 25, x), np.hypot(y, x)
    specks = (np.random.default_rng(0).random(y.shape) < 0.02)[..., None]
    for region in (
        ((around_nucleus < 56) & (y > 0))[..., None],  # a crescent between nucleus and cytoplasm
        (outer > 96)[..., None],  # a rim at the edge of the cell
        ((outer > 85) & (np.abs(x - 20) < 15) & (y > 0))[..., None],  # a bay that opens to the outside
        specks,
    ):
        rgb = np.where(region & cell.cytoplasm[..., None], np.uint8([235, 228, 240]), cell.rgb)
        of = measured(COLOUR, Cell(rgb, cell.mask, cell.nucleus))
        assert of["cytoplasm_vacuole_fraction"] == 0


def test_vacuoles_make_the_palest_part_of_the_cytoplasm_paler_by_as_much_as_they_are():
    """The discs have a fifth of the optical density of the cytoplasm around them."""
    even, holes = (measured(COLOUR, painted(where, noise=2)[0]) for where in ((), MANY))
    assert even["cytoplasm_vacuole_paleness"] < 0.1
    assert holes["cytoplasm_vacuole_paleness"] == pytest.approx(0.8, abs=0.06)


def test_a_cytoplasm_of_eosin_is_granular_and_one_of_azure_is_not():
    red, blue = (255 * 10.0 ** (-0.4 * dye) for dye in (EOSIN_Y, AZURE))
    for half in (0, 30, 60):
        cell = cell_of([red] * half + [blue] * (60 - half))
        assert measured(COLOUR, cell)["cytoplasm_granule_share"] == pytest.approx(half / 60)


def painted_nucleus(lobes, granules, side=160):
    """A cell whose nucleus is discs (y, x, radius) of chromatin on a bed of granules, which let red light pass.

    The mask of the nucleus is what a person would draw who cannot tell the two: all that is dark.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask, bed = np.hypot(y, x) < 0.46 * side, np.hypot(y, x) < 0.36 * side
    chromatin = np.any([np.hypot(y - down, x - right) < radius for down, right, radius in lobes], axis=0)
    rgb = np.full((side, side, 3), (215, 200, 225), float)
    rgb[bed] = granules
    rgb[chromatin] = (70, 40, 120)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 1) + np.random.default_rng(0).normal(0, 4, rgb.shape)
    return Cell(np.where(mask[..., None], rgb.clip(1, 255), 0).astype(np.uint8), mask, bed)


ONE = ((0, 0, 62),)
THREE = ((-28, -20, 26), (-24, 28, 24), (30, 0, 26))


def test_lobes_are_told_apart_under_granules_that_let_red_light_pass():
    one, three = (painted_nucleus(lobes, granules=(160, 40, 120)) for lobes in (ONE, THREE))
    assert measured(COLOUR, one)["nucleus_lobe_clefts"] == 0
    drawn = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 0.85 * 0.36 * 160  # all but the rim
    y, x = np.mgrid[:160, :160] - 79.5
    gaps = drawn & ~np.any([np.hypot(y - down, x - right) < radius for down, right, radius in THREE], axis=0)
    assert measured(COLOUR, three)["nucleus_lobe_clefts"] == pytest.approx(gaps.sum() / drawn.sum(), rel=0.2)


def test_clefts_need_no_more_than_tones():
    """A nucleus that takes red light evenly has none, however deep its stain; nor has one of three pixels."""
    for tone in ((70, 40, 120), (30, 20, 90), (140, 90, 170)):
        assert measured(COLOUR, painted_nucleus((), granules=tone))["nucleus_lobe_clefts"] == 0
    assert measured(COLOUR, solid_cell(np.ones((3, 3)), np.eye(3)))["nucleus_lobe_clefts"] == 0


def test_regions_are_measured_apart():
    cell = irregular_cell()
    of = measured(COLOUR, cell)
    for name, mask in (("cell", cell.mask), ("nucleus", cell.nucleus), ("cytoplasm", cell.cytoplasm)):
        assert of[f"{name}_green_mean"] == pytest.approx(cell.rgb[mask][:, 1].mean(), rel=1e-6)
    alone = Cell(cell.rgb, cell.nucleus, np.zeros_like(cell.nucleus))
    for name, value in measured(COLOUR, alone).items():
        if name.startswith("cell_"):
            assert value == of[name.replace("cell_", "nucleus_", 1)]


def test_an_empty_region_is_nan():
    of = measured(COLOUR, solid_cell(np.ones((5, 5))))
    assert all(np.isnan(value) for name, value in of.items() if name.startswith(("nucleus_", "contrast_")))
    of = measured(COLOUR, solid_cell(np.ones((5, 5)), np.ones((5, 5))))
    assert all(np.isnan(value) for name, value in of.items() if name.startswith(("cytoplasm_", "contrast_")))


@pytest.mark.parametrize("widths", [(0, 0, 0, 1), (200, 0, 0, 33), (7, 11, 13, 200)])
@pytest.mark.parametrize("colour", [0, 97, 255])
def test_colour_ignores_the_background(widths, colour):
    cell = irregular_cell()
    assert_array_equal(COLOUR.extract([pad(cell, widths, colour)]), COLOUR.extract([cell]))


@pytest.mark.parametrize(("quarters", "mirrored"), TURNS)
def test_turning_and_mirroring_changes_nothing(quarters, mirrored):
    cell = irregular_cell()
    assert_array_equal(COLOUR.extract([turned(cell, quarters, mirrored)]), COLOUR.extract([cell]))


def test_the_order_of_pixels_leaves_no_trace():
    """Hues and values that cancel out but for rounding, which depends on the order of summation."""
    colours = np.array(
        [(200, 90, blue) for blue in range(90, 200, 7)] + [(200, green, 90) for green in range(90, 200, 7)]
    )
    rng = np.random.default_rng(0)
    expected = COLOUR.extract([cell_of(colours)])
    for _ in range(20):
        assert_array_equal(COLOUR.extract([cell_of(rng.permutation(colours))]), expected)


@examples
@given(random_cells(), st.tuples(*[st.integers(0, 9)] * 4), st.integers(0, 255))
def test_any_padded_or_turned_cell_measures_the_same(cell, widths, colour):
    expected = COLOUR.extract([cell])
    assert not np.isinf(expected).any()
    assert_array_equal(COLOUR.extract([pad(cell, widths, colour)]), expected)
    assert_array_equal(COLOUR.extract([turned(cell, 1, True)]), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", degenerate_cells())
def test_degenerate_cells_have_values_or_nan(case):
    of = measured(COLOUR, degenerate_cells()[case])
    assert not np.isinf(list(of.values())).any()
    assert not np.isnan([of["cell_red_mean"], of["cell_lab_a_std"], of["cell_value_percentile_5"]]).any()


@pytest.mark.parametrize("pixels", [1, 2, 7, 64, 1001])
@pytest.mark.parametrize("colour", [(140, 90, 160), (128, 128, 128), (0, 0, 0), (3, 250, 77)])
def test_a_constant_region_has_no_skewness(pixels, colour):
    of = measured(COLOUR, cell_of([colour] * pixels))
    for name in (channel.name for channel in CHANNELS):
        assert of[f"cell_{name}_std"] == pytest.approx(0, abs=1e-4)
        assert np.isnan(of[f"cell_{name}_skewness"])
        assert np.isnan(of[f"cell_{name}_kurtosis"])
    assert np.isnan(of["cell_hue_skewness"])
    assert np.isnan(of["cell_hue_kurtosis"])
