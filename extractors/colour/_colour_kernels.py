"""The loops behind the colour family, compiled by numba: count the distinct colours of a cell, convert each once, sum.

A cell has fewer colours than pixels, and sums over its colours in the order of their codes do not know where the pixels
lay: an image turned, mirrored or padded gives the same numbers to the last bit.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.numba_kernels import compiled

#: Percentiles are looked for in bins of equal width between a channel's extremes, this many (256 to 65,536) and more
#: where there are many colours; inside a bin values are sorted, so their number is a matter of speed alone.
BINS = 1024

#: One colour, where pixels are counted below it: no image has so many.
_COLOUR = 1 << 40

#: Planes that ``moments`` takes powers of at once: a multiple of what any processor's vector instructions hold.
LANES = 16


@compiled
def distinct_colours(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_], nucleus: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int64], int]:
    """The colours of the nucleus, then those of the cytoplasm, and how many pixels have each.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).
    mask, nucleus : bool (H, W); the nucleus inside the mask.

    Returns
    -------
    codes : uint32 (k,), red * 65,536 + green * 256 + blue, ascending in each of the two regions.
    counts : int64 (k,), pixels, at least 1.
    split : how many of the k colours are the nucleus's.
    """
    height, width = mask.shape
    # A radix sort of 25 bits, the region and the code: first the lower 13 bits, then the upper 12.
    lower, upper = np.zeros(8192, np.int64), np.zeros(4096, np.int64)
    keys = np.empty(height * width, np.uint32)
    number = 0
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                region = np.uint32(0) if nucleus[y, x] else np.uint32(1)
                key = region << 24 | np.uint32(rgb[y, x, 0]) << 16 | np.uint32(rgb[y, x, 1]) << 8 | rgb[y, x, 2]
                keys[number] = key
                lower[key & 8191] += 1
                upper[key >> 13] += 1
                number += 1
    half_sorted, ordered = np.empty(number, np.uint32), np.empty(number, np.uint32)
    _starts(lower)
    _starts(upper)
    for i in range(number):
        digit = keys[i] & 8191
        half_sorted[lower[digit]] = keys[i]
        lower[digit] += 1
    for i in range(number):
        digit = half_sorted[i] >> 13
        ordered[upper[digit]] = half_sorted[i]
        upper[digit] += 1

    counts = np.zeros(number, np.int64)
    colours, split = 0, 0
    for i in range(number):
        if colours == 0 or ordered[colours - 1] != ordered[i]:
            ordered[colours] = ordered[i]  # overwrites what has been counted
            colours += 1
            split += 1 - (ordered[i] >> 24)
        counts[colours - 1] += 1
    codes = np.empty(colours, np.uint32)
    for i in range(colours):
        codes[i] = ordered[i] & 0xFFFFFF
    return codes, counts[:colours].copy(), split


@compiled
def _starts(counts: NDArray[np.int64]) -> None:
    """Replace counts by where each begins when all are laid end to end."""
    start = 0
    for i in range(len(counts)):
        count = counts[i]
        counts[i] = start
        start += count


@compiled
def convert(
    codes: NDArray[np.uint32],
    light: NDArray[np.float64],
    roots: NDArray[np.float64],
    to_xyz: NDArray[np.float64],
    densities: NDArray[np.float64],
    to_stains: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Every colour in every colour space; what the planes are is said in ``_colour_spaces``.

    Parameters
    ----------
    codes : uint32 (k,), as from ``distinct_colours``.
    light : float64 (256,), linear light of an 8-bit value, 0 to 1.
    roots : float64 (n + 1,), cube roots of 0, 1 / n, .. 1, where the search for others starts; n at least 1,024.
    to_xyz : float64 (3, 3), from linear light to XYZ over the white point.
    densities : float64 (2, 256), optical density of an 8-bit value in each of the two stain spaces.
    to_stains : float64 (2, 3, 3), from the densities of red, green and blue to stains, in each of the two stain spaces.
    directions : float64 (6 n + 1, 2), cosine and sine of -60 degrees, -60 + 60 / n, .. 300; n at least 64.

    Returns
    -------
    float64 (19, k).
    """
    planes = np.empty((19, len(codes)))
    # So many colours at once as stay in the processor's cache, and step by step, so that each compiles to vectors.
    for begin in range(0, len(codes), 256):
        some = codes[begin : begin + 256]
        _convert_values(some, directions, planes, begin)
        _convert_to_lab(some, light, roots, to_xyz, planes, begin)
        _convert_to_stains(some, densities, to_stains, planes, begin)
    return planes


