"""The loops along a region's border, compiled by numba.

Indices are not checked inside compiled code, so each function says what its caller must have made sure of.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.numba_kernels import compiled


@compiled
def trace(
    padded: NDArray[np.uint8], runs: NDArray[np.int64], sides: int, centre_y: float, centre_x: float
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]:
    """Walk along all borders between region and outside, the region at the right hand, along the sides of pixels.

    Pixels that touch by a corner hang together, and so outside does not.

    Parameters
    ----------
    padded, runs : as for and from ``_region_kernels.find_runs``.
    sides : how many sides of pixels part region and outside.
    centre_y, centre_x : where ``radii`` are seen from.

    Returns
    -------
    turns : uint8 (sides), border after border, the turn at the end of each side: 0 left, 1 none, 2 right.
    borders : int64 (k, 3), the first side, the side after the last, and the area inside; less than 0 for a hole.
    radii : float64 (m), distance from the centre of each pixel of the region that has a side on any border.
    """
    turns = np.empty(sides, np.uint8)
    borders = np.empty((len(runs), 3), np.int64)
    radii = np.empty(sides)
    seen = np.zeros(padded.shape, np.uint8)  # 1: the pixel is measured; 2: its left side is walked
    step_y, step_x = (0, 1, 0, -1), (1, 0, -1, 0)  # right, down, left, up
    # Of the pixels round a corner, the one ahead at the left and at the right; the one at the right of a side is the
    # same as seen from where the side starts.
    left_y, left_x = (-1, 0, 0, -1), (0, 0, -1, -1)
    right_y, right_x = (0, 0, -1, -1), (0, -1, -1, 0)
    side, border, measured = 0, 0, 0
    for k in range(len(runs)):
        start_y, start_x = runs[k, 0] + 1, runs[k, 1] + 1
        if seen[start_y, start_x] & 2:
            continue
        borders[border, 0] = side
        area = 0
        y, x, ahead = start_y + 1, start_x, 3  # up along the left side
        while True:
            pixel_y, pixel_x = y + right_y[ahead], x + right_x[ahead]
            if not seen[pixel_y, pixel_x] & 1:
                seen[pixel_y, pixel_x] |= 1
                radii[measured] = math.hypot(pixel_y - 1 - centre_y, pixel_x - 1 - centre_x)
                measured += 1
            if ahead == 3:
                if seen[pixel_y, pixel_x] & 2:
                    break
                seen[pixel_y, pixel_x] |= 2
            area += x * step_y[ahead]
            y, x = y + step_y[ahead], x + step_x[ahead]
            turn = 2
            if padded[y + left_y[ahead], x + left_x[ahead]]:
                turn = 0
            elif padded[y + right_y[ahead], x + right_x[ahead]]:
                turn = 1
            turns[side] = turn
            side += 1
            ahead = (ahead + turn - 1) % 4
        borders[border, 1], borders[border, 2] = side, area
        border += 1
    return turns, borders[:border].copy(), radii[:measured].copy()


@compiled
def first_rotation(turns: NDArray[np.uint8]) -> int:
    """Where a circular sequence must be cut to come first in order of all its cuts.

    Source: Shiloach (1981), J. Algorithms 2(2):107-121.
    """
    number = len(turns)
    i, j, same = 0, 1, 0
    while i < number and j < number and same < number:
        a, b = turns[(i + same) % number], turns[(j + same) % number]
        if a == b:
            same += 1
            continue
        if a > b:
            i += same + 1
        else:
            j += same + 1
        if i == j:
            j += 1
        same = 0
    return min(i, j)


@compiled
def lay_out(turns: NDArray[np.uint8], passes: int, samples: int) -> NDArray[np.float64]:
    """The closed curve that these turns make, as points at equal distances along it.

    Parameters
    ----------
    turns : as from ``trace``, of one border.
    passes : times that the middles of the sides are averaged with weights 1 2 1 before distances are taken: along the
        raw steps a slanting border would be up to 8% longer than an upright one.
    samples : number of points.

    Returns
    -------
    float64 (samples, 2) : x and y in pixels, from an arbitrary point.
    """
    number = len(turns)
    x, y = np.empty(number + 1), np.empty(number + 1)
    corner_x, corner_y, ahead_x, ahead_y = 0.0, 0.0, 1.0, 0.0
    for k in range(number):
        x[k], y[k] = corner_x + ahead_x / 2, corner_y + ahead_y / 2
        corner_x, corner_y = corner_x + ahead_x, corner_y + ahead_y
        if turns[k] != 1:
            way = turns[k] - 1.0
            ahead_x, ahead_y = -way * ahead_y, way * ahead_x
    for points in (x, y):
        for _ in range(passes):
            before = points[number - 1]
            points[number] = points[0]
            for k in range(number):
                here = points[k]
                points[k] = (before + 2 * here + points[k + 1]) / 4
                before = here
        points[number] = points[0]
    distance = np.zeros(number + 1)
    for k in range(number):
        distance[k + 1] = distance[k] + math.hypot(x[k + 1] - x[k], y[k + 1] - y[k])
    curve = np.empty((samples, 2))
    k = 0
    for sample in range(samples):
        at = distance[number] * sample / samples
        while k < number - 1 and distance[k + 1] <= at:
            k += 1
        step = distance[k + 1] - distance[k]
        share = (at - distance[k]) / step if step > 0 else 0.0
        curve[sample, 0] = x[k] + share * (x[k + 1] - x[k])
        curve[sample, 1] = y[k] + share * (y[k + 1] - y[k])
    return curve


@compiled
def compare_with_ellipse(curve: NDArray[np.float64]) -> tuple[float, float]:
    """The area inside a closed curve, and how far the curve is from the ellipse of the same second moments.

    Parameters
    ----------
    curve : float64 (n, 2), x and y of points at equal distances along it, the inside at the right hand.

    Returns
    -------
    area : in pixels squared.
    deviation : root mean square along the curve of its distance from the ellipse, as seen from the ellipse's centre
        and as a fraction of the ellipse's radius in the same direction; NaN for a curve without inside.
    """
    number = len(curve)
    area, x_sum, y_sum, xx, xy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(number):  # Green's theorem, triangle by triangle
        x, y, after_x, after_y = curve[k - 1, 0], curve[k - 1, 1], curve[k, 0], curve[k, 1]
        double = x * after_y - after_x * y
        area += double / 2
        x_sum += double * (x + after_x) / 6
        y_sum += double * (y + after_y) / 6
        xx += double * (x * x + x * after_x + after_x * after_x) / 12
        xy += double * (x * after_y + 2 * x * y + 2 * after_x * after_y + after_x * y) / 24
        yy += double * (y * y + y * after_y + after_y * after_y) / 12
    if area <= 0:
        return 0.0, math.nan
    x_mean, y_mean = x_sum / area, y_sum / area
    xx, xy, yy = xx / area - x_mean**2, xy / area - x_mean * y_mean, yy / area - y_mean**2
    # Of an ellipse with this covariance S the points p have p' S^-1 p = 4.
    determinant = 4 * (xx * yy - xy**2)
    if determinant <= 0:
        return area, math.nan
    total = 0.0
    for k in range(number):
        x, y = curve[k, 0] - x_mean, curve[k, 1] - y_mean
        total += (math.sqrt((yy * x * x - 2 * xy * x * y + xx * y * y) / determinant) - 1) ** 2
    return area, math.sqrt(total / number)


@compiled
def bend(
    curve: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How a closed curve bends, seen through filters that smooth it and take its derivatives.

    Parameters
    ----------
    curve : float64 (n, 2), x and y of points along it.
    first, second : float64 (m), the filters' weights from the middle on, m up to n / 2; the first derivative's count
        the other way round on the other side.

    Returns
    -------
    curvature : float64 (n), in units of that of a circle of the same length.
    shares : float64 (n), share of the length at each point.
    """
    number, reach = len(curve), len(first)
    # The curve goes round on either side, and each step is taken all along it: so it compiles to vector instructions.
    x, y = np.empty(number + 2 * reach), np.empty(number + 2 * reach)
    for k in range(number + 2 * reach):
        x[k], y[k] = curve[(k - reach) % number, 0], curve[(k - reach) % number, 1]
    along_x, along_y = np.zeros(number), np.zeros(number)
    across_x, across_y = second[0] * x[reach : reach + number], second[0] * y[reach : reach + number]
    for m in range(1, reach):
        after_x, after_y = x[reach + m :][:number], y[reach + m :][:number]
        before_x, before_y = x[reach - m :][:number], y[reach - m :][:number]
        for k in range(number):
            along_x[k] += first[m] * (after_x[k] - before_x[k])
            along_y[k] += first[m] * (after_y[k] - before_y[k])
            across_x[k] += second[m] * (after_x[k] + before_x[k])
            across_y[k] += second[m] * (after_y[k] + before_y[k])
    curvature, shares = np.empty(number), np.empty(number)
    total = 0.0
    for k in range(number):
        curvature[k] = along_x[k] * across_y[k] - along_y[k] * across_x[k]
        shares[k] = math.hypot(along_x[k], along_y[k])
        total += shares[k]
    # Smoothing slows the curve down where it turns sharply, to half its speed at a corner of 60 degrees. It
    # nearly stands still at the end of a thread of pixels, or of a slit, which must not count as endless curvature.
    slowest = total / number / 2
    for k in range(number):
        curvature[k] *= total / (2 * math.pi) / max(shares[k], slowest) ** 3
        shares[k] /= total
    return curvature, shares


