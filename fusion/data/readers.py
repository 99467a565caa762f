"""Where the images of a data set lie and what their names say: C-NMC trees, class folders, tables.

A reader lists files; it never opens an image. What cannot be listed is a ``DatasetError``, and a listed file that is
not there becomes a fault further on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusion.errors import UsageError
from fusion.io.record_columns import Columns
from fusion.io.remote_path import Remote, RemotePathError, as_path, join, walk

#: Suffixes taken for images, compared in lower case.
SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: The parts of the C-NMC 2019 release: training folds, preliminary test (labels in a CSV), final test (no labels).
TRAIN, PRELIMINARY, FINAL = "train", "preliminary", "final"

_UID = re.compile(r"^UID_(?P<subject>[A-Za-z]?\d+)_\d+_\d+_(?P<label>all|hem)$")
_FOLD = re.compile(r"^fold_(?P<fold>\w+)$")
_CNMC_CSV = {"Patient_ID", "new_names", "labels"}
#: Folder -> {file name: (subject, label)}, from the preliminary test's CSV.
_Tables = dict[Path, dict[str, tuple[str, str]]]
_TABLE_COLUMNS = ("path", "label", "subject", "group", "fold", "mask", "um_per_px", "source")


class DatasetError(UsageError):
    """The data set is not one that Fusion can read."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One image as its data set lists it, before it is opened."""

    path: Path
    label: str | None = None
    subject: str | None = None
    group: str | None = None
    fold: str | None = None
    mask_path: Path | None = None
    um_per_px: float | None = None
    source: str | None = None
    part: str | None = None


def read_listing(path: Path) -> tuple[str, Columns[Listed]]:
    """The layout's name ("cnmc", "class folders", "folder" or "table") and every image it lists, sorted by path.

    Raises
    ------
    DatasetError : nothing there, no image in it, a table without ``path``, names that contradict their folders.
    """
    if not path.exists():
        raise DatasetError(f"no such file or folder: {path}", expected="a folder of images, or a .csv/.parquet table")
    if path.is_file():
        if is_image(path):
            return "folder", as_columns([read_name(path)])
        return "table", read_table(path)
    images, unlisted = _images(path)
    tables = _cnmc_tables(path)
    if not images:
        raise DatasetError(
            f"no image in {path}",
            found=f"cannot list {', '.join(map(str, unlisted[:3]))}" if unlisted else "",
            expected=f"files ending in {', '.join(SUFFIXES)}, at any depth",
        )
    if tables or any(_UID.match(_stem(name)) for name in images.names):
        layout: str = "cnmc"
        found: Iterable[Listed] = _cnmc(path, images, tables)
    else:
        layout, found = _class_folders(path, images)
    listed = as_columns(found)
    # They stand for what may be in them, and become faults when they are opened.
    listed.extend(map(Listed, unlisted))
    return layout, listed


def as_columns(listed: Iterable[Listed]) -> Columns[Listed]:
    """The entries as columns, taken in one by one."""
    return Columns(Listed, listed, ["path", "mask_path"])


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image, by its name."""
    return path.suffix.lower() in SUFFIXES


def read_name(path: Path) -> Listed:
    """One image by itself, with the label and subject that a name of C-NMC's tells."""
    match = _UID.match(path.stem)
    return Listed(path, match["label"], match["subject"]) if match else Listed(path)


