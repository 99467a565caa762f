"""What the tests of faults share: a folder of small cells, and the extract that is to survive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.images import ROOT, paint, write_image
from tests.builders.runs import FEATURES, words


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """64 small cells of two classes."""
    root = tmp_path_factory.mktemp("faults") / "cells"
    for at in range(64):
        write_image(root / "ab"[at % 2] / f"{at:02}.png", paint(at, side=32, radius=11))
    return root


@pytest.fixture(scope="session")
def undisturbed(cells, tmp_path_factory):
    """The exported table of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = extract(cells, folder / "store", "--export", folder / "calm.csv")
    assert done.returncode == 0, done.stderr
    return (folder / "calm.csv").read_bytes()


def extract(data: Path, store: Path, *more: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `fusion extract` to its end in a process of its own."""
    command = [sys.executable, "-m", "fusion", *words(data, store, *more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that strikes, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler cc, or not Linux")
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", made, Path(__file__).with_name("shim.c"), "-ldl"],
        capture_output=True,
        text=True,
    )
    if built.returncode:
        pytest.skip(f"the compiler has no headers: {built.stderr.splitlines()[0]}")
    return made


@pytest.fixture(scope="session")
def forked(cells):
    """A function that has ``forked.py`` carry out a plan, and gives its answer and the last run's exit code."""
    with planned(cells) as carry_out:
        yield carry_out


@pytest.fixture(scope="session")
def struck(cells, shim):
    """As ``forked``, with the library that strikes."""
    with planned(cells, LD_PRELOAD=str(shim)) as carry_out:
        yield carry_out


@contextlib.contextmanager
def planned(cells: Path, **environment: str):
    """A function that has ``forked.py`` carry out plans."""
    script = [sys.executable, str(Path(__file__).with_name("forked.py"))]
    with subprocess.Popen(
        [*script, str(next(cells.rglob("*.png"))), *FEATURES],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    ) as server:

        def carry_out(mode: str, log: Path, **plan: object) -> tuple[object, int]:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps({"mode": mode, "log": str(log), **plan}) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            return answer["answer"], answer["last"]

        yield carry_out
        server.stdin.close()
