"""Where the best entry goes wrong: by what is resampled whole, and the cells that it is most surely wrong about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.data.dataset import Sample
from fusion.data.subjects import format_subject
from fusion.data.units import Units
from fusion.evaluation.results import Result

#: Subjects that a page shows, the worst ones.
SUBJECTS = 20

#: Where each cell is to be read again, by its name.
Places = Mapping[str, Sample]


@dataclass(frozen=True)
class JudgedCell:
    """One judged cell of the best entry.

    ``group`` is what is split and resampled whole: subjects that share an image are one, and a cell without a subject
    is one of its own. ``subject`` is how that is called: by its subjects, each with its source where one is known.
    ``probability`` is that of its true class, the mean over rounds; ``predicted`` the class it was predicted most
    often.
    """

    name: str
    label: str
    subject: str
    group: int
    predicted: str
    probability: float


def judged_cells(result: Result) -> list[JudgedCell]:
    """Every cell that the best entry judged, in the order of the table."""
    scores = result.scores[result.ranked()[0]]
    classes = list(result.classes)
    column = None if result.positive is None else classes.index(result.positive)
    votes, codes = np.zeros((len(result.cells), len(classes))), scores.predicted(column)
    total, times = np.zeros((len(result.cells), len(classes))), np.zeros(len(result.cells))
    for number, (proba, fold) in enumerate(zip(scores.proba, scores.fold, strict=True)):
        rows = np.flatnonzero(fold >= 0)
        votes[rows, codes[number, rows]] += 1
        total[rows] += proba[rows]
        times[rows] += 1
    called = _group_names(result.cells)
    found = []
    for at in np.flatnonzero(times > 0):
        label = str(result.cells.y[at])
        mean = total[at] / times[at]
        # Of calls that tie, the one with the higher mean probability.
        predicted = classes[int((votes[at] + 1e-6 * mean).argmax())]
        group = int(result.cells.groups[at])
        probability = float(mean[classes.index(label)])
        found.append(JudgedCell(result.cells.names[at], label, called[group], group, predicted, probability))
    return found


def _group_names(cells: Units) -> dict[int, str]:
    """Group -> its subjects, up to three of them; its group ids, or its first cell's name, where it has none."""
    members: dict[int, dict[str, None]] = {}
    others: dict[int, str] = {}
    for group, who, name, cell in zip(
        cells.groups.tolist(), cells.identities, cells.group_ids, cells.names, strict=True
    ):
        others.setdefault(group, cell if name is None else name)
        if who is not None:
            members.setdefault(group, {})[format_subject(who)] = None
    named = {group: list(ids) for group, ids in members.items()}
    return others | {
        group: ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        for group, ids in named.items()
    }


def by_subject(cells: Sequence[JudgedCell]) -> list[dict[str, Any]]:
    """A row for each group and class: cells, how many were misclassified, as what; the worst share first."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for cell in cells:
        row = rows.setdefault(
            (cell.group, cell.label),
            {"subject": cell.subject, "label": cell.label, "cells": 0, "wrong": 0, "probability": 0.0, "as": {}},
        )
        row["cells"] += 1
        row["probability"] += cell.probability
        if cell.predicted != cell.label:
            row["wrong"] += 1
            row["as"][cell.predicted] = row["as"].get(cell.predicted, 0) + 1
    for row in rows.values():
        row["probability"] /= row["cells"]
    return sorted(rows.values(), key=lambda row: (-row["wrong"] / row["cells"], row["probability"], row["subject"]))


def confusions(result: Result, judged: Sequence[JudgedCell]) -> list[tuple[str, list[list[int]]]]:
    """Title and counts, a row for each true and a column for each predicted class, of cells and of whole subjects."""
    names = list(result.classes)

    def counts(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        found = Counter(pairs)
        return [[found[label, predicted] for predicted in names] for label in names]

    tables = [(f"{result.judged}s", counts([(cell.label, cell.predicted) for cell in judged]))]
    if (unit := result.facts["unit"]) not in ("image", result.judged) and not result.without_subjects:
        # The class predicted for most of a subject's cells; of equals the first.
        majorities = []
        for row in by_subject(judged):
            found = {**row["as"], row["label"]: row["cells"] - row["wrong"]}
            majorities.append((row["label"], max(names, key=lambda label: found.get(label, 0))))
        tables.append((f"{unit}s, by the majority of their cells", counts(majorities)))
    return tables
