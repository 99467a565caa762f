"""`fusion serve` under load: many clients at once, then an upload that is too large and requests that are damaged.

    python benchmarks/serving.py [--clients 8] [--seconds 30] [--damaged 1000]

The server is the command itself, on a free port of this machine, with boosted trees on handcrafted blocks. Every client
sends one synthetic cell after the other. The server's memory is its resident size; growth is counted from the fifth
second on, when everything has been loaded. The clients share the cores with the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fusion.serve.app import example_cell
from fusion.settings.commands import TrainConfig
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.workflows.train import train

ROOT = Path(__file__).parents[1]

#: Seconds after which memory should no longer grow.
SETTLED = 5.0

#: Images that clients take turns with.
IMAGES = 8

BOUNDARY = "fusion-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@contextmanager
def served(model: Path) -> Iterator[tuple[int, int]]:
    """Port and process number of a server."""
    command = [sys.executable, "-u", "-m", "fusion", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r":(\d+)/", line)
        if found is None:
            raise SystemExit(f"fusion serve did not start: {line}")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait(30)


def body_of(content: bytes, name: str = "cell.png") -> bytes:
    """A multipart body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and content; status 0 where the server closed the connection instead of answering."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (ConnectionError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def resident(process: int) -> float:
    """Megabytes of memory that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(port: int, process: int, clients: int, seconds: float) -> dict[str, float]:
    """Ask with many clients at once; counts, seconds of an answer, and memory."""
    bodies = [body_of(example_cell(number)[0]) for number in range(IMAGES)]
    taken: list[float] = []
    failed: Counter[str] = Counter()
    before, end = model_time(port), time.monotonic() + seconds

    def client(number: int) -> None:
        while time.monotonic() < end:
            started = time.perf_counter()
            status, content = ask(port, "POST", "/api/predict", bodies[number % IMAGES], HEADERS)
            if status != 200 or len(json.loads(content)["predictions"]) != 1:
                failed[str(status)] += 1
            taken.append(time.perf_counter() - started)
            number += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    memory: list[tuple[float, float]] = []
    started = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        memory.append((time.monotonic() - started, resident(process)))
        time.sleep(0.2)
    settled = max(size for at, size in memory if at <= SETTLED)
    after = model_time(port)
    return {
        "requests": len(taken),
        "errors": sum(failed.values()),
        "median": float(np.median(taken)),
        "p95": float(np.quantile(taken, 0.95)),
        "model": (after[0] - before[0]) / max(after[1] - before[1], 1),
        "settled": settled,
        "growth": max(size for _, size in memory) / settled - 1,
    }


def model_time(port: int) -> tuple[float, float]:
    """Seconds in the model, and cells it has judged, since the server began."""
    text = ask(port, "GET", "/metrics")[1].decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(values["fusion_model_seconds_total"]), float(values['fusion_cells_total{outcome="judged"}'])


def damage(port: int, count: int) -> Counter[int]:
    """Statuses of requests with bytes exchanged, cut out or put in, at addresses and by methods drawn at random."""
    draws = np.random.default_rng(0)
    whole = body_of(example_cell(0)[0])
    statuses: Counter[int] = Counter()
    for _ in range(count):
        body = bytearray(whole)
        for _ in range(draws.integers(1, 6)):
            # Half of the damage to the head, where a parser can be hurt.
            at = int(draws.integers(0, 120 if draws.random() < 0.5 else len(body)))
            body[at : at + int(draws.integers(0, 9))] = draws.bytes(int(draws.integers(0, 9)))
        if draws.random() < 0.3:
            del body[int(draws.integers(0, len(body))) :]
        path = str(
            draws.choice(["/api/predict", "/api/predict?images=true", "/api/explain", "/api/explain?format=svg"])
        )
        boundary = str(draws.choice([BOUNDARY, BOUNDARY, BOUNDARY, '"' + BOUNDARY, "", "x; charset=utf-99"]))
        kind = str(draws.choice(["multipart/form-data", "multipart/form-data", "text/plain", "application/json"]))
        method = str(draws.choice(["POST", "POST", "POST", "PUT", "GET"]))
        statuses[ask(port, method, path, bytes(body), {"Content-Type": f"{kind}; boundary={boundary}"})[0]] += 1
    return statuses


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--damaged", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusion-serving-") as work:
        cells, model = Path(work) / "cells", Path(work) / "model"
        synthesize(cells, SyntheticDesign(subjects=12, cells_per_subject=10), jobs=1)
        store = Path(work) / "store"
        train(
            TrainConfig(
                data=cells,
                classifier="xgb",
                features=["morphology", "texture", "colour"],
                store=store,
                output=model,
                splits=2,
                jobs=1,
            )
        )
        with served(model) as (port, process):
            found = load(port, process, given.clients, given.seconds)
            large = ask(port, "POST", "/api/predict", body_of(bytes(100_000_000)), HEADERS)[0]
            statuses = damage(port, given.damaged)
            healthy = ask(port, "GET", "/healthz")[0]
            judged = ask(port, "POST", "/api/predict", body_of(example_cell(0)[0]), HEADERS)[0]
            memory = resident(process)
    print("| clients | requests | errors | median s | p95 s | model's own s a cell | MB | growth |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    seconds = " | ".join(f"{found[name]:.3f}" for name in ("median", "p95", "model"))
    print(
        f"| {given.clients} | {found['requests']:.0f} | {found['errors']:.0f} | {seconds} "
        f"| {found['settled']:.0f} | {100 * found['growth']:.1f}% |"
    )
    format_error = ", ".join(f"{count} of status {status}" for status, count in sorted(statuses.items()))
    print(f"\n100 MB in one request: status {large} (0: closed while it was still being sent).")
    print(f"{given.damaged} damaged requests: {format_error}.")
    print(f"Afterwards: /healthz {healthy}, /api/predict {judged}, {memory:.0f} MB.")


if __name__ == "__main__":
    main()
