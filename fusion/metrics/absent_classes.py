"""Figures that cannot be told where classes have no rows: a site of one class, a cohort of healthy people alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: What holds rows of a class against rows of another one, or is a mean over classes.
_COMPARE = (
    "balanced_accuracy",
    "auroc",
    "f1_weighted",
    "f1_macro",
    "mcc",
    "auprc",
    "ppv",
    "npv",
    "calibration_intercept",
    "calibration_slope",
)

#: Means over classes, which are over those that have rows.
_MEANS = ("balanced_accuracy", "auroc", "sensitivity", "specificity", "auprc", "ppv", "npv", "calibration_slope")


def absent_classes(counts: ArrayLike, names: Sequence[str]) -> list[str]:
    """The classes without a row, of (groups, K) or (K,) rows of each class."""
    total: NDArray[np.float64] = np.asarray(counts, np.float64).reshape(-1, len(names)).sum(axis=0)
    return [name for name, number in zip(names, total.tolist(), strict=True) if not number]


def left_out_figures(names: Sequence[str], absent: Sequence[str], positive: int | None) -> dict[str, str]:
    """Metric -> why it cannot be told.

    Of rows of one class only the share that is recognised can be, and how far probabilities are from it. With two
    classes and more macro F1 is left out where another has none: one row that is called an absent class would count as
    much as all rows of a class that is there.

    Parameters
    ----------
    names, absent : all classes, and those without a row.
    positive : of two classes, the position of the one that sensitivity is about.

    >>> sorted(left_out_figures(["all", "hem"], ["all"], 0))[:3]
    ['auprc', 'auroc', 'balanced_accuracy']
    >>> left_out_figures(["a", "b", "c"], ["c"], None)
    {'f1_macro': 'none judged is of c'}
    """
    present = [name for name in names if name not in absent]
    if len(present) > 1:
        return {"f1_macro": f"none judged is of {listed(absent)}"} if absent else {}
    reason = f"all judged are of one class, {present[0]}"
    found = dict.fromkeys(_COMPARE, reason)
    if positive is None:
        return found | {"specificity": reason}
    # The score of one class is held against rows of both; and of the two shares the other class has no row.
    other = "specificity" if names[positive] == present[0] else "sensitivity"
    return found | {other: reason, "ece": reason}


def mean_note(metric: str, names: Sequence[str], absent: Sequence[str]) -> str:
    """What must be read with a mean over some of the classes; "" for what is none.

    >>> mean_note("auroc", ["a", "b", "c"], ["c"])
    'over 2 of 3 classes: none judged is of c'
    """
    if not absent or metric not in _MEANS or len(absent) == len(names) - 1:
        return ""
    return f"over {len(names) - len(absent)} of {len(names)} classes: none judged is of {listed(absent)}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
