"""A region of pixels, and what its features are made of, each computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.morphology import _border_kernels, _region_kernels
from extractors.morphology._contour_curve import Curve, shape_number

Values = NDArray[np.float64]

#: The highest degree of the moments: Zernike's need 8, as in mahotas and CellProfiler; Hu's need 3.
DEGREE = 8

#: Parts smaller than a twentieth of the region are crumbs: the smallest lobes of a segmented nucleus are a tenth of it.
CRUMB = 0.05


@dataclass(frozen=True, eq=False)
class Region:
    """A region and its measures in pixels, from which features are made.

    Attributes
    ----------
    padded : uint8 (h + 2, w + 2), the region cut to its bounding box, 1 inside; 0 outside and in a border around it.
    corner : (y, x) of the box in the image.
    """

    padded: NDArray[np.uint8]
    corner: tuple[int, int]

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> Region:
        """Of a mask that is not empty."""
        pixels = np.ascontiguousarray(mask).view(np.uint8)
        x, y, width, height = cv2.boundingRect(pixels)
        padded = np.zeros((height + 2, width + 2), np.uint8)
        padded[1:-1, 1:-1] = pixels[y : y + height, x : x + width]
        return cls(padded, (y, x))

    @property
    def box(self) -> tuple[int, int]:
        """Height and width of the bounding box."""
        return self.padded.shape[0] - 2, self.padded.shape[1] - 2

    # ---- pixels -----------------------------------------------------------------------------------------------------

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _region_kernels.find_runs(self.padded)

    @cached_property
    def _measured(self) -> tuple[tuple[int, int, int], tuple[float, float, float], Values]:
        return _region_kernels.measure_runs(self._runs[0], DEGREE)

    @cached_property
    def area(self) -> int:
        """The number of pixels."""
        return cv2.countNonZero(self.padded)

    @cached_property
    def chords(self) -> tuple[int, int, int, int]:
        """How many pieces of lines are inside, along rows, columns, falling and rising diagonals."""
        # Of each piece one pixel, its last, has none behind it.
        down, falling, rising = (
            self.area - _region_kernels.count_shared(*self._runs, 1, right, False) for right in (0, 1, -1)
        )
        return len(self._runs[0]), down, falling, rising

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the centroid inside the box."""
        return self._measured[1][0], self._measured[1][1]

    @property
    def radius(self) -> float:
        """The distance from the centroid to the farthest pixel, plus a half for its own size."""
        return self._measured[1][2]

    @property
    def moments(self) -> Values:
        """float64 (DEGREE + 1, DEGREE + 1), at [q, p] the sum of y**q x**p over the pixels.

        Seen from the centroid and in units of ``radius``; each pixel is a point. 0 where q + p is beyond ``DEGREE``.
        """
        return self._measured[2]

    @property
    def turned_area(self) -> int:
        """How many pixels fall on the region when it is turned by 180 degrees about a point next to its centroid.

        The whole or half pixel of the four around the centroid that is best for it.
        """
        area, sum_y, sum_x = self._measured[0]
        doubles = [{2 * total // area, -(-2 * total // area)} for total in (sum_y, sum_x)]
        return max(_region_kernels.count_shared(*self._runs, y, x, True) for y in doubles[0] for x in doubles[1])

    @cached_property
    def _low_moments(self) -> list[list[float]]:
        """Up to 3, as plain numbers, which Python adds up faster."""
        return self.moments[:4, :4].tolist()

    @cached_property
    def principal_variances(self) -> tuple[float, float]:
        """Largest and smallest variance of position along any axis, each pixel a unit square."""
        unit = self.radius**2 / self.area
        square = 1 / 12  # the variance of position inside a unit square
        m = self._low_moments
        along_x, along_y = m[0][2] * unit + square, m[2][0] * unit + square
        mean, difference = (along_x + along_y) / 2, (along_x - along_y) / 2
        spread = math.hypot(difference, m[1][1] * unit)
        return mean + spread, max(mean - spread, square)  # no pixels lie closer together than on one line

    @cached_property
    def complex_moments(self) -> tuple[complex, complex, complex, complex]:
        """Sums of z z', z**2, z**2 z' and z**3 over the pixels, over A**2, A**2, A**2.5 and A**2.5.

        z is x + i y from the centroid, z' its conjugate. Turning a region only turns all but the first of them.
        """
        m, second = self._low_moments, (self.radius / self.area) ** 2
        third = second * self.radius / math.sqrt(self.area)
        return (
            complex((m[0][2] + m[2][0]) * second),
            complex(m[0][2] - m[2][0], 2 * m[1][1]) * second,
            complex(m[0][3] + m[2][1], m[1][2] + m[3][0]) * third,
            complex(m[0][3] - 3 * m[2][1], 3 * m[1][2] - m[3][0]) * third,
        )

    # ---- the convex hull --------------------------------------------------------------------------------------------

    @cached_property
    def _hull(self) -> tuple[Values, Values, tuple[int, int, int, int, int]]:
        return _region_kernels.measure_hull(*self._runs)

    @cached_property
    def callipers(self) -> tuple[Values, Values]:
        """Length and width of the hull as measured along and across each of its sides, float64 (k,) each.

        The smallest width over all directions is across one of the sides.
        """
        return self._hull[0] + 1, self._hull[1] + 1

    @property
    def hull_points(self) -> float:
        """How many middles of pixels, of the region or not, lie in or on the convex hull of those of the region.

        Counted without drawing it by Pick's theorem, from the area and the border points of a polygon with whole
        corners.
        Source: Pick (1899), Sitzungsberichte Lotos Prag 19:311-319.
        """
        double_area, on_border, *_ = self._hull[2]
        return (double_area + on_border) / 2 + 1

    @property
    def hull_diameter(self) -> float:
        """The largest distance between the middles of two pixels."""
        return math.sqrt(self._hull[2][2])

    @property
    def hull_diagonals(self) -> tuple[int, int]:
        """How many falling and how many rising diagonals meet the hull."""
        return self._hull[2][3] + 1, self._hull[2][4] + 1

    # ---- the border -------------------------------------------------------------------------------------------------

    @cached_property
    def _border(self) -> tuple[NDArray[np.uint8], list[list[int]], Values]:
        # Each chord along a row ends at two sides of pixels, and so does each along a column.
        sides = 2 * (self.chords[0] + self.chords[1])
        turns, borders, radii = _border_kernels.trace(self.padded, self._runs[0], sides, *self.centre)
        return turns, borders.tolist(), radii

    @property
    def radii(self) -> Values:
        """float64 (k,), from the centroid to each pixel that touches the outside, or a hole, by a side."""
        return self._border[2]

    @cached_property
    def components(self) -> int:
        """How many parts the region has, diagonal neighbours joined."""
        return sum(area > 0 for _, _, area in self._border[1])

    @property
    def holes(self) -> int:
        """How many holes are in the region, diagonal neighbours of the outside apart."""
        return len(self._border[1]) - self.components

    @cached_property
    def curves(self) -> list[Curve]:
        """Contours of the region's parts without holes: the largest part's first, then others that are no crumbs."""
        turns, borders, _ = self._border
        # Of parts of the same area the one whose shape number comes first: any rule will do that does not depend on
        # how the region lies.
        largest = max(area for _, _, area in borders)
        shapes = [turns[first:end] for first, end, area in borders if area == largest]
        if len(shapes) > 1:
            shapes = sorted(map(shape_number, shapes), key=bytes)
        if largest < CRUMB * self.area:
            return [Curve.of(shapes[0])]
        shapes += [turns[first:end] for first, end, area in borders if CRUMB * self.area <= area < largest]
        return [Curve.of(shape) for shape in shapes]

    @property
    def curve(self) -> Curve:
        """The contour of the largest part."""
        return self.curves[0]
