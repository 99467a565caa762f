"""What a file shows beside its cell: background, border, size, format, camera, compression, its place among others.

None of it is biology, and a network sees most of it. Nothing here looks into the cell, whose size and colour may differ
between classes by right: the background begins a tenth of the cell's diameter outside its contour, and bytes per pixel,
which follow from what is shown, are left out.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.compute import process_pool
from fusion.compute.graceful_stop import Stop
from fusion.data.dataset import Dataset, Sample
from fusion.features.extraction import worker_count
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.images.file_headers import read_header

_Image = NDArray[np.uint8]

#: The family that is judged together, in the order of ties.
PROBES = (
    "background",
    "border",
    "image size",
    "file format",
    "EXIF camera",
    "compression",
    "source",
    "number in the file name",
    "row of the table",
)

#: Share of the cell's diameter around it, and pixels at least, that are no background yet: blur, halo, missed rim.
_HALO, _LEAST_HALO = 0.1, 4

#: Pixels that a background must have to be described.
_LEAST_BACKGROUND = 50

#: Width of the frame that is the border, as a share of the image's shorter side, and pixels at least.
_FRAME, _LEAST_FRAME = 0.01, 2

#: Levels of a channel between pixels of one row below which the row is part of a bar: JPEG leaves bars a little noise.
_BAR = 4

#: Values up to which a pixel is black.
_BLACK = 3

#: Words of one kind that are told apart; the rarer ones count as one.
_WORDS = 12

#: EXIF: make, model, software. TIFF has the same tags.
_EXIF = (271, 272, 305)

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
    tables, sampling, camera = _metadata(content)
    numbers |= {
        "image size": (width, height, width / height, width * height),
        "border": _border(rgb),
        "background": _background(rgb, sample),
        "compression": (blockiness(rgb), *tables),
    }
    # What bits and colours there are tells how a file was made; a palette or alpha is kept by few programs.
    words = {
        "file format": (header.format, header.colours, str(header.bits), sample.path.suffix.lower()),
        "EXIF camera": camera,
        "compression": (sampling,),
    }
    return Trace(numbers, words)


def _background(rgb: _Image, sample: Sample) -> tuple[float, ...]:
    """Mean and spread of the channels, and the share of black, of what lies outside the cell and its halo."""
    try:
        cell = make_cell(rgb, sample.read_mask())
    except CellError:
        return ()
    top, left = cell.origin
    outside: NDArray[np.uint8] = np.ones(rgb.shape[:2], np.uint8)
    outside[top : top + cell.mask.shape[0], left : left + cell.mask.shape[1]] -= cell.mask
    halo = max(_LEAST_HALO, _HALO * 2 * np.sqrt(cell.mask.sum() / np.pi))
    values = rgb[cv2.distanceTransform(outside, cv2.DIST_L2, 5) > halo]
    return _described(values) if len(values) >= _LEAST_BACKGROUND else ()


def _border(rgb: _Image) -> tuple[float, ...]:
    """The same of the outermost frame, and how many lines of one colour lie along each side."""
    wide = max(_LEAST_FRAME, round(_FRAME * min(rgb.shape[:2])))
    inside: NDArray[np.bool_] = np.zeros(rgb.shape[:2], bool)
    inside[wide:-wide, wide:-wide] = True
    bars = [_bar(side) for side in (rgb, rgb[::-1], rgb.swapaxes(0, 1), rgb.swapaxes(0, 1)[::-1])]
    return (*_described(rgb[~inside]), *bars)


def _bar(lines: _Image) -> float:
    """How many lines from the first one on are of one colour, as a share of all."""
    is_even = (np.ptp(lines, axis=1) <= _BAR).all(axis=1)
    return float((len(is_even) if is_even.all() else is_even.argmin()) / len(is_even))


def _described(values: _Image) -> tuple[float, ...]:
    black = (values <= _BLACK).all(axis=1).mean()
    return (*values.mean(axis=0).tolist(), *values.std(axis=0).tolist(), float(black))


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


def _metadata(content: bytes) -> tuple[tuple[float, ...], str, tuple[str, ...]]:
    """Sum of each JPEG table (luminance, chrominance; NaN where there is none), how chrominance is sampled and ordered,
    and what EXIF says of camera and software."""
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
    except Exception:  # damaged metadata of an image that decodes: it tells nothing, and any library error may come
        return (np.nan, np.nan), "", ()
    sums = [float(sum(tables[at])) if at in tables else np.nan for at in (0, 1)]
    return (sums[0], sums[1]), sampling, tuple(words)


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
