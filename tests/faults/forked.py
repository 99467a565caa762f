"""Runs `fusion extract` again and again in forked processes, and kills them. A script: see ``test_kills.py``.

One process imports everything and forks a child for each run, so that three hundred runs cost seconds, not an hour.
Its arguments are a JSON object; its last line of output is one.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path


def run(words, before=None):
    """Fork a child that runs the command line; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        if before is not None:
            before()
        sys.argv = ["fusion", "extract", *words]
        cli.main()
    except SystemExit as done:
        os._exit(done.code or 0)
    finally:
        os._exit(99)


def wait(child):
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(words, times, seed):
    """Kill a run at a random moment, ``times`` times; how many of them were killed before they were done."""
    rng = random.Random(seed)
    hit = 0
    started = time.monotonic()
    wait(run(plan["calm"]))
    seconds = time.monotonic() - started
    for _ in range(times):
        child = run(words)
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        hit += wait(child) == -signal.SIGKILL
    return hit


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (plan["bytes"], plan["bytes"]))


plan = json.loads(sys.argv[1])
# Before the fork: what each child would otherwise import, and compile, anew.
import joblib  # noqa: E402, F401
import pandas  # noqa: E402, F401
import pyarrow.compute  # noqa: E402
import pyarrow.ipc  # noqa: E402

import cli  # noqa: E402
import fusion.extraction  # noqa: E402
import fusion.training  # noqa: E402
from fusion import cells, plugins  # noqa: E402

# Many small shards, so that most kills meet a write.
fusion.extraction._FLUSH = plan["flush"]
one = cells.read_cell(Path(plan["picture"]))
for name in plan["features"]:
    plugins.build_extractor(name).extract([one])
answer: dict = {}
if plan["mode"] == "kill":
    answer["hit"] = killed(plan["words"], plan["times"], plan["seed"])
elif plan["mode"] == "together":
    answer["codes"] = [wait(child) for child in [run(words) for words in plan["runs"]]]
elif plan["mode"] == "full":
    answer["code"] = wait(run(plan["words"], small_files))
elif plan["mode"] == "signal":
    child = run(plan["words"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(Path(plan["wait_for"]).glob("features/*/*/*.arrow")):
        time.sleep(0.002)
    for name in plan["signals"]:
        os.kill(child, getattr(signal, name))
    answer["code"] = wait(child)
# In the end a run that nothing happens to.
answer["last"] = wait(run(plan["last"]))
print(json.dumps(answer))
