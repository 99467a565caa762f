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
    r"(y|index|level_0|part|slice|unnamed:.*|column \d+|imagenumber|objectnumber|tablenumber"
    r"|([a-z0-9]+_)?(number_object_number|object_number|group_index|group_number|parent_.*|metadata_.*"
    r"|executiontime_.*|moduleerror_.*|pathname_.*|filename_.*|url_.*|md5digest_.*))",
    re.IGNORECASE,
)
#: What stands where a feature is undefined.
_UNKNOWN = frozenset(["", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "none", "null", "-"])
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
#: Numbers as people write them, and lists of numbers: a column of these is no text, and cannot be read for certain.
_WRITTEN = re.compile(
    r"[+-]?\d+([.,]\d+)? ?%|[+-]?\d+,\d+([eE][+-]?\d+)?"
    r"|[+-]?\d{1,3}([.,'\u2019\u00a0\u202f ]\d{3})+([.,]\d+)?|[\[(].*\d.*[\])]",
    re.DOTALL,
)
#: What is downloaded in place of a file.
_INSTEAD = {
    b"version https://git-lfs": ("a pointer of Git LFS", "Fetch it: git lfs pull."),
    b"<!doctype html": ("a web page", "Download the file anew."),
    b"<html": ("a web page", "Download the file anew."),
}
#: Ends of what no column is called.
_IMAGES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".gif", ".webp")


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
    with path.open("rb") as stream:
        start = stream.read(64).lstrip().lower()
    for sign, (kind, remedy) in _INSTEAD.items():
        if start.startswith(sign):
            raise OwnFeaturesError(f"{printable(path)} is not the file itself", found=kind, do=remedy)
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
    if named := [name for name in rows.columns if name.lower().endswith(_IMAGES)]:
        raise OwnFeaturesError(
            f"{printable(path)} has no header",
            found=f"the first line names an image: {printable(named[0])[:60]}",
            expected="names of the columns in the first line",
        )
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


def _truths(texts: Sequence[str], read: _Read) -> _Read:
    """True and false as 1 and 0, where a column knows nothing else."""
    if read.some or not {texts[at].lower() for at in read.wrong} <= {"true", "false"}:
        return read
    return _numbers([{"true": "1", "false": "0"}.get(text.lower(), text) for text in texts])


def _columns(
    path: Path, rows: int, texts: Mapping[str, Sequence[str]], read: Mapping[str, _Read], lines: Sequence[int]
) -> Columns:
    numbers, others, numbering = {}, {}, []
    for name, column in read.items():
        each = _truths(texts[name], column)
        known = rows - int(np.isnan(each.values).sum()) + len(each.wrong)
        if is_no_feature(name):
            numbering += [name] if known and not each.wrong else []
        elif not known:
            raise OwnFeaturesError(f"{printable(path)} has a column without a value", found=f"'{printable(name)[:60]}'")
        elif not each.wrong:
            numbers[name] = each.values
            continue
        else:
            _check_text(path, name, texts[name], each.wrong, known, lines)
        others[name] = tuple(texts[name])
    return Columns(numbers, others, tuple(numbering), rows)


def _check_text(
    path: Path, name: str, texts: Sequence[str], wrong: Sequence[int], known: int, lines: Sequence[int]
) -> None:
    """Refuse a column that was meant to be of numbers: a text among them, or all of them written otherwise."""
    found = f"{texts[wrong[0]][:40]!r} in line {lines[wrong[0]]}, and {len(wrong) - 1} more"
    expected = "numbers with a decimal point, and NaN or nothing where a feature is undefined"
    if 2 * len(wrong) < known:
        raise OwnFeaturesError(
            f"{printable(path)} has a text among the numbers of column '{printable(name)[:60]}'",
            found=found,
            expected=expected,
        )
    if all(_WRITTEN.fullmatch(texts[at]) for at in wrong):
        raise OwnFeaturesError(
            f"{printable(path)} has numbers in column '{printable(name)[:60]}' that cannot be read for certain",
            found=found,
            expected=f"{expected}; a column a number",
        )


# ---- what has types -------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Columns:
    import pandas as pd
    from pandas.api.types import is_numeric_dtype

    frame = pd.read_parquet(path)
    levels = 0
    if any(name is not None for name in frame.index.names) or not is_numeric_dtype(frame.index.dtype):
        levels = frame.index.nlevels
        frame = frame.reset_index(allow_duplicates=True)
    check_names(path, [str(name) for name in frame.columns])
    columns = {str(name): frame.iloc[:, at] for at, name in enumerate(frame.columns)}
    return _typed(path, columns, len(frame), frozenset(list(columns)[:levels]))


