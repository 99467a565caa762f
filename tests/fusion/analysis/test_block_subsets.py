"""The sets of blocks that a comparison fits."""

import pytest

from fusion.analysis.block_subsets import block_subsets, feature_sets, sampled_orders
from fusion.errors import UsageError


def test_subsets_are_all_and_the_single_blocks_come_first():
    every = [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert block_subsets(["a", "b", "c"]) == every
    assert feature_sets(["a", "b", "c"], [], 0) == every
    assert feature_sets(["a", "b", "c"], ["all"], 0) == every


def test_rules_may_be_put_together_and_each_set_comes_once():
    blocks = ["a", "b", "c"]
    assert feature_sets(blocks, ["alone"], 0) == [("a",), ("b",), ("c",)]
    assert feature_sets(blocks, ["leave-one-out"], 0) == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert feature_sets(blocks, ["c+a", "alone", "b"], 0) == [("a",), ("b",), ("c",), ("a", "c")]
    assert feature_sets(["a"], ["leave-one-out"], 0) == [("a",)]


def test_of_more_than_six_blocks_orders_are_sampled():
    blocks = [f"b{at}" for at in range(9)]
    sets = feature_sets(blocks, [], 3)
    assert sets == feature_sets(blocks, ["sampled"], 3)
    assert len(sets) == len(set(sets)) < 2**9 - 1
    for order in sampled_orders(blocks, 3):
        assert sorted(order) == blocks
        for length in range(1, 10):
            assert tuple(sorted(order[:length])) in sets
    assert {(block,) for block in blocks} <= set(sets)
    assert sampled_orders(blocks, 3) != sampled_orders(blocks, 4)


@pytest.mark.parametrize(("asked", "message"), [(["d"], "names no block: d"), (["a+x"], "names no block: x")])
def test_a_set_of_what_is_not_there_is_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        feature_sets(["a", "b"], asked, 0)


def test_all_subsets_of_eleven_blocks_are_too_many():
    with pytest.raises(UsageError, match="2,047 subsets"):
        feature_sets([f"b{at}" for at in range(11)], ["all"], 0)
