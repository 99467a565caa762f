"""Texture of the cell and of its nucleus: co-occurrence statistics and local binary patterns.

Only pixels inside the mask are ever looked at: a black background counted as texture would measure the cell's area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors import kernels
from fusion.cells import Cell

Values = NDArray[np.float64]

REGIONS = ("cell", "nucleus")

#: Steps (rows, columns) at 0, 45, 90 and 135 degrees. A diagonal step of distance d is exactly (d, d) pixels: rounding
#: it to the circle instead makes distance 2 at 45 degrees the same pairs as distance 1.
STEPS = ((0, 1), (-1, 1), (-1, 0), (-1, -1))


@dataclass(frozen=True)
class Texture:
    """Co-occurrence statistics and local binary patterns of grey values, over pixels of the mask only.

    Grey is the luma of the picture, 0.299 R + 0.587 G + 0.114 B in whole numbers. Every value is without unit unless
    its function says otherwise.

    Parameters
    ----------
    levels : grey levels that co-occurrences are counted over, 2 to 256, of fixed width over 0 .. 255. The width does
        not follow the cell's own darkest and lightest pixel, so a pale and a dark nucleus stay different.
    distances : of the pixel pairs, in pixels. Each gives mean and range over the four angles.
    circles : (points, radius in pixels) of each local binary pattern.

    Raises
    ------
    ValueError : a parameter out of its range.
    """

    name: ClassVar[str] = "texture"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    # Below 16 levels chromatin detail is lost, above 64 a 100-pixel nucleus fills under one count per bin.
    levels: int = 32
    # Fine, middle and coarse chromatin of a nucleus about 100 pixels wide; beyond 4 the pairs tell of shading.
    distances: tuple[int, ...] = (1, 2, 4)
    # The three scales of Ojala et al. (2002).
    circles: tuple[tuple[int, int], ...] = ((8, 1), (16, 2), (24, 3))

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:  # there are no more in an 8-bit picture
            raise ValueError(f"levels must be 2 to 256, not {self.levels}")
        if len(set(self.distances)) != len(self.distances) or any(distance < 1 for distance in self.distances):
            raise ValueError(f"distances must be different whole numbers from 1, not {self.distances}")
        if len(set(self.circles)) != len(self.circles):
            raise ValueError(f"circles must be different, not {self.circles}")
        for points, radius in self.circles:
            if not 3 <= points <= 64 or radius < 1:  # two points are no circle; a pattern is stored in a byte
                raise ValueError(f"a circle has 3 to 64 points and a radius from 1, not {(points, radius)}")

    def feature_names(self) -> list[str]:
        """``cell_glcm_contrast_d1_mean``, ``nucleus_lbp_8_1_bin00``: region, method, statistic."""
        names = []
        for region in REGIONS:
            for statistic in STATISTICS:
                for distance in self.distances:
                    stem = f"{region}_glcm_{statistic.__name__}_d{distance}"
                    names += [f"{stem}_mean", f"{stem}_range"]
            for points, radius in self.circles:
                names += [f"{region}_lbp_{points}_{radius}_bin{pattern:02d}" for pattern in range(points + 2)]
        return names

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell, NaN where a statistic is undefined, as all are for an empty nucleus."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(self.feature_names()))

    def _measure(self, cell: Cell) -> Values:
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.mask).view(np.uint8))
        window = slice(y, y + height), slice(x, x + width)
        grey = to_grey(cell.rgb[window])
        masks = [np.ascontiguousarray(mask[window]) for mask in (cell.mask, cell.nucleus)]
        levels = quantise(grey, self.levels)
        patterns = [local_binary_patterns(grey, *circle) for circle in self.circles]
        parts = []
        for mask in masks:
            parts.append(cooccurrence_statistics(levels, mask, self.levels, self.distances).ravel())
            for pattern, circle in zip(patterns, self.circles, strict=True):
                parts.append(pattern_histogram(pattern, mask, *circle))
        return np.concatenate(parts)


def to_grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W): luma of ITU-R BT.601, rounded to whole numbers."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.uint8)


def quantise(grey: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """uint8 (H, W), 0 .. levels - 1: ``levels`` bins of equal width over 0 .. 255."""
    return (np.arange(256) * levels // 256).astype(np.uint8)[grey]


# ---- grey-level co-occurrence ---------------------------------------------------------------------------------------


def cooccurrence_statistics(
    levels: NDArray[np.uint8], inside: NDArray[np.bool_], number: int, distances: Sequence[int]
) -> Values:
    """Every statistic at every distance, its mean and its range over the four angles.

    Angles where a statistic is undefined, having no pair of pixels, are left out; NaN where all are.

    Parameters
    ----------
    levels : uint8 (H, W), every value inside the mask below ``number``.
    inside : bool (H, W), the mask.
    number : of grey levels.
    distances : in pixels.

    Returns
    -------
    float64 (13, distances, 2) : statistics in the order of ``STATISTICS``, then mean and range.
    """
    offsets = np.array([(d * down, d * right) for d in distances for down, right in STEPS], np.int64).reshape(-1, 2)
    glcm = Cooccurrence.of(kernels.count_pairs(levels, inside, offsets, number))
    values = np.array([statistic(glcm) for statistic in STATISTICS])
    values = values.reshape(len(STATISTICS), len(distances), len(STEPS))
    known = ~np.isnan(values)
    some = known.any(axis=-1)
    mean = np.where(known, values, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    spread = np.where(known, values, -np.inf).max(axis=-1) - np.where(known, values, np.inf).min(axis=-1)
    return np.stack([np.where(some, mean, np.nan), np.where(some, spread, np.nan)], axis=-1)


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Symmetric co-occurrence matrices, normalised, with the distributions that their statistics are made of.

    Grey levels are counted from 1 as in Haralick's paper, which moves ``sum_average`` only.

    Attributes
    ----------
    joint : float64 (k, n, n), p(i, j), summing to 1 for each of k matrices; NaN where no pair was counted.
    marginal : float64 (k, n), p(i); the matrices are symmetric, so rows and columns share it.
    sums : float64 (k, 2 n - 1), p(i + j = 2 .. 2 n).
    differences : float64 (k, n), p(abs(i - j) = 0 .. n - 1).
    """

    joint: Values
    marginal: Values
    sums: Values
    differences: Values

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Cooccurrence:
        """From symmetric counts, (k, n, n)."""
        total = counts.sum(axis=(1, 2), keepdims=True).astype(float)
        joint = counts / np.where(total > 0, total, np.nan)
        return cls(joint, joint.sum(axis=2), *kernels.add_along_diagonals(joint))

    @property
    def level(self) -> Values:
        """float64 (n,), i = 1 .. n."""
        return np.arange(1.0, self.joint.shape[1] + 1)

    @property
    def sum_level(self) -> Values:
        """float64 (2 n - 1,), i + j = 2 .. 2 n."""
        return np.arange(2.0, self.sums.shape[1] + 2)

    @property
    def difference_level(self) -> Values:
        """float64 (n,), abs(i - j) = 0 .. n - 1."""
        return np.arange(float(self.differences.shape[1]))


