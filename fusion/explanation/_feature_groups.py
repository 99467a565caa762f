"""What groups of features add to a block's contribution: nuclear shape, chromatin, cytoplasm colour, ...

A block's contribution is divided among its groups, and a group's among the features that are named and all its others
together, so that every level adds up to the one above: named features and the rest to their group, groups to their
block, blocks to the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.explanation._attribution import Attribution, Score, value_of_block
from fusion.learning.fused_model import FusedModel
from fusion.plugins.extractors import Description

_Floats = NDArray[np.float64]

#: Rows that a model is asked about for the groups of one block, where a pair of orders does with so few.
_ROWS = 2048

#: Pairs of orders in which groups come, at most.
_PAIRS = 8

#: Features of one group that are named, so that one texture in many variants does not fill the page.
_OF_A_GROUP = 3

#: Contribution, as a share of the strongest, from which on a feature that agrees with pathologists comes before others.
_WORTH_NAMING = 0.2


@dataclass(frozen=True)
class GroupShare:
    """What a group of features adds.

    Attributes
    ----------
    block, name : of the group; a block whose features are filed nowhere is a group of its own.
    value : above 0 for the class, below 0 against it.
    named : number of a column -> what it adds, of the features that are named.
    others : how many features the group has beside these.
    """

    block: str
    name: str
    value: float
    named: Mapping[int, float]
    others: int

    @property
    def rest(self) -> float:
        """What all other features of the group add together."""
        return self.value - sum(self.named.values())


@dataclass(frozen=True, eq=False)
class _Player:
    """Columns of a block that come together: a named feature, or all the others of a group."""

    group: str
    columns: NDArray[np.intp]
    named: bool


def choose_named(contributions: _Floats, descriptions: Sequence[Description], top: int) -> list[int]:
    """The columns that an explanation names: at most ``top`` for the class and as many against it.

    Features that agree with what pathologists see come before others, where they matter at all; of the others the
    strongest, a few of each group.
    """
    least = _WORTH_NAMING * float(np.abs(contributions).max(initial=0.0))
    chosen: list[int] = []
    for sign in (1.0, -1.0):
        strength = sign * contributions
        able = [at for at in np.argsort(-strength, kind="stable").tolist() if strength[at] > 0]
        able = [at for at in able if descriptions[at].is_quoted]
        able.sort(key=lambda at: not (descriptions[at].agreement and strength[at] >= least))
        taken: dict[str, int] = {}
        for at in able:
            group = descriptions[at].group
            if taken.get(group, 0) < _OF_A_GROUP or not group:
                taken[group] = taken.get(group, 0) + 1
                chosen.append(at)
            if sum(taken.values()) == top:
                break
    return chosen


def group_shares(
    model: FusedModel,
    blocks: Mapping[str, slice],
    features: NDArray[np.float32],
    typical: NDArray[np.float32],
    found: Attribution,
    groups: Sequence[str],
    named: Sequence[int],
    image: NDArray[np.uint8] | None = None,
) -> tuple[GroupShare, ...]:
    """What every group of every block adds, the strongest first.

    Where contributions of features add up to the score, those of a group are summed. Any other model is asked: B(z) is
    the block's contribution were its own features z, all else as in this cell, and a group's value is what it adds to B
    on the way from the training medians to this cell, on average over orders in which groups come and, inside a group,
    its features (Owen 1977, Values of games with a priori unions, 76-88). Orders are drawn and also taken backwards;
    the sums are exact whatever the orders.

    Parameters
    ----------
    features, typical, image : as ``attribute`` takes them.
    found : its answer.
    groups : for each column the group that it is filed under.
    named : columns that get a value of their own.
    """
    shares = []
    for block, part in blocks.items():
        players = _players(part, groups, named)
        if found.is_additive:
            values = [float(found.columns[player.columns + part.start].sum()) for player in players]
        else:
            value_of = value_of_block(model, blocks, block, features, typical, found.target, image)
            values = _walked(value_of.ask, value_of.times, players, features[part], typical[part])
        shares += _by_group(block, part, players, values)
    return tuple(sorted(shares, key=lambda share: -abs(share.value)))


def _players(part: slice, groups: Sequence[str], named: Sequence[int]) -> list[_Player]:
    """The named features of a block, each by itself, and of each group the others; columns count from the block's."""
    players = []
    for group in dict.fromkeys(groups[part]):
        own = [at for at in range(part.start, part.stop) if groups[at] == group]
        told = [at for at in own if at in named]
        rest = np.array([at - part.start for at in own if at not in named], np.intp)
        players += [_Player(group, np.array([at - part.start]), True) for at in told]
        players += [_Player(group, rest, False)] if len(rest) else []
    return players


def _walked(
    ask: Score, times: int, players: Sequence[_Player], own: NDArray[np.float32], usual: NDArray[np.float32]
) -> list[float]:
    """What each player adds, on average over orders in which groups stay together."""
    pairs = max(1, min(_PAIRS, _ROWS // (2 * max(1, len(players)) * times)))
    draw = np.random.default_rng(0)
    names = list(dict.fromkeys(player.group for player in players))
    orders = []
    for _ in range(pairs if len(players) > 1 else 1):
        order: list[int] = []
        for name in draw.permutation(len(names)):
            members = [at for at, player in enumerate(players) if player.group == names[name]]
            order += draw.permutation(members).tolist()
        orders += [order, order[::-1]]
    rows = np.repeat(usual[None], len(orders) * len(players) + 2, axis=0)
    rows[-1] = own
    for number, order in enumerate(orders):
        row = usual.copy()
        for step, at in enumerate(order):
            row[players[at].columns] = own[players[at].columns]
            rows[number * len(players) + step + 1] = row
    asked = ask(rows)
    values = np.zeros(len(players))
    for number, order in enumerate(orders):
        first = number * len(players)
        after = asked[first + 1 : first + 1 + len(order)].copy()
        after[-1] = asked[-1]  # one number for the cell itself, so that every order has the same sum
        values[order] += np.diff(np.concatenate([asked[:1], after])) / len(orders)
    return values.tolist()


def _by_group(block: str, part: slice, players: Sequence[_Player], values: Sequence[float]) -> list[GroupShare]:
    found = []
    for name in dict.fromkeys(player.group for player in players):
        own = [(player, value) for player, value in zip(players, values, strict=True) if player.group == name]
        named = {part.start + int(player.columns[0]): value for player, value in own if player.named}
        others = sum(len(player.columns) for player, _ in own if not player.named)
        found.append(GroupShare(block, name or block, sum(value for _, value in own), named, others))
    return found
