"""Which cells still need which extractor, and running them.

Every image is read, decoded and cropped once for all extractors that miss it. Handcrafted families run in worker
processes; networks run in this one, on the crops the workers hand back. What is measured goes to the store every
few hundred cells or half a minute, and nothing but the store keeps it: memory does not grow with the number of cells,
and a run that is stopped, or killed, goes on where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.compute import process_pool
from fusion.compute.graceful_stop import Stop
from fusion.compute.memory import give_back
from fusion.data.dataset import Dataset, Fault, Sample, measured_key
from fusion.data.feature_table import FeatureTable, export
from fusion.features import store_maintenance
from fusion.features.cell_measurement import Measure, Measured, Need, embed, lost
from fusion.features.expected_measuring import MeasuringForecast
from fusion.features.store import Block, FeatureStore
from fusion.features.stored_matrix import StoredRows
from fusion.images.cell import PREPARATION
from fusion.io import arrow_arrays
from fusion.io.content_hash import as_arrow, distinct
from fusion.io.event_log import EventLog
from fusion.io.files import printable
from fusion.io.notebook_table import notebook_table
from fusion.plugins import registry
from fusion.plugins.extractors import Describing, Extractor, Precomputed
from fusion.progress import HearsForecasts, Progress

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("fusion")

#: Cells handed to a worker at once: enough to hide the cost of a message, few enough for a lively progress bar.
_TASK = 16

#: Crops gathered for a network before it runs: four of its batches, and 40 MB of C-NMC crops.
_BATCH = 64

#: Cells, and seconds, between two writes to the store: what a kill may cost.
FLUSH, FLUSH_SECONDS = 512, 30.0

#: Below this many cells a worker process costs more to start than it saves.
_WORTH_A_WORKER = 48

#: Rows of a table that are in memory at once while it is exported.
_EXPORTED = 8192


@dataclass(frozen=True, eq=False)
class Extraction:
    """What an extraction brought. The features stay in the store until ``table`` is asked for.

    Attributes
    ----------
    dataset, extractors : what was measured, with what.
    names : of the blocks, one for each extractor.
    blocks : what the store holds of each extractor.
    complete : intp (n,), the samples that have every block.
    rows : for each extractor intp (n,), where in its block they are.
    faults : images skipped, unreadable ones first.
    computed, reused : cells measured now, and found in the store, for each block.
    """

    dataset: Dataset
    names: tuple[str, ...]
    extractors: tuple[Extractor, ...]
    blocks: tuple[Block, ...]
    complete: NDArray[np.intp]
    rows: tuple[NDArray[np.intp], ...]
    faults: tuple[Fault, ...]
    computed: dict[str, int]
    reused: dict[str, int]

    def __len__(self) -> int:
        return len(self.complete)

    def __repr__(self) -> str:
        widths = ", ".join(f"{name} {width}" for name, width in self.widths.items())
        return f"Extraction({len(self)} cells; {widths}; {len(self.faults)} skipped)"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.to_frame)

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame of ``table``: who each cell is, then its features."""
        return self.table.to_frame()

    @property
    def widths(self) -> dict[str, int]:
        """Number of features of each block."""
        return {name: len(one.feature_names()) for name, one in zip(self.names, self.extractors, strict=True)}

    @cached_property
    def table(self) -> FeatureTable:
        """The cells that have every block, in memory."""
        return self._part(slice(None), self._groups)

    @cached_property
    def stored(self) -> FeatureTable:
        """``table`` with its features still in the store: see ``fusion.features.stored_matrix``."""
        X: Any = StoredRows.from_blocks(self.blocks, self.rows)
        return self._about(slice(None), self._groups, X)

    def save(self, path: Path) -> None:
        """``table`` as a file; ``.parquet`` and ``.csv`` piece by piece: they may be larger than the memory."""
        groups = self._groups
        starts = range(0, max(1, len(self)), _EXPORTED)
        export(path, (self._part(slice(start, start + _EXPORTED), groups) for start in starts), self.units)

    @property
    def units(self) -> dict[str, str]:
        """Column -> unit, "" for a pure number, of every feature whose extractor says so in ``describe()``."""
        return {
            f"{name}.{each.name}": each.unit
            for name, extractor in zip(self.names, self.extractors, strict=True)
            if isinstance(extractor, Describing)
            for each in extractor.describe()
        }

    @property
    def _groups(self) -> NDArray[np.intp]:
        return self.dataset.groups()

    def _part(self, part: slice, groups: NDArray[np.intp]) -> FeatureTable:
        widths = self.widths
        X = np.empty((len(self.complete[part]), sum(widths.values())), np.float32)
        start = 0
        for block, rows, width in zip(self.blocks, self.rows, widths.values(), strict=True):
            block.rows(rows[part], X[:, start : start + width])
            block.release_pages()
            start += width
        return self._about(part, groups, X)

    def _about(self, part: slice, groups: NDArray[np.intp], X: NDArray[np.float32]) -> FeatureTable:
        at = self.complete[part]
        samples = [self.dataset.samples[i] for i in at]
        return FeatureTable(
            X=X,
            columns=tuple(
                f"{name}.{feature}"
                for name, extractor in zip(self.names, self.extractors, strict=True)
                for feature in extractor.feature_names()
            ),
            names=tuple(self.dataset.name_of(sample) for sample in samples),
            keys=tuple(sample.key for sample in samples),
            image_keys=tuple(sample.image_id for sample in samples),
            y=tuple(sample.label for sample in samples),
            subjects=tuple(sample.subject for sample in samples),
            folds=tuple(sample.fold for sample in samples),
            groups=groups[at],
            subjects_known=self.dataset.subjects_known,
            sources=tuple(sample.source for sample in samples),
            group_ids=tuple(sample.group for sample in samples),
            share_images=tuple(sample.shares_image for sample in samples),
        )