# Each statistic takes k matrices and gives float64 (k,). f1 .. f13 are the numbers in Haralick, Shanmugam and Dinstein
# (1973), IEEE Trans. SMC 3(6):610-621; four letters are codes of the Image Biomarker Standardisation Initiative (IBSI),
# Zwanenburg et al. (2020), Radiology 295(2):328-338. Entropies are in bits. All are NaN for a matrix without pairs.


def angular_second_moment(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j)**2, 1 for a single grey level, towards 0 for many.  Range: (0, 1].

    Source: Haralick f1; IBSI 8ZQL.
    """
    return (glcm.joint**2).sum(axis=(1, 2))


def contrast(glcm: Cooccurrence) -> Values:
    """Sum of (i - j)**2 p(i, j), the mean squared step.  Unit: levels squared.  Range: 0 to (n - 1)**2.

    Source: Haralick f2; IBSI ACUI.
    """
    return glcm.differences @ glcm.difference_level**2


def correlation(glcm: Cooccurrence) -> Values:
    """Sum of (i - mean) (j - mean) p(i, j) / variance.  Range: -1 to 1.  NaN where there is one grey level only.

    mahotas and scikit-image give 1 for a single grey level, which is 0 / 0.
    Source: Haralick f3; IBSI NI2N.
    """
    variance = sum_of_squares(glcm)
    deviation = glcm.level - _mean(glcm.marginal, glcm.level)[:, None]
    covariance = np.einsum("ki,kij,kj->k", deviation, glcm.joint, deviation)
    return _ratio(covariance, variance)


def sum_of_squares(glcm: Cooccurrence) -> Values:
    """Sum of (i - mean)**2 p(i, j), the variance of grey levels.  Unit: levels squared.

    Source: Haralick f4; IBSI UR99, joint variance.
    """
    return _variance(glcm.marginal, glcm.level)


def inverse_difference_moment(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (1 + (i - j)**2), 1 where neighbours are always alike.  Range: (0, 1].

    Source: Haralick f5; IBSI WF0Z.
    """
    return glcm.differences @ (1 / (1 + glcm.difference_level**2))


