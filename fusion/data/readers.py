"""Where the images of a data set lie and what their names say: C-NMC trees, class folders, tables.

A reader lists files; of images it opens at most two of a class, where classes have the same file names and may be
masks. What cannot be listed is a ``DatasetError``, and a listed file that is not there becomes a fault further on.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusion.data._dataset_error import DatasetError
from fusion.data._folder_layouts import Layout, Place, Unclear, check_not_mirrored, find_layout
from fusion.data._mask_files import find_masks, pair_masks, refuse_unsaid
from fusion.data._table_columns import read_columns
from fusion.data.column_names import looks_like
from fusion.data.subjects import check_spelling
from fusion.data.table_files import TABLES, Rows, read_header, read_rows
from fusion.io.files import printable
from fusion.io.record_columns import Columns
from fusion.io.remote_path import Remote, RemotePathError, as_path, join, walk
from fusion.settings.data import PIXEL_UM, ReadingSettings

#: Suffixes taken for images, compared in lower case.
SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dib", ".jpe", ".jfif", ".jif", ".jfi")

#: Suffixes of images that are listed as well, so that each that cannot be read is named with the reason.
OTHER_SUFFIXES = (
    ".gif",
    ".webp",
    ".jp2",
    ".j2k",
    ".jpx",
    ".jpf",
    ".jxl",
    ".heic",
    ".heif",
    ".avif",
    ".exr",
    ".hdr",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".dcm",
    ".svs",
    ".ndpi",
    ".czi",
    ".psd",
)
_LISTED = SUFFIXES + OTHER_SUFFIXES

#: Folders that systems and programs keep for themselves, in lower case; those that begin with a dot are, too.
_OF_SYSTEMS = frozenset(
    [
        "__macosx",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "lost+found",
        "__pycache__",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "desktop folder db",
        "_vti_cnf",
        "~snapshot",
        "cvs",
        "found.000",
    ]
)

#: The parts of the C-NMC 2019 release: training folds, preliminary test (labels in a CSV), final test (no labels).
TRAIN, PRELIMINARY, FINAL = "train", "preliminary", "final"

_UID = re.compile(r"^UID_(?P<subject>[A-Za-z]?\d+)_\d+_\d+_(?P<label>all|hem)$", re.IGNORECASE)
_FOLD = re.compile(r"^fold[_ -]?(?P<fold>\w+)$", re.IGNORECASE)
#: What programs and people append to the name of an image that they have changed or copied.
_VERSION = re.compile(
    r"(.+?)[ _.-]+(?:\(\d+\)|(?:copy|kopie|copie|aug|flip|rot|mirror|crop|resize|norm|blur|noise|bright|enhance|overlay"
    r"|thumb|preview|contour|heatmap|gradcam|edit)[a-z]*[ _.-]*\d*)",
    re.IGNORECASE,
)
#: Columns of the preliminary test's CSV, in lower case.
_CNMC_CSV = {"patient_id", "new_names", "labels"}
#: Columns by which the truth of synthetic sites is known: see ``fusion.synthetic.cells``.
_OF_SITES = {
    "path",
    "label",
    "subject",
    "fold",
    "source",
    "mask",
    "um_per_px",
    "laboratory_gamma",
    "subject_shift_area",
}
#: Columns by which the truth of synthetic subjects is known, whose cells may be of several classes.
_OF_SUBJECTS = {"path", "label", "subject", "fold", "subject_label", "subject_witness_rate", "subject_shift_area"}
#: Folder -> {file name: (subject, label)}, from the preliminary test's CSV.
_Tables = dict[Path, dict[str, tuple[str, str]]]

#: Files by which what ``fusion`` has written is known, what it is, and what to do.
_WRITTEN = (
    (
        ("model.json", "config.yaml"),
        "a model",
        "Give cells to train on, or the model first: fusion predict MODEL IMAGES.",
    ),
    (
        ("result.json", "scores.parquet"),
        "a result",
        "Give the cells that it was made from; fusion judge, compare and plan read what is in it, and in Python "
        "fusion.Result.load.",
    ),
)

#: Tables of a folder that are looked at for patients.
_TABLES = 20
#: Names in a folder among which one that was mistyped is looked for.
_LOOKED_AT = 2000

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
    subject_label: str | None = None


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


def _nearest(path: Path) -> str:
    """A question after files and folders of the same place whose names are like this one's."""
    if isinstance(path, Remote) or not path.parent.is_dir():
        return ""
    beside = sorted(each.name for each in itertools.islice(path.parent.iterdir(), _LOOKED_AT))
    wanted = path.name.lower()
    near = [name for name in beside if wanted in (name.lower(), Path(name).stem.lower())]
    near = near or get_close_matches(path.name, beside, n=3, cutoff=0.7)
    return f"Did you mean {' or '.join(repr(printable(path.parent / name)) for name in near[:3])}?" if near else ""


