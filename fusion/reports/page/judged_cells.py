"""Where the best entry goes wrong: by what is resampled whole, and the cells that it is most surely wrong about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Sample
from fusion.data.subjects import format_subject
from fusion.data.units import Units
from fusion.evaluation.results import Result
from fusion.images.cell import Cell, CellError
from fusion.metrics import classification
from fusion.reports.png import png_data_uri

#: Subjects and cells that a page shows, the worst ones.
SUBJECTS, CELLS = 20, 24

#: Where each cell is to be read again, by its name.
Places = Mapping[str, Sample]

#: Side of a thumbnail in pixels.
_SIDE = 112


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
    votes = np.zeros((len(result.cells), len(classes)))
    total, times = np.zeros((len(result.cells), len(classes))), np.zeros(len(result.cells))
    for number, (proba, fold) in enumerate(zip(scores.proba, scores.fold, strict=True)):
        rows = np.flatnonzero(fold >= 0)
        threshold = None if scores.threshold is None else scores.threshold[number, rows]
        votes[rows, classification.predicted_classes(proba[rows], threshold, column)] += 1
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


def hardest(cells: Sequence[JudgedCell]) -> list[JudgedCell]:
    """The cells misclassified, those first whose true class was thought least likely."""
    wrong = [cell for cell in cells if cell.predicted != cell.label]
    return sorted(wrong, key=lambda cell: (cell.probability, cell.name))[:CELLS]


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of a small PNG: the crop, its longer side filling the square."""
    height, width = cell.mask.shape
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(cell.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square: NDArray[np.uint8] = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return png_data_uri(square)


def with_images(cells: Sequence[JudgedCell], image_paths: Places) -> list[dict[str, Any]]:
    """Rows for the page: what is known of each cell, with a thumbnail, "" where its image is no longer at hand."""
    rows = []
    for cell in cells:
        image = ""
        if cell.name in image_paths:
            try:
                image = thumbnail(image_paths[cell.name].read_cell())
            except CellError:  # moved or changed since it was measured: the page says so
                image = ""
        rows.append({"cell": cell, "image": image})
    return rows
