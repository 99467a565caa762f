"""What a model says of cells: class and probability of each, of each subject, as tables and plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Fault, commonest_reason, fault_row
from fusion.data.feature_table import FeatureTable
from fusion.data.subjects import format_subject
from fusion.errors import FusionError
from fusion.evaluation.promises.held_out import MOST_OUTSIDE, Promises
from fusion.io.csv_text import csv_bytes
from fusion.io.notebook_table import notebook_table
from fusion.io.output_files import unwritable, write_output
from fusion.learning.fused_model import Decision
from fusion.learning.novelty import RATE
from fusion.metrics.class_shares import ClassShares

if TYPE_CHECKING:
    import pandas as pd


class PredictionError(FusionError):
    """There is no cell that anything could be said of."""


@dataclass(frozen=True)
class SubjectPrediction:
    """All cells of one subject together.

    Attributes
    ----------
    subject : its name.
    cells : how many of its cells were judged.
    probability : of each class, the mean over the cells.
    predicted : the class by that mean.
    votes : how many cells are predicted as each class.
    majority : the class predicted for most cells; of equals the one with the higher mean probability.
    out_of_distribution : how many cells are out of distribution; they are among the judged ones.
    set : the classes that it may be of, by what the model promises; None where it promises no sets of subjects.
    ruled_out : whether it is not of the positive class, by the risk that the model holds; None without one.
    referred : whether somebody has to look: it is out of distribution, is not ruled out, or, where no risk is held, its
        set is not one class. None where nothing is promised.
    """

    subject: str
    cells: int
    probability: tuple[float, ...]
    predicted: str
    votes: tuple[int, ...]
    majority: str
    out_of_distribution: int
    set: tuple[str, ...] | None = None
    ruled_out: bool | None = None
    referred: bool | None = None


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of n cells.

    Attributes
    ----------
    table : who the rows are, and their features, harmonised where the model does that.
    classes : in the order of the probabilities' columns.
    proba : float64 (n, classes), calibrated where the model is.
    faults : the images that were skipped.
    root : what the names are relative to.
    positive, threshold : from a probability ``threshold`` on of the class ``positive``, a cell is predicted positive.
    costs : of more than two classes float64 (classes, classes), see ``FusedModel``; None takes the most probable one.
    calibrated : whether the model's probabilities were calibrated when it was trained.
    trained_on : bool (n,), the images that the model has learnt from: it knows their class.
    distance : float64 (n,), from the training cells in units of what is usual, see ``fusion.learning.novelty``: above
    1 a cell
        is out of distribution. None for a model that cannot tell.
    remarks : of whoever read the data, one line each.
    promises : what the model promises of new cells and subjects; None for nothing.
    cells : where n subjects are judged, the table of their cells, to which ``table.cells`` are rows.
    shares : of classes in each new source, as far as its cells tell; where a model harmonises new sources.
    """

    table: FeatureTable
    classes: tuple[str, ...]
    proba: NDArray[np.float64]
    faults: tuple[Fault, ...]
    root: Path
    positive: str | None
    threshold: float | None
    calibrated: bool
    trained_on: NDArray[np.bool_]
    distance: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()
    costs: NDArray[np.float64] | None = None
    promises: Promises | None = None
    cells: FeatureTable | None = None
    shares: tuple[ClassShares, ...] = ()

    def __len__(self) -> int:
        return len(self.proba)

    def __repr__(self) -> str:
        counts = Counter(self.predicted)
        classes = ", ".join(f"{label} {counts[label]}" for label in self.classes)
        return f"Predictions({len(self)} cells; {classes}; {len(self.faults)} skipped)"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.to_frame)

    @property
    def predicted(self) -> list[str]:
        """The predicted class of each cell: the most probable one, or by the model's threshold or costs."""
        return self._predicted(self.proba)

    def _predicted(self, proba: NDArray[np.float64]) -> list[str]:
        column = None if self.positive is None else self.classes.index(self.positive)
        rule = Decision(threshold=self.threshold, costs=self.costs)
        return [self.classes[at] for at in rule.predicted(proba, column)]

    @property
    def out_of_distribution(self) -> list[bool | None]:
        """Whether each cell is out of distribution; None where the model cannot tell."""
        return [None] * len(self) if self.distance is None else (self.distance > 1).tolist()

    @property
    def sets(self) -> list[tuple[str, ...]] | None:
        """The classes that each cell may be of, by what the model promises; None where it promises no sets."""
        return None if self.promises is None else self.promises.sets("cells", self.proba)

    @property
    def referred(self) -> list[bool] | None:
        """Whether somebody has to look at each cell: it is out of distribution, or its set is not one class. None where
        no sets are promised."""
        if (sets := self.sets) is None:
            return None
        return [bool(outside) or len(own) != 1 for outside, own in zip(self.out_of_distribution, sets, strict=True)]

    @property
    def sizes(self) -> list[int] | None:
        """How many cells each patient has, where patients are judged; None where cells are."""
        return None if self.cells is None else [len(own) for own in self.table.cells]

    @property
    def by_subject(self) -> tuple[SubjectPrediction, ...]:
        """The subjects in the order of their first cells; cells without a subject are left out."""
        rows: dict[str, list[int]] = {}
        for at, subject in enumerate(self.table.identities):
            if subject is not None:
                rows.setdefault(format_subject(subject), []).append(at)
        found = []
        predicted, out_of_distribution = np.array(self.predicted, object), self.out_of_distribution
        for subject, own in rows.items():
            mean = self.proba[own].mean(axis=0)
            votes = np.array([np.count_nonzero(predicted[own] == label) for label in self.classes])
            # A share of a vote decides between equals, and never outweighs one.
            majority = self.classes[int((votes + 0.5 * mean).argmax())]
            (label,) = self._predicted(mean[None])
            outside = sum(bool(out_of_distribution[at]) for at in own)
            found.append(
                SubjectPrediction(
                    subject, len(own), tuple(mean.tolist()), label, tuple(votes.tolist()), majority, outside
                )
            )
        return tuple(found) if self.promises is None else tuple(_promised(self.promises, found))

    @property
    def notes(self) -> list[str]:
        """What a reader of these figures has to know, one line each."""
        predicted = self.predicted
        counts = ", ".join(f"{predicted.count(label)} {label}" for label in self.classes)
        unit = "cell" if self.cells is None else "patient"
        lines = [*self.remarks, f"{len(self)} {unit}{'' if len(self) == 1 else 's'}: {counts}."]
        if self.threshold is not None:
            lines[-1] += f" A {unit} is predicted '{self.positive}' from a probability of {self.threshold:.3f}."
        if self.costs is not None:
            lines[-1] += f" A {unit} is predicted as the class of the least expected cost."
        lines += [each.line for each in self.shares]
        if not self.calibrated:
            lines.append("Probabilities are as the classifier gives them; fusion train --calibrate calibrates them.")
        outside = sum(map(bool, self.out_of_distribution))
        if outside:
            lines.append(
                f"{outside} {'is' if outside == 1 else 'are'} out of distribution, further from the training cells "
                f"than "
                f"{1 - RATE:.0%} of such cells of other subjects: another stain, another scale, or no cell. "
                "Their class means little."
            )
        if self.promises is not None:
            lines += self.promises.notes(self.referred, self.by_subject)
        if self.distance is None:
            lines.append("This model has no features to tell cells by that are out of distribution.")
        if self.trained_on.any():
            known = int(self.trained_on.sum())
            if self.table.are_subjects:
                met = f"{known} of these patients {'has' if known == 1 else 'have'} images"
            else:
                met = f"{known} of these images {'is' if known == 1 else 'are'}"
            lines.append(f"{met} among those the model learnt from: its answers on them say nothing about new ones.")
        return lines

    def to_frame(self) -> pd.DataFrame:
        """DataFrame: name, key, label, subject, source, class, p_<class>s, set and referred where sets are promised
        (classes with a bar between them), out_of_distribution, distance, in_training."""
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
        outside = {
            "out_of_distribution": pd.Series(self.out_of_distribution, dtype="boolean"),
            "distance": np.full(len(self), np.nan) if self.distance is None else self.distance,
        }
        sets, promised = self.sets, {}
        if sets is not None:
            promised = {"set": ["|".join(own) for own in sets], "referred": self.referred}
        return pd.DataFrame(head | proba | promised | outside | {"in_training": self.trained_on})

    def to_json(self) -> dict[str, Any]:
        """Plain values: everything that the tables show, notes and faults."""
        sets, referred, sizes = self.sets, self.referred, self.sizes
        promised: list[dict[str, Any]] = [{}] * len(self)
        if sets is not None and referred is not None:
            promised = [{"set": list(own), "referred": at} for own, at in zip(sets, referred, strict=True)]
        rows = zip(
            self.table.names,
            self.table.y,
            self.table.subjects,
            self.table.sources,
            self.predicted,
            self.proba.tolist(),
            self.trained_on.tolist(),
            self.out_of_distribution,
            self._distances,
            promised,
            strict=True,
        )
        return {
            "classes": list(self.classes),
            "calibrated": self.calibrated,
            "threshold": None if self.threshold is None else {"class": self.positive, "probability": self.threshold},
            "costs": None if self.costs is None else self.costs.tolist(),
            "predictions": [
                {
                    "name": name,
                    "label": label,
                    "subject": subject,
                    "source": origin,
                    "class": predicted,
                    "probability": dict(zip(self.classes, proba, strict=True)),
                    "out_of_distribution": out_of_distribution,
                    "distance": distance,
                    "in_training": known,
                    **({} if sizes is None else {"cells": sizes[at]}),
                    **own,
                }
                for at, (
                    name,
                    label,
                    subject,
                    origin,
                    predicted,
                    proba,
                    known,
                    out_of_distribution,
                    distance,
                    own,
                ) in enumerate(rows)
            ],
            "subjects": [
                {
                    "subject": each.subject,
                    "cells": each.cells,
                    "class": each.predicted,
                    "probability": dict(zip(self.classes, each.probability, strict=True)),
                    "majority": each.majority,
                    "votes": dict(zip(self.classes, each.votes, strict=True)),
                    "out_of_distribution": each.out_of_distribution,
                    **_told_of(each),
                }
                for each in self.by_subject
            ],
            **({"promises": self.promises.asked.to_json()} if self.promises is not None else {}),
            **({"class_shares": [each.to_json() for each in self.shares]} if self.shares else {}),
            "notes": self.notes,
            "faults": [fault_row(fault, self.root) for fault in self.faults],
        }

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
        if kind == "csv":
            content = csv_bytes(frame)
        else:
            sink = BytesIO()
            texts = ["label", "subject", "source"]  # without a value anywhere they would have no type
            frame.astype(dict.fromkeys(texts, "string")).to_parquet(sink, index=False)
            content = sink.getvalue()
        try:
            write_output(path, content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(path, error) from error

    def check(self) -> None:
        """PredictionError if there is nothing to say, with the commonest reason why."""
        if len(self):
            return
        reason = f": {commonest_reason(self.faults)}" if self.faults else ""
        raise PredictionError(
            "no cell could be judged", found=f"{len(self.faults)} of {len(self.faults)} images skipped{reason}"
        )


def _promised(promises: Promises, subjects: Sequence[SubjectPrediction]) -> Iterator[SubjectPrediction]:
    """The subjects with what is promised of them; out of distribution comes first, where nothing is promised."""
    proba = np.array([each.probability for each in subjects]).reshape(len(subjects), len(promises.own.classes))
    sets, ruled_out = promises.sets("subjects", proba), promises.ruled_out(proba)
    for at, each in enumerate(subjects):
        is_outside = each.out_of_distribution > MOST_OUTSIDE * each.cells
        own = None if sets is None else sets[at]
        is_out = None if ruled_out is None else ruled_out[at] and not is_outside
        open_question = None if own is None else len(own) != 1
        is_referred = open_question if is_out is None else not is_out
        yield replace(
            each, set=own, ruled_out=is_out, referred=None if is_referred is None else is_referred or is_outside
        )


def _told_of(each: SubjectPrediction) -> dict[str, Any]:
    """What is promised of a subject; nothing where nothing is."""
    told = {"set": None if each.set is None else list(each.set), "ruled_out": each.ruled_out, "referred": each.referred}
    return {name: value for name, value in told.items() if value is not None}


def _set_text(own: tuple[str, ...] | None) -> str:
    return "" if own is None else " or ".join(own) or "none of them"


def cell_rows(found: Predictions) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text, one a cell, or a patient where these are judged, for a terminal."""
    rows = []
    sets, sizes = found.sets, found.sizes
    promised = [] if sizes is None else [_promise_text(each) for each in found.by_subject]
    has_promises = any(each is not None for each in promised)
    for at, (name, label) in enumerate(zip(found.table.names, found.predicted, strict=True)):
        outside = f"yes, {found.distance[at]:.1f} times the usual" if found.distance is not None else "unknown"
        rows.append(
            [
                name,
                label,
                *(f"{p:.3f}" for p in found.proba[at]),
                *([] if sets is None else [_set_text(sets[at])]),
                *([promised[at] or ""] if has_promises else []),
                *([] if sizes is None else [str(sizes[at])]),
                "" if found.out_of_distribution[at] is False else outside,
            ]
        )
    further = [*([] if sets is None else ["set"]), *(["promise"] if has_promises else [])]
    further += [] if sizes is None else ["cells"]
    return ["image" if sizes is None else "patient", "class", *found.classes, *further, "out of distribution"], rows


def _promise_text(subject: SubjectPrediction) -> str | None:
    """What a promise says of a subject, None where nothing was promised."""
    if subject.referred is None:
        return None
    return "referred" if subject.referred else (subject.ruled_out and "ruled out") or ""


def subject_rows(found: Predictions, subjects: Sequence[SubjectPrediction]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text, one a subject, for a terminal."""
    rows = [
        [
            each.subject,
            each.predicted,
            *(f"{p:.3f}" for p in each.probability),
            f"{each.majority} {max(each.votes)}/{each.cells}",
            *([] if each.set is None else [_set_text(each.set)]),
            *([] if (promise := _promise_text(each)) is None else [promise]),
            f"{each.out_of_distribution}/{each.cells}" if found.distance is not None else "unknown",
        ]
        for each in subjects
    ]
    first = next(iter(subjects), None)
    promised = ["set"] if first is not None and first.set is not None else []
    promised += ["promise"] if first is not None and first.referred is not None else []
    return ["subject", "by mean probability", *found.classes, "by majority", *promised, "out of distribution"], rows
