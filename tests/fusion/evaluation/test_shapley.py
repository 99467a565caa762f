"""Shapley values against their definition over all orders, and what they must satisfy."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fusion.analysis.block_subsets import sampled_orders
from fusion.evaluation.shapley import block_contributions, interactions, sampled_contributions, shapley_values


def subsets(blocks):
    return [frozenset(s) for size in range(len(blocks) + 1) for s in combinations(blocks, size)]


def game(blocks, seed, replicates=0):
    rng = np.random.default_rng(seed)
    return {subset: rng.normal(size=1 + replicates) for subset in subsets(blocks)}


@given(st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_value_is_the_mean_gain_over_all_orders(k, seed):
    blocks = [f"b{at}" for at in range(k)]
    value_of = game(blocks, seed)
    gains = {block: [] for block in blocks}
    for order in permutations(blocks):
        for at, block in enumerate(order):
            gains[block].append(value_of[frozenset(order[: at + 1])] - value_of[frozenset(order[:at])])
    values = shapley_values(blocks, value_of)
    for block in blocks:
        assert_allclose(values[block], np.mean(gains[block], axis=0), atol=1e-12)
    assert_allclose(sum(values.values()), value_of[frozenset(blocks)] - value_of[frozenset()], atol=1e-12)


def test_a_block_that_adds_nothing_is_worth_nothing_and_twins_share():
    # a and b are the same block twice, c is noise: either of the twins brings 0.3.
    value_of = {s: np.array([0.5 + (0.3 if s & {"a", "b"} else 0)]) for s in subsets("abc")}
    values = shapley_values(list("abc"), value_of)
    assert_allclose([values[block][0] for block in "abc"], [0.15, 0.15, 0])
    # Together the twins bring 0.3 less than each by itself added up; noise changes nothing for anyone.
    pairs = interactions(list("abc"), value_of)
    assert_allclose([pairs["a", "b"][0], pairs["a", "c"][0], pairs["b", "c"][0]], [-0.3, 0, 0], atol=1e-12)


def test_sampled_orders_come_near_the_value_and_say_how_near():
    blocks = [f"b{at}" for at in range(7)]
    rng = np.random.default_rng(1)
    # What sets of blocks achieve levels off, as balanced accuracy does.
    size = rng.uniform(0.2, 1, 7)
    value_of = {s: np.array([1 - np.exp(-sum(size[int(name[1])] for name in s))] * 3) for s in subsets(blocks)}
    exact = shapley_values(blocks, value_of)
    off = []
    for seed in range(30):
        found = sampled_contributions(blocks, value_of, sampled_orders(blocks, seed), as_is)
        assert found["interactions"] == []
        total = sum(row["shapley"]["value"] for row in found["blocks"])
        assert total == pytest.approx(value_of[frozenset(blocks)][0])  # every order adds up to the whole
        off += [(row["shapley"]["value"] - exact[row["block"]][0]) / row["shapley"]["error"] for row in found["blocks"]]
    # Student's t with 11 degrees of freedom has a standard deviation of 1.1.
    assert 0.8 < np.std(off) < 1.4
    assert abs(np.mean(off)) < 0.2


def as_is(values, reach):
    """A figure without an interval, and what it varies by as it is."""
    return {"value": float(values[0]), "varies": values[1:].tolist(), "reach": reach}


def test_with_two_blocks_by_hand_and_with_intervals():
    drawn = np.random.default_rng(0).normal(0, 0.01, 40)
    value_of = {
        frozenset(): np.append(0.5, np.zeros(40)),
        frozenset("a"): np.append(0.7, drawn),
        frozenset("b"): np.append(0.6, drawn),
        frozenset("ab"): np.append(0.75, drawn),
    }
    found = block_contributions(["a", "b"], value_of, as_is)
    row = {row["block"]: row for row in found["blocks"]}
    assert row["a"]["shapley"]["value"] == pytest.approx((0.2 + 0.15) / 2)
    assert row["b"]["shapley"]["value"] == pytest.approx((0.1 + 0.05) / 2)
    assert row["a"]["alone"]["value"] == pytest.approx(0.2)
    assert row["a"]["left_out"]["value"] == pytest.approx(0.15)
    # Both gains of a vary together with the subjects: alone by all of it, over b not at all.
    assert_allclose(row["a"]["shapley"]["varies"], drawn / 2)
    assert row["a"]["shapley"]["reach"] == 1
    assert found["interactions"][0]["value"] == pytest.approx(0.75 - 0.7 - 0.6 + 0.5)
    assert_allclose(found["interactions"][0]["varies"], -drawn)
