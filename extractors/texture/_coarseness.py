"""How coarse a texture is: Tamura's three properties, energies of bands of detail, and the correlation length."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.numba_kernels import compiled

Values = NDArray[np.float64]

#: Standard deviation, in pixels, of the wider of each band's two Gaussians.
BANDS = (1, 2, 4)

#: Farthest displacement at which texture is correlated, in pixels: several mottles of the coarsest chromatin.
FARTHEST = 32


# ---- Tamura's properties --------------------------------------------------------------------------------------------


def tamura(
    grey: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, survey: numba_kernels.Survey | None = None
) -> Values:
    """Coarseness, contrast and directionality of every region.

    Parameters
    ----------
    grey : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.
    survey : of these regions, where somebody has it; else it is made.

    Returns
    -------
    float64 (regions, 3) : in the order of ``TAMURA``; NaN for an empty region.
    """
    histograms, fits = survey or numba_kernels.Survey.from_grey(grey, depth, regions)
    directions = count_directions(grey, fits, regions, _LIMITS)
    found = np.full((regions, 3), np.nan)
    for region in range(regions):
        if histograms[region].any():
            mean = int(np.rint(histograms[region] @ np.arange(256) / histograms[region].sum()))
            found[region, 0] = tamura_coarseness(grey, depth, region, mean)
            found[region, 1] = tamura_contrast(histograms[region])
            found[region, 2] = tamura_directionality(directions[region])
    return found


def tamura_coarseness(grey: NDArray[np.uint8], depth: NDArray[np.uint8], region: int, mean: int) -> float:
    """Mean side of the squares that differ most from their neighbours: at every corner of four pixels one of 2 .. 32.

    Neighbours are left and right of one another, or above and below, and meet at the corner. Outside of the region,
    grey is its mean, in whole numbers. Of sides that differ as much the smallest counts.

    Unit: pixels.  Range: 2 to 32.  NaN where no square differs from its neighbour, or no four pixels meet.
    Source: Tamura, Mori and Yamawaki (1978), IEEE Trans. SMC 8(6):460-473, section III-A.
    """
    return float(mean_best_side(grey, depth, region, mean))


def tamura_contrast(histogram: Values) -> float:
    """Standard deviation over the fourth root of kurtosis: large where grey values are spread to both ends.

    Unit: grey levels.  Range: 0 to 127.5.
    Source: Tamura, Mori and Yamawaki (1978), IEEE Trans. SMC 8(6):460-473, section III-B.
    """
    square = np.square(np.arange(256) - histogram @ np.arange(256) / histogram.sum())
    second, fourth = histogram @ square / histogram.sum(), histogram @ np.square(square) / histogram.sum()
    return float(second / fourth**0.25) if np.count_nonzero(histogram) > 1 else 0.0


def tamura_directionality(weights: Values) -> float:
    """One less the spread of the gradients' directions around the commonest, over that of gradients of no direction.

    The spread is the mean squared angle from that one of 16 directions, half a turn being none, from which it is least.
    Gradients weigh as much as they are long, so that no threshold is needed.

    Range: 0 to 1.  NaN where nothing changes.
    Source: after Tamura, Mori and Yamawaki (1978), IEEE Trans. SMC 8(6):460-473, section III-C, with one peak.
    """
    total = weights.sum()
    return float(1 - (_SPREAD @ weights).min() / total / _SPREAD[0].mean()) if total > 0 else np.nan


TAMURA = (tamura_coarseness, tamura_contrast, tamura_directionality)

_TURN = np.abs(np.arange(16)[:, None] - np.arange(16))
_SPREAD = np.square(np.minimum(_TURN, 16 - _TURN)).astype(np.float64)

# Half-way between directions. No whole number is so many times another one that a gradient lies on such a limit.
_LIMITS = np.tan((np.arange(8) + 0.5) * np.pi / 16).astype(np.float32)


@compiled
def count_directions(
    grey: NDArray[np.uint8], fits: NDArray[np.uint8], regions: int, limits: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Length of the gradients in each of 16 directions, float64 (regions, 16), summed over the pixels of a region.

    Gradients are Prewitt's, over three rows and columns, and their length is the sum of both parts' sizes. Directions
    are counted from the columns', 11.25 degrees apart, and half a turn is none.

    Parameters
    ----------
    fits : uint8 (H, W), how many regions hold the pixel and its eight neighbours: 0 along the image's edge.
    limits : float32 (8,), tangents half-way between the first nine directions.
    """
    sums = np.zeros((regions + 1, 17), np.int64)
    height, width = grey.shape
    size = max(width - 2, 0)
    steep, flat = np.zeros(size, np.int32), np.zeros(size, np.int32)
    direction, turned = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for y in range(1, height - 1):
        above, here, below = grey[y - 1], grey[y], grey[y + 1]
        for x in range(size):
            falling, rising = np.int32(below[x + 2]) - above[x], np.int32(below[x]) - above[x + 2]
            across = np.int32(falling - rising + here[x + 2] - here[x])
            down = np.int32(falling + rising + below[x + 1] - above[x + 1])
            steep[x], flat[x] = abs(down), abs(across)
            turned[x] = np.int32((across ^ down) < 0)  # signs differ
            direction[x] = 0
        for limit in limits:
            for x in range(size):
                direction[x] = np.int32(direction[x] + np.int32(np.float32(steep[x]) > np.float32(flat[x]) * limit))
        for x in range(size):
            at = 16 - direction[x] if turned[x] else direction[x]
            sums[fits[y, x + 1], at] += steep[x] + flat[x]
    found_in = np.zeros((regions, 16))
    for region in range(regions):
        for inner in range(region + 1, regions + 1):
            for at in range(17):
                found_in[region, at % 16] += sums[inner, at]
    return found_in


