"""fusion compare: results of several runs on the same cells, entry against entry."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.errors import UsageError, reason_in_a_line
from fusion.evaluation.result_differences import pairwise, signed, with_adjusted
from fusion.evaluation.results import judge_paired, p_text
from fusion.evaluation.score_frames import cells_of, entries_of
from fusion.evaluation.scores import Scores
from fusion.io.json_values import without_nan
from fusion.io.notebook_table import notebook_table
from fusion.settings.commands import CompareConfig
from fusion.settings.outputs import one_run_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences between entries of several results, with the tests that take the subject as the unit.

    ``rows`` are those of ``result_differences.pairwise`` with "first_result" and "second_result".
    """

    rows: tuple[Mapping[str, Any], ...]
    cells: int
    groups: int
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Comparison({len(self.rows)} differences on {self.cells} cells of {self.groups} subjects)"

    def _repr_html_(self) -> str:
        return notebook_table(self.title, self.to_frame)

    columns = ("first", "second", "balanced accuracy", "p", "p (Holm)", "AUROC", "p (AUROC)", "p by cell")

    @property
    def title(self) -> str:
        """What the table is about."""
        return (
            f"First minus second on the same {self.cells} cells of {self.groups} subjects; 95% intervals by subject. "
            "p: by the same spread over subjects; by cell (McNemar): a reference, too small where cells share subjects."
        )

    def lines(self) -> list[list[str]]:
        """The table, a row a difference."""
        return [
            [
                f"{row['first_result']}: {row['first']}",
                f"{row['second_result']}: {row['second']}",
                signed(row["balanced_accuracy"]),
                *(p_text(p) for p in (row["balanced_accuracy"]["p"], row["p_adjusted"])),
                signed(row["auroc"]),
                *(p_text(p) for p in (row["auroc"]["p"], row["mcnemar_p"])),
            ]
            for row in self.rows
        ]

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame, a row a difference."""
        import pandas as pd

        return pd.json_normalize([dict(row) for row in self.rows], sep="_")

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        return without_nan(
            {"cells": self.cells, "groups": self.groups, "notes": list(self.notes), "differences": list(self.rows)}
        )


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What a result's folder says: its entries by cell name, and how it was made."""

    name: str
    frame: pd.DataFrame
    classes: tuple[str, ...]
    positive: str | None
    stamps: tuple[str, ...]


@one_run_of
def compare_results(config: CompareConfig) -> Comparison:
    """Compare the entries of results whose cells are the same images.

    Raises
    ------
    UsageError : a folder given twice or without a result, other cells, other labels of the same cells, other classes.
    """
    if twice := [folder for folder, count in Counter(each.resolve() for each in config.results).items() if count > 1]:
        raise UsageError(f"{twice[0]} is to be compared with itself", do="Give each result once.")
    loaded = [_load(folder, _short(config.results)[at]) for at, folder in enumerate(config.results)]
    first, *others = loaded
    for other in others:
        _refuse_other_cells(first, other)
    cells = _cells(loaded)
    rows = []
    notes = [f"{one.name} is stamped: {stamp}" for one in loaded for stamp in one.stamps]
    judged: dict[tuple[str, str, str], Any] = {}

    def entry(of: _Loaded, which: tuple[str, str]) -> Any:
        key = (of.name, *which)
        if key not in judged:
            scores = _scores(of, which, cells)
            judged[key] = (
                scores,
                *judge_paired(cells, scores, first.classes, first.positive),
            )
        return judged[key]

    for other in others:
        matches = [(which, which) for which in _entries(first) if which in _entries(other)]
        if not matches:
            best = [_best(one, entry) for one in (first, other)]
            matches = [(best[0], best[1])]
            most = max(len(_entries(first)), len(_entries(other)))
            notes.append(
                f"{first.name} and {other.name} share no entry: the best of each (of up to {most}) is compared."
            )
        for which, against in matches:
            (a, figures_a, drawn_a), (b, figures_b, drawn_b) = entry(first, which), entry(other, against)
            found = pairwise(cells, first.classes, first.positive, a, b, (figures_a, figures_b), (drawn_a, drawn_b))
            rows.append({"first_result": first.name, "second_result": other.name, **found})
    groups = len(np.unique(cells.groups))
    return Comparison(tuple(with_adjusted(rows)), len(cells), groups, tuple(notes))


def _best(loaded: _Loaded, entry: Callable[[_Loaded, tuple[str, str]], Any]) -> tuple[str, str]:
    """The entry with the highest balanced accuracy; of cells of one class, which have none, the first."""

    def value(which: tuple[str, str]) -> float:
        found = float(entry(loaded, which)[1]["image"]["balanced_accuracy"]["value"])
        return -1.0 if math.isnan(found) else found

    return max(_entries(loaded), key=value)


def _load(folder: Path, name: str) -> _Loaded:
    import pandas as pd

    try:
        lines = json.loads((folder / "result.json").read_bytes())
        frame = pd.read_parquet(folder / "scores.parquet")
        classes, positive, stamps = tuple(lines["classes"]), lines["positive"], tuple(lines["stamps"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{folder} holds no result", found=reason_in_a_line(error), expected="result.json and scores.parquet"
        ) from error
    return _Loaded(name, frame, classes, positive, stamps)


def _short(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, as short as tells them apart."""
    names = [folder.name or str(folder) for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _entries(loaded: _Loaded) -> list[tuple[str, str]]:
    """(features, classifier) of every entry, in the order of the file."""
    pairs = loaded.frame[["features", "classifier"]].drop_duplicates()
    return list(pairs.itertuples(index=False, name=None))


def _identity(loaded: _Loaded) -> pd.DataFrame:
    """One row a cell: content key, name, label, subject and group."""
    return loaded.frame.drop_duplicates(["key", "name"]).set_index(["key", "name"]).sort_index()


def _refuse_other_cells(first: _Loaded, other: _Loaded) -> None:
    a, b = _identity(first), _identity(other)
    if not a.index.equals(b.index):
        both = len(a.index.intersection(b.index))
        raise UsageError(
            f"{first.name} and {other.name} are not about the same cells",
            found=f"{len(a)} and {len(b)} cells, {both} in both",
            expected="the same images under the same names",
        )
    if (torn := int((a["label"] != b["label"]).sum())) or first.classes != other.classes:
        raise UsageError(
            f"{first.name} and {other.name} call the same cells differently",
            found=f"{torn} other labels; classes {', '.join(first.classes)} and {', '.join(other.classes)}",
        )


def _cells(loaded: Sequence[_Loaded]) -> FeatureTable:
    """The cells, in groups that are whole in every result."""
    first, *others = (cells_of(one.frame) for one in loaded)
    groups = first.groups
    for other in others:
        group = dict(zip(zip(other.keys, other.names, strict=True), other.groups.tolist(), strict=True))
        own = [group[cell] for cell in zip(first.keys, first.names, strict=True)]
        groups = merge_groups([str(number) for number in groups], first.keys, own)
    return replace(first, groups=groups)


def _scores(loaded: _Loaded, which: tuple[str, str], cells: FeatureTable) -> Scores:
    frame = loaded.frame
    frame = frame[(frame["features"] == which[0]) & (frame["classifier"] == which[1])]
    (scores,) = entries_of(frame, cells, loaded.classes)
    return scores
