"""Scores of anybody's models, checked so that nothing in them is guessed, and brought into the shape of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.data.units import Units
from fusion.errors import UsageError
from fusion.evaluation._score_columns import ScoreColumns, choose_positive
from fusion.evaluation.score_frames import cells_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CheckedScores:
    """A table of scores in the shape of ``score_frames.score_frame``.

    Attributes
    ----------
    frame : one row a scored cell.
    subgroups : by column, the value of each row, None where nothing stands.
    classes : sorted.
    positive : the class that sensitivity is about, None for more than two.
    notes, stamps : what should be known of the table, and what must be read with every figure.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    positive: str | None
    notes: tuple[str, ...]
    stamps: tuple[str, ...]
    subgroups: Mapping[str, Sequence[str | None]]

    def values_of(self, names: Sequence[str], cells: Units) -> dict[str, list[str | None]]:
        """The value of each cell in these columns, in the order of ``cells``."""
        rows = list(zip(self.frame["key"], self.frame["name"], strict=True))
        found = {}
        for name in names:
            held = dict(zip(rows, self.subgroups[name], strict=True))
            found[name] = [held[cell] for cell in zip(cells.keys, cells.names, strict=True)]
        return found


def check_scores(
    frame: pd.DataFrame, positive: str | None = None, where: str = "the table", by: Sequence[str] = ()
) -> CheckedScores:
    """Check a table of scores, one row a scored cell.

    Parameters
    ----------
    frame : columns ``subject`` and ``label``; ``score``, the probability of the positive class, or ``p_<class>`` for
        every class; and any of ``entry`` (what was compared; one entry without it), ``fold`` (which model of a
        cross-validation scored the cell; one model without it), ``repeat``, ``source`` and ``group`` (see
        ``fusion.data.subjects``), ``threshold`` (from which probability a cell was predicted positive), ``cell`` (its
        name; without it, rows of each entry and repeat are the same cells in the same order), ``subject_label``, and of
        more than two classes ``cost_<class>`` (what predicting it is expected to cost; the least is predicted).
    positive : the class that ``score`` and sensitivity are about; None where it goes without saying: two classes 0 and
        1, or all and hem; or, with ``p_<class>``, the second.
    where : how the table is called in messages.
    by : columns of the table that tell subgroups of cells apart.

    Raises
    ------
    UsageError : it is told what is wrong, in which row.
    """
    import pandas as pd

    positive = None if positive is None else str(positive)
    table = ScoreColumns(frame, where)
    table.check_columns(by)
    label = table.texts("label")
    classes, proba = table.probabilities(label, positive)
    chosen = choose_positive(classes, positive, "score" in table.columns, where)
    columns: dict[str, Any] = {**table.entries(), **table.rounds()}
    columns["name"] = table.texts("cell") if "cell" in table.columns else table.places(columns)
    columns["key"] = table.texts("key") if "key" in table.columns else columns["name"]
    columns |= table.people()
    columns |= {"label": label, **{f"p_{name}": proba[:, at] for at, name in enumerate(classes)}}
    if "threshold" in table.columns:
        columns["threshold"] = table.thresholds(classes)
    columns |= table.costs(classes)
    if "subject_label" in table.columns:
        columns["subject_label"] = table.subject_labels(classes)
    checked = table.frame_of(columns)
    _check_cells(table, checked)
    stamps = [*table.own_stamps(), *_leaks(checked)]
    groups = {name: table.known_texts(name) for name in by}
    for name, values in groups.items():
        _check_constant(table, checked, f"value of '{name}'", pd.Series(values, dtype=object))
    return CheckedScores(checked, classes, chosen, tuple(table.notes), tuple(dict.fromkeys(stamps)), groups)


