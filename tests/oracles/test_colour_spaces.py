"""Colour against scikit-image's conversions and SciPy's statistics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from skimage import color

from extractors.colour import CHANNELS, STAINS, Colour, to_hue, to_lab, to_saturation, to_stains
from tests.extractors.conftest import irregular_cell, measured


@pytest.fixture(scope="module")
def pixels():
    """20,000 colours of any kind, with every grey, as uint8 (3, n)."""
    rng = np.random.default_rng(0)
    greys = np.repeat(np.arange(256), 3).reshape(-1, 3)
    return np.concatenate([rng.integers(0, 256, (20_000, 3)), rng.integers(0, 9, (500, 3)), greys]).astype(np.uint8).T


def test_lab(pixels):
    # scikit-image rounds the two constants of the dark end, 0.008856 and 7.787, which CIE gives as fractions.
    assert_allclose(to_lab(pixels), color.rgb2lab(pixels.T).T, atol=3e-4)
    light = pixels.min(axis=0) > 40
    assert_allclose(to_lab(pixels)[:, light], color.rgb2lab(pixels.T).T[:, light], atol=1e-9)


def test_hue_and_saturation(pixels):
    hue, saturation, _ = color.rgb2hsv(pixels.T).T
    grey = pixels.min(axis=0) == pixels.max(axis=0)
    assert np.isnan(to_hue(pixels)[grey]).all()
    assert_allclose(to_hue(pixels)[~grey], 360 * hue[~grey], atol=1e-9)
    assert_allclose(to_saturation(pixels), saturation, atol=1e-12)


def test_stains(pixels):
    assert_allclose(to_stains(pixels), color.rgb2hed(pixels.T).T, atol=1e-12)


@pytest.mark.parametrize("region", ["cell", "nucleus", "cytoplasm"])
def test_statistics(region):
    cell = irregular_cell(6)
    of = measured(Colour(), cell)
    pixels = cell.rgb[{"cell": cell.mask, "nucleus": cell.nucleus, "cytoplasm": cell.cytoplasm}[region]]
    lab, hsv, hed = color.rgb2lab(pixels), color.rgb2hsv(pixels), color.rgb2hed(pixels)
    planes = dict(zip(CHANNELS, [*pixels.T.astype(float), hsv[:, 1], 255 * hsv[:, 2], *lab.T], strict=True))
    for channel, plane in planes.items():
        expected = {
            "mean": plane.mean(),
            "std": plane.std(),
            "skewness": stats.skew(plane),
            "kurtosis": stats.kurtosis(plane),
            **{f"percentile_{percent}": np.percentile(plane, percent) for percent in (5, 25, 50, 75, 95)},
        }
        for statistic, value in expected.items():
            ours = of[f"{region}_{channel}_{statistic}"]
            assert ours == pytest.approx(value, rel=1e-4, abs=1e-4), (channel, statistic)
    for stain, plane in zip(STAINS, hed.T, strict=True):
        assert of[f"{region}_{stain}_mean"] == pytest.approx(plane.mean(), rel=1e-6)
        assert of[f"{region}_{stain}_std"] == pytest.approx(plane.std(), rel=1e-6)
    hue = hsv[hsv[:, 1] > 0, 0] * 360
    assert of[f"{region}_hue_mean"] == pytest.approx(stats.circmean(hue, high=90, low=-270), rel=1e-6)
    assert of[f"{region}_hue_std"] == pytest.approx(stats.circstd(hue, high=90, low=-270), rel=1e-6)


def test_contrast():
    cell = irregular_cell(6)
    of = measured(Colour(), cell)
    inner, outer = (color.rgb2lab(cell.rgb[mask]).mean(axis=0) for mask in (cell.nucleus, cell.cytoplasm))
    ours = [of[f"contrast_lab_{channel}"] for channel in "lab"]
    assert_allclose(ours, inner - outer, rtol=1e-4)
    assert of["contrast_delta_e"] == pytest.approx(color.deltaE_cie76(inner, outer), rel=1e-5)
