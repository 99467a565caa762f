"""A data set: labelled images with their subjects, folds and content keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.compute.memory import give_back
from fusion.data import readers
from fusion.data._file_index import Content, FileIndex
from fusion.data.groups import merge_groups
from fusion.data.patient_table import read_patients, with_patients
from fusion.data.readers import DatasetError, Listed
from fusion.data.subjects import Identity, identities
from fusion.errors import FusionError, UsageError
from fusion.images.cell import Cell, make_cell
from fusion.images.cell_transform import Change
from fusion.images.decoding import MISSING, decode_image, decode_mask, read_bytes
from fusion.images.masks import GivenMask, read_mask
from fusion.io.cache_folder import default_store
from fusion.io.csv_text import csv_rows
from fusion.io.files import printable, sha256
from fusion.io.notebook_table import notebook_table
from fusion.io.output_files import unwritable, write_output
from fusion.io.record_columns import Columns
from fusion.io.remote_path import as_path
from fusion.io.run_inputs import protect, protect_later
from fusion.settings.data import ReadingSettings, Unit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset", "DatasetError", "Fault", "NoUsableImage", "Sample", "load_dataset", "load_images"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image.

    ``image_key`` is the hash of the image file, ``pixel_key`` that of its decoded pixels, None where they tell
    nothing (JPEG; see ``fusion.images.decoding.pixel_key``): two samples that share either show the same image,
    whatever their names, and belong on one side of every split. ``key`` is ``image_key`` unless there is a mask, which
    it then covers too: it says which measurements can be reused. ``source`` is the site, scanner or batch of slides,
    as the data set names it; it is never guessed. ``mask_levels`` is what the mask's values mean, where a user has
    said so. ``shares_image`` says that the data set lists other cells of this image, each with a mask of its own.
    ``adjustment`` is what the cell is changed by before it is measured. ``subject_label`` is the class of its subject,
    where a table says so; in a data set of patients that is the ``label``, and ``cell_label`` the cell's own.
    """

    path: Path
    key: str
    image_key: str
    label: str | None = None
    subject: str | None = None
    group: str | None = None
    fold: str | None = None
    mask_path: Path | None = None
    mask_levels: str | None = None
    um_per_px: float | None = None
    source: str | None = None
    shares_image: bool = False
    adjustment: Change | None = None
    pixel_key: str | None = None
    subject_label: str | None = None
    cell_label: str | None = None

    @property
    def measured_key(self) -> str:
        """Which measurements can be reused: see the function of this name."""
        return measured_key(self.key, self.adjustment)

    @property
    def image_id(self) -> str:
        """What tells its image from others: the pixels, or the bytes where these alone do. The same bytes have the
        same pixels, so that one of both says all."""
        return self.pixel_key or self.image_key

    @property
    def identity(self) -> Identity | None:
        """The subject as this sample alone tells it: id, or (source, id); None where it is unknown."""
        return identities([self.subject], [self.source])[0]

    def read_mask(self) -> GivenMask | None:
        """The mask as it is meant; None where there is none.

        Raises
        ------
        CellError : it cannot be read, or in more than one way.
        """
        if self.mask_path is None:
            return None
        return read_mask(read_bytes(self.mask_path), self.mask_levels, self.mask_path.name)

    def read_cell(self) -> Cell:
        """The cell as it is in its files, without ``adjustment``.

        Raises
        ------
        CellError : a file cannot be read, or holds no measurable cell.
        """
        return make_cell(decode_image(read_bytes(self.path)), self.read_mask(), self.um_per_px)


def measured_key(key: str, adjustment: Change | None) -> str:
    """Which measurements of a cell can be reused: by its ``key``, and what it is changed by before it is measured."""
    return key if adjustment is None else sha256(f"{key}+{adjustment.fingerprint}".encode())


@dataclass(frozen=True)
class Fault:
    """An image that was skipped: where in the work ("read", "cell", "extract") and why, in one line; and whose it is,
    where that is known."""

    path: Path
    stage: str
    reason: str
    subject: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