def extract(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    store: FeatureStore,
    *,
    jobs: int = 0,
    scheduler: str | None = None,
    progress: Progress | None = None,
    event_log: EventLog | None = None,
) -> Extraction:
    """Measure every cell that the store does not hold yet.

    The first SIGINT or SIGTERM finishes the cells at work and stores them; the second one stops at once.

    Parameters
    ----------
    dataset : what to measure.
    extractors : one for each block, in the order of the table's blocks.
    store : where features are kept.
    jobs : worker processes; 0 takes one a core.
    scheduler : address of a Dask scheduler whose workers measure instead; they must see the images by the same paths.
    progress : called as cells are finished.
    event_log : informed of every start, write, fault and end.

    Raises
    ------
    UsageError : ``scheduler`` is no address.
    StoreError : the store cannot be written. What was written before stays.
    ClusterError : the scheduler cannot be reached, or its workers cannot measure.
    FusionError : an extractor cannot run at all, for want of weights for example.
    KeyboardInterrupt : asked to stop; what was measured is in the store.

    Examples
    --------
    >>> found = measure(load("cells"), [extractor("morphology")], FeatureStore("store"), jobs=1)  # doctest: +SKIP
    >>> found.table  # doctest: +SKIP
    """
    _check_scheduler(scheduler)  # refused also where nothing is left to measure
    tell = event_log or (lambda event, **facts: None)
    versions = [_Version(extractor, registry.fingerprint(extractor, PREPARATION)) for extractor in extractors]
    cells = _Cells.from_dataset(dataset)
    for version in versions:
        if isinstance(version.extractor, Precomputed):
            _take_over(version, version.extractor, dataset, cells, store)
    lacks = np.stack([version.open(store).lacks(cells.keys) for version in versions], axis=1)
    tell(
        "start",
        images=len(dataset.samples),
        to_measure={v.name: int(count) for v, count in zip(versions, lacks.sum(axis=0), strict=True)},
    )
    for fault in dataset.faults:
        tell("fault", **_fault_event(fault))
    passing = _measure(dataset, versions, store, cells, lacks, jobs, scheduler, progress, tell)
    give_back()
    found = _gather(dataset, versions, store, cells, lacks, passing)
    tell("end", cells=len(found), faults=len(found.faults), computed=found.computed, reused=found.reused)
    return found


def _measure(
    dataset: Dataset,
    versions: Sequence[_Version],
    store: FeatureStore,
    cells: _Cells,
    lacks: NDArray[np.bool_],
    jobs: int,
    scheduler: str | None,
    progress: Progress | None,
    tell: Callable[..., None],
) -> dict[str, Fault]:
    """Measure the cells that lack a block, and keep what is measured; image -> fault that may pass."""
    needed = np.flatnonzero(lacks.any(axis=1))
    if not len(needed):
        return {}
    give_back()  # libraries of the measuring take 100 MB; what telling cells apart took must not lie beside it
    extractors = [version.extractor for version in versions]
    needs = _needs(versions, lacks)
    samples = ((dataset.samples[int(cells.positions[at])], needs[lacks[at].tobytes()]) for at in needed)
    count = worker_count(jobs, len(needed))
    lacking = list(zip(extractors, lacks.sum(axis=0).tolist(), strict=True))
    expected = MeasuringForecast(len(needed), lacking, count, FLUSH)
    flush = _Flush(store, versions, tell)
    with Stop() as stop:
        measuring = _run(samples, extractors, count, stop, scheduler)
        passing = _keep(measuring, len(needed), dataset, flush, stop, tell, progress, expected)
    for version in versions:
        store_maintenance.tidy(store, version.name, version.fingerprint)
    return passing