def _refuse_written(path: Path) -> None:
    """DatasetError for what ``fusion`` itself has written: the pictures of a result are no cells."""
    if isinstance(path, Remote):
        return
    for files, what, do in _WRITTEN:
        if all((path / file).is_file() for file in files):
            raise DatasetError(
                f"{path} is {what}, not a data set",
                found=" and ".join(files),
                expected="a folder of images, or a .csv/.parquet table",
                do=do,
            )


def read_listing(
    path: Path, reading: ReadingSettings = DEFAULT, *, is_lenient: bool = False, needs_labels: bool = True
) -> Listing:
    """What a data set lists.

    Parameters
    ----------
    path : the folder, table or image.
    reading : what the user says of how it is to be read.
    is_lenient : whether columns that ``reading`` names may be lacking, as where it says so of another table.
    needs_labels : whether folders that can mean more than one thing stop the run; otherwise they mean nothing.

    Raises
    ------
    DatasetError : nothing there, no image in it, a table without ``path``, names that contradict their folders.
    """
    if not path.exists():
        raise DatasetError(
            f"no such file or folder: {path}",
            expected="an image, a folder of images, or a .csv/.parquet table",
            do=_nearest(path),
        )
    if path.is_file():
        if is_image(path):
            return Listing("folder", as_columns([read_name(path)]))
        _refuse_unused(path, "a table", reading, ("folders", "masks"), is_lenient=is_lenient)
        listed, notes = read_table(path, reading, is_lenient=is_lenient)
        return Listing("table", listed, tuple(notes))
    _refuse_unused(path, "a folder", reading, ("columns", "ignore_columns", "missing"), is_lenient=is_lenient)
    _refuse_written(path)
    files = _find_files(path)
    if table := _own_truth(path, files.images, reading):
        listed, notes = read_table(table, reading, is_lenient=is_lenient)
        return Listing("table", listed, (f"{path} is read by {table.name}, which came with its images.", *notes))
    tables = _cnmc_tables(path)
    images, masks, notes = _without_masks(path, files.images, reading)
    if not images:
        hint = f"cannot list {', '.join(map(str, files.unlisted[:3]))}" if files.unlisted else files.others_in_words()
        raise DatasetError(
            f"no image in {path}", found=hint, expected=f"files ending in {', '.join(SUFFIXES)}, at any depth"
        )
    if tables or any(_UID.match(_stem(name)) for name in images.names):
        _refuse_unused(
            path, "a C-NMC tree, whose names say class and subject", reading, ("folders",), is_lenient=is_lenient
        )
        layout: str = "cnmc"
        found: Iterable[Listed] = _cnmc(path, images, tables)
        notes += _misnamed(images)
    else:
        layout, found, remarks = _class_folders(path, images, reading, needs_labels=needs_labels)
        notes += remarks
    if masks:
        found = (replace(entry, mask_path=mask_of(entry.path, masks)) for entry in found)
    listed = as_columns(found)
    # They stand for what may be in them, and become faults when they are opened.
    listed.extend(map(Listed, files.unlisted))
    return Listing(layout, listed, (*files.notes(), *notes))


def as_columns(listed: Iterable[Listed]) -> Columns[Listed]:
    """The entries as columns, taken in one by one."""
    return Columns(Listed, listed, ["path", "mask_path"])


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image, by its name."""
    return path.suffix.lower() in _LISTED


def read_name(path: Path) -> Listed:
    """One image by itself, with the label and subject that a name of C-NMC's tells."""
    match = _UID.match(path.stem)
    return Listed(path, match["label"].lower(), match["subject"]) if match else Listed(path)


