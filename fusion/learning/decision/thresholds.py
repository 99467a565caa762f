"""Probabilities that mean what they say, and the threshold by which classes are predicted: both from the training part
alone.

A model's probabilities for cells that it was fitted on are too sure of themselves. So the training part is dealt into
folds of whole groups, each fold is scored by a model of the others, and what is learnt from these scores is put on top
of a model of the whole training part. No test cell is ever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.leakage import grouped_splits
from fusion.learning.decision.calibration import Method
from fusion.learning.decision.least_cost import least_cost_weights
from fusion.metrics.decision_costs import Costs, cost_matrix, fixed_rule
from fusion.settings.threshold_text import given_thresholds, is_share

_Floats = NDArray[np.float64]

#: Folds of the training part: five models in all cost five times one, and leave four fifths to learn from.
FOLDS = 5


@dataclass(frozen=True)
class DecisionSettings:
    """What is put on top of a fitted model.

    Parameters
    ----------
    calibrate : see ``calibration.fit_calibration``; "none" leaves probabilities as the classifier gives them.
    threshold : by which class a cell is predicted. None predicts the most probable class. "balanced-accuracy" takes the
        threshold, of more than two classes the thresholds, that are best on the training part's held-out scores. Of two
        classes "sensitivity:0.95" takes the highest one that still finds so many of the positives, and a number is
        taken as it is. "a:0.2,b:0.5,c:0.3", one for each class, predicts the class with the highest probability over
        its threshold.
    costs : true class -> predicted class -> what that mistake costs, see ``metrics.decision_costs.cost_matrix``: the
        rule is learnt that costs least on the training part's held-out scores.

    Raises
    ------
    UsageError : a threshold that is none of these. Costs beside one are refused by ``learning.refusals``.
    """

    calibrate: Method = "none"
    threshold: str | None = None
    costs: Costs = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind, _, number = str(self.threshold).rpartition(":")
        is_rule = self.threshold in (None, "balanced-accuracy") or (kind == "sensitivity" and is_share(number))
        if not is_rule and given_thresholds(str(self.threshold)) is None:
            raise UsageError(
                "--threshold is not understood",
                found=str(self.threshold),
                expected="balanced-accuracy, sensitivity:SHARE, a probability between 0 and 1, or CLASS:SHARE,.. for "
                "each class",
            )

    @property
    def learns(self) -> bool:
        """Whether held-out scores of the training part are needed."""
        return self.calibrate != "none" or bool(self.costs) or (self.threshold is not None and self._given is None)

    @property
    def is_nothing(self) -> bool:
        """Whether models are left as they are."""
        return self.calibrate == "none" and self.threshold is None and not self.costs

    @property
    def has_rule(self) -> bool:
        """Whether a cell may be predicted as another class than its most probable one."""
        return self.threshold is not None or bool(self.costs)

    @property
    def _given(self) -> float | dict[str, float] | None:
        return None if self.threshold is None else given_thresholds(self.threshold)

    def check_classes(self, classes: Sequence[str], positive: str | None) -> None:
        """UsageError for what these classes cannot have: a rule for two classes, or thresholds and costs of others."""
        if self.has_rule and len(classes) == 2 and positive is None:
            raise UsageError("a threshold of two classes needs to know which one is positive", found="none named")
        if len(classes) != 2 and (self.threshold or "").startswith("sensitivity:"):
            raise UsageError(
                f"--threshold {self.threshold} is for two classes",
                found=f"{len(classes)}: {', '.join(classes)}",
                expected="balanced-accuracy, CLASS:SHARE,.. for each class, or costs",
            )
        fixed_rule(classes, positive, self._given, self.costs)

    def choose(
        self, proba: _Floats, codes: NDArray[np.intp], classes: Sequence[str], positive: str | None
    ) -> tuple[float | None, _Floats | None]:
        """The threshold of two classes, or the costs of more, by which cells are predicted; None where that is not
        asked for.

        Parameters
        ----------
        proba, codes : held-out (calibrated) probabilities and numbers of the true classes; empty where nothing is
            learnt.
        positive : the class that a threshold is of; None for more than two classes.
        """
        if self._given is not None:
            return fixed_rule(classes, positive, self._given, {})
        if not self.has_rule:
            return None, None
        costs = cost_matrix(classes, self.costs)
        counts = np.bincount(codes, minlength=len(classes))
        each = None if self.costs else counts.sum() / np.maximum(counts, 1)
        if positive is None:
            weights = least_cost_weights(proba, codes, costs, each)
            return None, weights[:, None] * costs
        at = list(classes).index(positive)
        score, is_positive = proba[:, at], codes == at
        if self.costs:
            return least_cost_threshold(score, is_positive, costs[at, 1 - at], costs[1 - at, at]), None
        if self.threshold == "balanced-accuracy":
            return best_threshold(score, is_positive), None
        return threshold_of_sensitivity(score, is_positive, float(str(self.threshold).rpartition(":")[2])), None


def best_threshold(score: _Floats, is_positive: NDArray[np.bool_]) -> float:
    """The threshold with the best balanced accuracy; of equal ones the middle, half-way between two scores."""
    return _least(score, is_positive, _between(score), 1 / is_positive.sum(), 1 / (~is_positive).sum())


def least_cost_threshold(score: _Floats, is_positive: NDArray[np.bool_], missed: float, false: float) -> float:
    """The threshold whose mistakes cost least, of a missed positive and a false one each so much; of equal ones the
    middle, half-way between two scores. It may lie above every score, where it costs less to predict no positive."""
    thresholds = np.append(_between(score), (1 + score.max()) / 2)
    return _least(score, is_positive, thresholds, missed, false)


def _least(score: _Floats, is_positive: NDArray[np.bool_], thresholds: _Floats, missed: float, false: float) -> float:
    positives, negatives = np.sort(score[is_positive]), np.sort(score[~is_positive])
    lost = missed * np.searchsorted(positives, thresholds)
    taken = false * (len(negatives) - np.searchsorted(negatives, thresholds))
    best = np.flatnonzero(np.isclose(lost + taken, (lost + taken).min(), rtol=0, atol=1e-12 * max(missed, false, 1)))
    return float(thresholds[best[len(best) // 2]])


def threshold_of_sensitivity(score: _Floats, is_positive: NDArray[np.bool_], share: float) -> float:
    """The highest threshold at which at least this share of the positives is predicted so."""
    thresholds = _between(score)
    positives = np.sort(score[is_positive])
    found = 1 - np.searchsorted(positives, thresholds) / len(positives)
    return float(thresholds[np.flatnonzero(found >= share - 1e-12)[-1]])


def _between(score: _Floats) -> _Floats:
    """Every threshold that parts the scores otherwise: half-way between neighbours, and below the lowest."""
    values = np.unique(score)
    return np.concatenate([values[:1] / 2, (values[1:] + values[:-1]) / 2])


def held_out(
    score: Callable[[NDArray[np.intp], NDArray[np.intp]], _Floats],
    y: NDArray[Any],
    groups: NDArray[np.intp],
    seed: int,
    asked: str = "--calibrate, --threshold and costs",
) -> _Floats:
    """float64 (n, K): every row of a training part scored by a model of other groups.

    Parameters
    ----------
    score : (rows to learn from, rows to score) -> float64 (rows, K).
    asked : the options that need it, for a refusal.

    Raises
    ------
    UsageError : a class with one group, whose cells nothing could be learnt of.
    """
    labels = np.asarray(y, object)
    try:
        count = grouped_splits.affordable_splits(labels, groups, FOLDS)
        folds = grouped_splits.grouped_folds(labels, groups, count, seed)
    except grouped_splits.SplitError as error:
        raise UsageError(
            f"the training part cannot be held out from itself, which {asked} need",
            found=" ".join(str(error).split()),
            do=f"Leave {asked} out, or give more subjects.",
        ) from error
    proba: _Floats | None = None
    for fold in folds:
        part = score(fold.train, fold.test)
        proba = np.full((len(labels), part.shape[1]), np.nan) if proba is None else proba
        proba[fold.test] = part
    assert proba is not None
    return proba
