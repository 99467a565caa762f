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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset
from fusion.errors import FusionError
from fusion.images.decoding import read_bytes
from fusion.io.files import file_sha256, printable, sha256

if TYPE_CHECKING:
    import pandas as pd

#: Endings of files that are read.
ENDINGS = (".parquet", ".csv", ".tsv", ".h5ad", ".npz")

#: What a cell may be known by, the surest first.
KEYS = ("blake3", "key", "sha256", "path", "name")

#: Columns that say what a cell is, or count: never features, whatever is in them. Labels among the features are the
#: oldest leak of all, and CellProfiler numbers its images in the order of the folders, which are often the classes.
_NO_FEATURES = re.compile(
    r"(label|labels|class|classes|target|targets|y|diagnosis|subject|subjects|subject_id|patient|patient_id|group"
    r"|groups|fold|folds|source|sources|site|split|set|part|index|id|level_0|unnamed:.*|imagenumber|objectnumber"
    r"|number_object_number|parent_.*|metadata_.*|executiontime_.*|pathname_.*|filename_.*|url_.*|md5digest_.*)",
    re.IGNORECASE,
)

_HASH = re.compile(r"[0-9a-f]{64}")


class OwnFeaturesError(FusionError):
    """A file of features of one's own cannot be read, or does not fit the cells."""


@dataclass(frozen=True, eq=False)
class OwnFeatures:
    """What a file holds.

    Attributes
    ----------
    path : of the file.
    names : of the features, in the file's order.
    X : float32 (n, d), NaN where a feature is undefined.
    keys : columns of text by which rows may be joined, each with n values.
    left_out : columns that are no features: text, labels and numbers that count.
    """

    path: Path
    names: tuple[str, ...]
    X: NDArray[np.float32]
    keys: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()


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
        frame = _READERS.get(ending, _table)(path)
    except OwnFeaturesError:
        raise
    except ImportError as error:
        raise OwnFeaturesError(
            f"{printable(path)} cannot be read", found=str(error), do="pip install 'fusion-cells[anndata]'"
        ) from error
    except Exception as error:  # pandas, pyarrow, h5py and numpy each raise their own on a damaged file
        raise OwnFeaturesError(
            f"{printable(path)} cannot be read", found=" ".join(f"{type(error).__name__}: {error}".split())[:160]
        ) from error
    return _checked(path, frame)


def join(own: OwnFeatures, dataset: Dataset) -> NDArray[np.float32]:
    """float32 (n, d): the features of every cell of a data set.

    Raises
    ------
    OwnFeaturesError : no key fits, a cell has no row or several that differ, or one row would be that of two images.
    """
    kind, column = _chosen_key(own, dataset)
    wanted = _cell_keys(dataset, kind)
    _check_distinct(own, dataset, wanted, kind)
    rows = _rows_by(own, own.keys[column], kind)
    missing = [at for at, key in enumerate(wanted) if key not in rows]
    if missing:
        first = ", ".join(dataset.name_of(dataset.samples[at]) for at in missing[:3])
        raise OwnFeaturesError(
            f"{printable(own.path)} has no row for {len(missing)} of {len(wanted)} cells",
            found=f"none by column '{column}' ({kind}) for {first}",
            expected="a row for every cell that takes part",
            do="Add the rows, or leave the cells out of the data.",
        )
    return own.X[[rows[key] for key in wanted]]


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


# ---- reading --------------------------------------------------------------------------------------------------------


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        frame = pd.read_parquet(path)
        return frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    # Read twice over by name, so that a column that stands there twice is not quietly given another name.
    head = pd.read_csv(path, sep=separator, engine="python" if separator is None else "c", header=None, nrows=1)
    names = [str(name) for name in head.iloc[0]]
    _check_names(path, names)
    return pd.read_csv(path, sep=separator, engine="python" if separator is None else "c", keep_default_na=True)


def _anndata(path: Path) -> pd.DataFrame:
    import anndata
    import pandas as pd

    cells = anndata.read_h5ad(path)
    X = cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)
    names = [str(name) for name in cells.var_names]
    _check_names(path, names)
    about = cells.obs.astype(str)
    about.insert(0, "obs_names", [str(name) for name in cells.obs_names])
    return pd.concat([about.reset_index(drop=True), pd.DataFrame(X, columns=names)], axis=1)


def _arrays(path: Path) -> pd.DataFrame:
    import pandas as pd

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
    columns = texts.pop("columns", None)
    names = [f"f{at:04d}" for at in range(X.shape[1])] if columns is None else [str(name) for name in columns]
    if len(names) != X.shape[1] or any(len(text) != len(X) for text in texts.values()):
        raise OwnFeaturesError(
            f"{printable(path)} does not fit together",
            found=f"a matrix of {X.shape[0]} x {X.shape[1]}, {len(names)} columns, "
            + ", ".join(f"{len(text)} {name}" for name, text in texts.items()),
        )
    _check_names(path, names)
    about = pd.DataFrame({name: text.astype(str) for name, text in texts.items()})
    return pd.concat([about, pd.DataFrame(X, columns=names)], axis=1)


