"""``fusion plan``: how many subjects a difference would need, which one so many can find, and how many cells of a
subject are enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.analysis.cells_per_subject import CLOSE, MarginSpread, assumed_spread, cells_enough, margin_spreads
from fusion.data.score_table import read_score_table
from fusion.errors import UsageError, reason_in_a_line
from fusion.evaluation.foreign_scores import check_scores
from fusion.evaluation.sample_size import (
    MOST_SUBJECTS,
    Spreads,
    assumed_spreads,
    pilot_spreads,
    smallest_difference,
    subjects_needed,
)
from fusion.evaluation.score_frames import cells_of
from fusion.io.files import printable
from fusion.io.json_values import without_nan
from fusion.settings.commands import PlanConfig

if TYPE_CHECKING:
    import pandas as pd

#: Subjects of all classes for which the smallest difference is told.
_GRID = (16, 30, 50, 73, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class StudyPlan:
    """What a study could find.

    Attributes
    ----------
    difference, power : of balanced accuracy, and the probability to find it.
    needed, cautious : subjects of each class; None where a million do not do. ``cautious`` is for spreads that the true
        ones are below with 80% confidence, None without a pilot.
    detectable : for numbers of subjects {class: number}, the smallest difference that they find.
    spreads : what it rests on.
    training : share that training anew adds to the variance.
    cells : what more cells of a subject bring, and more subjects; see ``cells_per_subject.cells_enough``. Nothing of a
        result in which subjects were scored as a whole.
    notes : what must be read with it.
    """

    difference: float
    power: float
    needed: Mapping[str, int] | None
    cautious: Mapping[str, int] | None
    detectable: tuple[tuple[Mapping[str, int], float], ...]
    spreads: Spreads
    training: float
    cells: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What a terminal shows above the table."""
        asked = (
            f"a difference of {self.difference:g} in balanced accuracy, found in {100 * self.power:g} of 100 studies"
        )
        found = [f"{_listed(self.needed)} for {asked}."]
        if self.spreads.subjects:
            found.append(f"To be safe {_listed(self.cautious)}: a pilot's spread is too small in half of all pilots.")
        if self.cells:
            found.append(
                f"{self.cells['enough']} cells of a subject call it as well as any number, within {CLOSE:g}: balanced "
                f"accuracy of subjects {self.cells['ceiling']:.3f} at most."
            )
        return found

    @property
    def cell_table(self) -> list[list[str]]:
        """Cells of a subject, balanced accuracy of subjects, and half the width of its interval by subjects."""
        return [
            [
                str(row["cells"]),
                f"{row['balanced_accuracy']:.3f}",
                *(f"± {width:.3f}" for width in row["half_width"].values()),
            ]
            for row in self.cells.get("rows", ())
        ]

    @property
    def table(self) -> list[list[str]]:
        """Subjects, and the smallest difference that they find."""
        return [
            [_listed(numbers), "none" if math.isnan(value) else f"{value:.3f}"] for numbers, value in self.detectable
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        return without_nan(
            {
                "difference": self.difference,
                "power": self.power,
                "needed": self.needed,
                "cautious": self.cautious,
                "detectable": [{"subjects": dict(n), "difference": value} for n, value in self.detectable],
                "deviations": dict(self.spreads.deviations),
                "pilot_subjects": dict(self.spreads.subjects),
                "training_variance": self.training,
                "cells": dict(self.cells),
                "notes": list(self.notes),
            }
        )


def plan_study(config: PlanConfig) -> StudyPlan:
    """Plan a comparison of two sets of features or classifiers on the same subjects.

    Raises
    ------
    UsageError : a folder that holds no result, no such entries, or too few subjects to plan by.

    Examples
    --------
    >>> plan_study(PlanConfig(difference=0.1)).needed
    {'positive': 13, 'negative': 13}
    """
    if config.result is None:
        one = assumed_spread(config.accuracy, config.within_subject)
        spreads, margins = _assumed(config), {"positive": one, "negative": one}
    else:
        frame = _read_pilot(config.result)
        spreads, margins = _of_pilot(config.result, frame, config), _margins(config.result, frame, config.entries)
    names = list(spreads.deviations)
    given = _numbers(config, names)
    counts = given or dict(spreads.subjects) or dict.fromkeys(names, 1)
    shares = {name: counts[name] / sum(counts.values()) for name in names}
    how = {"asked": config.power, "training": config.training_variance}
    grid = [{name: max(2, math.ceil(share * total)) for name, share in shares.items()} for total in _GRID]
    own = [given] if given else ([dict(spreads.subjects)] if spreads.subjects else [])
    return StudyPlan(
        difference=config.difference,
        power=config.power,
        needed=subjects_needed(config.difference, shares, spreads, **how),
        cautious=subjects_needed(config.difference, shares, spreads.cautious(), **how) if spreads.subjects else None,
        detectable=tuple((numbers, smallest_difference(numbers, spreads, **how)) for numbers in [*own, *grid]),
        spreads=spreads,
        training=config.training_variance,
        cells=cells_enough(margins) if margins else {},
        notes=_notes(config, spreads),
    )


def _notes(config: PlanConfig, spreads: Spreads) -> tuple[str, ...]:
    deviations = ", ".join(f"{value:.3f} ({name})" for name, value in spreads.deviations.items())
    return (
        f"Standard deviation of a subject's difference in recall: {deviations}; {spreads.origin}.",
        f"Two-sided t-test at 5% with Satterthwaite's degrees of freedom over subjects; training anew adds "
        f"{config.training_variance:g} of the held-out variance (training_variance). More cells a subject help only "
        "until subjects differ by more than their cells do.",
    )


def _assumed(config: PlanConfig) -> Spreads:
    if config.entries:
        raise UsageError("entries are those of a result, and none is named", do="fusion plan RESULT --entries A,B.")
    return assumed_spreads(
        ["positive", "negative"], config.accuracy, config.cells, config.within_subject, config.between_sets
    )


def _numbers(config: PlanConfig, names: list[str]) -> dict[str, int]:
    """Subjects of each class as they were given; none where they were not."""
    if not config.subjects:
        return {}
    if len(config.subjects) != len(names) or min(config.subjects) < 2:
        raise UsageError(
            "--subjects are two or more of each class",
            found=",".join(map(str, config.subjects)),
            expected=f"a number for each of {', '.join(names)}",
        )
    return dict(zip(names, config.subjects, strict=True))


def _read_pilot(path: Path) -> pd.DataFrame:
    """A row a scored cell and entry: of a result's folder, or of a table as ``fusion judge`` takes it."""
    import pandas as pd

    if path.is_file():
        checked = check_scores(read_score_table(path)[0], None, str(path))
        proba = checked.frame[[f"p_{name}" for name in checked.classes]].to_numpy()
        predicted = np.array(checked.classes, object)[proba.argmax(axis=1)]
        cells = cells_of(checked.frame)
        group = dict(zip(zip(cells.keys, cells.names, strict=True), cells.groups.tolist(), strict=True))
        rows = zip(checked.frame["key"], checked.frame["name"], strict=True)
        return checked.frame.assign(predicted=predicted, group=[group[row] for row in rows])
    try:
        return pd.read_parquet(path / "scores.parquet")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path} holds no result",
            found=f"no file {printable(path / 'scores.parquet')}"
            if isinstance(error, FileNotFoundError)
            else reason_in_a_line(error),
            expected="result.json and scores.parquet, or a table of scores",
        ) from error