@compiled
def _convert_values(
    codes: NDArray[np.uint32], directions: NDArray[np.float64], planes: NDArray[np.float64], begin: int
) -> None:
    """Red, green, blue, saturation, value and direction of hue: planes 0 to 4 and 14 to 18, from ``begin``."""
    red, green, blue, saturation, value = (
        planes[0, begin:],
        planes[1, begin:],
        planes[2, begin:],
        planes[3, begin:],
        planes[4, begin:],
    )
    steps = (len(directions) - 1) // 6
    chroma, sector, nearest = np.empty(len(codes)), np.empty(len(codes)), np.empty(len(codes))
    for i in range(len(codes)):
        red[i], green[i], blue[i] = codes[i] >> 16, codes[i] >> 8 & 255, codes[i] & 255
    for i in range(len(codes)):
        largest = max(red[i], green[i], blue[i])
        span = largest - min(red[i], green[i], blue[i])
        over = span if span > 0 else 1.0
        saturation[i], value[i], chroma[i] = span / largest if span > 0 else 0.0, largest, span
        from_red, from_green, from_blue = (
            (green[i] - blue[i]) / over,
            2 + (blue[i] - red[i]) / over,
            4 + (red[i] - green[i]) / over,
        )
        sector[i] = from_red if largest == red[i] else from_green if largest == green[i] else from_blue
        nearest[i] = np.rint(sector[i] * steps)
    # The nearest direction of the table, turned by the little that is missing, for which three terms of sine and cosine
    # are exact to the last bit.
    has_hue, cosine, sine, double_cosine, double_sine = (
        planes[14, begin:],
        planes[15, begin:],
        planes[16, begin:],
        planes[17, begin:],
        planes[18, begin:],
    )
    for i in range(len(codes)):
        at = int(nearest[i]) + steps
        cosine[i], sine[i] = directions[at, 0], directions[at, 1]
    for i in range(len(codes)):
        rest = (sector[i] - nearest[i] / steps) * (math.pi / 3)
        along = 1 - rest * rest / 2 * (1 - rest * rest / 12)
        across = rest * (1 - rest * rest / 6 * (1 - rest * rest / 20))
        x, y = cosine[i] * along - sine[i] * across, sine[i] * along + cosine[i] * across
        has_hue[i] = 1.0 if chroma[i] > 0 else 0.0
        cosine[i], sine[i] = x if chroma[i] > 0 else 0.0, y if chroma[i] > 0 else 0.0
        double_cosine[i] = x * x - y * y if chroma[i] > 0 else 0.0
        double_sine[i] = 2 * x * y if chroma[i] > 0 else 0.0


@compiled
def _convert_to_lab(
    codes: NDArray[np.uint32],
    light: NDArray[np.float64],
    roots: NDArray[np.float64],
    to_xyz: NDArray[np.float64],
    planes: NDArray[np.float64],
    begin: int,
) -> None:
    """CIELAB: planes 5 to 7, from ``begin``."""
    lights, shares, start = np.empty((3, len(codes))), np.empty(len(codes)), np.empty(len(codes))
    for i in range(len(codes)):
        lights[0, i], lights[1, i], lights[2, i] = (
            light[codes[i] >> 16],
            light[codes[i] >> 8 & 255],
            light[codes[i] & 255],
        )
    for axis in range(3):
        curved = planes[5 + axis, begin:]
        for i in range(len(codes)):
            shares[i] = to_xyz[axis, 0] * lights[0, i] + to_xyz[axis, 1] * lights[1, i] + to_xyz[axis, 2] * lights[2, i]
        for i in range(len(codes)):
            start[i] = roots[min(int(shares[i] * (len(roots) - 1)), len(roots) - 1)]
        for i in range(len(codes)):
            share, root = shares[i], start[i]
            # The cube root by Halley's method, which triples the right digits: at least 1.4 to begin with, 14 after
            # two steps, in a third of the time of the library's.
            for _ in range(2):
                cube = root * root * root
                root *= (cube + 2 * share) / (2 * cube + share)
            # The straight piece is what CIELAB has for dark colours.
            curved[i] = root if share > (6 / 29) ** 3 else share * ((29 / 6) ** 2 / 3) + 4 / 29
    first, second, third = planes[5, begin:], planes[6, begin:], planes[7, begin:]
    for i in range(len(codes)):
        x, y, z = first[i], second[i], third[i]
        first[i], second[i], third[i] = 116 * y - 16, 500 * (x - y), 200 * (y - z)


