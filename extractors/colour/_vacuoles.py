"""Vacuoles: pale round holes in the cytoplasm, found by the cytoplasm's own tone."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.colour import _colour_kernels
from extractors.euclidean import near, square_within
from extractors.numba_kernels import pixels_at_ranks
from fusion.images.cell import Cell

#: A hole has at most this part of the optical density of the cytoplasm around it. Half would be the edge of an ideal
#: hole drawn soft by the microscope; a little more keeps holes that stained plasm above or below makes less pale.
PALENESS = 0.6
#: A hole is lighter than the cytoplasm by this many standard deviations, or it may be noise.
DEVIATIONS = 3.0
#: The least area, as a part of the cell's: half a micrometre across in a lymphocyte of 15.
LEAST = 0.001
#: 4 A / (pi major_axis**2), 1 for a disc: two holes that touch have 0.4, a crescent beside the nucleus 0.2 or less.
ROUNDNESS = 0.35

#: Left out of the inner cytoplasm, in radii of the cell: its rim, which refracts, and the blurred edge of the nucleus.
RIM, EDGE = 0.1, 0.06
#: Side of the squares that grains are averaged over, in radii of the cell: a vacuole that one sees is wider.
GRAIN = 1 / 32

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def find_vacuoles(cell: Cell) -> NDArray[np.bool_]:
    """bool, the shape of the cell's bounding box: the pixels of its vacuoles.

    A vacuole is a connected part of the cytoplasm that is paler than its median grey value (in optical density at most
    ``PALENESS`` of it, in grey at least ``DEVIATIONS`` above it), at least ``LEAST`` of the cell and ``ROUNDNESS``
    round, and that does not reach the contour of the cell. The standard deviation is taken from the darker half of
    the cytoplasm, which vacuoles do not enter.
    """
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.mask).view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    mask, cytoplasm = (np.ascontiguousarray(part[window]) for part in (cell.mask, cell.cytoplasm))
    none = np.zeros_like(mask)
    if not cytoplasm.any():
        return none
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(cell.rgb[window]), cv2.COLOR_RGB2GRAY), np.uint8)
    speckled = ((grey > _paleness_threshold(grey[cytoplasm])) & cytoplasm).view(np.uint8)
    pale = cv2.morphologyEx(speckled, cv2.MORPH_OPEN, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not pale.any():
        return none
    inner = cv2.erode(mask.view(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    number, found = cv2.connectedComponents(pale, connectivity=4)
    labels = np.asarray(found, np.int32)
    accepted = _are_round(labels, number, LEAST * np.count_nonzero(mask))
    accepted[labels[inner == 0]] = False  # and the background, 0, which reaches it everywhere
    accepted[0] = False
    return accepted[labels]


def palest_part(cell: Cell) -> float:
    """1 less the optical density of the palest hundredth of the inner cytoplasm over its median; NaN without one."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.mask).view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    mask, nucleus = (np.ascontiguousarray(part[window]).view(np.uint8) for part in (cell.mask, cell.nucleus))
    area = int(np.count_nonzero(mask))
    radius = math.sqrt(area / math.pi)
    side = max(1, round(radius * GRAIN)) | 1  # odd
    beside = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[1])
    inner = ~near(np.asarray(beside, np.uint8), square_within(max(RIM * radius, side // 2 + 1)))[1:-1, 1:-1]
    if nucleus.any():
        inner &= ~near(nucleus, square_within(EDGE * radius))
    pixels = int(np.count_nonzero(inner))
    if pixels < max(10, area / 100):
        return math.nan
    # Whole numbers, whose sums are exact: an image that is turned gives the same to the last bit.
    light = _colour_kernels.sum_channels(np.ascontiguousarray(cell.rgb[window]))
    sums = np.asarray(cv2.boxFilter(light, cv2.CV_32S, (side, side), normalize=False), np.int32)
    ranks = np.array([int(share * (pixels - 1)) for share in (0.99, 0.5)])
    palest, middle = (
        -math.log((value / (3 * side**2) + 1) / 256) for value in pixels_at_ranks(sums, inner, ranks).tolist()
    )
    return 1 - palest / middle if middle > 1e-3 else math.nan


def _paleness_threshold(grey: NDArray[np.uint8]) -> float:
    """The grey value above which a pixel of the cytoplasm is pale."""
    reached = np.cumsum(np.bincount(grey, minlength=256))
    median, quartile = (int(np.searchsorted(reached, share * len(grey))) for share in (0.5, 0.25))
    # Of a normal distribution a quartile lies 0.6745 standard deviations from the median.
    deviation = (median - quartile) / 0.6745
    # 255 (g / 255)**p has p times the optical density of g.
    return max(255 * (median / 255) ** PALENESS, median + DEVIATIONS * deviation)


def _are_round(labels: NDArray[np.int32], number: int, least: float) -> NDArray[np.bool_]:
    """bool (number,): whether each component is large and round enough, from its second moments."""
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns]
    area, x, y, xx, yy, xy = (
        # Whole numbers, so sums are exact whatever their order.
        np.bincount(which, weights, minlength=number)
        for weights in (np.ones(len(which)), columns, rows, columns * columns, rows * rows, columns * rows)
    )
    area = np.maximum(area, 1)
    # A pixel is a unit square, see morphology.
    along_x, along_y = ((square * area - sum_**2) / area**2 + 1 / 12 for square, sum_ in ((xx, x), (yy, y)))
    largest = (along_x + along_y) / 2 + np.hypot((along_x - along_y) / 2, (xy * area - x * y) / area**2)
    return (area >= least) & (4 * area / (math.pi * 16 * largest) >= ROUNDNESS)
