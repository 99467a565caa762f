"""Colour against scikit-image's conversions and SciPy's statistics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from skimage import color

from extractors.colour._colour_spaces import CHANNELS, PLANES, convert
from extractors.colour.extractor import Colour
from tests.builders.cells import irregular_cell, measured


@pytest.fixture(scope="module")
def pixels():
    """20,000 colours of any kind, with every grey, as uint8 (n, 3)."""
    rng = np.random.default_rng(0)
    greys = np.repeat(np.arange(256), 3).reshape(-1, 3)
    return np.concatenate([rng.integers(0, 256, (20_000, 3)), rng.integers(0, 9, (500, 3)), greys]).astype(np.uint8)


def planes(pixels):
    """Plane name to float64 (n,)."""
    red, green, blue = pixels.T.astype(np.uint32)
    return dict(zip(PLANES, convert(red << 16 | green << 8 | blue), strict=True))


def giemsa(pixels):
    """float64 (n, 3): azure, eosin and what is left, by scikit-image with our length of the third vector."""
    # scikit-image counts in sixths of an optical density, and its third vector, a cross product, is not of length 1.
    third = np.linalg.norm(color.colorconv.rgb_from_bex[2])
    matrix = np.linalg.inv(color.colorconv.rgb_from_bex / [[1], [1], [third]])
    return 6 * color.separate_stains(pixels, matrix)


def test_lab(pixels):
    ours, theirs = planes(pixels), color.rgb2lab(pixels).T
    ours = np.stack([ours["lab_l"], ours["lab_a"], ours["lab_b"]])
    # scikit-image rounds the two constants of the dark end, 0.008856 and 7.787, which CIE gives as fractions.
    assert_allclose(ours, theirs, atol=3e-4)
    light = pixels.min(axis=1) > 40
    assert_allclose(ours[:, light], theirs[:, light], atol=1e-9)


def test_hue_and_saturation(pixels):
    ours, (hue, saturation, value) = planes(pixels), color.rgb2hsv(pixels).T
    grey = pixels.min(axis=1) == pixels.max(axis=1)
    assert_allclose(ours["has_hue"], ~grey)
    for name, expected in {
        "cosine": np.cos(2 * np.pi * hue),
        "sine": np.sin(2 * np.pi * hue),
        "double_cosine": np.cos(4 * np.pi * hue),
        "double_sine": np.sin(4 * np.pi * hue),
    }.items():
        assert_allclose(ours[name], np.where(grey, 0, expected), atol=1e-12, err_msg=name)
    assert_allclose(ours["saturation"], saturation, atol=1e-12)
    assert_allclose(ours["value"], 255 * value, atol=1e-12)


def test_haematoxylin_eosin_and_dab(pixels):
    ours = planes(pixels)
    ours = np.stack([ours["haematoxylin"], ours["eosin"], ours["dab"]], axis=1)
    assert_allclose(ours, color.rgb2hed(pixels), atol=1e-12)


def test_azure_and_eosin_y(pixels):
    pixels = pixels[pixels.min(axis=1) > 0]  # black is an optical density of 6 there, of 2.7 here
    ours, theirs = planes(pixels), giemsa(pixels)
    assert_allclose(np.stack([ours["azure"], ours["eosin_y"]], axis=1), theirs[:, :2], atol=1e-12)
    assert_allclose(np.maximum(ours["residual"], 0), theirs[:, 2], atol=1e-12)


@pytest.mark.parametrize("region", ["cell", "nucleus", "cytoplasm"])
def test_statistics_of_channels(region):
    cell = irregular_cell(6)
    of = measured(Colour(), cell)
    pixels = cell.rgb[{"cell": cell.mask, "nucleus": cell.nucleus, "cytoplasm": cell.cytoplasm}[region]]
    lab, hsv, hed, bex = color.rgb2lab(pixels), color.rgb2hsv(pixels), color.rgb2hed(pixels), giemsa(pixels)
    bex[:, 2] = planes(pixels)["residual"]  # cut off at 0 by scikit-image, see test_azure_and_eosin_y
    expected_planes = [*pixels.T.astype(float), hsv[:, 1], 255 * hsv[:, 2], *lab.T, *hed.T, *bex.T]
    for channel, plane in zip(CHANNELS, expected_planes, strict=True):
        expected = {
            "mean": plane.mean(),
            "std": plane.std(),
            "skewness": stats.skew(plane),
            "kurtosis": stats.kurtosis(plane),
            **{f"percentile_{percent}": np.percentile(plane, percent) for percent in (5, 25, 50, 75, 95)},
        }
        for statistic, value in expected.items():
            ours = of[f"{region}_{channel.name}_{statistic}"]
            assert ours == pytest.approx(value, rel=1e-5, abs=1e-5), (channel.name, statistic)


@pytest.mark.parametrize("region", ["cell", "nucleus", "cytoplasm"])
def test_statistics_of_hue(region):
    cell = irregular_cell(6)
    of = measured(Colour(), cell)
    hsv = color.rgb2hsv(cell.rgb[{"cell": cell.mask, "nucleus": cell.nucleus, "cytoplasm": cell.cytoplasm}[region]])
    hue = hsv[hsv[:, 1] > 0, 0] * 360
    mean = stats.circmean(hue, high=90, low=-270)
    assert of[f"{region}_hue_mean"] == pytest.approx(mean, rel=1e-6)
    assert of[f"{region}_hue_std"] == pytest.approx(stats.circstd(hue, high=90, low=-270), rel=1e-6)
    # Fisher (1993), equations 2.29 and 2.30, written with moments about the mean direction.
    about, length = np.exp(1j * np.radians(hue - mean)), 1 - stats.circvar(np.radians(hue))
    assert of[f"{region}_hue_skewness"] == pytest.approx((about**2).mean().imag / (1 - length) ** 1.5, rel=1e-4)
    kurtosis = ((about**2).mean().real - length**4) / (1 - length) ** 2
    assert of[f"{region}_hue_kurtosis"] == pytest.approx(kurtosis, rel=1e-4)


@pytest.mark.parametrize("levels", [2, 5, 256])
@pytest.mark.parametrize("far", [False, True])
def test_percentiles_are_exact(levels, far):
    """Not to the width of a bin: with many pixels of a value, few, and with one far off that widens every bin."""
    rng = np.random.default_rng(levels)
    cell = irregular_cell(3)
    rgb = (100 + rng.integers(0, levels, cell.rgb.shape) * 20 // levels).astype(np.uint8)
    if far:
        rgb[tuple(np.argwhere(cell.nucleus)[0])], rgb[tuple(np.argwhere(cell.cytoplasm)[0])] = (255, 0, 0), (0, 0, 0)
    percentiles = (0, 1, 50, 99, 100)
    of = measured(Colour(percentiles), type(cell)(rgb, cell.mask, cell.nucleus))
    for region, mask in (("cell", cell.mask), ("nucleus", cell.nucleus), ("cytoplasm", cell.cytoplasm)):
        expected = planes(rgb[mask])
        for channel in CHANNELS:
            for percent in percentiles:
                ours = of[f"{region}_{channel.name}_percentile_{percent}"]
                assert ours == np.float32(np.percentile(expected[channel.name], percent)), (channel.name, percent)


def test_contrast():
    cell = irregular_cell(6)
    of = measured(Colour(), cell)
    inner, outer = (color.rgb2lab(cell.rgb[mask]).mean(axis=0) for mask in (cell.nucleus, cell.cytoplasm))
    ours = [of[f"contrast_lab_{channel}"] for channel in "lab"]
    assert_allclose(ours, inner - outer, rtol=1e-4)
    assert of["contrast_delta_e"] == pytest.approx(color.deltaE_cie76(inner, outer), rel=1e-5)
    inner, outer = (giemsa(cell.rgb[mask]).mean(axis=0) for mask in (cell.nucleus, cell.cytoplasm))
    assert of["contrast_azure"] == pytest.approx(inner[0] - outer[0], rel=1e-5)
    assert of["contrast_eosin_y"] == pytest.approx(inner[1] - outer[1], rel=1e-5)
