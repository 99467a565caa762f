"""Images as a network sees them, decoded once: a memory map beside the features, checked when it is opened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.compute import process_pool
from fusion.compute.graceful_stop import Stop
from fusion.data.dataset import Dataset, Fault, Sample
from fusion.features.cell_measurement import Measure, Measured, lost
from fusion.features.store_manifest import list_files
from fusion.images.cell import PREPARATION, Cell
from fusion.io.files import file_sha256, replacing, write_atomically
from fusion.progress import Progress

#: Folder inside a store.
IMAGES = "images"

#: Cells handed to a worker at once.
_TASK = 16

#: Below this many cells a worker process costs more to start than it saves.
_WORTH_A_WORKER = 48

#: The one block that is asked for here; it names no extractor.
_WANTED = frozenset({"image"})


class InputTransform(Protocol):
    """How cells become images: a frozen dataclass of plain values that says all there is to say of it."""

    @property
    def size(self) -> int:
        """Side in pixels of the images."""
        ...

    def __call__(self, cells: Sequence[Cell]) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Images of samples.

    Attributes
    ----------
    images : uint8 (m, S, S, 3), on disk.
    positions : intp (n,), which image belongs to each sample, -1 for none.
    faults : by position of the sample, why there is none.
    """

    images: NDArray[np.uint8]
    positions: NDArray[np.intp]
    faults: dict[int, Fault]


def read_images(
    dataset: Dataset, input_transform: InputTransform, root: Path, *, jobs: int = 0, progress: Progress | None = None
) -> CachedImages:
    """The images of a data set, from the map in ``root`` if an earlier run has left it there whole.

    Parameters
    ----------
    dataset : whose cells.
    input_transform : how they are seen.
    root : of a feature store.
    jobs : worker processes; 0 takes one a core.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written.
    KeyboardInterrupt : asked to stop.
    """
    first: dict[str, int] = {}
    for at, sample in enumerate(dataset.samples):
        first.setdefault(sample.measured_key, at)
    keys = list(first)
    path = root / IMAGES / f"{_name(input_transform, keys)}.npy"
    reasons = _remembered(path, (len(keys), input_transform.size, input_transform.size, 3))
    if reasons is None:
        wanted = [dataset.samples[at] for at in first.values()]
        reasons, changed = _cache_images(wanted, input_transform, path, jobs, progress)
        dataset.forget(changed)
    images = np.load(path, mmap_mode="r")
    place = {key: -1 if key in reasons else at for at, key in enumerate(keys)}
    faults = {
        at: Fault(sample.path, *reasons[sample.measured_key], sample.subject, sample.source)
        for at, sample in enumerate(dataset.samples)
        if sample.measured_key in reasons
    }
    return CachedImages(images, np.array([place[sample.measured_key] for sample in dataset.samples], np.intp), faults)


def _name(input_transform: InputTransform, keys: Sequence[str]) -> str:
    """Of what the pixels depend on: the input transform, how cells are found, and which cells."""
    about: dict[str, Any] = dataclasses.asdict(input_transform)  # type: ignore[call-overload]  # a dataclass by protocol
    digest = hashlib.sha256(json.dumps([about, PREPARATION], sort_keys=True).encode())
    for key in keys:
        digest.update(key.encode())
    return digest.hexdigest()[:32]


def _remembered(path: Path, shape: tuple[int, ...]) -> dict[str, tuple[str, str]] | None:
    """Key -> stage and reason of the cells that a whole map lacks; None where there is no map to be trusted."""
    note = path.with_suffix(".json")
    if not path.is_file() or not note.is_file():
        return None
    try:
        stored = json.loads(note.read_bytes())
        if file_sha256(path) != stored["sha256"]:
            return None  # damaged on disk: it is taken again
        images = np.load(path, mmap_mode="r")
        if (images.dtype, images.shape) != (np.uint8, shape):
            return None
        return {key: (stage, reason) for key, (stage, reason) in stored["faults"].items()}
    except (ValueError, KeyError, TypeError):
        return None


def _cache_images(
    samples: Sequence[Sample], input_transform: InputTransform, path: Path, jobs: int, progress: Progress | None
) -> tuple[dict[str, tuple[str, str]], list[Sample]]:
    """Decode, crop and shrink every cell into the file.

    Returns
    -------
    key -> stage and reason of those without image; the samples whose files hold something else than they are told to.
    """
    from joblib import cpu_count

    count = max(1, min(jobs or cpu_count(), len(samples) // _WORTH_A_WORKER))
    reasons: dict[str, tuple[str, str]] = {}
    changed: list[Sample] = []
    is_settled, done = True, 0
    header = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (len(samples), input_transform.size, input_transform.size, 3),
    }
    list_files(path.parent.parent, path, path.with_suffix(".json"))
    with replacing(path) as stream, Stop() as stop:
        np.lib.format.write_array_header_1_0(stream, header)
        for measured in process_pool.run(Measure((), _WANTED), _tasks(samples), count, lost, stop.__bool__):
            changed += [m.sample for m in measured if m.is_changed]
            for m in measured:
                stream.write(_input_image(m, input_transform).tobytes())
                if m.faults:
                    fault = m.faults["image"]
                    reasons[m.sample.measured_key] = (fault.stage, fault.reason)
                    is_settled &= m.permanent
            done += len(measured)
            if progress is not None:
                progress("looking", done, len(samples), len(reasons))
        if done < len(samples):
            raise KeyboardInterrupt
    if is_settled:  # a file that could not be read may be back tomorrow: such a map is not trusted again
        stored = {"sha256": file_sha256(path), "faults": reasons, "preparation": PREPARATION}
        write_atomically(path.with_suffix(".json"), json.dumps(stored).encode())
    return reasons, changed


def _input_image(measured: Measured, input_transform: InputTransform) -> NDArray[np.uint8]:
    if measured.cell is None:
        return np.zeros((1, input_transform.size, input_transform.size, 3), np.uint8)
    return input_transform([measured.cell])


def _tasks(samples: Sequence[Sample]) -> Iterator[list[tuple[Sample, frozenset[str]]]]:
    waiting = iter(samples)
    while task := [(sample, _WANTED) for sample in islice(waiting, _TASK)]:
        yield task
