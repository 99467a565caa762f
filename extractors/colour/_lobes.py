"""Lobes of a nucleus, told by the red light that chromatin takes: granules and cytoplasm let it pass.

Where granules cover a nucleus no contour shows its lobes, but tones do. Chromatin is what the mask of the nucleus holds
and red light does not pass; its segments are peaks of the distance to the border, and a bridge between two is a saddle:
how narrow it is beside the segments tells whether it parts them.

Constants were chosen on half of 1,500 cells whose nuclei pathologists had named (docs/agreement.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.colour._colour_kernels import inside_corners
from extractors.colour._lobe_kernels import find_saddles
from extractors.euclidean import near, square_within, squared_distance
from extractors.numba_kernels import pixels_at_ranks
from fusion.images.cell import Cell

#: A cleft has taken less than this part of the red light that the middle of the nucleus has taken, in optical density.
#: .54 to .65 rank multilobed and round nuclei by clefts alike within .01.
CLEFT = 0.65
#: What parts lobes is paler than this: a bridge of chromatin is blurred with what lies beside it, and has to hold.
#: At .5 and .56 nuclei are ranked by the number of lobes alike within .03.
PARTING = 0.54
#: Side of the squares that tones are averaged over, in equivalent radii of the nucleus: grains of chromatin are finer.
GRAIN = 0.1
#: The rim of the hull, in equivalent radii: it is blurred, and no cleft lies between it and nothing.
RIM = 0.15
#: Bays of the mask narrower than 0.16 of the equivalent radius are closed: grains at its edge make such.
BAY = 0.08
#: A bridge parts two lobes where it is at most so wide beside the narrower of them: at .7 to .8 round nuclei have one
#: lobe, and multilobed ones are ranked above them alike within .02.
NARROW = 0.75
#: Segments whose widest disc is less than a fortieth of the chromatin are crumbs.
CRUMB = 0.025

#: Heights at which saddles are looked for: a bridge is measured to a twelfth of the widest lobe.
_LEVELS = 12
#: Optical density in thousandths, whole so that sums are exact and an image that is turned gives the same.
_DENSITY = np.rint(-1000 * np.log((np.arange(256) + 1) / 256)).astype(np.uint16)


@dataclass(frozen=True)
class Lobes:
    """The segments of a nucleus.

    Attributes
    ----------
    bridges : for every segment but the widest, how wide the bridge to a wider one is beside it; 0 for a part apart.
    clefts : share of the convex hull, but for its rim, that lets red light pass.
    """

    bridges: tuple[float, ...]
    clefts: float

    @classmethod
    def of(cls, cell: Cell) -> Lobes | None:
        """Of a cell's nucleus; None where it is empty."""
        if not cell.nucleus.any():
            return None
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.nucleus).view(np.uint8))
        own = np.ascontiguousarray(cell.nucleus[y : y + height, x : x + width])
        pixels = int(np.count_nonzero(own))
        radius = math.sqrt(pixels / math.pi)
        side = max(1, round(GRAIN * radius)) | 1  # odd
        # Room for what lies beside the nucleus' box within half a square, and for what closing a bay reaches.
        room = max(side // 2, math.ceil(BAY * radius)) + 1
        nucleus = _framed(own.view(np.uint8), room)
        densities = _red_densities(cell, (y, x, height, width), room, side)
        ranks = np.array([(pixels - 1) // 2, pixels // 2])
        lower, upper = pixels_at_ranks(densities, nucleus.view(np.bool_), ranks).tolist()
        middle = (lower + upper) / 2
        inner = _inner_hull(own, RIM * radius)
        within = np.count_nonzero(inner)
        is_cleft = inner & (densities[room:-room, room:-room] < CLEFT * middle)
        clefts = np.count_nonzero(is_cleft) / within if within else 0.0
        chromatin = _closed(nucleus, square_within(BAY * radius)) & (densities >= PARTING * middle)
        return cls(_bridges(chromatin.view(np.uint8)), clefts)


def _framed(pixels: NDArray[np.uint8], room: int) -> NDArray[np.uint8]:
    """With so many rows and columns of 0 around."""
    return np.asarray(cv2.copyMakeBorder(pixels, room, room, room, room, cv2.BORDER_CONSTANT, value=[0]), np.uint8)


def _red_densities(cell: Cell, box: tuple[int, int, int, int], room: int, side: int) -> NDArray[np.int32]:
    """int32, the box (y, x, height, width) with ``room`` around: red densities summed over squares.

    Outside the cell and the image nothing has taken light.
    """
    y, x, height, width = box
    bottom, right = y + height + room, x + width + room
    window = slice(max(0, y - room), bottom), slice(max(0, x - room), right)
    taken = cv2.LUT(np.ascontiguousarray(cell.rgb[window][..., 0]), _DENSITY)
    taken = cv2.copyTo(taken, np.ascontiguousarray(cell.mask[window]).view(np.uint8))
    beyond = (
        window[0].start - (y - room),
        max(0, bottom - cell.mask.shape[0]),
        window[1].start - (x - room),
        max(0, right - cell.mask.shape[1]),
    )
    if any(beyond):
        taken = cv2.copyMakeBorder(taken, *beyond, cv2.BORDER_CONSTANT, value=[0])
    sums = cv2.boxFilter(taken, cv2.CV_32S, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums, np.int32)


def _inner_hull(nucleus: NDArray[np.bool_], rim: float) -> NDArray[np.bool_]:
    """bool (H, W): the convex hull of a nucleus that touches all four borders, but for its rim."""
    contours, _ = cv2.findContours(nucleus.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.int64)
    outside = 1 - inside_corners(corners, *nucleus.shape).view(np.uint8)
    beside = cv2.copyMakeBorder(outside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[1])
    return ~near(np.asarray(beside, np.uint8), square_within(rim))[1:-1, 1:-1]


def _closed(mask: NDArray[np.uint8], square: int) -> NDArray[np.bool_]:
    """bool (H, W): bays filled into which no disc fits; by distances, which know no direction."""
    return ~near((~near(mask, square)).view(np.uint8), square) if square else mask.view(np.bool_)


def _bridges(chromatin: NDArray[np.uint8]) -> tuple[float, ...]:
    """Of every segment that is no crumb, but for the widest: the width of the bridge to a wider one over its own."""
    depth = squared_distance(chromatin)
    top = float(depth.max())
    levels = 1 - np.arange(1, _LEVELS + 1) / _LEVELS
    peaks, met = find_saddles(depth, top * levels**2)
    heights = [*(math.sqrt(top) * levels).tolist(), 0.0]
    least = CRUMB * np.count_nonzero(chromatin) / math.pi
    found = [
        heights[at] / math.sqrt(peak) for peak, at in zip(peaks.tolist(), met.tolist(), strict=True) if peak >= least
    ]
    return tuple(sorted(found))
