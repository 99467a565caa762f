"""What a file shows beside its cell: its surroundings, size, format, camera, compression, and its place among others.

None of it is biology, and a network sees most of it. What an image shows around its cell is described in
``surroundings``; bytes per pixel, which follow from what is shown, are left out.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.shortcuts.surroundings import surroundings
from fusion.compute import process_pool
from fusion.compute.graceful_stop import Stop
from fusion.data.dataset import Dataset, Sample, sample_name
from fusion.features.extraction import worker_count
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.images.file_headers import read_header
from fusion.io.remote_path import Remote

_Image = NDArray[np.uint8]

#: What no model is shown, but a split by position or a person who labels in order is.
UNSEEN = ("folder", "words of the file name", "number in the file name", "time of the file", "row of the table")

#: The family that is judged together, in the order of ties.
PROBES = (
    "background",
    "border",
    "marks",
    "illumination",
    "focus",
    "position of the cell",
    "image size",
    "file format",
    "EXIF camera",
    "compression",
    "source",
    *UNSEEN,
)

#: Words of one kind that are told apart; the rarer ones count as one.
_WORDS = 12

#: EXIF: make, model, software; time. TIFF has the same tags.
_EXIF, _TIME = (271, 272, 305), 306

#: Seconds that times must lie apart to be told from each other: files that were copied in one go differ by their order.
_DAY = 86_400

#: Images a task.
_TASK = 16


@dataclass(frozen=True)
class Trace:
    """What one file shows: by probe numbers, NaN where there is none, and words."""

    numbers: dict[str, tuple[float, ...]]
    words: dict[str, tuple[str, ...]]


def collect_traces(
    dataset: Dataset, positions: Sequence[int], jobs: int = 0, progress: Callable[[int, int, int], None] | None = None
) -> dict[str, NDArray[np.float64]]:
    """By probe float64 (n, columns) of the samples at these positions, NaN where a file does not tell.

    Words are a column each, 1 where the file has it. A probe by which all files are alike has no column.
    """
    samples = [dataset.samples[at] for at in positions]
    tasks = (samples[start : start + _TASK] for start in range(0, len(samples), _TASK))
    found: list[Trace] = []
    with Stop() as stop:
        for traces in process_pool.run(_traces, tasks, worker_count(jobs, len(samples)), _lost, stop.__bool__):
            found += traces
            if progress is not None:
                progress(len(found), len(samples), 0)
    if len(found) < len(samples):
        raise KeyboardInterrupt
    columns = {name: _columns(name, found) for name in PROBES}
    columns["folder"], columns["words of the file name"] = _of_names(dataset, samples)
    columns["time of the file"] = _in_days(columns["time of the file"])
    if any(sample.source for sample in samples):
        columns["source"] = _one_hot([sample.source or "" for sample in samples])
    if dataset.layout == "table":
        columns["row of the table"] = np.array(positions, np.float64)[:, None]
    return {name: _varying(columns[name]) for name in PROBES}


def _traces(samples: Sequence[Sample]) -> list[Trace]:
    return [read_trace(sample) for sample in samples]


def _lost(sample: Sample) -> Trace:
    return Trace({}, {})


def read_trace(sample: Sample) -> Trace:
    """What the file of one sample shows; nothing of a file that cannot be read, which others report."""
    digits = re.findall(r"\d+", sample.path.stem)
    numbers: dict[str, tuple[float, ...]] = {
        "number in the file name": tuple(float(digits[at][-15:]) for at in (0, -1)) if digits else ()
    }
    try:
        content = read_bytes(sample.path)
        rgb = decode_image(content)
    except CellError:
        return Trace(numbers, {})
    height, width = rgb.shape[:2]
    header = read_header(content)
    metadata = _metadata(content)
    numbers |= surroundings(rgb, _cell_of(rgb, sample))
    numbers |= {
        "image size": (width, height, width / height, width * height),
        "compression": (blockiness(rgb), *metadata.tables),
        "time of the file": (_written(sample.path), metadata.time),
    }
    # What bits and colours there are tells how a file was made; a palette or alpha is kept by few programs.
    words = {
        "file format": (header.format, header.colours, str(header.bits), sample.path.suffix.lower()),
        "EXIF camera": metadata.camera,
        "compression": (metadata.sampling,),
    }
    return Trace(numbers, words)


def _cell_of(rgb: _Image, sample: Sample) -> NDArray[np.bool_] | None:
    """The cell's mask in the whole image, None where there is no cell."""
    try:
        cell = make_cell(rgb, sample.read_mask())
    except CellError:
        return None
    (top, left), (high, wide) = cell.origin, cell.mask.shape
    whole: NDArray[np.bool_] = np.zeros(rgb.shape[:2], bool)
    whole[top : top + high, left : left + wide] = cell.mask
    return whole


def _written(path: Path) -> float:
    """When the file was last written, in seconds; NaN of one that is elsewhere or has gone."""
    try:
        return float("nan") if isinstance(path, Remote) else path.stat().st_mtime
    except OSError:
        return float("nan")


