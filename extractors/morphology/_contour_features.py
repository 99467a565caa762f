"""Features of the smoothed contour of a region: lobes, concavities, clefts, curvature and Fourier descriptors.

These put numbers on what is judged by eye in acute lymphoblastic leukaemia, where a contour that is irregular, cleft,
indented or folded speaks for FAB's L2 and a regular one for L1 or L3. They follow the outer contour of the largest
part (``bulges`` that of every part), without the steps of pixels, see ``extractors.morphology._contour_curve``. None of
them has a unit or changes when a region is turned or mirrored, nor with its size beyond what the steps of pixels leave.

Source of the terms: Bennett et al. (1976), Br. J. Haematol. 33(4):451-458; (1981), Br. J. Haematol. 47(4):553-561.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.morphology._contour_curve import SAMPLES
from extractors.morphology._region import Region

Values = NDArray[np.float64]

#: Turning back, in radians, from which a contour counts as changing its side. The steps of pixels turn back a straight
#: side of 40 pixels by as much now and then, but no oval from 20 pixels' half-axes on.
INFLECTION = 0.1

#: Turning back, 15 degrees, from which a bay parts two lobes: below, a contour looks wavy but of one piece.
LOBE = math.radians(15)

#: Waves round the contour that have a descriptor. 2 is an ellipse, 3 a triangle; beyond 12, in a nucleus 50 pixels
#: wide, a wave is 13 pixels long and smaller lobes are steps of pixels.
WAVES = tuple(range(2, 13))


def ellipse_deviation(region: Region) -> float:
    """Root mean square distance of the contour from the ellipse of the same second moments, over the ellipse's radius.

    Distance and radius are seen from the ellipse's centre in the same direction, and the mean is taken along the
    contour. Unit: none.  Range: 0, an ellipse, upwards; 0.01 to 0.04 for most cells. The steps of pixels add (in
    squares) 0.13 / radius in pixels. FAB: irregular nuclear contour.
    """
    return region.curve.ellipse_deviation


def bending_energy(region: Region) -> float:
    """The mean square of the curvature, in units of that of a circle of the same length.  Range: 1, a circle, upwards.

    Unit: none. What it would cost to bend a straight rod into this contour; high for sharp lobes and clefts.
    Source: Young, Walker and Bowie (1974), Information and Control 25(4):357-370.
    """
    curve = region.curve
    return float(curve.shares @ curve.curvature**2)


def curvature_mean_absolute(region: Region) -> float:
    """The mean absolute curvature, in units of that of a circle of the same length.  Range: 1 upwards.  Unit: none.

    1 for every convex contour, however long; each bay that turns the contour back by an angle adds that angle over pi.
    FAB: indented or folded nuclear contour.
    Source: Fenchel (1929), Math. Annalen 101:238-252.
    """
    curve = region.curve
    return float(curve.shares @ np.abs(curve.curvature))


def curvature_std(region: Region) -> float:
    """The standard deviation of the curvature along the contour, in units of that of a circle of the same length.

    Unit: none.  Range: 0, a circle, upwards. Since the mean is 1, its square is ``bending_energy`` less 1.
    """
    curve = region.curve
    return math.sqrt(float(curve.shares @ (curve.curvature - 1) ** 2))


def curvature_min(region: Region) -> float:
    """The smallest curvature, in units of that of a circle of the same length.  Unit: none.  Range: up to 1, a circle.

    0 for a straight side; below, the sharpest bay, to some -15 at the end of a slit. FAB: cleft or indented nuclear
    contour.
    """
    return float(region.curve.curvature.min())


def curvature_max(region: Region) -> float:
    """The largest curvature, the sharpest corner, in units of that of a circle of the same length.  Unit: none.

    Range: 1, a circle, to some 15; a right angle has 8, as smoothing rounds it off.
    """
    return float(region.curve.curvature.max())


def inflections(region: Region) -> float:
    """How often the contour changes between curving outwards and inwards.  Unit: none.  Range: 0, 2, 4, ...

    Each change counts once the contour has turned back by a tenth of a radian, 6 degrees, so that the steps of pixels
    do not. FAB: folded nuclear contour.
    """
    return float(region.curve.reversals(INFLECTION))


def bulges(region: Region) -> float:
    """The number of bulges, which are what bays part that turn the contour back by 15 degrees or more.

    As many as bays, so that a contour with a single bay, an indented one, has one; and over all parts of the region
    that hold at least a twentieth of it. Unit: none.  Range: 1, 2, ...
    """
    return float(sum(max(1, curve.reversals(LOBE) // 2) for curve in region.curves))


def concavity_count(region: Region) -> float:
    """How many pockets between contour and convex hull are at least 0.02 equivalent diameters deep.  Range: 0, 1, ...

    Unit: none. FAB: indented nuclear contour.
    """
    return float(len(region.curve.concavities))


def concavity_depth(region: Region) -> float:
    """Depth of the deepest of these pockets below the hull, in equivalent diameters; 0 without any.  Unit: none.

    Range: 0, convex, or 0.02 upwards. FAB: depth of the nuclear indentation.
    """
    return max((depth for depth, _ in region.curve.concavities), default=0.0)


def concavity_depth_sum(region: Region) -> float:
    """Depths of all these pockets together, in equivalent diameters; 0 without any.  Unit: none.  Range: 0 upwards."""
    return math.fsum(depth for depth, _ in region.curve.concavities)


def cleft_depth(region: Region) -> float:
    """Depth of the deepest pocket that is no wider than deep, in equivalent diameters; 0 without any.  Unit: none.

    The width is taken at half the depth, so that a wedge counts if its mouth is up to twice as wide as it is deep.
    Range: 0, no cleft, or 0.02 upwards. FAB: nuclear clefting.
    """
    return _cleft(region)[0]


def cleft_width(region: Region) -> float:
    """Width at half its depth of the pocket of ``cleft_depth``, in equivalent diameters; 0 without any.  Unit: none.

    Range: 0 to ``cleft_depth``. FAB: nuclear clefting, narrow for a fold and wide for an indentation.
    """
    return _cleft(region)[1]


def _cleft(region: Region) -> tuple[float, float]:
    return max(((depth, width) for depth, width in region.curve.concavities if width <= depth), default=(0.0, 0.0))


def fourier(region: Region) -> Values:
    """sqrt(abs(c(1 + n))**2 + abs(c(1 - n))**2) / abs(c(1)), c the Fourier coefficients of x + i y along the contour.

    The strength of n waves round the contour, n from 2 to 12, by names such as ``fourier_3``. For r = 1 + e cos(n phi)
    with a small e it is e sqrt((1 + 1 / n**2) / 2). Only sizes of coefficients are taken: where the contour starts and
    how it lies does not matter. Unit: none.  Range: 0, no such wave, upwards.
    Source: Granlund (1972), IEEE Trans. Computers C-21(2):195-201; the sums of both ways round are the elliptic
    descriptors of Kuhl and Giardina (1982), Computer Graphics and Image Processing 18(3):236-258.
    """
    # Not as a matrix product: for one of this size OpenBLAS wakes up all its threads, which takes longer than it.
    sizes = np.abs(np.einsum("ij,j->i", _TO_COEFFICIENTS, region.curve.points.view(np.complex128).ravel()))
    forth, back = sizes[1:].reshape(2, -1)
    return np.hypot(forth, back) / sizes[0]


def _to_coefficients() -> NDArray[np.complex128]:
    """(1 + 2 len(WAVES), SAMPLES), the rows of a Fourier transform at 1, at 1 + n and at 1 - n for each n waves."""
    frequencies = np.concatenate([[1], 1 + np.array(WAVES), 1 - np.array(WAVES)])
    # Only few are needed, and so many products are faster than the fast transform of all.
    return np.exp(-2j * np.pi / SAMPLES * np.outer(frequencies, np.arange(SAMPLES)))


_TO_COEFFICIENTS = _to_coefficients()
