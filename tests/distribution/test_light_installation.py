"""All that asks for no network works where PyTorch and timm are not installed."""

import configparser
import json
import os
import re
import subprocess
import sys

import pytest

from fusion.dependencies import NETWORK_PACKAGES
from tests.builders.images import ROOT

#: Makes an interpreter that cannot import the packages of networks, as one in which they are not installed.
ABSENT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NETWORK_PACKAGES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder to work in, with synthetic cells."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "absent").mkdir()
    (folder / "absent" / "sitecustomize.py").write_text(ABSENT)
    assert fusion(folder, "synthesize", "cells", "--subjects", "10", "--cells", "4").returncode == 0
    return folder


def fusion(room, *words):
    """The command in an interpreter without PyTorch."""
    paths = os.pathsep.join([str(room / "absent"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "FUSION_CACHE": str(room / "store")}
    return subprocess.run(
        [sys.executable, "-m", "fusion", *words], cwd=room, env=environment, capture_output=True, text=True
    )


def test_a_comparison_a_model_and_its_explanation_need_no_torch(room):
    blocks = ("--features", "morphology,colour")
    for words in (
        ("inspect", "cells"),
        ("ablate", "cells", *blocks, "--set", "repeats=1", "-o", "comparison"),
        ("train", "cells", *blocks, "--classifier", "xgb", "-o", "model"),
        ("predict", "model", "cells/fold_0/all"),
        ("explain", "model", "cells/fold_0/hem", "-o", "why"),
        ("plugins",),
        ("doctor",),
    ):
        done = fusion(room, *words)
        assert done.returncode == 0, (words, done.stderr)
    assert {row["classifier"] for row in json.loads((room / "comparison/result.json").read_text())["results"]} == {
        "svm",
        "xgb",
        "logreg",
    }


@pytest.mark.parametrize(
    "words",
    [
        ("train", "cells", "--classifier", "neural", "-o", "network"),
        ("extract", "cells", "--features", "cnn", "--weights", "random"),
        ("ablate", "cells", "--features", "colour,cnn", "--weights", "random", "-o", "result"),
    ],
)
def test_what_needs_a_network_says_what_is_lacking_and_what_to_do(room, words):
    done = fusion(room, *words)
    assert done.returncode == 2
    assert "networks need PyTorch and timm, which this installation does not have" in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_light_requirements_are_all_others():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    every = setup["options"]["install_requires"].split()
    left_out = {line for line in every if re.split(r"[>=<]", line)[0] in NETWORK_PACKAGES}
    light = [line for line in (ROOT / "requirements-light.txt").read_text().split("\n") if line and line[0] != "#"]
    assert sorted(line.replace("xgboost-cpu", "xgboost") for line in light) == sorted(set(every) - left_out)
