"""Which sets of blocks a comparison fits: all of them, some by a rule, or those that someone names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from fusion.errors import UsageError

FeatureSet = tuple[str, ...]

#: Blocks up to which all subsets are fitted if nothing is said: 63 sets. With more, orders are sampled.
ALL_UP_TO = 6

#: Blocks of which all subsets may be asked for: 2**10 - 1 sets.
MAX_BLOCKS = 10

#: Pairs of an order and its reverse that are sampled where there are more blocks than ``ALL_UP_TO``.
ORDER_PAIRS = 12

RULES = ("all", "sampled", "alone", "leave-one-out")


def feature_sets(blocks: Sequence[str], asked: Sequence[str], seed: int) -> list[FeatureSet]:
    """The sets that are asked for, each once, the smaller ones first, each in the order of ``blocks``.

    Parameters
    ----------
    asked : any of ``RULES``, and sets of blocks joined by "+". Empty: "all" of up to six blocks, "sampled" of more.
        "alone" is each block by itself, "leave-one-out" all blocks and all but one, "sampled" what
        ``shapley.sampled_contributions`` needs.
    seed : of the sampled orders.

    Raises
    ------
    UsageError : a rule or block that is not known, or too many blocks for all their subsets.
    """
    chosen: set[FeatureSet] = set()
    for rule in asked or (["all"] if len(blocks) <= ALL_UP_TO else ["sampled"]):
        chosen |= set(_by_rule(rule, list(blocks), seed))
    at = {name: number for number, name in enumerate(blocks)}
    return sorted(chosen, key=lambda names: (len(names), [at[name] for name in names]))


def block_subsets(blocks: Sequence[str]) -> list[FeatureSet]:
    """All non-empty subsets, the single blocks first, each in the order of ``blocks``."""
    return [subset for size in range(1, len(blocks) + 1) for subset in combinations(blocks, size)]


def sampled_orders(blocks: Sequence[str], seed: int) -> list[FeatureSet]:
    """Orders in which blocks may be added, each followed by its reverse.

    What an order overrates for coming early its reverse underrates for coming late.
    Source: Mitchell et al. (2022), JMLR 23(43):1-46, antithetic sampling.
    """
    rng = np.random.default_rng(seed)
    orders: list[FeatureSet] = []
    for _ in range(ORDER_PAIRS):
        order = tuple(blocks[at] for at in rng.permutation(len(blocks)))
        orders += [order, order[::-1]]
    return orders


def _by_rule(rule: str, blocks: list[str], seed: int) -> list[FeatureSet]:
    alone: list[FeatureSet] = [(block,) for block in blocks]
    if rule == "all":
        return _every_subset(blocks)
    if rule == "alone":
        return alone
    if rule == "leave-one-out":
        return _all_and_without_each(blocks)
    if rule == "sampled":
        return [*_sampled(blocks, seed), *_all_and_without_each(blocks), *alone]
    return [_named(rule, blocks)]


def _every_subset(blocks: list[str]) -> list[FeatureSet]:
    if len(blocks) > MAX_BLOCKS:
        raise UsageError(
            f"{len(blocks)} blocks have {2 ** len(blocks) - 1:,} subsets",
            expected=f"at most {MAX_BLOCKS} blocks for --subsets all",
            do="Take --subsets sampled, alone, leave-one-out, or name the sets.",
        )
    return block_subsets(blocks)


def _all_and_without_each(blocks: list[str]) -> list[FeatureSet]:
    left_out = [tuple(name for name in blocks if name != block) for block in blocks if len(blocks) > 1]
    return [tuple(blocks), *left_out]


def _sampled(blocks: list[str], seed: int) -> list[FeatureSet]:
    """What begins the sampled orders."""
    orders = sampled_orders(blocks, seed)
    begun = {frozenset(order[:length]) for order in orders for length in range(1, len(order) + 1)}
    return [tuple(name for name in blocks if name in members) for members in begun]


def _named(rule: str, blocks: list[str]) -> FeatureSet:
    """A set such as ``a+b``."""
    names = [name.strip() for name in rule.split("+")]
    if unknown := [name for name in names if name not in blocks]:
        raise UsageError(
            f"--subsets names no block: {', '.join(unknown)}",
            found=rule,
            expected=f"{', '.join(RULES)}, or sets such as {'+'.join(blocks[:2])} of {', '.join(blocks)}",
        )
    return tuple(block for block in blocks if block in names)
