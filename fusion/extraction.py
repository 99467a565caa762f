"""Which cells still need which extractor, and running them.

Every picture is read, decoded and cropped once for all extractors that miss it. Handcrafted families run in worker
processes; networks run in this one, on the cells the workers hand back. What is measured goes to the store every
few hundred cells, so a run that is stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion import plugins
from fusion.cells import PREPARATION, Cell, CellError, ImageError, decode_mask, decode_picture, make_cell, read_bytes
from fusion.datasets import Dataset, Fault, Sample, content_key
from fusion.files import sha256
from fusion.plugins import Extractor
from fusion.store import FeatureStore
from fusion.table import FeatureTable

#: Cells handed to a worker at once: enough to hide the cost of a message, few enough for a lively progress bar.
_TASK = 16

#: Cells between two writes to the store: what a crash may cost, and the bound on crops held in memory.
_FLUSH = 512

#: Below this many cells a worker process costs more to start than it saves.
_WORTH_A_WORKER = 48

#: Called with (stage, done, to do, faults so far); the stages are "reading", "measuring" and "fitting".
Progress = Callable[[str, int, int, int], None]


@dataclass(frozen=True, eq=False)
class Extraction:
    """What an extraction brought.

    Attributes
    ----------
    table : cells that have every block.
    faults : pictures skipped, unreadable ones first.
    computed, reused : cells measured now, and found in the store, for each extractor.
    """

    table: FeatureTable
    faults: tuple[Fault, ...]
    computed: dict[str, int]
    reused: dict[str, int]


@dataclass
class _Measured:
    """One sample's way through a worker."""

    sample: Sample
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    permanent: bool = False
    cell: Cell | None = None


def extract(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    store: FeatureStore,
    *,
    jobs: int = 0,
    progress: Progress | None = None,
) -> Extraction:
    """Measure every cell that the store does not hold yet, and return the whole table.

    Parameters
    ----------
    dataset : what to measure.
    extractors : one for each block, in the order of the table's blocks.
    store : where features are kept.
    jobs : worker processes; 0 takes one a core.
    progress : called as cells are finished.

    Raises
    ------
    StoreError : the store cannot be written. What was written before stays.
    FusionError : an extractor cannot run at all, for want of weights for example.
    """
    prints = {extractor.name: plugins.fingerprint(extractor, PREPARATION) for extractor in extractors}
    keys = list(dict.fromkeys(sample.key for sample in dataset.samples))
    held = {e.name: store.read(e.name, prints[e.name], keys, e.feature_names()) for e in extractors}
    wanted = {name: set(keys) - set(rows) - set(faults) for name, (rows, faults) in held.items()}
    todo = list({s.key: s for s in dataset.samples if any(s.key in keys for keys in wanted.values())}.values())
    passing: dict[str, list[Fault]] = {}
    done = 0
    for start in range(0, len(todo), _FLUSH):
        batch: list[_Measured] = []
        try:
            for measured in _run(todo[start : start + _FLUSH], extractors, wanted, _workers(jobs, len(todo))):
                batch += measured
                done += len(measured)
                passing |= {m.sample.key: list(m.faults.values()) for m in measured if m.faults}
                if progress is not None:
                    progress("measuring", done, len(todo), len(passing) + len(dataset.faults))
        finally:  # also on an interrupt: what has been measured is kept
            for extractor in extractors:
                rows, faults = _outcome(batch, extractor.name)
                store.write(extractor.name, prints[extractor.name], extractor.feature_names(), rows, faults)
                held[extractor.name][0].update(rows)
                held[extractor.name][1].update(faults)
    return _gather(dataset, extractors, held, wanted, passing)


