"""Chromatin of the nucleus: how uneven, how clumped, where the dark parts lie, and pale spots that may be nucleoli.

These put numbers on what the FAB classification looks at: Bennett et al. (1981), Br. J. Haematol. 47(4):553-561, scores
a lymphoblast by its nucleoli and its nucleus, and tells L1 from L2 by how homogeneous the chromatin is. Some names are
those of Young, Verbeek and Mayall (1986), Cytometry 7(5):467-474.

Density is optical density in green, which purple stain holds back most: -ln(green / 255), so that twice as much stain
is twice as dense. The outermost two pixels of the nucleus are left out, because the camera mixes them with what lies
around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.texture import _chromatin_kernels, _coarseness
from extractors.texture._local_patterns import otsu_threshold

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Steps to a unit of optical density: a grey level at C-NMC's green of 27 is then seven steps, and a sum of squares of
#: a thousand pixels fits into 32 bits.
STEPS_PER_OD = 200

_DENSITY_OF_GREEN = np.rint(-STEPS_PER_OD * np.log(np.maximum(np.arange(256), 1) / 255)).astype(np.int16)

#: Pixels at the rim that are left out: twice the blur of a sharp image.
RIM_PX = 2

#: A nucleolus is about a tenth of the nucleus in radius, so a square 0.22 times as wide as the nucleus' radius about
#: covers one. Nucleoli are paler by 15% or more, and few such squares of plain chromatin are.
SPOT_WIDTH, SPOT_PALENESS = 0.22, 0.15

#: Rim and core of a nucleus, as shares of the way from its edge to its deepest point.
RIM_DEPTH, CORE_DEPTH = 0.2, 0.5


@dataclass(frozen=True, eq=False)
class Chromatin:
    """A nucleus without its outermost pixels, cut out; not empty.

    Attributes
    ----------
    density : int16 (H, W), in steps of 1 / 200 OD.
    inside : bool (H, W).
    """

    density: NDArray[np.int16]
    inside: Mask

    @cached_property
    def histogram(self) -> Values:
        """float64 (n,): number of pixels of each density, from 0 steps to the most there is."""
        return _chromatin_kernels.count_densities(self.density, self.inside)

    @cached_property
    def steps(self) -> Values:
        """float64 (n,), 0 .. n - 1: the densities of ``histogram``."""
        return np.arange(float(len(self.histogram)))

    @cached_property
    def pixels(self) -> int:
        """How many."""
        return int(self.histogram.sum())

    @cached_property
    def is_even(self) -> bool:
        """Whether there is one density only."""
        return bool(self.histogram[-1] == self.pixels)

    @cached_property
    def mean(self) -> float:
        """Of the density, in steps."""
        return float(self.histogram @ self.steps) / self.pixels

    @cached_property
    def variance(self) -> float:
        """Of the density, in steps squared."""
        return 0.0 if self.is_even else float(self.histogram @ np.square(self.steps - self.mean)) / self.pixels

    @cached_property
    def radius(self) -> float:
        """Of a disc as large, in pixels."""
        return math.sqrt(self.pixels / math.pi)

    @cached_property
    def threshold(self) -> int:
        """What is denser is condensed: Otsu's threshold, in steps; the one density where there is no other."""
        return len(self.histogram) - 1 if self.is_even else otsu_threshold(self.histogram)

    @cached_property
    def tones(self) -> tuple[float, float]:
        """Mean density of open and of condensed chromatin, in steps; NaN for the latter where nothing is condensed."""
        parts = slice(None, self.threshold + 1), slice(self.threshold + 1, None)
        numbers = [float(self.histogram[part].sum()) for part in parts]
        sums = [float(self.histogram[part] @ self.steps[part]) for part in parts]
        return sums[0] / numbers[0], sums[1] / numbers[1] if numbers[1] else math.nan

    @cached_property
    def clumps(self) -> tuple[int, int]:
        """Number of clumps, and their pixels: around them, 3 x 3 are on average nearer to condensed than to open."""
        if self.is_even:
            return 0, 0
        sums, fits = self._windows(1)
        return _parts(fits & (sums > 9 * sum(self.tones) / 2))

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """float32 (H, W): 0 at the edge, 1 at the deepest point; 0 everywhere where all is edge."""
        framed = cv2.copyMakeBorder(self.inside.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        least, most, _, _ = cv2.minMaxLoc(depth, self.inside.view(np.uint8))
        return np.asarray((depth - np.float32(least)) / np.float32(max(most - least, 1e-6)), np.float32)

    @cached_property
    def sums(self) -> _chromatin_kernels.Sums:
        """Over the rim, the outer fifth of the way from edge to deepest point, the core, its inner half, and all."""
        rim, core = np.float32(RIM_DEPTH), np.float32(CORE_DEPTH)
        return _chromatin_kernels.sum_by_depth(self.density, self.inside, self.depth, rim, core, self.threshold)

    @cached_property
    def squares(self) -> tuple[NDArray[np.int32], Mask, float]:
        """Sum of density over the square of a nucleolus' size around each pixel, where it lies wholly inside, and what
        the sum would be in plain chromatin."""
        half = int(SPOT_WIDTH * self.radius / 2)
        return *self._windows(half), (2 * half + 1) ** 2 * max(self.mean, 1e-9)

    @cached_property
    def spots(self) -> tuple[int, int]:
        """Number of pale spots, and of the pixels around which a square is pale."""
        sums, fits, plain = self.squares
        return _parts(fits & (sums <= (1 - SPOT_PALENESS) * plain)) if self.mean > 0 else (0, 0)

    def _windows(self, half: int) -> tuple[NDArray[np.int32], Mask]:
        """Sum of density over the square reaching ``half`` pixels around each pixel; where it lies wholly inside."""
        side = 2 * half + 1
        sums = cv2.boxFilter(self.density, cv2.CV_32S, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(sums, np.int32), _eroded(self.inside, half)


def chromatin_statistics(rgb: NDArray[np.uint8], nucleus: Mask) -> Values:
    """Every statistic of a nucleus.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).
    nucleus : bool (H, W), may be empty.

    Returns
    -------
    float64 (18,) : in the order of ``STATISTICS``; NaN for a nucleus of nothing but its outermost two pixels.
    """
    kept = _eroded(nucleus, RIM_PX)
    x, y, width, height = cv2.boundingRect(kept.view(np.uint8))
    if not width:
        return np.full(len(STATISTICS), np.nan)
    window = slice(y, y + height), slice(x, x + width)
    green = np.ascontiguousarray(rgb[window][..., 1])
    density = np.asarray(cv2.LUT(green, _DENSITY_OF_GREEN), np.int16)
    chromatin = Chromatin(density, np.ascontiguousarray(kept[window]))
    return np.array([statistic(chromatin) for statistic in STATISTICS])


def _eroded(mask: Mask, half: int) -> Mask:
    """Where the square reaching ``half`` pixels around a pixel lies wholly in the mask."""
    return numba_kernels.eroded(np.ascontiguousarray(mask).view(np.uint8), half).view(np.bool_)


def _parts(mask: Mask) -> tuple[int, int]:
    """Number of connected parts, diagonal neighbours included, and their pixels in all."""
    pixels = cv2.countNonZero(mask.view(np.uint8))
    return (cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1 if pixels else 0), pixels


# ---- statistics of a nucleus ----------------------------------------------------------------------------------------


def density(chromatin: Chromatin) -> float:
    """Mean optical density in green, -ln(green / 255).  Unit: OD.  Range: 0 to 5.5."""
    return chromatin.mean / STEPS_PER_OD


def density_of_palest_half(chromatin: Chromatin) -> float:
    """Mean optical density in green of the palest half of the nucleus.  Unit: OD.  Range: 0 to 5.5.

    Loose chromatin shows by its pale places, and what is densest says little of them.
    """
    below = np.cumsum(chromatin.histogram) - chromatin.histogram
    half = chromatin.pixels / 2
    return float(np.clip(half - below, 0, chromatin.histogram) @ chromatin.steps) / half / STEPS_PER_OD


def integrated_density(chromatin: Chromatin) -> float:
    """Sum of optical density over the nucleus: how much stain there is.  Unit: OD times pixels."""
    return chromatin.mean * chromatin.pixels / STEPS_PER_OD


def heterogeneity(chromatin: Chromatin) -> float:
    """Standard deviation of density over its mean: 0 for homogeneous chromatin.  NaN for a nucleus without any stain.

    Source: after Bennett et al. (1981), Br. J. Haematol. 47(4):553-561, nuclear chromatin.
    """
    return math.sqrt(chromatin.variance) / chromatin.mean if chromatin.mean > 0 else math.nan


def skewness(chromatin: Chromatin) -> float:
    """Third standardised moment of density: above 0 for a few dense clumps in open chromatin.  NaN for one density."""
    if chromatin.is_even:
        return math.nan
    deviation = chromatin.steps - chromatin.mean
    third = chromatin.histogram @ (np.square(deviation) * deviation) / chromatin.pixels
    return float(third / chromatin.variance**1.5)


def condensed_share(chromatin: Chromatin) -> float:
    """Share of the nucleus that is condensed: denser than Otsu's threshold of its own densities.  Range: 0 to 1.

    Source: after Young, Verbeek and Mayall (1986), Cytometry 7(5):467-474, with a threshold that follows the stain.
    """
    return float(chromatin.histogram[chromatin.threshold + 1 :].sum()) / chromatin.pixels


def condensed_contrast(chromatin: Chromatin) -> float:
    """Mean density of condensed less that of open chromatin, over the mean of all.  NaN where nothing is condensed."""
    open_, condensed = chromatin.tones
    return (condensed - open_) / chromatin.mean if chromatin.mean > 0 else math.nan


def condensed_separability(chromatin: Chromatin) -> float:
    """Share of the density's variance that lies between condensed and open chromatin: 1 for two clean tones.

    A normal distribution has 0.64.  Range: 0 to 1.  NaN where nothing is condensed.
    Source: Otsu (1979), IEEE Trans. SMC 9(1):62-66, eta.
    """
    share = condensed_share(chromatin)
    if share == 0:
        return math.nan
    return share * (1 - share) * (condensed_contrast(chromatin) * chromatin.mean) ** 2 / chromatin.variance


def clump_count(chromatin: Chromatin) -> float:
    """Number of clumps of condensed chromatin: connected places where 3 x 3 pixels are on average condensed.

    That is, where they are nearer to the mean of condensed than to that of open chromatin.  Unit: clumps.
    """
    return float(chromatin.clumps[0])


def clump_area(chromatin: Chromatin) -> float:
    """Mean area of the clumps of condensed chromatin, as a share of the nucleus.  Range: 0 to 1.  NaN without clumps.

    Source: after Young, Verbeek and Mayall (1986), Cytometry 7(5):467-474, clumpiness.
    """
    number, pixels = chromatin.clumps
    return pixels / number / chromatin.pixels if number else math.nan


def margination(chromatin: Chromatin) -> float:
    """Mean density at the rim less that in the core, over the mean of all: above 0 for dark chromatin at the rim.

    The rim is the outer fifth of the way from edge to deepest point, the core the inner half of it.  NaN where all is
    edge, or for a nucleus without any stain.
    Source: after Young, Verbeek and Mayall (1986), Cytometry 7(5):467-474, margination.
    """
    if chromatin.mean <= 0 or not chromatin.sums.core:
        return math.nan
    sums = chromatin.sums
    return (sums.rim_density / sums.rim - sums.core_density / sums.core) / chromatin.mean


def condensed_at_rim(chromatin: Chromatin) -> float:
    """Share of the rim that is condensed over the share of the whole nucleus that is: 1 for evenly spread.

    The rim is the outer fifth of the way from edge to deepest point.  Range: from 0.  NaN where nothing is condensed.
    """
    share = condensed_share(chromatin)
    return chromatin.sums.rim_condensed / chromatin.sums.rim / share if share > 0 else math.nan


def depth_correlation(chromatin: Chromatin) -> float:
    """Correlation of density with the distance to the edge: below 0 for dark chromatin at the rim.  Range: -1 to 1.

    NaN where all pixels are equally deep or dense.
    """
    sums, pixels = chromatin.sums, chromatin.pixels
    mean = sums.depth / pixels
    spread = math.sqrt(max(sums.squared_depth / pixels - mean**2, 0.0) * chromatin.variance)
    if spread == 0:  # exact: depths are all 0 where they are the same
        return math.nan
    return (sums.product / pixels - mean * chromatin.mean) / spread


def displacement(chromatin: Chromatin) -> float:
    """Distance of the stain's centre of mass from the nucleus' own, over the nucleus' radius: 0 for evenly spread.

    NaN for a nucleus without any stain.
    """
    if chromatin.mean <= 0:
        return math.nan
    sums, mean = chromatin.sums, chromatin.mean
    down, right = sums.stain_down - mean * sums.down, sums.stain_right - mean * sums.right
    return math.hypot(down, right) / chromatin.pixels / mean / chromatin.radius


def correlation_length(chromatin: Chromatin) -> float:
    """Distance at which the autocorrelation of density has fallen to 1/e: half the width of a mottle.  Unit: pixels.

    Displacements are averaged in rings one pixel wide; the noise of single pixels is taken off by extrapolating the
    first two rings to distance 0.  NaN where 1/e is not reached within 32 pixels, or for one density.
    """
    return _coarseness.correlation_length(chromatin.density, chromatin.inside)


def spot_count(chromatin: Chromatin) -> float:
    """Number of pale spots that may be nucleoli: where a square of 0.22 nuclear radii is paler than the nucleus by 15%.

    Unit: spots.
    Source: after Bennett et al. (1981), Br. J. Haematol. 47(4):553-561, nucleoli.
    """
    return float(chromatin.spots[0])


def spot_area(chromatin: Chromatin) -> float:
    """Share of the nucleus that the middles of the pale squares of ``spot_count`` cover.  Range: 0 to 1."""
    return chromatin.spots[1] / chromatin.pixels


def spot_contrast(chromatin: Chromatin) -> float:
    """How much paler than the nucleus the palest square of ``spot_count``'s size is, as a share of the mean density.

    Range: to 1.  NaN for a nucleus into which no such square fits, or without any stain.
    """
    sums, fits, plain = chromatin.squares
    if chromatin.mean <= 0 or not fits.any():
        return math.nan
    return 1 - cv2.minMaxLoc(sums, fits.view(np.uint8))[0] / plain


STATISTICS = (
    density,
    density_of_palest_half,
    integrated_density,
    heterogeneity,
    skewness,
    condensed_share,
    condensed_contrast,
    condensed_separability,
    clump_count,
    clump_area,
    margination,
    condensed_at_rim,
    depth_correlation,
    displacement,
    correlation_length,
    spot_count,
    spot_area,
    spot_contrast,
)
