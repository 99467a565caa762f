"""Features that were computed elsewhere, as a block: read from a file, checked, and joined to the cells by key.

A file is a table (.parquet, .csv, .tsv), an AnnData (.h5ad) or arrays (.npz: ``X``, ``keys``, and ``columns`` where
they have names), a row a cell. Its rows are joined by the path or the file name of the cell's image, by the sha256
or BLAKE3 of the image's file, or by the ``key`` that ``fusion extract --export`` writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset
from fusion.errors import FusionError
from fusion.features._own_feature_files import Columns, OwnFeaturesError, is_no_feature, read_columns
from fusion.images.decoding import read_bytes
from fusion.io.files import file_sha256, printable, sha256

#: Endings of files that are read.
ENDINGS = (".parquet", ".csv", ".tsv", ".h5ad", ".npz")

#: What a cell may be known by, the surest first: ``end`` is a longer path that ends in the cell's.
KEYS = ("blake3", "key", "sha256", "path", "end", "name")
#: Labelled cells, and of a class, from which on a column can be told to be the label by another name.
_LABELLED, _OF_CLASS = 20, 3

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class OwnFeatures:
    """What a file holds.

    Attributes
    ----------
    path : of the file.
    names : of the features, in the file's order.
    X : float32 (n, d), NaN where a feature is undefined.
    keys : columns of text by which rows may be joined, each with n values.
    numbering : columns of numbers that are no features by their names: labels, subjects, what counts or numbers.
    """

    path: Path
    names: tuple[str, ...]
    X: NDArray[np.float32]
    keys: Mapping[str, tuple[str, ...]]
    numbering: tuple[str, ...] = ()


def read_own_features(path: Path) -> OwnFeatures:
    """Read and check a file: names, numbers, and something to join by.

    Raises
    ------
    OwnFeaturesError : it cannot be read, has no features, names one twice, or holds what is no finite number.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise OwnFeaturesError(
            f"features of one's own cannot be read from {printable(path)}", expected=f"a {', '.join(ENDINGS)} file"
        )
    if not path.is_file():
        raise OwnFeaturesError(f"{printable(path)} cannot be read", found="no such file")
    try:
        columns = read_columns(path)
    except OwnFeaturesError:
        raise
    except FusionError as error:  # a text that is no table, in the words that tables of cells are refused in
        raise OwnFeaturesError(error.what, found=error.found, expected=error.expected, do=error.do) from error
    except ImportError as error:
        raise OwnFeaturesError(
            f"{printable(path)} cannot be read", found=str(error), do="pip install 'fusion-cells[anndata]'"
        ) from error
    except Exception as error:  # pandas, pyarrow, h5py and numpy each raise their own on a damaged file
        raise OwnFeaturesError(
            f"{printable(path)} cannot be read", found=" ".join(f"{type(error).__name__}: {error}".split())[:160]
        ) from error
    return _checked(path, columns)


class Joined(NamedTuple):
    """The features of every cell of a data set: float32 (n, d), and the column that they were joined by."""

    X: NDArray[np.float32]
    key: str


def join(own: OwnFeatures, dataset: Dataset) -> Joined:
    """The features of every cell of a data set.

    Raises
    ------
    OwnFeaturesError : no key fits, a cell has no row or several that differ, or one row would be that of two images.
    """
    kind, column = _chosen_key(own, dataset)
    wanted = _cell_keys(dataset, kind)
    _check_distinct(own, dataset, wanted, kind)
    rows = _rows_by(own, own.keys[column], kind, set(wanted))
    missing = [at for at, key in enumerate(wanted) if key not in rows]
    if missing:
        first = ", ".join(dataset.name_of(dataset.samples[at]) for at in missing[:3])
        otherwise = _known_otherwise(own, dataset, column, missing)
        raise OwnFeaturesError(
            f"{printable(own.path)} has no row for {len(missing)} of {len(wanted)} cells",
            found=f"none by column '{column}' ({_WORDS[kind]}) for {first}{otherwise}",
            expected="a row for every cell that takes part",
            do="Add the rows, or leave the cells out of the data.",
        )
    return Joined(own.X[[rows[key] for key in wanted]], column)


