"""Scored rows, prepared so that every metric can be had under thousands of weights of their groups at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.metrics._calibration_rows import CalibrationError, Recalibration
from fusion.metrics._ranked_rows import OneAgainstRest, PrecisionSteps, RankedPairs, ratio

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]

#: In the order of the columns that ``ScoredRows.figures`` returns, and in which tables show them.
METRICS = (
    "balanced_accuracy",
    "auroc",
    "sensitivity",
    "specificity",
    "f1_weighted",
    "f1_macro",
    "accuracy",
    "mcc",
    "auprc",
    "ppv",
    "npv",
    "brier",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
    "ece",
)

#: Those at a stated prevalence: where few are ill, a subject moves them further than any share of subjects.
AT_PREVALENCE = ("ppv", "npv")

#: Those that are quickest to have under many weights.
RECALLS_AND_AREAS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")

#: Bins of the calibration error, fewer where a bin would hold under 10 rows: a share of fewer says nothing.
_BINS, _ROWS_A_BIN = 15, 10


def as_told(metric: str, values: Any) -> Any:
    """Values of a column of ``ScoredRows.figures`` as they are told: the calibration error as a root, which is 0 where
    its square is below that of calibrated scores."""
    return np.sqrt(np.maximum(values, 0)) if metric == "ece" else values


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
    error : what the calibration error needs, over bins of confidence.
    recalibrations : what intercept and slope need, of the positive class or, for more than two classes, of each.
    pairs : what AUROC needs, of the positive class or, for more than two classes, of each.
    precisions : what the average precision needs, likewise.
    """

    codes: NDArray[np.intp]
    scores: _Floats
    groups: NDArray[np.intp]
    n_groups: int
    positive: int | None
    prevalence: float
    counts: _Floats
    losses: _Floats
    error: CalibrationError
    recalibrations: tuple[Recalibration, ...]
    pairs: tuple[RankedPairs, ...]
    precisions: tuple[PrecisionSteps, ...]

    def confusions(self, weights: _Floats) -> _Floats:
        """float64 (B, K, K) weighted confusion counts for weights (n_groups, B); true classes along the rows."""
        k = self.scores.shape[1]
        return (weights.T @ self.counts).reshape(-1, k, k)

    @property
    def class_counts(self) -> _Floats:
        """float64 (n_groups, K): rows of each true class in each group."""
        k = self.scores.shape[1]
        return self.counts.reshape(-1, k, k).sum(axis=2)

    def figures(self, weights: _Floats) -> _Floats:
        """float64 (B, metrics) for weights (n_groups, B): how often each group counts; the calibration error squared,
        see ``as_told``."""
        return self._from_sums(
            self.confusions(weights),
            weights.T @ self.losses,
            self._calibration(
                [recalibration.values(weights) for recalibration in self.recalibrations], self.error.squared(weights)
            ),
            [pairs.auroc(weights) for pairs in self.pairs],
            [steps.precision(weights) for steps in self.precisions],
        )

    def recalls_and_areas(self, weights: _Floats) -> _Floats:
        """float64 (B, 4), columns as in ``RECALLS_AND_AREAS``, for weights (n_groups, B): what ranks by class cost
        least of ``figures``."""
        unused = np.zeros((weights.shape[1], 2))
        found = self._from_sums(
            self.confusions(weights),
            unused,
            np.zeros((weights.shape[1], 3)),
            [pairs.auroc(weights) for pairs in self.pairs],
            [unused[:, 0]] * len(self.precisions),
        )
        return found[:, [METRICS.index(metric) for metric in RECALLS_AND_AREAS]]

    def left_out(self) -> _Floats:
        """float64 (n_groups, metrics): the figures without each group in turn.

        Sums less the group's own, so that ten thousand groups take no longer than ten; average precision, calibration
        intercept and slope to first order (``PrecisionSteps.left_out``), everything else exactly.
        """
        k = self.scores.shape[1]
        return self._from_sums(
            (self.counts.sum(axis=0) - self.counts).reshape(-1, k, k),
            self.losses.sum(axis=0) - self.losses,
            self._calibration(
                [recalibration.left_out() for recalibration in self.recalibrations], self.error.left_out()
            ),
            [pairs.left_out() for pairs in self.pairs],
            [steps.left_out() for steps in self.precisions],
        )

    def _calibration(self, recalibrations: Sequence[_Floats], squared: _Floats) -> _Floats:
        """float64 (B, 3): intercept, slope, and the squared error. Over more than two classes an intercept has no mean:
        what is said too often of one is said too rarely of another."""
        intercept, slope = np.stack(recalibrations).transpose(2, 1, 0)
        if self.positive is not None:
            return np.column_stack([intercept[:, 0], slope[:, 0], squared])
        occurs = self.class_counts.any(axis=0)
        return np.column_stack([np.full(len(slope), np.nan), slope[:, occurs].mean(axis=1), squared])

    def _from_sums(
        self,
        confusions: _Floats,
        losses: _Floats,
        calibration: _Floats,
        areas: Sequence[_Floats],
        precisions: Sequence[_Floats],
    ) -> _Floats:
        """float64 (B, metrics) of B sets of sums over rows, in the order of ``METRICS``."""
        hits = np.diagonal(confusions, axis1=1, axis2=2)
        true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
        total = true.sum(axis=1, keepdims=True)
        occurs = true > 0
        recall = ratio(hits, true)
        others_right = ratio(total - true - predicted + hits, total - true)
        f1 = ratio(2 * hits, true + predicted)
        ill, well = self.prevalence, 1 - self.prevalence
        predictive = [
            ratio(right * share, right * share + (1 - other) * (1 - share))
            for right, other, share in ((recall, others_right, ill), (others_right, recall, well))
        ]
        ranks = [np.stack(columns, axis=1) for columns in (areas, precisions)]
        if self.positive is None:
            sensitivity, specificity, ppv, npv, auroc, auprc = (
                _mean(column, occurs) for column in (recall, others_right, *predictive, *ranks)
            )
        else:
            sensitivity, specificity, ppv, npv = (
                column[:, self.positive] for column in (recall, others_right, *predictive)
            )
            auroc, auprc = (column[:, 0] for column in ranks)
        return np.column_stack(
            [
                _mean(recall, occurs),
                auroc,
                sensitivity,
                specificity,
                ratio(np.nansum(f1 * true, axis=1), total[:, 0]),
                _mean(f1, true + predicted > 0),
                ratio(hits.sum(axis=1), total[:, 0]),
                _matthews(hits, true, predicted, total[:, 0]),
                auprc,
                ppv,
                npv,
                ratio(losses, total),
                calibration,
            ]
        )