@compiled
def mean_best_side(grey: NDArray[np.uint8], depth: NDArray[np.uint8], region: int, mean: int) -> float:
    """``tamura_coarseness`` of the pixels whose depth is above ``region``."""
    reach = 32
    height, width = grey.shape
    # sums[y, x] is the sum of all above and left of the corner (y, x): whole numbers, so that ties are true ties.
    sums = np.zeros((height + 2 * reach + 1, width + 2 * reach + 1), np.int32)
    for y in range(reach + 1, sums.shape[0]):
        row = np.int32(0)
        if y <= reach + height:
            for x in range(width):
                if depth[y - 1 - reach, x] > region:
                    row += np.int32(grey[y - 1 - reach, x]) - np.int32(mean)
                sums[y, x + reach + 1] = sums[y - 1, x + reach + 1] + row
        for x in range(reach + 1 if y > reach + height else reach + width + 1, sums.shape[1]):
            sums[y, x] = sums[y - 1, x] + row
    most, side = np.zeros(width + 1, np.int32), np.zeros(width + 1, np.int32)
    band, bend = np.zeros(sums.shape[1], np.int32), np.zeros(sums.shape[1], np.int32)
    total, corners = 0, 0
    for y in range(1, height):
        for x in range(width + 1):
            most[x] = side[x] = 0
        for power in range(5):
            half = 1 << power
            at = reach + y
            # Sums over the rows that squares beside one another share, and how sums differ between squares above one
            # another; each up to a column.
            for x in range(len(band)):
                band[x] = sums[at + half, x] - sums[at - half, x]
                bend[x] = sums[at - 2 * half, x] - 2 * sums[at, x] + sums[at + 2 * half, x]
            left, inner, right = band[reach - 2 * half :], band[reach:], band[reach + 2 * half :]
            start, end = bend[reach - half :], bend[reach + half :]
            scale = np.int32(1 << (2 * (4 - power)))
            for x in range(width + 1):
                across = np.int32(left[x] + right[x] - 2 * inner[x])
                larger = np.int32(max(abs(across), abs(np.int32(end[x] - start[x]))) * scale)
                side[x] = np.int32(2 * half) if larger > most[x] else side[x]
                most[x] = max(larger, most[x])
        for x in range(1, width):
            upper, lower = min(depth[y - 1, x - 1], depth[y - 1, x]), min(depth[y, x - 1], depth[y, x])
            if min(upper, lower) > region and side[x] > 0:
                total += side[x]
                corners += 1
    return total / corners if corners > 0 else np.nan


# ---- bands of detail ------------------------------------------------------------------------------------------------


