"""Values of columns of the table that a data set is, for each of its cells: what subgroups are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fusion.data.column_names import COLUMNS
from fusion.data.dataset import Dataset, Sample
from fusion.data.patient_table import PatientTable, read_patients
from fusion.data.subjects import format_subject, identities
from fusion.data.table_files import TABLES, Rows, read_rows
from fusion.data.units import Units
from fusion.errors import UsageError, did_you_mean
from fusion.io.remote_path import join
from fusion.settings.data import ReadingSettings

#: Columns that cells have whatever their data set is.
OWN = ("source", "fold")

#: Image and mask, or image alone -> the values of the rows that name them.
_Values = dict[tuple[Path, Path | None], set[str | None]]


def check_columns(file: Path, reading: ReadingSettings, wanted: Sequence[str]) -> None:
    """UsageError for a column that neither the data set nor the table of its patients has; before anything is measured.

    Parameters
    ----------
    file : the data set.
    reading : how it is read: what its columns are called, and the table of its patients.
    wanted : names of columns.
    """
    patients = _patients(reading) if {*wanted} - {*OWN} else None
    for name in wanted:
        if name not in OWN and not (patients is not None and name in patients.values):
            _column(file, reading.columns, name)


def cell_column(file: Path, reading: ReadingSettings, dataset: Dataset, cells: Units, name: str) -> list[str | None]:
    """n values, one a cell or, where these are judged, a subject; None where it is empty or of another data set.

    Parameters
    ----------
    file, reading : as for ``check_columns``.
    dataset, cells : as they were read from it.
    name : of the column; "source" and "fold" are those of the cells. A column of the table of patients comes first.

    Raises
    ------
    UsageError : no such column, or two values for one cell or subject.
    """
    if name in OWN:
        return list(cells.sources if name == "source" else cells.folds)
    if (patients := _patients(reading)) is not None and name in patients.values:
        return _of_patients(patients, name, cells)
    values = _values_by_cell(_column(file, reading.columns, name))
    who = identities(list(dataset.each("subject")), list(dataset.each("source")))
    of_subjects = dataset.unit == "subject"
    by_name: dict[str, set[str | None]] = {}
    for sample, subject in zip(dataset.samples, who, strict=True):
        unit = format_subject(subject) if of_subjects and subject is not None else dataset.name_of(sample)
        by_name.setdefault(unit, set()).update(_values_of(sample, values))
    for unit, found in by_name.items():
        if len(found) > 1:
            both = " and ".join(sorted(map(str, found))[:2])
            raise UsageError(f"--by {name} has two values for {unit}", found=both)
    return [next(iter(by_name.get(unit, {None}))) for unit in cells.names]


def _patients(reading: ReadingSettings) -> PatientTable | None:
    return None if reading.patients is None else read_patients(reading.patients, reading)


def _of_patients(patients: PatientTable, name: str, cells: Units) -> list[str | None]:
    """The value of its patient for each unit, None where the table does not have that."""
    places, values = patients.places(), patients.values[name]
    at = [
        None if subject is None else patients.place_of(places, subject, source)
        for subject, source in zip(cells.subjects, cells.sources, strict=True)
    ]
    return [None if place is None else values[place] for place in at]


def unused_columns(file: Path, called: Mapping[str, str], dataset: Dataset) -> dict[str, list[str | None]]:
    """Columns of the table that Fusion makes nothing of, by name: n values, one a cell, None where it has none, or two.

    Empty for a data set that is no table. ``called`` tells what its columns are called, by what they are.
    """
    if file.suffix.lower() not in TABLES:
        return {}
    rows = read_rows(file)
    used = {*COLUMNS, *(called.get(role, role) for role in COLUMNS)}
    found = {}
    for name in rows.columns:
        if name in used:
            continue
        values = _values_by_cell(_values_of_rows(file, rows, called, name))
        each = (_values_of(sample, values) for sample in dataset.samples)
        found[name] = [next(iter(own)) if len(own) == 1 else None for own in each]
    return found


def _values_by_cell(rows: Iterable[tuple[Path, Path | None, str | None]]) -> _Values:
    values: _Values = {}
    for path, mask, value in rows:
        for key in {(path, mask), (path, None)}:
            values.setdefault(key, set()).add(value)
    return values


def _values_of(sample: Sample, values: _Values) -> set[str | None]:
    return values.get((sample.path, sample.mask_path), values.get((sample.path, None), {None}))


def _column(file: Path, called: Mapping[str, str], name: str) -> list[tuple[Path, Path | None, str | None]]:
    """Path, mask and value of every row."""
    if file.suffix.lower() not in TABLES:
        raise UsageError(
            f"--by {name} is a column of a table, and {file} is none",
            expected=f"{' or '.join(OWN)}, or a CSV or Parquet table as DATA",
        )
    rows = read_rows(file)
    if name not in rows.columns:
        raise UsageError(
            f"--by names no column of {file}",
            found=name,
            expected=", ".join(rows.columns),
            do=did_you_mean(name, rows.columns),
        )
    return _values_of_rows(file, rows, called, name)


def _values_of_rows(
    file: Path, rows: Rows, called: Mapping[str, str], name: str
) -> list[tuple[Path, Path | None, str | None]]:
    place = rows.columns.index(name)
    path = rows.columns.index(called.get("path", "path"))
    mask = called.get("mask", "mask")
    at_mask = rows.columns.index(mask) if mask in rows.columns else None
    return [
        (
            join(file.parent, row[path]),
            join(file.parent, row[at_mask]) if at_mask is not None and row[at_mask] else None,
            row[place] or None,
        )
        for row in rows.fields
    ]
