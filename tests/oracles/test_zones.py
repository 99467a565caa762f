"""Zones against scikit-image's labels, runs against a count by hand and by brute force."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skimage.measure import label

from extractors.texture._runs_and_zones import count_runs, count_zones
from tests.builders.cells import irregular_cell

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))


@pytest.fixture(params=range(4))
def image(request):
    """Levels, and the depth of two regions one in the other: of noise, and of a cell."""
    rng = np.random.default_rng(request.param)
    if request.param < 2:
        levels = rng.integers(3, 6 + 10 * request.param, (40, 37), np.uint8)
        outer = rng.random(levels.shape) < 0.8
        return levels, outer.astype(np.uint8) + (outer & (rng.random(levels.shape) < 0.6))
    cell = irregular_cell(request.param)
    return cell.rgb[..., 1] // np.uint8(16), cell.mask.astype(np.uint8) + cell.nucleus


def test_zones_are_scikit_images_labels(image):
    levels, depth = image
    counts, size, first, pixels = count_zones(levels, depth, 2)
    for region in range(2):
        inside = depth > region
        labels = label(np.where(inside, levels.astype(int) + 1, 0), connectivity=2, background=0)
        places = [np.argwhere(labels == at) for at in range(1, labels.max() + 1)]
        expected = sorted((levels[tuple(place[0])], len(place)) for place in places)
        found = [
            (first + row, int(size[column]))
            for row, column in np.argwhere(counts[region] > 0)
            for _ in range(int(counts[region, row, column]))
        ]
        assert sorted(found) == expected
        assert pixels[region] == inside.sum()


def test_runs_are_those_of_brute_force(image):
    levels, depth = image
    counts, first, pixels = count_runs(levels, depth, 2)
    for region in range(2):
        code = np.where(depth > region, levels.astype(int), -1)
        for direction, (down, right) in enumerate(DIRECTIONS):
            expected = np.zeros_like(counts[region, direction])
            for y, x in np.argwhere(code >= 0):
                if value(code, y - down, x - right) == code[y, x]:
                    continue  # not the first of its run
                length = 1
                while value(code, y + length * down, x + length * right) == code[y, x]:
                    length += 1
                expected[code[y, x] - first, length - 1] += 1
            assert_array_equal(counts[region, direction], expected)
        assert pixels[region] == (code >= 0).sum()


def value(code, y, x):
    height, width = code.shape
    return code[y, x] if 0 <= y < height and 0 <= x < width else -1


def test_runs_of_an_image_by_hand():
    counts, first, _ = count_runs(np.uint8([[5, 5, 7], [5, 7, 7], [5, 5, 5]]), np.ones((3, 3), np.uint8), 1)
    east, south_east, south, south_west = counts[0]
    assert first == 5
    assert_array_equal(east, [[1, 1, 1], [0, 0, 0], [1, 1, 0]])
    assert_array_equal(south_east, [[4, 1, 0], [0, 0, 0], [3, 0, 0]])
    assert_array_equal(south, [[3, 0, 1], [0, 0, 0], [1, 1, 0]])
    assert_array_equal(south_west, [[4, 1, 0], [0, 0, 0], [1, 1, 0]])
