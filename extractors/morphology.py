"""Size and outline of the cell and of its nucleus, and how the one lies in the other.

A pixel is a unit square for areas and moments, and a disc of diameter 1 for lengths across; so a single pixel, a row
and a column of pixels have defined sizes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.cells import Cell

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Morphology:
    """Size and outline of the cell and of its nucleus.

    Every value is in pixels of the source picture, or without unit; nothing changes when the picture is turned by 90
    degrees or mirrored. A nucleus of several lobes is measured as one region. Features of an empty nucleus are NaN.
    """

    name: ClassVar[str] = "morphology"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    def feature_names(self) -> list[str]:
        """``cell_area`` .., ``nucleus_area`` .., then what relates the two, such as ``nucleus_cell_area_ratio``."""
        outline = [f"{region}_{feature.__name__}" for region in ("cell", "nucleus") for feature in OUTLINE_FEATURES]
        return outline + [feature.__name__ for feature in PAIR_FEATURES]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN where a feature is undefined."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(self.feature_names()))

    def _measure(self, cell: Cell) -> list[float]:
        whole = Outline.of(cell.mask)
        nucleus = Outline.of(cell.nucleus) if cell.nucleus.any() else None
        row = [feature(whole) for feature in OUTLINE_FEATURES]
        row += [math.nan if nucleus is None else feature(nucleus) for feature in OUTLINE_FEATURES]
        return row + [feature(whole, nucleus) for feature in PAIR_FEATURES]


@dataclass(frozen=True, eq=False)
class Outline:
    """A region and what several of its features are made of, each computed once.

    Attributes
    ----------
    mask : bool (h, w), the region cut to its bounding box; not empty.
    corner : (y, x) of the box in the picture.
    """

    mask: NDArray[np.bool_]
    corner: tuple[int, int]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Outline:
        """Of a mask that is not empty."""
        mask = np.ascontiguousarray(mask)
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        return cls(np.ascontiguousarray(mask[y : y + height, x : x + width]), (y, x))

    @cached_property
    def padded(self) -> NDArray[np.bool_]:
        """The mask with one pixel of background around it, so that every border pixel has neighbours."""
        return np.pad(self.mask, 1)

    @cached_property
    def moments(self) -> dict[str, float]:
        """Raw (m), central (mu) and normalised (nu) moments up to order 3, each pixel a point."""
        return cv2.moments(self.mask.view(np.uint8), binaryImage=True)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the centroid inside the box."""
        return self.moments["m01"] / self.moments["m00"], self.moments["m10"] / self.moments["m00"]

    @cached_property
    def principal_variances(self) -> tuple[float, float]:
        """Largest and smallest variance of position along any axis, each pixel a unit square."""
        count = self.moments["m00"]
        square = 1 / 12  # the variance of position inside a unit square
        along_x, along_y = self.moments["mu20"] / count + square, self.moments["mu02"] / count + square
        mean, difference = (along_x + along_y) / 2, (along_x - along_y) / 2
        radius = math.hypot(difference, self.moments["mu11"] / count)
        return mean + radius, max(mean - radius, square)  # no pixels lie closer together than on one line

    @cached_property
    def hull(self) -> NDArray[np.int64]:
        """int64 (k, 2), (x, y) of the pixels at the corners of the convex hull, in order round it."""
        rows = np.arange(self.mask.shape[0])
        # A row's first and last pixel suffice; a row between two lobes of a nucleus may have none.
        rows = rows[self.mask.any(axis=1)]
        first = self.mask[rows].argmax(axis=1)
        last = self.mask.shape[1] - 1 - self.mask[rows, ::-1].argmax(axis=1)
        ends = np.concatenate([np.stack([first, rows], axis=1), np.stack([last, rows], axis=1)])
        return cv2.convexHull(ends.astype(np.int32)).reshape(-1, 2).astype(np.int64)

    @cached_property
    def callipers(self) -> tuple[Values, Values]:
        """Length and width of the hull as measured along and across each of its sides, float64 (k,) each.

        The smallest width over all directions is across one of the sides.
        """
        sides = np.roll(self.hull, -1, axis=0) - self.hull
        length = np.hypot(sides[:, 0], sides[:, 1])
        if not length.all():  # one pixel only
            return np.ones(1), np.ones(1)
        along = self.hull @ (sides / length[:, None]).T
        across = self.hull @ (np.stack([-sides[:, 1], sides[:, 0]], axis=1) / length[:, None]).T
        return np.ptp(along, axis=0) + 1, np.ptp(across, axis=0) + 1

    @cached_property
    def radii(self) -> Values:
        """float64 (k,), distance of every border pixel from the centroid; border pixels touch the outside by a side."""
        p = self.padded
        border = self.mask & ~(p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:])
        y, x = np.nonzero(border)
        return np.hypot(y - self.centre[0], x - self.centre[1])


