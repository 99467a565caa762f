"""What stands before every request to the page: who may ask, what a browser is told to allow, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing from elsewhere, nothing inline, no frame around the page, no form that leaves it. ``blob:`` shows images
#: that were chosen but not yet sent, ``data:`` those of an answer.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # What was measured of a patient's cell stays in no cache.
    "Cache-Control": "no-store",
}

#: Names under which a server on this machine is asked by its own user.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

#: Seconds: upper bounds of the histogram, from a health check to a full request of a network's cells.
_BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts and times since the start, for Prometheus; a server's own, so that two in one process are not mixed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fusion_requests", "Requests answered.", ("method", "path", "status"), registry=self.registry
        )
        self.cells = Counter("fusion_cells", "Images, by what became of them.", ("outcome",), registry=self.registry)
        for outcome in ("judged", "fault"):
            self.cells.labels(outcome)  # from 0: a rate needs a figure before the first cell
        self.model_seconds = Counter(
            "fusion_model_seconds", "Time spent on finding, measuring and judging cells.", registry=self.registry
        )
        self.in_flight = Gauge(
            "fusion_requests_in_flight", "Requests that are not answered yet.", registry=self.registry
        )
        self.seconds = Histogram(
            "fusion_request_seconds",
            "Time from a request to the end of its answer.",
            buckets=_BOUNDS,
            registry=self.registry,
        )

    def text(self) -> str:
        """All of it as Prometheus reads it, a line a figure."""
        return generate_latest(self.registry).decode()


class Guard:
    """ASGI middleware: refuses strangers, adds headers, counts.

    Parameters
    ----------
    hosts : names by which the server may be asked, empty for any. A page of another site can make its own name point
        to this machine (DNS rebinding) and read what the browser's user may read; the name it asks by gives it away.
    paths : what there is; anything else is counted as "other", so that strangers cannot fill the metrics.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], paths: Collection[str], metrics: Metrics) -> None:
        self.app, self.hosts, self.paths, self.metrics = app, frozenset(hosts), frozenset(paths), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                held = [(name, value) for name, value in message["headers"] if name.lower() not in _OURS]
                message = {**message, "headers": [*held, *_ENCODED]}
            await send(message)

        with self.metrics.in_flight.track_inprogress():
            try:
                refusal = self._refusal(scope)
                if refusal:
                    await _refuse(refusal, scope, receive, answer)
                else:
                    await self.app(scope, receive, answer)
            finally:
                path = scope["path"] if scope["path"] in self.paths else "other"
                method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
                self.metrics.requests.labels(method, path, str(status)).inc()
                self.metrics.seconds.observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> str:
        # Starlette's TrustedHostMiddleware would do half of this, and answers 400 in plain text where the API promises
        # a 403 and its reason as JSON; older releases of it take "[::1]:8000" for another name.
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self.hosts and name not in self.hosts:
            return "this server is not asked by that name"
        if scope["method"] not in ("GET", "HEAD") and not _is_own_page(headers, host):
            return "pages of other sites may not ask"
        return ""


def _is_own_page(headers: Mapping[bytes, bytes], host: str) -> bool:
    """Whether a request comes from this server's page, or from no page at all.

    Browsers of today say which; of others the address of the page tells, which only a proxy in front may change.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin", b"").decode("latin-1")
    return not origin or urlsplit(origin).netloc == host


_ENCODED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_OURS = {name for name, _ in _ENCODED}


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.responses import JSONResponse

    await JSONResponse({"detail": reason}, status_code=403)(scope, receive, send)
