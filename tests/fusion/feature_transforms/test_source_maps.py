"""What describes cells of several classes together follows from what describes those of each."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.feature_transforms.source_maps import class_shares, complete, describe, describe_raw, pool
from fusion.metrics.class_shares import LEAST_CELLS


def cells(seed):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], [40, 25, 6])
    X = rng.normal(size=(len(y), 8)) + y[:, None] * rng.normal(size=8)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 6], X[:, 7] = 3.0, np.nan
    X[y == 2, 5] = np.nan
    return X, y


def parts(method, X, y):
    found = []
    for code, count in enumerate(np.bincount(y)):
        own = describe_raw(method, X[y == code], np.full(count, 1 / count))
        found.append({**own, "known": own["known"] * min(count, LEAST_CELLS)})
    return found


@pytest.mark.parametrize("present", [[0], [0, 1], [0, 2], [0, 1, 2]])
def test_moments_of_classes_together_are_those_of_their_cells(present):
    X, y = cells(1)
    rows = np.isin(y, present)
    whole = describe("standard", X, class_shares(y))
    own = np.unique(y[rows], return_inverse=True)[1]
    wanted = describe("standard", X[rows], class_shares(own), whole)
    found = complete(pool("standard", [parts("standard", X, y)[at] for at in present]), whole)
    for name in wanted:
        assert_allclose(found[name], wanted[name], rtol=1e-9)


def test_quantiles_of_classes_together_are_near_those_of_their_cells():
    X, y = np.random.default_rng(2).normal(size=(600, 2)), np.repeat([0, 1, 2], 200)
    X += y[:, None]
    rows = y != 1
    wanted = describe("quantile", X[rows], class_shares(y[rows] // 2))["quantiles"]
    found = complete(pool("quantile", [parts("quantile", X, y)[at] for at in (0, 2)]), None)["quantiles"]
    assert abs(found - wanted)[2:-2].max() < 0.08
