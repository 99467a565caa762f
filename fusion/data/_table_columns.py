"""What the columns of a table are: those that are used, those that look as if they should be, and words for unknown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from fusion.data._dataset_error import DatasetError
from fusion.data.column_names import COLUMNS, looks_like, role_unused
from fusion.data.subjects import check_spelling
from fusion.data.table_files import Rows
from fusion.errors import did_you_mean
from fusion.settings.data import ReadingSettings

Values = dict[str, list[str | None]]

#: Without letters or digits, and these: nothing is known.
_MISSING = frozenset(
    ["NA", "N/A", "n/a", "NaN", "nan", "NAN", "None", "null", "NULL", "NaT", "n.a.", "N.A.", "#N/A", "#NA", "<NA>"]
).union(["#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#ERROR!", "#SPILL!", "#CALC!"])  # failed formulas
#: Nothing is known either, unless the column is one of words: Nan and Na are names, none may be a class.
_DOUBTFUL = frozenset(["Nan", "Na", "na", "Null", "nil", "none", "NONE", "n.A."])
#: Taken as they stand, with a word.
_UNKNOWN = frozenset(["unknown", "unk", "missing", "undefined", "unspecified", "unclear"])
_HAS_SIGN = re.compile(r"\w")
_DECIMAL = re.compile(r"\d+\.\d+", re.ASCII)
_ROUNDED = re.compile(r"\d(\.\d+)?E\+\d+", re.ASCII | re.IGNORECASE)
_IS_WORD = re.compile(r"[^\W\d_]+([ .'-]+[^\W\d_]+)*\.?")
_SHOWN = 12
#: Whose names mean the same wherever they stand, and lose nothing without the blanks around them.
_SHARED_NAMES = ("label", "fold", "subject_label")


def read_columns(file: Path, rows: Rows, reading: ReadingSettings, *, is_lenient: bool) -> tuple[Values, list[str]]:
    """The values of every column that is used, None where nothing is known, and what should be known about the rest.

    Parameters
    ----------
    file : for messages.
    rows : the table.
    reading : what the user says of its columns.
    is_lenient : whether a column that the user names may be lacking, as in the second of two tables.

    Raises
    ------
    DatasetError : no column ``path``, or one that looks as if it should be used and is not.
    """
    places = _places(file, rows, reading, is_lenient=is_lenient)
    texts = {role: [row[at] for row in rows.fields] for role, at in places.items()}
    values, notes = {}, []
    unknown = []
    for role, column in texts.items():
        values[role], missing, remarks = known_values(file, rows.columns[places[role]], role, column, reading)
        unknown += missing
        notes += remarks
    for role in ("label", "subject", "group", "fold", "source", "subject_label"):
        if role in values:
            check_rounded(file, role, values[role])
            values[role], remarks = whole_numbers(file, role, values[role])
            notes += remarks
    if rows.padded and "label" in places and (padded := rows.padded[places["label"]]):
        notes.append(f"{file.name}: blanks around a label are left out: '{padded[0]}' is written with and without.")
    _check_spellings(file, rows, places, values)
    if unknown:
        notes.insert(0, f"{file.name}: unknown is {'; '.join(unknown)}.")
    unused = [at for at in range(len(rows.columns)) if at not in places.values()]
    displaced = {role for role, name in reading.columns.items() if role in rows.columns and name != role}
    asked = [at for at in unused if rows.columns[at] not in {*reading.ignore_columns, *displaced}]
    _check_unused(file, rows, asked, values)
    if asked:
        names = [rows.columns[at] for at in asked]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        notes.append(f"{file.name}: columns not used: {', '.join(names[:_SHOWN])}{more}.")
    return values, notes


# ---- which column is which ------------------------------------------------------------------------------------------


def _places(file: Path, rows: Rows, reading: ReadingSettings, *, is_lenient: bool) -> dict[str, int]:
    """Place of every column that is used."""
    _check_named(file, rows, reading, is_lenient=is_lenient)
    given = {role: name for role, name in reading.columns.items() if name in rows.columns}
    names = {role: role for role in COLUMNS} | given
    ignored = set(reading.ignore_columns) - set(given.values())
    places = {
        role: rows.columns.index(name) for role, name in names.items() if name in rows.columns and name not in ignored
    }
    if "path" not in places:
        raise _without_path(file, rows)
    return places


def _check_named(file: Path, rows: Rows, reading: ReadingSettings, *, is_lenient: bool) -> None:
    """Refuse roles that there are not, and names of columns that the table lacks."""
    if strange := [role for role in reading.columns if role not in COLUMNS]:
        raise DatasetError(
            f"--columns has no '{strange[0]}'",
            expected=f"{', '.join(COLUMNS)}, each with the table's own name for it",
            do=did_you_mean(strange[0], COLUMNS),
        )
    named = [*reading.columns.values(), *reading.ignore_columns]
    gone = [name for name in named if name not in rows.columns]
    if gone and not is_lenient:
        raise DatasetError(
            f"no column '{gone[0]}' in {file}",
            found=", ".join(rows.columns),
            do=did_you_mean(gone[0], rows.columns) or "Name a column of the table: --columns, --ignore-columns.",
        )


def _without_path(file: Path, rows: Rows) -> DatasetError:
    like = {role: next((name for name in rows.columns if looks_like(name) == role), None) for role in COLUMNS}
    if like["path"] is not None:
        # All that a reader would ask about next, at once.
        said = [(role, name) for role, name in like.items() if name is not None and role not in rows.columns]
        remedy = f"Say --columns {','.join(f'{role}={quote(name)}' for role, name in said)}."
    else:
        is_cnmc = "new_names" in rows.columns
        remedy = "This is C-NMC's list: give the folder of its images as DATA." if is_cnmc else ""
        if not is_cnmc and any(looks_like(name) == "subject" for name in rows.columns):
            remedy = f"If it has a row a patient, give the images as DATA, and this as --patients {quote(str(file))}."
    return DatasetError(
        f"no column 'path' in {file}",
        found=", ".join(rows.columns),
        expected=f"path and any of {', '.join(COLUMNS[1:])}",
        do=remedy,
    )


def _check_unused(file: Path, rows: Rows, unused: Sequence[int], values: Values) -> None:
    """Refuse columns that look as if they said who a cell is from, or what it is, and are not used."""
    found: list[tuple[str, str]] = []
    for at in unused:
        name = rows.columns[at]
        column = [row[at] if _is_known(row[at]) else None for row in rows.fields]
        role = role_unused(name, column, values)
        if role and any(column) and not _is_harmless(role, column, values):
            found.append((name, role))
    if not found:
        return
    offers: dict[str, str] = {}
    for name, role in found:
        offers.setdefault(role, name)
    pairs = ",".join(f"{role}={quote(name)}" for role, name in offers.items() if role not in values)
    names = ",".join(quote(name) for name, _ in found)
    is_taken = [role for role in offers if role in values]
    ignore = f"--ignore-columns {names} where that is on purpose"
    use = f"Say --columns {pairs}, or" if pairs else f"The column '{is_taken[0]}' is used, too: say"
    raise DatasetError(
        f"columns of {file} look as if they should be used, and are not"
        if len(found) > 1
        else f"a column of {file} looks as if it should be used, and is not",
        found=", ".join(f"'{name}', which looks like '{role}'" for name, role in found),
        expected=f"columns called {', '.join(COLUMNS)}",
        do=f"{use} {ignore}.",
    )


def _is_harmless(role: str, column: Sequence[str | None], values: Values) -> bool:
    """Whether nothing would change if the column were used: what it joins or says is joined or said already."""
    if role in {"subject", "group"}:
        return _says(_units(values), column)
    if role in {"fold", "mask", "um_per_px"}:
        return role in values
    return role in values and _says(column, values[role], ignoring_unknown=True)


def _says(first: Sequence[object], second: Sequence[object], *, ignoring_unknown: bool = False) -> bool:
    """Whether rows that are alike in ``second`` are alike in ``first``."""
    seen: dict[object, object] = {}
    return all(
        seen.setdefault(key, value) == value
        for value, key in zip(first, second, strict=True)
        if key is not None and not (ignoring_unknown and value is None)
    )


def _units(values: Values) -> list[object]:
    """Of every row what stays together by the columns that are used: a subject, a group, or the image alone."""
    count = len(values["path"])
    root: dict[object, object] = {}

    def top(one: object) -> object:
        while root.get(one, one) != one:
            one = root[one]
        return one

    nothing: list[str | None] = [None] * count
    found: list[object] = []
    for path, subject, group in zip(
        values["path"], values.get("subject", nothing), values.get("group", nothing), strict=True
    ):
        ties: list[tuple[str, str | None]] = [
            (kind, name) for kind, name in (("s", subject), ("g", group)) if name is not None
        ] or [("p", path)]
        if len(ties) == 2 and top(ties[0]) != top(ties[1]):
            root[top(ties[0])] = top(ties[1])
        found.append(ties[0])
    return [top(one) for one in found]


# ---- numbers --------------------------------------------------------------------------------------------------------


def _check_spellings(file: Path, rows: Rows, places: dict[str, int], values: Values) -> None:
    """Refuse names of people, groups, sources, classes and folds that may be one name spelt twice."""
    sources = values.get("source", [None] * len(rows.fields))
    for role in ("source", "subject", "group", "label", "fold", "subject_label"):
        column = values.get(role)
        if column is None:
            continue
        # A blank behind a class is a slip of the pen, whoever made it; behind an id it may be part of it.
        padded = rows.padded[places[role]] if rows.padded and role not in _SHARED_NAMES else ()
        first = [column.index(value) for value in padded if value in column]
        names = [*column, *(f" {column[at]}" for at in first)]
        is_of_all = role in ("source", *_SHARED_NAMES)
        of = [None] * len(names) if is_of_all else [*sources, *(sources[at] for at in first)]
        check_spelling(role, names, of, file.name)


def check_rounded(file: Path, role: str, column: Sequence[str | None]) -> None:
    """Refuse ids as spreadsheets show long numbers: 1.23457E+11 stands for a million of them."""
    if found := next((value for value in column if value and _ROUNDED.fullmatch(value)), None):
        raise DatasetError(
            f"the {role}s of {file.name} are numbers that a spreadsheet has rounded",
            found=found,
            expected="ids with all of their digits",
            do=f"Take them from where they are whole, and keep the column {role} as text.",
        )


def whole_numbers(file: Path, role: str, column: Sequence[str | None]) -> tuple[list[str | None], list[str]]:
    """12 for 12.0, as Parquet has it; unless the column has fractions too, and 1.0 stands beside 1.1."""
    spelt = {value for value in column if value and _DECIMAL.fullmatch(value)}
    whole = {value: value.partition(".")[0] for value in sorted(spelt) if not value.partition(".")[2].strip("0")}
    if not whole or len(whole) < len(spelt):
        return list(column), []
    first = next(iter(whole))
    read = [whole.get(value, value) if value else value for value in column]
    return read, [f"{file.name}: {role} {first} is read as {whole[first]}, and others likewise."]


# ---- what is unknown ------------------------------------------------------------------------------------------------


def _is_known(value: str) -> bool:
    return value not in _MISSING and _HAS_SIGN.search(value) is not None


def known_values(
    file: Path, name: str, role: str, column: Sequence[str], reading: ReadingSettings
) -> tuple[list[str | None], list[str], list[str]]:
    """The values of one column; its words for unknown, counted; and remarks."""
    counts = Counter(column)
    if role in ("label", "subject_label") and "+" in counts and "-" in counts:
        raise DatasetError(
            f"column '{name}' of {file} has + and -",
            found=f"+ in {counts['+']} rows, - in {counts['-']}",
            expected="names of classes; - stands for unknown elsewhere",
            do="Write positive and negative.",
        )
    missing = _missing_words(role, counts, reading)
    words = [f"{repr(value) if value else 'empty'} ({counts[value]})" for value in sorted(missing)]
    remarks = []
    if role in {"label", "subject", "group", "source", "subject_label"}:
        remarks = [
            f"{file.name}: '{value}' in column {name} ({counts[value]} rows) is taken as it stands; if it says that "
            f"nothing is known, say --set missing={value}."
            for value in counts
            if value not in missing and (value.lower() in _UNKNOWN or value in _DOUBTFUL)
        ]
    values = [None if value in missing else value for value in column]
    return values, [f"{name}: {', '.join(words)} of {len(column)} rows"] if words else [], remarks


def _missing_words(role: str, values: Iterable[str], reading: ReadingSettings) -> set[str]:
    """Those of a column's values that say that nothing is known."""
    every = set(values)
    missing = {value for value in every if value in reading.missing or not (value == "+" or _is_known(value))}
    is_of_words = any(_IS_WORD.fullmatch(value) for value in every - _MISSING - _DOUBTFUL)
    return missing if is_of_words or role == "path" else missing | (every & _DOUBTFUL)
