"""Whether a mask is of one part at every depth, compiled: imported when the first field is searched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.compute.compiled_loops import compiled


@compiled
def hangs_together(depth: NDArray[np.float32], limits: NDArray[np.float64]) -> bool:
    """Whether what is deeper than a limit is one part, joined by sides and corners, at each limit.

    From one of the deepest pixels all others are reached, those deeper than a higher limit before any others.

    Parameters
    ----------
    depth : float32 (H, W), somewhere deeper than the first limit.
    limits : float64 (k,), ascending, fewer than 255.
    """
    height, width = depth.shape
    # How many limits each pixel is deeper than, in a frame of 0; 0 also for what has been reached.
    above = np.zeros((height + 2, width + 2), np.uint8)
    number = np.zeros(len(limits) + 1, np.int64)
    at, most, seed = 0, 0, 0
    for y in range(height):
        row, into = depth[y], above[y + 1]
        for x in range(width):
            while at < len(limits) and row[x] > limits[at]:
                at += 1
            while at > 0 and row[x] <= limits[at - 1]:
                at -= 1
            into[x + 1] = at
            number[at] += 1
            if at > most:
                most, seed = at, (y + 1) * (width + 2) + x + 1
    begin = np.zeros(len(limits) + 2, np.int64)
    for at in range(1, len(limits) + 1):
        begin[at + 1] = begin[at] + number[at]
    end, reached, places = begin.copy(), np.empty(begin[-1], np.int32), above.ravel()
    stride = width + 2
    around = np.array([-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1])
    reached[end[most]] = seed
    end[most] += 1
    places[seed] = 0
    for level in range(most, 0, -1):
        at = begin[level]
        while at < end[level]:
            for aside in around:
                beside = reached[at] + aside
                if places[beside]:
                    reached[end[places[beside]]] = beside
                    end[places[beside]] += 1
                    places[beside] = 0
            at += 1
        if end[level] - begin[level] < number[level]:
            return False
    return True
