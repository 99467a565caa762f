"""The loops over a region's pixels, compiled by numba.

Only ``find_runs`` and ``count_mixed`` look at every pixel. All else goes by runs, the pieces of rows inside the region,
so that its cost grows with the region's width and not with its area. Indices are not checked inside compiled code, so
each function says what its caller must have made sure of.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.numba_kernels import compiled


@compiled
def find_runs(padded: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pieces of rows inside a region, from above and from the left.

    Parameters
    ----------
    padded : uint8 (h + 2, w + 2), 1 in the region, 0 outside and all round.

    Returns
    -------
    runs : int64 (k, 3), row, first column and the column after the last; without the padding, so from 0.
    starts : int64 (h + 1), the first run of each row, and k.
    """
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    runs = np.empty((height * (width // 2 + 1), 3), np.int64)
    starts = np.zeros(height + 1, np.int64)
    number = 0
    for y in range(height):
        row = padded[y + 1]
        for x in range(width + 1):
            if row[x] != row[x + 1]:
                if row[x]:
                    runs[number, 2] = x
                    number += 1
                else:
                    runs[number, 0], runs[number, 1] = y, x
        starts[y + 1] = number
    return runs[:number].copy(), starts


@compiled
def count_shared(runs: NDArray[np.int64], starts: NDArray[np.int64], down: int, right: int, turned: bool) -> int:
    """How many pixels of a region have another of its pixels at a certain place.

    Parameters
    ----------
    runs, starts : as ``find_runs`` gives them.
    down, right : of the pixel at (y, x), the other is at (y + down, x + right).
    turned : then it is at (down - y, right - x) instead.
    """
    shared = 0
    for row in range(len(starts) - 1):
        other = down - row if turned else row + down
        if other < 0 or other >= len(starts) - 1:
            continue
        for k in range(starts[row], starts[row + 1]):
            first, end = runs[k, 1] + right, runs[k, 2] + right
            if turned:
                first, end = right + 1 - runs[k, 2], right + 1 - runs[k, 1]
            for m in range(starts[other], starts[other + 1]):
                shared += max(0, min(end, runs[m, 2]) - max(first, runs[m, 1]))
    return shared


@compiled
def measure_runs(
    runs: NDArray[np.int64], degree: int
) -> tuple[tuple[int, int, int], tuple[float, float, float], NDArray[np.float64]]:
    """The centre of a region and its moments.

    Parameters
    ----------
    runs : as ``find_runs`` gives them, of a region that is not empty.
    degree : the highest degree of the moments.

    Returns
    -------
    sums : the number of pixels, the sum of their rows and the sum of their columns.
    circle : row and column of the centroid, and the distance from it to the farthest pixel plus a half.
    moments : float64 (degree + 1, degree + 1), at [q, p] the sum of y**q x**p over the pixels, seen from the centroid
        and in units of the circle's radius; 0 where q + p is beyond ``degree``.
    """
    number, width = len(runs), 0
    area, sum_x, sum_y = 0, 0, 0
    for k in range(number):
        first, end = runs[k, 1], runs[k, 2]
        area += end - first
        sum_x += (end - first) * (first + end - 1) // 2
        sum_y += (end - first) * runs[k, 0]
        width = max(width, end)
    centre_y, centre_x = sum_y / area, sum_x / area

    farthest = 0.0
    for k in range(number):
        aside = max(centre_x - runs[k, 1], runs[k, 2] - 1 - centre_x)
        farthest = max(farthest, (runs[k, 0] - centre_y) ** 2 + aside**2)
    radius = math.sqrt(farthest) + 0.5

    # Sums of powers up to each column, so that a run is a difference of two.
    powers = np.zeros((width + 1, degree + 1))
    for column in range(width):
        power = 1.0
        for p in range(degree + 1):
            powers[column + 1, p] = powers[column, p] + power
            power *= (column - centre_x) / radius
    moments = np.zeros((degree + 1, degree + 1))
    for k in range(number):
        first, end = runs[k, 1], runs[k, 2]
        power = 1.0
        for q in range(degree + 1):
            for p in range(degree + 1 - q):
                moments[q, p] += power * (powers[end, p] - powers[first, p])
            power *= (runs[k, 0] - centre_y) / radius
    return (area, sum_y, sum_x), (centre_y, centre_x, radius), moments


@compiled
def measure_hull(
    runs: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int, int, int, int]]:
    """The convex hull of the middles of a region's pixels, and its sizes.

    Parameters
    ----------
    runs, starts : as ``find_runs`` gives them, of a region that is not empty.

    Returns
    -------
    length, width : float64 (k), as measured along and across each side of the polygon, 0 for a single pixel.
    sizes : twice the polygon's area; how many middles of pixels lie on its sides; the square of the largest distance
        between two corners; the ranges of x - y and of x + y.
    """
    height = len(starts) - 1
    hull = np.empty((2 * height + 1, 2), np.int64)
    number = 0
    for way in (1, -1):  # down along first pixels, then up along last ones, keeping corners that bend to one side
        least = number + 1
        for step in range(height):
            row = step if way == 1 else height - 1 - step
            if starts[row] == starts[row + 1]:  # between two parts
                continue
            x = runs[starts[row], 1] if way == 1 else runs[starts[row + 1] - 1, 2] - 1
            while number > least:
                back_x, back_y = x - hull[number - 1, 0], row - hull[number - 1, 1]
                side_x = hull[number - 1, 0] - hull[number - 2, 0]
                side_y = hull[number - 1, 1] - hull[number - 2, 1]
                if side_x * back_y - side_y * back_x < 0:
                    break
                number -= 1
            hull[number, 0], hull[number, 1] = x, row
            number += 1
    # The last row, and the first, are ends of both chains, and one corner where they hold a single pixel.
    kept = 0
    for k in range(number):
        after = (k + 1) % number
        if hull[k, 0] != hull[after, 0] or hull[k, 1] != hull[after, 1] or number == 1:
            hull[kept, 0], hull[kept, 1] = hull[k, 0], hull[k, 1]
            kept += 1
    number = max(kept, 1)
    length, width = np.zeros(number), np.zeros(number)
    double_area, on_border, farthest = 0, 0, 0
    falling, rising = 0, 0
    for k in range(number):
        x, y, after = hull[k, 0], hull[k, 1], (k + 1) % number
        step_x, step_y = hull[after, 0] - x, hull[after, 1] - y
        double_area += x * step_y - y * step_x
        a, b = abs(step_x), abs(step_y)
        while b:
            a, b = b, a % b
        on_border += a
        least_along, most_along, least_across, most_across = 0, 0, 0, 0
        for m in range(number):
            to_x, to_y = hull[m, 0] - x, hull[m, 1] - y
            farthest = max(farthest, to_x * to_x + to_y * to_y)
            falling, rising = max(falling, to_x - to_y), max(rising, to_x + to_y)
            along, across = to_x * step_x + to_y * step_y, to_y * step_x - to_x * step_y
            least_along, most_along = min(least_along, along), max(most_along, along)
            least_across, most_across = min(least_across, across), max(most_across, across)
        if a:
            side = math.sqrt(step_x * step_x + step_y * step_y)
            length[k], width[k] = (most_along - least_along) / side, (most_across - least_across) / side
    return length, width, (abs(double_area), on_border, farthest, falling, rising)


@compiled
def count_mixed(field: NDArray[np.uint8], stride: int, levels: int) -> NDArray[np.int64]:
    """How many boxes hold both a 1 and a 2, for boxes that reach over 1, 2, 4, ... pixels, at every place in a field.

    Parameters
    ----------
    field : uint8 (n), rows of ``stride`` pixels one after the other; each row, and the field at both ends, has room
        for the largest box in which all is 2.

    Returns
    -------
    int64 (levels)
    """
    counts = np.zeros(levels, np.int64)
    held, moved = field.copy(), field.copy()
    size = len(field)
    for level in range(levels):
        step = 1 << max(level - 1, 0)  # a box of twice the reach is two, one beside the other
        # Not in place, and with indices that count from 0: so this compiles to vector instructions, 15 times as fast.
        size -= step * stride
        other = held[step * stride :]
        for k in range(size):
            moved[k] = held[k] | other[k]
        size -= step
        other = moved[step:]
        for k in range(size):
            held[k] = moved[k] | other[k]
        mixed = 0
        for k in range(size):
            mixed += held[k] == 3
        counts[level] = mixed
    return counts
