"""The cheapest closed curve over a grid of angles and radii, compiled: imported when the first field is searched."""

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
