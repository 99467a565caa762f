"""What is counted along rays, and the cheapest closed curve over them, compiled: imported when the first field is
searched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.compute.compiled_loops import compiled


@compiled
def cheapest_path(cost: NDArray[np.float64], bend: NDArray[np.float64], turns: int) -> NDArray[np.intp]:
    """intp (turns,): the radius of every turn on the cheapest path, by dynamic programming.

    Parameters
    ----------
    cost : float64 (angles, radii), what a radius costs; turns beyond the last angle begin anew.
    bend : float64 (2 jump + 1,), what a step by -jump .. jump radii costs.
    """
    angles, radii = cost.shape
    jump = len(bend) // 2
    # Row ``turn`` holds the cheapest way to each radius of that turn, between walls no way leads through.
    totals = np.full((turns, radii + 2 * jump), np.inf)
    for at in range(radii):
        totals[0, jump + at] = cost[0, at]
    for turn in range(1, turns):
        for at in range(radii):
            least = np.inf
            for step in range(len(bend)):
                way = totals[turn - 1, at + step] + bend[step]
                if way < least:
                    least = way
            totals[turn, jump + at] = least + cost[turn % angles, at]
    path = np.empty(turns, np.intp)
    path[-1] = totals[-1, jump : jump + radii].argmin()
    for turn in range(turns - 1, 0, -1):
        at, best, least = path[turn], 0, np.inf
        for step in range(len(bend)):
            way = totals[turn - 1, at + step] + bend[step]
            if way < least:
                best, least = step, way
        path[turn - 1] = at - jump + best
    return path


@compiled
def colour_histograms(
    colours: NDArray[np.float32],
    darkest: NDArray[np.float32],
    radii: NDArray[np.float32],
    parts: NDArray[np.bool_],
    levels: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """The colour bin of every sample, and how much of each part of them falls into each bin.

    Parameters
    ----------
    colours : float32 (angles, radii, 3), transmission from ``darkest`` (3,) to 1, cut off beyond.
    radii : float32 (radii,), what a sample counts.
    parts : bool (n, angles, radii), the samples of each part.
    levels : bins of each of the three colours.

    Returns
    -------
    bins : int32 (angles, radii).
    histograms : float32 (2, levels**3), of the first two parts.
    totals : float64 (n,), of every part.
    """
    angles, samples = colours.shape[:2]
    bins = np.empty((angles, samples), np.int32)
    histograms = np.zeros((2, levels**3), np.float32)
    totals = np.zeros(len(parts))
    scale = np.empty(3, np.float32)
    for channel in range(3):
        scale[channel] = levels / (1 - darkest[channel] + 1e-3)
    for angle in range(angles):
        for at in range(samples):
            number = 0
            for channel in range(3):
                level = int((colours[angle, at, channel] - darkest[channel]) * scale[channel])
                number = number * levels + min(max(level, 0), levels - 1)
            bins[angle, at] = number
            for part in range(len(parts)):
                if parts[part, angle, at]:
                    totals[part] += radii[at]
                    if part < 2:
                        histograms[part, number] += radii[at]
    return bins, histograms, totals


@compiled
def changes_along(colours: NDArray[np.float32], stain: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (2, angles, radii): how far colours (angles, radii, 3) change along a ray from the sample before to the
    one behind, and how much stain (angles, radii) falls; 0 at either end."""
    angles, samples = stain.shape
    change = np.zeros((2, angles, samples), np.float32)
    for angle in range(angles):
        for at in range(1, samples - 1):
            square = np.float32(0)
            for channel in range(3):
                step = colours[angle, at + 1, channel] - colours[angle, at - 1, channel]
                square += step * step
            change[0, angle, at] = np.sqrt(square)
            change[1, angle, at] = stain[angle, at - 1] - stain[angle, at + 1]
    return change