# ---- of one region: each takes an outline and gives a number --------------------------------------------------------


def area(outline: Outline) -> float:
    """A, the number of pixels.  Unit: pixels squared."""
    return float(outline.moments["m00"])


def perimeter(outline: Outline) -> float:
    """P = pi / 4 (n0 + n90 + (n45 + n135) / sqrt 2), where n counts the chords along a direction.  Unit: pixels.

    Crofton's formula with four directions: right within 1% for discs of radius 40 or more, 2% at 20, and 5% short for
    upright squares. Holes count.
    Source: Crofton (1868), Phil. Trans. 158:181-199; Lehmann and Legland (2012), Insight Journal.
    """
    p = outline.padded
    steps = ((1, 2), (2, 1), (2, 2), (2, 0))  # where a neighbour's window starts; the mask's own starts at (1, 1)
    height, width = outline.mask.shape
    across, down, falling, rising = (
        float(np.count_nonzero(outline.mask & ~p[y : y + height, x : x + width])) for y, x in steps
    )
    return math.pi / 4 * (across + down + (falling + rising) / math.sqrt(2))


def convex_area(outline: Outline) -> float:
    """The number of pixels whose centre lies in or on the convex hull of all pixel centres.  Unit: pixels squared.

    Counted exactly, without drawing the hull: Pick's theorem, inner and border points of a polygon with whole corners.
    Source: Pick (1899), Sitzungsberichte Lotos Prag 19:311-319.
    """
    x, y = outline.hull.T
    following_x, following_y = np.roll(x, -1), np.roll(y, -1)
    double_area = abs(int((x * following_y - following_x * y).sum()))
    on_border = int(np.gcd(following_x - x, following_y - y).sum())
    return (double_area + on_border) / 2 + 1


def convex_perimeter(outline: Outline) -> float:
    """The perimeter of the convex hull, by the same four directions as ``perimeter``.  Unit: pixels.

    A convex region has one chord on each line that meets it, so chords along a direction are the region's width.
    Source: Cauchy's formula, see ``perimeter``.
    """
    x, y = outline.hull.T
    width, height, falling, rising = (float(np.ptp(line) + 1) for line in (x, y, x - y, x + y))
    return math.pi / 4 * (height + width + (falling + rising) / math.sqrt(2))


def solidity(outline: Outline) -> float:
    """area / convex_area, 1 for a convex region, lower with every bay.  Range: (0, 1].

    A digital disc has exactly 1. scikit-image's hull is up to half a pixel wider, so its solidity is 1% to 3% less.
    """
    return area(outline) / convex_area(outline)


def convexity(outline: Outline) -> float:
    """convex_perimeter / perimeter, 1 for a convex region, towards 0 for a ragged one.

    Above 1 only for lobes that lie apart or hang together by corners, where the hull goes round the gap.
    """
    return convex_perimeter(outline) / perimeter(outline)


def equivalent_diameter(outline: Outline) -> float:
    """sqrt(4 A / pi), the diameter of a disc of the same area.  Unit: pixels."""
    return math.sqrt(4 * area(outline) / math.pi)


def major_axis(outline: Outline) -> float:
    """4 sqrt(largest variance of position), the long axis of the ellipse of the same second moments.  Unit: pixels.

    Pixels are unit squares, as in MATLAB; scikit-image takes points, so its square is 16 / 12 less.
    """
    return 4 * math.sqrt(outline.principal_variances[0])


