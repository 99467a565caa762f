"""A table with a row a patient beside the images: class, site and fold of each, joined to its cells by its id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from fusion.data._dataset_error import DatasetError
from fusion.data._table_columns import check_rounded, known_values, whole_numbers
from fusion.data.column_names import looks_like, may_be_label, role_unused
from fusion.data.readers import Listed, as_columns
from fusion.data.subjects import canonical, check_spelling
from fusion.data.table_files import Rows, read_rows
from fusion.errors import did_you_mean
from fusion.io.record_columns import Columns
from fusion.settings.data import ReadingSettings

#: What a column of the table can be, by the name that it has or that ``patient_columns`` gives it.
ROLES = ("subject", "label", "source", "fold")
#: Role -> what it is of the patient's cells.
_OF_CELLS = {"label": "subject_label", "source": "source", "fold": "fold"}
#: Patients that a note names.
_SHOWN = 3


@dataclass(frozen=True)
class Patient:
    """A row: what is said of a patient, None where nothing is."""

    subject: str
    label: str | None = None
    source: str | None = None
    fold: str | None = None


@dataclass(frozen=True)
class PatientTable:
    """The patients of a table.

    Attributes
    ----------
    file : the table.
    patients : in its order, each once.
    values : what the table says beside: name of a column -> a value a patient, None where it is empty.
    notes : what should be known about it, one line each.
    """

    file: Path
    patients: tuple[Patient, ...]
    values: Mapping[str, tuple[str | None, ...]]
    notes: tuple[str, ...] = ()

    def places(self) -> dict[str, list[int]]:
        """Which patients have an id, however it is spelt: of several sources there may be several."""
        found: dict[str, list[int]] = {}
        for at, patient in enumerate(self.patients):
            found.setdefault(canonical(patient.subject), []).append(at)
        return found

    def place_of(self, places: Mapping[str, list[int]], subject: str, source: str | None) -> int | None:
        """Which patient this one is, None where it is none of the table.

        Raises
        ------
        DatasetError : one of several sources, and nobody says which.
        """
        among = places.get(canonical(subject), [])
        if source is not None:
            named = {canonical(source), None}
            among = [at for at in among if _canonical(self.patients[at].source) in named]
        if len(among) > 1:
            raise DatasetError(
                f"which patient of {self.file} an image is of is not certain",
                found=f"subject {subject} of no source, and {subject} of "
                + " and of ".join(str(self.patients[at].source) for at in among[:2]),
                do="Say which source the images are from: a column 'source' of theirs, or --set source=NAME.",
            )
        return among[0] if among else None


def read_patients(file: Path, reading: ReadingSettings) -> PatientTable:
    """The patients of a table with a ``subject`` and, where known, label, source and fold of each.

    Parameters
    ----------
    file : CSV, TSV or Parquet, a row a patient.
    reading : what the user says of its columns (``patient_columns``, ``ignore_columns``, ``missing``).

    Raises
    ------
    DatasetError : no such table, no column of ids, a column that looks as if it should be used and is not, or a
        patient of whom two rows say different things.
    """
    if not file.is_file():
        raise DatasetError(f"no table of patients: {file}", expected="a .csv, .tsv or .parquet file, a row a patient")
    rows = read_rows(file)
    places = _places(file, rows, reading)
    notes = list(rows.notes)
    values: dict[str, list[str | None]] = {}
    for role, at in places.items():
        column, unknown, remarks = known_values(file, rows.columns[at], role, [row[at] for row in rows.fields], reading)
        check_rounded(file, role, column)
        values[role], more = whole_numbers(file, role, column)
        notes += [*(f"{file.name}: unknown is {words}." for words in unknown), *remarks, *more]
    nothing: list[str | None] = [None] * len(rows.fields)
    sources = values.get("source", nothing)
    for role in ("source", *values):
        if role in values:
            check_spelling(role, values[role], sources if role == "subject" else nothing, file.name)
    unused = [at for at in range(len(rows.columns)) if at not in places.values()]
    _check_unused(file, rows, unused, values, reading)
    kept, remarks = _each_once(file, rows, values)
    others = {rows.columns[at]: tuple(rows.fields[row][at] or None for row in kept) for at in unused}
    if others:
        notes.append(f"{file.name}: columns not used: {', '.join(others)}.")
    patients = tuple(_patient(values, row) for row in kept)
    return PatientTable(file, patients, others, (*notes, *remarks))


def with_patients(
    listed: Columns[Listed], table: PatientTable, *, is_partial: bool
) -> tuple[Columns[Listed], list[str]]:
    """The images with what the table says of their patients, and notes on who is on one side alone.

    Parameters
    ----------
    is_partial : whether the images are one of several inputs, so that the table may know of patients without any.

    Raises
    ------
    DatasetError : no image names its patient, none of them is in the table, or images and table contradict each other.
    """
    who = list(dict.fromkeys(zip(listed.column("subject"), listed.column("source"), strict=True)))
    known = [(subject, source) for subject, source in who if subject is not None]
    if not known and not is_partial:
        raise DatasetError(
            f"{table.file} is of patients, and no image names its own",
            found=f"{len(listed)} images without a subject",
            do="Say where it stands: a column 'subject' of a table of images, or of folders --folders subject or "
            "label/subject.",
        )
    places = table.places()
    found = {one: at for one in known if (at := table.place_of(places, *one)) is not None}
    _check_one_source(table, found)
    if known and not found and not is_partial:
        raise DatasetError(
            f"no patient of the images is in {table.file}",
            found=f"{_named(subject for subject, _ in known)} beside {_named(each.subject for each in table.patients)} "
            "in the table",
            expected="the same ids in both",
        )

    def joined() -> Iterator[Listed]:
        for entry in listed:
            at = found.get((entry.subject, entry.source))
            yield entry if at is None else _joined(entry, table.patients[at], table.file)

    return as_columns(joined()), _remarks(table, known, found, is_partial=is_partial)


def _remarks(
    table: PatientTable,
    known: Sequence[tuple[str, str | None]],
    found: Mapping[tuple[str, str | None], int],
    *,
    is_partial: bool,
) -> list[str]:
    """Who is in the images alone, in the table alone, and spelt otherwise there."""
    name, notes = table.file.name, []
    if strangers := [subject for subject, source in known if (subject, source) not in found]:
        notes.append(f"{len(strangers)} of {len(known)} patients of the images are not in {name}: {_named(strangers)}.")
    used = set(found.values())
    without = [patient.subject for at, patient in enumerate(table.patients) if at not in used]
    if without and not is_partial:
        notes.append(f"{len(without)} of {len(table.patients)} patients of {name} have no image: {_named(without)}.")
    spelt = [(subject, table.patients[at].subject) for (subject, _), at in found.items()]
    if differ := [f"{own} for {subject}" for subject, own in spelt if own != subject]:
        notes.append(f"{len(differ)} patients are spelt otherwise in {name}, and taken for the same: {_named(differ)}.")
    return notes


def _joined(entry: Listed, patient: Patient, file: Path) -> Listed:
    """The entry with what is said of its patient; DatasetError where it says otherwise itself."""
    added: dict[str, Any] = {}
    for role, attribute in _OF_CELLS.items():
        said, own = getattr(patient, role), getattr(entry, attribute)
        if said is None or said == own:
            continue
        if own is not None and _canonical(own) != _canonical(said):
            raise DatasetError(
                f"{file} contradicts the images about subject {entry.subject}",
                found=f"{role} {said} in the table, {attribute} {own} of {entry.path.name}",
                expected=f"one {role} a patient",
                do="Mend one of both, or leave the column out with --ignore-columns.",
            )
        added[attribute] = said if own is None else own
    return replace(entry, **added) if added else entry


def _check_one_source(table: PatientTable, found: Mapping[tuple[str, str | None], int]) -> None:
    """Refuse a row that names no source, and may be of two people."""
    sources: dict[int, list[str | None]] = {}
    for (_, source), at in found.items():
        sources.setdefault(at, []).append(source)
    for at, among in sources.items():
        if len(among) > 1:
            raise DatasetError(
                f"which subject {table.patients[at].subject} of {table.file} is meant is not certain",
                found=f"subjects of that id in {' and '.join(str(each) for each in among[:2])}",
                expected="a column 'source' in the table of patients, where ids are given by several sources",
                do="Add it, or name it: --patient-columns source=NAME.",
            )


# ---- columns --------------------------------------------------------------------------------------------------------


def _places(file: Path, rows: Rows, reading: ReadingSettings) -> dict[str, int]:
    """Place of every column that is used."""
    if strange := [role for role in reading.patient_columns if role not in ROLES]:
        raise DatasetError(
            f"--patient-columns has no '{strange[0]}'",
            expected=f"{', '.join(ROLES)}, each with the table's own name for it",
            do=did_you_mean(strange[0], ROLES),
        )
    if gone := [name for name in reading.patient_columns.values() if name not in rows.columns]:
        raise DatasetError(
            f"no column '{gone[0]}' in {file}", found=", ".join(rows.columns), do=did_you_mean(gone[0], rows.columns)
        )
    names = {role: role for role in ROLES} | dict(reading.patient_columns)
    ignored = set(reading.ignore_columns) - set(reading.patient_columns.values())
    places = {role: rows.columns.index(name) for role, name in names.items() if name in rows.columns}
    places = {role: at for role, at in places.items() if rows.columns[at] not in ignored}
    if "subject" not in places:
        offers = _offers(rows.columns, ("subject", *(role for role in ROLES[1:] if role not in places)))
        raise DatasetError(
            f"no column 'subject' in {file}, the table of patients",
            found=", ".join(rows.columns),
            expected=f"subject and any of {', '.join(ROLES[1:])}",
            do=f"Say --patient-columns {','.join(offers)}." if offers else "Say --patient-columns subject=NAME.",
        )
    return places


def _offers(columns: Iterable[str], roles: Iterable[str]) -> list[str]:
    """``subject=pat_id``: for each role the first column that is called like it."""
    names = list(columns)
    like = {role: next((name for name in names if _is_like(name, role)), None) for role in roles}
    return [f"{role}={quote(name)}" for role, name in like.items() if name is not None]


def _is_like(name: str, role: str) -> bool:
    if role == "label":
        # bag_label, patient_class: what the whole is called stands in front of what it is
        return may_be_label(name) or looks_like(name.rpartition("_")[2]) == "label"
    return looks_like(name) == role


def _check_unused(
    file: Path, rows: Rows, unused: Sequence[int], values: Mapping[str, list[str | None]], reading: ReadingSettings
) -> None:
    """Refuse columns that look as if they said what a patient has, or where it is from, and are not used."""
    found: dict[str, str] = {}
    for at in unused:
        name, column = rows.columns[at], [row[at] or None for row in rows.fields]
        role = "label" if _is_like(name, "label") else role_unused(name, column, values)
        if role in ROLES and role not in values and any(column) and name not in reading.ignore_columns:
            found.setdefault(role, name)
    if not found:
        return
    pairs = ",".join(f"{role}={quote(name)}" for role, name in found.items())
    raise DatasetError(
        f"a column of {file} looks as if it should be used, and is not",
        found=", ".join(f"'{name}', which looks like '{role}'" for role, name in found.items()),
        expected=f"columns called {', '.join(ROLES)}",
        do=f"Say --patient-columns {pairs}, or --ignore-columns {','.join(map(quote, found.values()))} where that is "
        "on purpose.",
    )


def _each_once(file: Path, rows: Rows, values: Mapping[str, list[str | None]]) -> tuple[list[int], list[str]]:
    """The rows that are kept, one a patient, and what became of the others."""
    first: dict[tuple[str, str | None], int] = {}
    again = nameless = 0
    for row, line in enumerate(rows.lines):
        patient = _patient(values, row)
        if not patient.subject:
            nameless += 1
            continue
        at = first.setdefault((patient.subject, patient.source), row)
        again += at != row
        if (known := _patient(values, at)) != patient:
            role = next(role for role in ROLES if getattr(known, role) != getattr(patient, role))
            raise DatasetError(
                f"line {line} of {file} contradicts an earlier one about the same patient",
                found=f"subject {patient.subject} with {role} {getattr(known, role)} and {getattr(patient, role)}",
                expected="one row a patient; of people of two sources with one id, a column 'source'",
            )
    notes = [f"{file.name}: {nameless} rows name no subject, and are left out."] if nameless else []
    return list(first.values()), notes + (
        [f"{file.name}: rows of a patient that say the same as one before are left out: {again}."] if again else []
    )


def _patient(values: Mapping[str, list[str | None]], row: int) -> Patient:
    said = {role: values[role][row] for role in values}
    return Patient(said.pop("subject") or "", **said)


def _canonical(name: str | None) -> str | None:
    return None if name is None else canonical(name)


def _named(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")