def _refuse_unused(path: Path, what: str, reading: ReadingSettings, names: Sequence[str], *, is_lenient: bool) -> None:
    """Refuse what the user says of tables where there is none, and the like: it would change nothing."""
    said = [name for name in names if getattr(reading, name)]
    if said and not is_lenient:
        raise DatasetError(f"{', '.join(said)} cannot be used for {path}", found=what, do="Leave it out.")


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


@dataclass(frozen=True)
class _Files:
    """What lies below a folder.

    Attributes
    ----------
    images : every image, sorted.
    unlisted : folders that cannot be listed.
    hidden : name of a hidden or system folder -> images in it, which are passed over.
    dotted : images whose own names begin with a dot.
    others : ending -> files that are neither images nor tables.
    again : links to folders that are read by another name, as texts below the folder.
    empty : folders in which there is nothing, likewise.
    """

    images: _Images
    unlisted: list[Path]
    hidden: Counter[str]
    dotted: int
    others: Counter[str]
    again: list[str]
    empty: list[str]

    def notes(self) -> list[str]:
        """What is passed over, a line each."""
        hidden = [f"{printable(name)} ({_many(count)})" for name, count in sorted(self.hidden.items())]
        notes = [f"passed over, as folders that are hidden or a system's own: {', '.join(hidden)}."] if hidden else []
        if self.dotted:
            files = "1 file whose name begins" if self.dotted == 1 else f"{self.dotted} files whose names begin"
            notes.append(f"passed over: {files} with a dot.")
        if self.again:
            shown = ", ".join(map(printable, self.again[:3])) + (", ..." if len(self.again) > 3 else "")
            notes.append(f"passed over, as links to folders that are read by another name: {shown}.")
        if self.empty:
            shown = ", ".join(map(printable, self.empty[:3])) + (", ..." if len(self.empty) > 3 else "")
            notes.append(f"nothing lies in {len(self.empty)} folder{'s' * (len(self.empty) > 1)}: {shown}.")
        return [*notes, f"not read: {self.others_in_words()}."] if self.others else notes

    def others_in_words(self) -> str:
        """``3 files ending in .txt, 1 in .db``."""
        words = [
            f"{count}{' files' * (not at)} ending in {printable(ending)}" if ending else f"{count} without an ending"
            for at, (ending, count) in enumerate(self.others.most_common(8))
        ]
        rest = len(self.others) - len(words)
        return ", ".join(words) + (f" and {rest} other endings" if rest > 0 else "")


