"""The loops behind chromatin statistics, compiled by numba: one pass over a nucleus counts, another sums by depth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractors.numba_kernels import compiled


@compiled
def count_densities(density: NDArray[np.int16], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 (n,): number of pixels inside of each density from 0 to the most there is; none may be negative."""
    most = 0
    height, width = density.shape
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                most = max(most, density[y, x])
    # Two tables in turn, as neighbours often count into the same place; what lies outside counts into the last one.
    even, odd = np.zeros(most + 2, np.int64), np.zeros(most + 2, np.int64)
    for y in range(height):
        for x in range(0, width - 1, 2):
            even[density[y, x] if inside[y, x] else most + 1] += 1
            odd[density[y, x + 1] if inside[y, x + 1] else most + 1] += 1
        if width % 2:
            even[density[y, width - 1] if inside[y, width - 1] else most + 1] += 1
    return (even + odd)[: most + 1].astype(np.float64)


class Sums(NamedTuple):
    """What ``sum_by_depth`` sums up.

    Attributes
    ----------
    rim, core : pixels of each.
    rim_density, core_density : of those pixels, in steps.
    rim_condensed : pixels of the rim that are denser than the threshold.
    depth, squared_depth : sums over all pixels.
    product : sum of depth times density.
    down, right : sums of rows, and of columns, of all pixels.
    stain_down, stain_right : the same, each pixel times its density.
    """

    rim: int
    core: int
    rim_density: int
    core_density: int
    rim_condensed: int
    depth: float
    squared_depth: float
    product: float
    down: int
    right: int
    stain_down: int
    stain_right: int


@compiled
def sum_by_depth(
    density: NDArray[np.int16],
    inside: NDArray[np.bool_],
    depth: NDArray[np.float32],
    rim_depth: np.float32,
    core_depth: np.float32,
    threshold: int,
) -> Sums:
    """Sums over the pixels inside, over those no deeper than ``rim_depth``, and those as deep as ``core_depth``.

    Parameters
    ----------
    density : int16 (H, W).
    inside : bool (H, W).
    depth : float32 (H, W), 0 to 1.
    threshold : what is denser is condensed.
    """
    rim = core = rim_density = core_density = rim_condensed = 0
    down = right = stain_down = stain_right = 0
    all_depth = squared_depth = product = 0.0
    height, width = density.shape
    for y in range(height):
        pixels = stain = 0
        row_depth = row_squared = row_product = 0.0
        for x in range(width):
            if not inside[y, x]:
                continue
            here, deep = int(density[y, x]), np.float64(depth[y, x])
            pixels += 1
            stain += here
            right += x
            stain_right += x * here
            row_depth += deep
            row_squared += deep * deep
            row_product += deep * here
            is_rim, is_core = int(depth[y, x] <= rim_depth), int(depth[y, x] >= core_depth)
            rim += is_rim
            core += is_core
            rim_density += is_rim * here
            core_density += is_core * here
            rim_condensed += is_rim * int(here > threshold)
        down += y * pixels
        stain_down += y * stain
        all_depth += row_depth
        squared_depth += row_squared
        product += row_product
    return Sums(
        rim,
        core,
        rim_density,
        core_density,
        rim_condensed,
        all_depth,
        squared_depth,
        product,
        down,
        right,
        stain_down,
        stain_right,
    )
