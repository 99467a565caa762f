"""Compiled loops that several families share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from extractors.numba_kernels import pixels_at_ranks
from tests.extractors.conftest import examples


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 2047, 2048, 10**6, 2**31 - 1]))
@examples
def test_pixels_at_ranks_are_those_of_sorting(seed, most):
    rng = np.random.default_rng(seed)
    values = rng.integers(-most, most, (rng.integers(1, 12), rng.integers(1, 12))).astype(np.int32)
    inside = rng.random(values.shape) < 0.6
    inside[0, 0] = True
    ranks = rng.integers(0, inside.sum(), 5)
    assert_array_equal(pixels_at_ranks(values, inside, ranks), np.sort(values[inside])[ranks])
