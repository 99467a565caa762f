"""Grey-level co-occurrence: how often which two grey levels lie a step apart, and what such a matrix says.

f1 .. f13 are the numbers in Haralick, Shanmugam and Dinstein (1973), IEEE Trans. SMC 3(6):610-621; four letters are
codes of the Image Biomarker Standardisation Initiative (IBSI), Zwanenburg et al. (2020), Radiology 295(2):328-338.
Three of the IBSI's statistics are not repeated: cluster tendency (DG8W) is ``sum_variance``, dissimilarity (8S9J) is
``difference_average``, and its joint average (60VM) is half of ``sum_average``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.numba_kernels import compiled

Values = NDArray[np.float64]

#: Steps (rows, columns) at 0, 45, 90 and 135 degrees. A diagonal step of distance d is exactly (d, d) pixels: rounding
#: it to the circle instead makes distance 2 at 45 degrees the same pairs as distance 1.
STEPS = ((0, 1), (-1, 1), (-1, 0), (-1, -1))


def cooccurrence_statistics(
    levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, number: int, distances: Sequence[int]
) -> Values:
    """Every statistic in every region at every distance, its mean and its range over the four angles.

    Angles where a statistic is undefined, having no pair of pixels, are left out; NaN where all are.

    Parameters
    ----------
    levels : uint8 (H, W), every value of a region below ``number``.
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.
    number : of grey levels.
    distances : in pixels.

    Returns
    -------
    float64 (regions, 22, distances, 2) : statistics in the order of ``STATISTICS``, then mean and range.
    """
    counts, first = count_pairs(levels, depth, regions, offsets_of(distances))
    glcm = Cooccurrence.from_counts(counts.reshape(-1, *counts.shape[2:]), first + 1, number)
    values = np.array([statistic(glcm) for statistic in STATISTICS])
    values = values.reshape(len(STATISTICS), regions, len(distances), len(STEPS)).swapaxes(0, 1)
    return numba_kernels.mean_and_range(values.reshape(-1, len(STEPS))).reshape(*values.shape[:-1], 2)


def offsets_of(distances: Sequence[int]) -> NDArray[np.int64]:
    """int64 (4 len(distances), 2): rows and columns of the four steps at each distance."""
    return np.array([(d * down, d * right) for d in distances for down, right in STEPS], np.int64).reshape(-1, 2)


@compiled
def count_pairs(
    levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], int]:
    """How often each pair of grey levels lies one offset apart with both ends in a region; in one order only.

    Parameters
    ----------
    levels : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.
    offsets : int64 (k, 2), (rows, columns) from the first pixel of a pair to the second.

    Returns
    -------
    counts : uint32 (regions, k, n, n), for the n grey levels from the darkest to the brightest in region 1.
    first : the darkest of them.
    """
    height, width = levels.shape
    reach = 0
    for k in range(len(offsets)):
        reach = max(reach, abs(offsets[k, 0]), abs(offsets[k, 1]))
    # A row's pixels from ``start`` on, so many, hold all that is in a region: beyond, there is nothing to count.
    start, size, first, last = _measure_rows(levels, depth)
    n = max(last - first + 1, 0)
    # A frame of depth 0, as wide as the farthest step, so that no step needs a check.
    level = np.zeros((height + 2 * reach, width + 2 * reach), np.uint8)
    plane = np.zeros(level.shape, np.uint8)
    for y in range(height):
        inside, row = depth[y, start[y] :][: size[y]], levels[y, start[y] :][: size[y]]
        into, onto = level[y + reach, start[y] + reach :][: size[y]], plane[y + reach, start[y] + reach :][: size[y]]
        for x in range(size[y]):
            into[x] = np.uint8(row[x] - first) if inside[x] > 0 else np.uint8(0)
            onto[x] = inside[x]
    counts = np.zeros((regions, len(offsets), n, n), np.uint32)
    # Four tables in turn: in a smooth image neighbours count into the same place, and waiting for that takes longest.
    tables = np.zeros((4, (regions + 1) * n * n), np.uint32)
    one, two, three, four = tables[0], tables[1], tables[2], tables[3]
    place, square, side = np.zeros(width, np.uint32), np.uint32(n * n), np.uint32(n)
    for k in range(len(offsets)):
        tables[:] = 0
        for y in range(height):
            begin, number = start[y] + reach, size[y]
            here, upon = level[y + reach, begin:][:number], plane[y + reach, begin:][:number]
            down, right = y + reach + offsets[k, 0], begin + offsets[k, 1]
            there, over = level[down, right:][:number], plane[down, right:][:number]
            for x in range(number):
                both = np.uint32(min(upon[x], over[x]))
                place[x] = both * square + np.uint32(here[x]) * side + np.uint32(there[x])
            for x in range(0, number - 3, 4):
                one[place[x]] += np.uint32(1)
                two[place[x + 1]] += np.uint32(1)
                three[place[x + 2]] += np.uint32(1)
                four[place[x + 3]] += np.uint32(1)
            for x in range(number - number % 4, number):
                one[place[x]] += np.uint32(1)
        # What is in the inner region is in the outer one too.
        for region in range(regions - 1, -1, -1):
            for i in range(n):
                for j in range(n):
                    at = ((region + 1) * n + i) * n + j
                    counts[region, k, i, j] = one[at] + two[at] + three[at] + four[at]
                    if region + 1 < regions:
                        counts[region, k, i, j] += counts[region + 1, k, i, j]
    return counts, first


@compiled
def _measure_rows(
    levels: NDArray[np.uint8], depth: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Where each row's pixels in a region begin and how many it is to the last; the darkest of all and the brightest.

    255 and 0 where there is no pixel in a region.
    """
    height, width = levels.shape
    start, size = np.zeros(height, np.int64), np.zeros(height, np.int64)
    darkest, brightest = np.uint8(255), np.uint8(0)
    for y in range(height):
        inside, row = depth[y], levels[y]
        begin, end = 0, width
        while end > begin and inside[end - 1] == 0:
            end -= 1
        while begin < end and inside[begin] == 0:
            begin += 1
        start[y], size[y] = begin, end - begin
        for x in range(begin, end):
            darkest = min(darkest, row[x] if inside[x] > 0 else np.uint8(255))
            brightest = max(brightest, row[x] if inside[x] > 0 else np.uint8(0))
    return start, size, int(darkest), int(brightest)


