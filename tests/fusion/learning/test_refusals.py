"""Every pair of options either works, in every command that takes both, or is refused by the step that minds."""

from __future__ import annotations

from itertools import combinations

import pytest

from fusion.compute import torch_processes
from fusion.errors import UsageError
from fusion.learning.learnt_blocks import learnt_blocks
from fusion.learning.recipe import recipe_of
from fusion.learning.refusals import REFUSALS, check_processes
from fusion.reports import html_report
from fusion.settings.commands import AblateConfig, TrainConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.train import train

#: A network that is trained in a moment.
NETWORK = {
    "threads": 1,
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "view": 450,
        "dropout": 0.0,
        "drop_path": 0.0,
        "head": [],
        "head_dropout": [0.0],
    },
    "training": {"epochs": 1, "batch_size": 16, "validation": 0.0, "patience": 0},
}

#: Option -> the settings that ask for it. ``classifier`` is the one that it needs.
OPTIONS = {
    "normalise": {"normalise": {"background": "grey"}},
    "augment": {"augment": {"per_cell": 1}},
    "learnt embedding": {"features": ["morphology", "cnn"], "cnn_crossfit": True},
    "harmonise": {"harmonise": {"method": "standard"}},
    "stability": {"stability": 0.5},
    "search": {"search": True},
    "late fusion": {"features": ["morphology", "colour"], "fuse": "late"},
    "calibrate": {"calibrate": "temperature"},
    "threshold": {"threshold": "balanced-accuracy"},
    "costs": {"costs": {"all": {"hem": 3}}},
    "external memory": {"classifier": "xgb", "classifiers": {"xgb": {"external_memory": True}}},
    "cluster": {"classifier": "xgb", "classifiers": {"xgb": {"scheduler": "tcp://127.0.0.1:1"}}},
    "classifier of images": {"classifier": "neural"},
}

#: Pairs that are no pair: two classifiers, or two ways of the same one.
NO_PAIRS = {
    ("external memory", "cluster"),
    ("external memory", "classifier of images"),
    ("cluster", "classifier of images"),
}

PAIRS = [pair for pair in combinations(OPTIONS, 2) if pair not in NO_PAIRS]


def merged(*names: str) -> dict:
    """The settings that ask for all of these options."""
    settings: dict = {"classifiers": {}, "features": ["morphology"]}
    for name in names:
        own = OPTIONS[name]
        features = dict.fromkeys([*settings["features"], *own.get("features", [])])
        settings |= {key: value for key, value in own.items() if key != "classifiers"}
        settings["features"] = list(features)
        settings["classifiers"] |= own.get("classifiers", {})
    classifiers = settings["classifiers"]
    classifiers["neural"] = NETWORK
    classifiers["xgb"] = {"n_estimators": 3, **classifiers.get("xgb", {})}
    return {"classifier": "logreg", **settings}


def is_refused(first: str, second: str) -> bool:
    """Whether the table of refusals has the pair."""
    known = {(step, other) for row in REFUSALS for step in row.step.split(", ") for other in row.other.split(", ")}
    return bool({(first, second), (second, first)} & known)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """32 cells of 8 subjects in each of two sites: enough for folds inside folds."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=8, cells_per_subject=2, laboratories=2)
    return synthesize(tmp_path_factory.mktemp("few") / "cells", design) / "truth.csv"


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def run(command: str, settings: dict, data, store, folder):
    """One command with these settings."""
    shared = {**settings, "data": data, "store": store, "splits": 2, "jobs": 1}
    if command == "train":
        return train(TrainConfig(output=folder, **shared)).result
    classifier = shared.pop("classifier")
    return ablate(AblateConfig(output=folder, compare=[classifier], repeats=1, **shared))


#: Both commands learn by one road: a pair is tried by one of them, and by the other where there is time.
COMMANDS = [(*pair, ("train", "ablate")[at % 2]) for at, pair in enumerate(PAIRS)]
OTHERS = [(*pair, ("ablate", "train")[at % 2]) for at, pair in enumerate(PAIRS)]


@pytest.mark.parametrize(
    ("first", "second", "command"), [*COMMANDS, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_a_pair_of_options_works_or_is_refused(first, second, command, few, common, tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)  # drawn elsewhere, and slow
    settings = merged(first, second)
    if command == "ablate" and "fuse" in settings:
        settings |= {"fuse": ["late"], "subsets": ["+".join(settings["features"])]}
    if is_refused(first, second):
        if command == "ablate":  # the one set that asks for both; on others a classifier is compared
            settings["subsets"] = ["+".join(settings["features"])]
        with pytest.raises(UsageError):
            run(command, settings, few, common, tmp_path / "out")
        assert not (tmp_path / "out" / "result.json").exists()
        return
    if "cluster" in (first, second):
        return  # its scheduler is none; tests of clusters have one
    result = run(command, settings, few, common, tmp_path / "out")
    for scores in result.scores:
        assert (scores.fold >= 0).all()
        assert ((scores.proba >= 0) & (scores.proba <= 1)).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_several_processes_train_a_classifier_of_images_and_nothing_else(name):
    config = TrainConfig(data="cells", output="model", **merged(name))
    learnt = [block.name for block in learnt_blocks(config)] if config.cnn_crossfit else []
    recipe = recipe_of(config, config.classifier, config.blocks, learnt)
    check_processes(recipe, 1)
    if name == "classifier of images":
        check_processes(recipe, 4)
        return
    with pytest.raises(UsageError, match="is trained by one process") as raised:
        check_processes(recipe, 4)
    assert "4 processes" in str(raised.value)


def test_processes_are_counted_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_processes, "count", lambda: 2)
    with pytest.raises(UsageError, match="classifier 'logreg' is trained by one process"):
        train(TrainConfig(data=tmp_path / "nowhere", output=tmp_path / "m", classifier="logreg"))


def test_every_refusal_is_about_known_options():
    named = {name for row in REFUSALS for name in (*row.step.split(", "), *row.other.split(", "))}
    # Features of one's own are asked for by a file: tests/fusion/features/test_own_features.py; patients by a table of
    # them: tests/fusion/workflows/test_patients.py.
    of_tables = {"features of one's own", "patients", "classifier of patients", "cells as units"}
    assert named - {"an SVM's own sigmoid"} - of_tables <= set(OPTIONS)