def _take_over(version: _Version, extractor: Precomputed, dataset: Dataset, cells: _Cells, store: FeatureStore) -> None:
    """Keep rows that were computed elsewhere as if they had been measured here."""
    lacking = np.flatnonzero(version.open(store).lacks(cells.keys))
    if not len(lacking):
        return
    X = extractor.rows_of(dataset)
    names = version.extractor.feature_names()
    keys = cells.keys.take(arrow_arrays.numbers(lacking)).to_pylist()
    rows = dict(zip(keys, X[cells.positions[lacking]], strict=True))
    store.write(
        version.name, version.fingerprint, names, rows, {}, version.about, registry.stored_as(version.extractor)
    )


def _check_scheduler(scheduler: str | None) -> None:
    if scheduler is not None:
        from fusion.features import dask_cluster

        dask_cluster.check_address(scheduler)


def _keep(
    measuring: Iterator[list[Measured]],
    total: int,
    dataset: Dataset,
    flush: _Flush,
    stop: Stop,
    tell: Callable[..., None],
    progress: Progress | None,
    expected: MeasuringForecast,
) -> dict[str, Fault]:
    """Store what is measured; the faults met, by the cell's key. Files that have changed are read anew next time.

    Raises
    ------
    KeyboardInterrupt : asked to stop before all were measured.
    """
    done = 0
    passing: dict[str, Fault] = {}
    changed: list[Sample] = []
    try:
        for measured in measuring:
            flush.add(measured)
            done += len(measured)
            changed += [m.sample for m in measured if m.is_changed]
            for m in measured:
                if m.faults:
                    passing[m.sample.measured_key] = next(iter(m.faults.values()))
                    tell("fault", **_fault_event(passing[m.sample.measured_key]))
            if progress is not None:
                progress("measuring", done, total, len(passing) + len(dataset.faults))
            if (forecast := expected.hear(measured)) is not None and isinstance(progress, HearsForecasts):
                progress.forecast(forecast)
    finally:  # also on an interrupt: what has been measured is kept
        flush()
        dataset.forget(changed)
    if stop and done < total:
        tell("stopped", done=done, left=total - done)
        raise KeyboardInterrupt
    return passing


@dataclass(frozen=True, eq=False)
class _Cells:
    """The different cells of a data set, each of which is measured once.

    Attributes
    ----------
    keys : Arrow strings, which measurements can be reused for each.
    positions : intp, the first sample that shows it.
    of_sample : intp (n,), which cell each sample shows.
    """

    keys: pa.ChunkedArray
    positions: NDArray[np.intp]
    of_sample: NDArray[np.intp]

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        keys = as_arrow(map(measured_key, dataset.each("key"), dataset.each("adjustment")))
        positions, of_sample = distinct(keys)
        return cls(
            keys if len(positions) == len(keys) else keys.take(arrow_arrays.numbers(positions)), positions, of_sample
        )


@dataclass(frozen=True)
class _Version:
    """An extractor and the fingerprint of its numbers."""

    extractor: Extractor
    fingerprint: str

    @property
    def name(self) -> str:
        return self.extractor.name

    @property
    def about(self) -> dict[str, Any]:
        extractor = self.extractor
        return {"version": extractor.version, "preparation": PREPARATION, "params": registry.identity(extractor)}

    def open(self, store: FeatureStore) -> Block:
        return store.open(self.name, self.fingerprint, self.extractor.feature_names())


class _Flush:
    """Measured cells on their way to the store: written every so many cells or seconds, and when called."""

    def __init__(self, store: FeatureStore, versions: Sequence[_Version], tell: Callable[..., None]) -> None:
        self._store, self._versions, self._tell = store, versions, tell
        self._batch: list[Measured] = []
        self._last = time.monotonic()

    def add(self, measured: Sequence[Measured]) -> None:
        self._batch += measured
        if len(self._batch) >= FLUSH or time.monotonic() - self._last >= FLUSH_SECONDS:
            self()

    def __call__(self) -> None:
        batch, self._batch, self._last = self._batch, [], time.monotonic()
        for version in self._versions:
            name = version.name
            rows = {m.key: m.rows[name] for m in batch if name in m.rows}
            faults = {m.key: m.faults[name].reason for m in batch if m.permanent and name in m.faults}
            names = version.extractor.feature_names()
            kept_as = registry.stored_as(version.extractor)
            self._store.write(name, version.fingerprint, names, rows, faults, version.about, kept_as)
            if rows or faults:
                self._tell("written", extractor=name, cells=len(rows), faults=len(faults))