def _check_cells(table: ScoreColumns, checked: pd.DataFrame) -> None:
    """Refuse cells scored twice, entries on other cells, and cells that change between rows."""
    identity = ["key", "name"]
    if (wrong := checked.duplicated(["features", "classifier", "repeat", *identity]).to_numpy()).any():
        raise UsageError(
            f"{table.rows(wrong)}: a cell is scored twice in one entry and repeat",
            found=str(checked["name"].iloc[int(np.argmax(wrong))]),
            expected="one row for each cell, entry and repeat",
            do="Number further scores of a cell in a column 'repeat'.",
        )
    for column in ("label", "subject", "source", "group", *(["subject_label"] if "subject_label" in checked else [])):
        _check_constant(table, checked, column, checked[column])
    _check_entries(table, checked)


def _check_constant(table: ScoreColumns, checked: pd.DataFrame, what: str, values: pd.Series[Any]) -> None:
    """Refuse a cell that has two values of what it has one of."""
    texts = values.astype(object).where(values.notna(), "")
    first = texts.groupby([checked[name] for name in ("key", "name")], sort=False).transform("first")
    if (wrong := (texts != first).to_numpy()).any():
        at = int(np.argmax(wrong))
        raise UsageError(
            f"{table.rows(wrong)}: cell {checked['name'].iloc[at]} has another {what} than before",
            found=f"{first.iloc[at] or 'none'} and {texts.iloc[at] or 'none'}",
            expected="the same cells in the same order for every entry and repeat"
            if "cell" not in table.columns
            else f"one {what} for a cell",
            do="Add a column 'cell' that names them." if "cell" not in table.columns else "",
        )


def _check_entries(table: ScoreColumns, checked: pd.DataFrame) -> None:
    """Entries are compared on the same cells in the same folds."""
    cell = checked.groupby(["repeat", "key", "name"], sort=False).ngroup().to_numpy()
    fold = checked["fold"].to_numpy()
    entry = checked.groupby(["features", "classifier"], sort=False).ngroup().to_numpy()
    own, *others = (np.flatnonzero(entry == at) for at in range(int(entry.max()) + 1))
    own = own[np.argsort(cell[own])]
    for other in others:
        held = other[np.argsort(cell[other])]
        rows = checked[["features", "classifier"]].iloc[[own[0], held[0]]]
        names = [", ".join(filter(None, row)) for row in rows.itertuples(index=False, name=None)]
        if not np.array_equal(cell[own], cell[held]):
            both = len(np.intersect1d(cell[own], cell[held]))
            raise UsageError(
                f"entries of {table.where} are on different cells",
                found=f"'{names[0]}' has {len(own)} scores, '{names[1]}' {len(held)}, {both} of the same cells",
                expected="every entry on the same cells, in the same repeats",
            )
        if moved := int((fold[own] != fold[held]).sum()):
            raise UsageError(
                f"entries of {table.where} are of different folds",
                found=f"{moved} scores of '{names[1]}' are in another fold than those of '{names[0]}'",
                expected="the same folds for every entry",
            )


def _leaks(checked: pd.DataFrame) -> list[str]:
    """A stamp where cells of a subject are in several folds of a repeat: other cells of it were learnt from."""
    first = checked.groupby(["features", "classifier"], sort=False).ngroup() == 0
    rows = checked[first]
    cells = cells_of(rows)
    group = dict(zip(zip(cells.keys, cells.names, strict=True), cells.groups.tolist(), strict=True))
    of = [group[cell] for cell in zip(rows["key"], rows["name"], strict=True)]
    folds: dict[tuple[int, int], set[int]] = {}
    for number, repeat, fold in zip(of, rows["repeat"].tolist(), rows["fold"].tolist(), strict=True):
        folds.setdefault((number, repeat), set()).add(fold)
    leaking = {number for (number, _), held in folds.items() if len(held) > 1}
    if not leaking:
        return []
    who = f"{len(leaking)} subject{'s' if len(leaking) > 1 else ''}"
    return [f"leaky: cells of {who} are in several folds, so that others of them were learnt from"]
