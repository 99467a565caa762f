"""Runs commands again and again in forked processes, and kills them. A script: see ``conftest.py``.

One process imports and compiles everything and forks a child for each run, so that three hundred runs cost minutes,
not hours. Every line of its input is a plan, every line of its output an answer, both JSON.
"""

import collections
import contextlib
import ctypes
import errno
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

# Before the fork: what each child would otherwise import, and compile, anew.
import joblib  # noqa: F401
import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.ipc  # noqa: F401

import cli
import fusion.features.extraction
import fusion.workflows.ablate
import fusion.workflows.extract
import fusion.workflows.train
from fusion.bundles.model_bundle import load_model
from fusion.features.store import FeatureStore
from fusion.images import cell
from fusion.plugins import registry


def run(words, log, before=None, after=None):
    """Fork a child that runs the command line; its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        if before is not None:
            before()
        sys.argv = ["fusion", *words]
        cli.main()
    except SystemExit as done:
        code = done.code or 0
    finally:
        if after is not None:
            after()
        os._exit(code)


def import_as(words, log):
    """Run to the end, and then import what that has imported: each child would import it anew."""
    with tempfile.NamedTemporaryFile() as told:
        names = Path(told.name)
        assert wait(run(words, log, after=lambda: names.write_text("\n".join(sys.modules)))) == 0
        for name in names.read_text().splitlines():
            with contextlib.suppress(Exception):  # a library's makeshift modules
                importlib.import_module(name)


def wait(child):
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(log, calm, words, store, times, seed, model=None):
    """Kill a run at a random moment, ``times`` times; how many of them were killed before they were done.

    One that was done leaves nothing to measure for the next, and so to kill it at: its store is taken away. Where
    ``model`` is, there is a whole model after every kill from the first run that was done on.
    """
    rng = random.Random(seed)
    hit = 0
    import_as(calm, log)
    seconds, is_there = float("inf"), False
    for _ in range(times):
        started = time.monotonic()
        child = run(words, log)
        # The first is left alone. Later ones are killed before the quickest of those that were done would have been:
        # a run that goes on has less to do than one that begins.
        if seconds < float("inf"):
            time.sleep(rng.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        if wait(child) == -signal.SIGKILL:
            hit += 1
        else:
            seconds = min(seconds, time.monotonic() - started)
            shutil.rmtree(store)
            is_there = True
        if model is not None and (is_there or Path(model).exists()):
            load_model(model)
            is_there = True
    return hit


def strike(log, calm, words, store, times, seed, model=None):
    """Strike a run at a random call that changes a file, ``times`` times: SIGKILL or an error; the exit codes met.

    Needs ``shim.c`` under LD_PRELOAD. What was done is begun anew; what was struck goes on or begins anew, by turns.
    """
    shim = ctypes.CDLL(None)
    shim.fault_seen.restype = ctypes.c_long
    rng, codes = random.Random(seed), collections.Counter()
    import_as(calm, log)
    # Of a run from nothing whose imports are done: what an import writes is no call of theirs.
    # Nor is what this process has done before: a child goes on counting from there.
    read, write = os.pipe()
    before = shim.fault_seen()
    assert wait(run(words, log, after=lambda: os.write(write, str(shim.fault_seen() - before).encode()))) == 0
    most = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    shutil.rmtree(store)
    for at in range(times):
        calls, error = rng.randrange(most), rng.choice([0, 0, 0, errno.ENOSPC, errno.EIO, errno.EINTR])
        code = wait(run(words, log, partial(shim.fault_arm, ctypes.c_long(calls), error)))
        codes[code] += 1
        if model is not None:
            load_model(model)
        if code == 0 or at % 2:
            shutil.rmtree(store, ignore_errors=True)
    return codes, most


def together(log, runs):
    """The exit codes of runs that begin at once."""
    return [wait(child) for child in [run(words, log) for words in runs]]


def full(log, words, size):
    """The exit code of a run that can write no file larger than ``size`` bytes."""
    return wait(run(words, log, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))


def dawdle():
    """Rest a while after each shard: else a run on a busy machine is over before it is noticed that it wrote one."""
    write = FeatureStore.write

    def write_and_rest(*arguments, **options):
        write(*arguments, **options)
        time.sleep(0.5)

    FeatureStore.write = write_and_rest


def interrupt(log, words, store, signals):
    """The exit code of a run that gets signals, the first of them when it writes its second shard: of the first one it
    has then said so."""
    child = run(words, log, dawdle)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(Path(store).glob("features/*/*/*.arrow"))) < 2:
        time.sleep(0.002)
    for name in signals:
        os.kill(child, getattr(signal, name))
    return wait(child)


# Many small shards, so that most kills meet a write.
fusion.features.extraction.FLUSH = 4
image, *features = sys.argv[1:]
one = cell.read_cell(Path(image))
for name in features:
    registry.build_extractor(name).extract([one])
for line in sys.stdin:
    plan = json.loads(line)
    act, last, log = globals()[plan.pop("mode")], plan.pop("last"), plan["log"]
    # In the end always a run that nothing happens to.
    print(json.dumps({"answer": act(**plan), "last": wait(run(last, log))}), flush=True)
