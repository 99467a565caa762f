"""Labels that may be wrong, of cells or of patients: what every entry gets wrong by models that have not met it,
identical and nearly identical images with two labels, and how many labels are wrong at all.

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
    ids, labelled = _by_group(groups, codes, number)
    of_group = np.zeros((*labelled.shape, number))
    known = other >= 0
    np.add.at(of_group, (ids[known], codes[known], other[known]), 1)
    counts, total = of_group.sum(axis=0), labelled.sum(axis=0)
    # Without a group in turn; the means stay, since one group of many hardly moves them.
    without = _rates(counts - of_group, total - labelled)[:, None]
    strata = Strata.from_counts(labelled, list(classes))
    # Models were trained anew for every fold: the share of a fold is about a fifth.
    spread = spread_of_procedure(influences(without, strata), None, strata, 0.2)
    rate = float(_rates(counts, total))
    low, high, _ = intervals([rate], spread, [strata.smallest], is_share=True)
    return ConfidentCounts(counts.astype(np.intp), other, rate, float(low[0]), float(high[0]))


def _by_group(groups: NDArray[np.intp], codes: NDArray[np.intp], classes: int) -> tuple[NDArray[np.intp], _Floats]:
    """intp (n,): the number of each one's group; and float64 (groups, classes), how many of it have each label."""
    ids = np.unique(groups, return_inverse=True)[1]
    labelled = np.zeros((ids.max(initial=-1) + 1, classes))
    np.add.at(labelled, (ids, codes), 1)
    return ids, labelled


def _rates(counts: _Floats, labelled: _Floats) -> _Floats:
    """float64 (...): share of wrong labels of counts (..., K, K) and cells of each label (..., K)."""
    rows = counts.sum(axis=-1)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    share = np.where(rows > 0, right / np.maximum(rows, 1), 1)  # of a label of which nothing is known, none is wrong
    found: _Floats = 1 - (share * labelled).sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1)
    return found


@dataclass(frozen=True)
class Suspect:
    """A cell, or a patient, whose label should be looked at.

    Attributes
    ----------
    name, label : of the cell or patient.
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
    two_labels : how many of them are on images with two labels.
    always_wrong : cells, or patients, that every entry got wrong in every repeat.
    confidently_wrong : others that the mean of the entries is confident of another class of.
    always_right : "value", "low" and "high" of the share that every entry got right in every repeat. A wrong label of
        one of these is what the audit can see: had it the other label, every entry would say otherwise.
    entries, judged : that were asked, and cells or patients that they have scored.
    confident : counts, and the estimated share of wrong labels. Of patients it is the most that it may be: they are
        fewer than cells, and told less well, and with a share e of errors of the models' own and w of wrong labels
        w (1 - e) + (1 - w) e are contradicted, which is w where e is 0, and more where it is not.
    classes : names of the rows and columns of the counts.
    unit : "cell" or "subject".
    """

    suspects: tuple[Suspect, ...]
    two_labels: int
    always_wrong: int
    confidently_wrong: int
    always_right: Mapping[str, float]
    entries: int
    judged: int
    confident: ConfidentCounts
    classes: tuple[str, ...]
    unit: str = "cell"

    def lines(self) -> list[str]:
        """What a person should know."""
        rate, of_cells = self.confident, self.unit == "cell"
        whose, twins = ("cells", "on images") if of_cells else ("patients", "with cells")
        lines = [
            f"labels: {len(self.suspects)} to look at of {self.judged} {whose}, {self.two_labels} of them {twins} with "
            "two labels (identical or nearly)",
            f"  {self.always_wrong} {whose} are wrong by every one of {self.entries} entries in every repeat, and of "
            f"{self.confidently_wrong} more their mean is confident of another class",
        ]
        if of_cells:
            between = _between(rate.low, rate.high)
            told = (
                f"  wrong labels, by confident counts: {rate.rate:.1%}{between}; what features cannot tell counts too"
            )
            return [*lines, told]
        right = self.always_right
        share = f"{right['value']:.0%}{_between(right['low'], right['high'], 0)}"
        often = f"; a patient whom every entry gets wrong has one {self.lift:.1f} times as often as any other"
        return [
            *lines,
            f"  every entry is right about {share} of them in every repeat: in so many a wrong label would be seen"
            f"{often if self.always_wrong else ''}",
            f"  wrong labels, by confident counts: {rate.rate:.1%}{_between(0.0, rate.high)}, more an upper bound "
            "than an estimate: patients whom features do not tell are counted too; scores alone cannot say how many",
        ]

    @property
    def lift(self) -> float:
        """How many times as likely a label is wrong where every entry says otherwise as anywhere: the share of wrong
        labels that would be seen over the share that is (Bayes). NaN where none is."""
        seen = self.always_wrong / self.judged if self.judged else 0.0
        return self.always_right["value"] / seen if seen else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "unit": self.unit,
            "cells" if self.unit == "cell" else "patients": self.judged,
            "entries": self.entries,
            "two_labels": self.two_labels,
            "always_wrong": self.always_wrong,
            "confidently_wrong": self.confidently_wrong,
            "always_right": dict(self.always_right),
            "lift": self.lift,
            "error_rate": {
                "value": self.confident.rate,
                "low": self.confident.low if self.unit == "cell" else 0.0,
                "high": self.confident.high,
            },
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


