"""What files of features hold: tables (.parquet, .csv, .tsv), an AnnData (.h5ad) and arrays (.npz), as columns.

A text is read as tables of cells are (``fusion.data.table_files``): encodings, separators and packed files are told
in the same words. A number that cannot be read as one is refused, since its whole column would be taken for text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.data.column_names import is_numbering, looks_like, may_be_label
from fusion.data.table_files import read_rows
from fusion.errors import FusionError
from fusion.io.files import printable

#: Columns that number objects, or say where they are from, beside those whose names are of subjects, labels and the
#: like. CellProfiler numbers its images in the order of the folders, which are often the classes; joined tables have
#: the object's name in front: Image_Metadata_Well, Cells_Parent_Nuclei.
_NUMBERING = re.compile(
    r"(y|index|level_0|part|unnamed:.*|column \d+|imagenumber|objectnumber|tablenumber"
    r"|([a-z0-9]+_)?(number_object_number|object_number|group_index|group_number|parent_.*|metadata_.*"
    r"|executiontime_.*|moduleerror_.*|pathname_.*|filename_.*|url_.*|md5digest_.*))",
    re.IGNORECASE,
)
#: What stands where a feature is undefined.
_UNKNOWN = frozenset(["", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "none", "null", "-"])
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")


class OwnFeaturesError(FusionError):
    """A file of features of one's own cannot be read, or does not fit the cells."""


class Columns(NamedTuple):
    """What a file holds, column by column: numbers, and texts; ``numbering`` are numbers that are no features."""

    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, tuple[str, ...]]
    numbering: tuple[str, ...]
    rows: int


def read_columns(path: Path) -> Columns:
    """The columns of a file.

    Raises
    ------
    OwnFeaturesError : it cannot be understood.
    FusionError : a text that is no table.
    ImportError : AnnData is not installed.
    """
    return _READERS[path.suffix.lower()](path)


def is_no_feature(name: str) -> bool:
    """Whether a column says what a cell is, whose it is, or counts: never a feature, whatever is in it. Labels among
    the features are the oldest leak of all."""
    is_numbered = _NUMBERING.fullmatch(name) is not None or is_numbering(name)
    return is_numbered or may_be_label(name) or looks_like(name) is not None


# ---- text -----------------------------------------------------------------------------------------------------------


def _text(path: Path) -> Columns:
    rows = read_rows(path)
    if not rows.columns:
        raise OwnFeaturesError(f"{printable(path)} is empty", expected="a header, and a row a cell")
    if short := [note for note in rows.notes if "fewer fields" in note]:
        raise OwnFeaturesError(
            f"{printable(path)} has rows that are cut short",
            found=short[0].partition(": ")[2].partition(" have")[0] + " with fewer fields",
            expected=f"{len(rows.columns)} fields in every row",
        )
    texts = dict(zip(rows.columns, zip(*rows.fields, strict=True), strict=True)) if rows.fields else {}
    read = {name: _numbers(values) for name, values in texts.items()}
    if rows.separator != "," and not any("." in value for each in read.values() for value in each.some):
        read = {name: _with_commas(texts[name], each) for name, each in read.items()}
    return _columns(path, len(rows.fields), texts, read, rows.lines)


class _Read(NamedTuple):
    """Texts read as numbers: NaN where one is unknown or no number; the rows of the latter; some of the former."""

    values: NDArray[np.float64]
    wrong: list[int]
    some: list[str]


def _numbers(texts: Sequence[str]) -> _Read:
    values = np.full(len(texts), np.nan)
    wrong: list[int] = []
    some: list[str] = []
    for at, text in enumerate(texts):
        if text.lower() in _UNKNOWN:
            continue
        try:
            if "_" in text:  # Python's own spelling of thousands: cell 112_3 is not 1123
                raise ValueError
            values[at] = float(text)
        except ValueError:
            wrong.append(at)
        else:
            if len(some) < 100:
                some.append(text)
    return _Read(values, wrong, some)


def _with_commas(texts: Sequence[str], read: _Read) -> _Read:
    """Decimal commas, where every number of a column is written so and none of the file has a point."""
    if not read.wrong or not all(_DECIMAL_COMMA.fullmatch(texts[at]) for at in read.wrong):
        return read
    return _numbers([text.replace(",", ".") for text in texts])


def _columns(
    path: Path, rows: int, texts: Mapping[str, Sequence[str]], read: Mapping[str, _Read], lines: Sequence[int]
) -> Columns:
    numbers, others, numbering = {}, {}, []
    for name, each in read.items():
        known = rows - int(np.isnan(each.values).sum()) + len(each.wrong)
        if known and not each.wrong and not is_no_feature(name):
            numbers[name] = each.values
            continue
        if not is_no_feature(name) and each.wrong and 2 * len(each.wrong) < known:
            raise OwnFeaturesError(
                f"{printable(path)} has a text among the numbers of column '{printable(name)[:60]}'",
                found=f"{texts[name][each.wrong[0]][:40]!r} in line {lines[each.wrong[0]]}, "
                f"and {len(each.wrong) - 1} more",
                expected="numbers with a decimal point, and NaN or nothing where a feature is undefined",
            )
        if not known and not is_no_feature(name):
            raise OwnFeaturesError(f"{printable(path)} has a column without a value", found=f"'{printable(name)[:60]}'")
        numbering += [name] if known and not each.wrong else []
        others[name] = tuple(texts[name])
    return Columns(numbers, others, tuple(numbering), rows)