def _typed(path: Path, columns: Mapping[str, Any], rows: int, index: frozenset[str]) -> Columns:
    """pandas' columns: numbers and truths as they are, lists of numbers as columns of their own, anything else as text;
    what was the ``index`` is no feature."""
    from pandas.api.types import is_bool_dtype, is_complex_dtype, is_numeric_dtype

    found = Columns({}, {}, (), rows)
    for name, column in columns.items():
        if is_complex_dtype(column.dtype):
            raise OwnFeaturesError(f"{printable(path)} holds complex numbers", found=f"'{printable(name)[:60]}'")
        if is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype):
            if name in index or is_no_feature(name):
                found = found._replace(numbering=(*found.numbering, name))
            else:
                found.numbers[name] = column.to_numpy(np.float64, na_value=np.nan)
        elif (vectors := _vectors(path, name, column)) is not None:
            found.numbers.update({f"{name}_{at:04d}": vectors[:, at] for at in range(vectors.shape[1])})
        elif column.dtype == object or str(column.dtype).startswith("str"):
            texts = [_text_of(value) for value in column]
            part = _columns(path, rows, {name: texts}, {name: _numbers(texts)}, range(1, rows + 1))
            found.numbers.update(part.numbers)
            found.texts.update(part.texts)
            found = found._replace(numbering=(*found.numbering, *part.numbering))
        else:  # categories, dates and times: a code or a moment is no measurement
            found.texts[name] = tuple(_text_of(value) for value in column)
    return found


def _text_of(value: Any) -> str:
    if value is None or value != value:  # NaN, NaT
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _vectors(path: Path, name: str, column: Any) -> NDArray[np.float64] | None:
    """float64 (n, d) of a column whose values are lists of numbers, an embedding a row; None for any other."""
    values = list(column)
    lists = [value for value in values if isinstance(value, (list, tuple, np.ndarray))]
    if not lists:
        return None
    where = f"column '{printable(name)[:60]}'"
    if len(lists) < len(values):
        raise OwnFeaturesError(
            f"{printable(path)} has rows without a list in {where}",
            found=f"{len(values) - len(lists)} of {len(values)}",
            expected="a list in every row, of NaN where features are undefined",
        )
    lengths = {len(value) for value in lists}
    if len(lengths) != 1 or lengths == {0}:
        raise OwnFeaturesError(
            f"{printable(path)} has {'lists of different lengths' if lengths != {0} else 'empty lists'} in {where}",
            found=f"{min(lengths)} to {max(lengths)} numbers",
            expected="as many in every row",
        )
    try:
        return np.array([np.asarray(value, np.float64) for value in lists]).reshape(len(lists), -1)
    except (TypeError, ValueError) as error:
        raise OwnFeaturesError(
            f"{printable(path)} has lists in {where} that hold what is no number",
            found=str(lists[0])[:60],
            expected="one list of numbers in every row",
        ) from error


def _anndata(path: Path) -> Columns:
    import anndata

    cells = anndata.read_h5ad(path)
    if cells.X is None:
        raise OwnFeaturesError(
            f"{printable(path)} has no matrix X",
            found=f"obsm {', '.join(cells.obsm)}" if len(cells.obsm) else "",
            expected="features in X, a column each, named by var_names",
        )
    X = cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)
    texts = {str(name): tuple(_text_of(value) for value in cells.obs[name]) for name in cells.obs.columns}
    return _matrix(path, X, [str(name) for name in cells.var_names], {"obs_names": cells.obs_names, **texts})


def _arrays(path: Path) -> Columns:
    with _opened(path) as stored:
        arrays = {name: _array(stored, name) for name in stored.files}
    known = {name: array for name, array in arrays.items() if array is not None}
    matrices = [name for name, array in known.items() if array.ndim == 2]
    texts: dict[str, Any] = {
        name: array.astype(str) for name, array in known.items() if array.ndim == 1 and array.dtype.kind in "US"
    }
    if len(matrices) != 1:
        raise OwnFeaturesError(
            f"{printable(path)} cannot be understood",
            found=f"{len(matrices)} two-dimensional arrays among {', '.join(arrays) or 'none'}"
            + "".join(f"; {name} holds Python objects, which are not loaded" for name in arrays if name not in known),
            expected="one of numbers, a row a cell, beside an array of keys",
        )
    X = known[matrices[0]]
    if X.dtype.kind not in "fiu":
        raise OwnFeaturesError(f"{printable(path)} holds no numbers", found=f"a matrix of {X.dtype}")
    if not any(len(text) == len(X) for text in texts.values()):
        raise OwnFeaturesError(
            f"{printable(path)} has no keys",
            found=", ".join(_described(name, array) for name, array in arrays.items()),
            expected=f"an array of {len(X)} texts, np.array(keys, dtype=str), beside the matrix",
        )
    named = [name for name, text in texts.items() if len(text) == X.shape[1] != len(X)]
    columns = texts.pop("columns" if "columns" in texts else "".join(named[:1]), None)
    names = [f"f{at:04d}" for at in range(X.shape[1])] if columns is None else [str(name) for name in columns]
    found = _matrix(path, X, names, texts)
    beside = [name for name, array in known.items() if array.shape == (len(X),) and array.dtype.kind in "fiub"]
    return found._replace(numbering=(*found.numbering, *beside))


def _opened(path: Path) -> Any:
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        raise OwnFeaturesError(
            f"{printable(path)} is a single array",
            found=f"{stored.dtype} of {' x '.join(map(str, stored.shape))}, without keys",
            do="Write np.savez(file, X=X, keys=np.array(keys, dtype=str)).",
        )
    return stored


def _array(stored: Any, name: str) -> NDArray[Any] | None:
    """An array of the file; None for one of Python objects, which are pickled, and never loaded."""
    try:
        return np.asarray(stored[name])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        return None


def _described(name: str, array: NDArray[Any] | None) -> str:
    if array is None:
        return f"{name} of Python objects, which are not loaded"
    return f"{name} of {'text' if array.dtype.kind in 'US' else array.dtype} ({' x '.join(map(str, array.shape))})"


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
