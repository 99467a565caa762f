"""Patterns of a pixel and its neighbours: local binary patterns and threshold adjacency statistics."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.numba_kernels import compiled

Values = NDArray[np.float64]

#: Coordinates on a circle are rounded to this many parts of a pixel, as in scikit-image.
PARTS = 100_000

#: Weights of the interpolation are whole numbers that sum to 2**22: times an 8-bit value they fit into 31 bits, so that
#: sums are exact and ties are true ties.
WEIGHT_BITS = 22

#: A row is done in pieces of so many pixels, a multiple of what any processor's vector instructions hold.
LANES = 16

# ---- local binary patterns ------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _circle(points: int, radius: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
    """Upper left corners and weights for ``circle_patterns``, and the pixels that they touch as a stamp."""
    angle = 2 * np.pi * np.arange(points) / points
    place = np.rint(np.stack([-np.sin(angle), np.cos(angle)], axis=1) * radius * PARTS).astype(np.int64)
    corners, part = place // PARTS, place % PARTS
    down, right = part.T
    parts = [(PARTS - down) * (PARTS - right), (PARTS - down) * right, down * (PARTS - right), down * right]
    exact = np.stack(parts, axis=1)
    weights = np.rint(exact * (2**WEIGHT_BITS / PARTS**2)).astype(np.int64)
    # What rounding left over goes to the largest, which feels it least; equal small weights stay equal.
    weights[np.arange(points), exact.argmax(axis=1)] += 2**WEIGHT_BITS - weights.sum(axis=1)
    stamp = np.zeros((2 * radius + 3, 2 * radius + 3), np.uint8)
    stamp[radius + 1, radius + 1] = 1
    for weight, (y, x) in zip(exact.T, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        touched = corners[weight > 0] + (radius + 1 + y, radius + 1 + x)
        stamp[touched[:, 0], touched[:, 1]] = 1
    return corners, weights.astype(np.int32), stamp


def pattern_histogram(
    grey: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, points: int, radius: int
) -> Values:
    """Share of each pattern, summing to 1, over the pixels of a region whose whole circle lies inside the region.

    Parameters
    ----------
    grey : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.
    points, radius : of the circle; radius in pixels.

    Returns
    -------
    float64 (regions, points + 2) : as in ``local_binary_patterns``; NaN where no circle fits into the region.
    """
    _, _, stamp = _circle(points, radius)
    fits = np.asarray(cv2.erode(depth, stamp, borderType=cv2.BORDER_CONSTANT, borderValue=0), np.uint8)
    patterns = local_binary_patterns(grey, fits, points, radius)
    return shares(numba_kernels.count_values(patterns, fits, regions, points + 2))


def local_binary_patterns(
    grey: NDArray[np.uint8], wanted: NDArray[np.uint8], points: int, radius: int
) -> NDArray[np.uint8]:
    """Uniform rotation-invariant local binary pattern of every wanted pixel.

    Equal to scikit-image's ``method="uniform"``, except that a point as bright as the centre is always set; there,
    rounding decides about one point in a thousand, and differently at different places of the image.

    Parameters
    ----------
    grey : uint8 (H, W).
    wanted : uint8 (H, W), above 0 where the pattern is wanted: nowhere else has it a meaning.
    points, radius : of the circle; radius in pixels.

    Returns
    -------
    uint8 (H, W) : 0 .. points for uniform patterns, the number of points not darker than the centre; else points + 1.

    Source: Ojala, Pietikainen and Maenpaa (2002), IEEE Trans. PAMI 24(7):971-987, equation 12.
    """
    corners, weights, _ = _circle(points, radius)
    border = radius + 1
    framed = np.zeros((grey.shape[0] + 2 * border, grey.shape[1] + 2 * border + LANES), np.uint8)
    framed[border:-border, border : border + grey.shape[1]] = grey
    return circle_patterns(framed, wanted, border, corners, weights)


@compiled
def circle_patterns(
    grey: NDArray[np.uint8],
    wanted: NDArray[np.uint8],
    border: int,
    corners: NDArray[np.int64],
    weights: NDArray[np.int32],
) -> NDArray[np.uint8]:
    """Uniform rotation-invariant local binary pattern of every pixel.

    A point on the circle is set where its grey value, interpolated from the four pixels around it, is not below the
    centre's. With two changes or fewer around the circle the pattern is the number of set points, else points + 1.

    Parameters
    ----------
    grey : uint8 (H + 2 border, W + 2 border + LANES); ``border`` at least as large as any corner reaches.
    wanted : uint8 (H, W); each row is done from its first to its last pixel above 0.
    corners : int64 (points, 2), (row, column) of each point's upper left pixel, relative to the centre.
    weights : int32 (points, 4), upper left, upper right, lower left, lower right, with a sum of 2**22.

    Returns
    -------
    uint8 (H, W) : 0 .. points + 1.
    """
    height, width = wanted.shape
    points = len(corners)
    patterns, other = np.zeros((height, width), np.uint8), np.uint8(len(corners) + 1)
    # The innermost loop runs along a row and counts from 0, so that it compiles to vector instructions: four times as
    # fast as going round one pixel after the other. Each product is cut to 32 bits for the same reason.
    limit, code = np.zeros(width + LANES, np.int32), np.zeros(width + LANES, np.uint32)
    total, changes, last = np.zeros((3, width + LANES), np.uint32)
    for y in range(height):
        start, end = 0, width
        while end > start and wanted[y, end - 1] == 0:
            end -= 1
        while start < end and wanted[y, start] == 0:
            start += 1
        # A few pixels more than are wanted, so that none is left over that would be done one by one.
        size = (end - start + LANES - 1) // LANES * LANES
        centre = grey[y + border, border + start :][:size]
        for x in range(size):
            limit[x] = np.int32(np.int32(centre[x]) << np.int32(WEIGHT_BITS))
            total[x] = changes[x] = 0
        for first in range(0, points, 32):
            # A bit for each of up to 32 points, the first one highest.
            among = min(points - first, 32)
            code[:size] = 0
            for point in range(first, first + among):
                row, column = y + border + corners[point, 0], border + start + corners[point, 1]
                upper_left, upper_right = grey[row, column : column + size], grey[row, column + 1 : column + 1 + size]
                row += 1
                lower_left, lower_right = grey[row, column : column + size], grey[row, column + 1 : column + 1 + size]
                a, b, c, d = weights[point, 0], weights[point, 1], weights[point, 2], weights[point, 3]
                if b == 0 and c == 0 and d == 0:  # the point is a pixel: nothing to interpolate
                    for x in range(size):
                        code[x] = np.uint32(np.uint32(code[x] << np.uint32(1)) | np.uint32(upper_left[x] >= centre[x]))
                    continue
                for x in range(size):
                    upper = np.int32(np.int32(a * np.int32(upper_left[x])) + np.int32(b * np.int32(upper_right[x])))
                    lower = np.int32(np.int32(c * np.int32(lower_left[x])) + np.int32(d * np.int32(lower_right[x])))
                    is_set = np.uint32(np.int32(upper + lower) >= limit[x])
                    code[x] = np.uint32(np.uint32(code[x] << np.uint32(1)) | is_set)
            # The first point of all follows none. Round a closed circle the changes are even, so two or fewer without
            # the step from the last point to the first are two or fewer with it.
            top, follows = np.uint32(among - 1), np.uint32((1 << among if first else 1 << (among - 1)) - 1)
            for x in range(size):
                before = np.uint32(np.uint32(code[x] >> np.uint32(1)) | np.uint32(last[x] << top))
                total[x] = np.uint32(total[x] + _set_bits(code[x]))
                changes[x] = np.uint32(changes[x] + _set_bits(np.uint32(np.uint32(code[x] ^ before) & follows)))
                last[x] = np.uint32(code[x] & np.uint32(1))
        for x in range(end - start):
            patterns[y, start + x] = np.uint8(total[x]) if changes[x] <= np.uint32(2) else other
    return patterns


@compiled
def _set_bits(word: np.uint32) -> np.uint32:
    """How many bits are set: pairs are added, then fours, then eights, then the four bytes; it compiles to vectors.

    Source: Warren (2013), Hacker's Delight, 2nd ed., figure 5-2.
    """
    pairs = np.uint32(word - np.uint32(np.uint32(word >> np.uint32(1)) & np.uint32(0x55555555)))
    upper = np.uint32(np.uint32(pairs >> np.uint32(2)) & np.uint32(0x33333333))
    fours = np.uint32(np.uint32(pairs & np.uint32(0x33333333)) + upper)
    eights = np.uint32(np.uint32(fours + np.uint32(fours >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
    return np.uint32(np.uint32(eights * np.uint32(0x01010101)) >> np.uint32(24))


def shares(counts: Values) -> Values:
    """Counts over their sum along the last axis; NaN where that is 0."""
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.where(total > 0, total, np.nan)


# ---- threshold adjacency statistics ---------------------------------------------------------------------------------

#: The ranges of grey values: within one standard deviation of the mean, above the mean less one, and above the mean.
#: Mean and deviation are those of the pixels above Otsu's threshold.
RANGES = ("middle", "most", "bright")


def threshold_adjacency(
    grey: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, survey: numba_kernels.Survey | None = None
) -> Values:
    """Share of the pixels within a range of grey values, or out of it, that have so many of 8 neighbours within it.

    With mean and standard deviation of the pixels above Otsu's threshold, "middle" is within one deviation of the mean,
    "most" above the mean less one, and "bright" above the mean. Only pixels with all neighbours in the region count.

    Range: 0 to 1, nine summing to 1. NaN where there is no such pixel.
    Source: Hamilton et al. (2007), BMC Bioinformatics 8:110; without fixed thresholds as in Coelho et al. (2010), LNCS
    6004:23-32.

    Parameters
    ----------
    grey : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.
    survey : of these regions, where somebody has it; else it is made.

    Returns
    -------
    float64 (regions, 3, 2, 9) : of ``RANGES``, of the pixels within and out of it, of the number of neighbours in it;
        all NaN also for a region of one grey value.
    """
    histograms, fits = survey or numba_kernels.Survey.from_grey(grey, depth, regions)
    codes = np.array([range_codes(each) for each in histograms])
    return shares(count_adjacent(grey, fits, codes))


@compiled
def otsu_threshold(histogram: Values) -> int:
    """The value up to which the lower of two classes goes, so that they differ most.

    Source: Otsu (1979), IEEE Trans. SMC 9(1):62-66.
    """
    total, total_sum = 0.0, 0.0
    for value in range(len(histogram)):
        total += histogram[value]
        total_sum += histogram[value] * value
    low, low_sum, most, threshold = 0.0, 0.0, 0.0, 0
    for value in range(len(histogram) - 1):
        low += histogram[value]
        low_sum += histogram[value] * value
        if 0 < low < total:
            between = (low_sum * total - low * total_sum) ** 2 / (low * (total - low))
            if between > most:
                most, threshold = between, value
    return threshold


@compiled
def range_codes(histogram: Values) -> NDArray[np.int32]:
    """int32 (256,): 1 for a grey value in the first of ``RANGES``, 32 in the second, 1024 in the third, added.

    -1 for all where a region has one grey value, or none: there is no threshold then.
    """
    codes = np.full(256, -1, np.int32)
    if np.count_nonzero(histogram) < 2:
        return codes
    above = otsu_threshold(histogram) + 1
    pixels, total, squares = 0.0, 0.0, 0.0
    for value in range(above, 256):
        pixels += histogram[value]
        total += histogram[value] * value
    mean = total / pixels
    for value in range(above, 256):
        squares += histogram[value] * (value - mean) ** 2
    deviation = np.sqrt(squares / pixels)
    for value in range(256):
        is_most, is_bright = value > mean - deviation, value > mean
        is_middle = is_most and value < mean + deviation
        codes[value] = int(is_middle) + 32 * int(is_most) + 1024 * int(is_bright)
    return codes


@compiled
def count_adjacent(grey: NDArray[np.uint8], fits: NDArray[np.uint8], codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """How many pixels there are in each range and out of it with each number of neighbours in it.

    Parameters
    ----------
    grey : uint8 (H, W).
    fits : uint8 (H, W), how many regions hold the pixel and its eight neighbours: 0 along the image's edge.
    codes : int32 (regions, 256), from ``range_codes``.

    Returns
    -------
    float64 (regions, 3, 2, 9).
    """
    regions = len(codes)
    height, width = grey.shape
    counts = np.zeros((regions, 3, 2, 9))
    code, of_both = np.zeros((3, width), np.int32), np.empty(256, np.int32)
    columns, around = np.zeros(width, np.int32), np.zeros(width, np.int32)
    for region in range(0, regions, 2):
        # Five bits for each range, and 16 for each of two regions: three rows of three codes add up without carrying
        # over.
        of_two = codes[region : region + 2]
        of_both[:] = 0
        for other in range(len(of_two)):
            for value in range(256):
                of_both[value] += max(of_two[other, value], 0) << 16 * other
        found = np.zeros((6, 32), np.int32)
        middle, most, bright, inner_middle, inner_most, inner_bright = (
            found[0],
            found[1],
            found[2],
            found[3],
            found[4],
            found[5],
        )
        for y in range(height):
            row, into = grey[y], code[y % 3]
            for x in range(width):
                into[x] = of_both[row[x]]
            if y < 2:
                continue
            fit, begin, end = fits[y - 1], 0, width
            while end > begin and fit[end - 1] <= region:
                end -= 1
            while begin < end and fit[begin] <= region:
                begin += 1
            if begin == end:
                continue
            first, second, third, size = code[0], code[1], code[2], end - begin
            for x in range(width):
                columns[x] = first[x] + second[x] + third[x]
            left, here, right = columns[begin - 1 :], columns[begin:], columns[begin + 1 :]
            centre, depth = code[(y - 1) % 3, begin:], fit[begin:]
            for x in range(size):
                # The number of neighbours, and 16 for being in the range oneself.
                around[x] = left[x] + here[x] + right[x] + np.int32(15) * centre[x]
            for x in range(size):
                one = np.int32(depth[x] > region)
                middle[around[x] & 31] += one
                most[(around[x] >> 5) & 31] += one
                bright[(around[x] >> 10) & 31] += one
                if depth[x] > region + 1:
                    inner_middle[(around[x] >> 16) & 31] += 1
                    inner_most[(around[x] >> 21) & 31] += 1
                    inner_bright[(around[x] >> 26) & 31] += 1
        for other in range(len(of_two)):
            if of_two[other, 0] < 0:
                continue
            for of in range(3):
                for neighbours in range(9):
                    counts[region + other, of, 0, neighbours] = found[3 * other + of, 16 + neighbours]
                    counts[region + other, of, 1, neighbours] = found[3 * other + of, neighbours]
    return counts