# ---- what has types -------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Columns:
    import pandas as pd
    from pandas.api.types import is_numeric_dtype

    frame = pd.read_parquet(path)
    if any(name is not None for name in frame.index.names) or not is_numeric_dtype(frame.index.dtype):
        frame = frame.reset_index()
    check_names(path, [str(name) for name in frame.columns])
    return _typed(path, {str(name): frame.iloc[:, at] for at, name in enumerate(frame.columns)}, len(frame))


def _typed(path: Path, columns: Mapping[str, Any], rows: int) -> Columns:
    """pandas' columns: numbers as they are, lists of numbers as columns of their own, anything else as text."""
    from pandas.api.types import is_bool_dtype, is_complex_dtype, is_numeric_dtype

    found = Columns({}, {}, (), rows)
    for name, column in columns.items():
        if is_complex_dtype(column.dtype):
            raise OwnFeaturesError(f"{printable(path)} holds complex numbers", found=f"'{printable(name)[:60]}'")
        if is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype):
            values = column.to_numpy(np.float64, na_value=np.nan)
            if is_no_feature(name):
                found = found._replace(numbering=(*found.numbering, name))
            else:
                found.numbers[name] = values
        elif (vectors := _vectors(path, name, column)) is not None:
            found.numbers.update({f"{name}_{at:04d}": vectors[:, at] for at in range(vectors.shape[1])})
        else:
            texts = ["" if value is None else str(value) for value in column]
            part = _columns(path, rows, {name: texts}, {name: _numbers(texts)}, range(1, rows + 1))
            found.numbers.update(part.numbers)
            found.texts.update(part.texts)
            found = found._replace(numbering=(*found.numbering, *part.numbering))
    return found


def _vectors(path: Path, name: str, column: Any) -> NDArray[np.float64] | None:
    """float64 (n, d) of a column whose values are lists of numbers, an embedding a row; None for any other."""
    values = list(column)
    if not values or not all(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        return None
    lengths = {len(value) for value in values}
    if len(lengths) != 1:
        raise OwnFeaturesError(
            f"{printable(path)} has lists of different lengths in column '{printable(name)[:60]}'",
            found=f"{min(lengths)} to {max(lengths)} numbers",
            expected="as many in every row",
        )
    return np.array([np.asarray(value, np.float64) for value in values]).reshape(len(values), -1)


def _anndata(path: Path) -> Columns:
    import anndata

    cells = anndata.read_h5ad(path)
    X = cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)
    texts = {str(name): tuple(str(value) for value in cells.obs[name]) for name in cells.obs.columns}
    return _matrix(path, X, [str(name) for name in cells.var_names], {"obs_names": cells.obs_names, **texts})


def _arrays(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    texts = {name: array for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"}
    if len(matrices) != 1:
        raise OwnFeaturesError(
            f"{printable(path)} cannot be understood",
            found=f"{len(matrices)} two-dimensional arrays",
            expected="one, a row a cell, beside an array of keys",
        )
    X = arrays[matrices[0]]
    if X.dtype.kind not in "fiu":
        raise OwnFeaturesError(f"{printable(path)} holds no numbers", found=f"a matrix of {X.dtype}")
    columns = texts.pop("columns", None)
    names = [f"f{at:04d}" for at in range(X.shape[1])] if columns is None else [str(name) for name in columns]
    return _matrix(path, X, names, {name: array.astype(str) for name, array in texts.items()})


def _matrix(path: Path, X: NDArray[Any], names: Sequence[str], texts: Mapping[str, Sequence[str]]) -> Columns:
    """A matrix with names of its columns, and a text a row."""
    if len(names) != X.shape[1] or any(len(text) != len(X) for text in texts.values()):
        raise OwnFeaturesError(
            f"{printable(path)} does not fit together",
            found=f"a matrix of {X.shape[0]} x {X.shape[1]}, {len(names)} columns, "
            + ", ".join(f"{len(text)} {name}" for name, text in texts.items()),
        )
    check_names(path, names)
    numbers = {name: X[:, at].astype(np.float64) for at, name in enumerate(names) if not is_no_feature(name)}
    about = {name: tuple(str(value) for value in values) for name, values in texts.items()}
    return Columns(numbers, about, tuple(name for name in names if is_no_feature(name)), len(X))


_READERS = {".parquet": _parquet, ".csv": _text, ".tsv": _text, ".h5ad": _anndata, ".npz": _arrays}


def check_names(path: Path, names: Sequence[str]) -> None:
    """OwnFeaturesError where a name stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise OwnFeaturesError(
                f"{printable(path)} names a column twice", found=printable(name)[:80], expected="each name once"
            )
        seen.add(name)
