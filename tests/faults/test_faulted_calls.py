"""Killed, or out of disk, at any call that changes a file: the old or the new is there, and nothing else is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.images import ROOT

HERE = Path(__file__).parent


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_struck_at_any_call_nothing_is_lost(count, shim, trees, tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "faulted.py"), str(tmp_path / "work"), str(trees), str(count), "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    message = json.loads(done.stdout.splitlines()[-1])
    assert min(message["calls"].values()) >= 3  # else the shim saw nothing
    assert sum(message["outcomes"].values()) == count
    for name in ("output", "shards", "model"):
        assert message["outcomes"].get(f"{name}: killed", 0) > count / 20, message
