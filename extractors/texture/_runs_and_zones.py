"""Runs and zones of one grey level: how long, how large, how dark.

A run is a straight row of neighbouring pixels of one grey level, along one of four directions (GLRLM). A zone is all
that hangs together of one grey level, diagonal neighbours included (GLSZM). Both give a matrix of how many there are of
each level and size, and one set of statistics describes either: Galloway (1975), Comput. Graph. Image Process.
4(2):172-179, Chu et al. (1990), Pattern Recognit. Lett. 11(6):415-419, Dasarathy and Holder (1991), Pattern Recognit.
Lett. 12(8):497-502, and Thibault et al. (2014), IEEE Trans. Biomed. Eng. 61(3):630-637, as the Image Biomarker
Standardisation Initiative (IBSI) has them; four letters are its codes, of runs and of zones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.numba_kernels import compiled

Values = NDArray[np.float64]


def run_statistics(levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> Values:
    """Every statistic of the runs in every region, its mean and its range over the four directions.

    Parameters
    ----------
    levels : uint8 (H, W).
    depth : uint8 (H, W), 0 .. ``regions``; region r, counted from 1, is where depth is r or more.
    regions : how many.

    Returns
    -------
    float64 (regions, 16, 1, 2) : statistics in the order of ``STATISTICS``, then mean and range; NaN for an empty
        region.
    """
    counts, first, pixels = count_runs(levels, depth, regions)
    length = np.arange(1.0, counts.shape[-1] + 1)
    sizes = Sizes(counts.reshape(-1, *counts.shape[-2:]), length, first + 1, np.repeat(pixels, counts.shape[1]))
    values = statistics_of(sizes).reshape(len(STATISTICS), regions, 1, -1).swapaxes(0, 1)
    return numba_kernels.mean_and_range(values.reshape(-1, values.shape[-1])).reshape(*values.shape[:-1], 2)


def zone_statistics(levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> Values:
    """Every statistic of the zones in every region; parameters as in ``run_statistics``.

    Returns
    -------
    float64 (regions, 16) : in the order of ``STATISTICS``; NaN for an empty region.
    """
    counts, size, first, pixels = count_zones(levels, depth, regions)
    return statistics_of(Sizes(counts, size, first + 1, pixels)).T


# ---- counting -------------------------------------------------------------------------------------------------------


@compiled
def count_runs(levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> tuple[Values, int, Values]:
    """How many runs there are of each grey level and length, to the east, south-east, south and south-west.

    Returns
    -------
    counts : float64 (regions, 4, n, longest), for the n grey levels from the darkest to the brightest in region 1, and
        lengths from 1.
    first : the darkest of them.
    pixels : float64 (regions,), how many each region has.
    """
    height, width = levels.shape
    first, last = 255, 0
    for y in range(height):
        for x in range(width):
            if depth[y, x] > 0:
                first, last = min(first, levels[y, x]), max(last, levels[y, x])
    n, most = max(last - first + 1, 0), max(height, width)
    pixels = np.zeros(regions)
    # reached[.., level, length] counts runs that are at least so long: each pixel adds one, and no run need be ended.
    reached = np.zeros((regions, 4, n, most + 2), np.int32)
    for region in range(regions):
        # Levels of this row and of the one above, in turn, with a column of no level on either side; and how long runs
        # are that come from above. Where there is no level they are counted too, but not recorded: a row without
        # branches compiles to vector instructions.
        level = np.full((2, width + 2), -1, np.int32)
        length = np.zeros((2, 3, width + 2), np.int32)
        for y in range(height):
            here, above = level[y % 2], level[1 - y % 2]
            south_east, south, south_west = length[y % 2]
            upper_left, upper, upper_right = length[1 - y % 2]
            for x in range(width):
                is_inside = np.int32(depth[y, x] > region)
                here[x + 1] = np.int32((np.int32(levels[y, x]) - first + 1) * is_inside - 1)
            for x in range(width):
                south_east[x + 1] = np.int32(1 + upper_left[x] * np.int32(above[x] == here[x + 1]))
                south[x + 1] = np.int32(1 + upper[x + 1] * np.int32(above[x + 1] == here[x + 1]))
                south_west[x + 1] = np.int32(1 + upper_right[x + 2] * np.int32(above[x + 2] == here[x + 1]))
            east = 0
            for x in range(1, width + 1):
                at = here[x]
                east = 1 + east * int(here[x - 1] == at)
                if at >= 0:
                    pixels[region] += 1
                    reached[region, 0, at, east] += 1
                    reached[region, 1, at, south_east[x]] += 1
                    reached[region, 2, at, south[x]] += 1
                    reached[region, 3, at, south_west[x]] += 1
    longest = 1
    for direction in range(4):
        for at in range(n):
            while longest < most and reached[0, direction, at, longest + 1] > 0:
                longest += 1
    counts = np.zeros((regions, 4, n, longest))
    for region in range(regions):
        for direction in range(4):
            for at in range(n):
                runs = reached[region, direction, at]
                for size in range(longest):
                    counts[region, direction, at, size] = runs[size + 1] - runs[size + 2]
    return counts, first, pixels


@compiled
def count_zones(
    levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int
) -> tuple[Values, Values, int, Values]:
    """How many zones there are of each grey level and number of pixels.

    Returns
    -------
    counts : float64 (regions, n, sizes), for the n grey levels from the darkest to the brightest in region 1.
    size : float64 (sizes,), pixels of a zone: only the sizes that there are.
    first : the darkest of the levels.
    pixels : float64 (regions,), how many each region has.
    """
    height, width = levels.shape
    # Rows are cut into stretches of one level, and stretches that touch are joined. A stretch is known by its number,
    # and a zone by that of its first stretch: parents have smaller numbers than their children.
    # There is room for one a pixel; memory that is not written to costs nothing.
    most = regions * height * width
    begin, end, level = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    parent, area = np.empty(most, np.int32), np.empty(most, np.int32)
    ends = np.zeros(regions + 1, np.int32)
    # A row's levels, -1 outside and on either side of it, and where they change, found without branches.
    row, change = np.full(width + 2, -1, np.int32), np.empty(width + 1, np.int32)
    stretch = 0
    for region in range(regions):
        above_end = stretch
        for y in range(height):
            above, above_end = above_end, stretch
            for x in range(width):
                is_inside = np.int32(depth[y, x] > region)
                row[x + 1] = np.int32((np.int32(levels[y, x]) + 1) * is_inside - 1)
            changes = 0
            for x in range(width + 1):
                change[changes] = x
                changes += int(row[x] != row[x + 1])
            for at in range(changes - 1):
                start, stop = change[at], change[at + 1]
                here = row[start + 1]
                if here < 0:
                    continue
                begin[stretch], end[stretch], level[stretch], area[stretch] = start, stop, here, stop - start
                parent[stretch] = stretch
                while above < above_end and end[above] < start:
                    above += 1
                touching, root = above, stretch
                while touching < above_end and begin[touching] <= stop:
                    if level[touching] == here:
                        other = touching
                        while parent[other] != other:
                            parent[other] = parent[parent[other]]  # half as far for whoever comes next
                            other = parent[other]
                        parent[max(root, other)] = min(root, other)
                        root = min(root, other)
                    touching += 1
                parent[stretch] = root
                stretch += 1
        ends[region + 1] = stretch
    first, last = 255, 0
    pixels = np.zeros(regions)
    for region in range(regions):
        for at in range(ends[region], ends[region + 1]):
            first, last = min(first, level[at]), max(last, level[at])
            pixels[region] += area[at]
    column = np.full(height * width + 1, -1, np.int32)
    for at in range(stretch):
        parent[at] = parent[parent[at]]
        if parent[at] != at:
            area[parent[at]] += area[at]
    for at in range(stretch):
        if parent[at] == at:
            column[area[at]] = 0
    size = np.flatnonzero(column == 0)
    for at in range(len(size)):
        column[size[at]] = at
    counts = np.zeros((regions, max(last - first + 1, 0), len(size)))
    for region in range(regions):
        for at in range(ends[region], ends[region + 1]):
            if parent[at] == at:
                counts[region, level[at] - first, column[area[at]]] += 1
    return counts, size.astype(np.float64), first, pixels


# ---- statistics -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sizes:
    """Matrices of how many runs or zones there are of each grey level and size.

    Attributes
    ----------
    counts : float64 (k, n, m), rows are grey levels, columns are sizes.
    size : float64 (m,), s, in pixels.
    first : grey level of the first row, levels i being counted from 1.
    pixels : float64 (k,), of the region that each matrix was counted in.
    """

    counts: Values
    size: Values
    first: int
    pixels: Values

    @cached_property
    def level(self) -> Values:
        """float64 (n,), i."""
        return np.arange(float(self.counts.shape[1])) + self.first

    @cached_property
    def number(self) -> Values:
        """float64 (k,), how many runs or zones; NaN where there is none, and so then is every statistic."""
        total = self.counts.sum(axis=(1, 2))
        return np.where(total > 0, total, np.nan)

    @cached_property
    def share(self) -> Values:
        """float64 (k, n, m), p(i, s)."""
        return self.counts / self.number[:, None, None]

    @cached_property
    def of_level(self) -> Values:
        """float64 (k, n), p(i)."""
        return self.share.sum(axis=2)

    @cached_property
    def of_size(self) -> Values:
        """float64 (k, m), p(s)."""
        return self.share.sum(axis=1)


def statistics_of(sizes: Sizes) -> Values:
    """float64 (16, k): every statistic of every matrix."""
    return np.array([statistic(sizes) for statistic in STATISTICS])


# Each takes k matrices and gives float64 (k,), NaN for a matrix of nothing.


def small_emphasis(sizes: Sizes) -> Values:
    """Mean of 1 / s**2, where s is a run's or a zone's number of pixels: 1 where none is larger than one.

    Range: (0, 1].
    Source: IBSI 22OV, short runs emphasis, and small zone emphasis.
    """
    return sizes.of_size @ sizes.size**-2


def large_emphasis(sizes: Sizes) -> Values:
    """Mean of s**2, where s is a run's or a zone's number of pixels.  Unit: pixels squared.  Range: from 1.

    Source: IBSI W4KF, long runs emphasis, and 48P8, large zone emphasis.
    """
    return sizes.of_size @ sizes.size**2


def low_level_emphasis(sizes: Sizes) -> Values:
    """Mean of 1 / i**2, where i is a run's or a zone's grey level from 1: near 1 where most are dark.  Range: (0, 1].

    Source: IBSI V3SW, low grey level run emphasis, and XMSY, low grey level zone emphasis.
    """
    return sizes.of_level @ sizes.level**-2


def high_level_emphasis(sizes: Sizes) -> Values:
    """Mean of i**2, where i is a run's or a zone's grey level from 1.  Unit: levels squared.  Range: 1 to n**2.

    Source: IBSI G3QZ, high grey level run emphasis, and 5GN9, high grey level zone emphasis.
    """
    return sizes.of_level @ sizes.level**2


def small_low_level_emphasis(sizes: Sizes) -> Values:
    """Mean of 1 / (s**2 i**2), of size s and level i: near 1 where most are small and dark.  Range: (0, 1].

    Source: IBSI HTZT, short run low grey level emphasis, and 5RAI, small zone low grey level emphasis.
    """
    return sizes.share @ sizes.size**-2 @ sizes.level**-2


def small_high_level_emphasis(sizes: Sizes) -> Values:
    """Mean of i**2 / s**2, of size s and level i: large where most are small and bright.

    Unit: levels squared per pixel squared.  Range: 0 to n**2.
    Source: IBSI GD3A, short run high grey level emphasis, and HW1V, small zone high grey level emphasis.
    """
    return sizes.share @ sizes.size**-2 @ sizes.level**2


def large_low_level_emphasis(sizes: Sizes) -> Values:
    """Mean of s**2 / i**2, of size s and level i: large where most are large and dark.  Range: from 0.

    Unit: pixels squared per level squared.
    Source: IBSI IVPO, long run low grey level emphasis, and YH51, large zone low grey level emphasis.
    """
    return sizes.share @ sizes.size**2 @ sizes.level**-2


def large_high_level_emphasis(sizes: Sizes) -> Values:
    """Mean of s**2 i**2, of size s and level i: large where most are large and bright.  Range: from 1.

    Unit: pixels squared times levels squared.
    Source: IBSI 3KUM, long run high grey level emphasis, and J17V, large zone high grey level emphasis.
    """
    return sizes.share @ sizes.size**2 @ sizes.level**2


def level_non_uniformity(sizes: Sizes) -> Values:
    """Number of runs or zones times the sum of p(i)**2 over levels i: how many share a level.

    Unit: runs or zones.  Range: from 1 / n.
    Source: IBSI R5YN and JNSA, grey level non-uniformity.
    """
    return sizes.number * level_non_uniformity_normalised(sizes)


def level_non_uniformity_normalised(sizes: Sizes) -> Values:
    """Sum of p(i)**2 over the levels i of runs or zones: 1 where all are of one.  Range: (0, 1].

    Source: IBSI OVBL and Y1RO, normalised grey level non-uniformity.
    """
    return np.square(sizes.of_level).sum(axis=1)


def size_non_uniformity(sizes: Sizes) -> Values:
    """Number of runs or zones times the sum of p(s)**2 over sizes s: how many share a size.

    Unit: runs or zones.  Range: above 0.
    Source: IBSI W92Y, run length non-uniformity, and 4JP3, zone size non-uniformity.
    """
    return sizes.number * size_non_uniformity_normalised(sizes)


def size_non_uniformity_normalised(sizes: Sizes) -> Values:
    """Sum of p(s)**2 over the sizes s of runs or zones: 1 where all are of one.  Range: (0, 1].

    Source: IBSI IC23, normalised run length non-uniformity, and VB3A, normalised zone size non-uniformity.
    """
    return np.square(sizes.of_size).sum(axis=1)


def percentage(sizes: Sizes) -> Values:
    """Number of runs or zones over the number of pixels: 1 where no two neighbours are alike.  Range: (0, 1].

    Source: IBSI 9ZK5, run percentage, and P30P, zone percentage.
    """
    return sizes.number / sizes.pixels


def level_variance(sizes: Sizes) -> Values:
    """Variance of the grey level of runs or zones.  Unit: levels squared.

    Source: IBSI 8CE5 and BYLV, grey level variance.
    """
    return _variance(sizes.of_level, sizes.level)


def size_variance(sizes: Sizes) -> Values:
    """Variance of the number of pixels of runs or zones.  Unit: pixels squared.

    Source: IBSI SXLW, run length variance, and 3NSA, zone size variance.
    """
    return _variance(sizes.of_size, sizes.size)


def size_entropy(sizes: Sizes) -> Values:
    """Entropy of (i, s), level and size of runs or zones, -sum p(i, s) log2 p(i, s).  Unit: bits.

    Source: IBSI HJ9O, run entropy, and GU8N, zone size entropy.
    """
    return numba_kernels.entropies(sizes.share.reshape(len(sizes.share), -1))


STATISTICS = (
    small_emphasis,
    large_emphasis,
    low_level_emphasis,
    high_level_emphasis,
    small_low_level_emphasis,
    small_high_level_emphasis,
    large_low_level_emphasis,
    large_high_level_emphasis,
    level_non_uniformity,
    level_non_uniformity_normalised,
    size_non_uniformity,
    size_non_uniformity_normalised,
    percentage,
    level_variance,
    size_variance,
    size_entropy,
)


def _variance(probability: Values, value: Values) -> Values:
    deviation = value - (probability @ value)[:, None]
    return (probability * deviation**2).sum(axis=1)
