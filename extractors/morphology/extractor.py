"""Size and contour of the cell and of its nucleus, and how the one lies in the other.

A pixel is a unit square for areas and moments, and a disc of diameter 1 for lengths across; so a single pixel, a row
and a column of pixels have defined sizes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors.morphology import _contour_features
from extractors.morphology._contour_features import WAVES, fourier
from extractors.morphology._fractal_dimension import fractal_dimension
from extractors.morphology._region import Region
from extractors.morphology._zernike import ZERNIKE_ORDERS, zernike
from extractors.plain_words import in_plain_words
from fusion.images.cell import Cell
from fusion.plugins.extractors import Description


@dataclass(frozen=True)
class Morphology:
    """Size and contour of the cell and of its nucleus.

    Every value is in pixels of the source image, or without unit; nothing changes when the image is turned by 90
    degrees or mirrored. A nucleus of several parts is measured as one region, and its contour as that of the largest
    part. Features of an empty nucleus are NaN.
    """

    name: ClassVar[str] = "morphology"
    version: ClassVar[str] = "4"
    in_main_process: ClassVar[bool] = False

    def feature_names(self) -> list[str]:
        """``cell_area`` .., ``nucleus_area`` .., then what relates the two, such as ``nucleus_cell_area_ratio``."""
        return list(_feature_names())

    def describe(self) -> list[Description]:
        """What each feature is, in the order of ``feature_names``."""
        from extractors.catalogue import by_docstrings  # imports what makes extractors, so it cannot be imported above

        return in_plain_words(self.name, by_docstrings(self))

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN where a feature is undefined."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(_feature_names()))

    def _measure(self, cell: Cell) -> list[float]:
        whole = Region.from_mask(cell.mask)
        nucleus = Region.from_mask(cell.nucleus) if cell.nucleus.any() else None
        row = _measure_region(whole)
        row += [math.nan] * len(row) if nucleus is None else _measure_region(nucleus)
        return row + [feature(whole, nucleus) for feature in PAIR_FEATURES]


@lru_cache(maxsize=1)
def _feature_names() -> tuple[str, ...]:
    names = [feature.__name__ for feature in CONTOUR_FEATURES]
    names += [f"fourier_{waves}" for waves in WAVES]
    names += [f"zernike_{degree}_{repetition}" for degree, repetition in ZERNIKE_ORDERS]
    of_regions = [f"{region}_{name}" for region in ("cell", "nucleus") for name in names]
    return (*of_regions, *(feature.__name__ for feature in PAIR_FEATURES))


def _measure_region(region: Region) -> list[float]:
    """In the order of ``Morphology.feature_names``."""
    row = [feature(region) for feature in CONTOUR_FEATURES]
    return row + fourier(region).tolist() + zernike(region).tolist()


# ---- of one region: each takes a contour and gives a number --------------------------------------------------------


def area(region: Region) -> float:
    """A, the number of pixels.  Unit: pixels squared."""
    return float(region.area)


def perimeter(region: Region) -> float:
    """P = pi / 4 (n0 + n90 + (n45 + n135) / sqrt 2), where n counts the chords along a direction.  Unit: pixels.

    Crofton's formula with four directions: right within 1% for discs of radius 40 or more, 2% at 20, and 5% short for
    upright squares. Holes count.
    Source: Crofton (1868), Phil. Trans. 158:181-199; Lehmann and Legland (2012), Insight Journal.
    """
    across, down, falling, rising = region.chords
    return math.pi / 4 * (across + down + (falling + rising) / math.sqrt(2))


def convex_area(region: Region) -> float:
    """The number of pixels whose centre lies in or on the convex hull of all pixel centres.  Unit: pixels squared.

    Counted exactly, without drawing the hull: inner and border points of a polygon with whole corners.
    Source: Pick (1899), Sitzungsberichte Lotos Prag 19:311-319.
    """
    return region.hull_points


def convex_perimeter(region: Region) -> float:
    """The perimeter of the convex hull, by the same four directions as ``perimeter``.  Unit: pixels.

    A convex region has one chord on each line that meets it, so chords along a direction are the region's width.
    Source: Cauchy's formula, see ``perimeter``.
    """
    height, width = region.box
    falling, rising = region.hull_diagonals
    return math.pi / 4 * (height + width + (falling + rising) / math.sqrt(2))


def solidity(region: Region) -> float:
    """area / convex_area, 1 for a convex region, lower with every bay.  Unit: none.  Range: (0, 1].

    A digital disc has exactly 1. scikit-image's hull is up to half a pixel wider, so its solidity is 1% to 3% less.
    """
    return area(region) / convex_area(region)


def convexity(region: Region) -> float:
    """convex_perimeter / perimeter, 1 for a convex region, towards 0 for a ragged one.  Unit: none.

    Range: above 0; above 1 only for lobes that lie apart or hang together by corners, where the hull goes round the
    gap.
    """
    return convex_perimeter(region) / perimeter(region)


def equivalent_diameter(region: Region) -> float:
    """sqrt(4 A / pi), the diameter of a disc of the same area.  Unit: pixels."""
    return math.sqrt(4 * area(region) / math.pi)


def major_axis(region: Region) -> float:
    """4 sqrt(largest variance of position), the long axis of the ellipse of the same second moments.  Unit: pixels.

    Pixels are unit squares, as in MATLAB; scikit-image takes points, so its square is 16 / 12 less.
    """
    return 4 * math.sqrt(region.principal_variances[0])


def minor_axis(region: Region) -> float:
    """4 sqrt(smallest variance of position), see ``major_axis``.  Unit: pixels."""
    return 4 * math.sqrt(region.principal_variances[1])


def eccentricity(region: Region) -> float:
    """sqrt(1 - (minor_axis / major_axis)**2) of that ellipse.  Unit: none.

    Range: 0, a circle, to below 1, a line.
    """
    large, small = region.principal_variances
    return math.sqrt(max(0.0, 1 - small / large))


def elongation(region: Region) -> float:
    """1 - minor_axis / major_axis.  Unit: none.  Range: 0, a circle, to below 1, a line.

    What IBSI calls elongation (Q3CK) is minor_axis / major_axis.
    """
    return 1 - minor_axis(region) / major_axis(region)


def extent(region: Region) -> float:
    """A / area of the upright bounding box, pi / 4 for a disc.  Unit: none.  Range: (0, 1]."""
    height, width = region.box
    return area(region) / (height * width)


def form_factor(region: Region) -> float:
    """4 pi A / P**2, 1 for a disc, towards 0 for a ragged contour.  Unit: none.  Range: above 0.

    A is the pixel count, P the Crofton perimeter with four directions: the chain-code perimeter is 5% too long and
    would make a perfect disc score 0.90. A square has 0.87; regions of a few pixels can have more than 1.
    Source: Cox (1927), J. Paleontology 1(3):179-183.
    """
    return 4 * math.pi * area(region) / perimeter(region) ** 2


def roundness(region: Region) -> float:
    """4 A / (pi major_axis**2), 1 for a disc, towards 0 for a line.  Unit: none.  Range: above 0.

    Blind to small bays, unlike ``form_factor``.
    """
    return 4 * area(region) / (math.pi * major_axis(region) ** 2)


def max_feret(region: Region) -> float:
    """The largest distance between two pixels, plus 1 for the pixels' own size.  Unit: pixels.

    Source: Feret (1930), the largest width over all directions.
    """
    return region.hull_diameter + 1


def min_feret(region: Region) -> float:
    """The smallest width over all directions, plus 1 for the pixels' own size.  Unit: pixels."""
    return float(region.callipers[1].min())


