"""The main job on real white cells with masks and real network weights, as a new user would type it."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import cli
from tests.builders.images import ROOT, real_data


@pytest.fixture
def cells(tmp_path):
    """Every fifth cell of ``seg-wbc-1`` of three common classes, as a table with masks; and the real network."""
    folder = real_data("seg-wbc-1")
    weights = Path(os.environ.get("FUSION_WEIGHTS", ROOT.parent / "shared" / "weights")) / "mobilenetv2_100.safetensors"
    if not weights.is_file():
        pytest.skip(f"no real weights at {weights}; set FUSION_WEIGHTS to a folder that has them")
    rows = pd.read_csv(folder / "labels.csv")
    rows = rows[rows["label"].isin(["neutrophil", "lymphocyte", "monocyte"])].iloc[::5]
    rows["path"] = [str(folder / path) for path in rows["path"]]
    rows["mask"] = [str(folder / mask) for mask in rows["mask"]]
    rows.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path / "cells.csv", ("--weights", weights, "--backbone", "mobilenetv2_100")


def fusion(*words):
    done = CliRunner().invoke(cli.fusion, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done


def test_real_cells_are_told_apart_by_every_road(cells, tmp_path):
    table, network = cells
    extracted = json.loads(fusion("extract", table, *network, "--json").stdout)
    assert extracted["faults"] == []
    assert extracted["blocks"].keys() == {"morphology", "texture", "colour", "cnn"}
    assert extracted["blocks"]["cnn"] == 1280
    for classifier in ("xgb", "svm"):
        words = ("train", table, *network, "--classifier", classifier, "-o", tmp_path / classifier, "--splits", 3)
        (row,) = json.loads(fusion(*words, "--json").stdout)["results"]
        # One third is chance. What 55 cells allow to expect, not what the method can do.
        assert row["image"]["balanced_accuracy"]["value"] > 0.7
    words = (
        "ablate",
        table,
        *network,
        "--classifiers",
        "logreg",
        "--splits",
        3,
        "-o",
        tmp_path / "comparison",
        "--json",
    )
    compared = json.loads(fusion(*words).stdout)
    assert len(compared["results"]) == 15 + 1  # every set of four blocks, and the untrained network beside them
    assert compared["stamps"] == ["subjects unknown: cells are taken as independent"]
    moved = (tmp_path / "xgb").rename(tmp_path / "elsewhere")
    rows = json.loads(fusion("predict", moved, table, "--json").stdout)["predictions"]
    labels = pd.read_csv(table)["label"].tolist()
    assert sum(row["class"] == label for row, label in zip(rows, labels, strict=True)) > 0.9 * len(labels)