@compiled
def _convert_to_stains(
    codes: NDArray[np.uint32],
    densities: NDArray[np.float64],
    to_stains: NDArray[np.float64],
    planes: NDArray[np.float64],
    begin: int,
) -> None:
    """Amounts of dye, three in each of two stain spaces: planes 8 to 13, from ``begin``."""
    dense = np.empty((3, len(codes)))
    for space in range(2):
        for i in range(len(codes)):
            dense[0, i], dense[1, i], dense[2, i] = (
                densities[space, codes[i] >> 16],
                densities[space, codes[i] >> 8 & 255],
                densities[space, codes[i] & 255],
            )
        for stain in range(3):
            of_red, of_green, of_blue = to_stains[space, stain]
            # No dye makes a colour lighter. The last plane is what two dyes leave over, on either side.
            least = -np.inf if space == 1 and stain == 2 else 0.0
            amounts = planes[8 + 3 * space + stain, begin:]
            for i in range(len(codes)):
                amounts[i] = max(of_red * dense[0, i] + of_green * dense[1, i] + of_blue * dense[2, i], least)


@compiled
def moments(planes: NDArray[np.float64], counts: NDArray[np.int64], split: int, channels: int) -> NDArray[np.float64]:
    """Mean of every plane in every region, and central moments of the first ``channels`` of them.

    Parameters
    ----------
    planes : float64 (p, k), first the colours of the nucleus, then those of the cytoplasm; p at least ``LANES``.
    counts : int64 (k,), pixels of each colour.
    split : how many of the k colours are the nucleus's.
    channels : at most ``LANES``.

    Returns
    -------
    float64 (4, 3, p) : of the cell, the nucleus and the cytoplasm the mean, and the second, third and fourth central
        moment; 0 for a region without pixels.
    """
    width = len(planes)
    result = np.zeros((4, 3, width))
    means, numbers = result[0], np.zeros(3)
    numbers[1], numbers[2] = float(counts[:split].sum()), float(counts[split:].sum())
    numbers[0] = numbers[1] + numbers[2]
    for c in range(0, width, 4):
        _add_planes(planes, counts, split, c, means)
    for region in range(3):
        for c in range(width):
            means[region, c] /= max(numbers[region], 1.0)
    # Some colours, one after the other in memory: sums keep their order and run along a row, which compiles to vectors.
    # The cell's sums run on from the nucleus to the cytoplasm.
    rows, sums = np.empty((64, LANES)), np.zeros(8 * LANES)
    sums[:LANES] = means[0, :LANES]
    for region, begin, end in ((1, 0, split), (2, split, len(counts))):
        sums[LANES : 2 * LANES] = means[region, :LANES]
        sums[5 * LANES :] = 0
        for first in range(begin, end, len(rows)):
            weights = counts[first : min(first + len(rows), end)]
            _turn(planes, first, len(weights), rows)
            _add_powers(rows, weights, sums)
        for power in range(1, 4):
            for c in range(channels):
                result[power, region, c] = sums[(4 + power) * LANES + c] / max(numbers[region], 1.0)
    for power in range(1, 4):
        for c in range(channels):
            result[power, 0, c] = sums[(1 + power) * LANES + c] / max(numbers[0], 1.0)
    return result


@compiled
def _turn(planes: NDArray[np.float64], first: int, number: int, rows: NDArray[np.float64]) -> None:
    """Into rows what the first ``LANES`` planes hold of so many colours."""
    for i in range(number):
        row = rows[i]
        for c in range(LANES):
            row[c] = planes[c, first + i]


