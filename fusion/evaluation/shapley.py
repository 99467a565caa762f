"""Contribution of each block: its share of what all blocks together achieve, and how blocks lean on one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def shapley_values(blocks: Sequence[str], value_of: Mapping[frozenset[str], _Floats]) -> dict[str, _Floats]:
    """The mean gain from adding a block, over all orders in which blocks can be added.

    They sum to the value of all blocks less that of none. Source: Shapley (1953), Contributions to the Theory of
    Games II, 307-317.

    Parameters
    ----------
    value_of : every subset, the empty one too, to what it achieves: arrays of one shape, taken element by element.
    """
    k = len(blocks)
    values = {}
    for block in blocks:
        total = np.zeros_like(value_of[frozenset()])
        for others in _subsets([name for name in blocks if name != block]):
            share = factorial(len(others)) * factorial(k - len(others) - 1) / factorial(k)
            total += share * (value_of[frozenset((*others, block))] - value_of[frozenset(others)])
        values[block] = total
    return values


def interactions(blocks: Sequence[str], value_of: Mapping[frozenset[str], _Floats]) -> dict[tuple[str, str], _Floats]:
    """How much more two blocks add together than each by itself, over all sets of the others; below 0 they repeat one
    another.

    Source: Grabisch and Roubens (1999), Int. J. Game Theory 28:547-565 (interaction index).
    """
    k = len(blocks)
    found = {}
    for one, other in combinations(blocks, 2):
        total = np.zeros_like(value_of[frozenset()])
        for rest in _subsets([name for name in blocks if name not in (one, other)]):
            share = factorial(len(rest)) * factorial(k - len(rest) - 2) / factorial(k - 1)
            both, with_one, with_other = (
                value_of[frozenset((*rest, *added))] for added in ((one, other), (one,), (other,))
            )
            total += share * (both - with_one - with_other + value_of[frozenset(rest)])
        found[one, other] = total
    return found


#: Plain values "value", "low" and "high" of a figure and what shows how it varies, and how far it may lie from 0.
_Figure = Callable[[_Floats, float], dict[str, float]]


def block_contributions(
    blocks: Sequence[str], value_of: Mapping[frozenset[str], _Floats], figure: _Figure
) -> dict[str, Any]:
    """Plain values for a page: each block's Shapley value, its value alone and what leaving it out costs.

    Parameters
    ----------
    value_of : every subset, the empty one too, to float64 (1 + B,): what it achieves, then B numbers by which it
        varies over subjects, which are added and subtracted as the figures are.
    figure : what makes an interval of both.

    Returns
    -------
    "blocks": a row a block with "shapley", "alone" (its gain over nothing) and "left_out" (the gain of all over all
    but it), each {"value", "low", "high"}; "interactions": a row a pair, {"pair", "value", "low", "high"}.
    """
    everything, nothing = value_of[frozenset(blocks)], value_of[frozenset()]
    shares = shapley_values(blocks, value_of)
    rows = [
        {
            "block": block,
            "shapley": figure(shares[block], 1.0),
            "alone": figure(value_of[frozenset([block])] - nothing, 1.0),
            "left_out": figure(everything - value_of[frozenset(blocks) - {block}], 1.0),
        }
        for block in blocks
    ]
    pairs = [{"pair": list(pair), **figure(value, 2.0)} for pair, value in interactions(blocks, value_of).items()]
    return {"blocks": rows, "interactions": pairs}


def sampled_contributions(
    blocks: Sequence[str],
    value_of: Mapping[frozenset[str], _Floats],
    orders: Sequence[Sequence[str]],
    figure: _Figure,
) -> dict[str, Any]:
    """``block_contributions`` where there are too many blocks for all their subsets: the mean gain over sampled orders.

    Parameters
    ----------
    value_of, figure : as for ``block_contributions``, of the empty set, the sets that begin the orders, each block, and
        all but each.
    orders : in pairs, one of each the reverse of the other.

    Returns
    -------
    As ``block_contributions``, without interactions; each Shapley value also has "error", the standard error that comes
    from sampling orders, by the spread over the pairs. Its interval is over subjects, and leaves that error out.
    """
    gains: dict[str, list[_Floats]] = {block: [] for block in blocks}
    for order in orders:
        for length, block in enumerate(order):
            gains[block].append(value_of[frozenset(order[: length + 1])] - value_of[frozenset(order[:length])])
    everything, nothing = value_of[frozenset(blocks)], value_of[frozenset()]
    rows = []
    for block in blocks:
        of_pairs = (np.array(gains[block][::2]) + np.array(gains[block][1::2])) / 2
        error = float(of_pairs[:, 0].std(ddof=1) / np.sqrt(len(of_pairs)))
        rows.append(
            {
                "block": block,
                "shapley": {**figure(of_pairs.mean(axis=0), 1.0), "error": error},
                "alone": figure(value_of[frozenset([block])] - nothing, 1.0),
                "left_out": figure(everything - value_of[frozenset(blocks) - {block}], 1.0),
            }
        )
    return {"blocks": rows, "interactions": []}


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [subset for size in range(len(names) + 1) for subset in combinations(names, size)]