# ---- normalised matrices --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Symmetric co-occurrence matrices, normalised, with the distributions that their statistics are made of.

    Grey levels i and j are counted from 1 as in Haralick's paper.

    Attributes
    ----------
    joint : float64 (k, n, n), p(i, j), summing to 1 for each of k matrices; NaN where no pair was counted.
    marginal : float64 (k, n), p(i); the matrices are symmetric, so rows and columns share it.
    sums : float64 (k, 2 n - 1), p(i + j) from twice the ``first`` level.
    differences : float64 (k, n), p(abs(i - j) = 0 .. n - 1).
    joint_entropy, marginal_entropy : float64 (k,), in bits.
    first : grey level of the first row and column: darker ones may be left out where none is.
    number : of grey levels that there could be.
    """

    joint: Values
    marginal: Values
    sums: Values
    differences: Values
    joint_entropy: Values
    marginal_entropy: Values
    first: int
    number: int

    @classmethod
    def from_counts(cls, counts: NDArray[np.uint32], first: int = 1, number: int | None = None) -> Cooccurrence:
        """From pair counts, (k, n, n); every pair is taken in both orders."""
        joint, marginal, sums, differences = normalise(counts)
        joint_entropy = numba_kernels.entropies(joint.reshape(len(joint), joint.shape[1] * joint.shape[2]))
        number = counts.shape[1] if number is None else number
        return cls(joint, marginal, sums, differences, joint_entropy, numba_kernels.entropies(marginal), first, number)

    @cached_property
    def level(self) -> Values:
        """float64 (n,), i."""
        return np.arange(float(self.joint.shape[1])) + self.first

    @cached_property
    def step(self) -> Values:
        """float64 (n,), abs(i - j) = 0 .. n - 1."""
        return np.arange(float(self.joint.shape[1]))

    @cached_property
    def mean(self) -> Values:
        """float64 (k,), of i, and of j."""
        return self.marginal @ self.level

    @cached_property
    def variance(self) -> Values:
        """float64 (k,), of i, and of j."""
        return (self.marginal * (self.level - self.mean[:, None]) ** 2).sum(axis=1)

    @cached_property
    def covariance(self) -> Values:
        """float64 (k,), of i and j."""
        # With s the sum and d the difference of i and j, 4 i j is s**2 - d**2.
        return (sum_variance(self) - contrast(self)) / 4

    @cached_property
    def cluster(self) -> Values:
        """float64 (k, 2 n - 1), i + j less its mean."""
        return np.arange(float(self.sums.shape[1])) + 2 * (self.first - self.mean[:, None])


@compiled
def normalise(counts: NDArray[np.uint32]) -> tuple[Values, Values, Values, Values]:
    """``joint``, ``marginal``, ``sums`` and ``differences`` of ``Cooccurrence``; NaN where all counts are 0."""
    matrices, n, _ = counts.shape
    joint, marginal = np.zeros((matrices, n, n)), np.zeros((matrices, n))
    sums, differences = np.zeros((matrices, 2 * n - 1)), np.zeros((matrices, n))
    for k in range(matrices):
        total = np.int64(0)
        for i in range(n):
            for j in range(n):
                total += counts[k, i, j]
        once = 1 / (2 * total) if total > 0 else np.nan
        for i in range(n):
            for j in range(n):
                pairs = np.int64(counts[k, i, j]) + np.int64(counts[k, j, i])
                if pairs > 0 or total == 0:
                    share = pairs * once
                    joint[k, i, j] = share
                    marginal[k, i] += share
                    sums[k, i + j] += share
                    differences[k, abs(i - j)] += share
    return joint, marginal, sums, differences


# ---- the statistics -------------------------------------------------------------------------------------------------

# Each takes k matrices and gives float64 (k,), NaN for a matrix without pairs.


def angular_second_moment(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j)**2, 1 for a single grey level, towards 0 for many.  Range: (0, 1].

    Source: Haralick f1; IBSI 8ZQL.
    """
    return np.square(glcm.joint).sum(axis=(1, 2))


