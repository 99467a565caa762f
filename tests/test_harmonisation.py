"""Harmonising features: what it takes out, and what it never sees or touches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fusion.harmonisation import _QUANTILES, LEAST_CELLS, METHODS, MIXED, Harmoniser, _estimated, _weighted_quantiles


def cells(seed=0, n=60, d=7, sources=("east", "west"), new=False):
    """X, sources, y: sources differ by shift and factor of every feature, classes by the first two features."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.array(sources, object), n)
    y = np.where(rng.random(len(names)) < 0.4, "all", "hem").astype(object)
    X = rng.normal(size=(len(names), d)) + 3
    X[y == "all", :2] += 2
    for at, source in enumerate(sources):
        of = names == source
        X[of] = X[of] * rng.uniform(0.6, 1.6, d) + rng.normal(0, 2, d) * (at + 1 if not new else 3)
    X[rng.random(X.shape) < 0.02] = np.nan
    return X, list(names), y


def fitted(method, transductive=True, **kwargs):
    X, sources, y = cells()
    return Harmoniser.fit(X, sources, y, method=method, transductive=transductive, **kwargs), X, sources, y


@pytest.mark.parametrize("method", METHODS)
def test_sources_look_alike_afterwards(method):
    harmoniser, X, sources, _ = fitted(method)
    before, after = X, harmoniser.transform(X, sources)
    east = np.array(sources) == "east"
    gap = [abs(np.nanmean(Z[east], 0) - np.nanmean(Z[~east], 0)) / np.nanstd(Z, 0) for Z in (before, after)]
    assert gap[0].mean() > 0.5
    assert gap[1].mean() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_a_new_source_changes_no_training_row_bitwise(method):
    harmoniser, X, sources, _ = fitted(method)
    other, names, _ = cells(5, sources=("north",), new=True)
    alone = harmoniser.transform(X, sources)
    together = harmoniser.transform(np.vstack([X, other]), [*sources, *names])
    assert_array_equal(together[: len(X)], alone)
    assert_array_equal(harmoniser.transform(X, sources), alone)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_order_of_cells_does_not_change_a_bit(method, seed):
    harmoniser, X, sources, y = fitted(method)
    other, names, _ = cells(5, sources=("north", "south"), new=True)
    order, theirs = (np.random.default_rng(seed).permutation(n) for n in (len(X), len(other)))
    again = Harmoniser.fit(X[order], [sources[at] for at in order], y[order], method=method, transductive=True)
    assert_array_equal(again.transform(X, sources), harmoniser.transform(X, sources))
    assert_array_equal(
        harmoniser.transform(other[theirs], [names[at] for at in theirs]), harmoniser.transform(other, names)[theirs]
    )


@pytest.mark.parametrize("method", METHODS)
def test_an_inductive_map_leaves_a_new_source_as_it_is(method):
    harmoniser, *_ = fitted(method, transductive=False)
    other, names, _ = cells(5, sources=("north",), new=True)
    assert_array_equal(harmoniser.transform(other, names), other)
    assert harmoniser.told(names) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_transductive_map_brings_a_new_source_to_the_training_cells_and_says_so(method):
    harmoniser, X, sources, _ = fitted(method)
    other, names, _ = cells(5, sources=("north",), new=True)
    goal = np.nanmean(harmoniser.transform(X, sources), axis=0)
    after = np.nanmean(harmoniser.transform(other, names), axis=0)
    assert (abs(after - goal) < 0.25 * abs(np.nanmean(other, axis=0) - goal) + 0.25 * np.nanstd(X, axis=0)).all()
    assert "transductive" in harmoniser.told(names)[0]
    assert "60 cells" in harmoniser.told(names)[0]


@pytest.mark.parametrize("method", METHODS)
def test_too_few_cells_of_a_new_source_are_left_alone(method):
    harmoniser, *_ = fitted(method)
    other, names, _ = cells(5, n=LEAST_CELLS - 1, sources=("north",), new=True)
    assert_array_equal(harmoniser.transform(other, names), other)
    assert "fewer than" in harmoniser.told(names)[0]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"combat"}))
