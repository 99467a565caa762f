"""The compiled search for the cheapest curve, against every curve there is."""

from itertools import product

import numpy as np
import pytest

from fusion.images.segmentation._contour_loops import cheapest_path


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    cost, bend, turns = rng.random((4, 5)), np.array([0.3, 0.1, 0.0, 0.1, 0.3]), 6
    found = cheapest_path(cost, bend, turns)

    def price(path):
        steps = np.diff(path)
        if np.abs(steps).max() > 2:
            return np.inf
        return sum(cost[turn % 4, at] for turn, at in enumerate(path)) + bend[steps + 2].sum()

    assert price(found) == pytest.approx(min(price(path) for path in product(range(5), repeat=turns)))
