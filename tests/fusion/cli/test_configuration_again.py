"""The config.yaml of a result, or of a model, gives the same scores again, to the last bit."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.command_line import fusion


def ran(*words):
    done = fusion(*words)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def model(population, synthetic_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("again") / "m"
    words = ("--features", "morphology", "--classifier", "logreg", "--splits", 2, "--store", synthetic_store)
    ran("train", population, *words, "-o", folder)
    return folder


#: What a run may be asked for beside its data, each with draws of its own.
TRAININGS = {
    "svm": ("--classifier", "svm", "--calibrate", "logistic"),
    "xgb": ("--classifier", "xgb", "--threshold", "balanced-accuracy"),
    "augmented": ("--classifier", "logreg", "--set", "augment.per_cell=1", "--features", "colour"),
    "another seed": ("--classifier", "logreg", "--seed", 7),
    "stable": ("--classifier", "logreg", "--set", "stability=0.5"),
}


@pytest.mark.parametrize("asked", TRAININGS.values(), ids=TRAININGS)
def test_train(asked, synthetic, synthetic_store, tmp_path):
    blocks = () if "--features" in asked else ("--features", "morphology,colour")
    ran("train", synthetic, *asked, *blocks, "--splits", 2, "--store", synthetic_store, "-o", tmp_path / "a")
    ran("train", "--config", tmp_path / "a" / "config.yaml", "-o", tmp_path / "b")
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert Path("config.yaml") in files
    for file in sorted(files - {Path("config.yaml"), Path("model.json")}):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    # The two differ in where they were asked to be written.
    first, again = (json.loads((tmp_path / at / "model.json").read_text()) for at in "ab")
    assert first["facts"] == again["facts"]
    assert first["facts"]["results"]


def test_ablate(synthetic, synthetic_store, tmp_path):
    words = ("--classifiers", "logreg", "--features", "morphology,colour", "--split", "random", "--splits", 2)
    ran(
        "ablate", synthetic, *words, "--store", synthetic_store, "--repeats", 2, "--set", "seed=3", "-o", tmp_path / "a"
    )
    ran("ablate", "--config", tmp_path / "a" / "config.yaml", "-o", tmp_path / "b")
    first, again = ((tmp_path / at / "scores.parquet").read_bytes() for at in "ab")
    assert first == again


def test_evaluate(model, fresh, synthetic_store, tmp_path):
    words = ("--set", "other_cohort=true", "--threshold", 0.4, "--set", "prevalence=0.2", "--store", synthetic_store)
    ran("evaluate", model, fresh, *words, "-o", tmp_path / "a")
    ran("evaluate", "--config", tmp_path / "a" / "config.yaml", "-o", tmp_path / "b")
    first, again = ((tmp_path / at / "scores.parquet").read_bytes() for at in "ab")
    assert first == again
    assert (tmp_path / "a" / "table.csv").read_bytes() == (tmp_path / "b" / "table.csv").read_bytes()


def test_judge(tmp_path):
    rows = [
        {"subject": f"s{at % 12}", "label": ("hem", "all")[at % 2], "score": (at * 7919 % 101) / 100, "entry": entry}
        for at in range(96)
        for entry in ("mine", "theirs")
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    words = ("--positive", "all", "--primary", "mine,theirs", "--margin", 0.1, "--prevalence", 0.3)
    ran("judge", tmp_path / "scores.csv", *words, "-o", tmp_path / "a")
    ran("judge", "--config", tmp_path / "a" / "config.yaml", "-o", tmp_path / "b")
    for name in ("scores.parquet", "table.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