@lru_cache(maxsize=1024)
def _is_hidden(folder: str) -> bool:
    """Whether a folder below another, or one above it, is hidden or a system's own."""
    parts = [part for part in folder.lower().replace(os.sep, "/").split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") or part in _OF_SYSTEMS for part in parts)


def _find_files(root: Path) -> _Files:
    """What lies below ``root``."""
    unlisted: list[str] = []
    hidden: Counter[str] = Counter()
    others: Counter[str] = Counter()
    found: list[str] = []
    dotted = 0
    start = len(os.fspath(root))
    again: list[str] = []
    bare: list[str] = []
    parents: set[str] = set()
    for folder, files in walk(root, unlisted, again=again):
        parents.add(os.path.dirname(folder))  # noqa: PTH120
        images = [name for name in files if name.lower().endswith(_LISTED)]
        if _is_hidden(folder[start:]):
            system = next(part for part in Path(folder[start:].lstrip(os.sep)).parts if _is_hidden(part))
            hidden[system] += len(images)
            continue
        if not files:
            bare.append(folder)
        # A leading dot marks what an operating system left behind (._UID_1.bmp), never an image.
        plain = [name for name in images if not name.startswith(".")]
        dotted += len(images) - len(plain)
        found += [_Images.as_sorted(os.path.join(folder, name)) for name in plain]  # noqa: PTH118  # a Path costs ten times as much
        if len(images) < len(files):
            endings = (Path(name).suffix.lower() for name in {*files}.difference(images) if not name.startswith("."))
            others.update(ending for ending in endings if ending not in TABLES)
    kept = Counter({name: count for name, count in hidden.items() if count})
    links = sorted(name[start:].lstrip(os.sep) for name in again)
    empty = sorted(name[start:].lstrip(os.sep) for name in {*bare}.difference(parents, unlisted))
    return _Files(_Images(found), [Path(name) for name in sorted(set(unlisted))], kept, dotted, others, links, empty)


def _without_masks(root: Path, images: _Images, reading: ReadingSettings) -> tuple[_Images, dict[str, str], list[str]]:
    """The images without masks among them, image -> mask where they are to be used, and notes.

    Raises
    ------
    DatasetError : there are masks, and nobody has said what to do with them.
    """
    if reading.masks == "cells":
        return images, {}, []
    masks = find_masks(root, list(images.names))
    if not masks.names:
        return images, {}, ["masks=use: no file is called like a mask."] if reading.masks == "use" else []
    if reading.masks is None:
        refuse_unsaid(root, masks, table_inside(root))
    kept = _Images([_Images.as_sorted(name) for name in images.names if name not in masks.names])
    paired = pair_masks(root, masks) if reading.masks == "use" else {}
    if reading.masks == "ignore":
        return kept, {}, [f"{len(masks.names)} files that are called like masks are left out."]
    notes = [f"{len(masks.of)} of {len(kept)} images have a mask, by its name."]
    if masks.orphans:
        notes.append(
            f"{len(masks.orphans)} masks are of no image that is there, such as {printable(masks.orphans[0])}."
        )
    return kept, paired, notes


def _many(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def mask_of(image: Path, masks: dict[str, str]) -> Path | None:
    """The mask of an image, None where it has none."""
    name = masks.get(os.fspath(image))
    return None if name is None else as_path(name)


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
            label = match["label"].lower()
            if above.lower() in {"all", "hem"} and above.lower() != label:
                raise DatasetError(f"name and folder disagree about {image}", found=f"'{label}' in a folder '{above}'")
            yield Listed(image, label, match["subject"], fold=fold, part=TRAIN)
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
        if name.lower().endswith(".csv") and not _is_hidden(folder[len(os.fspath(root)) :])
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


def _misnamed(images: _Images) -> list[str]:
    """A note on names that begin as C-NMC's do and end otherwise: they tell no class."""
    odd = [name for name in map(_stem, images.names) if name[:4].upper() == "UID_" and not _UID.match(name)]
    shown = f"such as {printable(odd[0])}" if odd else ""
    return (
        [f"begun as C-NMC's names are and ended otherwise: {len(odd)}, {shown}; their class is unknown."] if odd else []
    )


# ---- class folders --------------------------------------------------------------------------------------------------


def _class_folders(
    root: Path, images: _Images, reading: ReadingSettings, *, needs_labels: bool
) -> tuple[str, Iterable[Listed], list[str]]:
    """The layout's name, the images with what their folders say, and notes."""
    start = len(os.fspath(root))
    places = [_place(os.path.dirname(name), start) for name in images.names]  # noqa: PTH120
    table = table_inside(root)
    try:
        layout = find_layout(root, Counter(places), reading.folders, table)
        if reading.folders is None and layout.roles[-1:] == ("label",):
            _check_classes(root, images, places, len(layout.roles) - 1, table)
            if needs_labels:
                _check_table(root, table)
    except Unclear as unclear:
        if needs_labels:
            raise
        layout = Layout((), (f"{unclear.what}, and they are not used; --folders says what they are.",))
    for level, role in enumerate(layout.roles):
        if role != "-" and needs_labels:
            names = sorted({place[level] for place in places if len(place) > level})
            check_spelling(role, names, [None] * len(names), f"the folders of {root}")
    found = (Listed(image, **layout.facts(place)) for image, place in zip(images, places, strict=True))
    return layout.name, found, [*layout.notes, *_versions(images)]


def _versions(images: _Images) -> list[str]:
    """A note on images that are called like other versions of images beside them: c1_flip.png beside c1.png."""
    bases = {
        name: os.path.join(os.path.dirname(name), match[1])  # noqa: PTH118, PTH120
        for name in images.names
        if (match := _VERSION.fullmatch(_stem(name)))
    }
    every = {os.path.splitext(name)[0] for name in images.names} if bases else set()  # noqa: PTH122
    if not (found := [name for name, base in bases.items() if base in every]):
        return []
    shown = f"{printable(os.path.basename(found[0]))} of {printable(os.path.basename(bases[found[0]]))}"  # noqa: PTH119
    return [
        f"called like other versions of images beside them: {len(found)}, such as {shown}; each counts as a cell by "
        "itself. A table's column 'group' keeps those of one image together."
    ]


@lru_cache(maxsize=1024)
def _place(folder: str, start: int) -> Place:
    return tuple(part for part in folder[start:].replace(os.sep, "/").split("/") if part)


def _check_classes(root: Path, images: _Images, places: Sequence[Place], level: int, table: Path | None) -> None:
    """Refuse classes that are the same images twice; see ``check_not_mirrored``."""
    stems: dict[str, list[str]] = {}
    first: dict[str, list[Path]] = {}
    for at, (name, place) in enumerate(zip(images.names, places, strict=True)):
        label = place[level]
        stems.setdefault(label, []).append(_stem(name))
        if len(some := first.setdefault(label, [])) < 2:
            some.append(images[at])
    counts = Counter(stem for names in stems.values() for stem in set(names))
    if max(counts.values()) < 2:
        return
    are_masks = {label: any(map(_is_mask, some)) for label, some in first.items()} if len(stems) <= 100 else {}
    check_not_mirrored(root, stems, are_masks, table, Counter(places))


def _is_mask(path: Path) -> bool:
    """Whether an image is grey, of two or three levels: a mask. What cannot be read is none."""
    from fusion.images.decoding import CellError, decode_image, read_bytes

    try:
        image = decode_image(read_bytes(path)).astype(np.int16)
    except CellError:
        return False
    is_grey = np.mean(np.ptp(image, axis=2) <= 8) > 0.99
    levels = np.sort(np.bincount(image.max(axis=2).ravel() // 8, minlength=32))
    return bool(is_grey and levels[-3:].sum() >= 0.97 * levels.sum())


def _check_table(root: Path, table: Path | None) -> None:
    """Refuse class folders that a table lies in which knows subjects or groups."""
    names = read_header(table) if table is not None else ()
    who = [name for name in names if looks_like(name) in {"subject", "group"}]
    if who:
        raise DatasetError(
            f"{table} lists images of {root}, and what folders do not tell",
            found=f"columns {', '.join(who)}",
            do=f"Give {table} as DATA, or say --folders label for the folders alone.",
        )


# ---- tables ---------------------------------------------------------------------------------------------------------


def read_table(
    file: Path, reading: ReadingSettings = DEFAULT, *, is_lenient: bool = False
) -> tuple[Columns[Listed], list[str]]:
    """Rows of a CSV or Parquet table with a ``path`` and, if known, label, subject, group, fold, mask, um_per_px,
    source, subject_label; and what should be known about it.

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
    masked: dict[Path, tuple[int, bool]] = {}
    again: list[int] = []
    names, columns = list(values), list(values.values())
    for at, line in enumerate(rows.lines):
        entry = _table_row(file, line, dict(zip(names, (column[at] for column in columns), strict=True)))
        known = listed.setdefault((entry.path, entry.mask_path), entry)
        if known is not entry:
            again.append(line)
        masked.setdefault(entry.path, (line, entry.mask_path is not None))
        if masked[entry.path][1] != (entry.mask_path is not None):
            raise DatasetError(
                f"an image stands in {file} once with a mask and once without",
                found=f"{values['path'][at]} in lines {masked[entry.path][0]} and {line}",
                expected="one row an image, or a mask of its own in each",
                do="Fill in the mask, or take one of both rows out.",
            )
        if known != entry:
            differs = next(name for name in Listed.__slots__ if getattr(known, name) != getattr(entry, name))
            raise DatasetError(
                f"line {line} of {file} contradicts an earlier one about the same image",
                found=f"{values['path'][at]} with {differs} {getattr(entry, differs)} and {getattr(known, differs)}",
                expected="one row an image, or a mask of its own in each",
            )
    if not listed:
        raise DatasetError(f"no row in {file}", expected="one image a row")
    if again:
        notes.append(
            f"{file.name}: rows that say the same as one before are left out: {len(again)}, first line {again[0]}."
        )
    return as_columns(listed.values()), [*rows.notes, *notes]


def table_inside(folder: Path) -> Path | None:
    """The first table in ``folder`` that has a column of paths, None where there is none."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in {".csv", ".tsv"} and file.is_file())
    return next((file for file in files if any(looks_like(name) == "path" for name in read_header(file))), None)


def patients_beside(data: Path) -> Path | None:
    """The first table in a folder, or beside a table or a folder of images, that has patients and no images; None where
    there is none, or the data set lies at a URL."""
    if isinstance(data, Remote):
        return None
    places = [data, data.parent] if data.is_dir() else [data.parent]
    for folder in places:
        tables = sorted(each for each in folder.glob("*") if each.suffix.lower() in {".csv", ".tsv"})
        for file in tables[:_TABLES]:
            if file.is_file() and file != data and is_of_patients(read_header(file)):
                return file
    return None


def is_of_patients(columns: Sequence[str]) -> bool:
    """Whether a table with these columns has a row a patient: one names patients, and none images."""
    roles = {looks_like(name) for name in columns}
    return "subject" in roles and "path" not in roles and len(columns) > 1


def _own_truth(folder: Path, images: _Images, reading: ReadingSettings) -> Path | None:
    """The table that ``fusion synthesize`` has left with images of several sites, or of subjects whose cells are of
    several classes or of other ones than C-NMC's, which folders alone do not tell; None where there is none, where the
    user says what folders or masks are, or where it does not list them all.
    """
    file = folder / "truth.csv"
    if reading.folders or reading.masks or not file.is_file():
        return None
    header = {*read_header(file)}
    if not (header >= _OF_SITES or header >= _OF_SUBJECTS):
        return None
    rows = read_rows(file)
    if not header >= _OF_SITES:
        label, own = (rows.columns.index(name) for name in ("label", "subject_label"))
        if all(row[label] == row[own] and row[label] in ("all", "hem") for row in rows.fields):
            return None  # a tree as C-NMC's own, and read as one
    at = [rows.columns.index(name) for name in ("path", "mask") if name in header]
    listed = {os.path.join(os.fspath(folder), row[place]) for row in rows.fields for place in at}  # noqa: PTH118
    return file if listed.issuperset(images.names) else None


def _table_row(file: Path, number: int, values: dict[str, str | None]) -> Listed:
    path, mask, scale = values["path"], values.get("mask"), values.get("um_per_px")
    if path is None:
        raise DatasetError(f"line {number} of {file} has no path")
    try:
        um_per_px = float(scale) if scale else None
    except ValueError:  # a word is no length either
        um_per_px = math.nan
    if um_per_px is not None and (not PIXEL_UM[0] <= um_per_px <= PIXEL_UM[1] or "_" in str(scale)):
        raise DatasetError(
            f"line {number} of {file} gives a pixel no length that a microscope has",
            found=f"um_per_px {scale}",
            expected=f"micrometres, {PIXEL_UM[0]:g} to {PIXEL_UM[1]:g}",
            do="Convert nanometres; leave it empty where it is not known.",
        )
    return Listed(
        path=join(file.parent, path),
        label=values.get("label"),
        subject=values.get("subject"),
        group=values.get("group"),
        fold=values.get("fold"),
        mask_path=join(file.parent, mask) if mask else None,
        um_per_px=um_per_px,
        source=values.get("source"),
        subject_label=values.get("subject_label"),
    )


def _with_points(file: Path, rows: Rows, column: list[str | None]) -> tuple[list[str | None], list[str]]:
    """Numbers with decimal commas as numbers; 1,250 may be a thousand and more, and stays, to be refused."""
    commas = [value for value in column if value and re.fullmatch(r"\d+,\d+", value)]
    if not commas or any(re.fullmatch(r"[1-9]\d*,\d{3}", value) for value in commas):
        return column, []
    read = [value.replace(",", ".") if value in commas else value for value in column]
    return read, [f"{file.name}: um_per_px has decimal commas: {commas[0]} is read as {commas[0].replace(',', '.')}."]
