"""Texture: of the mask and of nothing else, and known for pictures that can be counted by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from extractors import kernels
from extractors.texture import STEPS, Texture, local_binary_patterns, pattern_histogram, quantise
from fusion.cells import Cell
from fusion.plugins import Extractor, fingerprint
from tests.extractors.conftest import (
    TURNS,
    degenerate_cells,
    examples,
    irregular_cell,
    measured,
    pad,
    random_cells,
    turned,
)

TEXTURE = Texture()


def grey_cell(grey, mask=None):
    grey = np.asarray(grey, np.uint8)
    mask = np.ones(grey.shape, bool) if mask is None else mask
    return Cell(np.repeat(grey[..., None], 3, axis=2), mask, np.zeros_like(mask))


def test_keeps_the_protocol_and_names_every_column():
    assert isinstance(TEXTURE, Extractor)
    names = TEXTURE.feature_names()
    assert len(set(names)) == len(names)
    assert {"cell_glcm_contrast_d1_mean", "nucleus_glcm_entropy_d4_range", "nucleus_lbp_24_3_bin25"} <= set(names)
    values = TEXTURE.extract([irregular_cell(0), irregular_cell(1)])
    assert values.dtype == np.float32
    assert values.shape == (2, len(names))
    assert TEXTURE.extract([]).shape == (0, len(names))
    assert not np.isnan(values).any()


@pytest.mark.parametrize(
    "params",
    [
        {"levels": 1},
        {"levels": 257},
        {"distances": (0,)},
        {"distances": (2, 2)},
        {"circles": ((2, 1),)},
        {"circles": ((8, 0),)},
        {"circles": ((8, 1), (8, 1))},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=next(iter(params))[:6]):
        Texture(**params)


def test_parameters_change_columns_and_fingerprint():
    small = Texture(levels=16, distances=(3,), circles=())
    assert len(small.feature_names()) == 2 * 13 * 2
    assert small.extract([irregular_cell()]).shape == (1, 52)
    assert Texture(distances=()).extract([irregular_cell()]).shape == (1, 2 * (10 + 18 + 26))
    assert fingerprint(small, "1") != fingerprint(TEXTURE, "1")


def test_quantisation_has_bins_of_equal_width():
    assert_array_equal(quantise(np.array([[0, 7, 8, 15, 247, 248, 255]], np.uint8), 32), [[0, 0, 1, 1, 30, 31, 31]])
    assert_array_equal(np.bincount(quantise(np.arange(256, dtype=np.uint8)[None], 32)[0]), [8] * 32)


def test_pairs_of_one_mask_only_are_counted():
    levels = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    inside = np.array([[True, True, False], [True, True, True]])
    counts = kernels.count_pairs(levels, inside, np.array([(0, 1), (1, 0), (0, 2), (-1, 1), (2, 0)]), 2)
    assert_array_equal(counts[0], [[0, 3], [3, 0]])  # 0-1 above; 1-0 and 0-1 below
    assert_array_equal(counts[1], [[0, 2], [2, 0]])  # left and middle column; the right one leaves the mask
    assert_array_equal(counts[2], [[0, 0], [0, 2]])  # below only
    assert_array_equal(counts[3], [[0, 0], [0, 2]])  # lower left with upper middle
    assert_array_equal(counts[4], np.zeros((2, 2)))  # farther than the picture is high


def test_a_diagonal_step_of_distance_2_is_two_rows_and_two_columns():
    levels = np.zeros((5, 5), np.uint8)
    levels[0, 4] = levels[2, 2] = 1
    offsets = np.array([(2 * down, 2 * right) for down, right in STEPS])
    counts = kernels.count_pairs(levels, np.ones((5, 5), bool), offsets, 2)
    assert counts[1, 1, 1] == 2  # one pair, counted both ways
    assert counts[3, 1, 1] == 0
    assert counts[1].sum() == counts[3].sum() == 2 * 9


def test_stripes_have_contrast_across_and_none_along():
    stripes = np.tile(np.uint8([[0], [8]]), (8, 16))  # rows of level 0 and level 1
    of = measured(Texture(circles=()), grey_cell(stripes))
    assert of["cell_glcm_contrast_d1_mean"] == 0.75  # 1 at 45, 90 and 135 degrees, 0 at 0 degrees
    assert of["cell_glcm_contrast_d1_range"] == 1
    assert of["cell_glcm_correlation_d1_range"] == 2  # from 1 along to -1 across
    assert of["cell_glcm_contrast_d2_mean"] == of["cell_glcm_contrast_d2_range"] == 0
    assert of["cell_glcm_entropy_d1_range"] == pytest.approx(0, abs=1e-6)  # two equal entries at every angle: 1 bit
    assert of["cell_glcm_entropy_d1_mean"] == pytest.approx(1)


@pytest.mark.parametrize("widths", [(0, 0, 0, 1), (200, 0, 0, 33), (7, 11, 13, 200)])
@pytest.mark.parametrize("colour", [0, 97, 255])
def test_texture_ignores_the_background(widths, colour):
    cell = irregular_cell()
    assert_array_equal(TEXTURE.extract([pad(cell, widths, colour)]), TEXTURE.extract([cell]))


def test_texture_ignores_what_lies_around_the_mask():
    cell = irregular_cell()
    other = np.where(
        cell.mask[..., None], cell.rgb, np.random.default_rng(5).integers(0, 256, cell.rgb.shape, np.uint8)
    )
    assert_array_equal(TEXTURE.extract([Cell(other, cell.mask, cell.nucleus)]), TEXTURE.extract([cell]))


@examples
@given(random_cells(), st.tuples(*[st.integers(0, 9)] * 4), st.integers(0, 255))
def test_any_padded_cell_measures_the_same(cell, widths, colour):
    assert_array_equal(TEXTURE.extract([pad(cell, widths, colour)]), TEXTURE.extract([cell]))


@examples
@given(random_cells())
def test_any_turned_cell_measures_the_same(cell):
    expected = TEXTURE.extract([cell])
    assert not np.isinf(expected).any()
    for quarters, mirrored in TURNS:
        assert_allclose(TEXTURE.extract([turned(cell, quarters, mirrored)]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("quarters", "mirrored"), TURNS)
def test_turning_and_mirroring_changes_nothing(quarters, mirrored):
    cell = irregular_cell()
    assert_allclose(TEXTURE.extract([turned(cell, quarters, mirrored)]), TEXTURE.extract([cell]), rtol=1e-5, atol=1e-6)


def test_a_brighter_nucleus_is_not_a_rougher_one():
    """Levels have fixed width: adding whole levels moves the averages and nothing else."""
    cell = irregular_cell()
    darker = Cell(cell.rgb // 2, cell.mask, cell.nucleus)
    brighter = Cell(darker.rgb + np.uint8(80), cell.mask, cell.nucleus)
    of_darker, of_brighter = measured(TEXTURE, darker), measured(TEXTURE, brighter)
    for name, value in of_darker.items():
        moved = 20 if name.endswith("_mean") and "sum_average" in name else 0  # ten levels, twice
        assert of_brighter[name] == pytest.approx(value + moved, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize(("points", "radius"), TEXTURE.circles)
def test_patterns_of_flat_peak_pit_and_edge(points, radius):
    side = 2 * radius + 5
    centre = (side // 2, side // 2)
    flat = np.full((side, side), 90, np.uint8)
    peak, pit = flat.copy(), flat.copy()
    peak[centre], pit[centre] = 200, 10
    edge = flat.copy()
    edge[: centre[0]] = 10
    assert local_binary_patterns(flat, points, radius)[centre] == points  # all as bright as the centre
    assert local_binary_patterns(peak, points, radius)[centre] == 0
    assert local_binary_patterns(pit, points, radius)[centre] == points
    assert local_binary_patterns(edge, points, radius)[centre] == points // 2 + 1  # both ends lie on the edge's row


def test_a_pattern_of_two_arcs_is_not_uniform():
    between = np.uint8([[10, 90, 10], [10, 50, 10], [10, 90, 10]])
    assert local_binary_patterns(between, 8, 1)[1, 1] == 9
    assert local_binary_patterns(np.where(np.indices((3, 3))[0] == 2, 10, between), 8, 1)[1, 1] == 1


def test_a_histogram_is_of_pixels_whose_circle_fits_into_the_mask():
    patterns = np.zeros((9, 9), np.uint8)
    patterns[4, 4] = 3
    inside = np.zeros((9, 9), bool)
    inside[3:6, 3:6] = True
    assert_array_equal(pattern_histogram(patterns, inside, 8, 1), np.eye(10)[3])
    inside[3, 3] = False  # a corner is one of four pixels that a diagonal point is interpolated from
    assert np.isnan(pattern_histogram(patterns, inside, 8, 1)).all()
    assert np.isnan(pattern_histogram(patterns[:4], np.ones((4, 9), bool), 16, 2)).all()
    assert pattern_histogram(patterns, np.ones((9, 9), bool), 24, 3).sum() == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", degenerate_cells())
def test_degenerate_cells_have_values_or_nan(case):
    cell = degenerate_cells()[case]
    of = measured(TEXTURE, cell)
    assert not np.isinf(list(of.values())).any()
    if not cell.nucleus.any() or cell.mask.sum() == 1:
        assert all(np.isnan(value) for name, value in of.items() if name.startswith("nucleus_"))


def test_a_constant_cell_has_no_correlation_and_no_entropy():
    of = measured(TEXTURE, degenerate_cells()["constant colour"])
    assert of["cell_glcm_angular_second_moment_d1_mean"] == 1
    assert of["cell_glcm_entropy_d1_mean"] == of["cell_glcm_contrast_d4_mean"] == 0
    assert np.isnan(of["cell_glcm_correlation_d1_mean"])
    assert np.isnan(of["cell_glcm_information_correlation_1_d1_mean"])
    assert of["cell_glcm_information_correlation_2_d1_mean"] == 0
    assert of["cell_lbp_8_1_bin08"] == of["nucleus_lbp_8_1_bin08"] == 1


def test_a_row_has_the_texture_of_its_one_angle():
    of = measured(TEXTURE, grey_cell([[0, 8, 0, 8, 0, 8, 0, 8, 0, 8]]))
    assert of["cell_glcm_contrast_d1_mean"] == 1
    assert of["cell_glcm_contrast_d1_range"] == 0
    assert np.isnan(of["cell_lbp_8_1_bin00"])


def test_kernels_compile_where_no_folder_can_be_written(monkeypatch):
    def refusing(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    njit = kernels.njit
    monkeypatch.setattr(kernels, "njit", refusing)
    assert kernels.compiled(lambda x: x + 1)(1) == 2


def test_worker_processes_import_nothing_heavy():
    code = (
        "import sys, extractors.colour, extractors.morphology, extractors.texture\n"
        "heavy = {'torch', 'timm', 'sklearn', 'xgboost', 'skimage', 'mahotas', 'matplotlib'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
