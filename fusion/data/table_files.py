"""The text of a table's fields: encodings, separators and what spreadsheets add, read where they are certain."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from fusion.data._dataset_error import DatasetError
from fusion.io.files import printable
from fusion.io.remote_path import Remote

#: Endings of tables, compared in lower case.
TABLES = (".csv", ".tsv", ".parquet")

_SEPARATORS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
#: How files begin that are called .csv by mistake.
_OTHERS = {
    b"PK\x03\x04": "an Excel or zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"PAR1": "a Parquet file",
}
#: How files begin that hold others, packed, and what they are called; and their usual endings.
_PACKED = {
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"7z\xbc\xaf": "a 7-zip file",
}
_OF_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z")
#: Rows below a first one without a path in which the header is looked for.
_HEADERS = 50
#: Bytes of a header that is looked at before the table is read.
_HEAD = 8192


@dataclass(frozen=True)
class Rows:
    """A table as text.

    Attributes
    ----------
    columns : names, each once.
    fields : a list of texts a row, as many as there are columns, without blanks around them.
    lines : the line of the file that each row ends in, for messages.
    separator : between the fields; "" where the file has none.
    notes : what was taken otherwise than it stands there, one line each.
    padded : for each column the values that have blanks around them in some rows, and none in others.
    """

    columns: tuple[str, ...]
    fields: list[list[str]]
    lines: list[int]
    separator: str = ""
    notes: tuple[str, ...] = ()
    padded: tuple[tuple[str, ...], ...] = ()


def read_rows(file: Path) -> Rows:
    """All rows as text; numbers keep their spelling, so that subject 007 is not subject 7.

    Raises
    ------
    DatasetError : it is no table, or it cannot be told how it is meant.
    """
    ending = file.suffix.lower()
    if ending not in TABLES:
        remedy = "Save the sheet as CSV (UTF-8)." if ending in {".xlsx", ".xls", ".ods", ".xlsm", ".numbers"} else ""
        raise DatasetError(
            f"{file} is not a data set",
            found=f"a file ending in {ending}, which is packed" if ending in _OF_PACKED else "",
            expected="a folder, an image, or a .csv, .tsv or .parquet table",
            do="Unpack it, and give what was in it." if ending in _OF_PACKED else remedy,
        )
    return _parquet_rows(file) if ending == ".parquet" else _text_rows(file)


def read_header(file: Path) -> tuple[str, ...]:
    """Names of the columns of a CSV or TSV file, after a look at its beginning; none where that is no text."""
    if isinstance(file, Remote):
        start = file.head(_HEAD)
    else:
        with file.open("rb") as stream:
            start = stream.read(_HEAD)
    if len(start) == _HEAD:  # a character may be cut in two, never a line break of ours
        start = start[: start.rfind(b"\n") + 1] or start
    try:
        text, _ = _decode(start, file)
        text, _, separator, _ = _separated(text, file)
        first = next(csv.reader(StringIO(text, newline=""), delimiter=separator), [])
    except (DatasetError, csv.Error):
        return ()
    return tuple(name.strip() for name in first)


# ---- Parquet --------------------------------------------------------------------------------------------------------


def _parquet_rows(file: Path) -> Rows:
    import pandas as pd

    try:
        frame = pd.read_parquet(file.open("rb") if isinstance(file, Remote) else file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    if any(name is not None for name in frame.index.names):  # a column that pandas was told to take for an index
        frame = frame.reset_index()
    texts = frame.astype(object).where(frame.notna(), "").map(_as_text)
    columns = _names([str(name).strip() for name in frame.columns], file)
    fields = [[str(value).strip() for value in row] for row in texts.itertuples(index=False, name=None)]
    return Rows(columns, fields, list(range(1, len(fields) + 1)))


def _as_text(value: object) -> str:
    # Parquet keeps types: a subject column with gaps arrives as 12.0, and means 12.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# ---- text -----------------------------------------------------------------------------------------------------------


def _text_rows(file: Path) -> Rows:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    text, decoded = _decode(data, file)
    text, skipped, separator, commented = _separated(text, file)
    header, fields, lines, odd, padded = _table(text, separator, skipped, file)
    kept = [at for at, name in enumerate(header) if name or any(row[at] for row in fields)]
    if len(kept) < len(header):
        fields = [[row[at] for at in kept] for row in fields]
    names = [header[at] or f"column {at + 1}" for at in kept]
    in_two_ways = tuple(_in_two_ways(padded[at], (row[place] for row in fields)) for place, at in enumerate(kept))
    notes = (*decoded, *commented, *_oddities(odd, file))
    return Rows(_names(names, file), fields, lines, separator, notes, in_two_ways)


class _Table(NamedTuple):
    """A table as it stands in the text: ``odd`` rows are counted by kind, values with blanks around them by column."""

    header: list[str]
    fields: list[list[str]]
    lines: list[int]
    odd: Counter[str]
    padded: defaultdict[int, Counter[str]]


def _table(text: str, separator: str, skipped: int, file: Path) -> _Table:
    """The header and the rows below it, each as wide; ``skipped`` lines of the file come before the text."""
    table = _Table([], [], [], Counter(), defaultdict(Counter))
    for line, raw in _records(text, separator, file):
        row = [field.strip() for field in raw]
        for at, field in enumerate(row):
            if field and len(field) < len(raw[at]):
                table.padded[at][field] += 1
        if not any(field.strip("".join(_SEPARATORS)) for field in row):
            # What spreadsheets leave below a table that was longer once; a line without anything needs no word.
            table.odd["empty"] += any(row) or len(row) > 1
        elif not table.header:
            # Marks that show nothing, as some programs leave before the first name.
            table.header.extend(re.sub("[\ufeff\u200b-\u200f\u2060]", "", name).strip() for name in row)
        else:
            if len(table.fields) < _HEADERS:
                _check_header(table.header, row, line + skipped, file)
            width = len(table.header)
            table.odd["short"] += len(row) < width
            table.odd["long"] += len(row) > width
            table.fields.append(_fitted(row, width, line + skipped, separator, file))
            table.lines.append(line + skipped)
    return table


def _check_header(header: list[str], row: list[str], line: int, file: Path) -> None:
    """Refuse a row that is the header where the first one is none: a title stands above the table."""
    if _has_path(row) and not _has_path(header):
        raise DatasetError(
            f"the header of {file} is not its first line",
            found=f"'{printable(' '.join(filter(None, header)))[:60]}' above line {line}, which has the column path",
            do="Take the lines above it out, or begin each with #.",
        )


def _has_path(fields: Iterable[str]) -> bool:
    return any(field.lower() == "path" for field in fields)


def _in_two_ways(padded: Counter[str], column: Iterable[str]) -> tuple[str, ...]:
    """Values that stand in a column with blanks around them, so many times, and without."""
    counts = Counter(value for value in column if value in padded) if padded else {}
    return tuple(value for value, count in padded.items() if count < counts[value])


def _records(text: str, separator: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of every record."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DatasetError(
            f"{file} cannot be read as a table",
            found=f"line {reader.line_num}: {error}",
            do="A field that holds quotes has them twice, and is in quotes.",
        ) from error


def _fitted(row: list[str], width: int, line: int, separator: str, file: Path) -> list[str]:
    """The fields of a row, as many as the header has: what is missing at the end is empty, and so is what is too much.

    Raises
    ------
    DatasetError : something stands beyond the last column.
    """
    if any(row[width:]):
        hint = "A field that holds the separator is in quotes"
        raise DatasetError(
            f"line {line} of {file} has more fields than the header",
            found=f"{len(row)}: {separator.join(row)[:80]}",
            expected=str(width),
            do=f"{hint}; a number with a decimal comma, too." if separator == "," else f"{hint}.",
        )
    return row[:width] + [""] * (width - len(row))


def _oddities(odd: Counter[str], file: Path) -> list[str]:
    words = {
        "empty": "left out, with nothing in any field",
        "long": "with more separators at the end than the header, and nothing behind them",
        "short": "with fewer fields than the header: what is missing at the end is taken as empty",
    }
    return [f"{file.name}: {_rows(odd[kind])} {said}." for kind, said in words.items() if odd[kind]]


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _decode(data: bytes, file: Path) -> tuple[str, list[str]]:
    """The text, and a note where its encoding is not the usual one.

    Raises
    ------
    DatasetError : it is no text, or in an encoding that cannot be told.
    """
    for start, kind in _OTHERS.items():
        if data.startswith(start):
            raise DatasetError(f"{file} cannot be read as a table", found=kind, do="Save it as CSV (UTF-8).")
    if packed := next((kind for start, kind in _PACKED.items() if data.startswith(start)), ""):
        raise DatasetError(f"{file} cannot be read as a table", found=packed, do="Unpack it, and give what was in it.")
    mark, encoding = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), (b"", ""))
    head = data[:400]
    if not mark and b"\0" in head:
        # Every other byte of English text in UTF-16 is zero.
        encoding = "utf-16-le" if not any(head[1::2]) else "utf-16-be" if not any(head[::2]) else ""
        if not encoding:
            raise DatasetError(f"{file} cannot be read as a table", found="zero bytes, which no text has")
    try:
        text = data[len(mark) :].decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise _unreadable(file, error) from error
        return _decode_western(data, file)
    notes = [f"{file.name} is read as {encoding.upper()}."] if encoding not in ("", "utf-8") else []
    return text, notes


def _decode_western(data: bytes, file: Path) -> tuple[str, list[str]]:
    """Text that is no UTF-8, as Windows writes it in western Europe. No two words become one by this, whatever they
    were.

    Raises
    ------
    DatasetError : bytes that stand for nothing there.
    """
    remedy = "Save it as CSV UTF-8."
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(
            f"{file} cannot be read as a table", found=f"line {line} is neither UTF-8 nor Windows-1252", do=remedy
        ) from error
    word = next(part for part in text.replace(",", " ").replace(";", " ").split() if not part.isascii())
    return text, [f"{file.name} is not UTF-8 and is read as Windows-1252: '{printable(word)[:40]}'. {remedy}"]


def _separated(text: str, file: Path) -> tuple[str, int, str, list[str]]:
    """The text without comments above the header and a first line that names its separator; how many lines that are;
    the separator; and a note on comments."""
    text, above, notes = _without_comments(text, file)
    text, named, separator = _named_separator(text, file)
    if named and not notes:
        text, below, notes = _without_comments(text, file)
        above += below
    return text, above + named, separator, notes


def _without_comments(text: str, file: Path) -> tuple[str, int, list[str]]:
    """The text without lines above the header that begin with #; how many these are; and a note on them. A header that
    begins with # itself is one, and stays."""
    if not text.lstrip(' \t\r\n"').startswith("#"):  # almost every table, and some have a million lines
        return text, 0, []
    lines = re.split(r"(\r\n|\r|\n)", text)  # every other one is a line's end
    count = 0
    for line in lines[::2]:
        if line.strip() and not line.lstrip(' \t"').startswith("#"):
            break
        count += 1
    comments = [line for line in lines[: 2 * count : 2] if line.strip()]
    if not comments or count == len(lines[::2]):
        return text, 0, []
    header = re.sub(r'[ \t]*("?)[# \t]*', r"\1", lines[2 * count - 2], count=1)
    if _has_path(field.strip(' "') for field in re.split(r"[,;\t|]", header)):
        rest = "".join([header, *lines[2 * count - 1 :]])
        notes = [f"{file.name}: the header is the line that begins with #."]
        comments, count = comments[:-1], count - 1
    else:
        rest, notes = "".join(lines[2 * count :]), []
    if comments:
        first = printable(comments[0].strip())[:40]
        notes.append(f"{file.name}: comments above the header are left out: {_rows(len(comments))}, such as '{first}'.")
    return rest, count, notes