@compiled
def _add_planes(
    planes: NDArray[np.float64], counts: NDArray[np.int64], split: int, first: int, sums: NDArray[np.float64]
) -> None:
    """Sums over the cell, the nucleus and the cytoplasm of four planes, the last again where there are no more.

    Four at once, as a sum has to wait for the one before. The cell's run on from the nucleus to the cytoplasm.
    """
    last = len(planes) - 1
    one, two, three, four = first, min(first + 1, last), min(first + 2, last), min(first + 3, last)
    a, b, c, d = planes[one], planes[two], planes[three], planes[four]
    sum_a = sum_b = sum_c = sum_d = 0.0
    for i in range(split):
        weight = float(counts[i])
        sum_a += weight * a[i]
        sum_b += weight * b[i]
        sum_c += weight * c[i]
        sum_d += weight * d[i]
    sums[1, one], sums[1, two], sums[1, three], sums[1, four] = sum_a, sum_b, sum_c, sum_d
    outer_a = outer_b = outer_c = outer_d = 0.0
    for i in range(split, len(counts)):
        weight = float(counts[i])
        of_a, of_b, of_c, of_d = weight * a[i], weight * b[i], weight * c[i], weight * d[i]
        sum_a += of_a
        sum_b += of_b
        sum_c += of_c
        sum_d += of_d
        outer_a += of_a
        outer_b += of_b
        outer_c += of_c
        outer_d += of_d
    sums[0, one], sums[0, two], sums[0, three], sums[0, four] = sum_a, sum_b, sum_c, sum_d
    sums[2, one], sums[2, two], sums[2, three], sums[2, four] = outer_a, outer_b, outer_c, outer_d


