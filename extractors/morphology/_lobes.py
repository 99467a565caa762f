"""Lobes of a nucleus: the segments that constrictions part, by how far each point lies from the border.

A segment is a peak of that distance, and a bridge between two is a saddle: how narrow it is beside the segments tells
whether it parts them. Bays that grains of chromatin make are closed first; they are narrower than any bridge is long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.euclidean import near, squared_distance
from extractors.morphology._lobe_kernels import find_saddles
from extractors.morphology._region import CRUMB, Region

#: Bays narrower than a fifth of the nucleus' equivalent radius are closed: grains of chromatin make such, and a cleft
#: between lobes that lie on each other is wider at its mouth.
GRAIN = 0.1

#: A bridge parts two lobes where it is at most so wide beside the narrower of them. Chosen on half of 1,500 cells
#: whose nuclei pathologists had named; .6 to .9 rank multilobed and round nuclei alike within .05.
NARROW = 0.9

#: Heights at which saddles are looked for: a bridge is measured to a twelfth of the widest lobe.
_LEVELS = 12


@dataclass(frozen=True)
class Lobes:
    """The segments of a nucleus.

    Attributes
    ----------
    bridges : for every segment but the widest, how wide the bridge to a wider one is beside it; 0 for a part apart.
    gaps : share of the convex hull that lies between lobes.
    """

    bridges: tuple[float, ...]
    gaps: float

    @classmethod
    def of(cls, nucleus: Region) -> Lobes:
        """Of a nucleus that is not empty."""
        region = Region.from_mask(_closed(nucleus.padded, GRAIN * math.sqrt(nucleus.area / math.pi)))
        least = math.sqrt(CRUMB * region.area / math.pi)  # the radius of a disc that is no crumb
        bridges = [saddle / peak for peak, saddle in _saddles(squared_distance(region.padded)) if peak >= least]
        return cls(tuple(sorted(bridges)), 1 - region.area / region.hull_points)


def _closed(padded: NDArray[np.uint8], radius: float) -> NDArray[np.bool_]:
    """bool: bays narrower than two radii filled, and holes; by distances, which know no direction."""
    room, square = math.ceil(radius) + 1, int(np.float32(radius**2))
    around = np.asarray(cv2.copyMakeBorder(padded, room, room, room, room, cv2.BORDER_CONSTANT, value=[0]), np.uint8)
    shrunk = ~near((~near(around, square)).view(np.uint8), square) | around.view(np.bool_)
    contours, _ = cv2.findContours(shrunk.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = cv2.drawContours(np.zeros_like(around), contours, -1, [1], cv2.FILLED)
    return np.asarray(filled, np.uint8).view(np.bool_)


def _saddles(depth: NDArray[np.int32]) -> list[tuple[float, float]]:
    """(peak, saddle) of every segment but the widest: its depth, and at which it meets a wider one, 0 for never.

    ``depth`` is squared.
    """
    top = float(depth.max())
    levels = 1 - np.arange(1, _LEVELS + 1) / _LEVELS
    peaks, met = find_saddles(depth, top * levels**2)
    heights = [*(math.sqrt(top) * levels).tolist(), 0.0]
    return [(math.sqrt(peak), heights[at]) for peak, at in zip(peaks.tolist(), met.tolist(), strict=True)]