def _margins(path: Path, frame: pd.DataFrame, entries: Sequence[str]) -> dict[str, MarginSpread]:
    """Margins of the best entry, or of the first that is named; none where subjects were scored as a whole."""
    entry = frame["classifier"] + "/" + frame["features"]
    own = "subject_label" if "subject_label" in frame else "label"
    if not entries:
        recalls = (frame["predicted"] == frame["label"]).groupby([entry, frame["label"]]).mean()
        entries = [str(recalls.groupby(level=0).mean().idxmax())]
    cells = frame[(entry == entries[0]).to_numpy() & (frame["repeat"] == frame["repeat"].min()).to_numpy()]
    classes = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
    proba = cells[[f"p_{name}" for name in classes]].to_numpy()
    codes = np.array([classes.index(label) for label in cells[own].astype(str)])
    true = np.eye(len(classes), dtype=bool)[codes]
    margins = proba[true] - np.where(true, -np.inf, proba).max(axis=1)
    found = margin_spreads(
        margins, cells[own].astype(str).tolist(), np.unique(cells["group"].to_numpy(), return_inverse=True)[1]
    )
    if not cells["group"].duplicated().any():
        return {}  # subjects were scored as a whole: nothing tells what their cells would bring
    if len(found) < len(set(codes.tolist())):
        raise UsageError(
            f"{path} has too few subjects to plan by",
            found=", ".join(f"{n} of {name}" for name, n in cells.groupby(own)["group"].nunique().items()),
            expected="two subjects of every class, one of them with several cells",
        )
    return found


