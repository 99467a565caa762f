"""Loads forged model folders and predicts with them. A script, so that a crash in a library is one failed test.

Every mutant is re-signed: hashes are in order, as someone makes them who can change a file. Values of JSON, arrays of
safetensors and plain bytes are changed by what they are: numbers, sizes, names, keys twice, kinds, shapes.

Arguments: a folder to work in, how many, a seed, and whether the models are of "features", have "networks" in them or
are of "patients".
The last line of the output tells the outcomes.
"""

import collections
import json
import os
import random
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np

from fusion.bundles.model_bundle import ModelBundle
from fusion.errors import FusionError
from fusion.features.blocks import Block
from fusion.images.cell import make_cell
from fusion.io.files import file_sha256
from fusion.leakage.provenance import Provenance
from fusion.learning.fused_model import fuse
from fusion.learning.novelty import learn_novelty
from fusion.learning.study import Study
from fusion.learning.training_quantiles import learn_reference
from fusion.plugins.registry import build_extractor
from fusion.settings.learning import HarmoniseSettings
from tests.builders.model_mutants import mutant
from tests.faults.peak_memory import peak_bytes

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
    "os.mkdir",
}


def change_files(work, rng):
    """A file too many; what takes it away again."""
    name = rng.choice(["extra.json", "classifier/extra.pkl", "classifier/deep/x.json", "layer.bak", ".hidden"])
    path = work / name
    made = [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")

    def undo():
        path.unlink()
        for folder in made:
            folder.rmdir()

    return undo


def models_of_features(folder, rng):
    """Saved models by folder, each with what asks it."""
    for classes in (2, 3):
        blocks = (Block("colour", build_extractor("colour")), Block("morphology", build_extractor("morphology")))
        columns = tuple(column for block in blocks for column in block.columns)
        X = rng.normal(size=(60, len(columns))).astype(np.float32)
        y = np.array(["all", "hem", "mix"][:classes] * (60 // classes))
        X[y == "all"] += 0.3
        end = len(blocks[0].columns)
        parts, groups = {"colour": slice(0, end), "morphology": slice(end, len(columns))}, np.arange(60) // 6
        kinds = (
            ("svm", {}),
            ("svm", {"params": {"landmarks": 20}, "calibrate": "isotonic"}),
            ("xgb", {"params": {"n_estimators": 4}, "stability": 0.1}),
            ("logreg", {"harmonise": {"method": "standard"}, "layer": {"pca": 3}, "calibrate": "temperature"}),
            ("logreg", {"fuse": "late", "calibrate": "logistic"}),
            ("svm", {"costs": {"all": {"hem": 5.0}}}),
        )
        for number, (name, steps) in enumerate(kinds):
            if "harmonise" in steps:
                steps = {**steps, "harmonise": HarmoniseSettings(**steps["harmonise"])}
            if classes == 2:
                steps = {"threshold": None if "costs" in steps else "0.4", "positive": "all", **steps}
            sources = [f"site{row % 2}" for row in range(60)]
            model = fuse(X, y, groups, parts, name, sources=sources, **steps)
            novelty = learn_novelty(X, y, groups, parts)
            known = Provenance(images=frozenset("ab"), subjects=frozenset("cd"))
            positive, reference = "all" if classes == 2 else None, learn_reference(X, y, model.classes)
            bundle = ModelBundle(model, name, blocks, columns, positive, known, {"note": "a"}, novelty, reference)
            work = folder / f"{name}-{classes}-{number}"
            bundle.save(work)
            yield work, partial(ask_about_rows, X)


def ask_about_rows(X, bundle):
    """Probabilities of rows of features."""
    assert bundle.novelty is None or bundle.novelty.distance(X).shape == (len(X),)
    return bundle.model.predict_proba(X)


def trained(folder, name, given):
    """The folder of a model of 24 cells of eight subjects.

    In a process of its own: what training takes is not what a model's reader takes.
    """
    from fusion.settings.commands import TrainConfig
    from fusion.workflows.train import train
    from tests.builders.images import paint, write_image

    for at in range(24):
        write_image(
            folder / "cells" / f"UID_{at // 3}_{at}_1_{('all', 'hem')[at // 3 % 2]}.png", paint(at, 32, radius=9)
        )
    work, store = folder / name, folder / "store"
    child = os.fork()
    if not child:
        train(TrainConfig(data=folder / "cells", output=work, store=store, splits=2, jobs=1, **given))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return work


def models_of_patients(folder, rng):
    """Saved models by folder, each with what asks it: statistics of bags, networks of each pooling, a mean of cells."""
    from fusion.data.patients.bags import Bags, split_rows

    quick = {"members": 2, "steps": 10, "hidden": 8}
    for name, given in (
        ("pool", {"classifier": "pool"}),
        ("mean", {"classifier": "logreg"}),
        *(
            (pooling, {"classifier": "mil", "classifiers": {"mil": {**quick, "pooling": pooling}}})
            for pooling in ("attention", "top-k", "transformer")
        ),
    ):
        work = trained(folder, name, {"features": ["colour"], "unit": "subject", **given})
        columns = len(ModelBundle.load(work).columns)
        bags = Bags(rng.normal(size=(12, columns)).astype(np.float32), split_rows([3, 1, 5, 3]))
        yield work, partial(ask_about_patients, bags)


def ask_about_patients(bags, bundle):
    """Probabilities of patients, each of whom has some rows of features."""
    return bundle.model.predict_proba(bags)


def models_with_networks(folder, rng):
    """Saved models by folder, each with what asks it: a network, one beside features, and one as a block."""
    from tests.builders.images import paint

    cells = [make_cell(paint(100 + at, 32, radius=9)) for at in range(3)]
    tiny = {"backbone": "test_efficientnet", "weights": "random", "size": 32}
    network = {**tiny, "head": [8], "head_dropout": [0.0, 0.0]}
    neural = {"network": network, "training": {"epochs": 1, "batch_size": 8, "patience": 0}, "threads": 1}
    cnn = {**tiny, "attention": False}
    for name, given in (
        ("alone", {"classifier": "neural", "features": ["none"], "classifiers": {"neural": neural}}),
        ("beside", {"classifier": "neural", "features": ["colour"], "classifiers": {"neural": neural}}),
        ("block", {"classifier": "logreg", "features": ["colour", "cnn"], "extractors": {"cnn": cnn}}),
    ):
        work = trained(folder, name, given)
        yield work, partial(ask_about_cells, cells)


def ask_about_cells(cells, bundle):
    """Probabilities of cells in memory."""
    names = [str(at) for at in range(len(cells))]
    study = Study.of_cells(cells, names, bundle.blocks, bundle.transforms)
    assert not study.faults, study.faults
    return bundle.predict_proba(study)


folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
make = {"features": models_of_features, "networks": models_with_networks, "patients": models_of_patients}[sys.argv[4]]
asks = dict(make(folder, np.random.default_rng(seed)))
expected = {work: ask(ModelBundle.load(work)) for work, ask in asks.items()}
manifests = {work: json.loads((work / "model.json").read_bytes()) for work in asks}
contents = {work: {path: path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()} for work in asks}

is_watching, forbidden = False, []
own = (
    os.environ["FUSION_CACHE"],
    sys.prefix,
    sys.base_prefix,
    Path(np.__file__).parents[1],
    Path.cwd(),
    "/proc",
    "/sys",
    "/dev",
    "/usr",
)
roots = tuple(map(os.path.realpath, (*own, "/proc", "/sys", "/dev", "/usr")))
as_saved = peak_bytes() / 1e9


def watch(event, given):
    if not is_watching:
        return
    if event in FORBIDDEN:
        forbidden.append(event)
    elif event == "open" and isinstance(given[0], (str, bytes)):
        real = os.path.realpath(os.fsdecode(given[0]))
        if not real.startswith((str(work), *roots)):
            forbidden.append(f"open {real}")


def reseal(work):
    files = {path for path in work.rglob("*") if path.is_file() and path.name != "model.json"}
    names = {path.relative_to(work).as_posix(): file_sha256(path) for path in files}
    (work / "model.json").write_text(json.dumps({**manifests[work], "files": names}))


sys.addaudithook(watch)
outcomes: collections.Counter[str] = collections.Counter()
longest, steering = 0, []
for at in range(count):
    work = list(expected)[at % len(expected)]
    path = rng.choice(list(contents[work]))
    undo = change_files(work, rng) if rng.random() < 0.02 else None
    if undo is None:
        content = mutant(path, contents[work][path], rng)
        path.write_bytes(content)
    is_same = undo is None and content == contents[work][path]
    if path.name != "model.json" or undo is not None:
        reseal(work)
    (folder / "last.txt").write_text(f"{at} {path}")
    signal.alarm(30)
    is_watching = True
    try:
        proba = asks[work](ModelBundle.load(work))
        assert np.isfinite(proba).all()
        assert ((proba >= 0) & (proba <= 1)).all()
        outcome = "the same" if np.array_equal(proba, expected[work]) else "another model"
    except FusionError as error:
        outcome = "refused"
        longest = max(longest, len(error.what.splitlines()), len(error.found.splitlines()))
        steering += [str(error)] if any(sign < " " and sign != "\n" for sign in str(error)) else []
    is_watching = False
    signal.alarm(0)
    of_file = "manifest" if path.name == "model.json" else path.suffix[1:]
    kind = "unchanged" if is_same else "files" if undo is not None else of_file
    outcomes[f"{kind}: {outcome}"] += 1
    if undo is not None:
        undo()
    for each in (path, work / "model.json"):
        each.write_bytes(contents[work][each])
shutil.rmtree(folder, ignore_errors=True)
peak = peak_bytes() / 1e9
print(
    json.dumps(
        {
            "outcomes": outcomes,
            "forbidden": forbidden[:10],
            "lines": longest,
            "steering": steering[:3],
            "gigabytes": peak,
            "gigabytes_as_saved": as_saved,
        }
    )
)
