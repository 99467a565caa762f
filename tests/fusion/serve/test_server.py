"""The command as strangers meet it: sockets that say nothing, answers that nobody takes, and a stop under way."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.builders.images import ROOT, paint
from tests.builders.requests import png

pytestmark = pytest.mark.skipif(os.name == "nt", reason="has other signals")

#: The command with a model that takes its time, and with short waits.
PROGRAM = """
import sys, time
import cli, fusion.serve._server as server, fusion.serve.app as app
server.IDLE_SECONDS = float(sys.argv.pop(1))
judge, slow = app.predict_cells, float(sys.argv.pop(1))
def predict_cells(*given):
    print("at work", flush=True)
    time.sleep(slow)
    return judge(*given)
app.predict_cells = predict_cells
cli.main()
"""


@contextlib.contextmanager
def serving(model, tmp_path, idle=10.0, slow=0.0, **limits):
    words = [part for key, value in limits.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", PROGRAM, str(idle), str(slow), "serve", str(model), "--port", "0", *words]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "err").open("wb"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            address = process.stdout.readline().split()[0]
            yield process, int(address.rstrip("/").rpartition(":")[2])
        finally:
            process.kill()


def ask(port, path="/healthz", timeout=30):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request("GET", path)
    return connection.getresponse().status


def upload(port):
    """A socket on which one cell has been sent to be judged."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body += png(paint(0, side=96, radius=30)) + b"\r\n--x--\r\n"
    head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    sent = socket.create_connection(("127.0.0.1", port))
    sent.sendall(head.encode() + body)
    return sent


def is_closed(connection, seconds):
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_sockets_that_say_nothing_or_half_a_request_keep_nobody_out_and_are_closed(trees, tmp_path):
    with serving(trees, tmp_path, idle=2.0) as (_, port), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for at, each in enumerate(idle):
            each.sendall([b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n"][at % 3])
        started = time.monotonic()
        assert [ask(port) for _ in range(5)] == [200] * 5
        assert time.monotonic() - started < 2
        assert all(is_closed(each, 10) for each in idle)
        again = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert again.recv(100).startswith(b"HTTP/1.1 200")
        again.sendall(b"GET /heal")  # half of a second request on a connection that was used
        again.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while again.recv(1000):
                pass
        assert ask(port) == 200


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stop_takes_five_seconds_at_most_with_work_under_way(number, trees, tmp_path):
    with serving(trees, tmp_path, slow=60) as (process, port), upload(port) as sent:
        assert process.stdout.readline() == "at work\n"
        started = time.monotonic()
        process.send_signal(getattr(signal, number))
        sent.settimeout(10)
        assert b"503" in sent.recv(4096)
        process.wait(10)
        assert time.monotonic() - started < 5
        assert process.returncode in (0, 130)
    message = (tmp_path / "err").read_text()
    assert "Traceback" not in message
    assert "bug" not in message


def test_work_that_nobody_waits_for_is_dropped(trees, tmp_path):
    with serving(trees, tmp_path, slow=2) as (process, port):
        first = upload(port)
        assert process.stdout.readline() == "at work\n"
        for _ in range(8):
            upload(port).close()
        time.sleep(0.5)
        first.close()
        started = time.monotonic()
        with upload(port) as last:
            last.settimeout(30)
            assert last.recv(100).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - started < 8  # two of nine: the one that had begun, and the last


def test_opencv_itself_is_held_to_the_servers_limit_of_pixels(tmp_path):
    """Were our reading of a header wrong, the decoder would refuse all the same."""
    code = """
import sys, types
import cli
page = types.ModuleType("fusion.serve.app")
def serve(config, say):
    import cv2, numpy
    for side in (900, 1100):
        content = cv2.imencode(".png", numpy.zeros((side, side, 3), numpy.uint8))[1]
        try:
            found = cv2.imdecode(content, cv2.IMREAD_COLOR)
            print(found if found is None else found.shape)
        except cv2.error:
            print(None)
page.serve = serve
sys.modules["fusion.serve.app"] = page
sys.argv = ["fusion", "serve", "model", "--set", "megapixels=1", "-q"]
cli.main()
"""
    for environment in ({}, {"OPENCV_IO_MAX_IMAGE_PIXELS": "1000000000"}):
        given = {**os.environ, **environment}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=given)
        assert done.stdout.splitlines() == ["(900, 900, 3)", "None"], done.stderr
