"""The server behind the page: gives up connections that say nothing, and stops within seconds whatever is at work."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fusion.errors import UsageError

#: Seconds: for a request's headers to come, counted from when the connection is free; and for a client that asked to
#: take more of its answer.
IDLE_SECONDS = 10.0

#: Connections at a time. Above, the one that has said nothing for longest makes room: a process may have 1,024 files.
CONNECTIONS = 400

#: Seconds after which a stop no longer waits for answers that are under way.
STOP_SECONDS = 2


class TimedProtocol(H11Protocol):
    """HTTP of one connection, which is closed when it says nothing for ``IDLE_SECONDS``."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; make room for it."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            idle = [each for each in self.connections if isinstance(each, TimedProtocol) and each.is_idle]
            for each in sorted(idle, key=TimedProtocol.deadline)[:1]:
                each.transport.abort()
        self._wait(self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait(None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait(self._give_up)

    def pause_writing(self) -> None:
        """Begin to wait for a client that takes nothing of its answer."""
        super().pause_writing()
        self._wait(self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer: it takes what it is sent."""
        self._wait(None)
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def deadline(self) -> float:
        """When it is given up, by the clock of the loop."""
        return self._timer.when() if self._timer is not None else 0.0

    def _wait(self, then: Callable[[], Any] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if then is None else self.loop.call_later(IDLE_SECONDS, then)

    def _give_up(self) -> None:
        if self.is_idle:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn, which says when it listens, and tells of a stop before it waits for what is under way."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening, self._stopping = listening, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what can be answered soon, and tell the rest."""
        asyncio.get_running_loop().call_later(STOP_SECONDS - 1, self._stopping)
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """The address to listen on, kept for this process; nobody is answered yet.

    Raises
    ------
    UsageError : it cannot be listened on.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if sys.platform != "win32":  # where it would take the address from whoever has it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        is_taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"cannot listen on {host}:{port}",
            found="another program listens there" if is_taken else (error.strerror or str(error)).lower(),
            do="Choose another --port, 0 for any free one." if is_taken else "Choose another --host or --port.",
        ) from error
    return listening


def run(
    app: FastAPI, listening: socket.socket, host: str, say: Callable[[str], None], stopping: Callable[[], None]
) -> None:
    """Answer until interrupted.

    Parameters
    ----------
    listening : see ``bind``.
    host : as it was asked for, and is shown.
    say : told the page's address once it answers there.
    stopping : called when what is at work is no longer waited for.
    """
    settings = uvicorn.Config(
        app,
        http=TimedProtocol,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    server = Server(settings, lambda: say(address), stopping)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        with suppress(ValueError):  # not in the main thread, where a test runs it
            signal.signal(signal.SIGHUP, server.handle_exit)
    with suppress(KeyboardInterrupt):  # the way to stop it; what could be answered has been
        server.run(sockets=[listening])
