"""The loops that tell the segments of a nucleus apart, compiled by numba.

Indices are not checked inside compiled code, so each function says what its caller must have made sure of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extractors.numba_kernels import compiled

_Numbers = NDArray[np.int32]


@compiled
def find_saddles(depth: _Numbers, limits: NDArray[np.float64]) -> tuple[_Numbers, _Numbers]:
    """Where the segments of a region meet as it is flooded from its greatest depth down, one limit after the other.

    Parameters
    ----------
    depth : int32 (H, W), 0 outside the region, which is not empty.
    limits : float64 (n,), falling to 0; what is deeper is flooded.

    Returns
    -------
    peaks : int32 (k,), the greatest depth of every segment that was flooded apart from a deeper one.
    met : int32 (k,), the number of the limit at which it met one, n for never.
    """
    enters, deepest, one, other = find_stretches(depth, limits)
    # Lists of what enters at each limit: its last member, and before each member the next one.
    last_stretch, last_pair = np.full((2, len(limits)), -1, np.int32)
    before, before_pair = np.empty(len(enters), np.int32), np.empty(len(one), np.int32)
    for at in range(len(enters)):
        before[at] = last_stretch[enters[at]]
        last_stretch[enters[at]] = at
    for pair in range(len(one)):
        limit = max(enters[one[pair]], enters[other[pair]])
        before_pair[pair] = last_pair[limit]
        last_pair[limit] = pair
    parent, peak = np.arange(len(enters)).astype(np.int32), np.zeros(len(enters), np.int32)  # 0: flooded just now
    peaks, met, number = np.empty(len(enters), np.int32), np.empty(len(enters), np.int32), 0
    for limit in range(len(limits)):
        pair = last_pair[limit]
        while pair >= 0:
            lower, higher = _root(parent, one[pair]), _root(parent, other[pair])
            if lower != higher:
                if peak[lower] > peak[higher]:
                    lower, higher = higher, lower
                if peak[lower] > 0:
                    peaks[number], met[number] = peak[lower], limit
                    number += 1
                parent[lower] = higher
            pair = before_pair[pair]
        at = last_stretch[limit]
        while at >= 0:
            root = _root(parent, at)
            peak[root] = max(peak[root], deepest[at])
            at = before[at]
    widest = -1
    for at in range(len(enters)):
        if parent[at] == at:
            if widest >= 0:
                peaks[number], met[number] = min(peak[at], peak[widest]), len(limits)
                number += 1
            if widest < 0 or peak[at] > peak[widest]:
                widest = at
    return peaks[:number].copy(), met[:number].copy()


@compiled
def _root(parent: _Numbers, at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]  # half as far for whoever comes next
        at = parent[at]
    return at


@compiled
def find_stretches(depth: _Numbers, limits: NDArray[np.float64]) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
    """Pieces of rows that are flooded at the same limit, and which of them touch by a side or a corner.

    Parameters
    ----------
    depth, limits : as ``find_saddles`` takes them.

    Returns
    -------
    enters, deepest : int32 (k,), the number of the limit at which each piece is flooded, and its greatest depth.
    one, other : int32 (m,), pairs that touch.
    """
    height, width = depth.shape
    enters_at = np.zeros(depth.max() + 1, np.int32)
    for deep in range(len(enters_at)):
        while enters_at[deep] < len(limits) and deep <= limits[enters_at[deep]]:
            enters_at[deep] += 1
    # There is room for one a pixel; memory that is not written to costs nothing.
    start, end, enters, deepest = np.empty((4, height * width), np.int32)
    one, other = np.empty((2, 5 * height * width), np.int32)
    number, pairs, above_end = 0, 0, 0
    for y in range(height):
        row = depth[y]
        above, above_end = above_end, number
        x = 0
        while x < width:
            if row[x] == 0:
                x += 1
                continue
            first, limit, most = x, enters_at[row[x]], row[x]
            while x < width and row[x] > 0 and enters_at[row[x]] == limit:
                most = max(most, row[x])
                x += 1
            start[number], end[number], enters[number], deepest[number] = first, x, limit, most
            if number > above_end and end[number - 1] == first:
                one[pairs], other[pairs] = number - 1, number
                pairs += 1
            while above < above_end and end[above] < first:
                above += 1
            touching = above
            while touching < above_end and start[touching] <= x:
                one[pairs], other[pairs] = touching, number
                pairs += 1
                touching += 1
            number += 1
    return enters[:number], deepest[:number], one[:pairs], other[:pairs]
