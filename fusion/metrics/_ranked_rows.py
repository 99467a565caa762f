"""Rows in the order of one score, ready for AUROC and average precision under any weights of their groups, and without
each group in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: Groups up to which a matrix product over them beats running sums over rows.
_FEW_GROUPS = 100

#: Rows by groups up to which the average precision without each group is had exactly.
_SMALL = 200_000

#: Entries a table of rows by groups may hold: 4 million are 32 MB.
CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class OneAgainstRest:
    """Rows that are to be ranked by the score of one class.

    Attributes
    ----------
    score : float64 (n,).
    is_positive : bool (n,), whether a row is of the class.
    groups : intp (n,), 0 to n_groups - 1.
    n_groups : how many groups there are, of these rows and of others.
    part : intp (n,) from 0 on; rows of different parts are never held against each other, since scores of the models of
        different folds are not on one scale.
    """

    score: _Floats
    is_positive: NDArray[np.bool_]
    groups: NDArray[np.intp]
    n_groups: int
    part: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        score: _Floats,
        is_positive: NDArray[np.bool_],
        groups: NDArray[np.intp],
        n_groups: int,
        parts: NDArray[np.intp] | None = None,
    ) -> OneAgainstRest:
        """Of rows in parts of any numbers; without ``parts``, of one part."""
        part = np.zeros(len(score), np.intp) if parts is None else np.unique(parts, return_inverse=True)[1]
        return cls(score, is_positive, groups, n_groups, part)


@dataclass(frozen=True, eq=False)
class RankedPairs:
    """Rows of one class and of the rest, sorted for the Mann-Whitney statistic under weights.

    A row is held against rows of its own part alone: scores of the models of different folds are not on one scale.

    Attributes
    ----------
    positives, negatives : intp group of each row of the class, and of each other row, ascending by part and score.
    start, below, upto : intp, for each positive the number of negatives before its part, and the numbers of negatives
        up to there that score less, and no more.
    beaten_by : float64, for each negative the number of positives of its part that beat it, ties counted half.
    sizes : two of float64 (groups, parts), how many positives and negatives a group has in each part.
    own_wins : float64 (groups,), pairs within a group that its positives win.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    start: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]
    beaten_by: _Floats
    sizes: tuple[_Floats, _Floats]
    own_wins: _Floats

    @classmethod
    def of(cls, rows: OneAgainstRest) -> RankedPairs:
        """Sort them."""
        is_positive, part = rows.is_positive, rows.part
        keys, order = _keys(rows.score, part)
        pos, neg = (order[is_positive[order] == kind] for kind in (True, False))
        start, below, upto = _places(keys[neg], keys[pos], part[pos] * len(part))
        first, under, over = _places(keys[pos], keys[neg], part[neg] * len(part))
        totals = np.bincount(part[pos], minlength=part.max(initial=0) + 1)[part[neg]]
        return cls(
            positives=rows.groups[pos],
            negatives=rows.groups[neg],
            start=start,
            below=below,
            upto=upto,
            beaten_by=totals - (under + over - 2 * first) / 2,
            sizes=_sizes(rows),
            own_wins=_wins_within_groups(rows),
        )

    @cached_property
    def _wins(self) -> _Floats | None:
        """float64 (groups, groups): how often a positive of the one group beats a negative of the other; None where
        that table costs more than it saves."""
        n_groups = len(self.own_wins)
        if n_groups * (len(self.positives) + len(self.negatives)) > CHUNK:
            return None
        wins = np.zeros((n_groups, n_groups))
        order = np.argsort(self.positives, kind="stable")
        held, first = np.unique(self.positives[order], return_index=True)
        if len(held):
            wins[held] = np.add.reduceat(self._won(np.eye(n_groups))[order], first, axis=0)
        return wins

    def auroc(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (n_groups, B); NaN without a pair."""
        if self._wins is not None:
            won = np.einsum("gb,gb->b", weights, self._wins @ weights)
        else:
            won = np.einsum("ib,ib->b", weights[self.positives], self._won(weights))
        pairs = np.einsum("sb,sb->b", *(part.T @ weights for part in self.sizes))
        return ratio(won, pairs)

    def left_out(self) -> _Floats:
        """float64 (groups,): the AUROC without each group, in the time of one sort, however many groups there are."""
        n_groups = len(self.own_wins)
        wins = (self.below + self.upto - 2 * self.start) / 2
        of_positives = np.bincount(self.positives, wins, n_groups)
        of_negatives = np.bincount(self.negatives, self.beaten_by, n_groups)
        won = wins.sum() - of_positives - of_negatives + self.own_wins
        positives, negatives = (part.sum(axis=0) - part for part in self.sizes)
        return ratio(won, (positives * negatives).sum(axis=1))

    def _won(self, weights: _Floats) -> _Floats:
        """float64 (positives, B): weight of the negatives that each positive beats, those it ties with by half."""
        total = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=total[1:])
        return (total[self.below] + total[self.upto]) / 2 - total[self.start]


@dataclass(frozen=True, eq=False)
class PrecisionSteps:
    """Rows of one class and of the rest, for the average precision under weights: that within each part, averaged over
    parts by their positives, since scores of the models of different folds are not on one scale.

    Attributes
    ----------
    parts : the rows of each part that has both kinds, and intp, the groups that they are of.
    n_groups : of all rows.
    """

    parts: tuple[tuple[_PartSteps, NDArray[np.intp]], ...]
    n_groups: int

    @classmethod
    def of(cls, rows: OneAgainstRest) -> PrecisionSteps:
        """Sort them, part by part."""
        found = []
        for own in np.split(np.argsort(rows.part, kind="stable"), np.cumsum(np.bincount(rows.part))[:-1]):
            kinds = rows.is_positive[own]
            if kinds.all() or not kinds.any():
                continue
            members, group = np.unique(rows.groups[own], return_inverse=True)
            found.append((_PartSteps.of(rows.score[own], kinds, group, len(members)), members))
        return cls(tuple(found), rows.n_groups)

    def precision(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (groups, B); NaN where no part has both kinds."""
        gained, total = np.zeros((2, weights.shape[1]))
        for steps, members in self.parts:
            own = weights[members]
            positives = steps.counts @ own
            gained += np.nan_to_num(steps.precision(own)) * positives
            total += positives
        return ratio(gained, total)

    def left_out(self) -> _Floats:
        """float64 (groups,): the average precision without each group; see ``_PartSteps.left_out``."""
        gained, total = np.zeros((2, self.n_groups))
        for steps, members in self.parts:
            positives = float(steps.counts.sum())
            whole = float(steps.precision(np.ones((len(members), 1)))[0]) * positives
            without = positives - steps.counts
            gained += whole
            total += positives
            gained[members] += np.nan_to_num(steps.left_out()) * without - whole
            total[members] -= steps.counts
        return ratio(gained, total)


@dataclass(frozen=True, eq=False)
class _PartSteps:
    """Rows of one part in descending order of one score.

    A step is a set of rows of equal score with a positive among them; only there does recall grow.

    Attributes
    ----------
    positives, negatives : intp group of each row of either kind, by descending score.
    found, missed : intp (steps,), how many positives and negatives score at least as much as each step.
    n_groups : of the part.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    found: NDArray[np.intp]
    missed: NDArray[np.intp]
    n_groups: int

    @classmethod
    def of(cls, score: _Floats, is_positive: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int) -> _PartSteps:
        order = np.argsort(-score, kind="stable")
        kinds, ids = is_positive[order], groups[order]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        found: NDArray[np.intp] = np.cumsum(kinds)[ends].astype(np.intp)
        missed: NDArray[np.intp] = ends + 1 - found
        steps = np.diff(found, prepend=0) > 0
        return cls(ids[kinds], ids[~kinds], found[steps], missed[steps], n_groups)

    @cached_property
    def counts(self) -> _Floats:
        """float64 (groups,): positives of each group."""
        return np.bincount(self.positives, minlength=self.n_groups).astype(np.float64)

    @cached_property
    def _tables(self) -> tuple[_Floats, _Floats, _Floats] | None:
        """float64 (steps, groups) each: how many positives, and how many rows, of each group score at least as much as
        each step, and how many positives belong to it; None for many groups, where running sums are cheaper."""
        if self.n_groups > _FEW_GROUPS:
            return None
        positive, negative = (
            _counts_up_to(part, upto, self.n_groups)
            for part, upto in ((self.positives, self.found), (self.negatives, self.missed))
        )
        return positive, positive + negative, np.diff(positive, axis=0, prepend=0)

    def precision(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (groups, B); NaN without a positive."""
        total = self.counts @ weights
        if weights.shape[1] >= self.n_groups and self._tables is not None:
            positive, rows, steps = self._tables
            # Where nothing is drawn so far, the step is 0 too.
            share = positive @ weights
            share /= np.maximum(rows @ weights, 1)
            return ratio(np.einsum("gb,gb->b", steps.T @ share, weights), total)
        found = np.cumsum(weights[self.positives], axis=0)[self.found - 1]
        predicted = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=predicted[1:])
        share = found / np.maximum(predicted[self.missed] + found, 1)
        share *= np.diff(found, axis=0, prepend=0)
        return ratio(share.sum(axis=0), total)

    def left_out(self) -> _Floats:
        """float64 (groups,): the average precision without each group. Of many rows to first order: the derivative by
        the group's weight (infinitesimal jackknife, Efron 1982, The Jackknife, the Bootstrap and Other Resampling
        Plans, chapter 6), in the time of a few running sums however many groups there are."""
        n_positives = len(self.positives)
        if not n_positives:
            return np.full(self.n_groups, np.nan)
        if (n_positives + len(self.negatives)) * self.n_groups <= _SMALL:
            return self.precision(1 - np.eye(self.n_groups))
        predicted, gained = self.found + self.missed, np.diff(self.found, prepend=0)
        precision = self.found / predicted
        average = float(precision @ gained) / n_positives
        # What a row adds to the precision of its own step and of every later one.
        hit, row = (
            np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (gained / predicted, gained * precision / predicted)
        )
        of_positive = np.searchsorted(self.found, np.arange(n_positives), side="right")
        of_negative = np.searchsorted(self.missed, np.arange(len(self.negatives)), side="right")
        change = np.bincount(self.positives, precision[of_positive] + (hit - row)[of_positive] - average, self.n_groups)
        change -= np.bincount(self.negatives, row[of_negative], self.n_groups)
        return average - change / n_positives


