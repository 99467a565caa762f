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
    far, one = np.uint16(reach + 1), np.uint16(1)
    # Rows to the nearest in the same column, with empty columns at either side so that nothing need be checked. Each
    # number is cut to 16 bits: so a row compiles to vector instructions of twice as many numbers as with 32.
    away = np.full((height, width + 2 * reach), far, np.uint16)
    for y in range(height):
        # Above the first row there is nothing yet in its own place.
        here, above, row = away[y, reach : reach + width], away[max(y - 1, 0), reach : reach + width], mask[y]
        for x in range(width):
            here[x] = np.uint16(min(np.uint16(above[x] + one), far) * np.uint16(row[x] == 0))
    for y in range(height - 2, -1, -1):
        here, below = away[y, reach : reach + width], away[y + 1, reach : reach + width]
        for x in range(width):
            here[x] = min(here[x], np.uint16(below[x] + one))
    found = np.empty((height, width), np.bool_)
    for y in range(height):
        around, out = away[y], found[y]
        here = around[reach : reach + width]
        for x in range(width):
            out[x] = here[x] < far
        for aside in range(1, reach + 1):
            # How far up or down a pixel of the mask may lie in the column that is so many to the side.
            most = np.uint16(np.sqrt(square - aside * aside))
            left, right = around[reach - aside :][:width], around[reach + aside :][:width]
            for x in range(width):
                out[x] |= min(left[x], right[x]) <= most
    return found


@compiled
def squared_distance(inside: NDArray[np.uint8]) -> NDArray[np.int32]:
    """int32 (H, W): from each pixel of uint8 (H, W) ``inside`` that is not 0 to the nearest that is, squared.

    The first and last rows and columns have to be 0.
    """
    height, width = inside.shape
    away = np.zeros((height, width), np.int32)  # rows to the nearest in the same column
    for y in range(1, height):
        here, above, row = away[y], away[y - 1], inside[y]
        for x in range(width):
            here[x] = np.int32((above[x] + np.int32(1)) * np.int32(row[x] != 0))
    for y in range(height - 2, -1, -1):
        here, below = away[y], away[y + 1]
        for x in range(width):
            here[x] = min(here[x], np.int32(below[x] + np.int32(1)))
    most = 0
    for y in range(height):
        for x in range(width):
            most = max(most, away[y, x])
    # Twice the square of 181 fits into 16 bits.
    return _by_shifts(away, most) if most <= 181 else _by_parabolas(away)


@compiled
def _by_shifts(away: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """What ``squared_distance`` gives, from the rows to the nearest pixel outside in the same column, ``most`` at most.

    A row is laid over itself, moved by 1, 2, .. to either side, until nothing can be nearer. That are more numbers than
    parabolas, but in vector instructions of twice as many of them as with 32 bits.
    """
    height, width = away.shape
    squares = np.empty((height, width), np.int32)
    # In pieces that no vector instruction leaves a rest of. Beyond the image is outside, farther than its own border.
    whole = (width + 63) // 64 * 64
    high, low = np.zeros(whole + 2 * most, np.uint16), np.empty(whole, np.uint16)
    for y in range(height):
        rows, here = away[y], high[most:]
        for x in range(width):
            here[x] = np.uint16(rows[x] * rows[x])
        farthest = np.uint16(0)
        for x in range(whole):
            low[x] = here[x]
            farthest = max(farthest, here[x])
        aside = 1
        while aside * aside < farthest:
            left, right, added = high[most - aside :], high[most + aside :], np.uint16(aside * aside)
            for x in range(whole):
                low[x] = min(low[x], np.uint16(min(left[x], right[x]) + added))
            if aside % 8 == 0:
                farthest = np.uint16(0)
                for x in range(whole):
                    farthest = max(farthest, low[x])
            aside += 1
        for x in range(width):
            squares[y, x] = low[x]
    return squares


@compiled
def _by_parabolas(away: NDArray[np.int32]) -> NDArray[np.int32]:
    """What ``squared_distance`` gives, from the rows to the nearest pixel outside in the same column.

    Source: Meijster, Roerdink and Hesselink (2000), Mathematical Morphology and its Applications, 331-340.
    """
    height, width = away.shape
    squares = np.zeros((height, width), np.int32)
    # The parabolas that are lowest somewhere: where they stand, where they begin to be lowest, and how high they are.
    site, begin, high = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(1, height - 1):
        rows, out = away[y], squares[y]
        x = 0
        while x < width:
            if not rows[x]:
                x += 1
                continue
            first = x - 1  # a pixel outside at either end of the run
            while rows[x]:
                x += 1
            last, at = x, 0
            site[0], begin[0], high[0] = first, first, 0
            for other in range(first + 1, last + 1):
                height_of = rows[other] * rows[other]
                while at >= 0 and (begin[at] - site[at]) ** 2 + high[at] > (begin[at] - other) ** 2 + height_of:
                    at -= 1
                if at < 0:
                    at = 0
                    site[0], begin[0], high[0] = other, first, height_of
                    continue
                apart = other - site[at]
                meet = 1 + int(np.floor((apart * (other + site[at]) + height_of - high[at]) / (2.0 * apart)))
                if meet <= last:
                    at += 1
                    site[at], begin[at], high[at] = other, meet, height_of
            end = last + 1
            while at >= 0:
                for pixel in range(begin[at], end):
                    across = np.int32(pixel - site[at])
                    out[pixel] = np.int32(across * across + high[at])
                end = begin[at]
                at -= 1
    return squares
