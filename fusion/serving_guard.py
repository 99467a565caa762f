"""What stands before every request to the page: who may ask, what a browser is told to allow, and what is counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing from elsewhere, nothing inline, no frame around the page, no form that leaves it. ``blob:`` shows pictures
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
    """Counts and times since the start, in Prometheus' text format.

    Source: prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.cells: Counter[str] = Counter()
        self.model_seconds = 0.0
        self.in_flight = 0
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request that was answered."""
        self.requests[method, path, status] += 1
        self._seconds += seconds
        self._buckets[next((at for at, bound in enumerate(_BOUNDS) if seconds <= bound), len(_BOUNDS))] += 1

    def text(self) -> str:
        """All of it, a line a figure."""
        lines = ["# HELP fusion_requests_total Requests answered.", "# TYPE fusion_requests_total counter"]
        for (method, path, status), count in sorted(self.requests.items()):
            lines.append(f'fusion_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}')
        lines += ["# HELP fusion_cells_total Pictures, by what became of them.", "# TYPE fusion_cells_total counter"]
        lines += [f'fusion_cells_total{{outcome="{name}"}} {self.cells[name]}' for name in ("fault", "judged")]
        lines += [
            "# HELP fusion_model_seconds_total Time spent on finding, measuring and judging cells.",
            "# TYPE fusion_model_seconds_total counter",
            f"fusion_model_seconds_total {self.model_seconds:.6f}",
            "# HELP fusion_requests_in_flight Requests that are not answered yet.",
            "# TYPE fusion_requests_in_flight gauge",
            f"fusion_requests_in_flight {self.in_flight}",
            "# HELP fusion_request_seconds Time from a request to the end of its answer.",
            "# TYPE fusion_request_seconds histogram",
        ]
        below = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._buckets, strict=True):
            below += count
            lines.append(f'fusion_request_seconds_bucket{{le="{bound}"}} {below}')
        lines += [f"fusion_request_seconds_sum {self._seconds:.6f}", f"fusion_request_seconds_count {below}"]
        return "\n".join(lines) + "\n"


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

        self.metrics.in_flight += 1
        try:
            refusal = self._refusal(scope)
            if refusal:
                await _refuse(refusal, scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        finally:
            self.metrics.in_flight -= 1
            path = scope["path"] if scope["path"] in self.paths else "other"
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            self.metrics.count(method, path, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> str:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self.hosts and name not in self.hosts:
            return "this server is not asked by that name"
        site = headers.get(b"sec-fetch-site", b"same-origin")
        if scope["method"] != "GET" and site not in (b"same-origin", b"none"):
            return "pages of other sites may not ask"
        return ""


_ENCODED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_OURS = {name for name, _ in _ENCODED}


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.responses import JSONResponse

    await JSONResponse({"detail": reason}, status_code=403)(scope, receive, send)
