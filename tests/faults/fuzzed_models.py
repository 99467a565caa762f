"""Loads spoilt model folders and predicts with them. A script, so that a crash in a library is one failed test.

Arguments: a folder to work in, how many, a seed. The last line of the output tells the outcomes.
"""

import collections
import json
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from fusion.bundles.model_bundle import ModelBundle
from fusion.errors import FusionError
from fusion.features.blocks import Block
from fusion.io.files import sha256
from fusion.leakage.provenance import Provenance
from fusion.learning.fused_model import fuse
from fusion.learning.novelty import learn_novelty
from fusion.plugins import build_extractor
from tests.builders.mutants import spoil

#: What reading a model must never do, by the names that Python's audit events have.
FORBIDDEN = {
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pickle.find_class",
    "socket.connect",
    "shutil.rmtree",
    "os.remove",
    "os.rename",
}

folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng, values = random.Random(seed), np.random.default_rng(seed)
extractor = build_extractor("colour")
blocks = (Block("colour", extractor),)
columns = tuple(blocks[0].columns)
X = values.normal(size=(60, len(columns))).astype(np.float32)
y = np.array(["all", "hem"] * 30)
X[y == "all"] += 0.3
expected = {}
for name in ("svm", "xgb", "logreg"):
    model = fuse(X, y, np.arange(60) // 4, {"colour": slice(0, len(columns))}, name)
    novelty = learn_novelty(X, y, np.arange(60) // 4, {"colour": slice(0, len(columns))})
    known = Provenance(images=frozenset("ab"), subjects=frozenset("cd"))
    bundle = ModelBundle(model, name, blocks, columns, "all", known, {"note": "a"}, novelty)
    bundle.save(folder / name)
    expected[name] = ModelBundle.load(folder / name).model.predict_proba(X)

is_watching = False
forbidden = []
sys.addaudithook(lambda event, given: forbidden.append(event) if is_watching and event in FORBIDDEN else None)

outcomes: collections.Counter[str] = collections.Counter()
for at in range(count):
    name = list(expected)[at % 3]
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / name, work)
    files = sorted(path for path in work.rglob("*") if path.is_file())
    path = rng.choice(files)
    before = path.read_bytes()
    path.write_bytes(spoil(before, rng))
    is_same = path.read_bytes() == before
    # Half of them by someone who knows how to make the manifest fit again.
    is_forged = path.name != "model.json" and rng.random() < 0.5
    if is_forged:
        manifest = json.loads((work / "model.json").read_bytes())
        manifest["files"][path.relative_to(work).as_posix()] = sha256(path.read_bytes())
        (work / "model.json").write_text(json.dumps(manifest))
    signal.alarm(20)
    is_watching = True
    try:
        loaded = ModelBundle.load(work)
        proba = loaded.model.predict_proba(X)
        assert loaded.novelty is None or loaded.novelty.distance(X).shape == (60,)
        outcome = "the same" if np.array_equal(proba, expected[name]) else "another model"
    except FusionError:
        outcome = "refused"
    is_watching = False
    signal.alarm(0)
    kind = "manifest" if path.name == "model.json" else "forged" if is_forged else "damaged"
    outcomes["nothing changed" if is_same else f"{kind}: {outcome}"] += 1
print(json.dumps({"outcomes": outcomes, "forbidden": forbidden}))
