"""Labels that may be wrong: cells that every entry gets wrong by models that have not met them, identical and nearly
identical images with two labels, and how many labels are wrong at all.

Source: Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, J. Artif.
Intell. Res. 70:1373-1411.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of_procedure

_Floats = NDArray[np.float64]

#: Bits of 256 within which images are nearly the same, as docs/evaluation.md has it for splits.
NEAR_BITS = 24


@dataclass(frozen=True, eq=False)
class ConfidentCounts:
    """The confident joint of labels and what held-out scores say.

    Attributes
    ----------
    counts : intp (K, K), cells labelled by the row of which the scores are confident that they are the column.
    other : intp (n,), the class that the scores are confident of, -1 where of none.
    rate, low, high : estimated share of wrong labels, with its 95% interval by group. Cells that the features cannot
        tell apart count too, where the classifier errs with confidence.
    """

    counts: NDArray[np.intp]
    other: NDArray[np.intp]
    rate: float
    low: float
    high: float


def confident_counts(
    codes: NDArray[np.intp], proba: _Floats, groups: NDArray[np.intp], classes: Sequence[str]
) -> ConfidentCounts:
    """Count which labels held-out probabilities contradict with confidence.

    A cell counts as class j if its probability of j is at least the mean probability of j among the cells that are
    labelled j, whatever the calibration; of several such classes as the most probable. Rows of counts are then brought
    to the number of cells of each label (equations 1 and 3).

    Parameters
    ----------
    codes : (n,), labels as positions in ``classes``.
    proba : (n, K), of models that have not met the cells' groups.

    >>> sure = np.array([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 11)
    >>> found = confident_counts(np.repeat([0, 1], 10), sure, np.arange(20), ["a", "b"])
    >>> found.counts.tolist(), round(found.rate, 3)
    ([[9, 1], [0, 10]], 0.05)
    """
    number = len(classes)
    means = np.array([proba[codes == code, code].mean() if (codes == code).any() else np.inf for code in range(number)])
    confident = np.where(proba >= means - 1e-12, proba, -np.inf)
    other = np.where(np.isfinite(confident.max(axis=1)), confident.argmax(axis=1), -1)
    ids = np.unique(groups, return_inverse=True)[1]
    of_group = np.zeros((ids.max(initial=-1) + 1, number, number))
    known = other >= 0
    np.add.at(of_group, (ids[known], codes[known], other[known]), 1)
    labelled = np.zeros(of_group.shape[:2])
    np.add.at(labelled, (ids, codes), 1)
    counts, total = of_group.sum(axis=0), labelled.sum(axis=0)
    # Without a group in turn; the means stay, since one group of many hardly moves them.
    without = _rates(counts - of_group, total - labelled)[:, None]
    strata = Strata.from_counts(labelled, list(classes))
    # Models were trained anew for every fold: the share of a fold is about a fifth.
    spread = spread_of_procedure(influences(without, strata), None, strata, 0.2)
    rate = float(_rates(counts, total))
    low, high, _ = intervals([rate], spread, [strata.smallest], is_share=True)
    return ConfidentCounts(counts.astype(np.intp), other, rate, float(low[0]), float(high[0]))


def _rates(counts: _Floats, labelled: _Floats) -> _Floats:
    """float64 (...): share of wrong labels of counts (..., K, K) and cells of each label (..., K)."""
    rows = counts.sum(axis=-1)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    share = np.where(rows > 0, right / np.maximum(rows, 1), 1)  # of a label of which nothing is known, none is wrong
    found: _Floats = 1 - (share * labelled).sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1)
    return found


@dataclass(frozen=True)
class Suspect:
    """A cell whose label should be looked at.

    Attributes
    ----------
    name, label : of the cell.
    suggestion : the class that it may be; "" where only the label is in doubt.
    doubt : mean probability of the suggestion less that of the label, over entries; NaN where no model was asked.
    reasons : in words.
    """

    name: str
    label: str
    suggestion: str
    doubt: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """What was found.

    Attributes
    ----------
    suspects : worst first: images with two labels, then what every entry gets wrong, each by doubt.
    always_wrong : cells that every entry got wrong in every repeat.
    confidently_wrong : other cells that the mean of the entries is confident of another class of.
    entries, cells : that were asked, and cells that they have scored.
    confident : counts, and the estimated share of wrong labels.
    classes : names of the rows and columns of the counts.
    """

    suspects: tuple[Suspect, ...]
    always_wrong: int
    confidently_wrong: int
    entries: int
    cells: int
    confident: ConfidentCounts
    classes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a person should know."""
        rate = self.confident
        interval = f"{rate.low:.1%} to {rate.high:.1%}" if np.isfinite(rate.low) else "no interval"
        twins = sum(np.isnan(one.doubt) or "two labels" in " ".join(one.reasons) for one in self.suspects)
        return [
            f"labels: {len(self.suspects)} to look at of {self.cells}, {twins} of them on images with two labels "
            "(identical or nearly)",
            f"  {self.always_wrong} cells are wrong by every one of {self.entries} entries in every repeat, and of "
            f"{self.confidently_wrong} more their mean is confident of another class",
            f"  wrong labels, by confident counts: {rate.rate:.1%} [{interval}]; what features cannot tell counts too",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "cells": self.cells,
            "entries": self.entries,
            "always_wrong": self.always_wrong,
            "confidently_wrong": self.confidently_wrong,
            "error_rate": {"value": self.confident.rate, "low": self.confident.low, "high": self.confident.high},
            "counts": {"classes": list(self.classes), "labelled_by_row": self.confident.counts.tolist()},
            "suspects": [
                {
                    "name": one.name,
                    "label": one.label,
                    "suggestion": one.suggestion,
                    "doubt": one.doubt,
                    "reasons": list(one.reasons),
                }
                for one in self.suspects
            ],
        }


def audit_labels(result: Result, twins: Sequence[tuple[str, str, int]] = ()) -> LabelAudit:
    """Which labels of a result's cells may be wrong.

    A cell is suspected if every entry gets it wrong in every repeat, or their mean probability is confident of another
    class, or if it is on an image of which there is one with another label.

    Parameters
    ----------
    result : of held-out cells; entries that are controls are not asked.
    twins : pairs of names with different labels, and the bits of 256 by which their images differ.
    """
    asked = [each for each in result.scores if not any(block.startswith("control.") for block in each.features)]
    proba = np.array([_mean_over_repeats(each.proba) for each in asked or result.scores])
    scored = ~np.isnan(proba).any(axis=(0, 2))
    names = np.array(result.cells.names, object)[scored]
    labels = np.array([str(label) for label in result.cells.y], object)[scored]
    codes = np.searchsorted(result.classes, labels.astype(str))
    wrong = np.array([_is_always_wrong(each.proba[:, scored], codes) for each in asked or result.scores])
    mean = proba[:, scored].mean(axis=0)
    confident = confident_counts(codes, mean, result.cells.groups[scored], result.classes)
    always = wrong.all(axis=0)
    more = ~always & (confident.other >= 0) & (confident.other != codes)
    suspects = [
        _suspect(names[at], labels[at], int(codes[at]), mean[at], wrong[:, at], result.classes)
        for at in np.flatnonzero(always | more).tolist()
    ]
    every = set(names[always].tolist())
    suspects.sort(key=lambda one: (one.name not in every, -one.doubt))
    suspects = _with_twins(suspects, twins, dict(zip(names.tolist(), labels.tolist(), strict=True)))
    return LabelAudit(
        tuple(suspects), int(always.sum()), int(more.sum()), len(wrong), int(scored.sum()), confident, result.classes
    )


def _is_always_wrong(proba: _Floats, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """bool (n,): wrong in every repeat that tested the cell, of probabilities (repeats, n, K)."""
    is_right = ~np.isnan(proba).any(axis=2) & (np.nan_to_num(proba).argmax(axis=2) == codes)
    wrong: NDArray[np.bool_] = ~is_right.any(axis=0)
    return wrong


def _mean_over_repeats(proba: _Floats) -> _Floats:
    """float64 (n, K), NaN for cells that no repeat tested."""
    tested = ~np.isnan(proba).any(axis=2, keepdims=True)
    count = tested.sum(axis=0)
    return np.where(count > 0, np.where(tested, proba, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _suspect(
    name: str, label: str, code: int, mean: _Floats, wrong: NDArray[np.bool_], classes: Sequence[str]
) -> Suspect:
    """A cell whose likeliest other class is suggested."""
    other = int(np.where(np.arange(len(classes)) == code, -1, mean).argmax())
    who = "every entry says" if wrong.all() else f"{int(wrong.sum())} of {len(wrong)} entries say"
    said = f"{who} otherwise: {classes[other]} with {mean[other]:.2f}"
    return Suspect(name, label, classes[other], float(mean[other] - mean[code]), (said,))


def _with_twins(
    suspects: Sequence[Suspect], twins: Sequence[tuple[str, str, int]], labels: Mapping[str, str]
) -> list[Suspect]:
    """Cells on images with two labels first, each once."""
    known = {one.name: one for one in suspects}
    reasons: dict[str, list[str]] = {}
    for first, second, bits in twins:
        for name, other in ((first, second), (second, first)):
            if name in labels and other in labels:
                alike = "identical" if bits == 0 else f"nearly identical ({bits} bits of 256)"
                reasons.setdefault(name, []).append(f"two labels: {alike} to {other}, which is {labels[other]}")
    plain = {name: Suspect(name, labels[name], "", float("nan"), ()) for name in reasons}
    first_ones = [
        replace(one, reasons=(*why, *one.reasons))
        for name, why in reasons.items()
        for one in (known.get(name, plain[name]),)
    ]
    return [*first_ones, *(one for one in suspects if one.name not in reasons)]