def feret_aspect(region: Region) -> float:
    """max_feret / min_feret.  Unit: none.  Range: 1 upwards, 1 for a disc."""
    return max_feret(region) / min_feret(region)


def rectangle_aspect(region: Region) -> float:
    """Long over short side of the smallest rectangle around the region, at any angle.  Unit: none.

    Range: 1 upwards. Of several rectangles of the same area the longest counts.
    """
    length, width = region.callipers
    areas = length * width
    smallest = areas <= areas.min() * (1 + 1e-9)  # rounding must not choose between equal ones
    return float((np.maximum(length, width) / np.minimum(length, width))[smallest].max())


def contour_irregularity(region: Region) -> float:
    """Standard deviation over mean of the distance from the centroid to each border pixel, 0 for a disc.

    Unit: none.  Range: 0 upwards. An ellipse has more than 0, see ``ellipse_deviation``. NaN for a single pixel, which
    has no distance from itself.
    """
    radii = region.radii
    mean = float(radii.sum()) / len(radii)
    from_mean = radii - mean
    return math.sqrt(float(from_mean @ from_mean) / len(radii)) / mean if mean > 0 else math.nan


def symmetry(region: Region) -> float:
    """The share of the region that is covered when it is turned by 180 degrees about its centroid.  Unit: none.

    Range: 0 to 1.

    1 for discs, ellipses and rectangles, lower with a bulge or a bay on one side. The centre of turning is the
    whole or half pixel next to the centroid that covers most.
    """
    return region.turned_area / area(region)


def euler_number(region: Region) -> float:
    """The number of parts less the number of holes, diagonal neighbours joined.  Unit: none.

    Range: any whole number, 1 for a region of one piece without holes.
    """
    return float(region.components - region.holes)