@compiled
def find_pockets(
    curve: NDArray[np.float64], corners: NDArray[np.int64], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How deep and how wide a closed curve runs inside each side of its convex hull.

    Parameters
    ----------
    curve : float64 (n, 2), x and y of points along it, the inside at the right hand when y points down.
    corners : int64 (k), in rising order, which of the points are corners of the hull; k from 1.
    least : depth from which a pocket is one, above 0.

    Returns
    -------
    depth : float64 (m), the largest distance of the curve from the side of the hull over each pocket.
    width : float64 (m), straight across, where the walls left and right of the deepest point first come up to half its
        depth.
    """
    number = len(curve)
    depth, width = np.empty(len(corners)), np.empty(len(corners))
    distance = np.zeros(number + 1)
    found = 0
    for k in range(len(corners)):
        first = corners[k]
        last = corners[k + 1] if k + 1 < len(corners) else corners[0] + number
        x, y = curve[first, 0], curve[first, 1]
        chord_x, chord_y = curve[last % number, 0] - x, curve[last % number, 1] - y
        chord = math.sqrt(chord_x * chord_x + chord_y * chord_y)
        if last - first < 2 or chord == 0:
            continue
        deepest = 0
        for m in range(last - first + 1):
            at = (first + m) % number
            distance[m] = (chord_x * (curve[at, 1] - y) - chord_y * (curve[at, 0] - x)) / chord
            if distance[m] > distance[deepest]:
                deepest = m
        if distance[deepest] < least:
            continue
        half = distance[deepest] / 2
        wall_x, wall_y = 0.0, 0.0
        for way in (-1, 1):
            m = deepest
            while distance[m] > half:
                m += way
            share = (half - distance[m]) / (distance[m - way] - distance[m])
            here, inner = (first + m) % number, (first + m - way) % number
            wall_x += way * (curve[here, 0] + share * (curve[inner, 0] - curve[here, 0]))
            wall_y += way * (curve[here, 1] + share * (curve[inner, 1] - curve[here, 1]))
        depth[found], width[found] = distance[deepest], math.sqrt(wall_x * wall_x + wall_y * wall_y)
        found += 1
    return depth[:found].copy(), width[:found].copy()


@compiled
def count_reversals(curvature: NDArray[np.float64], shares: NDArray[np.float64], least: float) -> int:
    """How often the direction of a closed curve goes back by ``least`` radians or more, and forth again: twice a bay.

    ``curvature`` and ``shares`` as ``bend`` gives them. Going back and forth by less counts as straight on.
    """
    number = len(curvature)
    direction, farthest, angle = 1, 0.0, 0.0
    reversals = 0
    for k in range(2 * number):  # the first time round only finds out in which direction the second one starts
        angle += 2 * math.pi * curvature[k % number] * shares[k % number]
        if direction * (angle - farthest) > 0:
            farthest = angle
        elif direction * (farthest - angle) >= least:
            direction, farthest = -direction, angle
            reversals += k >= number
    return reversals
