"""Saddles between the segments of a region are those that its connected parts at every limit tell."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from extractors.colour._lobe_kernels import find_saddles

DEPTHS = arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 9))


@settings(deadline=None)  # the first compiles
@given(depth=DEPTHS.filter(np.any), limits=st.sets(st.integers(1, 9), max_size=5))
def test_saddles_are_where_connected_parts_meet(depth, limits):
    limits = [*sorted(limits, reverse=True), 0]
    peaks, met = find_saddles(depth, np.array(limits, np.float64))
    assert sorted(zip(peaks.tolist(), met.tolist(), strict=True)) == sorted(meetings(depth, limits))


def meetings(depth, limits):
    """(greatest depth, number of the limit at which a deeper part is met), every limit labelled afresh."""
    found, parts = [], []  # of the parts that have met no deeper one: greatest depth, and where it is
    for at, limit in enumerate(limits):
        labels, number = ndimage.label(depth > limit, np.ones((3, 3)))
        now = []
        for label in range(1, number + 1):
            within = sorted(part for part in parts if labels[part[1]] == label)
            found += [(deepest, at) for deepest, _ in within[:-1]]
            place = np.unravel_index(np.argmax(np.where(labels == label, depth, -1)), depth.shape)
            now.append(within[-1] if within else (int(depth[place]), place))
        parts = now
    return found + [(deepest, len(limits)) for deepest, _ in sorted(parts)[:-1]]