def hu_1(region: Region) -> float:
    """Hu's first invariant, eta20 + eta02, the spread about the centroid; see ``_logarithmic`` for the scale.

    Unit: none. Source of all seven: Hu (1962), IRE Trans. Inf. Theory 8(2):179-187; as products of complex moments:
    Flusser (2000), Pattern Recognition 33(9):1405-1410.
    """
    return _logarithmic(region.complex_moments[0].real)


def hu_2(region: Region) -> float:
    """Hu's second invariant, (eta20 - eta02)**2 + 4 eta11**2, 0 for a disc; logarithmic.  Unit: none."""
    return _logarithmic(abs(region.complex_moments[1]) ** 2)


def hu_3(region: Region) -> float:
    """Hu's third invariant, (eta30 - 3 eta12)**2 + (3 eta21 - eta03)**2, the triangular part; logarithmic.

    Unit: none.
    """
    return _logarithmic(abs(region.complex_moments[3]) ** 2)


def hu_4(region: Region) -> float:
    """Hu's fourth invariant, (eta30 + eta12)**2 + (eta21 + eta03)**2, the one-sided part; logarithmic.  Unit: none."""
    return _logarithmic(abs(region.complex_moments[2]) ** 2)


def hu_5(region: Region) -> float:
    """Hu's fifth invariant, of one-sided and triangular part together; logarithmic, its sign kept.  Unit: none."""
    _, _, one_sided, triangular = region.complex_moments
    return _logarithmic((triangular * one_sided.conjugate() ** 3).real)


def hu_6(region: Region) -> float:
    """Hu's sixth invariant, of one-sided part and elongation together; logarithmic, its sign kept.  Unit: none."""
    _, elongated, one_sided, _ = region.complex_moments
    return _logarithmic((elongated * one_sided.conjugate() ** 2).real)


def hu_7(region: Region) -> float:
    """The size of Hu's seventh invariant, how far the region is from its mirror image; logarithmic.  Unit: none.

    Its sign only tells left from right, and a smear has no left and right.
    """
    _, _, one_sided, triangular = region.complex_moments
    return _logarithmic(abs((triangular * one_sided.conjugate() ** 3).imag))


def _logarithmic(invariant: float) -> float:
    """sign(h) log10(1 + abs(h) / 1e-12): the invariants of cells span ten powers of ten and can be 0 or negative.

    Below 1e-12 the invariants of a digital disc are rounding, and a plain logarithm would blow that up.
    """
    return math.copysign(math.log10(1 + abs(invariant) / 1e-12), invariant)


CONTOUR_FEATURES = (
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
    euler_number,
    fractal_dimension,
    hu_1,
    hu_2,
    hu_3,
    hu_4,
    hu_5,
    hu_6,
    hu_7,
    _contour_features.ellipse_deviation,
    _contour_features.bending_energy,
    _contour_features.curvature_mean_absolute,
    _contour_features.curvature_std,
    _contour_features.curvature_min,
    _contour_features.curvature_max,
    _contour_features.inflections,
    _contour_features.bulges,
    _contour_features.concavity_count,
    _contour_features.concavity_depth,
    _contour_features.concavity_depth_sum,
    _contour_features.cleft_depth,
    _contour_features.cleft_width,
)


# ---- of the cell and its nucleus, which is None where it is empty ---------------------------------------------------


def nucleus_cell_area_ratio(cell: Region, nucleus: Region | None) -> float:
    """Area of the nucleus over area of the whole cell.  Unit: none.  Range: 0, no nucleus, to 1, no cytoplasm.

    Not the nucleus to cytoplasm ratio, which is infinite for a cell without visible cytoplasm.
    """
    return 0.0 if nucleus is None else area(nucleus) / area(cell)


def nucleus_offset(cell: Region, nucleus: Region | None) -> float:
    """Distance of the two centroids over the cell's equivalent diameter, 0 for a central nucleus.

    Unit: none.  Range: 0 to below 1 for most.
    """
    if nucleus is None:
        return math.nan
    down, right = (
        nucleus.corner[axis] - cell.corner[axis] + nucleus.centre[axis] - cell.centre[axis] for axis in (0, 1)
    )
    return math.hypot(down, right) / equivalent_diameter(cell)


def nucleus_count(cell: Region, nucleus: Region | None) -> float:
    """The number of separate parts of the nucleus, diagonal neighbours joined; 0 for an empty nucleus.

    Unit: none.  Range: 0, 1, 2, ...
    """
    return 0.0 if nucleus is None else float(nucleus.components)


PAIR_FEATURES = (nucleus_cell_area_ratio, nucleus_offset, nucleus_count)