def _workers(jobs: int, cells: int) -> int:
    from joblib import cpu_count

    return max(1, min(jobs or cpu_count(), cells // _WORTH_A_WORKER))


def _run(
    samples: Sequence[Sample], extractors: Sequence[Extractor], wanted: Mapping[str, set[str]], workers: int
) -> Iterator[list[_Measured]]:
    """Measured samples, a task at a time, in the order of ``samples`` whatever the number of workers."""
    here = [extractor for extractor in extractors if extractor.in_main_process]
    there = [extractor for extractor in extractors if not extractor.in_main_process]
    tasks = [samples[at : at + _TASK] for at in range(0, len(samples), _TASK)]
    missing = [[{name for name, keys in wanted.items() if sample.key in keys} for sample in task] for task in tasks]
    for measured in _dispatch(tasks, missing, there, {extractor.name for extractor in here}, workers):
        for extractor in here:
            _embed(extractor, [m for m in measured if m.cell is not None and m.sample.key in wanted[extractor.name]])
        for m in measured:
            m.cell = None  # the crop has served; a batch of them would fill the memory
        yield measured


def _dispatch(
    tasks: Sequence[Sequence[Sample]],
    missing: Sequence[Sequence[set[str]]],
    extractors: Sequence[Extractor],
    cells_for: set[str],
    workers: int,
) -> Iterable[list[_Measured]]:
    calls = [(task, need, extractors, cells_for) for task, need in zip(tasks, missing, strict=True)]
    if workers == 1:
        yield from (_measure_task(*call) for call in calls)
        return
    from joblib import Parallel, delayed

    # The first task runs here: it leaves compiled kernels on disk, where every worker then finds them.
    yield _measure_task(*calls[0])
    with Parallel(n_jobs=workers, return_as="generator", inner_max_num_threads=1) as parallel:
        yield from parallel(delayed(_measure_task)(*call) for call in calls[1:])


def _measure_task(
    samples: Sequence[Sample], missing: Sequence[set[str]], extractors: Sequence[Extractor], cells_for: set[str]
) -> list[_Measured]:
    return [_measure(sample, need, extractors, cells_for) for sample, need in zip(samples, missing, strict=True)]


def _measure(sample: Sample, need: set[str], extractors: Sequence[Extractor], cells_for: set[str]) -> _Measured:
    measured = _Measured(sample)
    try:
        cell = _read(sample)
    except CellError as error:
        reason = error.what + (f" ({error.found})" if error.found else "")
        stage = "read" if isinstance(error, ImageError) else "cell"
        measured.faults = {name: Fault(sample.path, stage, reason) for name in need}
        # A picture without a cell stays one; a file that could not be read may be back tomorrow.
        measured.permanent = not isinstance(error, ImageError)
        return measured
    for extractor in extractors:
        if extractor.name in need:
            try:
                measured.rows[extractor.name] = check_rows(extractor, extractor.extract([cell]), 1)[0]
            except Exception as error:  # one cell's trouble must not stop a million: it is counted and named
                measured.faults[extractor.name] = _extractor_fault(sample, extractor, error)
    measured.cell = cell if need & cells_for else None
    return measured


def _read(sample: Sample) -> Cell:
    picture = read_bytes(sample.path)
    mask = None if sample.mask_path is None else read_bytes(sample.mask_path)
    if content_key(sha256(picture), None if mask is None else sha256(mask)) != sample.key:
        raise ImageError("changed while the data set was being read")
    return make_cell(decode_picture(picture), None if mask is None else decode_mask(mask), sample.um_per_px)


def _embed(extractor: Extractor, measured: Sequence[_Measured]) -> None:
    """Run a network over the cells of one task; if the batch fails, find the cell it fails on."""
    cells = [m.cell for m in measured if m.cell is not None]
    if not cells:
        return
    try:
        rows = list(check_rows(extractor, extractor.extract(cells), len(cells)))
    except (ValueError, ArithmeticError) as error:
        if len(measured) > 1:
            for m in measured:
                _embed(extractor, [m])
        else:
            measured[0].faults[extractor.name] = _extractor_fault(measured[0].sample, extractor, error)
        return
    for m, row in zip(measured, rows, strict=True):
        m.rows[extractor.name] = row


def check_rows(extractor: Extractor, rows: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """``rows`` if they keep the protocol: float32 (n, d) without inf; ValueError otherwise."""
    names = extractor.feature_names()
    if rows.shape != (n, len(names)) or rows.dtype != np.float32:
        raise ValueError(f"returned {rows.dtype} {rows.shape}, promised float32 {(n, len(names))}")
    infinite = np.isinf(rows).any(axis=0)
    if infinite.any():
        raise ValueError(f"{names[int(infinite.argmax())]} is infinite")
    return rows


def _extractor_fault(sample: Sample, extractor: Extractor, error: Exception) -> Fault:
    return Fault(sample.path, "extract", f"{extractor.name}: {type(error).__name__}: {error}")


def _outcome(batch: Sequence[_Measured], name: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    rows = {m.sample.key: m.rows[name] for m in batch if name in m.rows}
    faults = {m.sample.key: m.faults[name].reason for m in batch if m.permanent and name in m.faults}
    return rows, faults


def _gather(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    held: Mapping[str, tuple[dict[str, NDArray[np.float32]], dict[str, str]]],
    wanted: Mapping[str, set[str]],
    passing: Mapping[str, list[Fault]],
) -> Extraction:
    """The table of all cells that have every block; a fault for each of the others."""
    complete, faults = [], list(dataset.faults)
    for at, sample in enumerate(dataset.samples):
        lacking = [name for name, (rows, _) in held.items() if sample.key not in rows]
        if not lacking:
            complete.append(at)
        elif sample.key in passing:
            faults += [Fault(sample.path, fault.stage, fault.reason) for fault in passing[sample.key][:1]]
        else:
            faults.append(Fault(sample.path, "cell", held[lacking[0]][1][sample.key]))
    rows = [dataset.samples[at] for at in complete]
    names, groups = dataset.names, dataset.groups()
    blocks = [
        np.stack([held[e.name][0][sample.key] for sample in rows])
        if rows
        else np.empty((0, len(e.feature_names())), np.float32)
        for e in extractors
    ]
    table = FeatureTable(
        X=np.concatenate(blocks, axis=1),
        columns=tuple(f"{e.name}.{feature}" for e in extractors for feature in e.feature_names()),
        names=tuple(names[at] for at in complete),
        keys=tuple(sample.key for sample in rows),
        image_keys=tuple(sample.image_key for sample in rows),
        y=tuple(sample.label for sample in rows),
        subjects=tuple(sample.subject for sample in rows),
        folds=tuple(sample.fold for sample in rows),
        groups=groups[complete],
        subjects_known=dataset.subjects_known,
    )
    computed = {name: len(wanted[name] & set(held[name][0])) for name in wanted}
    reused = {name: len(held[name][0]) - computed[name] for name in wanted}
    return Extraction(table, tuple(faults), computed, reused)