def blockiness(rgb: _Image) -> float:
    """How much stronger steps of brightness are on a grid of 8 pixels than between its lines: what JPEG leaves behind,
    in a file that was saved as PNG afterwards, too.

    The mean absolute third difference across the lines of the strongest of the 8 phases over that of the other
    phases, both directions together: about 1 without a grid, NaN where the image is too small or even. After Wang,
    Bovik and Evans (2000), ICIP, who compare differences across and beside the lines.
    """
    grey = rgb.astype(np.float64) @ (0.299, 0.587, 0.114)
    ratios = []
    for image in (grey, grey.T):
        if image.shape[1] < 32:
            return float("nan")
        steps = np.abs(np.diff(image, 3, axis=1)).mean(axis=0)
        phases = np.array([steps[phase::8].mean() for phase in range(8)])
        best = int(phases.argmax())
        rest = np.median(np.delete(phases, best))
        ratios.append(phases[best] / rest if rest > 0 else np.nan)
    return float(np.mean(ratios))


@dataclass(frozen=True)
class _Metadata:
    """What a file says of its making.

    Attributes
    ----------
    tables : sum of each JPEG table (luminance, chrominance), NaN where there is none.
    sampling : how chrominance is sampled and ordered.
    camera : what EXIF says of camera and software.
    time : when EXIF says that it was taken, in seconds, else NaN.
    """

    tables: tuple[float, float] = (np.nan, np.nan)
    sampling: str = ""
    camera: tuple[str, ...] = ()
    time: float = np.nan


def _metadata(content: bytes) -> _Metadata:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with Image.open(io.BytesIO(content)) as image:
            tables, sampling = {}, ""
            if isinstance(image, JpegImageFile) and image.quantization:
                tables, sampling = image.quantization, str([part[1:3] for part in image.layer])
            sampling += " progressive" if image.info.get("progressive") else ""
            sampling += str(image.info.get("compression", ""))
            exif = image.getexif()
            words = [str(exif.get(tag, "")).strip("\0 ") for tag in _EXIF]
            words.append(str(image.info.get("Software", "")))
            words.append("ICC profile" if image.info.get("icc_profile") else "")
            taken = _seconds(str(exif.get(_TIME, "")))
    except Exception:  # damaged metadata of an image that decodes: it tells nothing, and any library error may come
        return _Metadata()
    sums = [float(sum(tables[at])) if at in tables else np.nan for at in (0, 1)]
    return _Metadata((sums[0], sums[1]), sampling, tuple(words), taken)


def _seconds(text: str) -> float:
    """Of EXIF's "2024:05:31 12:30:00"; NaN of anything else."""
    try:
        return datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def _of_names(dataset: Dataset, samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns of the folders of images and of the words in their names, without the names of classes: those say how the
    labels are kept. None where classes are read from names."""
    if dataset.layout == "cnmc":
        return np.empty((len(samples), 0)), np.empty((len(samples), 0))
    classes = {name.casefold() for name in dataset.classes}
    paths = [PurePosixPath(sample_name(sample.path, dataset.root)) for sample in samples]
    folders = ["/".join(part for part in path.parent.parts if part.casefold() not in classes) for path in paths]
    words = [[word for word in re.findall(r"[^\W\d_]+", path.stem.casefold()) if word not in classes] for path in paths]
    return _one_hot(folders), _one_hot([" ".join(each) for each in words])


def _in_days(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The columns whose times lie a day apart, or that some files lack; the others as if all were alike."""
    spread = np.nanmax(times, axis=0, initial=-np.inf) - np.nanmin(times, axis=0, initial=np.inf)
    return np.where((spread < _DAY) & ~np.isnan(times), 0.0, times)


def _columns(name: str, traces: Sequence[Trace]) -> NDArray[np.float64]:
    """The probe's numbers and words of every file side by side."""
    numbers = [trace.numbers.get(name, ()) for trace in traces]
    width = max(map(len, numbers), default=0)
    held = np.array([row or (np.nan,) * width for row in numbers], np.float64).reshape(len(traces), width)
    words = [trace.words.get(name, ()) for trace in traces]
    kinds = max(map(len, words), default=0)
    parts = [_one_hot([row[at] if row else "" for row in words]) for at in range(kinds)]
    return np.hstack([held, *parts])


def _one_hot(words: Sequence[str]) -> NDArray[np.float64]:
    """float64 (n, words): a column each for the commonest, one for all others."""
    common = [word for word, _ in Counter(words).most_common(_WORDS)]
    codes = np.array([common.index(word) if word in common else len(common) for word in words], np.intp)
    found: NDArray[np.float64] = np.eye(len(common) + 1)[codes]
    return found


def _varying(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """The columns that differ between any two files, and where they are defined counts as a difference."""
    undefined = np.isnan(X)
    filled = np.where(undefined, 0.0, X)
    return X[:, (filled != filled[:1]).any(axis=0) | (undefined != undefined[:1]).any(axis=0)]