def left_out(own: OwnFeatures, key: str) -> dict[str, list[str]]:
    """Columns that are no features, by why not, beside the column of keys and texts that are none by their names."""
    texts = [name for name in own.keys if not (name in own.numbering or name == key or is_no_feature(name))]
    reasons = {"by their names no features": list(own.numbering), "no numbers": texts}
    return {why: names for why, names in reasons.items() if names}


def labels_among(names: Sequence[str], X: NDArray[np.float32], dataset: Dataset) -> list[str]:
    """Names of columns that are the label by another name: one value for every cell of a class, another for each class.

    Nothing is said of fewer than 20 labelled cells, or of a class of fewer than 3.
    """
    labels = list(dataset.each("label"))
    known = [at for at, label in enumerate(labels) if label is not None]
    classes, codes = np.unique([str(labels[at]) for at in known], return_inverse=True)
    if len(classes) < 2 or len(known) < _LABELLED or np.bincount(codes).min() < _OF_CLASS:
        return []
    parts = [X[np.asarray(known)[codes == code]] for code in range(len(classes))]
    low, high = (np.array([reduce(part, axis=0) for part in parts]) for reduce in (np.min, np.max))
    is_constant = (low == high).all(axis=0)  # never where a value is NaN
    return [name for at, name in enumerate(names) if is_constant[at] and len(np.unique(low[:, at])) == len(classes)]