def band_energy(grey: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> Values:
    """Mean square of the difference between a region blurred by a Gaussian and by one half as wide.

    Close to the Laplacian of a Gaussian: it answers to spots of about its size. The narrower Gaussian of the finest
    band is none at all. Outside of the region, grey is its mean.

    Unit: grey levels squared.  Range: from 0.
    Source: Marr and Hildreth (1980), Proc. R. Soc. B 207:187-217; Burt and Adelson (1983), IEEE Trans. Commun.
    31(4):532-540, without their subsampling.

    Parameters
    ----------
    grey : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.

    Returns
    -------
    float64 (regions, 3) : in the order of ``BANDS``; NaN for an empty region.
    """
    energies = np.full((regions, len(BANDS)), np.nan)
    for region in range(regions):
        inside = (depth > region).view(np.uint8)
        pixels = cv2.countNonZero(inside)
        if not pixels:
            continue
        mean = np.float32(cv2.mean(grey, inside)[0])
        less_mean = cv2.LUT(grey, np.arange(256, dtype=np.float32) - mean)
        narrow = np.asarray(cv2.copyTo(less_mean, inside), np.float32)  # 0 outside
        width = 0
        for band, wanted in enumerate(BANDS):
            # Blurring by a and then by b is blurring by the root of a**2 + b**2.
            sigma = (wanted**2 - width**2) ** 0.5
            side = 2 * int(np.ceil(3 * sigma)) + 1
            blurred = cv2.GaussianBlur(narrow, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
            wide = np.asarray(blurred, np.float32)
            energies[region, band] = cv2.norm(narrow, wide, cv2.NORM_L2SQR, inside) / pixels
            narrow, width = wide, wanted
    return energies


# ---- correlation length ---------------------------------------------------------------------------------------------


def correlation_length(values: NDArray[np.int16], inside: NDArray[np.bool_]) -> float:
    """Distance in pixels at which the autocorrelation of ``values`` inside a mask has fallen to 1/e.

    The covariance at a displacement is the mean product, less the mean, over all pairs of pixels inside that lie so far
    apart. Displacements are averaged in rings one pixel wide, and the crossing is interpolated between rings. The
    variance that it starts from is extrapolated from the first two rings, because at distance 0 the sensor's noise
    correlates with itself. NaN for values without texture, or where 1/e is not reached within 32 pixels.

    Parameters
    ----------
    values : int16 (H, W), no two inside more than 1400 apart.
    inside : bool (H, W).
    """
    return float(first_fall(values, inside, *_rings()))


@lru_cache(maxsize=1)
def _rings() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Values]:
    """Displacements down, or right, sorted by ring; where each ring starts and the last one ends; its mean distance."""
    down, right = np.mgrid[: FARTHEST + 1, -FARTHEST : FARTHEST + 1]
    far = np.hypot(down, right)
    half = ((down > 0) | (right > 0)) & (far <= FARTHEST)
    down, right, far = down[half], right[half], far[half]
    ring = np.rint(far).astype(np.int64)
    order = np.argsort(ring, kind="stable")
    starts = np.searchsorted(ring[order], np.arange(1, FARTHEST + 2))
    return down[order], right[order], starts, np.bincount(ring, far)[1:] / np.bincount(ring)[1:]


@compiled
def sum_of_products(a: NDArray[np.int16], b: NDArray[np.int16]) -> np.int64:
    """Of the elements of ``a`` with as many of ``b``; no 1024 products may exceed 32 bits."""
    total = np.int64(0)
    for begin in range(0, len(a), 1024):
        end = min(begin + 1024, len(a))
        here, there, part = a[begin:end], b[begin:end], np.int32(0)
        for x in range(end - begin):
            part = np.int32(part + np.int32(np.int32(here[x]) * np.int32(there[x])))
        total += part
    return total


@compiled
def first_fall(
    values: NDArray[np.int16],
    inside: NDArray[np.bool_],
    down: NDArray[np.int64],
    right: NDArray[np.int64],
    starts: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> float:
    """``correlation_length``, given the displacements of each ring, where it starts, and its mean distance."""
    height, width = values.shape
    total, pixels = 0, 0
    # A row's pixels from ``start`` to before ``end`` hold all that is inside; where they all are, none need be counted.
    start, end, whole = np.full(height, width), np.zeros(height, np.int64), True
    for y in range(height):
        before = pixels
        for x in range(width):
            if inside[y, x]:
                total += values[y, x]
                pixels += 1
                start[y], end[y] = min(start[y], x), x + 1
        whole = whole and pixels - before == max(end[y] - start[y], 0)
    if pixels == 0:
        return np.nan
    mean = np.int16(np.rint(total / pixels))
    # One row after the other with as much nothing between them as a displacement reaches: all pairs at a displacement
    # are then as far apart in a single row, and what is outside adds 0.
    stride = width + len(distance)
    centred = np.zeros((height + len(distance) + 1) * stride, np.int16)
    member = np.zeros(len(centred), np.int16)
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                centred[y * stride + x] = values[y, x] - mean
                member[y * stride + x] = 1
    profile = np.zeros(len(distance))
    level = 0.0
    for ring in range(len(distance)):
        covariance, displacements = 0.0, 0
        for at in range(starts[ring], starts[ring + 1]):
            shift = down[at] * stride + right[at]
            product = sum_of_products(centred[: height * stride], centred[shift:])
            pairs = np.int64(0)
            if whole:
                for y in range(height - down[at]):
                    other = y + down[at]
                    pairs += max(0, min(end[y], end[other] - right[at]) - max(start[y], start[other] - right[at]))
            else:
                pairs = sum_of_products(member[: height * stride], member[shift:])
            if pairs > 0:
                covariance += product / pairs
                displacements += 1
        if displacements == 0:
            return np.nan
        profile[ring] = covariance / displacements
        if ring == 1:
            # A parabola through both rings, c(r) = c(0) - a r**2.
            bend = (profile[0] - profile[1]) / (distance[1] ** 2 - distance[0] ** 2)
            level = (profile[0] + bend * distance[0] ** 2) / np.e
            if level <= 0 or profile[0] <= level:
                return np.nan  # neighbours are not alike: there is no texture wider than a pixel
        if ring > 0 and profile[ring] < level:
            fall = (profile[ring - 1] - level) / (profile[ring - 1] - profile[ring])
            return distance[ring - 1] + fall * (distance[ring] - distance[ring - 1])
    return np.nan
