"""A closed contour as a smooth curve: where it runs, how it bends, and the pockets it leaves in its convex hull.

Pixels make steps of a border that has none. Where bends are asked for the curve is smoothed along its own length, by a
share of that length, so that what is smoothed away does not depend on the size of the cell in pixels, nor on how it
lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.morphology import _border_kernels

Values = NDArray[np.float64]

#: Points along a curve: one every two to three pixels of a C-NMC cell, and 20 along the shortest wave that is told of.
SAMPLES = 256

#: Three averages with weights 1 2 1 spread each side of a pixel over about a pixel and a quarter: the longest contour
#: of a slanting border is then 2% longer than that of an upright one, not 8%.
PASSES = 3

#: Standard deviation of the Gaussian that smooths the curve before it is asked how it bends, as a share of its length.
#: Two derivatives blow up the steps of pixels: with half as much, discs of 20 pixels' radius curve inwards in places,
#: and their curvature scatters by 0.7 about 1 instead of 0.2. What repeats 6 times round the cell keeps three quarters
#: of its height, what repeats 11 times 40%. Places on the curve, unlike its bends, need no more than ``PASSES``.
SMOOTHING = 0.02

#: Depth of a pocket, in equivalent diameters, from which it is a concavity. The steps of pixels make pockets of up to
#: 0.011 in discs of 12 pixels' radius and 0.018 in slanting rectangles of 40 pixels, half as much at twice the size.
SHALLOWEST = 0.02


def _derivative_filters() -> tuple[Values, Values]:
    """Weights of a Gaussian's first two derivatives, from the middle on; exact for straight lines and parabolas."""
    spread = SMOOTHING * SAMPLES
    away = np.arange(math.ceil(4 * spread) + 1)  # beyond four deviations there are 1e-4 of a Gaussian
    weights = np.exp(-0.5 * (away / spread) ** 2)
    first = away * weights
    second = ((away / spread) ** 2 - 1) * weights
    second -= (second[0] + 2 * second[1:].sum()) / (2 * len(second) - 1)
    return first / (2 * first @ away), second / (second @ away**2)


_FIRST, _SECOND = _derivative_filters()


@dataclass(frozen=True, eq=False)
class Curve:
    """A closed curve, its inside at the right hand when y points down, so that a circle curves by more than 0.

    Attributes
    ----------
    points : float64 (SAMPLES, 2), x and y in pixels, at equal distances along the curve.
    """

    points: Values

    @classmethod
    def of(cls, turns: NDArray[np.uint8]) -> Curve:
        """The curve through the middles of the sides that ``_border_kernels.trace`` walked along.

        It starts at the side where the shape number begins, and heads right: contours that differ by quarters of a
        circle or a mirror are one and the same curve, to the last bit.
        """
        return cls(_border_kernels.lay_out(shape_number(turns), PASSES, SAMPLES))

    @cached_property
    def _bends(self) -> tuple[Values, Values]:
        return _border_kernels.bend(self.points, _FIRST, _SECOND)

    @property
    def curvature(self) -> Values:
        """float64 (SAMPLES,), of the smoothed curve, in units of the curvature of a circle of the same length.

        A circle has 1 all along, and every curve that closes without crossing itself has 1 on average.
        """
        return self._bends[0]

    @property
    def shares(self) -> Values:
        """float64 (SAMPLES,), share of the smoothed curve's length at each point; they add up to 1."""
        return self._bends[1]

    @cached_property
    def _size(self) -> tuple[float, float]:
        return _border_kernels.compare_with_ellipse(self.points)

    @property
    def diameter(self) -> float:
        """Of the disc with the same area as is inside the curve, in pixels; 0 if none is."""
        return math.sqrt(4 * self._size[0] / math.pi)

    @property
    def ellipse_deviation(self) -> float:
        """Root mean square distance from the ellipse of the same second moments; see ``compare_with_ellipse``."""
        return self._size[1]

    @cached_property
    def concavities(self) -> list[tuple[float, float]]:
        """Depth and width, in units of ``diameter``, of all pockets between curve and convex hull, in order along it.

        Those of ``SHALLOWEST`` or deeper. See ``_border_kernels.find_pockets``.
        """
        diameter = self.diameter
        if diameter == 0:
            return []
        corners = np.sort(cv2.convexHull(self.points.astype(np.float32), returnPoints=False).ravel())
        depth, width = _border_kernels.find_pockets(self.points, corners.astype(np.int64), SHALLOWEST * diameter)
        return list(zip((depth / diameter).tolist(), (width / diameter).tolist(), strict=True))

    def reversals(self, least: float) -> int:
        """How often the curve's direction turns back by ``least`` radians or more: twice for each bay."""
        return _border_kernels.count_reversals(self.curvature, self.shares, least)


def shape_number(turns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The turns along a closed border, started where and read in the direction in which they come first in order.

    The same for a border however it lies, by quarters of a circle, and mirrored.
    Source: Bribiesca and Guzman (1980), Pattern Recognition 12(2):101-112.
    """
    readings = []
    for walked in (turns, np.ascontiguousarray(turns[::-1])):
        cut, text = _border_kernels.first_rotation(walked), walked.tobytes()
        readings.append(text[cut:] + text[:cut])
    return np.frombuffer(min(readings), np.uint8).copy()
