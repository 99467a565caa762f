"""Loops over the colours of a cell, against sorting and against converting each colour by itself."""

from __future__ import annotations

import numpy as np
import pytest

from extractors.colour._colour_kernels import values_at_ranks
from extractors.colour._colour_spaces import convert


@pytest.mark.parametrize("colours", [1, 7, 1000, 13_000, 60_000])
def test_values_at_ranks_are_those_of_sorted_pixels(colours):
    rng = np.random.default_rng(colours)
    planes = np.stack(
        [rng.integers(0, 256, colours).astype(float), rng.normal(size=colours), rng.lognormal(9, 4, colours)]
    )
    counts, split = rng.integers(1, 9, colours), colours // 3
    regions = [slice(None), slice(split), slice(split, None)]
    ranks = np.array(
        [[int(share * max(counts[of].sum() - 1, 0)) for share in (0, 0.05, 0.5, 0.51, 1)] for of in regions]
    )
    found = values_at_ranks(planes, counts, split, ranks, np.array([True, False, False]))
    for region, of in enumerate(regions):
        for channel, plane in enumerate(planes):
            pixels = np.sort(np.repeat(plane[of], counts[of]))
            if pixels.size:
                np.testing.assert_array_equal(found[region, :, channel], pixels[ranks[region]])


def test_a_colour_is_converted_the_same_wherever_it_stands():
    codes = np.random.default_rng(0).permutation(1 << 24)[:1500].astype(np.uint32)
    together = convert(codes)
    np.testing.assert_array_equal(together, np.concatenate([convert(code[None]) for code in codes], axis=1))
    np.testing.assert_array_equal(together[:, ::-1], convert(codes[::-1].copy()))
