"""Vacuoles: pale places in the cytoplasm that are no slivers, found by the cytoplasm's own tone.

Constants were chosen on half of 1,500 cells in which pathologists had looked for vacuoles (docs/agreement.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.colour import _colour_kernels
from extractors.euclidean import near, square_within
from extractors.numba_kernels import pixels_at_ranks
from fusion.images.cell import Cell

#: A vacuole has at most this part of the optical density of the cytoplasm's median. Half would be the edge of an ideal
#: hole drawn soft by the microscope; a little more keeps holes that stained plasm above or below makes less pale. At .5
#: cells are ranked alike within .01, at .7 worse by .08.
PALENESS = 0.55
#: 4 A / (pi major_axis**2), 1 for a disc: two holes that touch have 0.4, a crescent beside the nucleus 0.2 or less.
ROUNDNESS = 0.25

#: Left out of the inner cytoplasm, in radii of the cell: its rim, which refracts, and the blurred edge of the nucleus.
RIM, EDGE = 0.1, 0.06
#: Side of the squares that grains are averaged over, in radii of the cell: a vacuole that one sees is wider.
GRAIN = 1 / 32


@dataclass(frozen=True)
class Vacuoles:
    """What is pale in the inner cytoplasm.

    Attributes
    ----------
    paleness : 1 less the optical density of its palest hundredth over its median.
    fraction : share of it that lies in vacuoles.
    """

    paleness: float
    fraction: float

    @classmethod
    def of(cls, cell: Cell) -> Vacuoles:
        """Of a cell; NaN where less than a hundredth of it is inner cytoplasm, or where that takes no light."""
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.mask).view(np.uint8))
        window = slice(y, y + height), slice(x, x + width)
        mask, nucleus = (np.ascontiguousarray(part[window]).view(np.uint8) for part in (cell.mask, cell.nucleus))
        area = int(np.count_nonzero(mask))
        radius = math.sqrt(area / math.pi)
        side = max(1, round(radius * GRAIN)) | 1  # odd
        inner = _inner_cytoplasm(mask, nucleus, radius, side)
        pixels = int(np.count_nonzero(inner))
        if pixels < max(10, area / 100):
            return cls(math.nan, math.nan)
        # Whole numbers, whose sums are exact: an image that is turned gives the same to the last bit.
        light = _colour_kernels.sum_channels(np.ascontiguousarray(cell.rgb[window]))
        sums = np.asarray(cv2.boxFilter(light, cv2.CV_32S, (side, side), normalize=False), np.int32)
        ranks = np.array([int(share * (pixels - 1)) for share in (0.99, 0.5)])
        unit = 3 * side**2
        palest, middle = (-math.log((value / unit + 1) / 256) for value in pixels_at_ranks(sums, inner, ranks).tolist())
        if middle <= 1e-3:
            return cls(math.nan, math.nan)
        pale = inner & (sums >= unit * (256 * math.exp(-PALENESS * middle) - 1))
        return cls(1 - palest / middle, _pixels_of_round_parts(pale) / pixels)


def _inner_cytoplasm(
    mask: NDArray[np.uint8], nucleus: NDArray[np.uint8], radius: float, side: int
) -> NDArray[np.bool_]:
    """bool (H, W): the cytoplasm but for the rim of the cell and what lies next to the nucleus."""
    beside = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[1])
    inner = ~near(np.asarray(beside, np.uint8), square_within(max(RIM * radius, side // 2 + 1)))[1:-1, 1:-1]
    if nucleus.any():
        inner &= ~near(nucleus, square_within(EDGE * radius))
    return inner


def _pixels_of_round_parts(pale: NDArray[np.bool_]) -> int:
    """How many pixels lie in connected parts that are round enough, by their second moments."""
    if not pale.any():
        return 0
    number, found = cv2.connectedComponents(pale.view(np.uint8), connectivity=4)
    rows, columns = np.nonzero(pale)
    which = np.asarray(found, np.int32)[rows, columns]
    area, x, y, xx, yy, xy = (
        # Whole numbers, so sums are exact whatever their order.
        np.bincount(which, weights, minlength=number)[1:]
        for weights in (np.ones(len(which)), columns, rows, columns * columns, rows * rows, columns * rows)
    )
    # A pixel is a unit square, see morphology.
    along_x, along_y = ((square * area - sum_**2) / area**2 + 1 / 12 for square, sum_ in ((xx, x), (yy, y)))
    largest = (along_x + along_y) / 2 + np.hypot((along_x - along_y) / 2, (xy * area - x * y) / area**2)
    return int(area[4 * area / (math.pi * 16 * largest) >= ROUNDNESS].sum())