@compiled
def _add_powers(rows: NDArray[np.float64], counts: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    """Add the second, third and fourth powers of deviations, of as many rows as counts, from the means of two regions.

    ``sums`` holds lanes of the means of both, then of the three powers of the one, then of the other: in one array at
    distances that are known when it is compiled, or it would be asked in every row whether they overlap.
    """
    for i in range(len(counts)):
        weight = float(counts[i])
        for c in range(LANES):
            deviation = rows[i, c] - sums[c]
            weighted = weight * deviation * deviation
            sums[2 * LANES + c] += weighted
            sums[3 * LANES + c] += weighted * deviation
            sums[4 * LANES + c] += weighted * deviation * deviation
            deviation = rows[i, c] - sums[LANES + c]
            weighted = weight * deviation * deviation
            sums[5 * LANES + c] += weighted
            sums[6 * LANES + c] += weighted * deviation
            sums[7 * LANES + c] += weighted * deviation * deviation


@compiled
def values_at_ranks(
    planes: NDArray[np.float64],
    counts: NDArray[np.int64],
    split: int,
    ranks: NDArray[np.int64],
    whole: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Values that stand at given places when all pixels of a region are sorted by a plane.

    Parameters
    ----------
    planes : float64 (p, k), first the colours of the nucleus, then those of the cytoplasm; k at least 1.
    counts : int64 (k,), pixels of each colour.
    split : how many of the k colours are the nucleus's.
    ranks : int64 (3, n), from 0 to the number of pixels less 1 in the cell, the nucleus and the cytoplasm, fastest in
        ascending order; of a region without pixels they are ignored.
    whole : bool (channels,), of the first so many planes: whether its values are whole numbers from 0 to 255.

    Returns
    -------
    float64 (3, n, channels) : exact, not rounded to bins; any value for a region without pixels.
    """
    colours = len(counts)
    places, channels = ranks.shape[1], len(whole)
    result = np.zeros((3, places, channels))
    number_of_bins = BINS
    while 12 * number_of_bins < colours and number_of_bins < 65536:
        number_of_bins *= 2
    # Pixels of every bin in the nucleus and in the cytoplasm, and above bit 40 its colours: counted in one step.
    bins, held = np.empty(colours, np.uint16), np.empty((2, number_of_bins), np.int64)
    # Pixels of every bin in the cell, the nucleus and the cytoplasm; its colours; and where they start among the
    # members, or -1 where no rank falls into the bin.
    pixels, size, start = (
        np.empty((3, number_of_bins), np.int64),
        np.empty(number_of_bins, np.int64),
        np.empty(number_of_bins, np.int64),
    )
    where, before = np.empty((3, places), np.int64), np.empty((3, places), np.int64)
    # Members of such bins, bin after bin: their values and their pixels, negative for those of the cytoplasm.
    values, weights = np.empty(colours), np.empty(colours, np.int64)
    for c in range(channels):
        column = planes[c]
        low, scale = 0.0, 1.0
        if not whole[c]:
            low = high = column[0]
            for i in range(colours):
                low, high = min(low, column[i]), max(high, column[i])
            # Subtracting and multiplying keep the order of values, rounding or not.
            scale = (number_of_bins - 1) / (high - low) if high > low else 0.0
        for i in range(colours):
            bins[i] = np.uint16(np.int32((column[i] - low) * scale))
        held[:] = 0
        for i in range(split):
            held[0, bins[i]] += counts[i] + _COLOUR
        for i in range(split, colours):
            held[1, bins[i]] += counts[i] + _COLOUR
        for b in range(number_of_bins):
            pixels[1, b], pixels[2, b] = held[0, b] & (_COLOUR - 1), held[1, b] & (_COLOUR - 1)
            pixels[0, b] = pixels[1, b] + pixels[2, b]
            size[b] = (held[0, b] + held[1, b]) >> 40
            start[b] = -1

        number = 0
        for region in range(3):
            b, reached = 0, pixels[region, 0]
            for place in range(places):
                if place > 0 and ranks[region, place] < ranks[region, place - 1]:
                    b, reached = 0, pixels[region, 0]
                while reached <= ranks[region, place] and b < number_of_bins - 1:
                    b += 1
                    reached += pixels[region, b]
                where[region, place], before[region, place] = b, reached - pixels[region, b]
                if whole[c]:
                    result[region, place, c] = b  # a bin has one value
                elif start[b] < 0:
                    start[b] = number
                    number += size[b]
        if whole[c]:
            continue
        for i in range(colours):
            at = start[bins[i]]
            if at >= 0:
                start[bins[i]] += 1
                values[at] = column[i]
                weights[at] = counts[i] if i < split else -counts[i]
        for b in range(number_of_bins):
            if start[b] >= 0:
                end = start[b]
                start[b] -= size[b]
                _sort(values, weights, start[b], end)

        for region in range(3):
            for place in range(places):
                b, reached = where[region, place], before[region, place]
                for at in range(start[b], start[b] + size[b]):
                    if region == 0:
                        reached += abs(weights[at])
                    elif region == 1:
                        reached += max(weights[at], 0)
                    else:
                        reached += max(-weights[at], 0)
                    if reached > ranks[region, place]:
                        result[region, place, c] = values[at]
                        break
    return result


@compiled
def _sort(values: NDArray[np.float64], weights: NDArray[np.int64], begin: int, end: int) -> None:
    """Sort a part of the values in place, and their weights with them: by insertion, from far apart to near.

    Bins mostly hold a few colours, for which nothing is faster, and numba's own sort takes seconds to compile.
    Source: Shell (1959), Comm. ACM 2(7):30-32, with the gaps of Gonnet and Baeza-Yates (1991).
    """
    gap = end - begin
    while gap > 1:
        gap = max(1, gap * 5 // 11)
        for i in range(begin + gap, end):
            value, weight, at = values[i], weights[i], i
            while at >= begin + gap and values[at - gap] > value:
                values[at], weights[at] = values[at - gap], weights[at - gap]
                at -= gap
            values[at], weights[at] = value, weight


@compiled
def inside_corners(corners: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """bool (height, width): pixels whose centre lies in or on a convex polygon, int64 (n, 2) of x, y, exactly."""
    first, last = np.full(height, width, np.int64), np.full(height, -1, np.int64)
    for at in range(len(corners)):
        x0, y0 = corners[at - 1]
        x1, y1 = corners[at]
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y0 == y1:
            first[y0], last[y0] = min(first[y0], x0, x1), max(last[y0], x0, x1)
            continue
        for y in range(y0, y1 + 1):
            across = x0 * (y1 - y0) + (y - y0) * (x1 - x0)
            first[y] = min(first[y], -(-across // (y1 - y0)))
            last[y] = max(last[y], across // (y1 - y0))
    inside = np.zeros((height, width), np.bool_)
    for y in range(height):
        inside[y, first[y] : last[y] + 1] = True
    return inside


@compiled
def sum_channels(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """uint16 (H, W): red, green and blue of uint8 (H, W, 3) added up."""
    height, width, _ = rgb.shape
    sums = np.empty((height, width), np.uint16)
    for y in range(height):
        for x in range(width):
            sums[y, x] = np.uint16(rgb[y, x, 0]) + np.uint16(rgb[y, x, 1]) + np.uint16(rgb[y, x, 2])
    return sums