def ratio(part: _Floats, whole: _Floats) -> _Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _keys(score: _Floats, part: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A whole number for each row that orders rows by part, then score, and the order of the rows by it."""
    keys = part * len(score) + np.unique(score, return_inverse=True)[1]
    return keys, np.argsort(keys, kind="stable")


def _places(
    others: NDArray[np.intp], keys: NDArray[np.intp], first: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """For each key the number of ascending ``others`` before its part, whose first key is given, below it, and up to
    it."""
    return (
        np.searchsorted(others, first, "left"),
        np.searchsorted(others, keys, "left"),
        np.searchsorted(others, keys, "right"),
    )


def _sizes(rows: OneAgainstRest) -> tuple[_Floats, _Floats]:
    """float64 (groups, parts) of positives and of negatives, of the parts that have both."""
    is_positive, groups, part, n_groups = rows.is_positive, rows.groups, rows.part, rows.n_groups
    n_parts = part.max(initial=0) + 1
    has = [np.bincount(part[is_positive == kind], minlength=n_parts) > 0 for kind in (True, False)]
    kept = np.flatnonzero(has[0] & has[1])
    at = np.full(n_parts, -1)
    at[kept] = np.arange(len(kept))
    held = at[part] >= 0
    positives, negatives = (
        np.bincount(
            groups[held & (is_positive == kind)] * len(kept) + at[part[held & (is_positive == kind)]],
            minlength=n_groups * len(kept),
        )
        .reshape(n_groups, len(kept))
        .astype(np.float64)
        for kind in (True, False)
    )
    return positives, negatives


def _wins_within_groups(rows: OneAgainstRest) -> _Floats:
    """float64 (groups,): pairs of a positive and a negative of one group and part that the positive wins."""
    is_positive, groups, part = rows.is_positive, rows.groups, rows.part
    mixed = np.intersect1d(groups[is_positive], groups[~is_positive])
    won = np.zeros(rows.n_groups)
    if not len(mixed):
        return won
    held = np.isin(groups, mixed)
    score, kinds, ids = rows.score[held], is_positive[held], groups[held]
    own = np.unique(ids * (part.max() + 1) + part[held], return_inverse=True)[1]
    keys, order = _keys(score, own)
    pos, neg = (order[kinds[order] == kind] for kind in (True, False))
    start, below, upto = _places(keys[neg], keys[pos], own[pos] * len(score))
    return won + np.bincount(ids[pos], (below + upto - 2 * start) / 2, rows.n_groups)


def _counts_up_to(groups: NDArray[np.intp], upto: NDArray[np.intp], n_groups: int) -> _Floats:
    """float64 (len(upto), n_groups): how often each group is among the first ``upto`` entries of ``groups``."""
    step = np.searchsorted(upto, np.arange(len(groups)), side="right")
    counts = np.zeros((len(upto) + 1, n_groups))  # what comes after the last step counts nowhere
    np.add.at(counts, (step, groups), 1)
    return np.cumsum(counts[:-1], axis=0)
