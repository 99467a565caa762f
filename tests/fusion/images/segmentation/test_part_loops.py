"""Whether a mask is of one part at every depth, against counting its parts at each."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from fusion.images.segmentation._part_loops import hangs_together

DEPTHS = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 3, 4]))


@settings(deadline=None, max_examples=300)  # the first compiles
@given(depth=DEPTHS, limits=st.sets(st.sampled_from([0.5, 1.0, 1.5, 2.5, 3.0, 4.0]), min_size=1))
def test_a_mask_hangs_together_where_it_has_one_part_at_every_limit(depth, limits):
    limits = np.array(sorted(limits))
    if depth.max() > limits[0]:
        parts = [ndimage.label(depth > limit, np.ones((3, 3)))[1] for limit in limits]
        assert hangs_together(depth, limits) == (max(parts) == 1)