class _Images(Sequence[Path]):
    """Paths in the order of their parts, each made when asked for: as text it takes a fifth of the room."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        names.sort()

    @staticmethod
    def as_sorted(name: str) -> str:
        """The name with its parts apart by what no name has in it and what comes before all else: a zero byte."""
        return name.replace(os.sep, "\0")

    @property
    def names(self) -> Iterator[str]:
        """Every path as text."""
        return (name.replace("\0", os.sep) for name in self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Path]:
        return map(as_path, self.names)

    def __getitem__(self, at: Any) -> Any:
        return as_path(self._names[at].replace("\0", os.sep))


def _images(root: Path) -> tuple[_Images, list[Path]]:
    """Every image below ``root``, sorted, and the folders that cannot be listed."""
    unlisted: list[str] = []
    # A leading dot marks what an operating system left behind (._UID_1.bmp), never an image.
    found = [
        _Images.as_sorted(os.path.join(folder, name))  # noqa: PTH118  # a Path costs ten times as much
        for folder, files in walk(root, unlisted)
        for name in files
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    return _Images(found), [Path(name) for name in sorted(set(unlisted))]


# ---- C-NMC 2019 -----------------------------------------------------------------------------------------------------


def _cnmc(root: Path, images: Iterable[Path], tables: _Tables) -> Iterator[Listed]:
    missing = {(folder, name) for folder, rows in tables.items() for name in rows}
    for image in images:
        # To look at every folder above a million images takes longer than all else here: only where a table may ask.
        folder = next((up for up in image.parents if (up, image.name) in missing), None) if missing else None
        if folder is not None:
            missing.remove((folder, image.name))
            subject, label = tables[folder][image.name]
            yield Listed(image, label, subject, fold=PRELIMINARY, part=PRELIMINARY)
        elif match := _UID.match(image.stem):
            above, fold = _above(os.path.dirname(image))  # noqa: PTH120  # the same for all images of a folder
            if above in {"all", "hem"} and above != match["label"]:
                raise DatasetError(
                    f"name and folder disagree about {image}", found=f"'{match['label']}' in a folder '{above}'"
                )
            yield Listed(image, match["label"], match["subject"], fold=fold, part=TRAIN)
        else:
            yield Listed(image, fold=FINAL, part=FINAL)
    for folder, name in sorted(missing):  # in the table but not on disk: a fault, found when it is opened
        subject, label = tables[folder][name]
        yield Listed(folder / name, label, subject, fold=PRELIMINARY, part=PRELIMINARY)


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]  # noqa: PTH119, PTH122  # a million names are looked at


@lru_cache(maxsize=1024)
def _above(folder: str) -> tuple[str, str | None]:
    """A folder's own name, and the fold that it or the nearest one above it names."""
    path = Path(folder)
    folds = [match["fold"] for part in path.parts if (match := _FOLD.match(part))]
    return path.name, folds[-1] if folds else None


def _cnmc_tables(root: Path) -> _Tables:
    """Folder -> {file name: (subject, label)} for every preliminary-test CSV under ``root`` or right beside it.

    ``X_labels.csv`` speaks for the folder ``X`` beside it, else for its own folder: the final test uses the same file
    names, and must not borrow the preliminary test's labels.
    """
    found: _Tables = {}
    inside = [
        as_path(os.path.join(folder, name))  # noqa: PTH118
        for folder, files in walk(root, [], links=False)
        for name in files
        if name.lower().endswith(".csv")
    ]
    for file in [*inside, *_labels_beside(root)]:
        if not _has_cnmc_header(file):
            continue
        folder = file.parent / file.stem.removesuffix("_labels")
        folder = folder if folder.is_dir() else file.parent
        if folder.resolve() == root.resolve():
            folder = root  # listed beside its folder: use the caller's spelling, as the images do
        elif root not in folder.parents and folder != root:
            continue
        found[folder] = _read_cnmc_csv(file)
    return found


def _labels_beside(root: Path) -> list[Path]:
    folder = root.resolve().parent
    try:
        return list(folder.glob("*_labels.csv")) if folder != root.resolve() else []
    except RemotePathError:  # a part of a bucket may be ours to list where the rest is not
        return []


def _has_cnmc_header(file: Path) -> bool:
    return _header(file) >= _CNMC_CSV


def _header(file: Path) -> set[str]:
    """Column names in the first line of a CSV file."""
    if isinstance(file, Remote):
        start = file.head(1000).partition(b"\n")[0]
    else:
        with file.open("rb") as stream:
            start = stream.readline(1000)
    header = start.decode("utf-8-sig", "replace")
    return {name.strip() for name in header.split(",")}


def _read_cnmc_csv(file: Path) -> dict[str, tuple[str, str]]:
    rows = {}
    for number, row in enumerate(_read_rows(file), start=2):
        match = _UID.match(Path(row["Patient_ID"]).stem)
        label = {"1": "all", "0": "hem"}.get(row["labels"].strip())
        if label is None or (match and match["label"] != label):
            raise DatasetError(
                f"line {number} of {file} contradicts itself",
                found=f"Patient_ID {row['Patient_ID']}, labels {row['labels']}",
                expected="labels 1 for all, 0 for hem, as in the name",
            )
        rows[row["new_names"].strip()] = (match["subject"] if match else row["Patient_ID"], label)
    return rows