def _named_separator(text: str, file: Path) -> tuple[str, int, str]:
    """The text without a first line that names its separator, how many lines that are, and the separator."""
    first, *rest = re.split(r"\r\n|\r|\n", text, maxsplit=1)
    named = first.strip().strip('"').lower()
    if named.startswith("sep=") and len(first.strip().strip('"')) == 5:
        return "".join(rest), 1, first.strip().strip('"')[4]
    if first.strip().lower() == "sep=":  # a tab, of which the blanks were just taken away
        return "".join(rest), 1, "\t"
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    header = next((line for line in text.splitlines() if line.strip()), "")
    fields: dict[str, list[str]] = {}
    for separator in (usual, *(each for each in _SEPARATORS if each != usual)):
        try:
            fields[separator] = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        except csv.Error:
            continue
    best = max(fields, key=lambda each: ("path" in fields[each], len(fields[each]) > 1), default=usual)
    return text, 0, best


def _names(columns: list[str], file: Path) -> tuple[str, ...]:
    """The names; DatasetError where two columns have the same one."""
    for name, count in Counter(columns).items():
        if count > 1:
            places = [str(at) for at, other in enumerate(columns, 1) if other == name]
            raise DatasetError(
                f"{count} columns of {file} are called '{name}'",
                found=f"columns {', '.join(places)}",
                expected="every name once",
                do="Rename or remove one of them.",
            )
    return tuple(columns)


def _unreadable(file: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{file} cannot be read as a table", found=" ".join(str(error).split())[:300])
