"""Probabilities that mean what they say, and the threshold by which classes are predicted: both from the training part
alone.

A model's probabilities for cells that it was fitted on are too sure of themselves. So the training part is dealt into
folds of whole groups, each fold is scored by a model of the others, and what is learnt from these scores is put on top
of a model of the whole training part. No test cell is ever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.leakage import grouped_splits
from fusion.learning.decision.calibration import Method

_Floats = NDArray[np.float64]

#: Folds of the training part: five models in all cost five times one, and leave four fifths to learn from.
FOLDS = 5


@dataclass(frozen=True)
class DecisionSettings:
    """What is put on top of a fitted model.

    Parameters
    ----------
    calibrate : see ``calibration.fit_calibration``; "none" leaves probabilities as the classifier gives them.
    threshold : from which probability a cell is predicted positive. None predicts the most probable class;
        "balanced-accuracy" takes the one that is best on the training part's held-out scores; "sensitivity:0.95" the
        highest one that still finds so many of the positives; a number is taken as it is. For two classes only.

    Raises
    ------
    UsageError : a threshold that is none of these.
    """

    calibrate: Method = "none"
    threshold: str | None = None

    def __post_init__(self) -> None:
        if self.threshold not in (None, "balanced-accuracy"):
            kind, _, number = str(self.threshold).rpartition(":")
            try:
                is_known = kind in ("", "sensitivity") and 0 < float(number) < 1
            except ValueError:
                is_known = False
            if not is_known:
                raise UsageError(
                    "--threshold is not understood",
                    found=str(self.threshold),
                    expected="balanced-accuracy, sensitivity:SHARE, or a probability between 0 and 1",
                )

    @property
    def learns(self) -> bool:
        """Whether held-out scores of the training part are needed."""
        return self.calibrate != "none" or (self.threshold is not None and self._fixed is None)

    @property
    def is_nothing(self) -> bool:
        """Whether models are left as they are."""
        return self.calibrate == "none" and self.threshold is None

    @property
    def _fixed(self) -> float | None:
        try:
            return float(str(self.threshold))
        except ValueError:
            return None

    def choose_threshold(self, score: _Floats, is_positive: NDArray[np.bool_]) -> float | None:
        """The threshold, by the (calibrated) probabilities of the positive class; None where none is asked for."""
        if self.threshold is None:
            return None
        if self._fixed is not None:
            return self._fixed
        if self.threshold == "balanced-accuracy":
            return best_threshold(score, is_positive)
        return threshold_of_sensitivity(score, is_positive, float(self.threshold.rpartition(":")[2]))


def best_threshold(score: _Floats, is_positive: NDArray[np.bool_]) -> float:
    """The threshold with the best balanced accuracy; of equal ones the middle, half-way between two scores."""
    thresholds = _between(score)
    positives, negatives = np.sort(score[is_positive]), np.sort(score[~is_positive])
    found = 1 - np.searchsorted(positives, thresholds) / len(positives)
    spared = np.searchsorted(negatives, thresholds) / len(negatives)
    best = np.flatnonzero(np.isclose(found + spared, (found + spared).max(), rtol=0, atol=1e-12))
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
    asked: str = "--calibrate and --threshold",
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
