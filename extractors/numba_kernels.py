"""The loops over pixels that the handcrafted families share, compiled by numba.

Nothing here knows a feature: these functions count and add, and the families give the counts their meaning. Indices
are not checked inside compiled code, so each function says what its caller must have made sure of.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.compute.compiled_loops import compiled


def eroded(depth: NDArray[np.uint8], half: int) -> NDArray[np.uint8]:
    """uint8 (H, W): least depth in the square reaching ``half`` pixels around each pixel; 0 beyond the image."""
    stamp = np.ones((2 * half + 1, 2 * half + 1), np.uint8)
    return np.asarray(cv2.erode(depth, stamp, borderType=cv2.BORDER_CONSTANT, borderValue=0), np.uint8)


class Survey(NamedTuple):
    """What several textures look at, of every region of an image.

    Attributes
    ----------
    histograms : float64 (regions, 256), how often each grey value occurs.
    fits : uint8 (H, W), how many regions hold a pixel and its eight neighbours: 0 along the image's edge.
    """

    histograms: NDArray[np.float64]
    fits: NDArray[np.uint8]

    @classmethod
    def from_grey(cls, grey: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> Self:
        """Of uint8 (H, W) grey values, and depth 0 .. ``regions``; region r, from 1, is where depth is r or more."""
        return cls(count_values(grey, depth, regions, 256), eroded(depth, 1))


@compiled
def entropies(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in bits of each row, float64 (k, n); 0 log 0 is 0, and NaN stays NaN."""
    entropy = np.zeros(len(probability))
    for k in range(len(probability)):
        for share in probability[k]:
            if share != 0:
                entropy[k] -= share * np.log2(share)
    return entropy


@compiled
def mean_and_range(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean and range (largest less smallest) over the last axis, leaving out NaN; NaN where all are.

    Parameters
    ----------
    values : float64 (n, k).

    Returns
    -------
    float64 (n, 2).
    """
    found = np.full((len(values), 2), np.nan)
    for row in range(len(values)):
        known, total, least, most = 0, 0.0, np.inf, -np.inf
        for value in values[row]:
            if not np.isnan(value):
                known += 1
                total += value
                least, most = min(least, value), max(most, value)
        if known:
            found[row, 0], found[row, 1] = total / known, most - least
    return found


@compiled
def count_values(values: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, number: int) -> NDArray[np.float64]:
    """float64 (regions, number): how often each value below ``number`` occurs where depth is 1, 2, .. or more."""
    # Two tables in turn, as neighbours often count into the same place.
    even, odd = np.zeros((regions + 1, 256), np.int64), np.zeros((regions + 1, 256), np.int64)
    height, width = values.shape
    for y in range(height):
        for x in range(0, width - 1, 2):
            even[depth[y, x], values[y, x]] += 1
            odd[depth[y, x + 1], values[y, x + 1]] += 1
        if width % 2:
            even[depth[y, width - 1], values[y, width - 1]] += 1
    counts = np.zeros((regions, number))
    for region in range(regions - 1, -1, -1):
        for value in range(number):
            counts[region, value] = even[region + 1, value] + odd[region + 1, value]
            if region + 1 < regions:
                counts[region, value] += counts[region + 1, value]
    return counts


@compiled
def pixels_at_ranks(
    values: NDArray[np.int32], inside: NDArray[np.bool_], ranks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """int64 (n,): what stands at given places when the values inside a mask are sorted.

    Parameters
    ----------
    values : int32 (H, W).
    inside : bool (H, W), not empty.
    ranks : int64 (n,), from 0 to the number of pixels inside less 1.
    """
    height, width = values.shape
    least, most = np.int32(2147483647), np.int32(-2147483648)
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                least, most = min(least, values[y, x]), max(most, values[y, x])
    # Bins of a power of two, so that a value's bin is a shift; then the values of the one bin that a rank falls into.
    shift = 0
    while (np.int64(most) - least) >> shift > 2047:
        shift += 1
    counts, fine = np.zeros(2048, np.int64), np.zeros(1 << shift, np.int64)
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                counts[(np.int64(values[y, x]) - least) >> shift] += 1
    found, counted = np.empty(len(ranks), np.int64), -1
    for rank in range(len(ranks)):
        bin_, before = 0, 0
        while before + counts[bin_] <= ranks[rank]:
            before += counts[bin_]
            bin_ += 1
        if bin_ != counted:  # two ranks next to each other mostly fall into one
            counted = bin_
            fine[:] = 0
            for y in range(height):
                for x in range(width):
                    above = np.int64(values[y, x]) - least
                    if inside[y, x] and above >> shift == bin_:
                        fine[above & ((1 << shift) - 1)] += 1
        at = 0
        while before + fine[at] <= ranks[rank]:
            before += fine[at]
            at += 1
        found[rank] = least + (bin_ << shift) + at
    return found