def worker_count(jobs: int, cells: int) -> int:
    """Processes for so many cells where ``jobs`` are asked for, 0 being one a core: fewer cells are not worth one."""
    if not jobs:
        from joblib import cpu_count  # a tenth of a second

        jobs = cpu_count()
    return max(1, min(jobs, cells // _WORTH_A_WORKER))


def _needs(versions: Sequence[_Version], lacks: NDArray[np.bool_]) -> dict[bytes, frozenset[str]]:
    """A row of ``lacks`` -> the names it stands for; a million cells share a handful of them."""
    names = [version.name for version in versions]
    return {row.tobytes(): frozenset(np.array(names)[row].tolist()) for row in np.unique(lacks, axis=0)}


def _run(
    samples: Iterator[Need], extractors: Sequence[Extractor], count: int, stop: Stop, scheduler: str | None
) -> Iterator[list[Measured]]:
    """Measured samples, some at a time, in the order of ``samples`` whatever the number of workers."""
    here = [extractor for extractor in extractors if extractor.in_main_process]
    there = tuple(extractor for extractor in extractors if not extractor.in_main_process)
    measure = Measure(there, frozenset(extractor.name for extractor in here))
    batch: list[Measured] = []
    is_reported = False
    for measured in _measured(measure, samples, count, stop, scheduler):
        if stop and not is_reported:
            _log.warning("stopping as soon as the cells at work are stored; press Ctrl-C again to stop at once")
            is_reported = True
        batch += measured
        if not here or sum(m.cell is not None for m in batch) >= _BATCH:
            yield _embedded(here, batch)
            batch = []
    if batch:
        yield _embedded(here, batch)


def _measured(
    measure: Measure, samples: Iterator[Need], count: int, stop: Stop, scheduler: str | None
) -> Iterator[list[Measured]]:
    """Measured by processes of this machine, or by a cluster's workers."""
    if scheduler is None:
        yield from process_pool.run(measure, _tasks(samples), count, lost, stop.__bool__)
        return
    from fusion.features import dask_cluster

    with dask_cluster.connect(scheduler) as client:
        tasks = _tasks(dask_cluster.everywhere(samples))
        yield from dask_cluster.run(client, dask_cluster.Remote.of(measure), tasks, lost, stop.__bool__)


def _tasks(samples: Iterator[Need]) -> Iterator[list[Need]]:
    from itertools import islice

    while task := list(islice(samples, _TASK)):
        yield task


def _embedded(extractors: Sequence[Extractor], batch: list[Measured]) -> list[Measured]:
    for extractor in extractors:
        embed(extractor, [m for m in batch if m.cell is not None and extractor.name in m.need])
    for m in batch:
        m.cell = None  # the crop has served; the cells of a flush would fill the memory
    return batch


def _gather(
    dataset: Dataset,
    versions: Sequence[_Version],
    store: FeatureStore,
    cells: _Cells,
    lacked: NDArray[np.bool_],
    passing: Mapping[str, Fault],
) -> Extraction:
    """The samples that have every block, and a fault for each of the others."""
    blocks = [version.open(store) for version in versions]
    found = {version.name: block.find(cells.keys) for version, block in zip(versions, blocks, strict=True)}
    has = np.stack([at >= 0 for at in found.values()], axis=1)
    is_complete = np.asarray(has.all(axis=1))[cells.of_sample]
    complete = np.flatnonzero(is_complete)
    faults = list(dataset.faults)
    if len(complete) < len(dataset):
        reasons = [block.faults(cells.keys) for block in blocks]
        for at in np.flatnonzero(~is_complete).tolist():
            sample = dataset.samples[at]
            fault = passing.get(sample.measured_key)
            if fault is None:
                reason = next((r[sample.measured_key] for r in reasons if sample.measured_key in r), None)
                fault = Fault(sample.path, "cell", reason) if reason else _vanished(sample)
            faults.append(Fault(sample.path, fault.stage, fault.reason, sample.subject, sample.source))
    for block in blocks:
        block.release_pages()
    computed = {name: int((lacked[:, i] & has[:, i]).sum()) for i, name in enumerate(found)}
    return Extraction(
        dataset=dataset,
        names=tuple(found),
        extractors=tuple(version.extractor for version in versions),
        blocks=tuple(blocks),
        complete=complete,
        rows=tuple(at[cells.of_sample[complete]] for at in found.values()),
        faults=tuple(faults),
        computed=computed,
        reused={name: int(has[:, i].sum()) - computed[name] for i, name in enumerate(found)},
    )


def _vanished(sample: Sample) -> Fault:
    """Someone emptied or harmed the store while we were at work."""
    return Fault(sample.path, "store", "its features were taken out of the store meanwhile; extract again")


def _fault_event(fault: Fault) -> dict[str, str]:
    return {"file": printable(fault.path), "stage": fault.stage, "reason": fault.reason}