def provenance_of(path: Path) -> dict[str, list[str]]:
    """The images that features were learnt from: a file of their BLAKE3 hashes, one a line, as ``b3sum`` prints them.

    Raises
    ------
    OwnFeaturesError : it cannot be read, or a line is no hash.
    """
    try:
        lines = [line.strip().lower() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise OwnFeaturesError(f"learnt_from: {printable(path)} cannot be read", found=str(error)[:120]) from error
    hashes = [line.split()[0] for line in lines if line and not line.startswith("#")]
    if wrong := [line for line in hashes if not _HASH.fullmatch(line)]:
        raise OwnFeaturesError(
            f"learnt_from: {printable(path)} holds what is no BLAKE3 hash",
            found=wrong[0][:80],
            expected="64 hexadecimal digits a line, of the files of the images that were learnt from: b3sum FILES",
        )
    return {"images": sorted({each[:32] for each in hashes})}


def _checked(path: Path, columns: Columns) -> OwnFeatures:
    if not columns.rows:
        count = len(columns.numbers) + len(columns.texts)
        raise OwnFeaturesError(f"{printable(path)} has no rows", found=f"{count} columns" if count else "a header")
    features = list(columns.numbers)
    others = (*columns.texts, *columns.numbering)
    if not features:
        raise OwnFeaturesError(
            f"{printable(path)} holds no features", found=f"no column of numbers among {', '.join(others[:5])}"
        )
    named = tuple(_feature_name(name) for name in features)
    first = dict(zip(reversed(named), reversed(features), strict=True))
    if twice := [(first[new], name) for new, name in zip(named, features, strict=True) if first[new] != name]:
        raise OwnFeaturesError(
            f"{printable(path)} names a column twice",
            found=" and ".join(f"'{printable(name)[:60]}'" for name in twice[0])
            + f", both {_feature_name(twice[0][1])}",
            expected="names that differ in more than blanks and dots",
        )
    X = np.column_stack(list(columns.numbers.values()))
    bad = np.isinf(X) | (np.abs(X) > np.finfo(np.float32).max)
    if bad.any():
        row, column = (int(at) for at in np.argwhere(bad)[0])
        raise OwnFeaturesError(
            f"{printable(path)} holds what is no finite number",
            found=f"{X[row, column]} in row {row + 1}, column '{features[column]}', and {int(bad.sum()) - 1} more",
            expected="finite numbers, empty or NaN where a feature is undefined",
        )
    empty = np.isnan(X).all(axis=0)
    if empty.any():
        raise OwnFeaturesError(
            f"{printable(path)} has a column without a value", found=f"'{features[int(empty.argmax())]}'"
        )
    return OwnFeatures(path, named, X.astype(np.float32), columns.texts, columns.numbering)


def _feature_name(name: str) -> str:
    """As columns of a table may be called: the last dot divides block from feature."""
    return re.sub(r"\s+", "_", name.strip()).replace(".", "_") or "unnamed"


# ---- joining --------------------------------------------------------------------------------------------------------


def _cell_keys(dataset: Dataset, kind: str) -> list[str]:
    """What every cell is known by."""
    if kind == "sha256":  # what most tables have; Fusion itself goes by BLAKE3
        return [sha256(read_bytes(path)) for path in dataset.each("path")]
    if kind == "blake3":
        return list(dataset.each("image_key"))
    if kind == "key":
        return list(dataset.each("key"))
    if kind in ("path", "end"):
        return [_plain(name) for name in dataset.names]
    return [_base(str(path)) for path in dataset.each("path")]


def _chosen_key(own: OwnFeatures, dataset: Dataset) -> tuple[str, str]:
    """The kind of key and the column that fit the most cells; of equal ones the surest kind."""
    best = 0
    fitting: list[_Fit] = []
    has_hashes = any(_HASH.fullmatch(_hash(value)) for values in own.keys.values() for value in values)
    for kind in KEYS:
        if kind == "sha256" and (best or not has_hashes):
            continue  # every file would be read for nothing
        wanted = _cell_keys(dataset, kind)
        for column, values in own.keys.items():
            given = _keys_of(values, kind, set(wanted))
            count = len(set(wanted) & set(given))
            if count > best:
                best, fitting = count, []
            if count and count == best and column not in {each.column for each in fitting}:
                fitting.append(_Fit(kind, column, given, wanted))
    if not best:
        raise OwnFeaturesError(
            f"the rows of {printable(own.path)} are of none of these cells",
            found=_shown(own) or "no column of text",
            expected=f"a column with paths or file names ({dataset.names[0]}), or with sha256 of the images' files",
            do=_what_differs(own, dataset),
        )
    _check_agreed(own, fitting)
    return fitting[0].kind, fitting[0].column


class _Fit(NamedTuple):
    """A column of keys of one kind: what each row gives, and what each cell is known by."""

    kind: str
    column: str
    given: list[str]
    wanted: list[str]

    def cells(self) -> list[frozenset[int]]:
        """Of every row the cells that it is of."""
        places: dict[str, set[int]] = {}
        for at, key in enumerate(self.wanted):
            places.setdefault(key, set()).add(at)
        return [frozenset(places.get(key, ())) for key in self.given]


def _shown(own: OwnFeatures) -> str:
    """Columns of text with the first value of each, numbers behind."""
    names = sorted(own.keys, key=lambda name: name in own.numbering)[:3]
    return ", ".join(f"column '{name}', such as {own.keys[name][0][:60]!r}" for name in names)


def _check_agreed(own: OwnFeatures, fitting: Sequence[_Fit]) -> None:
    """Two columns may fit as well as each other: then they must say the same of every row."""
    first = fitting[0]
    for other in fitting[1:]:
        for row, (one, two) in enumerate(zip(first.cells(), other.cells(), strict=True)):
            left, right = own.keys[first.column][row].strip(), own.keys[other.column][row].strip()
            if (one or two) and one.isdisjoint(two) and left and right:
                raise OwnFeaturesError(
                    f"two columns of {printable(own.path)} fit these cells, and say different things",
                    found=f"row {row + 1}: {left[:60]!r} in '{first.column}', {right[:60]!r} in '{other.column}'",
                    do="Leave the one out that does not say which cell a row is of.",
                )


def _known_otherwise(own: OwnFeatures, dataset: Dataset, column: str, missing: Sequence[int]) -> str:
    """How the column names cells for which it has no key of the kind that fits the most; "" where it does not."""
    for kind in ("path", "name"):
        keys = _cell_keys(dataset, kind)
        if {keys[at] for at in missing} <= set(_keys_of(own.keys[column], kind, set())):
            return f", which it has by {_WORDS[kind]}: one kind of key in a column"
    return ""


def _what_differs(own: OwnFeatures, dataset: Dataset) -> str:
    """How names that fit no cell differ from names of cells; "" where nothing is known."""
    names = {_base(str(path)) for path in dataset.each("path")}
    stems = {PurePosixPath(name).stem for name in names}
    for column, values in own.keys.items():
        given = {_base(value) for value in values}
        if not {name.casefold() for name in names}.isdisjoint(name.casefold() for name in given):
            return f"Names in '{column}' differ from those of the files in upper and lower case: write them alike."
        if not stems.isdisjoint(given):
            return f"Names in '{column}' lack the ending of the files: write {min(names)}."
        if not stems.isdisjoint(PurePosixPath(name).stem for name in given):
            return f"Names in '{column}' have another ending than the files: write {min(names)}."
        if all(re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}", value.strip()) for value in values):
            return f"'{column}' holds MD5 or SHA-1: sha256sum prints SHA-256."
    return ""


#: The kinds of keys in messages.
_WORDS = {
    "blake3": "BLAKE3",
    "key": "key of an export",
    "sha256": "sha256",
    "path": "path",
    "end": "end of the path",
    "name": "file name",
}


def _keys_of(values: Iterable[str], kind: str, wanted: set[str]) -> list[str]:
    """What a column gives of every row; of ``end`` the longest end of a path that a cell is called by, or ""."""
    if kind != "end":
        return [{"path": _plain, "name": _base}.get(kind, _hash)(value) for value in values]
    ends = []
    for value in values:
        parts = _plain(value).split("/")
        ends.append(next((end for at in range(len(parts)) if (end := "/".join(parts[at:])) in wanted), ""))
    return ends


def _hash(text: str) -> str:
    return text.strip().lower().removeprefix("sha256:")


def _plain(path: str) -> str:
    text = path.strip().replace("\\", "/")
    return str(PurePosixPath(text))


def _base(path: str) -> str:
    return PureWindowsPath(path.strip()).name


def _rows_by(own: OwnFeatures, values: Sequence[str], kind: str, wanted: set[str]) -> dict[str, int]:
    """Key of a cell -> row; OwnFeaturesError where one stands twice with different numbers."""
    rows: dict[str, int] = {}
    for at, key in enumerate(_keys_of(values, kind, wanted)):
        if key not in wanted:
            continue
        first = rows.setdefault(key, at)
        if first != at and not np.array_equal(own.X[first], own.X[at], equal_nan=True):
            raise OwnFeaturesError(
                f"{printable(own.path)} has two different rows for one cell",
                found=f"rows {first + 1} and {at + 1}, both of {values[at][:80]!r}",
                expected="each cell once",
                do="Of several objects in an image, keep the one that is the cell.",
            )
    return rows


def _check_distinct(own: OwnFeatures, dataset: Dataset, wanted: Sequence[str], kind: str) -> None:
    """A file name may be that of two images in two folders: then it says nothing."""
    if kind not in ("name", "path", "end"):
        return
    images: dict[str, Any] = {}
    for at, (key, image) in enumerate(zip(wanted, dataset.each("key"), strict=True)):
        if images.setdefault(key, image) != image:
            raise OwnFeaturesError(
                f"rows of {printable(own.path)} cannot be joined by {_WORDS[kind]}",
                found=f"two images are called {key}, one of them {dataset.name_of(dataset.samples[at])}",
                do="Give a column with paths as Fusion names them, or with sha256 of the files.",
            )


def content_of(path: Path) -> str:
    """What tells a file's content from another's."""
    return hashlib.sha256(f"own:{file_sha256(path)}".encode()).hexdigest()[:32]