def test_no_method_but_combat_looks_at_labels_at_all(method):
    harmoniser, X, sources, y = fitted(method)
    planted = Harmoniser.fit(X, sources, y[::-1], method=method, transductive=True)
    assert_array_equal(planted.transform(X, sources), harmoniser.transform(X, sources))


def test_combat_protects_classes_of_which_a_source_has_more():
    rng = np.random.default_rng(1)
    y = np.array(["all"] * 90 + ["hem"] * 10 + ["all"] * 10 + ["hem"] * 90, object)
    sources = ["east"] * 100 + ["west"] * 100
    X = rng.normal(size=(200, 6)) + np.where(y == "all", 3.0, 0.0)[:, None] + np.repeat([0.0, 5.0], 100)[:, None]
    gap = {}
    for protect in (True, False):
        Z = Harmoniser.fit(X, sources, y, method="combat", protect=protect).transform(X, sources)
        gap[protect] = float(np.mean(Z[y == "all"].mean(axis=0) - Z[y == "hem"].mean(axis=0)))
    assert gap[True] == pytest.approx(3, abs=0.4)
    assert gap[False] < 1.5


def test_combat_agrees_with_neurocombat():
    """Values of neuroCombat 0.2.12, the reference port of the authors' R code, on the same numbers."""
    known = json.loads((Path(__file__).parent / "oracles" / "neurocombat.json").read_text())
    X, sources, y = np.array(known["X"]), known["sources"], np.array(known["y"], object)
    plain = Harmoniser.fit(X, sources, y, method="combat", protect=False)
    assert_allclose(plain.transform(X, sources), known["harmonised"], rtol=0, atol=2e-4)
    protecting = Harmoniser.fit(X, sources, y, method="combat", protect=True)
    for source, estimates in known["protected"].items():
        assert_allclose(protecting.maps[source]["shift"], estimates["gamma_star"], atol=2e-4)
        assert_allclose(protecting.maps[source]["factor"] ** 2, estimates["delta_star"], atol=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_stored_maps_to_the_same_bits(method):
    harmoniser, X, sources, _ = fitted(method)
    other, names, _ = cells(5, sources=("north",), new=True)
    about, arrays = harmoniser.state()
    again = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    for rows, of in ((X, sources), (other, names)):
        assert_array_equal(again.transform(rows, of), harmoniser.transform(rows, of))


@pytest.mark.parametrize("method", METHODS)
def test_columns_that_do_not_vary_or_have_no_value_stay_finite(method):
    X, sources, y = cells()
    X[:, 2], X[:, 3] = 4.0, np.nan
    X[:60, 4] = np.nan  # never seen in the east
    changed = Harmoniser.fit(X, sources, y, method=method, transductive=True).transform(X, sources)
    assert_array_equal(np.isnan(changed), np.isnan(X))
    assert np.isfinite(changed[~np.isnan(X)]).all()
    assert_allclose(changed[:, 2], 4.0, atol=1e-6)


def test_an_unknown_method_is_refused():
    X, sources, y = cells()
    with pytest.raises(ValueError, match="method must be one of"):
        Harmoniser.fit(X, sources, y, method="magic")


# ---- another mix of classes ------------------------------------------------------------------------------------------


def mixed(share, seed, moved=0.0):
    """Cells of two classes that two features tell apart, ``share`` of them of the second, moved as by another stain."""
    rng = np.random.default_rng(seed)
    codes = (np.arange(300) < share * 300).astype(int)
    return rng.normal(size=(300, 2)) + 3.0 * codes[:, None] * [1, -1] + moved, codes


def says(rows):
    """What a model says that weighs both classes alike, however many cells of each it has learnt from."""
    score = 3 * (rows[:, 0] - 1.5) - 3 * (rows[:, 1] + 1.5)
    return np.column_stack([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))])


