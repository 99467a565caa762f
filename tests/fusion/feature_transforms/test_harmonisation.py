"""Harmonising features: what it takes out, and what it never sees or touches."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fusion.feature_transforms.harmonisation import LEAST_CELLS, METHODS, Harmoniser, class_shares, in_order


def cells(seed=0, n=60, d=7, sources=("east", "west"), new=False):
    """X and sources, which differ by shift and factor of every feature; of some cells two features are higher."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.array(sources, object), n)
    leukaemic = rng.random(len(names)) < 0.4
    X = rng.normal(size=(len(names), d)) + 3
    X[leukaemic, :2] += 2
    for at, source in enumerate(sources):
        of = names == source
        X[of] = X[of] * rng.uniform(0.6, 1.6, d) + rng.normal(0, 2, d) * (at + 1 if not new else 3)
    X[rng.random(X.shape) < 0.02] = np.nan
    return X, list(names)


def labels(X):
    """Two classes that sources share; what they are does not matter to tests that do not name them."""
    return np.where(np.arange(len(X)) % 3 == 0, "all", "hem")


def fitted(method, transductive=True):
    X, sources = cells()
    return Harmoniser.fit(X, labels(X), sources, method=method, transductive=transductive), X, sources


@pytest.mark.parametrize("method", METHODS)
def test_sources_look_alike_afterwards(method):
    harmoniser, X, sources = fitted(method)
    before, after = X, harmoniser.transform(X, sources)
    east = np.array(sources) == "east"
    gap = [abs(np.nanmean(Z[east], 0) - np.nanmean(Z[~east], 0)) / np.nanstd(Z, 0) for Z in (before, after)]
    assert gap[0].mean() > 0.5
    assert gap[1].mean() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_a_new_source_changes_no_training_row_bitwise(method):
    harmoniser, X, sources = fitted(method)
    other, names = cells(5, sources=("north",), new=True)
    alone = harmoniser.transform(X, sources)
    together = harmoniser.transform(np.vstack([X, other]), [*sources, *names])
    assert_array_equal(together[: len(X)], alone)
    assert_array_equal(harmoniser.transform(X, sources), alone)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_order_of_cells_does_not_change_a_bit(method, seed):
    harmoniser, X, sources = fitted(method)
    other, names = cells(5, sources=("north", "south"), new=True)
    order, theirs = (np.random.default_rng(seed).permutation(n) for n in (len(X), len(other)))
    again = Harmoniser.fit(X[order], labels(X)[order], [sources[at] for at in order], method=method, transductive=True)
    assert_array_equal(again.transform(X, sources), harmoniser.transform(X, sources))
    assert_array_equal(
        harmoniser.transform(other[theirs], [names[at] for at in theirs]), harmoniser.transform(other, names)[theirs]
    )


@pytest.mark.parametrize("method", METHODS)
def test_an_inductive_map_leaves_a_new_source_as_it_is(method):
    harmoniser, *_ = fitted(method, transductive=False)
    other, names = cells(5, sources=("north",), new=True)
    assert_array_equal(harmoniser.transform(other, names), other)
    assert harmoniser.notes(names) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_transductive_map_brings_a_new_source_to_the_training_cells_and_says_so(method):
    harmoniser, X, sources = fitted(method)
    other, names = cells(5, sources=("north",), new=True)
    goal = np.nanmean(harmoniser.transform(X, sources), axis=0)
    after = np.nanmean(harmoniser.transform(other, names), axis=0)
    assert (abs(after - goal) < 0.25 * abs(np.nanmean(other, axis=0) - goal) + 0.25 * np.nanstd(X, axis=0)).all()
    assert "transductive" in harmoniser.notes(names)[0]
    assert "60 cells" in harmoniser.notes(names)[0]


@pytest.mark.parametrize("method", METHODS)
def test_too_few_cells_of_a_new_source_are_left_alone(method):
    harmoniser, *_ = fitted(method)
    other, names = cells(5, n=LEAST_CELLS - 1, sources=("north",), new=True)
    assert_array_equal(harmoniser.transform(other, names), other)
    assert "fewer than" in harmoniser.notes(names)[0]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_stored_maps_to_the_same_bits(method):
    harmoniser, X, sources = fitted(method)
    other, names = cells(5, sources=("north",), new=True)
    about, arrays = harmoniser.state()
    again = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    for rows, of in ((X, sources), (other, names)):
        assert_array_equal(again.transform(rows, of), harmoniser.transform(rows, of))


@pytest.mark.parametrize("method", METHODS)
def test_columns_that_do_not_vary_or_have_no_value_stay_finite(method):
    X, sources = cells()
    X[:, 2], X[:, 3] = 4.0, np.nan
    X[:60, 4] = np.nan  # never seen in the east
    changed = Harmoniser.fit(X, labels(X), sources, method=method, transductive=True).transform(X, sources)
    assert_array_equal(np.isnan(changed), np.isnan(X))
    assert np.isfinite(changed[~np.isnan(X)]).all()
    assert_allclose(changed[:, 2], 4.0, atol=1e-6)


def test_an_unknown_method_is_refused():
    X, sources = cells()
    with pytest.raises(ValueError, match="method must be one of"):
        Harmoniser.fit(X, labels(X), sources, method="magic")


@pytest.mark.parametrize("method", METHODS)
def test_more_cells_of_a_training_class_are_no_other_stain(method):
    """Two sites that differ in nothing but how many cells of each class they have are mapped to the same place."""
    rng = np.random.default_rng(0)
    even, uneven = np.repeat(["all", "hem"], [4000, 4000]), np.repeat(["all", "hem"], [7600, 400])
    y = np.concatenate([even, uneven])
    X = rng.normal(size=(len(y), 2)) + 2.0 * (y == "all")[:, None]
    sources = ["even"] * len(even) + ["uneven"] * len(uneven)
    changed = Harmoniser.fit(X, y, sources, method=method).transform(X, sources)
    gaps = [changed[:8000][even == label].mean(0) - changed[8000:][uneven == label].mean(0) for label in ("all", "hem")]
    assert np.abs(gaps).max() < 0.15
    plain = [X[:8000].mean(0), X[8000:].mean(0)]
    assert np.abs(plain[0] - plain[1]).min() > 0.8, "counting cells alike would take the mix for a stain"


def test_one_odd_cell_does_not_stand_for_a_class():
    shares = class_shares(np.array([0] * 100 + [1] * 50 + [2]))
    assert_allclose(shares.sum(), 1)
    assert_allclose(shares[:100].sum(), shares[100:150].sum())
    assert_allclose(shares[150], shares[:100].sum() / LEAST_CELLS)


@pytest.mark.parametrize("few", [1, 3, 40])
def test_rows_have_the_order_of_all_columns_whichever_tell_it(few):
    rng = np.random.default_rng(few)
    X, labels = rng.integers(0, few, (60, 40)).astype(float), rng.integers(0, 3, 60)
    X[rng.random(X.shape) < 0.2] = np.nan
    for shown, also in ((X, [labels]), (X, []), (X[:, :0], [labels]), (X[:, :0], []), (X[:1], [])):
        rows, order = in_order(shown, *(column[: len(shown)] for column in also))
        keys = [*(column[: len(shown)] for column in also), *shown.T[::-1]]
        wanted = np.lexsort(keys) if keys else np.arange(len(shown))
        np.testing.assert_array_equal(order, wanted)
        np.testing.assert_array_equal(rows, shown[wanted])
