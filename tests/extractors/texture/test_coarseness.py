"""Coarseness: of stripes, squares and spots whose size is known."""

import cv2
import numpy as np
import pytest

from extractors.numba_kernels import count_values
from extractors.texture._coarseness import (
    band_energy,
    correlation_length,
    count_directions,
    tamura,
    tamura_contrast,
    tamura_directionality,
)
from fusion.synthetic.rendering import correlation_length as painted_correlation_length

COARSENESS, CONTRAST, DIRECTIONALITY = range(3)


def mottled(sigma, seed=0):
    """Noise through a Gaussian, of the same contrast whatever its width."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(240, 240)), (0, 0), sigma)
    return np.rint(128 + 30 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def whole(grey):
    return np.ones(grey.shape, np.uint8)


def test_wider_mottles_are_coarser():
    found = [tamura(mottled(sigma), whole(mottled(sigma)), 1)[0, COARSENESS] for sigma in (1, 2, 4, 8)]
    assert found == sorted(found)
    assert found[-1] > 1.8 * found[0]


def test_contrast_does_not_matter_to_coarseness():
    grey = mottled(3)
    expected = tamura(grey, whole(grey), 1)[0, COARSENESS]
    fainter = (64 + grey.astype(int) // 2).astype(np.uint8)
    assert tamura(fainter, whole(grey), 1)[0, COARSENESS] == pytest.approx(expected, rel=0.02)


def test_the_side_of_two_by_two_and_its_neighbour_by_hand():
    """Of a bright column only the squares of 2 beside it, and over its end, can be told from their neighbours best."""
    grey = np.full((40, 40), 100, np.uint8)
    grey[20, 20] = 255
    depth = np.zeros((40, 40), np.uint8)
    depth[19:22, 19:22] = 1
    # Four corners lie in these nine pixels, all of them at the bright one: sides of 2 hold a larger share of it.
    assert tamura(grey, depth, 1)[0, COARSENESS] == 2


def test_tamuras_contrast_by_hand():
    # Two values 60 apart in equal number: deviation 30, kurtosis 1.
    histogram = np.zeros(256)
    histogram[[90, 150]] = 500
    assert tamura_contrast(histogram) == pytest.approx(30)
    # One pixel in ten 100 brighter: deviation 30, kurtosis 0.1 (90**4) + 0.9 (10**4) over 30**4.
    histogram = np.zeros(256)
    histogram[[50, 150]] = 90, 10
    assert tamura_contrast(histogram) == pytest.approx(30 / ((0.1 * 90**4 + 0.9 * 10**4) / 30**4) ** 0.25)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120, 135, 160])
def test_stripes_have_one_direction(degrees):
    y, x = np.mgrid[:90, :90]
    turn = np.deg2rad(degrees)
    stripes = (110 + 60 * np.sin((x * np.cos(turn) + y * np.sin(turn)) / 3)).astype(np.uint8)
    weights = count_directions(stripes, framed(stripes), 1, limits())[0]
    assert abs((np.argmax(weights) * 11.25 - degrees + 90) % 180 - 90) <= 11.25 / 2 + 1
    assert tamura_directionality(weights) > 0.95


def test_noise_has_no_direction():
    noise = np.random.default_rng(0).integers(0, 256, (120, 120), np.uint8)
    assert tamura(noise, whole(noise), 1)[0, DIRECTIONALITY] < 0.1
    assert tamura_directionality(np.ones(16)) == 0
    assert tamura_directionality(np.eye(16)[5]) == 1
    assert np.isnan(tamura_directionality(np.zeros(16)))


def framed(grey):
    fits = whole(grey)
    fits[0], fits[-1], fits[:, 0], fits[:, -1] = 0, 0, 0, 0
    return fits


def limits():
    return np.tan((np.arange(8) + 0.5) * np.pi / 16).astype(np.float32)


def test_the_band_of_a_wave_is_that_of_its_width():
    """A Gaussian of s passes exp(-(s w)**2 / 2) of a wave of w radians a pixel, so energies are known."""
    x = np.arange(800)  # so large that the frame, beyond which grey is the mean, matters little
    for wavelength in (4, 8, 16, 32):
        w = 2 * np.pi / wavelength
        grey = np.rint(128 + 100 * np.sin(w * x + 0.5) * np.ones((800, 1))).astype(np.uint8)
        passed = np.array([1, *(np.exp(-((s * w) ** 2) / 2) for s in (1, 2, 4))])
        expected = 100**2 / 2 * np.diff(passed) ** 2
        assert band_energy(grey, whole(grey), 1)[0] == pytest.approx(expected, rel=0.05, abs=5)


@pytest.mark.parametrize("sigma", [2, 3, 4.5])
def test_the_correlation_length_of_blurred_noise_is_known(sigma):
    """The autocorrelation of noise through a Gaussian of s is exp(-r**2 / 4 s**2): 1/e at 2 s."""
    lengths = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(size=(300, 300))
        smooth = cv2.GaussianBlur(noise, (0, 0), sigma)[30:-30, 30:-30]
        values = np.rint(smooth / smooth.std() * 60).astype(np.int16)
        lengths.append(correlation_length(values, np.ones(values.shape, bool)))
    assert np.mean(lengths) == pytest.approx(2 * sigma, rel=0.05)


def test_the_correlation_length_leaves_out_the_noise_of_single_pixels():
    rng = np.random.default_rng(3)
    smooth = cv2.GaussianBlur(rng.normal(size=(200, 200)), (0, 0), 3)
    values = smooth / smooth.std() * 60
    y, x = np.mgrid[:200, :200] - 100
    disc = np.hypot(y, 1.2 * x) < 95
    clean = correlation_length(np.rint(values).astype(np.int16), disc)
    noisy = correlation_length(np.rint(values + rng.normal(size=values.shape) * 30).astype(np.int16), disc)
    assert clean == pytest.approx(painted_correlation_length(values.astype(np.float32), disc), rel=0.02)
    assert noisy == pytest.approx(clean, rel=0.03)
    # That of the truth does not: a quarter of the variance is gone by the first pixel.
    assert (
        painted_correlation_length((values + rng.normal(size=values.shape) * 30).astype(np.float32), disc)
        < 0.95 * clean
    )


def test_holes_and_ragged_edges_are_no_pairs():
    """Whatever lies outside of the mask, and however the mask is torn, only pairs inside count."""
    rng = np.random.default_rng(4)
    values = np.rint(cv2.GaussianBlur(rng.normal(size=(120, 130)), (0, 0), 2.5) * 900).astype(np.int16)
    torn = rng.random(values.shape) < 0.7
    expected = correlation_length(np.where(torn, values, np.int16(0)), torn)
    assert correlation_length(np.where(torn, values, np.int16(700)), torn) == expected
    assert expected == pytest.approx(correlation_length(values, np.ones(values.shape, bool)), rel=0.1)


@pytest.mark.parametrize("values", [np.zeros((30, 30)), np.indices((60, 60)).sum(axis=0) % 2 * 50, np.ones((1, 1))])
def test_without_a_texture_there_is_no_correlation_length(values):
    assert np.isnan(correlation_length(values.astype(np.int16), np.ones(values.shape, bool)))


def test_values_are_counted_in_both_regions():
    values = np.uint8([[3, 3, 1], [0, 3, 2], [1, 1, 3]])
    depth = np.uint8([[2, 1, 0], [2, 2, 1], [0, 1, 2]])
    np.testing.assert_array_equal(count_values(values, depth, 2, 4), [[1, 1, 1, 4], [1, 0, 0, 3]])