# ---- class folders --------------------------------------------------------------------------------------------------


def _class_folders(root: Path, images: _Images) -> tuple[str, Iterable[Listed]]:
    is_loose = [os.path.dirname(name) == os.fspath(root) for name in images.names]  # noqa: PTH120
    if all(is_loose):
        return "folder", map(Listed, images)
    if any(is_loose):
        raise DatasetError(
            f"images both beside and inside the class folders of {root}",
            found=f"{sum(is_loose)} loose, such as {images[is_loose.index(True)].name}",
            do="Move them into a class folder, or list the images in a table.",
        )
    return "class folders", (Listed(image, label=image.relative_to(root).parts[0]) for image in images)


# ---- tables ---------------------------------------------------------------------------------------------------------


def read_table(file: Path) -> Columns[Listed]:
    """Rows of a CSV or Parquet table with a ``path`` and, if known, label, subject, group, fold, mask, um_per_px,
    source.

    Relative paths start at the table's folder. An empty field is an unknown one.
    """
    rows = _read_rows(file)
    columns = list(rows[0]) if rows else []
    if rows and "path" not in columns:
        raise DatasetError(
            f"no column 'path' in {file}",
            found=", ".join(columns),
            expected=f"path and any of {', '.join(_TABLE_COLUMNS[1:])}",
        )
    listed: dict[Path, Listed] = {}
    for number, row in enumerate(rows, start=2):
        entry = _table_row(file, number, row)
        known = listed.setdefault(entry.path, entry)
        if known != entry:
            raise DatasetError(
                f"line {number} of {file} contradicts an earlier one about the same image",
                found=f"{row['path']} as {entry.label or 'unlabelled'} and as {known.label or 'unlabelled'}",
            )
    if not listed:
        raise DatasetError(f"no row in {file}", expected="one image a row")
    return as_columns(listed.values())


def table_inside(folder: Path) -> Path | None:
    """The first CSV file in ``folder`` that has a column ``path``, None where there is none."""
    files = sorted(file for file in folder.glob("*.csv") if file.is_file())
    return next((file for file in files if "path" in _header(file)), None)


def _table_row(file: Path, number: int, row: dict[str, str]) -> Listed:
    values = {name: row.get(name, "").strip() or None for name in _TABLE_COLUMNS}
    if values["path"] is None:
        raise DatasetError(f"line {number} of {file} has no path")
    try:
        um_per_px = float(values["um_per_px"]) if values["um_per_px"] else None
    except ValueError:
        um_per_px = -1.0
    if um_per_px is not None and not 0 < um_per_px < float("inf"):
        raise DatasetError(f"line {number} of {file}", found=f"um_per_px {values['um_per_px']}", expected="above zero")
    return Listed(
        path=join(file.parent, values["path"]),
        label=values["label"],
        subject=values["subject"],
        group=values["group"],
        fold=values["fold"],
        mask_path=join(file.parent, values["mask"]) if values["mask"] else None,
        um_per_px=um_per_px,
        source=values["source"],
    )


def _read_rows(file: Path) -> list[dict[str, str]]:
    """All rows as text; numbers keep their spelling, so that subject 007 is not subject 7."""
    import pandas as pd

    try:
        if file.suffix.lower() == ".parquet":
            frame = pd.read_parquet(_source(file))
            frame = frame.astype(object).where(frame.notna(), "").map(_as_text)
        elif file.suffix.lower() in {".csv", ".tsv"}:
            separator = "\t" if file.suffix.lower() == ".tsv" else ","
            frame = pd.read_csv(_source(file), sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        else:
            raise DatasetError(f"{file} is not a data set", expected="a folder, or a .csv, .tsv or .parquet table")
    except pd.errors.EmptyDataError:
        return []
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read as a table", found=" ".join(str(error).split())) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _source(file: Path) -> Any:
    """What pandas reads: itself it would reach for an object store in ways of its own."""
    return file.open("rb") if isinstance(file, Remote) else file


def _as_text(value: object) -> str:
    # Parquet keeps types: a subject column with gaps arrives as 12.0, and means 12.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