def _between(low: float, high: float, digits: int = 1) -> str:
    return f" [{low:.{digits}%} to {high:.{digits}%}]" if np.isfinite(low) else " [no interval]"


def audit_labels(result: Result, twins: Mapping[str, Sequence[str]] | None = None) -> LabelAudit:
    """Which labels of a result's cells, or of its patients where it judges these, may be wrong.

    One is suspected if every entry gets it wrong in every repeat, or their mean probability is confident of another
    class, or if there is an image with another label like its own.

    Parameters
    ----------
    result : of held-out cells or patients; entries that are controls are not asked.
    twins : by name, why the label contradicts that of another on an image like its own, in words.
    """
    asked = [each for each in result.scores if not any(block.startswith("control.") for block in each.features)]
    proba = np.array([_mean_over_repeats(each.proba) for each in asked or result.scores])
    scored = ~np.isnan(proba).any(axis=(0, 2))
    names = np.array(result.cells.names, object)[scored]
    labels = np.array([str(label) for label in result.cells.y], object)[scored]
    groups = result.cells.groups[scored]
    codes = np.searchsorted(result.classes, labels.astype(str))
    called = [_rights(each.proba[:, scored], codes) for each in asked or result.scores]
    wrong = np.array([~(right == 1).any(axis=0) for right in called])
    is_right = np.stack([(np.isnan(right) | (right == 1)).all(axis=0) for right in called]).all(axis=0).astype(bool)
    mean = proba[:, scored].mean(axis=0)
    confident = confident_counts(codes, mean, groups, result.classes)
    always = wrong.all(axis=0)
    more = ~always & (confident.other >= 0) & (confident.other != codes)
    suspects = [
        _suspect(names[at], labels[at], int(codes[at]), mean[at], wrong[:, at], result.classes)
        for at in np.flatnonzero(always | more).tolist()
    ]
    every = set(names[always].tolist())
    suspects.sort(key=lambda one: (one.name not in every, -one.doubt))
    known = dict(zip(names.tolist(), labels.tolist(), strict=True))
    reasons = {name: tuple(why) for name, why in (twins or {}).items() if name in known}
    return LabelAudit(
        suspects=tuple(_with_twins(suspects, reasons, known)),
        two_labels=len(reasons),
        always_wrong=int(always.sum()),
        confidently_wrong=int(more.sum()),
        always_right=_share(is_right, groups, codes, result.classes),
        entries=len(wrong),
        judged=int(scored.sum()),
        confident=confident,
        classes=result.classes,
        unit="subject" if result.judged == "subject" else "cell",
    )


def _rights(proba: _Floats, codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """float64 (repeats, n): 1 where a repeat got it right, 0 where wrong, of probabilities (repeats, n, K); NaN where
    it was not tested."""
    tested = ~np.isnan(proba).any(axis=2)
    return np.where(tested, np.nan_to_num(proba).argmax(axis=2) == codes, np.nan)


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


def _share(
    is_so: NDArray[np.bool_], groups: NDArray[np.intp], codes: NDArray[np.intp], classes: Sequence[str]
) -> dict[str, float]:
    """The share of those of whom something holds, with its 95% interval by group."""
    ids, labelled = _by_group(groups, codes, len(classes))
    held = np.bincount(ids, is_so, len(labelled))
    size = labelled.sum(axis=1)
    without = (held.sum() - held) / np.maximum(size.sum() - size, 1)
    strata = Strata.from_counts(labelled, list(classes))
    spread = spread_of_procedure(influences(without[:, None], strata), None, strata, 0.2)
    value = float(is_so.mean()) if len(is_so) else float("nan")
    low, high, _ = intervals([value], spread, [strata.smallest], is_share=True)
    return {"value": value, "low": float(low[0]), "high": float(high[0])}


def _with_twins(
    suspects: Sequence[Suspect], reasons: Mapping[str, tuple[str, ...]], labels: Mapping[str, str]
) -> list[Suspect]:
    """Those on images with two labels first, each once."""
    known = {one.name: one for one in suspects}
    plain = {name: Suspect(name, labels[name], "", float("nan"), ()) for name in reasons}
    first_ones = [
        replace(one, reasons=(*why, *one.reasons))
        for name, why in reasons.items()
        for one in (known.get(name, plain[name]),)
    ]
    return [*first_ones, *(one for one in suspects if one.name not in reasons)]
