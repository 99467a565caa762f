"""The one thread that asks the model: requests take turns, and what nobody waits for any more is not begun."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from fusion.serve._uploads import Limits, RequestError

_Answer = TypeVar("_Answer")


class Abandoned(Exception):
    """Whoever asked has left, or has been told that it took too long. Raised between two steps of the work."""


class ModelThread:
    """Does one piece of work after the other.

    A thread of its own that nobody waits for: the process ends while it is at work.

    Parameters
    ----------
    spent : told the seconds of each piece of work.
    """

    def __init__(self, limits: Limits, spent: Callable[[float], None]) -> None:
        self._limits, self._spent = limits, spent
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping: asyncio.Event | None = None
        self._is_stopping = False
        threading.Thread(target=self._run, name="model", daemon=True).start()

    async def ask(self, work: Callable[[Callable[[], None]], _Answer], gone: Callable[[], Awaitable[Any]]) -> _Answer:
        """Do ``work`` when its turn comes.

        Parameters
        ----------
        work : given a function to be called between its steps, which ends it once nobody waits.
        gone : returns when whoever asked has left.

        Raises
        ------
        RequestError : 503 after ``limits.seconds`` of waiting and working, or where the server stops.
        Abandoned : whoever asked has left.
        """
        self._stopping = self._stopping or asyncio.Event()
        if self._is_stopping:
            self._stopping.set()
        job: Future[_Answer] = Future()
        is_abandoned = threading.Event()

        def check() -> None:
            if is_abandoned.is_set():
                raise Abandoned

        self._waiting.put(lambda: self._do(job, lambda: work(check)))
        answer = asyncio.wrap_future(job)
        left, stopped = asyncio.ensure_future(gone()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(
                {answer, left, stopped}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            if left.done():
                raise Abandoned
            raise _stopped() if stopped.done() else _busy(self._limits)
        finally:
            is_abandoned.set()
            job.cancel()
            for each in (left, stopped):
                each.cancel()
            # Looked at however it ends: nobody else will, and asyncio would complain.
            answer.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def stop(self) -> None:
        """Tell those who wait that they are not answered."""
        self._is_stopping = True
        if self._stopping is not None:
            self._stopping.set()

    def close(self) -> None:
        """Take no more work."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()

    def _do(self, job: Future[_Answer], work: Callable[[], _Answer]) -> None:
        if not job.set_running_or_notify_cancel():  # nobody waits any more
            return
        started = time.perf_counter()
        try:
            answer = work()
        except Exception as error:
            self._spent(time.perf_counter() - started)
            job.set_exception(error)
        else:
            self._spent(time.perf_counter() - started)
            job.set_result(answer)


def _busy(limits: Limits) -> RequestError:
    return RequestError(
        503, "the model did not answer in time", expected=f"within {limits.seconds:g} s", do="Send fewer images."
    )


def _stopped() -> RequestError:
    return RequestError(503, "the server stops", do="Ask again once it runs.")
