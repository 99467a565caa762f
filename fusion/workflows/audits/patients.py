"""Labels of patients that may be wrong: with the cells that speak against each, and a table to correct them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fusion.analysis.label_audit import LabelAudit, Suspect, audit_labels
from fusion.data.cell_rows import table_rows
from fusion.data.dataset import Dataset, Sample, check_usable
from fusion.data.patient_table import PatientTable, read_patients
from fusion.data.patients.patient_labels import label_by_subject
from fusion.data.subjects import Identity, format_subject, identities
from fusion.errors import UsageError
from fusion.evaluation.results import Result
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.io.csv_text import csv_rows
from fusion.io.output_files import write_output
from fusion.progress import Progress
from fusion.reports.contact_sheets import ACROSS, SIDE, Tile, with_contours, write_sheets
from fusion.settings.commands import InspectConfig
from fusion.workflows.audits.labels import AuditedLabels, check_uncorrected, two_labels
from fusion.workflows.audits.speaking_cells import CellVoice, speaking_cells

#: The table to correct by, a row a patient; and that of their cells, which it is read beside.
TABLE, CELLS = "patients.csv", "cells.csv"

#: Patients that are drawn, each in a row of a sheet.
_DRAWN = 40

#: Pairs of cells alike that are shown of a patient, at most, where other cells speak against its label.
_PAIRS_SHOWN = 1


@dataclass(frozen=True, eq=False)
class _Twins:
    """What a patient's cells have in common with those of a patient of another class.

    Attributes
    ----------
    other, label : that patient, and its class.
    cells : the first patient's, each with the bits of 256 by which it differs from one of the other's, and that one.
    """

    other: str
    label: str
    cells: Mapping[str, tuple[int, str]]

    @property
    def reason(self) -> str:
        """In words."""
        same = sum(bits == 0 for bits, _ in self.cells.values())
        near = len(self.cells) - same
        what = " and ".join([*([f"{same} identical"] if same else []), *([f"{near} nearly identical"] if near else [])])
        cells = "cell" if len(self.cells) == 1 else "cells"
        return f"two labels: {what} {cells} with {self.other}, which is {self.label}"


def audit_patients(
    result: Result, dataset: Dataset, config: InspectConfig, folder: Path, progress: Progress | None = None
) -> AuditedLabels:
    """Look for wrong labels of the patients of a data set by a result on them; write ``patients.csv``, ``cells.csv``,
    and contact sheets with a row a patient.

    Parameters
    ----------
    config : how the data set was read, and where its features are.
    folder : where they are written.
    progress : informed of every image that is hashed, measured or drawn.

    Raises
    ------
    UsageError : the result is of other patients; or the table that lies there has been corrected.
    """
    named = label_by_subject(dataset, needs_labels=False)
    check_usable(len(named), named.faults)
    names = _names(named)
    known = set(names)
    if missing := [name for name in result.cells.names if name not in known]:
        raise UsageError(
            f"{config.labels} is a result on other patients",
            found=f"{len(missing)} of its {len(result.cells.names)} patients are not in the data, such as {missing[0]}",
            expected="the data that it was made from, read in the same way",
        )
    labels = {name: sample.label or "" for name, sample in zip(names, named.samples, strict=True)}
    asked = _PatientRows.of(named, names, config)
    columns = ("subject", *asked.sources, "label")
    check_uncorrected(folder / TABLE, asked.told(labels), columns, "give it with --patients")
    twins = _twins(named, names, progress)
    audit = audit_labels(result, {name: [each.reason for each in own] for name, own in twins.items()})
    write_output(folder / TABLE, csv_rows(asked.rows(labels, audit)))
    write_output(folder / CELLS, csv_rows(_rows_of_cells(named, folder)))
    shown = audit.suspects[:_DRAWN]
    voices = speaking_cells(result, named, [one for one in shown if one.suggestion], config, ACROSS, progress)
    cells = {name: own for name, own in _cells_shown(shown, twins, voices).items() if own}
    sheets = write_sheets(folder, _tiles(cells, named, progress), ACROSS * len(cells)) if cells else []
    data = f"{folder / CELLS} --patients {folder / TABLE} --unit subject"
    how = f"the column label of {folder / TABLE} (empty leaves a patient out), which is read so: {data}"
    return AuditedLabels(audit, folder / TABLE, tuple(sheets), how)


def _names(dataset: Dataset) -> list[str]:
    """Of each cell the name of its patient, as results have it."""
    who = identities(list(dataset.each("subject")), list(dataset.each("source")))
    return [format_subject(one) for one in who]


def _twins(dataset: Dataset, names: Sequence[str], progress: Progress | None) -> dict[str, list[_Twins]]:
    """By patient, what it has in common with patients of another class."""
    whose = dict(zip(dataset.names, names, strict=True))
    of = dict(zip(names, dataset.each("label"), strict=True))
    found: dict[tuple[str, str], dict[str, tuple[int, str]]] = {}
    for first, second, bits in two_labels(dataset, progress):
        for cell, other in ((first, second), (second, first)):
            own = found.setdefault((whose[cell], whose[other]), {})
            own[cell] = min((bits, other), own.get(cell, (bits, other)))
    made: dict[str, list[_Twins]] = {}
    for (patient, other), cells in found.items():
        made.setdefault(patient, []).append(_Twins(other, str(of[other]), cells))
    return made


# ---- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _PatientRows:
    """The patients of a table to correct by.

    Attributes
    ----------
    who : by name, in the order in which they appear.
    sources : ("source",) where ids are told apart by it, else ().
    further : what the table of patients that was given says beside, by column and name.
    """

    who: Mapping[str, Identity]
    sources: tuple[str, ...]
    further: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str], config: InspectConfig) -> _PatientRows:
        """The patients of a data set, with what ``config.patients`` says beside of each."""
        subjects, sources = list(dataset.each("subject")), list(dataset.each("source"))
        who = {name: one for name, one in zip(names, identities(subjects, sources), strict=True) if one is not None}
        told = ("source",) if any(isinstance(one, tuple) for one in who.values()) else ()
        further: dict[str, dict[str, str]] = {}
        if config.patients is not None:
            table = read_patients(config.patients, config)
            places = _places_in(table, dict(zip(names, zip(subjects, sources, strict=True), strict=True)))
            taken = {"subject", "source", "label", "suggestion", "doubt", "reason"}
            further = {
                column: {name: values[at] or "" for name, at in places.items()}
                for column, values in table.values.items()
                if column not in taken
            }
        return cls(who, told, further)

    def _id(self, name: str) -> tuple[str, ...]:
        one = self.who[name]
        source, subject = one if isinstance(one, tuple) else ("", one)
        return (subject, source) if self.sources else (subject,)

    def told(self, labels: Mapping[str, str]) -> list[tuple[str, ...]]:
        """Who they are, and of which class."""
        return [(*self._id(name), labels[name]) for name in self.who]

    def rows(self, labels: Mapping[str, str], audit: LabelAudit) -> list[list[object]]:
        """A header and a row a patient, suspects first."""
        suspects = {one.name: one for one in audit.suspects}
        rows: list[list[object]] = [["subject", *self.sources, "label", "suggestion", "doubt", "reason", *self.further]]
        for name in (*suspects, *(each for each in self.who if each not in suspects)):
            one = suspects.get(name, Suspect(name, "", "", float("nan"), ()))
            doubt = "" if np.isnan(one.doubt) else f"{one.doubt:.3f}"
            beside = [own.get(name, "") for own in self.further.values()]
            rows.append([*self._id(name), labels[name], one.suggestion, doubt, "; ".join(one.reasons), *beside])
        return rows


def _places_in(table: PatientTable, who: Mapping[str, tuple[str, str | None]]) -> dict[str, int]:
    """By name, which patient of the table each is; without those whom it has not."""
    places = table.places()
    found = {name: table.place_of(places, subject, source) for name, (subject, source) in who.items()}
    return {name: at for name, at in found.items() if at is not None}


def _rows_of_cells(dataset: Dataset, folder: Path) -> list[list[object]]:
    """Their cells as a table that Fusion reads: without the classes of patients, which the other table has."""
    samples = [replace(sample, label=sample.cell_label, subject_label=None) for sample in dataset.samples]
    rows = table_rows(samples, folder, {})
    if any(sample.label is not None for sample in samples):
        return rows
    return [[row[0], *row[2:]] for row in rows]


# ---- drawings --------------------------------------------------------------------------------------------------------


def _cells_shown(
    suspects: Sequence[Suspect], twins: Mapping[str, Sequence[_Twins]], voices: Mapping[str, Sequence[CellVoice]]
) -> dict[str, list[tuple[str, str]]]:
    """By patient, the names of the cells that are drawn, and what is said of each."""
    found = {}
    for one in suspects:
        voiced = voices.get(one.name, ())
        shown = []
        for each in twins.get(one.name, ()):
            pairs = sorted((bits, cell, other) for cell, (bits, other) in each.cells.items())
            for _, cell, other in pairs[: _PAIRS_SHOWN if voiced else ACROSS // 2]:
                shown += [(cell, f"{one.name}, {one.label}"), (other, f"{each.other}, {each.label}")]
        known = {cell for cell, _ in shown}
        shown += [
            (voice.cell, f"{one.name}, {one.label}: {one.suggestion} {voice.suggestion:.2f}")
            for voice in voiced
            if voice.cell not in known
        ]
        found[one.name] = shown[:ACROSS]
    return found


def _tiles(
    shown: Mapping[str, Sequence[tuple[str, str]]], dataset: Dataset, progress: Progress | None
) -> Iterator[Tile]:
    """A row of tiles a patient: its cells, and room where it has fewer."""
    samples = {dataset.name_of(sample): sample for sample in dataset.samples}
    total, done = sum(map(len, shown.values())), 0
    for own in shown.values():
        for cell, title in own:
            yield _tile(samples[cell], cell, title)
            done += 1
            if progress is not None:
                progress("drawing", done, total, 0)
        for _ in range(ACROSS - len(own)):
            yield Tile(np.full((SIDE, SIDE, 3), 255, np.uint8), "", "")


def _tile(sample: Sample, name: str, title: str) -> Tile:
    try:
        rgb = decode_image(read_bytes(sample.path))
        return Tile(with_contours(rgb, make_cell(rgb, sample.read_mask())), title, name)
    except CellError as error:
        return Tile(None, error.what, name)