def minor_axis(outline: Outline) -> float:
    """4 sqrt(smallest variance of position), see ``major_axis``.  Unit: pixels."""
    return 4 * math.sqrt(outline.principal_variances[1])


def eccentricity(outline: Outline) -> float:
    """sqrt(1 - (minor_axis / major_axis)**2) of that ellipse.  Range: 0, a circle, to below 1, a line."""
    large, small = outline.principal_variances
    return math.sqrt(max(0.0, 1 - small / large))


def elongation(outline: Outline) -> float:
    """1 - minor_axis / major_axis.  Range: 0, a circle, to below 1, a line.

    What IBSI calls elongation (Q3CK) is minor_axis / major_axis.
    """
    return 1 - minor_axis(outline) / major_axis(outline)


def extent(outline: Outline) -> float:
    """A / area of the upright bounding box, pi / 4 for a disc.  Range: (0, 1]."""
    return area(outline) / outline.mask.size


def form_factor(outline: Outline) -> float:
    """4 pi A / P**2, 1 for a disc, towards 0 for a ragged outline.

    A is the pixel count, P the Crofton perimeter with four directions: the chain-code perimeter is 5% too long and
    would make a perfect disc score 0.90. A square has 0.87; regions of a few pixels can have more than 1.
    Source: Cox (1927), J. Paleontology 1(3):179-183.
    """
    return 4 * math.pi * area(outline) / perimeter(outline) ** 2


def roundness(outline: Outline) -> float:
    """4 A / (pi major_axis**2), 1 for a disc, towards 0 for a line; blind to small bays, unlike ``form_factor``."""
    return 4 * area(outline) / (math.pi * major_axis(outline) ** 2)


def max_feret(outline: Outline) -> float:
    """The largest distance between two pixels, plus 1 for the pixels' own size.  Unit: pixels.

    Source: Feret (1930), the largest width over all directions.
    """
    across = outline.hull[:, None] - outline.hull
    return math.sqrt(int((across**2).sum(axis=2).max())) + 1


def min_feret(outline: Outline) -> float:
    """The smallest width over all directions, plus 1 for the pixels' own size.  Unit: pixels."""
    return float(outline.callipers[1].min())


def feret_aspect(outline: Outline) -> float:
    """max_feret / min_feret.  Range: 1 upwards, 1 for a disc."""
    return max_feret(outline) / min_feret(outline)


def rectangle_aspect(outline: Outline) -> float:
    """Long over short side of the smallest rectangle around the region, at any angle.  Range: 1 upwards.

    Of several rectangles of the same area the longest counts.
    """
    length, width = outline.callipers
    areas = length * width
    smallest = areas <= areas.min() * (1 + 1e-9)  # rounding must not choose between equal ones
    return float((np.maximum(length, width) / np.minimum(length, width))[smallest].max())


def contour_irregularity(outline: Outline) -> float:
    """Standard deviation over mean of the distance from the centroid to each border pixel, 0 for a disc.

    NaN for a single pixel, which has no distance from itself.
    """
    mean = float(outline.radii.mean())
    return float(outline.radii.std()) / mean if mean > 0 else math.nan


def symmetry(outline: Outline) -> float:
    """The share of the region that is covered when it is turned by 180 degrees about its centroid.  Range: 0 to 1.

    1 for discs, ellipses and rectangles, lower with a bulge or a bay on one side. The centre of turning is the
    whole or half pixel next to the centroid that covers most.
    """
    covered = 0
    for double_y in {math.floor(2 * outline.centre[0]), math.ceil(2 * outline.centre[0])}:
        for double_x in {math.floor(2 * outline.centre[1]), math.ceil(2 * outline.centre[1])}:
            # The largest window with this centre inside the box: what falls out of it has nothing to be covered by.
            rows, columns = (
                slice(max(0, double - size + 1), min(size - 1, double) + 1)
                for double, size in zip((double_y, double_x), outline.mask.shape, strict=True)
            )
            window = outline.mask[rows, columns]
            covered = max(covered, int(np.count_nonzero(window & window[::-1, ::-1])))
    return covered / area(outline)


