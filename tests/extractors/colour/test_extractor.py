"""Colour: known for known colours, and of the pixels alone, wherever they lie."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from extractors.colour._colour_spaces import AZURE, CHANNELS, EOSIN_Y
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


def test_a_cytoplasm_of_eosin_is_granular_and_one_of_azure_is_not():
    red, blue = (255 * 10.0 ** (-0.4 * dye) for dye in (EOSIN_Y, AZURE))
    for half in (0, 30, 60):
        cell = cell_of([red] * half + [blue] * (60 - half))
        assert measured(COLOUR, cell)["cytoplasm_granule_share"] == pytest.approx(half / 60)


def test_granules_that_hold_back_blue_are_red():
    """Orange as in eosinophils, pink as in neutrophils, purple as in basophils; a cytoplasm of azure has none."""
    orange, pink, purple, blue = (225, 130, 110), (225, 180, 205), (130, 50, 140), (150, 170, 215)
    of = [measured(COLOUR, cell_of([tone] * 6)) for tone in (orange, pink, purple, blue)]
    assert [row["cytoplasm_granule_share"] for row in of] == [1, 1, 1, 0]
    redness = [row["cytoplasm_granule_redness"] for row in of]
    assert redness[0] > 2 * max(redness[1:3])
    assert redness[3] == 0
    mixed = measured(COLOUR, cell_of([orange] * 3 + [blue] * 57))
    assert mixed["cytoplasm_granule_redness"] == pytest.approx(redness[0])  # of granules alone


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
    assert of.pop("nucleus_lobes") == 0
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
