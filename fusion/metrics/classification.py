"""Metrics of held-out scores, cell by cell and subject by subject.

Conventions, the same everywhere:

- the predicted class of a row is the one with the highest score, of equals the first in ``classes``; where there is a
  threshold, the positive class from there on (a subject's mean score is held against its cells' mean threshold);
  where mistakes have costs, the class of the least expected cost (of a subject, by its cells' mean);
- a mean over classes goes over the classes that occur among the true labels (for ``f1_macro``: among true or predicted
  labels), as in scikit-learn;
- what is undefined (AUROC without a negative, say) is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.metrics.scored_rows import METRICS, as_told, default_positive, prepare

__all__ = [
    "LEVELS",
    "METRICS",
    "default_positive",
    "image_metrics",
    "pooled",
]

#: Cell by cell; subject by subject by the mean of its cells' scores, and by the majority of its cells.
LEVELS = ("image", "subject", "vote")

_Floats = NDArray[np.float64]
_Labels = Sequence[str] | NDArray[Any]


def image_metrics(
    y: ArrayLike, proba: ArrayLike, classes: _Labels, positive: str | None = None, prevalence: float = 0.5
) -> dict[str, float]:
    """Metrics of n scored rows.

    Parameters
    ----------
    y : n labels, each one of ``classes``.
    proba : float (n, K) scores, a column for each class.
    classes : K >= 2 labels.
    positive : for two classes, the one that sensitivity and AUROC are about; None takes ``default_positive``.
    prevalence : share of positives for which PPV and NPV are reported.

    Returns
    -------
    accuracy : share of rows whose predicted class is the true one.
    balanced_accuracy : mean over classes of the share of its rows that is recognised.
    f1_weighted, f1_macro : mean over classes of 2 TP / (2 TP + FP + FN), weighted by the class's rows, or not.
    auroc : probability that a positive row scores higher than a negative one, ties counted half (Hanley and McNeil
        1982, Radiology 143:29-36); for more than two classes, the mean over classes of each against the rest.
    sensitivity, specificity : share of positive rows predicted positive, and of the others predicted otherwise; for
        more than two classes, the mean over classes of each against the rest.
    mcc : correlation of true and predicted class, -1 to 1 (Matthews 1975, Biochim. Biophys. Acta 405:442-451; for more
        than two classes Gorodkin 2004, Comput. Biol. Chem. 28:367-374).
    auprc : average precision, the area under the precision-recall curve as a staircase (within the cells that one model
        has scored, averaged by their positives, where several have); for more than two classes the mean over classes of
        each against the rest. Chance is the share of positives, not 0.5.
    ppv, npv : share of the rows called positive that are, and of those predicted otherwise, had ``prevalence`` of the
        rows been positive (Bayes' rule on sensitivity and specificity); for more than two classes, the mean over
        classes of each against the rest.
    brier : mean squared error of the scores, 0 to 1; for more than two classes summed over classes, 0 to 2 (Brier 1950,
        Mon. Weather Rev. 78:1-3).
    log_loss : mean of -ln(score of the true class), in nats, from 0.
    calibration_intercept, calibration_slope : of a logistic regression of the class on the log-odds of its score, the
        intercept with the slope held at 1. 0 and 1 for calibrated scores; an intercept below 0 over-predicts the
        positive class, a slope below 1 is too sure (Cox 1958, Biometrika 45:562-565; Van Calster et al. 2019, BMC
        Medicine 17:230). For more than two classes the mean slope of each against the rest, and no intercept. Without
        range; NaN where the scores tell the classes apart without a mistake.
    ece : calibration error, the root of the mean squared distance between confidence and share of hits over 15 bins of
        equally many rows (Nguyen and O'Connor 2015, EMNLP, 1587-1598), less what chance makes of it (Kumar, Liang and
        Ma 2019, NeurIPS 32): near 0 for calibrated scores however few. NaN where calibrated scores of as many rows and
        groups would often be told more than .05. Its bins are those of all rows, whoever is left out.

    All without unit but ``log_loss``; 0 to 1 where nothing else is said; or NaN. Our classifiers weigh classes alike,
    so that their scores mean "if classes were equally common": where they are not, ``brier``, ``log_loss`` and ``ece``
    count that difference too.

    Raises
    ------
    ValueError : shapes that disagree, no rows, scores that are not finite, or an unknown label.
    """
    rows = prepare(y, proba, classes, np.arange(len(np.asarray(proba))), positive, prevalence)
    values = rows.figures(np.ones((rows.n_groups, 1)))[0]
    return {metric: float(as_told(metric, value)) for metric, value in zip(METRICS, values, strict=True)}


def predicted_classes(
    scores: _Floats, threshold: _Floats | None, positive: int | None, costs: _Floats | None = None
) -> NDArray[np.intp]:
    """intp (n,), the column of each row's predicted class.

    Parameters
    ----------
    scores : float64 (n, K).
    threshold : float64 (n,), from which score of column ``positive`` on a row of two classes is predicted positive;
        None takes the highest score.
    costs : float64 (n, K), what predicting each class is expected to cost: the least is taken, of equals the first.
    """
    if costs is not None:
        return costs.argmin(axis=1)
    if threshold is None or positive is None:
        return scores.argmax(axis=1)
    return np.where(scores[:, positive] >= threshold, positive, 1 - positive)


def pooled(
    y: ArrayLike, proba: ArrayLike, groups: ArrayLike
) -> tuple[NDArray[Any], _Floats, NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """The tested (repeat, cell) pairs as rows: labels, scores (m, K), groups, repeat numbers, cell numbers."""
    scores = np.asarray(proba, np.float64)
    scores = scores[None] if scores.ndim == 2 else scores
    labels, ids = np.asarray(y, object).astype(str), np.asarray(groups)
    if scores.shape[1] != len(labels) or ids.shape != labels.shape:
        raise ValueError(f"labels {labels.shape}, scores {scores.shape} and groups {ids.shape} disagree")
    repeat, cell = np.nonzero(tested(scores))
    return labels[cell], scores[repeat, cell], ids[cell], repeat, cell


def tested(scores: _Floats) -> NDArray[np.bool_]:
    """bool (repeats, n): which cells have a score. Without repeats all must have, and NaN among them is a fault."""
    if scores.ndim == 2:
        return np.ones((1, len(scores)), bool)
    return np.asarray(~np.isnan(scores).all(axis=2))
