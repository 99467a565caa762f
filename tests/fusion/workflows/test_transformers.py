"""A vision transformer the whole way on real cells: extract, train, ablate, explain, export, fine-tune, resume."""

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import real_data

#: DinoBloom-S at 224 pixels is DINOv2-S with other weights; DINOv2-S with registers is the other kind of tokens.
DINOBLOOM_S, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"


def encoder(folder, name, size):
    """A folder as the hub lays one out, with the shapes of the published weights and random numbers."""
    folder.mkdir()
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, img_size=size)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    config = {"architecture": name, "num_classes": 0, "global_pool": "token", "model_args": {"img_size": size}}
    own = {"input_size": [3, size, size], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": own}))
    return folder


@pytest.fixture
def cells(tmp_path):
    folder = real_data("seg-wbc-1")
    rows = pd.read_csv(folder / "labels.csv")
    rows = pd.concat([rows[rows["label"] == label].iloc[:14] for label in ("lymphocyte", "neutrophil")])
    for column in ("path", "mask"):
        rows[column] = [str(folder / path) for path in rows[column]]
    rows.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path / "cells.csv"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "pool"), [(DINOBLOOM_S, 224, "cls"), (REGISTERS, 112, "cls+mean")])
def test_the_whole_way_with_a_frozen_transformer(cells, tmp_path, name, size, pool):
    folder = encoder(tmp_path / "dinobloom-s", name, size)
    common = ["--features", "morphology,cnn", "--backbone", f"local-dir:{folder}", "--set", "splits=2"]
    common += ["--set", f"extractors.cnn.pool={pool}", "--store", tmp_path / "store"]
    made = fusion("ablate", cells, *common, "--classifiers", "logreg", "-o", tmp_path / "r")
    assert made.exit_code == 0, made.output
    stamps = json.loads((tmp_path / "r" / "result.json").read_text())["stamps"]
    # By the content of the images, and by what the folder is called.
    assert [stamp for stamp in stamps if "dinobloom" in stamp and "seg-wbc" in stamp]
    assert fusion("train", cells, *common, "--classifier", "logreg", "-o", tmp_path / "m").exit_code == 0
    for path in folder.iterdir():
        path.unlink()  # the model has taken the weights along
    image = pd.read_csv(cells)["path"][0]
    asked = ["explain", tmp_path / "m", cells, "--store", tmp_path / "store", "--json"]
    explained = fusion(*asked[:2], image, *asked[3:], "-o", tmp_path / "why")
    assert explained.exit_code == 0, explained.output
    found = json.loads(explained.stdout)["explanations"][0]
    assert np.sum(found["map"]["values"]) == pytest.approx(found["blocks"]["cnn"], abs=1e-4)
    assert np.shape(found["map"]["values"]) == (5, 5)
    rolled = fusion(*asked[:2], image, *asked[3:], "-o", tmp_path / "rolled", "--set", "map=rollout")
    assert rolled.exit_code == 0, rolled.output
    assert "attention rollout" in (tmp_path / "rolled" / "explanations.html").read_text()
    exported = fusion("export", tmp_path / "m", "--onnx", tmp_path / "m.onnx")
    assert exported.exit_code == 0, exported.output


@pytest.mark.slow
def test_a_transformer_is_fine_tuned_by_adapters_and_goes_on(cells, tmp_path):
    folder = encoder(tmp_path / "encoder", DINOBLOOM_S, 56)
    words = ["train", cells, "--classifier", "neural", "--config", "dinobloom-lora", "--set", "part=null"]
    network = "classifiers.neural.network"
    for key, value in {
        f"{network}.backbone": f"local-dir:{folder}",
        f"{network}.size": 56,
        f"{network}.view": "null",
        "positive": "null",
        "classifiers.neural.training.epochs": 2,
        "classifiers.neural.training.validation": 0.0,
        "classifiers.neural.threads": 1,
        "splits": 2,
    }.items():
        words += ["--set", f"{key}={value}"]
    made = fusion(*words, "-o", tmp_path / "m")
    assert made.exit_code == 0, made.output
    assert "tune: lora" in (tmp_path / "m" / "model.json").read_text() + made.output


def test_rollout_of_a_model_without_a_transformer_is_refused(trees, population, tmp_path):
    image = next(population.rglob("*.bmp"))
    result = fusion("explain", trees, image, "-o", tmp_path / "why", "--set", "map=rollout")
    assert_refused(result, 2, "attention rollout is of a transformer")
