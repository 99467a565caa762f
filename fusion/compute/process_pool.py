"""Running tasks in worker processes: a bounded number at once, results in order, no task lost with its worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from fusion.compute.memory import collect_rarely

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Tasks under way for each worker: one at work and one waiting, so that it never idles. It bounds what lies in memory
#: between workers and whoever takes their results.
_AHEAD = 2

#: Worker processes share the cores, one each: libraries inside them must not start threads of their own.
_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1"
    for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA")
}

#: How often a worker looks whether its parent is still there.
_WATCH_SECONDS = 1.0


def run(
    function: Callable[[Sequence[Item]], list[Result]],
    tasks: Iterable[Sequence[Item]],
    workers: int,
    lost: Callable[[Item], Result],
    stop: Callable[[], bool],
) -> Iterator[list[Result]]:
    """The results of every task, in the order of the tasks, whatever the number of workers.

    Parameters
    ----------
    function : one result for each item of a task; sent to the workers, so it must be picklable.
    tasks : consumed no faster than results are taken.
    workers : processes; 1 works in this one.
    lost : the result of an item that kills the worker it is given to, even alone.
    stop : asked before each task; once it says yes, what is at work is finished and no more is begun.
    """
    from threadpoolctl import ThreadpoolController

    waiting = iter(tasks)
    if stop() or (first := next(waiting, None)) is None:
        return
    # The first task runs here: it leaves compiled kernels on disk, where every worker then finds them.
    yield _on_one_thread(function, first, ThreadpoolController())
    if workers == 1:
        libraries = ThreadpoolController()  # what the first task has loaded is among them
        for task in waiting:
            if stop():
                return
            yield _on_one_thread(function, task, libraries)
        return
    yield from _run_in_processes(function, waiting, workers, lost, stop)


def _on_one_thread(
    function: Callable[[Sequence[Item]], list[Result]], task: Sequence[Item], libraries: ThreadpoolController
) -> list[Result]:
    """As a worker process would do it: threads that share one small image mostly wake each other and wait. Whoever
    runs between two tasks, a network for example, has all threads again."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with libraries.limit(limits=1):
            return function(task)
    finally:
        cv2.setNumThreads(before)


def _run_in_processes(
    function: Callable[[Sequence[Item]], list[Result]],
    waiting: Iterator[Sequence[Item]],
    workers: int,
    lost: Callable[[Item], Result],
    stop: Callable[[], bool],
) -> Iterator[list[Result]]:
    pending: deque[tuple[Sequence[Item], Future[list[Result]]]] = deque()
    is_broken = False
    try:
        while True:
            # After a worker's death all that was under way is first done again, one task at a time.
            while not is_broken and not stop() and len(pending) < _AHEAD * workers:
                if (task := next(waiting, None)) is None:
                    break
                pending.append((task, _submit(function, task, workers)))
            if not pending:
                if not is_broken:
                    return
                is_broken = False
                continue
            task, future = pending.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                is_broken = True
                if stop():  # whoever asks us to stop may have told the workers too
                    return
                yield _alone(function, task, workers, lost)
    except GeneratorExit:  # nobody takes the results any more
        raise
    except BaseException:
        _executor(workers).shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]  # loky's own
        raise
    finally:
        for _, future in pending:
            future.cancel()


def _alone(
    function: Callable[[Sequence[Item]], list[Result]],
    task: Sequence[Item],
    workers: int,
    lost: Callable[[Item], Result],
) -> list[Result]:
    """A task whose worker died, again with nothing beside it; item by item if it dies once more."""
    try:
        return _submit(function, task, workers).result()
    except BrokenProcessPool:
        if len(task) == 1:
            return [lost(task[0])]
        return [result for item in task for result in _alone(function, [item], workers, lost)]


def _submit(
    function: Callable[[Sequence[Item]], list[Result]], task: Sequence[Item], workers: int
) -> Future[list[Result]]:
    try:
        return _executor(workers).submit(function, task)
    except BrokenProcessPool:  # it broke between two tasks: the next call makes another
        return _executor(workers).submit(function, task)


def _executor(workers: int) -> Executor:
    """The pool of this process, a new one where the last has broken. It is the one that joblib keeps for everybody."""
    from joblib.executor import get_memmapping_executor

    return get_memmapping_executor(workers, timeout=60, initializer=_begin, initargs=(os.getpid(),), env=_ONE_THREAD)


def _begin(parent: int) -> None:
    """Set a new worker up: one thread, deaf to the terminal's Ctrl-C, and gone when its parent is."""
    import cv2

    collect_rarely()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when its workers stop
    if os.name != "nt":
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
