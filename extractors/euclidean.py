"""Exact distances between pixels: whole squares, so that nothing is decided by rounding when an image is turned.

OpenCV's exact transform takes three times as long, and most of what is asked is only whether something lies within a
small disc, which is told without distances.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.compute.compiled_loops import compiled


def square_within(radius: float) -> int:
    """The largest whole square of a distance up to ``radius``, both as float32.

    >>> square_within(1.5), square_within(5.0)
    (2, 25)
    """
    square = int(radius * radius) + 1
    while square and np.sqrt(np.float32(square)) > np.float32(radius):
        square -= 1
    return square


@compiled
def near(mask: NDArray[np.uint8], square: int) -> NDArray[np.bool_]:
    """bool (H, W): where some pixel of uint8 (H, W) ``mask`` that is not 0 lies within a squared distance.

    Nothing lies beyond the image.
    """
    height, width = mask.shape
    reach = int(np.sqrt(square))
    # How far up or down a pixel of the mask may lie in the column that is so many to the side.
    room = np.array([int(np.sqrt(square - aside * aside)) for aside in range(reach + 1)], np.uint16)
    away = np.empty((height, width), np.uint16)  # rows to the nearest in the same column
    far = np.uint16(reach + 1)
    for x in range(width):
        away[0, x] = 0 if mask[0, x] else far
    for y in range(1, height):
        for x in range(width):
            away[y, x] = 0 if mask[y, x] else min(away[y - 1, x] + 1, far)
    for y in range(height - 2, -1, -1):
        for x in range(width):
            away[y, x] = min(away[y, x], away[y + 1, x] + 1)
    found = np.zeros((height, width), np.bool_)
    for y in range(height):
        for aside in range(min(reach + 1, width)):
            most = room[aside]
            for x in range(width - aside):
                found[y, x] |= away[y, x + aside] <= most
            for x in range(width - aside):
                found[y, x + aside] |= away[y, x] <= most
    return found


@compiled
def squared_distance(inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (H, W): from each pixel of uint8 (H, W) ``inside`` that is not 0 to the nearest that is, squared.

    The first and last rows and columns have to be 0.
    Source: Meijster, Roerdink and Hesselink (2000), Mathematical Morphology and its Applications, 331-340.
    """
    height, width = inside.shape
    away = np.zeros((height, width), np.int64)  # rows to the nearest in the same column
    for y in range(1, height):
        for x in range(width):
            away[y, x] = away[y - 1, x] + 1 if inside[y, x] else 0
    for y in range(height - 2, -1, -1):
        for x in range(width):
            away[y, x] = min(away[y, x], away[y + 1, x] + 1)
    squares = np.zeros((height, width), np.float32)
    site, begin = np.empty(width, np.int64), np.empty(width, np.int64)  # of the parabolas that are lowest somewhere
    for y in range(1, height - 1):
        row = away[y]
        x = 0
        while x < width:
            if not row[x]:
                x += 1
                continue
            first = x - 1  # a pixel outside at either end of the run
            while row[x]:
                x += 1
            last, at = x, 0
            site[0], begin[0] = first, first
            for other in range(first + 1, last + 1):
                height_of = row[other] ** 2
                while (
                    at >= 0 and (begin[at] - site[at]) ** 2 + row[site[at]] ** 2 > (begin[at] - other) ** 2 + height_of
                ):
                    at -= 1
                if at < 0:
                    at = 0
                    site[0], begin[0] = other, first
                    continue
                rise = other * other - site[at] * site[at] + height_of - row[site[at]] ** 2
                meet = 1 + int(np.floor(rise / (2.0 * (other - site[at]))))
                if meet <= last:
                    at += 1
                    site[at], begin[at] = other, meet
            for pixel in range(last, first - 1, -1):
                squares[y, pixel] = (pixel - site[at]) ** 2 + row[site[at]] ** 2
                if pixel == begin[at]:
                    at -= 1
    return squares