@pytest.mark.parametrize(
    ("learnt", "share"), [(0.5, 0.1), (0.5, 0.25), (0.5, 0.5), (0.5, 0.8), (0.25, 0.25), (0.25, 0.75), (0.75, 0.3)]
)
@pytest.mark.parametrize("method", MIXED)
def test_another_mix_of_classes_is_not_taken_for_a_stain(learnt, share, method):
    """The class means of the new source land on those of the training cells; without ``mix`` a rare class drifts."""
    X, y = mixed(learnt, 0)
    new, truth = mixed(share, 1, moved=40.0)
    off = []
    for mix in (False, True):
        harmoniser = Harmoniser.fit(X, ["east"] * 300, y, method=method, transductive=True, mix=mix)
        seen = harmoniser.transform(new, ["west"] * 300, says)
        off.append(np.abs([seen[truth == code].mean(axis=0) - X[y == code].mean(axis=0) for code in (0, 1)]).max())
    assert off[1] < 0.35
    if share != learnt:
        assert off[0] > 2 * off[1]


@pytest.mark.parametrize("learnt", [0.25, 0.5, 0.8])
def test_shares_are_estimated_from_classes_that_overlap(learnt):
    """One in ten is of the second class; a third of the cells lie on the other's side."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000) + 0.5 * np.where(np.arange(4000) < 400, 1, -1)
    second = 1 / (1 + np.exp(-x))  # by Bayes, of two classes a standard deviation apart that weigh alike
    found = _estimated(np.column_stack([1 - second, second]), np.array([1 - learnt, learnt]))
    assert found[:, 1].mean() == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("method", MIXED)
def test_training_sources_with_other_mixes_keep_their_classes_in_place(method):
    parts = [mixed(0.2, 0), mixed(0.8, 1, moved=7.0)]
    X, y = np.vstack([rows for rows, _ in parts]), np.concatenate([codes for _, codes in parts])
    sources = ["east"] * 300 + ["west"] * 300
    apart = []
    for mix in (False, True):
        seen = Harmoniser.fit(X, sources, y, method=method, mix=mix).transform(X, sources)
        apart.append(max(np.abs(seen[:300][y[:300] == c].mean(0) - seen[300:][y[300:] == c].mean(0)).max()
                         for c in (0, 1)))  # fmt: skip
    assert apart[1] < 0.3 < 1 < apart[0]


@pytest.mark.parametrize("method", MIXED)
def test_the_estimated_mix_depends_on_no_order_and_changes_no_training_row(method):
    X, y = mixed(0.5, 0)
    new, _ = mixed(0.2, 1, moved=40.0)
    harmoniser = Harmoniser.fit(X, ["east"] * 300, y, method=method, transductive=True, mix=True)
    seen = harmoniser.transform(np.vstack([X, new]), ["east"] * 300 + ["west"] * 300, says)
    assert seen[:300].tobytes() == harmoniser.transform(X, ["east"] * 300, says).tobytes()
    order = np.random.default_rng(2).permutation(300)
    assert harmoniser.transform(new[order], ["west"] * 300, says).tobytes() == seen[300:][order].tobytes()
    about, arrays = harmoniser.state()
    again = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    assert again.transform(new, ["west"] * 300, says).tobytes() == seen[300:].tobytes()
    assert "weighed by an estimate of their mix of classes" in harmoniser.told(["west"] * 300)[0]


def test_quantiles_of_cells_that_weigh_alike_are_numpys_and_a_cell_of_double_weight_counts_twice():
    values = np.random.default_rng(0).normal(size=301)
    np.testing.assert_allclose(
        _weighted_quantiles(values, np.full(301, 0.7)), np.quantile(values, _QUANTILES), atol=1e-12
    )
    halves = np.where(values < np.median(values), 2.0, 1.0)  # two thirds of the weight lie below the median
    two_thirds = np.interp(2 / 3, _QUANTILES, _weighted_quantiles(values, halves))
    assert two_thirds == pytest.approx(np.median(values), abs=0.02)
    assert _weighted_quantiles(values, halves)[[0, -1]].tolist() == [values.min(), values.max()]


@pytest.mark.parametrize("method", ["combat", "coral"])
def test_mix_goes_with_methods_that_can_weigh_cells(method):
    X, y = mixed(0.5, 0)
    with pytest.raises(ValueError, match=f"goes with method standard or quantile, not {method}"):
        Harmoniser.fit(X, ["east"] * 300, y, method=method, mix=True)
