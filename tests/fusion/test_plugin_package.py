"""A stranger's package: installed as pip installs it, found by its entry point, used like a built-in extractor."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.builders.images import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds nothing but the installed package. Built offline, from a copy: a build leaves files."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(ROOT / "tests" / "plugin_package", folder / "source")
    target = folder / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(target), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


def fusion(installed, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])}
    return subprocess.run(
        [sys.executable, "-m", "fusion", *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_the_package_is_listed_with_its_name_and_version(installed):
    listed = json.loads(fusion(installed, "plugins", "--json").stdout)
    assert {
        "name": "brightness",
        "kind": "extractor",
        "class": "fusion_brightness:Brightness",
        "from": "fusion-brightness 1.0",
    } in listed


def test_its_block_is_measured_exported_and_kept(installed, class_folders, tmp_path):
    words = ("extract", class_folders, "--features", "brightness", "--jobs", 1, "--json")
    done = fusion(installed, *words, "--export", tmp_path / "t.parquet")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "t.parquet")
    for row in table.itertuples():
        image = cv2.imread(str(class_folders / row.name))
        is_cell = image.any(axis=2)
        # The mask is Fusion's own; on black it is the disc, whose rim may be a pixel further in.
        assert table.loc[row.Index, "brightness.cell_mean"] == pytest.approx(image[is_cell].mean(), rel=0.02)
    assert json.loads(fusion(installed, *words).stdout)["computed"] == {"brightness": 0}


def test_its_parameters_are_listed_with_what_its_docstring_says(installed):
    rows = json.loads(fusion(installed, "settings", "extract", "--json").stdout)
    (row,) = [row for row in rows if row["key"].startswith("extractors.brightness.")]
    assert (row["key"], row["type"], row["default"]) == ("extractors.brightness.gamma", "float", 1.0)
    assert row["meaning"] == "exponent put on grey values as shares of white; 1 leaves them."


def test_its_parameters_are_settings_and_are_checked(installed, class_folders, tmp_path):
    words = ("extract", class_folders, "--features", "brightness", "--jobs", 1)
    darker = fusion(installed, *words, "--set", "extractors.brightness.gamma=2", "--export", tmp_path / "dark.parquet")
    assert darker.returncode == 0, darker.stderr
    fusion(installed, *words, "--export", tmp_path / "plain.parquet")
    dark, plain = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("dark", "plain"))
    assert (dark["brightness.cell_mean"] < plain["brightness.cell_mean"]).all()
    refused = fusion(installed, *words, "--set", "extractors.brightness.gamma=-1")
    assert refused.returncode == 2
    assert "gamma must be above 0" in refused.stderr


def test_a_model_that_learnt_from_it_predicts(installed, class_folders, tmp_path):
    words = ("--features", "brightness", "--classifier", "xgb", "--splits", 2, "--jobs", 1)
    trained = fusion(installed, "train", class_folders, *words, "-o", tmp_path / "model")
    assert trained.returncode == 0, trained.stderr
    image = next(class_folders.rglob("*.png"))
    predicted = json.loads(fusion(installed, "predict", tmp_path / "model", image, "--jobs", 1, "--json").stdout)
    assert np.isclose(sum(predicted["predictions"][0]["probability"].values()), 1)


def test_without_the_package_its_block_is_unknown(class_folders, tmp_path):
    done = fusion(tmp_path, "extract", class_folders, "--features", "brightness")
    assert done.returncode == 2
    assert "unknown feature block" in done.stderr


def test_the_page_shows_the_package_as_it_is():
    page = (ROOT / "docs" / "extending.md").read_text()
    for name in ("fusion_brightness.py", "pyproject.toml"):
        content = (ROOT / "tests" / "plugin_package" / name).read_text()
        assert content.strip() in page, f"docs/extending.md does not show {name} as it is"