def prepare(
    y: ArrayLike,
    proba: ArrayLike,
    classes: _Labels,
    groups: ArrayLike,
    positive: str | None,
    prevalence: float = 0.5,
    numbers: NDArray[Any] | None = None,
    predicted: NDArray[np.intp] | None = None,
    parts: NDArray[np.intp] | None = None,
) -> ScoredRows:
    """Check everything once, and prepare it.

    Parameters
    ----------
    numbers : the group numbers that weights will be given for, ascending; None takes those that occur.
    predicted : intp (n,), the column of each row's predicted class; None takes the highest score.
    parts : n numbers; AUROC and average precision hold rows against rows of the same part alone. None holds each
        against all.
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
    return _of_checked(
        codes, scores, np.searchsorted(known, ids), len(known), column, prevalence, predicted_codes, parts
    )


def _of_checked(
    codes: NDArray[np.intp],
    scores: _Floats,
    rank: NDArray[np.intp],
    n_groups: int,
    column: int | None,
    prevalence: float,
    predicted: NDArray[np.intp],
    parts: NDArray[np.intp] | None,
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
    of_bin = rank * n_bins + which
    gaps, rows_a_bin = (
        np.bincount(of_bin, part, n_groups * n_bins).astype(np.float64).reshape(n_groups, n_bins)
        for part in (confidence - hit, np.ones(len(codes)))
    )
    to_rank = [OneAgainstRest.of(scores[:, c], codes == c, rank, n_groups, parts) for c in ranked]
    return ScoredRows(
        codes=codes,
        scores=scores,
        groups=rank,
        n_groups=n_groups,
        positive=column,
        prevalence=prevalence,
        counts=np.bincount(cell, minlength=n_groups * k * k).reshape(n_groups, k * k).astype(np.float64),
        losses=np.column_stack([np.bincount(rank, loss, n_groups) for loss in (squared, surprise)]),
        error=CalibrationError(gaps, rows_a_bin),
        recalibrations=tuple(Recalibration.from_scores(scores[:, c], codes == c, rank, n_groups) for c in ranked),
        pairs=tuple(RankedPairs.of(rows) for rows in to_rank),
        precisions=tuple(PrecisionSteps.of(rows) for rows in to_rank),
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
    return ratio(covariance, np.sqrt(spread))


def _mean(values: _Floats, where: NDArray[np.bool_]) -> _Floats:
    """float64 (B,): mean of the chosen entries of each row of (B, K); NaN if one of them is, or there are none."""
    return ratio(np.where(where, values, 0).sum(axis=1), where.sum(axis=1).astype(np.float64))
