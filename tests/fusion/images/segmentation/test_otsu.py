"""Thresholds against scikit-image and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.filters import threshold_multiotsu, threshold_otsu

from fusion.images.segmentation._otsu import (
    counts,
    median,
    median_level,
    percentile,
    quantiles,
    three_classes,
    to_bytes,
    two_classes,
)

images = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20))


def mixture(*classes):
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.normal(mean, spread, count) for mean, spread, count in classes])
    return drawn.clip(0, 255).astype(np.uint8).reshape(1, -1)


@given(tones=images)
def test_two_classes_are_split_as_scikit_image_splits_them(tones):
    if tones.min() == tones.max():
        assert two_classes(counts(tones))[1] == 0
        return
    split, separability = two_classes(counts(tones))
    theirs = threshold_otsu(tones)

    def between(at):
        dark, light = tones[tones <= at], tones[tones > at]
        return dark.size * light.size * (dark.mean() - light.mean()) ** 2 / tones.size**2

    assert between(split) == pytest.approx(between(theirs))  # of several best splits either may be named
    assert separability == pytest.approx(between(theirs) / tones.var())


def test_separability_of_known_distributions():
    flat = np.ones(1000)
    assert two_classes(flat)[1] == pytest.approx(0.75, abs=1e-3)
    levels = np.arange(2001) - 1000
    assert two_classes(np.exp(-0.5 * (levels / 200) ** 2))[1] == pytest.approx(2 / np.pi, abs=1e-3)


def test_three_classes_are_split_where_scikit_image_splits_them():
    tones = mixture((50, 10, 900), (130, 15, 1500), (220, 8, 3000))
    # Our histogram has bins four tones wide.
    assert three_classes(tones) == pytest.approx(tuple(threshold_multiotsu(tones, 3)), abs=4)


def test_three_classes_of_fewer_tones_leave_classes_empty():
    assert three_classes(np.zeros((4, 4), np.uint8))[0] <= three_classes(np.zeros((4, 4), np.uint8))[1]
    low, high = three_classes(np.array([[10, 10, 200, 200]], np.uint8))
    assert 10 <= high < 200
    assert low <= high


@given(tones=images)
def test_quantiles_are_the_lower_ones_of_numpy(tones):
    assert quantiles(tones, 0.5)[0] == np.percentile(tones, 50, method="inverted_cdf")
    assert median_level(counts(tones)) == np.percentile(tones, 50, method="inverted_cdf")


def test_quantiles_of_a_part_of_a_colour_image():
    rgb = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    where = np.zeros((30, 30), np.uint8)
    where[5:20, 3:9] = 1
    expected = np.percentile(rgb[where > 0], 2, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(quantiles(rgb, 0.02, where), expected)


def test_bytes_span_the_given_range():
    np.testing.assert_array_equal(to_bytes(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), 0, 1), [0, 0, 127, 255, 255])


@pytest.mark.parametrize("n", [1, 2, 3, 10, 333, 5000])
def test_percentiles_and_medians_are_numpys(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        values, tones = rng.random(n, np.float32), rng.integers(0, 256, n).astype(np.uint8)
        assert median(values) == np.median(values)
        assert median(tones) == np.median(tones)
        for share in (0.75, 0.8, 0.95):
            # NumPy before 2.4 interpolates in float64.
            assert percentile(values, share) == pytest.approx(float(np.percentile(values, 100 * share)), rel=1e-6)
