"""``fusion plan``: how many subjects a difference would need, and which one so many subjects can find."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import UsageError, reason_in_a_line
from fusion.evaluation.sample_size import (
    MOST_SUBJECTS,
    Spreads,
    assumed_spreads,
    pilot_spreads,
    smallest_difference,
    subjects_needed,
)
from fusion.io.json_values import without_nan
from fusion.settings.commands import PlanConfig

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
    notes : what must be read with it.
    """

    difference: float
    power: float
    needed: Mapping[str, int] | None
    cautious: Mapping[str, int] | None
    detectable: tuple[tuple[Mapping[str, int], float], ...]
    spreads: Spreads
    training: float
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
        return found

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
    spreads = _assumed(config) if config.result is None else _of_pilot(config.result, config.entries)
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


def _of_pilot(folder: Path, entries: list[str]) -> Spreads:
    """Spreads of a result: of two entries, or the median over the best entry against each other one."""
    import pandas as pd

    try:
        columns = ["features", "classifier", "key", "name", "subject", "group", "source", "label", "predicted"]
        frame = pd.read_parquet(folder / "scores.parquet")
        frame = frame[[name for name in columns if name in frame]]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{folder} holds no result", found=reason_in_a_line(error), expected="result.json and scores.parquet"
        ) from error
    right = (frame["predicted"] == frame["label"]).astype(float)
    frame = frame.assign(entry=frame["classifier"] + "/" + frame["features"], right=right)
    cells = frame.groupby(["entry", "key", "name"], sort=True)["right"].mean().unstack("entry")
    about = frame.drop_duplicates(["key", "name"]).set_index(["key", "name"]).loc[cells.index]
    pairs = _pairs(entries, cells, about["label"])
    found = [
        pilot_spreads((cells[a] - cells[b]).to_numpy(), about["label"].tolist(), about["group"].tolist(), "")
        for a, b in pairs
    ]
    names = list(found[0].deviations)
    if len(names) < 2 or len(names) < about["label"].nunique():
        raise UsageError(
            f"{folder} has too few subjects to plan by",
            found=", ".join(f"{n} of {name}" for name, n in about.groupby("label")["group"].nunique().items()),
            expected="two subjects of every class",
        )
    deviations = {name: float(np.median([one.deviations[name] for one in found])) for name in names}
    (best, other), *more = pairs
    which = f"the best against {len(pairs)} others (median)" if more else f"{best} against {other}"
    return Spreads(deviations, found[0].subjects, f"from {folder.name}, {which}")


def _pairs(entries: list[str], cells: Any, labels: Any) -> list[tuple[str, str]]:
    known = list(cells.columns)
    if entries:
        if len(entries) != 2 or (unknown := [name for name in entries if name not in known]):
            found = ", ".join(entries if len(entries) != 2 else unknown)
            raise UsageError("--entries are two of the result", found=found, expected=", ".join(known[:10]))
        return [(entries[0], entries[1])]
    if len(known) < 2:
        raise UsageError("a plan needs two entries to compare", found=f"{len(known)} in the result")
    values = cells.groupby(labels.to_numpy()).mean().mean()
    best = str(values.idxmax())
    return [(best, name) for name in known if name != best]


def _listed(numbers: Mapping[str, int] | None) -> str:
    if numbers is None:
        return f"more than {MOST_SUBJECTS:,} subjects"
    return " + ".join(f"{number} {name}" for name, number in numbers.items())