def _of_pilot(folder: Path, frame: pd.DataFrame, config: PlanConfig) -> Spreads:
    """Spreads of a result: of two entries, or the median over the best entry against each other one; of a single one
    as much as two have that correlate as is assumed."""
    right = (frame["predicted"] == frame["label"]).astype(float)
    frame = frame.assign(entry=frame["classifier"] + "/" + frame["features"], right=right)
    cells = frame.groupby(["entry", "key", "name"], sort=True)["right"].mean().unstack("entry")
    about = frame.drop_duplicates(["key", "name"]).set_index(["key", "name"]).loc[cells.index]
    if cells.shape[1] == 1 and not config.entries:
        of_one = pilot_spreads(cells.iloc[:, 0].to_numpy(float), about["label"].tolist(), about["group"].tolist(), "")
        _check_pilot(folder, of_one, about)
        wider = math.sqrt(2 * (1 - config.between_sets))
        deviations = {name: wider * value for name, value in of_one.deviations.items()}
        origin = (
            f"from {folder.name}, of {cells.columns[0]} against one that correlates {config.between_sets:g} with it"
        )
        return Spreads(deviations, of_one.subjects, origin)
    pairs = _pairs(config.entries, cells, about["label"])
    found = [
        pilot_spreads((cells[a] - cells[b]).to_numpy(), about["label"].tolist(), about["group"].tolist(), "")
        for a, b in pairs
    ]
    _check_pilot(folder, found[0], about)
    names = list(found[0].deviations)
    deviations = {name: float(np.median([one.deviations[name] for one in found])) for name in names}
    (best, other), *more = pairs
    which = f"the best against {len(pairs)} others (median)" if more else f"{best} against {other}"
    return Spreads(deviations, found[0].subjects, f"from {folder.name}, {which}")


def _check_pilot(folder: Path, found: Spreads, about: pd.DataFrame) -> None:
    """UsageError for a class of one subject."""
    if len(found.deviations) < 2 or len(found.deviations) < about["label"].nunique():
        raise UsageError(
            f"{folder} has too few subjects to plan by",
            found=", ".join(f"{n} of {name}" for name, n in about.groupby("label")["group"].nunique().items()),
            expected="two subjects of every class",
        )


def _pairs(entries: list[str], cells: Any, labels: Any) -> list[tuple[str, str]]:
    known = list(cells.columns)
    if entries:
        if len(entries) != 2 or (unknown := [name for name in entries if name not in known]):
            found = ", ".join(entries if len(entries) != 2 else unknown)
            raise UsageError("--entries are two of the result", found=found, expected=", ".join(known[:10]))
        return [(entries[0], entries[1])]
    values = cells.groupby(labels.to_numpy()).mean().mean()
    best = str(values.idxmax())
    return [(best, name) for name in known if name != best]


def _listed(numbers: Mapping[str, int] | None) -> str:
    if numbers is None:
        return f"more than {MOST_SUBJECTS:,} subjects"
    return " + ".join(f"{number} {name}" for name, number in numbers.items())
