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
from typing import Any, NamedTuple

from fusion.data._dataset_error import DatasetError
from fusion.data._table_columns import looks_like, read_columns
from fusion.data._table_files import Rows, read_header, read_rows
from fusion.io.record_columns import Columns
from fusion.io.remote_path import RemotePathError, as_path, join, walk
from fusion.settings.data import ReadingSettings

#: Suffixes taken for images, compared in lower case.
SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: The parts of the C-NMC 2019 release: training folds, preliminary test (labels in a CSV), final test (no labels).
TRAIN, PRELIMINARY, FINAL = "train", "preliminary", "final"

_UID = re.compile(r"^UID_(?P<subject>[A-Za-z]?\d+)_\d+_\d+_(?P<label>all|hem)$")
_FOLD = re.compile(r"^fold_(?P<fold>\w+)$")
#: Columns of the preliminary test's CSV, in lower case.
_CNMC_CSV = {"patient_id", "new_names", "labels"}
#: Folder -> {file name: (subject, label)}, from the preliminary test's CSV.
_Tables = dict[Path, dict[str, tuple[str, str]]]

#: Read as it stands, without a word of the user's.
DEFAULT = ReadingSettings()


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


class Listing(NamedTuple):
    """Every image of a data set as it is listed.

    Attributes
    ----------
    layout : "cnmc", "class folders", "folder" or "table".
    entries : the images, sorted by path, of a table in its order.
    notes : what was left out, or taken otherwise than it stands there.
    """

    layout: str
    entries: Columns[Listed]
    notes: tuple[str, ...] = ()


def read_listing(path: Path, reading: ReadingSettings = DEFAULT, *, is_lenient: bool = False) -> Listing:
    """What a data set lists. ``is_lenient`` is for one that is read beside another, as ``reading`` says of that one.

    Raises
    ------
    DatasetError : nothing there, no image in it, a table without ``path``, names that contradict their folders.
    """
    if not path.exists():
        raise DatasetError(f"no such file or folder: {path}", expected="a folder of images, or a .csv/.parquet table")
    if path.is_file():
        if is_image(path):
            return Listing("folder", as_columns([read_name(path)]))
        listed, notes = read_table(path, reading, is_lenient=is_lenient)
        return Listing("table", listed, tuple(notes))
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
    return Listing(layout, listed)


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
    return {name.lower() for name in read_header(file)} >= _CNMC_CSV


def _read_cnmc_csv(file: Path) -> dict[str, tuple[str, str]]:
    rows = {}
    read = read_rows(file)
    names = [name.lower() for name in read.columns]
    for number, fields in zip(read.lines, read.fields, strict=True):
        row = dict(zip(names, fields, strict=True))
        match = _UID.match(Path(row["patient_id"]).stem)
        label = {"1": "all", "0": "hem"}.get(row["labels"].removesuffix(".0"))
        if label is None or (match and match["label"].lower() != label):
            raise DatasetError(
                f"line {number} of {file} contradicts itself",
                found=f"Patient_ID {row['patient_id']}, labels {row['labels']}",
                expected="labels 1 for all, 0 for hem, as in the name",
            )
        rows[row["new_names"]] = (match["subject"] if match else row["patient_id"], label)
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


def read_table(
    file: Path, reading: ReadingSettings = DEFAULT, *, is_lenient: bool = False
) -> tuple[Columns[Listed], list[str]]:
    """Rows of a CSV or Parquet table with a ``path`` and, if known, label, subject, group, fold, mask, um_per_px,
    source; and what should be known about it.

    Relative paths start at the table's folder. An empty field is an unknown one. ``is_lenient`` is for the second of
    two tables, which may lack columns that the user names.
    """
    rows = read_rows(file)
    if not rows.columns:
        raise DatasetError(f"no row in {file}", expected="a header with a column path, and one image a row")
    values, notes = read_columns(file, rows, reading, is_lenient=is_lenient)
    if "um_per_px" in values:
        values["um_per_px"], remarks = _with_points(file, rows, values["um_per_px"])
        notes += remarks
    listed: dict[tuple[Path, Path | None], Listed] = {}
    names, columns = list(values), list(values.values())
    for at, line in enumerate(rows.lines):
        entry = _table_row(file, line, dict(zip(names, (column[at] for column in columns), strict=True)))
        known = listed.setdefault((entry.path, entry.mask_path), entry)
        if known != entry:
            differs = next(name for name in Listed.__slots__ if getattr(known, name) != getattr(entry, name))
            raise DatasetError(
                f"line {line} of {file} contradicts an earlier one about the same image",
                found=f"{values['path'][at]} with {differs} {getattr(entry, differs)} and {getattr(known, differs)}",
                expected="one row an image, or a mask of its own in each",
            )
    if not listed:
        raise DatasetError(f"no row in {file}", expected="one image a row")
    return as_columns(listed.values()), [*rows.notes, *notes]


def table_inside(folder: Path) -> Path | None:
    """The first table in ``folder`` that has a column of paths, None where there is none."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in {".csv", ".tsv"} and file.is_file())
    return next((file for file in files if any(looks_like(name) == "path" for name in read_header(file))), None)


def _table_row(file: Path, number: int, values: dict[str, str | None]) -> Listed:
    path, mask, scale = values["path"], values.get("mask"), values.get("um_per_px")
    if path is None:
        raise DatasetError(f"line {number} of {file} has no path")
    try:
        um_per_px = float(scale) if scale else None
    except ValueError:
        um_per_px = -1.0
    if um_per_px is not None and not 0 < um_per_px < float("inf"):
        raise DatasetError(f"line {number} of {file}", found=f"um_per_px {scale}", expected="above zero")
    return Listed(
        path=join(file.parent, path),
        label=values.get("label"),
        subject=values.get("subject"),
        group=values.get("group"),
        fold=values.get("fold"),
        mask_path=join(file.parent, mask) if mask else None,
        um_per_px=um_per_px,
        source=values.get("source"),
    )


def _with_points(file: Path, rows: Rows, column: list[str | None]) -> tuple[list[str | None], list[str]]:
    """Numbers with decimal commas as numbers; 1,250 may be a thousand and more, and stays, to be refused."""
    commas = [value for value in column if value and re.fullmatch(r"\d+,\d+", value)]
    if not commas or any(re.fullmatch(r"[1-9]\d*,\d{3}", value) for value in commas):
        return column, []
    read = [value.replace(",", ".") if value in commas else value for value in column]
    return read, [f"{file.name}: um_per_px has decimal commas: {commas[0]} is read as {commas[0].replace(',', '.')}."]
