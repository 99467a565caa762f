"""Writes files, shards and models again and again, and is struck at one call of each. A script, under LD_PRELOAD.

Arguments: a folder to work in, a model, how often, a seed. The last line of the output tells how each ended.
"""

import collections
import ctypes
import errno
import json
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np

from fusion.bundles.model_bundle import load_model
from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import compact_all, verify
from fusion.io.output_files import write_output

folder, model, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
shim = ctypes.CDLL(None)
rng = random.Random(seed)
OLD, NEW = b"old" * 1000, b"new" * 70_000
ROWS = {f"{at:064x}": np.full(3, at, np.float32) for at in range(6)}
KEYS = list(ROWS)
bundle = load_model(model)


def mine():
    (folder / "out").mkdir(parents=True, exist_ok=True)
    (folder / "out/mine.txt").write_bytes(OLD)


def output():
    write_output(folder / "out/table.csv", NEW)


def shards():
    store = FeatureStore(folder / "store")
    for at in range(0, 6, 2):
        store.write("x", "f", ["a", "b", "c"], {key: ROWS[key] for key in KEYS[at : at + 2]})
    compact_all(store)


def save():
    bundle.save(folder / "model")


def check_output():
    assert (folder / "out/table.csv").read_bytes() in (OLD, NEW)


def check_shards():
    store = FeatureStore(folder / "store")
    assert verify(store)[1] == []
    read, _ = store.read("x", "f", KEYS, ["a", "b", "c"])
    assert all(np.array_equal(read[key], ROWS[key]) for key in read)
    shards()
    assert FeatureStore(folder / "store").read("x", "f", KEYS, ["a", "b", "c"])[0].keys() == ROWS.keys()


def check_model():
    assert load_model(folder / "model").classes == bundle.classes


def begin():
    shutil.rmtree(folder, ignore_errors=True)
    mine()
    (folder / "out/table.csv").write_bytes(OLD)
    shutil.copytree(model, folder / "model")


def strike(work, calls, error):
    """The exit code of a child that does the work and is struck; how many calls it came to."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        shim.fault_arm(ctypes.c_long(calls), error)
        code = 0
        try:
            work()
        except Exception as failure:
            code = 1 if isinstance(failure, OSError) or type(failure).__name__ in ("StoreError", "BundleError") else 9
        os.write(write, str(shim.fault_seen()).encode()) if calls > 1 << 20 else None
        os._exit(code)
    os.close(write)
    seen = os.read(read, 20)
    os.close(read)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(seen or 0)


WORK = {"output": (output, check_output), "shards": (shards, check_shards), "model": (save, check_model)}
shim.fault_seen.restype = ctypes.c_long
begin()
most = {}
for name, (work, _) in WORK.items():
    code, most[name] = strike(work, 1 << 40, 0)
    assert code == 0, name
outcomes = collections.Counter()
for at in range(count):
    name = list(WORK)[at % 3]
    work, check = WORK[name]
    if at % 30 < 3:
        begin()
    error = rng.choice([0, 0, 0, errno.ENOSPC, errno.EIO, errno.EINTR])
    code, _ = strike(work, rng.randrange(most[name]), error)
    assert code in (0, 1, -9), (name, error, code)
    check()
    assert (folder / "out/mine.txt").read_bytes() == OLD
    outcomes[f"{name}: {'done' if code == 0 else 'told' if code == 1 else 'killed'}"] += 1
print(json.dumps({"outcomes": outcomes, "calls": most}))