def sum_average(glcm: Cooccurrence) -> Values:
    """Sum of (i + j) p(i, j), twice the mean level.  Unit: levels.  Range: 2 to 2 n.

    mahotas counts levels from 0, so its value is 2 lower.
    Source: Haralick f6; IBSI ZGXS.
    """
    return _mean(glcm.sums, glcm.sum_level)


def sum_variance(glcm: Cooccurrence) -> Values:
    """Sum of (i + j - sum_average)**2 p(i, j).  Unit: levels squared.

    Haralick prints the sum entropy where the sum average must stand, an acknowledged misprint.
    Source: Haralick f7; IBSI OEEB.
    """
    return _variance(glcm.sums, glcm.sum_level)


def sum_entropy(glcm: Cooccurrence) -> Values:
    """Entropy of i + j.  Unit: bits.  Range: 0 to log2(2 n - 1).

    Source: Haralick f8; IBSI P6QZ.
    """
    return _entropy(glcm.sums)


def entropy(glcm: Cooccurrence) -> Values:
    """Entropy of (i, j).  Unit: bits (scikit-image: nats).  Range: 0 to 2 log2(n).

    Source: Haralick f9; IBSI TU9B, joint entropy.
    """
    matrices, number, _ = glcm.joint.shape
    return _entropy(glcm.joint.reshape(matrices, number * number))


def difference_variance(glcm: Cooccurrence) -> Values:
    """Variance of abs(i - j).  Unit: levels squared.

    mahotas gives by default the variance of the n probabilities themselves, which is not a variance of grey levels.
    Source: Haralick f10; IBSI D3YU.
    """
    return _variance(glcm.differences, glcm.difference_level)


def difference_entropy(glcm: Cooccurrence) -> Values:
    """Entropy of abs(i - j).  Unit: bits.  Range: 0 to log2(n).

    Source: Haralick f11; IBSI NTRS.
    """
    return _entropy(glcm.differences)


def information_correlation_1(glcm: Cooccurrence) -> Values:
    """(HXY - HXY1) / HX, 0 for independent neighbours, -1 where one tells the other.  Range: -1 to 0.

    HXY is the joint entropy, HX the marginal one, HXY1 = -sum p(i, j) log2(p(i) p(j)). NaN for one grey level only.
    Source: Haralick f12; IBSI R8DG.
    """
    # In a symmetric matrix -sum p(i, j) log2(p(i) p(j)) is twice the marginal entropy.
    marginal = _entropy(glcm.marginal)
    return _ratio(entropy(glcm) - 2 * marginal, marginal)


def information_correlation_2(glcm: Cooccurrence) -> Values:
    """sqrt(1 - exp(-2 (HXY2 - HXY))), 0 for independent neighbours.  Range: 0 to below 1.

    HXY2 is the entropy of p(i) p(j), HXY the joint one, both in bits as IBSI and mahotas have it.
    Source: Haralick f13; IBSI JN9H.
    """
    information = 2 * _entropy(glcm.marginal) - entropy(glcm)
    return np.sqrt(1 - np.exp(-2 * np.maximum(information, 0)))  # rounding can take 0 below 0