def contrast(glcm: Cooccurrence) -> Values:
    """Sum of (i - j)**2 p(i, j), the mean squared step.  Unit: levels squared.  Range: 0 to (n - 1)**2.

    Source: Haralick f2; IBSI ACUI.
    """
    return glcm.differences @ glcm.step**2


def correlation(glcm: Cooccurrence) -> Values:
    """Sum of (i - mean) (j - mean) p(i, j) / variance.  Range: -1 to 1.  NaN where there is one grey level only.

    mahotas and scikit-image give 1 for a single grey level, which is 0 / 0.
    Source: Haralick f3; IBSI NI2N.
    """
    return ratio(glcm.covariance, glcm.variance)


def sum_of_squares(glcm: Cooccurrence) -> Values:
    """Sum of (i - mean)**2 p(i, j), the variance of grey levels.  Unit: levels squared.

    Source: Haralick f4; IBSI UR99, joint variance.
    """
    return glcm.variance


def inverse_difference_moment(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (1 + (i - j)**2), 1 where neighbours are always alike.  Range: (0, 1].

    Source: Haralick f5; IBSI WF0Z.
    """
    return glcm.differences @ (1 / (1 + glcm.step**2))


def sum_average(glcm: Cooccurrence) -> Values:
    """Sum of (i + j) p(i, j), twice the mean level.  Unit: levels.  Range: 2 to 2 n.

    mahotas counts levels from 0, so its value is 2 lower.
    Source: Haralick f6; IBSI ZGXS.
    """
    return 2 * glcm.mean


def sum_variance(glcm: Cooccurrence) -> Values:
    """Sum of (i + j - sum_average)**2 p(i, j).  Unit: levels squared.

    Haralick prints the sum entropy where the sum average must stand, an acknowledged misprint.
    Source: Haralick f7; IBSI OEEB, and DG8W, cluster tendency.
    """
    return (glcm.sums * glcm.cluster**2).sum(axis=1)


def sum_entropy(glcm: Cooccurrence) -> Values:
    """Entropy of i + j.  Unit: bits.  Range: 0 to log2(2 n - 1).

    Source: Haralick f8; IBSI P6QZ.
    """
    return numba_kernels.entropies(glcm.sums)


def entropy(glcm: Cooccurrence) -> Values:
    """Entropy of (i, j), -sum p(i, j) log2 p(i, j).  Unit: bits (scikit-image: nats).  Range: 0 to 2 log2(n).

    Source: Haralick f9; IBSI TU9B, joint entropy.
    """
    return glcm.joint_entropy


def difference_variance(glcm: Cooccurrence) -> Values:
    """Variance of abs(i - j).  Unit: levels squared.

    mahotas gives by default the variance of the n probabilities themselves, which is not a variance of grey levels.
    Source: Haralick f10; IBSI D3YU.
    """
    deviation = glcm.step - difference_average(glcm)[:, None]
    return (glcm.differences * deviation**2).sum(axis=1)


def difference_entropy(glcm: Cooccurrence) -> Values:
    """Entropy of abs(i - j).  Unit: bits.  Range: 0 to log2(n).

    Source: Haralick f11; IBSI NTRS.
    """
    return numba_kernels.entropies(glcm.differences)


def information_correlation_1(glcm: Cooccurrence) -> Values:
    """(HXY - HXY1) / HX, 0 for independent neighbours, -1 where one tells the other.  Range: -1 to 0.

    HXY is the joint entropy, HX the marginal one, HXY1 = -sum p(i, j) log2(p(i) p(j)). NaN for one grey level only.
    Source: Haralick f12; IBSI R8DG.
    """
    # In a symmetric matrix -sum p(i, j) log2(p(i) p(j)) is twice the marginal entropy.
    return ratio(glcm.joint_entropy - 2 * glcm.marginal_entropy, glcm.marginal_entropy)


def information_correlation_2(glcm: Cooccurrence) -> Values:
    """sqrt(1 - exp(-2 (HXY2 - HXY))), 0 for independent neighbours.  Range: 0 to below 1.

    HXY2 is the entropy of p(i) p(j), HXY the joint one, both in bits as IBSI and mahotas have it.
    Source: Haralick f13; IBSI JN9H.
    """
    information = 2 * glcm.marginal_entropy - glcm.joint_entropy
    # The sums of both entropies are rounded, which leaves some 1e-15 where neighbours tell nothing of one another; the
    # root would make 1e-7 of it.
    return np.sqrt(1 - np.exp(-2 * np.where(information < 1e-12, 0 * information, information)))


def joint_maximum(glcm: Cooccurrence) -> Values:
    """Largest p(i, j), the share of the commonest pair.  Range: (0, 1].

    Source: IBSI GYBY.
    """
    return glcm.joint.max(axis=(1, 2))


def difference_average(glcm: Cooccurrence) -> Values:
    """Sum of abs(i - j) p(i, j), the mean step.  Unit: levels.  Range: 0 to n - 1.

    Source: IBSI TF7R, and 8S9J, dissimilarity.
    """
    return glcm.differences @ glcm.step


def inverse_difference(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (1 + abs(i - j)), 1 where neighbours are always alike.  Range: (0, 1].

    Source: IBSI IB1Z.
    """
    return glcm.differences @ (1 / (1 + glcm.step))


def inverse_difference_normalised(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (1 + abs(i - j) / n), n being all levels that there could be.  Range: (0.5, 1].

    Source: Clausi (2002), Can. J. Remote Sensing 28(1):45-62; IBSI NDRX.
    """
    return glcm.differences @ (1 / (1 + glcm.step / glcm.number))


def inverse_difference_moment_normalised(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (1 + ((i - j) / n)**2), n being all levels that there could be.  Range: (0.5, 1].

    Source: Clausi (2002), Can. J. Remote Sensing 28(1):45-62; IBSI 1QCO.
    """
    return glcm.differences @ (1 / (1 + (glcm.step / glcm.number) ** 2))


def inverse_variance(glcm: Cooccurrence) -> Values:
    """Sum of p(i, j) / (i - j)**2 over pairs of different levels.  Range: 0 to 1.

    Source: IBSI E8JP.
    """
    return glcm.differences[:, 1:] @ (1 / glcm.step[1:] ** 2) + 0 * glcm.differences[:, 0]  # NaN without pairs


def autocorrelation(glcm: Cooccurrence) -> Values:
    """Sum of i j p(i, j), the mean product.  Unit: levels squared.  Range: 1 to n**2.

    Source: Soh and Tsatsoulis (1999), IEEE Trans. GRS 37(2):780-795; IBSI QWB0.
    """
    return glcm.mean**2 + glcm.covariance


def cluster_shade(glcm: Cooccurrence) -> Values:
    """Sum of (i + j - sum_average)**3 p(i, j), above 0 where few pairs are bright.  Unit: levels cubed.

    Source: Unser (1986), IEEE Trans. PAMI 8(1):118-125; IBSI 7NFM.
    """
    return (glcm.sums * glcm.cluster**2 * glcm.cluster).sum(axis=1)


def cluster_prominence(glcm: Cooccurrence) -> Values:
    """Sum of (i + j - sum_average)**4 p(i, j), large where some pairs are far from the mean.  Unit: levels**4.

    Source: Unser (1986), IEEE Trans. PAMI 8(1):118-125; IBSI AE86.
    """
    return (glcm.sums * np.square(glcm.cluster**2)).sum(axis=1)


def ratio(above: Values, below: Values) -> Values:
    """NaN where both are 0, which is where a region has one grey level."""
    # A marginal's variance or entropy other than 0 is at least about 1 / pixels.
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 1e-12)


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
    joint_maximum,
    difference_average,
    inverse_difference,
    inverse_difference_normalised,
    inverse_difference_moment_normalised,
    inverse_variance,
    autocorrelation,
    cluster_shade,
    cluster_prominence,
)