_READERS = {".h5ad": _anndata, ".npz": _arrays}


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise OwnFeaturesError(
                f"{printable(path)} names a column twice", found=name[:80], expected="each name once"
            )
        seen.add(name)


def _checked(path: Path, frame: pd.DataFrame) -> OwnFeatures:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if frame.empty:
        raise OwnFeaturesError(f"{printable(path)} has no rows", found=f"{len(frame.columns)} columns")
    names = [str(name) for name in frame.columns]
    _check_names(path, names)
    numeric = [
        is_numeric_dtype(frame[column]) and not is_bool_dtype(frame[column]) and not _NO_FEATURES.fullmatch(name)
        for column, name in zip(frame.columns, names, strict=True)
    ]
    features = [name for name, is_one in zip(names, numeric, strict=True) if is_one]
    others = [name for name, is_one in zip(names, numeric, strict=True) if not is_one]
    if not features:
        raise OwnFeaturesError(
            f"{printable(path)} holds no features", found=f"no column of numbers among {', '.join(names[:5])}"
        )
    named = tuple(_feature_name(name) for name in features)
    _check_names(path, named)
    X = frame[[column for column, is_one in zip(frame.columns, numeric, strict=True) if is_one]].to_numpy(np.float64)
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
    texts = {
        name: tuple(str(value) for value in frame[column])
        for column, name, is_one in zip(frame.columns, names, numeric, strict=True)
        if not is_one and not is_numeric_dtype(frame[column])
    }
    return OwnFeatures(path, named, X.astype(np.float32), texts, tuple(others))


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
    if kind == "path":
        return [_plain(name) for name in dataset.names]
    return [_base(str(path)) for path in dataset.each("path")]


def _chosen_key(own: OwnFeatures, dataset: Dataset) -> tuple[str, str]:
    """The kind of key and the column that fit the most cells; of equal ones the surest kind."""
    best, chosen = 0, ("", "")
    has_hashes = any(_HASH.fullmatch(values[0].strip().lower()) for values in own.keys.values())
    for kind in KEYS:
        if kind == "sha256" and (best or not has_hashes):
            continue  # every file would be read for nothing
        wanted = set(_cell_keys(dataset, kind))
        for column, values in own.keys.items():
            count = len(wanted & {_normal(value, kind) for value in values}) if wanted else 0
            if count > best:
                best, chosen = count, (kind, column)
    if not best:
        raise OwnFeaturesError(
            f"the rows of {printable(own.path)} are of none of these cells",
            found=", ".join(f"column '{name}', such as {values[0][:60]!r}" for name, values in own.keys.items())
            or "no column of text",
            expected=f"a column with paths or file names ({dataset.names[0]}), or with sha256 of the images' files",
        )
    return chosen


def _normal(value: str, kind: str) -> str:
    return {"path": _plain, "name": _base}.get(kind, lambda text: text.strip().lower())(value)


def _plain(path: str) -> str:
    text = path.strip().replace("\\", "/")
    return str(PurePosixPath(text))


def _base(path: str) -> str:
    return PureWindowsPath(path.strip()).name


def _rows_by(own: OwnFeatures, values: Iterable[str], kind: str) -> dict[str, int]:
    """Key -> row; OwnFeaturesError where a key stands twice with different numbers."""
    rows: dict[str, int] = {}
    for at, value in enumerate(values):
        key = _normal(value, kind)
        first = rows.setdefault(key, at)
        if first != at and not np.array_equal(own.X[first], own.X[at], equal_nan=True):
            raise OwnFeaturesError(
                f"{printable(own.path)} has two different rows for one cell",
                found=f"rows {first + 1} and {at + 1}, both of {value[:80]!r}",
                expected="each cell once",
            )
    return rows


def _check_distinct(own: OwnFeatures, dataset: Dataset, wanted: Sequence[str], kind: str) -> None:
    """A file name may be that of two images in two folders: then it says nothing."""
    if kind not in ("name", "path"):
        return
    images: dict[str, Any] = {}
    for at, (key, image) in enumerate(zip(wanted, dataset.each("key"), strict=True)):
        if images.setdefault(key, image) != image:
            raise OwnFeaturesError(
                f"rows of {printable(own.path)} cannot be joined by {'file name' if kind == 'name' else kind}",
                found=f"two images are called {key}, one of them {dataset.name_of(dataset.samples[at])}",
                do="Give a column with paths as Fusion names them, or with sha256 of the files.",
            )


def content_of(path: Path) -> str:
    """What tells a file's content from another's."""
    return hashlib.sha256(f"own:{file_sha256(path)}".encode()).hexdigest()[:32]
