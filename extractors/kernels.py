"""The loops over pixels that the handcrafted families share, compiled by numba.

Nothing here knows a feature: these functions count and add, and the families give the counts their meaning. Indices
are not checked inside compiled code, so each function says what its caller must have made sure of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Loop = TypeVar("Loop", bound=Callable)


def compiled(loop: Loop) -> Loop:
    """Compile on the first call and keep the machine code on disk; in memory only where no folder can be written."""
    try:
        return cast(Loop, njit(cache=True, nogil=True)(loop))
    except RuntimeError:  # numba refuses to cache in a read-only installation without a home
        return cast(Loop, njit(nogil=True)(loop))


@compiled
def count_pairs(
    levels: NDArray[np.uint8], inside: NDArray[np.bool_], offsets: NDArray[np.int64], number: int
) -> NDArray[np.int64]:
    """Grey-level co-occurrence counts of pixel pairs that have both ends inside the mask.

    Parameters
    ----------
    levels : uint8 (H, W), every value inside the mask below ``number``.
    inside : bool (H, W), the mask.
    offsets : int64 (k, 2), (rows, columns) from the first pixel of a pair to the second.
    number : the number of grey levels.

    Returns
    -------
    int64 (k, number, number) : symmetric, every pair counted in both orders.
    """
    height, width = levels.shape
    counts = np.zeros((len(offsets), number, number), np.int64)
    for k in range(len(offsets)):
        down, right = offsets[k, 0], offsets[k, 1]
        top, left = max(0, -down), max(0, -right)
        for y in range(top, top + height - abs(down)):
            for x in range(left, left + width - abs(right)):
                if inside[y, x] and inside[y + down, x + right]:
                    counts[k, levels[y, x], levels[y + down, x + right]] += 1
        counts[k] += counts[k].T.copy()
    return counts


@compiled
def add_along_diagonals(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distributions of i + j and of abs(i - j) under joint distributions of (i, j).

    Parameters
    ----------
    joint : float64 (k, n, n).

    Returns
    -------
    sums : float64 (k, 2 n - 1), of i + j with i and j counted from 0.
    differences : float64 (k, n).
    """
    matrices, number, _ = joint.shape
    sums = np.zeros((matrices, 2 * number - 1))
    differences = np.zeros((matrices, number))
    for k in range(matrices):
        for i in range(number):
            for j in range(number):
                sums[k, i + j] += joint[k, i, j]
                differences[k, abs(i - j)] += joint[k, i, j]
    return sums, differences


@compiled
def circle_patterns(
    grey: NDArray[np.float64], border: int, corners: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Uniform rotation-invariant local binary pattern of every pixel.

    A point on the circle is set where its grey value, interpolated from the four pixels around it, is not below the
    centre's. With two changes or fewer around the circle the pattern is the number of set points, else points + 1.
    Weights are whole numbers, so sums of them times 8-bit values are exact and ties are true ties.

    Parameters
    ----------
    grey : float64 (H + 2 border, W + 2 border), 8-bit values; ``border`` at least as large as any corner reaches.
    corners : int64 (points, 2), (row, column) of each point's upper left pixel, relative to the centre.
    weights : float64 (points, 4), whole numbers, the same sum for every point: upper left, upper right, lower left,
        lower right.

    Returns
    -------
    uint8 (H, W) : 0 .. points + 1.
    """
    height, width = grey.shape[0] - 2 * border, grey.shape[1] - 2 * border
    points = len(corners)
    unit = weights[0].sum()
    patterns = np.empty((height, width), np.uint8)
    # The innermost loop runs along a row and counts from 0, so that it compiles to vector instructions: four times as
    # fast as going round one pixel after the other.
    total, changes, last = np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros(width, np.int32)
    for y in range(height):
        centre = grey[y + border, border : border + width]
        total[:] = 0
        changes[:] = 0
        for point in range(points):
            row, column = y + border + corners[point, 0], border + corners[point, 1]
            upper_left, upper_right = grey[row, column : column + width], grey[row, column + 1 : column + 1 + width]
            row += 1
            lower_left, lower_right = grey[row, column : column + width], grey[row, column + 1 : column + 1 + width]
            a, b, c, d = weights[point]
            for x in range(width):
                value = a * upper_left[x] + b * upper_right[x] + c * lower_left[x] + d * lower_right[x]
                is_set = np.int32(value >= unit * centre[x])
                total[x] += is_set
                changes[x] += is_set ^ last[x]
                last[x] = is_set
            if point == 0:
                # The first point follows none. Round a closed circle the changes are even, so two or fewer without
                # the step from the last point to the first are two or fewer with it.
                changes[:] = 0
        for x in range(width):
            patterns[y, x] = total[x] if changes[x] <= 2 else points + 1
    return patterns


@compiled
def central_moments(values: NDArray) -> tuple[float, float, float, float]:
    """Mean and the second, third and fourth central moments of a non-empty vector, in double precision."""
    mean = 0.0
    for value in values:
        mean += value
    mean /= len(values)
    second, third, fourth = 0.0, 0.0, 0.0
    for value in values:
        deviation = value - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    return mean, second / len(values), third / len(values), fourth / len(values)