def hu_1(outline: Outline) -> float:
    """Hu's first invariant, eta20 + eta02, the spread about the centroid; see ``_logarithmic`` for the scale."""
    return _logarithmic(_hu(outline)[0])


def hu_2(outline: Outline) -> float:
    """Hu's second invariant, (eta20 - eta02)**2 + 4 eta11**2, 0 for a disc; logarithmic."""
    return _logarithmic(_hu(outline)[1])


def hu_3(outline: Outline) -> float:
    """Hu's third invariant, (eta30 - 3 eta12)**2 + (3 eta21 - eta03)**2, the triangular part; logarithmic."""
    return _logarithmic(_hu(outline)[2])


def hu_4(outline: Outline) -> float:
    """Hu's fourth invariant, (eta30 + eta12)**2 + (eta21 + eta03)**2, the one-sided part; logarithmic."""
    return _logarithmic(_hu(outline)[3])


def hu_5(outline: Outline) -> float:
    """Hu's fifth invariant, of one-sided and triangular part together; logarithmic, its sign kept."""
    return _logarithmic(_hu(outline)[4])


def hu_6(outline: Outline) -> float:
    """Hu's sixth invariant, of one-sided part and elongation together; logarithmic, its sign kept."""
    return _logarithmic(_hu(outline)[5])


def hu_7(outline: Outline) -> float:
    """The size of Hu's seventh invariant, how far the region is from its mirror image; logarithmic.

    Its sign only tells left from right, and a smear has no left and right.
    """
    return _logarithmic(abs(_hu(outline)[6]))


def _hu(outline: Outline) -> Values:
    """Seven invariants under shift, size and turning.  Source: Hu (1962), IRE Trans. Inf. Theory 8(2):179-187."""
    return np.asarray(cv2.HuMoments(outline.moments), np.float64).ravel()


def _logarithmic(invariant: float) -> float:
    """sign(h) log10(1 + abs(h) / 1e-12): the invariants of cells span ten powers of ten and can be 0 or negative.

    Below 1e-12 the invariants of a digital disc are rounding, and a plain logarithm would blow that up.
    """
    return math.copysign(math.log10(1 + abs(invariant) / 1e-12), invariant)


OUTLINE_FEATURES = (
    area,
    perimeter,
    convex_area,
    convex_perimeter,
    solidity,
    convexity,
    equivalent_diameter,
    major_axis,
    minor_axis,
    eccentricity,
    elongation,
    extent,
    form_factor,
    roundness,
    max_feret,
    min_feret,
    feret_aspect,
    rectangle_aspect,
    contour_irregularity,
    symmetry,
    hu_1,
    hu_2,
    hu_3,
    hu_4,
    hu_5,
    hu_6,
    hu_7,
)


# ---- of the cell and its nucleus, which is None where it is empty ---------------------------------------------------


def nucleus_cell_area_ratio(cell: Outline, nucleus: Outline | None) -> float:
    """Area of the nucleus over area of the whole cell.  Range: 0, no nucleus, to 1, no cytoplasm.

    Not the nucleus to cytoplasm ratio, which is infinite for a cell without visible cytoplasm.
    """
    return 0.0 if nucleus is None else area(nucleus) / area(cell)


def nucleus_offset(cell: Outline, nucleus: Outline | None) -> float:
    """Distance of the two centroids over the cell's equivalent diameter, 0 for a central nucleus, below 1 for most."""
    if nucleus is None:
        return math.nan
    down, right = (
        nucleus.corner[axis] - cell.corner[axis] + nucleus.centre[axis] - cell.centre[axis] for axis in (0, 1)
    )
    return math.hypot(down, right) / equivalent_diameter(cell)


def nucleus_count(cell: Outline, nucleus: Outline | None) -> float:
    """The number of separate parts of the nucleus, diagonal neighbours joined; 0 for an empty nucleus."""
    return (
        0.0 if nucleus is None else float(cv2.connectedComponents(nucleus.mask.view(np.uint8), connectivity=8)[0] - 1)
    )


PAIR_FEATURES = (nucleus_cell_area_ratio, nucleus_offset, nucleus_count)
