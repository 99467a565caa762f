"""Scored rows, prepared so that every metric can be had under thousands of weights of their groups at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]

#: In the order of the columns that ``Rows.figures`` returns.
METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_weighted",
    "f1_macro",
    "auroc",
    "sensitivity",
    "specificity",
    "mcc",
    "auprc",
    "ppv",
    "npv",
    "brier",
    "log_loss",
    "ece",
)

#: Weights that a chunk of replicates may hold, rows by replicates: 4 million are 32 MB.
CHUNK = 4_000_000

#: Groups up to which a matrix product over them beats running sums over rows.
_FEW_GROUPS = 100

#: Bins of the calibration error, fewer where a bin would hold under 10 rows: a share of fewer says nothing.
_BINS, _ROWS_A_BIN = 15, 10


def default_positive(classes: _Labels) -> str:
    """The class of two that sensitivity is about: 'all' beside 'hem', else the second, as in scikit-learn."""
    return "all" if {str(label) for label in classes} == {"all", "hem"} else str(classes[1])


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Scored rows of one level, ready to be judged under any weights of their groups.

    Attributes
    ----------
    codes : intp (n,), the true class.
    scores : float64 (n, K).
    groups : intp (n,), 0 to n_groups - 1.
    positive : column of the positive class, None for more than two classes.
    prevalence : share of positives for which PPV and NPV are reported.
    counts : float64 (n_groups, K * K), the confusion counts of each group.
    losses : float64 (n_groups, 2), sums of the squared error and of the logarithmic loss of each group.
    bins : float64 (n_groups, bins), for each bin of confidence the sum over a group's rows of confidence minus hit.
    pairs : what AUROC needs, of the positive class or, for more than two classes, of each.
    ladders : what the average precision needs, likewise.
    """

    codes: NDArray[np.intp]
    scores: _Floats
    groups: NDArray[np.intp]
    n_groups: int
    positive: int | None
    prevalence: float
    counts: _Floats
    losses: _Floats
    bins: _Floats
    pairs: tuple[_Pairs, ...]
    ladders: tuple[_Ladder, ...]

    def confusions(self, weights: _Floats) -> _Floats:
        """float64 (B, K, K) weighted confusion counts for weights (n_groups, B); true classes along the rows."""
        k = self.scores.shape[1]
        return (weights.T @ self.counts).reshape(-1, k, k)

    def figures(self, weights: _Floats) -> _Floats:
        """float64 (B, metrics) for weights (n_groups, B) of whole numbers: how often each group was drawn."""
        confusions = self.confusions(weights)
        hits = np.diagonal(confusions, axis1=1, axis2=2)
        true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
        total = true.sum(axis=1, keepdims=True)
        occurs = true > 0
        recall = _ratio(hits, true)
        others_right = _ratio(total - true - predicted + hits, total - true)
        f1 = _ratio(2 * hits, true + predicted)
        ill, well = self.prevalence, 1 - self.prevalence
        predictive = [
            _ratio(right * share, right * share + (1 - other) * (1 - share))
            for right, other, share in ((recall, others_right, ill), (others_right, recall, well))
        ]
        ranks = [
            np.stack(columns, axis=1)
            for columns in (
                [pairs.auroc(weights) for pairs in self.pairs],
                [ladder.precision(weights) for ladder in self.ladders],
            )
        ]
        if self.positive is None:
            sensitivity, specificity, ppv, npv, auroc, auprc = (
                _mean(column, occurs) for column in (recall, others_right, *predictive, *ranks)
            )
        else:
            sensitivity, specificity, ppv, npv = (
                column[:, self.positive] for column in (recall, others_right, *predictive)
            )
            auroc, auprc = (column[:, 0] for column in ranks)
        losses = (weights.T @ self.losses) / total
        return np.column_stack(
            [
                hits.sum(axis=1) / total[:, 0],
                _mean(recall, occurs),
                np.nansum(f1 * true, axis=1) / total[:, 0],
                _mean(f1, true + predicted > 0),
                auroc,
                sensitivity,
                specificity,
                _matthews(hits, true, predicted, total[:, 0]),
                auprc,
                ppv,
                npv,
                losses,
                np.abs(weights.T @ self.bins).sum(axis=1) / total[:, 0],
            ]
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Rows of one class and of the rest, sorted for the Mann-Whitney statistic under weights.

    Attributes
    ----------
    positives, negatives : intp group of each row of the class, and of each other row in ascending order of score.
    below, upto : intp, for each positive the number of negatives that score less, and no more.
    wins : float64 (groups, groups) or None: how often a positive of the one group beats a negative of the other.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]
    wins: _Floats | None

    @classmethod
    def from_scores(
        cls, score: _Floats, is_positive: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int
    ) -> _Pairs:
        negatives = np.flatnonzero(~is_positive)
        negatives = negatives[np.argsort(score[negatives], kind="stable")]
        # In order of score too: the look-ups in ``_won`` then walk through memory instead of jumping.
        positives = np.flatnonzero(is_positive)
        positives = positives[np.argsort(score[positives], kind="stable")]
        against = score[negatives]
        below, upto = (np.searchsorted(against, score[positives], side) for side in ("left", "right"))
        pairs = cls(groups[positives], groups[negatives], below, upto, None)
        if n_groups * len(score) > CHUNK:
            return pairs
        # Few groups: count the pairs between groups once, so that a replicate costs groups**2 instead of rows.
        wins = np.zeros((n_groups, n_groups))
        np.add.at(wins, pairs.positives, pairs._won(np.eye(n_groups)))
        return cls(pairs.positives, pairs.negatives, below, upto, wins)

    def auroc(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (n_groups, B); NaN without a positive or a negative."""
        if self.wins is not None:
            won = np.einsum("gb,gb->b", weights, self.wins @ weights)
        else:
            won = np.einsum("ib,ib->b", weights[self.positives], self._won(weights))
        sizes = [np.bincount(part, minlength=len(weights)) @ weights for part in (self.positives, self.negatives)]
        return _ratio(won, sizes[0] * sizes[1])

    def _won(self, weights: _Floats) -> _Floats:
        """float64 (positives, B): weight of the negatives that each positive beats, those it ties with by half."""
        total = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=total[1:])
        return (total[self.below] + total[self.upto]) / 2


@dataclass(frozen=True, eq=False)
class _Ladder:
    """Rows in descending order of one score, for the average precision under weights.

    A step is a set of rows of equal score with a positive among them; only there does recall grow.

    Attributes
    ----------
    positives, negatives : intp group of each row of either kind, by descending score.
    found, missed : intp (steps,), how many positives and negatives score at least as much as each step.
    tables : float64 (steps, groups) each or None: how many positives, and how many rows, of each group score at least
        as much as each step, and how many positives belong to it.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    found: NDArray[np.intp]
    missed: NDArray[np.intp]
    tables: tuple[_Floats, _Floats, _Floats] | None

    @classmethod
    def from_scores(
        cls, score: _Floats, is_positive: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int
    ) -> _Ladder:
        order = np.argsort(-score, kind="stable")
        kinds, ids = is_positive[order], groups[order]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        found: NDArray[np.intp] = np.cumsum(kinds)[ends].astype(np.intp)
        missed: NDArray[np.intp] = ends + 1 - found
        steps = np.diff(found, prepend=0) > 0
        ladder = cls(ids[kinds], ids[~kinds], found[steps], missed[steps], None)
        if n_groups > _FEW_GROUPS:
            return ladder
        # Count once, so that a replicate costs steps * groups in a matrix product.
        positive, negative = (
            _counts_up_to(part, upto, n_groups)
            for part, upto in ((ladder.positives, ladder.found), (ladder.negatives, ladder.missed))
        )
        tables = positive, positive + negative, np.diff(positive, axis=0, prepend=0)
        return cls(ladder.positives, ladder.negatives, ladder.found, ladder.missed, tables)

    def precision(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (groups, B); NaN without a positive."""
        total = np.bincount(self.positives, minlength=len(weights)) @ weights
        if self.tables is not None:
            positive, rows, steps = self.tables
            # Where nothing is drawn so far, the step is 0 too.
            share = positive @ weights
            share /= np.maximum(rows @ weights, 1)
            return _ratio(np.einsum("gb,gb->b", steps.T @ share, weights), total)
        found = np.cumsum(weights[self.positives], axis=0)[self.found - 1]
        predicted = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=predicted[1:])
        share = found / np.maximum(predicted[self.missed] + found, 1)
        share *= np.diff(found, axis=0, prepend=0)
        return _ratio(share.sum(axis=0), total)


def _counts_up_to(groups: NDArray[np.intp], upto: NDArray[np.intp], n_groups: int) -> _Floats:
    """float64 (len(upto), n_groups): how often each group is among the first ``upto`` entries of ``groups``."""
    step = np.searchsorted(upto, np.arange(len(groups)), side="right")
    counts = np.zeros((len(upto) + 1, n_groups))  # what comes after the last step counts nowhere
    np.add.at(counts, (step, groups), 1)
    return np.cumsum(counts[:-1], axis=0)


def prepare(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    positive: str | None,
    prevalence: float = 0.5,
    numbers: NDArray[Any] | None = None,
    predicted: NDArray[np.intp] | None = None,
) -> ScoredRows:
    """Check everything once, and prepare it.

    Parameters
    ----------
    numbers : the group numbers that weights will be given for, ascending; None takes those that occur.
    predicted : intp (n,), the column of each row's predicted class; None takes the highest score.
    """
    names = [str(label) for label in classes]
    labels = np.asarray(y, object).astype(str)
    scores = np.asarray(proba, np.float64)
    ids = np.asarray(groups)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"two or more different classes are needed, not {names}")
    if scores.shape != (len(labels), len(names)) or ids.shape != labels.shape or not len(labels):
        raise ValueError(
            f"labels {labels.shape}, scores {scores.shape}, groups {ids.shape} and {len(names)} classes disagree"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if unknown := sorted(set(labels.tolist()) - set(names)):
        raise ValueError(f"labels {unknown} are none of the classes {names}")
    if positive is not None and (len(names) > 2 or str(positive) not in names):
        raise ValueError(f"'{positive}' cannot be the positive class of {names}")
    codes = np.array([names.index(label) for label in labels.tolist()], np.intp)
    known = np.unique(ids) if numbers is None else numbers
    column = names.index(str(positive or default_positive(names))) if len(names) == 2 else None
    predicted_codes = scores.argmax(axis=1) if predicted is None else predicted
    return _of_checked(codes, scores, np.searchsorted(known, ids), len(known), column, prevalence, predicted_codes)


def _of_checked(
    codes: NDArray[np.intp],
    scores: _Floats,
    rank: NDArray[np.intp],
    n_groups: int,
    column: int | None,
    prevalence: float,
    predicted: NDArray[np.intp],
) -> ScoredRows:
    k = scores.shape[1]
    ranked = range(k) if column is None else [column]
    cell = (rank * k + codes) * k + predicted
    # Two classes count the squared error of one of them, as in Brier (1950) halved; more count that of all.
    squared = ((scores - np.eye(k)[codes]) ** 2).sum(axis=1) / (2 if k == 2 else 1)
    rounding = np.finfo(np.float64).eps
    shares = scores / np.maximum(scores.sum(axis=1, keepdims=True), rounding)
    surprise = -np.log(np.clip(shares[np.arange(len(codes)), codes], rounding, 1))
    confidence, hit = reliability_of(codes, scores, column)
    which = reliability_rows(confidence)
    n_bins = int(which.max()) + 1
    gaps: _Floats = np.bincount(rank * n_bins + which, confidence - hit, n_groups * n_bins).astype(np.float64)
    return ScoredRows(
        codes=codes,
        scores=scores,
        groups=rank,
        n_groups=n_groups,
        positive=column,
        prevalence=prevalence,
        counts=np.bincount(cell, minlength=n_groups * k * k).reshape(n_groups, k * k).astype(np.float64),
        losses=np.column_stack([np.bincount(rank, loss, n_groups) for loss in (squared, surprise)]),
        bins=gaps.reshape(n_groups, n_bins),
        pairs=tuple(_Pairs.from_scores(scores[:, c], codes == c, rank, n_groups) for c in ranked),
        ladders=tuple(_Ladder.from_scores(scores[:, c], codes == c, rank, n_groups) for c in ranked),
    )


def reliability_of(codes: NDArray[np.intp], scores: _Floats, positive: int | None) -> tuple[_Floats, _Floats]:
    """(confidence, hit) float64 (n,) each: the positive class's score and whether the row is of it; for more than two
    classes the highest score and whether its class is the true one."""
    if positive is not None:
        return scores[:, positive], (codes == positive).astype(np.float64)
    return scores.max(axis=1), (scores.argmax(axis=1) == codes).astype(np.float64)


def reliability_rows(confidence: _Floats) -> NDArray[np.intp]:
    """The bin of each row: as many rows in each as ties allow.

    Source: Nguyen and O'Connor (2015), EMNLP, 1587-1598 (adaptive binning).
    """
    n_bins = max(1, min(_BINS, len(confidence) // _ROWS_A_BIN))
    edges = np.unique(np.quantile(confidence, np.arange(1, n_bins) / n_bins))
    return np.searchsorted(edges, confidence, side="right")


def _matthews(hits: _Floats, true: _Floats, predicted: _Floats, total: _Floats) -> _Floats:
    """float64 (B,): Gorodkin's correlation of K classes; NaN where all rows are, or are predicted, of one class."""
    covariance = hits.sum(axis=1) * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(spread))


def _ratio(part: _Floats, whole: _Floats) -> _Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean(values: _Floats, where: NDArray[np.bool_]) -> _Floats:
    """float64 (B,): mean of the chosen entries of each row of (B, K); NaN if one of them is, or there are none."""
    return _ratio(np.where(where, values, 0).sum(axis=1), where.sum(axis=1).astype(np.float64))