STATISTICS = (
    angular_second_moment,
    contrast,
    correlation,
    sum_of_squares,
    inverse_difference_moment,
    sum_average,
    sum_variance,
    sum_entropy,
    entropy,
    difference_variance,
    difference_entropy,
    information_correlation_1,
    information_correlation_2,
)


def _mean(probability: Values, value: Values) -> Values:
    return probability @ value


def _variance(probability: Values, value: Values) -> Values:
    return (probability * (value - _mean(probability, value)[:, None]) ** 2).sum(axis=1)


def _entropy(probability: Values) -> Values:
    """In bits along the last axis; 0 log 0 is 0."""
    logarithm = np.zeros_like(probability)
    np.log2(probability, out=logarithm, where=probability != 0)
    return -(probability * logarithm).sum(axis=-1)


def _ratio(above: Values, below: Values) -> Values:
    """NaN where both are 0, which is where a region has one grey level."""
    # A marginal's variance or entropy other than 0 is at least about 1 / pixels.
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 1e-12)


# ---- local binary patterns ------------------------------------------------------------------------------------------

#: Coordinates on a circle are rounded to this many parts of a pixel, as in scikit-image, so that weights of the
#: interpolation are whole numbers.
PARTS = 100_000


@lru_cache(maxsize=32)
def _circle(points: int, radius: int) -> tuple[NDArray[np.int64], Values, NDArray[np.uint8]]:
    """Upper left corners and weights for ``kernels.circle_patterns``, and the pixels that they touch as a stamp."""
    angle = 2 * np.pi * np.arange(points) / points
    place = np.rint(np.stack([-np.sin(angle), np.cos(angle)], axis=1) * radius * PARTS).astype(np.int64)
    corners, part = place // PARTS, place % PARTS
    down, right = part.T
    weights = [(PARTS - down) * (PARTS - right), (PARTS - down) * right, down * (PARTS - right), down * right]
    stamp = np.zeros((2 * radius + 3, 2 * radius + 3), np.uint8)
    stamp[radius + 1, radius + 1] = 1
    for weight, (y, x) in zip(weights, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        touched = corners[weight > 0] + (radius + 1 + y, radius + 1 + x)
        stamp[touched[:, 0], touched[:, 1]] = 1
    return corners, np.stack(weights, axis=1).astype(np.float64), stamp


def local_binary_patterns(grey: NDArray[np.uint8], points: int, radius: int) -> NDArray[np.uint8]:
    """Uniform rotation-invariant local binary pattern of every pixel; meaningless where the circle leaves the picture.

    Equal to scikit-image's ``method="uniform"``, except that a point as bright as the centre is always set; there,
    rounding decides about one point in a thousand, and differently at different places of the picture.

    Parameters
    ----------
    grey : uint8 (H, W).
    points, radius : of the circle; radius in pixels.

    Returns
    -------
    uint8 (H, W) : 0 .. points for uniform patterns, the number of points not darker than the centre; else points + 1.

    Source: Ojala, Pietikainen and Maenpaa (2002), IEEE Trans. PAMI 24(7):971-987, equation 12.
    """
    corners, weights, _ = _circle(points, radius)
    border = radius + 1
    return kernels.circle_patterns(np.pad(grey, border).astype(np.float64), border, corners, weights)


def pattern_histogram(
    patterns: NDArray[np.uint8], inside: NDArray[np.bool_], points: int, radius: int
) -> NDArray[np.float64]:
    """Share of each pattern, summing to 1, over the pixels whose whole circle lies inside the mask.

    Parameters
    ----------
    patterns : uint8 (H, W), from ``local_binary_patterns``.
    inside : bool (H, W), the mask.
    points, radius : of the circle.

    Returns
    -------
    float64 (points + 2,) : NaN where no circle fits into the mask.
    """
    _, _, stamp = _circle(points, radius)
    fits = cv2.erode(inside.view(np.uint8), stamp, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    counts = np.bincount(patterns[fits > 0], minlength=points + 2).astype(float)
    return counts / counts.sum() if counts.any() else np.full(points + 2, np.nan)
