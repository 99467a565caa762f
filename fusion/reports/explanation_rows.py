"""What page and figure of an explanation show, in which order: groups, their features, and the range of a strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.explanation.explanation import Explanation, GroupShare, Reason

#: What a group without named features adds at least to be shown by itself, as a share of the strongest.
_LEAST = 0.05

#: Classes in a strip: the predicted one and those next in probability.
CLASSES = 4


@dataclass(frozen=True)
class GroupRows:
    """A group as the page shows it: what it adds, its features that are named, and what is said of the others."""

    share: GroupShare
    reasons: tuple[Reason, ...]


def grouped(found: Explanation) -> tuple[list[GroupRows], tuple[GroupShare, ...]]:
    """The groups that are shown, with their features, those that pathologists' words confirm first; and the groups that
    add too little to be shown by themselves."""
    least = _LEAST * max((abs(share.value) for share in found.groups), default=0.0)
    shown, rest = [], []
    for share in found.groups:
        reasons = found.reasons_of(share)
        if reasons or abs(share.value) >= least:
            shown.append(GroupRows(share, reasons))
        else:
            rest.append(share)
    return shown, tuple(rest)


def shown_classes(found: Explanation) -> list[int]:
    """The classes of a strip, in the model's order."""
    by_probability = sorted(
        range(len(found.classes)), key=lambda at: (found.classes[at] != found.predicted, -found.proba[at])
    )
    return sorted(by_probability[:CLASSES])


def strip_range(reason: Reason, classes: Sequence[int]) -> tuple[float, float] | None:
    """The ends of a strip's axis: nearly all cells of these classes, and this one where it is not far off; None where
    no class has values."""
    ends = np.array([reason.spreads[at] for at in classes if at < len(reason.spreads)], float)
    ends = ends[~np.isnan(ends).any(axis=1)] if len(ends) else ends
    if not len(ends):
        return None
    low, high = float(ends.min()), float(ends.max())
    width = high - low or abs(high) or 1.0
    if not np.isnan(reason.value):
        low, high = max(low - width, min(low, reason.value)), min(high + width, max(high, reason.value))
    return low - 0.04 * width, high + 0.04 * width
