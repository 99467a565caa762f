"""Running tasks on a Dask cluster: a bounded number at once, results in order, no task lost with its worker.

The twin of ``process_pool`` for many machines. Tasks go to Dask's client one by one and not through
``joblib.Parallel``, which takes tasks in faster than their results are taken out, and ends a whole run for one task
that failed. Workers see images and nothing else: only the process that asked writes to the store.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fusion.errors import FusionError, UsageError
from fusion.features.cell_measurement import Measure, Measured, Need
from fusion.images.cell import PREPARATION
from fusion.io.files import printable
from fusion.plugins.registry import fingerprint

if TYPE_CHECKING:
    from distributed import Client, Future

_log = logging.getLogger("fusion")

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Ways to reach a scheduler that Dask knows by name, as its documentation of addresses lists them.
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+:\d+/?")

#: Tasks under way for each core of the cluster: one at work and two on their way, since a network lies between.
_AHEAD = 3

#: Seconds to wait for the scheduler, and for a first worker, before giving up.
_PATIENCE = 30.0

#: Seconds between two looks at how many workers there are; they may come and go.
_LOOK_SECONDS = 5.0


class ClusterError(FusionError):
    """The cluster cannot do the work. What was measured before is in the store."""


@dataclass(frozen=True)
class Remote:
    """``Measure`` on another machine, whose Fusion must be the same as ours: its numbers are stored as ours.

    Attributes
    ----------
    prints : fingerprint of each of the extractors, as this process makes it.
    """

    measure: Measure
    prints: tuple[str, ...]

    @classmethod
    def of(cls, measure: Measure) -> Remote:
        """``measure`` with the fingerprints that it has here."""
        return cls(measure, tuple(fingerprint(extractor, PREPARATION) for extractor in measure.extractors))

    def __call__(self, task: Sequence[Need]) -> list[Measured]:
        _one_thread()
        for extractor, expected in zip(self.measure.extractors, self.prints, strict=True):
            if (found := _fingerprint_here(cast(Hashable, extractor))) != expected:
                raise ValueError(f"{extractor.name} is another version there: {found}, here {expected}")
        return self.measure(task)


def everywhere(samples: Iterable[Need]) -> Iterator[Need]:
    """The same samples by absolute paths, which mean the same whatever folder a worker was started in."""
    for sample, need in samples:
        mask = sample.mask_path
        yield replace(sample, path=sample.path.absolute(), mask_path=mask and mask.absolute()), need


def check_address(address: str) -> None:
    """UsageError for what is no address; Dask's client takes a minute to give up on it, and ends in a traceback."""
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"{printable(address)} is no address of a scheduler", expected="tcp://host:port")


def connect(address: str) -> Client:
    """A client of the scheduler at ``address``, once it has a worker.

    Raises
    ------
    UsageError : Dask is not installed, or the address is none.
    ClusterError : no scheduler answers there, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--scheduler needs Dask", do="pip install 'fusion-cells[dask]'") from error
    check_address(address)
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except OSError as error:  # a TimeoutError is one too
        raise ClusterError(
            f"no Dask scheduler answers at {address}",
            found=" ".join(str(error).split())[:200],
            do="Start one by `dask scheduler`, and workers by `dask worker ADDRESS --nthreads 1 --nworkers auto`.",
        ) from error
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        client.close()
        raise ClusterError(
            f"the Dask scheduler at {address} has no worker", do="Start some by `dask worker ADDRESS --nthreads 1`."
        ) from error
    return client


def run(
    client: Client,
    function: Callable[[Sequence[Item]], list[Result]],
    tasks: Iterable[Sequence[Item]],
    lost: Callable[[Item], Result],
    stop: Callable[[], bool],
) -> Iterator[list[Result]]:
    """The results of every task, in the order of the tasks, whatever the workers and whichever of them die.

    ``function``, ``tasks``, ``lost`` and ``stop`` are those of ``process_pool.run``. A task whose worker dies is done
    again by another one, as often as the scheduler allows (three times, unless it was told otherwise); then item by
    item.

    Raises
    ------
    ClusterError : the scheduler has gone, or workers lack the package, or have another version of it.
    """
    waiting = iter(tasks)
    pending: deque[tuple[Sequence[Item], Future]] = deque()
    room = _Room(client)
    try:
        while True:
            while not stop() and len(pending) < room():
                if (task := next(waiting, None)) is None:
                    break
                pending.append((task, client.submit(function, task, pure=False)))
            if not pending:
                return
            task, future = pending.popleft()
            yield _outcome(client, function, task, future, lost, [each for _, each in pending])
    finally:
        client.cancel([future for _, future in pending], force=True)


class _Room:
    """How many tasks may be under way, by the cores that the cluster has now."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._looked, self._room = float("-inf"), 0

    def __call__(self) -> int:
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            cores = sum(self._client.ncores().values())
            self._looked, self._room = time.monotonic(), _AHEAD * max(1, cores)
        return self._room


def _outcome(
    client: Client,
    function: Callable[[Sequence[Item]], list[Result]],
    task: Sequence[Item],
    future: Future,
    lost: Callable[[Item], Result],
    others: Sequence[Future],
) -> list[Result]:
    from concurrent.futures import CancelledError as Cancelled

    from distributed import CancelledError, KilledWorker, wait

    try:
        return _patiently(client, future)
    except KilledWorker:
        if len(task) == 1:
            return [lost(task[0])]
        # A death counts against all that its worker had at hand: with nothing beside it, against the item alone.
        if others:
            wait(list(others))
        results = []
        for item in task:
            again = client.submit(function, [item], pure=False)
            results += _outcome(client, function, [item], again, lost, ())
        return results
    except (CancelledError, Cancelled) as error:
        raise ClusterError(
            "the Dask scheduler has gone", do="Run the same command again: what was measured before is kept."
        ) from error
    except Exception as error:  # whatever a worker raises: Measure itself makes a cell's trouble that cell's fault
        raise ClusterError(
            "a worker of the cluster cannot measure",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="Install the same version of fusion-cells, and of other plug-ins, on every worker.",
        ) from error


def _patiently(client: Client, future: Future) -> Any:
    """The result of a task, however long it takes; says so where there is nobody to do it."""
    is_reported = False
    while True:
        try:
            return future.result(timeout=_PATIENCE)
        except TimeoutError:
            if future.done():  # the function's own
                raise
            if not is_reported and not client.ncores():
                _log.warning("waiting: the cluster has no worker any more; start one, or press Ctrl-C twice to stop")
                is_reported = True


@cache
def _fingerprint_here(extractor: Any) -> str:
    return fingerprint(extractor, PREPARATION)


@cache
def _one_thread() -> None:
    """Workers share the cores, one each."""
    import cv2

    cv2.setNumThreads(1)
