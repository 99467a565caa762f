"""Texture: of the mask and of nothing else, and known for images that can be counted by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from extractors.texture._cooccurrence import count_pairs, offsets_of
from extractors.texture._local_patterns import local_binary_patterns, pattern_histogram
from extractors.texture.extractor import METHODS, Texture, quantise, stretch
from fusion.compute import compiled_loops
from fusion.images.cell import Cell
from fusion.plugins.extractors import Extractor
from fusion.plugins.registry import fingerprint
from tests.builders.cells import TURNS, degenerate_cells, irregular_cell, measured, pad, random_cells, turned
from tests.extractors.conftest import examples

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
    assert {"cell_glrlm_percentage_range", "nucleus_glszm_size_entropy", "cell_tas_bright_in8"} <= set(names)
    assert {"cell_tamura_coarseness", "cell_band_energy_s4", "nucleus_chromatin_spot_count"} <= set(names)
    values = TEXTURE.extract([irregular_cell(0), irregular_cell(1)])
    assert values.dtype == np.float32
    assert values.shape == (2, len(names))
    assert TEXTURE.extract([]).shape == (0, len(names))
    assert not np.isnan(values).any()


@pytest.mark.parametrize(
    "params",
    [
        {"methods": ()},
        {"methods": ("glcm", "glcm")},
        {"methods": ("wavelet",)},
        {"levels": 1},
        {"levels": 257},
        {"binning": "equal"},
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
    others = 2 * (16 * 3 + 6 * 9 + 3 + 3) + 18
    small = Texture(levels=16, distances=(3,), circles=())
    assert len(small.feature_names()) == 2 * 22 * 2 + others
    assert small.extract([irregular_cell()]).shape == (1, 2 * 22 * 2 + others)
    assert Texture(distances=()).extract([irregular_cell()]).shape == (1, 2 * (10 + 18 + 26) + others)
    prints = {fingerprint(each, "1") for each in (TEXTURE, small, Texture(binning="fixed_count"))}
    assert len(prints) == 3


@pytest.mark.parametrize("binning", ["fixed_width", "fixed_count"])
def test_a_method_alone_gives_what_it_gives_among_all(binning):
    cell = irregular_cell()
    every = measured(Texture(binning=binning), cell)
    alone = [measured(Texture(methods=(method,), binning=binning), cell) for method in METHODS]
    for method, values in zip(METHODS, alone, strict=True):
        assert values, method
        assert all(name.split("_", 1)[1].startswith(method) for name in values)
        assert {name: every[name] for name in values} == values
    assert sum(map(len, alone)) == len(every)


@pytest.mark.parametrize("binning", ["fixed_width", "fixed_count"])
def test_a_cell_without_a_nucleus_has_its_own_texture_and_none_of_a_nucleus(binning):
    cell, texture = irregular_cell(), Texture(binning=binning)
    whole = measured(texture, cell)
    without = measured(texture, Cell(cell.rgb, cell.mask, np.zeros_like(cell.mask)))
    for name, value in without.items():
        if name.startswith("nucleus_"):
            assert np.isnan(value), name
        else:
            assert_array_equal(value, whole[name], err_msg=name)


def test_the_order_in_which_methods_are_named_does_not_matter_to_columns():
    forth, back = Texture(methods=("glcm", "lbp")), Texture(methods=("lbp", "glcm"))
    assert forth.feature_names() == back.feature_names()
    assert_array_equal(forth.extract([irregular_cell()]), back.extract([irregular_cell()]))


def test_quantisation_has_bins_of_equal_width():
    assert_array_equal(quantise(np.array([[0, 7, 8, 15, 247, 248, 255]], np.uint8), 32), [[0, 0, 1, 1, 30, 31, 31]])
    assert_array_equal(np.bincount(quantise(np.arange(256, dtype=np.uint8)[None], 32)[0]), [8] * 32)


def test_a_fixed_count_of_bins_goes_from_the_darkest_to_the_brightest_pixel_inside():
    grey = np.uint8([[40, 50, 60, 70, 80, 255]])
    inside = np.uint8([[1, 1, 1, 1, 1, 0]])
    assert_array_equal(stretch(grey, inside, 4)[0, :5], [0, 1, 2, 3, 3])
    assert_array_equal(stretch(grey, inside[:, ::-1], 4)[0, 1:], [0, 0, 0, 0, 3])
    assert_array_equal(stretch(np.full_like(grey, 9), inside, 4), np.zeros_like(grey))


def test_with_a_fixed_count_neither_exposure_nor_gain_matters():
    fixed = Texture(binning="fixed_count", levels=16)
    cell = irregular_cell()
    grey = np.repeat(cell.rgb[..., 1:2] // 3, 3, axis=2)
    usual = measured(fixed, Cell(grey, cell.mask, cell.nucleus))
    other = measured(fixed, Cell(2 * grey + np.uint8(31), cell.mask, cell.nucleus))
    of_levels = [name for name in usual if "_gl" in name]
    assert len(of_levels) == 2 * (22 * 6 + 16 * 3)
    for name in of_levels:
        assert other[name] == pytest.approx(usual[name], rel=1e-6), name


def counted(levels, inside, offsets):
    """Symmetric counts of one region."""
    counts, first = count_pairs(levels, inside.view(np.uint8), 1, np.array(offsets, np.int64))
    assert first == 0
    return counts[0] + counts[0].swapaxes(1, 2)


def test_pairs_of_one_mask_only_are_counted():
    levels = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    inside = np.array([[True, True, False], [True, True, True]])
    counts = counted(levels, inside, [(0, 1), (1, 0), (0, 2), (-1, 1), (2, 0)])
    assert_array_equal(counts[0], [[0, 3], [3, 0]])  # 0-1 above; 1-0 and 0-1 below
    assert_array_equal(counts[1], [[0, 2], [2, 0]])  # left and middle column; the right one leaves the mask
    assert_array_equal(counts[2], [[0, 0], [0, 2]])  # below only
    assert_array_equal(counts[3], [[0, 0], [0, 2]])  # lower left with upper middle
    assert_array_equal(counts[4], np.zeros((2, 2)))  # farther than the image is high


def test_pairs_of_the_inner_region_are_pairs_of_the_outer_one():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 7, (30, 41), np.uint8)
    outer = rng.random(levels.shape) < 0.8
    inner = outer & (rng.random(levels.shape) < 0.7)
    both, _ = count_pairs(levels, outer.astype(np.uint8) + inner, 2, offsets_of([1, 3]))
    for region, inside in enumerate((outer, inner)):
        alone, _ = count_pairs(levels, inside.astype(np.uint8), 1, offsets_of([1, 3]))
        assert_array_equal(both[region], alone[0])


def test_a_diagonal_step_of_distance_2_is_two_rows_and_two_columns():
    levels = np.zeros((5, 5), np.uint8)
    levels[0, 4] = levels[2, 2] = 1
    counts = counted(levels, np.ones((5, 5), bool), offsets_of([2]))
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
    """Levels have fixed width: adding whole levels moves what is an average, and no measure of unevenness."""
    cell = irregular_cell()
    darker = Cell(cell.rgb // 2, cell.mask, cell.nucleus)
    brighter = Cell(darker.rgb + np.uint8(80), cell.mask, cell.nucleus)
    of_darker, of_brighter = measured(TEXTURE, darker), measured(TEXTURE, brighter)
    for name, value in of_darker.items():
        # Density is a logarithm of light, and these are made of the levels themselves.
        if "_level_emphasis" in name or "autocorrelation" in name or "chromatin" in name:
            continue
        moved = 20 if name.endswith("_mean") and "sum_average" in name else 0  # ten levels, twice
        assert of_brighter[name] == pytest.approx(value + moved, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(("points", "radius"), TEXTURE.circles)
def test_patterns_of_flat_peak_pit_and_edge(points, radius):
    side = 2 * radius + 5
    centre = (side // 2, side // 2)
    flat = np.full((side, side), 90, np.uint8)
    peak, pit = flat.copy(), flat.copy()
    peak[centre], pit[centre] = 200, 10
    edge = flat.copy()
    edge[: centre[0]] = 10
    everywhere = np.ones_like(flat)
    assert local_binary_patterns(flat, everywhere, points, radius)[centre] == points  # all as bright as the centre
    assert local_binary_patterns(peak, everywhere, points, radius)[centre] == 0
    assert local_binary_patterns(pit, everywhere, points, radius)[centre] == points
    assert (
        local_binary_patterns(edge, everywhere, points, radius)[centre] == points // 2 + 1
    )  # both ends lie on the edge's row


def test_a_pattern_of_two_arcs_is_not_uniform():
    between = np.uint8([[10, 90, 10], [10, 50, 10], [10, 90, 10]])
    everywhere = np.ones_like(between)
    assert local_binary_patterns(between, everywhere, 8, 1)[1, 1] == 9
    below = np.where(np.indices((3, 3))[0] == 2, np.uint8(10), between)
    assert local_binary_patterns(below, everywhere, 8, 1)[1, 1] == 1


def test_a_histogram_is_of_pixels_whose_circle_fits_into_the_mask():
    grey = np.full((9, 9), 50, np.uint8)
    grey[4, 4] = 90
    inside = np.zeros((9, 9), np.uint8)
    inside[3:6, 3:6] = 1
    assert_array_equal(pattern_histogram(grey, inside, 1, 8, 1)[0], np.eye(10)[0])
    inside[3, 3] = 0  # a corner is one of four pixels that a diagonal point is interpolated from
    assert np.isnan(pattern_histogram(grey, inside, 1, 8, 1)).all()
    assert np.isnan(pattern_histogram(grey[:4], np.ones((4, 9), np.uint8), 1, 16, 2)).all()
    assert pattern_histogram(grey, np.ones((9, 9), np.uint8), 1, 24, 3).sum() == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", degenerate_cells())
def test_degenerate_cells_have_values_or_nan(case):
    cell = degenerate_cells()[case]
    of = measured(TEXTURE, cell)
    assert not np.isinf(list(of.values())).any()
    of_nucleus = {name: value for name, value in of.items() if name.startswith("nucleus_")}
    if not cell.nucleus.any():
        assert all(np.isnan(value) for value in of_nucleus.values())
    elif cell.mask.sum() == 1:  # one pixel has no neighbour, but is a run and a zone
        known = {name for name, value in of_nucleus.items() if not np.isnan(value)}
        assert known == {
            *(name for name in of_nucleus if "_glrlm_" in name or "_glszm_" in name or "_band_energy_" in name),
            "nucleus_tamura_contrast",
        }


def test_a_constant_cell_has_no_correlation_and_no_entropy():
    of = measured(TEXTURE, degenerate_cells()["constant colour"])
    assert of["cell_glcm_angular_second_moment_d1_mean"] == 1
    assert of["cell_glcm_entropy_d1_mean"] == of["cell_glcm_contrast_d4_mean"] == 0
    assert np.isnan(of["cell_glcm_correlation_d1_mean"])
    assert np.isnan(of["cell_glcm_information_correlation_1_d1_mean"])
    assert of["cell_glcm_information_correlation_2_d1_mean"] == 0
    assert of["cell_lbp_8_1_bin08"] == of["nucleus_lbp_8_1_bin08"] == 1
    assert of["cell_glszm_percentage"] == pytest.approx(1 / 400)
    assert np.isnan(of["cell_tas_most_in8"])
    assert np.isnan(of["cell_tamura_coarseness"])
    assert np.isnan(of["cell_tamura_directionality"])
    assert of["cell_tamura_contrast"] == of["cell_band_energy_s1"] == 0
    assert of["nucleus_chromatin_heterogeneity"] == of["nucleus_chromatin_spot_count"] == 0
    assert np.isnan(of["nucleus_chromatin_correlation_length"])


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

    njit = compiled_loops.njit
    monkeypatch.setattr(compiled_loops, "njit", refusing)
    assert compiled_loops.compiled(lambda x: x + 1)(1) == 2


def test_compiled_code_finds_linear_algebra_all_the_same():
    code = (
        "import extractors.numba_kernels, numba, numpy as np\n"
        "a = np.arange(4.0).reshape(2, 2)\n"
        "np.testing.assert_array_equal(numba.njit(lambda a: np.dot(a, a))(a), a @ a)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_worker_processes_import_nothing_heavy():
    code = (
        "import sys, extractors.colour, extractors.morphology, extractors.texture\n"
        "heavy = {'torch', 'timm', 'sklearn', 'xgboost', 'skimage', 'mahotas', 'matplotlib'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