@dataclass(frozen=True)
class Dataset:
    """Images that can be read, those that cannot, and what the reader wants known.

    Attributes
    ----------
    root : the folder, or the table's folder; sample names are relative to it.
    layout : "cnmc", "class folders", "folder" or "table".
    samples : readable images in the order of the listing; kept as columns, and made when asked for.
    faults : unreadable images.
    notes : remarks for the user, one line each.
    indexes : files in which the contents of the images are remembered.
    declared : name of the public data set that it is, see ``registers.public_datasets``; None where nobody says so.
    left_out : why readable images are not among the samples, and how many for each reason.
    unit : what is labelled, "cell" or "subject"; see ``fusion.data.patients.patient_labels``.

    Examples
    --------
    >>> load("cells")  # doctest: +SKIP
    Dataset(32 images of 8 subjects; all 16, hem 16)
    """

    root: Path
    layout: str
    samples: Sequence[Sample]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    indexes: tuple[Path, ...] = field(default=(), compare=False)
    declared: str | None = None
    left_out: tuple[tuple[str, int], ...] = ()
    unit: Unit = "cell"

    def __post_init__(self) -> None:
        if not isinstance(self.samples, Columns):
            object.__setattr__(self, "samples", as_columns(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        counts = Counter(label for label in self.each("label") if label is not None)
        subjects = {subject for subject in self.each("subject") if subject is not None}
        who = f" of {len(subjects)} subjects" if subjects else ""
        classes = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
        return f"Dataset({len(self)} images{who}; {classes or 'no labels'})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.to_frame)

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame, a row an image: name, path, label, subject, group, source, fold, mask."""
        import pandas as pd

        columns = {name: list(self.each(name)) for name in ("path", "label", "subject", "group", "source", "fold")}
        return pd.DataFrame({"name": self.names, **columns, "mask": list(self.each("mask_path"))})

    @property
    def names(self) -> list[str]:
        """Path of every sample relative to ``root``, as printable text; that of the mask too where there are several
        cells in the image. No two are alike."""
        parts = zip(self.each("path"), self.each("mask_path"), self.each("shares_image"), strict=True)
        return [_name(path, mask if is_shared else None, self.root) for path, mask, is_shared in parts]

    @property
    def place(self) -> str:
        """Where the samples are from, for messages: the folder, unless it is the one that we are in."""
        return "the data" if self.root == Path() else printable(self.root)

    def name_of(self, sample: Sample) -> str:
        """The sample's name among ``names``."""
        return _name(sample.path, sample.mask_path if sample.shares_image else None, self.root)

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(set(self.each("label")) - {None})

    @property
    def subjects_known(self) -> bool:
        """Whether any sample names its subject. One that does not counts as one of its own."""
        return any(subject is not None for subject in self.each("subject"))

    def each(self, attribute: str) -> Iterator[Any]:
        """One attribute of every sample, in order, without making the samples."""
        assert isinstance(self.samples, Columns)  # as __post_init__ has made it
        return self.samples.column(attribute)

    def groups(self) -> NDArray[np.intp]:
        """Group number of every sample: subjects and groups, merged wherever they share an image."""
        return merge_groups(
            identities(list(self.each("subject")), list(self.each("source"))),
            self.image_ids(),
            list(self.each("group")),
        )

    def image_ids(self) -> list[str]:
        """``Sample.image_id`` of every sample."""
        return [pixels or image for pixels, image in zip(self.each("pixel_key"), self.each("image_key"), strict=True)]

    def forget(self, samples: Iterable[Sample]) -> None:
        """Let the files of these be hashed again by whoever reads the data set next: they hold something else."""
        paths = [path for sample in samples for path in (sample.path, sample.mask_path) if path is not None]
        for index in self.indexes if paths else ():
            FileIndex(index).forget(paths)

    def with_source(self, source: str | None) -> Dataset:
        """The same data set, with this source for every sample that has none; None leaves all as it is."""
        if source is None:
            return self
        named = (sample if sample.source else replace(sample, source=source) for sample in self.samples)
        faults = tuple(fault if fault.source else replace(fault, source=source) for fault in self.faults)
        return replace(self, samples=as_columns(named), faults=faults)

    def select(self, classes: Sequence[str] = (), folds: Sequence[str] = (), sources: Sequence[str] = ()) -> Dataset:
        """The samples of these classes, folds and sources; an empty selection keeps all.

        Raises
        ------
        UsageError : a class, fold or source that does not occur.
        """
        kept = np.ones(len(self), bool)
        for option, attribute, wanted in (
            ("--classes", "label", classes),
            ("--folds", "fold", folds),
            ("--sources", "source", sources),
        ):
            known = set(self.each(attribute)) - {None}
            if unknown := sorted(set(wanted) - known):
                raise UsageError(
                    f"{option} names what the data set does not have",
                    found=", ".join(unknown),
                    expected=", ".join(sorted(known)) or f"no {attribute} is known",
                )
            if wanted:
                kept &= np.fromiter((value in wanted for value in self.each(attribute)), bool, len(self))
        return self._only(kept, "of other classes, folds or sources than those asked for")

    def labelled(self, least: int = 2) -> Dataset:
        """The labelled samples.

        Parameters
        ----------
        least : number of classes that they must be of.

        Raises
        ------
        DatasetError : there are none, or they are of fewer classes.
        """
        found = self._only(
            np.fromiter((label is not None for label in self.each("label")), bool, len(self)), "without a label"
        )
        if len(found.classes) < least:
            told = f"all '{found.classes[0]}'" if found.classes else "of 0 classes"
            of_cells = "Give class folders, C-NMC file names, or a table with a column 'label'."
            if found.classes:
                of_cells = "Give cells of another class too. A trained model is judged by one, too: fusion evaluate."
            raise DatasetError(
                f"{'nothing to compare' if least > 1 else 'no labels'} in {self.place}",
                found=f"{len(found)} {'images of labelled subjects' if self.unit == 'subject' else 'labelled images'}, "
                f"{told}",
                expected="at least two classes" if least > 1 else "labels",
                do="Fill the column 'subject_label', or give a table of patients with a column 'label': --patients."
                if self.unit == "subject"
                else of_cells,
            )
        unlabelled = len(self) - len(found)
        notes = (*self.notes, f"{unlabelled} images without a label are left out.") if unlabelled else self.notes
        return replace(found, notes=notes)

    def _only(self, kept: NDArray[np.bool_], reason: str) -> Dataset:
        if kept.all():
            return self
        return replace(
            self,
            samples=as_columns(sample for sample, is_kept in zip(self.samples, kept, strict=True) if is_kept),
            left_out=(*self.left_out, (reason, int((~kept).sum()))),
        )


def load_dataset(
    path: Path | str,
    *,
    part: str | None = None,
    mask_levels: str | None = None,
    reading: ReadingSettings = readers.DEFAULT,
    is_lenient: bool = False,
    needs_labels: bool = True,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read a C-NMC tree, a folder of class folders, a flat folder, or a CSV/Parquet table.

    Parameters
    ----------
    path : the folder or table.
    part : of a C-NMC release: "train", "preliminary", "final" or "all". None takes the training part where there
        are several, so that no test image is trained on by accident, and says so in ``notes``.
    mask_levels : what the values of masks mean, as ``--mask-levels`` takes it; None where they are clear.
    reading : what a table's columns are, and what else the user says of how the data set is to be read.
    is_lenient : whether columns that ``reading`` names may be lacking, as in the second of two tables.
    needs_labels : whether folders of which it is not certain what they mean stop the run.
    store : where the index of file contents lives; None takes ``$FUSION_CACHE`` or the platform's cache folder.
    progress : called with (files read, files to read).

    Raises
    ------
    DatasetError : nothing to read; see ``readers.read_listing``.

    Examples
    --------
    >>> load("cells").classes  # doctest: +SKIP
    ['all', 'hem']
    """
    path = as_path(path)
    protect([path])
    layout, listed, remarks = readers.read_listing(path, reading, is_lenient=is_lenient, needs_labels=needs_labels)
    listed, notes = _choose_part(listed, part, path)
    notes = [*remarks, *notes]
    if reading.patients is not None:
        protect([reading.patients])
        patients = read_patients(reading.patients, reading)
        listed, joined = with_patients(listed, patients, is_partial=is_lenient)
        notes += [*patients.notes, *joined]
    index = _index_of(path, store)
    contents = index.look_up(listed.written("path"), progress=progress)
    masked = filter(None, listed.written("mask_path"))
    masks = iter(index.look_up(masked, _check_mask))
    remembered_in = index.path
    del index
    faults: list[Fault] = []
    samples = as_columns(_readable(listed, contents, masks, faults, mask_levels))
    if layout == "table":
        samples = _told_apart(samples)
    del listed, contents, masks
    give_back()
    if layout == "table" and not samples:
        _check_some_there(path, faults)
    if layout in ("class folders", "folder") and (table := readers.table_inside(path)):
        notes.append(f"{table} lists images too, and is not used: give it as DATA for its labels, subjects and masks.")
    if layout != "cnmc" and reading.patients is None and (table := readers.patients_beside(path)):
        notes.append(f"{table} has a row a patient, and is not used: --patients {table} joins it to the images.")
    notes += nameless_notes(samples.column("subject"), samples.column("group"))
    root = path if path.is_dir() else path.parent
    protect_later(lambda: (each for sample in samples for each in (sample.path, sample.mask_path)))
    return Dataset(root, layout, samples, tuple(faults), tuple(notes), (remembered_in,))


class NoUsableImage(FusionError):
    """Of all images that were given not one can be used: exit code 1."""


def check_usable(count: int, faults: Sequence[Fault]) -> None:
    """Raise NoUsableImage, with the commonest reason, where there are faults and nothing else."""
    if count or not faults:
        return
    raise NoUsableImage(
        f"not one of {len(faults)} images can be used",
        found=commonest_reason(faults),
        do="docs/input.md says what is read.",
    )


def commonest_reason(faults: Sequence[Fault]) -> str:
    """Why most of these images were skipped, with one of them."""
    reasons = Counter(fault.reason for fault in faults)
    reason, often = reasons.most_common(1)[0]
    first = next(fault for fault in faults if fault.reason == reason)
    return f"{often} of {len(faults)}, such as {first}"


def _check_some_there(table: Path, faults: Sequence[Fault]) -> None:
    """DatasetError where no image of a table is there at all, with what may be wrong about all of them."""
    if not faults or any(fault.reason != MISSING for fault in faults):
        return
    start, first = table if table.is_dir() else table.parent, faults[0].path
    folder, text = start.absolute(), str(first.relative_to(start) if first.is_relative_to(start) else first)
    hints = []
    if "\\" in text:
        hints.append("The paths have backslashes: write /.")
    if text.startswith("~"):
        hints.append("~ is not the home folder in a table: write that out.")
    if re.match(r"[A-Za-z]:", text):
        hints.append(f"{text[:2]} is a drive of another machine.")
    if Path(text).exists():
        hints.append(f"They are there from {Path.cwd()}: put the table there, or write the paths from its folder.")
    raise DatasetError(
        f"none of the {len(faults)} images of {table} is there",
        found=f"no file {printable(folder / text)}",
        expected=f"paths that start at the table's folder, {folder}, or absolute ones",
        do=" ".join(hints),
    )


def load_images(
    paths: Sequence[Path], *, store: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Images that are named one by one, in this order; names of C-NMC's tell label and subject.

    ``store`` and ``progress`` are those of ``load_dataset``. What the images of a folder hold is remembered where
    ``load_dataset`` remembers it for that folder.

    Raises
    ------
    DatasetError : a file that is not there.
    """
    listed = [entry for path in paths for entry in readers.read_listing(path).entries]
    contents: dict[Path, Content] = {}
    indexes = []
    for folder in dict.fromkeys(path.parent for path in paths):
        inside = [path for path in paths if path.parent == folder]
        before = len(contents)

        def tell(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, len(paths))

        index = _index_of(folder, store)
        indexes.append(index.path)
        contents |= zip(inside, index.look_up(inside, progress=tell), strict=True)
    read = [_sample(entry, contents[entry.path], None) for entry in listed]
    return Dataset(
        root=paths[0].parent if len(paths) == 1 else Path(),
        layout="folder",
        samples=tuple(each for each in read if isinstance(each, Sample)),
        faults=tuple(each for each in read if isinstance(each, Fault)),
        indexes=tuple(indexes),
    )


def _readable(
    listed: Iterable[Listed],
    contents: Iterable[Content],
    masks: Iterator[Content],
    faults: list[Fault],
    mask_levels: str | None,
) -> Iterator[Sample]:
    """The samples that can be read; the others go to ``faults``. ``masks`` are of those that have one."""
    for entry, image in zip(listed, contents, strict=True):
        sample = _sample(entry, image, None if entry.mask_path is None else next(masks), mask_levels)
        if isinstance(sample, Sample):
            yield sample
        else:
            faults.append(sample)


def _told_apart(samples: Columns[Sample]) -> Columns[Sample]:
    """The samples, with a word where several are of one image."""
    often = {path for path, count in Counter(samples.written("path")).items() if count > 1}
    if not often:
        return samples
    paths = list(samples.written("path"))
    return as_columns(replace(sample, shares_image=path in often) for sample, path in zip(samples, paths, strict=True))


def as_columns(samples: Iterable[Sample]) -> Columns[Sample]:
    """The samples as columns, made one after the other: a million of them need never be there at once."""
    return Columns(Sample, samples, ("path", "mask_path"), ("key", "image_key", "pixel_key"))


def _index_of(path: Path, store: Path | None) -> FileIndex:
    return FileIndex((store or default_store()) / "index" / f"{sha256(bytes(path.resolve()))[:16]}.arrow")


def nameless_notes(subjects: Iterable[str | None], groups: Iterable[str | None]) -> list[str]:
    """A note on cells without a subject among others that have one."""
    named = [subject is not None or group is not None for subject, group in zip(subjects, groups, strict=True)]
    missing = len(named) - sum(named)
    if not missing or missing == len(named):
        return []
    if missing == 1:
        return ["1 cell names no subject and counts as one of its own."]
    return [f"{missing} of {len(named)} cells name no subject, and each counts as one of its own."]


def _check_mask(data: bytes) -> str:
    """A mask is told by its bytes alone: what it draws counts with its image's. Refused is what cannot be read
    whatever its values are said to mean."""
    decode_mask(data, "red")
    return ""


def content_key(image_key: str, mask_key: str | None, mask_levels: str | None = None) -> str:
    """The sample's key: the image's hash, or that of image, mask and what the mask's values were said to mean."""
    if mask_key is None:
        return image_key
    return sha256("+".join(filter(None, (image_key, mask_key, mask_levels))).encode())


def _name(path: Path, mask: Path | None, root: Path) -> str:
    return sample_name(path, root) + ("" if mask is None else f" ({sample_name(mask, root)})")


def sample_name(path: Path, root: Path) -> str:
    """How an image is called in tables and messages: relative to its data set where it lies inside."""
    return printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path)


def write_faults(path: Path, faults: Sequence[Fault], root: Path) -> None:
    """Write the skipped images as CSV with the columns file, stage, reason; the header alone where there are none.

    Raises
    ------
    UsageError : the file cannot be written.
    """
    rows = [(sample_name(fault.path, root), fault.stage, fault.reason) for fault in faults]
    try:
        write_output(path, csv_rows([("file", "stage", "reason"), *rows]))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def _choose_part(listed: Columns[Listed], part: str | None, path: Path) -> tuple[Columns[Listed], list[str]]:
    counts = Counter(part for part in listed.column("part") if part is not None)
    if part not in (None, "all") and part not in counts:
        raise DatasetError(
            f"no {part} part in {path}",
            expected=", ".join(counts) or "this data set has no parts, as a C-NMC release has",
        )
    if part == "all" or len(counts) < 2:
        return listed, []
    known = [name for name in (readers.TRAIN, readers.PRELIMINARY) if name in counts]
    if part is None and not known:
        raise DatasetError(f"{path} has several parts, and none to train on", found=", ".join(counts), do="Say --part.")
    chosen = part or known[0]
    # None: a folder that cannot be listed
    kept = readers.as_columns(entry for entry in listed if entry.part in (chosen, None))
    rest = ", ".join(f"{name} ({count} images)" for name, count in counts.items() if name != chosen)
    return kept, [] if part else [f"{path} has several parts: taking {chosen}, not {rest}. Choose with --part."]


def _sample(entry: Listed, image: Content, mask: Content | None, mask_levels: str | None = None) -> Sample | Fault:
    if image.fault:
        return Fault(entry.path, "read", image.fault, entry.subject, entry.source)
    if mask is not None and mask.fault:
        return Fault(entry.path, "read", f"mask {entry.mask_path}: {mask.fault}", entry.subject, entry.source)
    return Sample(
        path=entry.path,
        key=content_key(image.bytes_hash, None if mask is None else mask.bytes_hash, mask_levels),
        image_key=image.bytes_hash,
        label=entry.label,
        subject=entry.subject,
        group=entry.group,
        fold=entry.fold,
        mask_path=entry.mask_path,
        mask_levels=None if mask is None else mask_levels,
        um_per_px=entry.um_per_px,
        source=entry.source,
        pixel_key=image.pixels or None,
        subject_label=entry.subject_label,
    )


def fault_row(fault: Fault, root: Path) -> dict[str, str]:
    """A fault as plain values: path, stage, reason."""
    return {"path": sample_name(fault.path, root), "stage": fault.stage, "reason": fault.reason}
