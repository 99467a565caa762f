"""What a model says of cells: class and probability of each, of each subject, as tables and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Fault, fault_row
from fusion.data.feature_table import FeatureTable
from fusion.data.subjects import spoken
from fusion.errors import FusionError, UsageError
from fusion.io.files import write_atomically
from fusion.learning.novelty import RATE
from fusion.metrics.classification import called

if TYPE_CHECKING:
    import pandas as pd


class PredictionError(FusionError):
    """There is no cell that anything could be said of."""


@dataclass(frozen=True)
class SubjectCall:
    """All cells of one subject together.

    Attributes
    ----------
    subject : its name.
    cells : how many of its cells were judged.
    probability : of each class, the mean over the cells.
    called : the class by that mean.
    votes : how many cells are called each class.
    majority : the class that most cells are called; of equals the one with the higher mean probability.
    unlike : how many cells are unlike the training cells; they are among the judged ones.
    """

    subject: str
    cells: int
    probability: tuple[float, ...]
    called: str
    votes: tuple[int, ...]
    majority: str
    unlike: int


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of n cells.

    Attributes
    ----------
    table : who the rows are, and their features, harmonised where the model does that.
    classes : in the order of the probabilities' columns.
    proba : float64 (n, classes), calibrated where the model is.
    faults : the pictures that were skipped.
    root : what the names are relative to.
    positive, cut : from a probability ``cut`` on of the class ``positive``, a cell is called that.
    calibrated : whether the model's probabilities were calibrated when it was trained.
    trained_on : bool (n,), the pictures that the model has learnt from: it knows their class.
    distance : float64 (n,), from the training cells in units of what is usual, see ``fusion.learning.novelty``: above
    1 a cell
        is unlike them. None for a model that cannot tell.
    remarks : of whoever read the data, one line each.
    """

    table: FeatureTable
    classes: tuple[str, ...]
    proba: NDArray[np.float64]
    faults: tuple[Fault, ...]
    root: Path
    positive: str | None
    cut: float | None
    calibrated: bool
    trained_on: NDArray[np.bool_]
    distance: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.proba)

    @property
    def predicted(self) -> list[str]:
        """The class that each cell is called: the most probable one, or by the model's threshold."""
        return self._called(self.proba)

    def _called(self, proba: NDArray[np.float64]) -> list[str]:
        cuts = None if self.cut is None else np.full(len(proba), self.cut)
        column = None if self.positive is None else self.classes.index(self.positive)
        return [self.classes[at] for at in called(proba, cuts, column)]

    @property
    def unlike(self) -> list[bool | None]:
        """Whether each cell is unlike the training cells; None where the model cannot tell."""
        return [None] * len(self) if self.distance is None else (self.distance > 1).tolist()

    @property
    def by_subject(self) -> tuple[SubjectCall, ...]:
        """The subjects in the order of their first cells; cells without a subject are left out."""
        rows: dict[str, list[int]] = {}
        for at, subject in enumerate(self.table.identities):
            if subject is not None:
                rows.setdefault(spoken(subject), []).append(at)
        found = []
        predicted, unlike = np.array(self.predicted, object), self.unlike
        for subject, own in rows.items():
            mean = self.proba[own].mean(axis=0)
            votes = np.array([np.count_nonzero(predicted[own] == label) for label in self.classes])
            # A share of a vote decides between equals, and never outweighs one.
            majority = self.classes[int((votes + 0.5 * mean).argmax())]
            (label,) = self._called(mean[None])
            strange = sum(bool(unlike[at]) for at in own)
            found.append(
                SubjectCall(subject, len(own), tuple(mean.tolist()), label, tuple(votes.tolist()), majority, strange)
            )
        return tuple(found)

    @property
    def notes(self) -> list[str]:
        """What a reader of these figures has to know, one line each."""
        predicted = self.predicted
        counts = ", ".join(f"{predicted.count(label)} {label}" for label in self.classes)
        lines = [*self.remarks, f"{len(self)} cell{'' if len(self) == 1 else 's'}: {counts}."]
        if self.cut is not None:
            lines[-1] += f" A cell is called '{self.positive}' from a probability of {self.cut:.3f}."
        if not self.calibrated:
            lines.append("Probabilities are as the classifier gives them; fusion train --calibrate calibrates them.")
        strange = sum(map(bool, self.unlike))
        if strange:
            lines.append(
                f"{strange} {'is' if strange == 1 else 'are'} unlike the training cells, further from them than "
                f"{1 - RATE:.0%} of such cells of other subjects: another stain, another scale, or no cell. "
                "Their class means little."
            )
        if self.distance is None:
            lines.append("This model has no features to tell cells by that are unlike its training cells.")
        if self.trained_on.any():
            lines.append(
                f"{int(self.trained_on.sum())} of these pictures are among those the model learnt from: its answers "
                "on them say nothing about new ones."
            )
        return lines

    def to_frame(self) -> pd.DataFrame:
        """DataFrame: name, key, label, subject, source, class, p_<class>s, unlike, distance, in_training."""
        import pandas as pd

        table = self.table
        head = {
            "name": table.names,
            "key": table.keys,
            "label": pd.Series(table.y, dtype=object),
            "subject": pd.Series(table.subjects, dtype=object),
            "source": pd.Series(table.sources, dtype=object),
            "class": self.predicted,
        }
        proba = {f"p_{label}": self.proba[:, at] for at, label in enumerate(self.classes)}
        strange = {
            "unlike": pd.Series(self.unlike, dtype="boolean"),
            "distance": np.full(len(self), np.nan) if self.distance is None else self.distance,
        }
        return pd.DataFrame(head | proba | strange | {"in_training": self.trained_on})

    def to_json(self) -> dict[str, Any]:
        """Plain values: everything that the tables show, and the faults."""
        rows = zip(
            self.table.names, self.table.y, self.table.subjects, self.table.sources, self.predicted,
            self.proba.tolist(), self.trained_on.tolist(), self.unlike, self._distances, strict=True,
        )  # fmt: skip
        return {
            "classes": list(self.classes),
            "calibrated": self.calibrated,
            "threshold": None if self.cut is None else {"class": self.positive, "probability": self.cut},
            "predictions": [
                {
                    "name": name, "label": label, "subject": subject, "source": origin, "class": predicted,
                    "probability": dict(zip(self.classes, proba, strict=True)),
                    "unlike": unlike, "distance": distance, "in_training": known,
                }
                for name, label, subject, origin, predicted, proba, known, unlike, distance in rows
            ],
            "subjects": [
                {
                    "subject": each.subject, "cells": each.cells, "class": each.called,
                    "probability": dict(zip(self.classes, each.probability, strict=True)),
                    "majority": each.majority, "votes": dict(zip(self.classes, each.votes, strict=True)),
                    "unlike": each.unlike,
                }
                for each in self.by_subject
            ],
            "faults": [fault_row(fault, self.root) for fault in self.faults],
        }  # fmt: skip

    @property
    def _distances(self) -> list[float | None]:
        return [None] * len(self) if self.distance is None else self.distance.tolist()

    def save(self, path: Path, kind: str) -> None:
        """Write ``to_frame()`` as "csv" or "parquet", whole or not at all.

        Raises
        ------
        UsageError : the file cannot be written.
        """
        frame = self.to_frame()
        content = BytesIO()
        if kind == "csv":
            frame.to_csv(content, index=False)
        else:
            texts = ["label", "subject", "source"]  # without a value anywhere they would have no type
            frame.astype(dict.fromkeys(texts, "string")).to_parquet(content, index=False)
        try:
            write_atomically(path, content.getvalue())
        except OSError as error:
            raise UsageError(f"cannot write {path}", found=str(error.strerror or error).lower()) from error

    def check(self) -> None:
        """PredictionError if there is nothing to say, with the first reason why."""
        if len(self):
            return
        first = f", such as {self.faults[0]}" if self.faults else ""
        raise PredictionError(
            "no cell could be judged", found=f"{len(self.faults)} of {len(self.faults)} pictures skipped{first}"
        )


def cell_rows(found: Predictions) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text, one a cell, for a terminal."""
    rows = []
    for at, (name, label) in enumerate(zip(found.table.names, found.predicted, strict=True)):
        strange = f"yes, {found.distance[at]:.1f} times the usual" if found.distance is not None else "unknown"
        rows.append([name, label, *(f"{p:.3f}" for p in found.proba[at]), "" if found.unlike[at] is False else strange])
    return ["picture", "class", *found.classes, "unlike training"], rows


def subject_rows(found: Predictions, calls: Sequence[SubjectCall]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text, one a subject, for a terminal."""
    rows = [
        [
            each.subject,
            each.called,
            *(f"{p:.3f}" for p in each.probability),
            f"{each.majority} {max(each.votes)}/{each.cells}",
            f"{each.unlike}/{each.cells}" if found.distance is not None else "unknown",
        ]
        for each in calls
    ]
    return ["subject", "by mean probability", *found.classes, "by majority", "unlike training"], rows
