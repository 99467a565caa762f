"""Measuring cells: an image is read, decoded and cropped once for all extractors that miss it.

What runs in worker processes is here, and nothing of it knows the store.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Fault, Sample, content_key, measured_key
from fusion.images.cell import Cell, CellError, ImageError, decode_image, make_cell, read_bytes
from fusion.images.masks import read_mask
from fusion.io.content_hash import hash_content
from fusion.io.remote_path import Remote
from fusion.plugins.extractors import Extractor, NeedsRedCells
from fusion.plugins.registry import stored_as

#: A sample, and the names of the extractors that it lacks.
Need = tuple[Sample, frozenset[str]]

#: The content of a sample's image, and of its mask where it has one.
Content = tuple[bytes, bytes | None]

#: Samples elsewhere that are read while another is measured: an object store answers in the time of two or three.
_AHEAD = 4


@dataclass
class Measured:
    """What became of one sample.

    Attributes
    ----------
    need : names of the extractors that it lacked.
    rows, faults : by extractor, what was measured and what went wrong.
    permanent : whether the faults are the image's own, and will be the same tomorrow.
    key : of the very bytes that were decoded, mask included, and what the cell was changed by: what was measured may
        be kept under this and nothing else. "" where nothing was decoded.
    is_changed : whether the files hold something else than the data set was told.
    cell : the crop, for extractors that run in the main process; None once it has served.
    seconds : that reading and measuring took, but for these.
    """

    sample: Sample
    need: frozenset[str]
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    permanent: bool = False
    key: str = ""
    is_changed: bool = False
    cell: Cell | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Measure:
    """Measures tasks of (sample, names of the extractors it lacks); picklable, for it goes to the workers.

    Attributes
    ----------
    extractors : those that run beside the decoding.
    cells_for : names of those that run elsewhere, and get the crop.
    """

    extractors: tuple[Extractor, ...]
    cells_for: frozenset[str]

    @property
    def _need_red_cells(self) -> frozenset[str]:
        return frozenset(
            each.name for each in self.extractors if isinstance(each, NeedsRedCells) and each.needs_red_cells
        )

    def __call__(self, task: Sequence[Need]) -> list[Measured]:
        contents = _contents([sample for sample, _ in task])
        found = []
        for (sample, need), content in zip(task, contents, strict=True):
            begun = time.perf_counter()
            found.append(self._measure(sample, need, content))
            found[-1].seconds = time.perf_counter() - begun
        return found

    def _measure(self, sample: Sample, need: frozenset[str], content: Callable[[], Content]) -> Measured:
        measured = Measured(sample, need)
        try:
            image, mask = content()
            # Hashed always: what is remembered of a file is a hint at what must be measured, and no more.
            key = content_key(hash_content(image), None if mask is None else hash_content(mask), sample.mask_levels)
            if key != sample.key:
                measured.is_changed = True
                raise ImageError("changed while the data set was being read")
            measured.key = measured_key(key, sample.adjustment)
            cell = _cell(sample, image, mask, need & self._need_red_cells)
        except CellError as error:
            reason = error.what + (f" ({error.found})" if error.found else "")
            stage = "read" if isinstance(error, ImageError) else "cell"
            measured.faults = {name: Fault(sample.path, stage, reason) for name in need}
            # An image without a cell stays one; a file that could not be read may be back tomorrow.
            measured.permanent = not isinstance(error, ImageError)
            return measured
        except MemoryError:
            measured.faults = {name: Fault(sample.path, "read", "needs more memory than there is") for name in need}
            return measured
        for extractor in self.extractors:
            if extractor.name in need:
                try:
                    measured.rows[extractor.name] = check_rows(extractor, extractor.extract([cell]), 1)[0]
                except Exception as error:  # one cell's trouble must not stop a million: it is counted and named
                    measured.faults[extractor.name] = _extractor_fault(sample, extractor, error)
        measured.cell = cell if need & self.cells_for else None
        return measured


def lost(item: Need) -> Measured:
    """The outcome of a sample that its worker process did not survive."""
    sample, need = item
    reason = "the worker process died of it: out of memory, or a crash in a library"
    return Measured(sample, need, faults={name: Fault(sample.path, "extract", reason) for name in need})


def embed(extractor: Extractor, measured: Sequence[Measured]) -> None:
    """Run a network over the crops of these samples; if the batch fails, find the cell it fails on."""
    cells = [m.cell for m in measured if m.cell is not None]
    if not cells:
        return
    try:
        rows = list(check_rows(extractor, extractor.extract(cells), len(cells)))
    except (ValueError, ArithmeticError) as error:
        if len(measured) > 1:
            for m in measured:
                embed(extractor, [m])
        else:
            measured[0].faults[extractor.name] = _extractor_fault(measured[0].sample, extractor, error)
        return
    for m, row in zip(measured, rows, strict=True):
        m.rows[extractor.name] = row


def check_rows(extractor: Extractor, rows: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """``rows`` if they keep the protocol: float32 (n, d) without inf, float16 numbers where these are promised.

    Raises
    ------
    ValueError : they do not.
    """
    names = extractor.feature_names()
    if rows.shape != (n, len(names)) or rows.dtype != np.float32:
        raise ValueError(f"returned {rows.dtype} {rows.shape}, promised float32 {(n, len(names))}")
    infinite = np.isinf(rows)
    if infinite.any():
        raise ValueError(f"{names[int(infinite.any(axis=0).argmax())]} is infinite")
    if stored_as(extractor) is not np.float32:
        with np.errstate(over="ignore"):  # what overflows is found unequal
            is_kept = np.array_equal(rows, rows.astype(np.float16), equal_nan=True)
        if not is_kept:
            raise ValueError("returned numbers that float16 does not have, and promised none")
    return rows


def _contents(samples: Sequence[Sample]) -> Iterator[Callable[[], Content]]:
    """For each sample what gives its content, or raises what reading it does; those elsewhere are read ahead."""
    if not any(isinstance(path, Remote) for sample in samples for path in (sample.path, sample.mask_path)):
        yield from (partial(_content, sample) for sample in samples)
        return
    with ThreadPoolExecutor(_AHEAD) as pool:
        coming: deque[Future[Content]] = deque(pool.submit(_content, sample) for sample in samples[:_AHEAD])
        for at in range(len(samples)):
            yield coming.popleft().result
            coming.extend(pool.submit(_content, sample) for sample in samples[at + _AHEAD : at + _AHEAD + 1])


def _content(sample: Sample) -> Content:
    return read_bytes(sample.path), None if sample.mask_path is None else read_bytes(sample.mask_path)


def _cell(sample: Sample, image: bytes, mask: bytes | None, red_cells: Collection[str] = ()) -> Cell:
    """The sample's cell, with its red cells where anyone asks for them."""
    given = (
        None if mask is None or sample.mask_path is None else read_mask(mask, sample.mask_levels, sample.mask_path.name)
    )
    rgb, change = decode_image(image), sample.adjustment
    if change is not None and given is None:
        return change.find(rgb, sample.um_per_px, red_cells=bool(red_cells))
    cell = make_cell(rgb, given, sample.um_per_px, red_cells=bool(red_cells))
    return cell if change is None else change.apply(cell)


def _extractor_fault(sample: Sample, extractor: Extractor, error: Exception) -> Fault:
    return Fault(sample.path, "extract", f"{extractor.name}: {type(error).__name__}: {error}")
