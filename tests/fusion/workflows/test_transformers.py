"""Encoders the whole way on real cells: extract, train, ablate, explain, export, fine-tune, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import real_data

ROOT = Path(__file__).parents[3]

#: DinoBloom's at 224 pixels are DINOv2's with other weights; DINOv2-S with registers is the other kind of tokens.
DINOBLOOM_S, DINOBLOOM_B, REGISTERS = (
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
)
#: Real weights of ImageNet.
MOBILENET, LITE = "mobilenetv2_100", "tf_efficientnet_lite0"


def encoder(folder, name, size=224):
    """A folder as the hub lays one out, with the shapes of the published weights and random numbers."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, img_size=size)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    config = {"architecture": name, "num_classes": 0, "global_pool": "token", "model_args": {"img_size": size}}
    own = {"input_size": [3, size, size], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": own}))
    return folder


def real_weights(name):
    """A file of the weights that lie beside the real cells."""
    file = real_data("seg-wbc-1").parents[1] / "weights" / f"{name}.safetensors"
    if not file.exists():
        pytest.skip(f"no {file}")
    return file


def parameters(name, folder):
    """``extractors.cnn`` for an encoder: real weights of a convolutional network, or shapes of a transformer."""
    if name in (MOBILENET, LITE):
        return {"backbone": name, "weights": str(real_weights(name)), "size": 96}
    return {"backbone": f"local-dir:{encoder(folder / name, name)}"}


def settings(known, prefix):
    """``--set`` for every one of them."""
    return [word for key, value in known.items() for word in ("--set", f"{prefix}.{key}={value}")]


@pytest.fixture
def cells(tmp_path):
    folder = real_data("seg-wbc-1")
    rows = pd.read_csv(folder / "labels.csv")
    rows = pd.concat([rows[rows["label"] == label].iloc[:12] for label in ("lymphocyte", "neutrophil")])
    for column in ("path", "mask"):
        rows[column] = [str(folder / path) for path in rows[column]]
    rows.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path / "cells.csv"


@pytest.mark.slow
@pytest.mark.parametrize("name", [MOBILENET, LITE, DINOBLOOM_S, DINOBLOOM_B, REGISTERS])
def test_the_whole_way_with_a_frozen_encoder(cells, tmp_path, name):
    known = parameters(name, tmp_path / "dinobloom")
    common = ["--features", "cnn", *settings(known, "extractors.cnn"), "--store", tmp_path / "store"]
    extracted = fusion("extract", cells, *common, "--export", tmp_path / "table.parquet")
    assert extracted.exit_code == 0, extracted.output
    exported = pd.read_parquet(tmp_path / "table.parquet")
    assert np.isfinite(exported.filter(like="cnn.").to_numpy()).all()
    common += ["--set", "splits=2"]
    trained = fusion("train", cells, *common, "--classifier", "logreg", "-o", tmp_path / "m")
    assert trained.exit_code == 0, trained.output
    for path in (tmp_path / "dinobloom").glob("*/*"):
        path.unlink()  # the model has taken the weights along
    image = pd.read_csv(cells)["path"][0]
    # A store of its own: the model's weights embed, and a transformer's image is asked region by region.
    explained = fusion(
        "explain", tmp_path / "m", image, "--store", tmp_path / "other", "-o", tmp_path / "why", "--json"
    )
    assert explained.exit_code == 0, explained.output
    found = json.loads(explained.stdout)["explanations"][0]
    assert np.sum(found["map"]["values"]) == pytest.approx(found["blocks"]["cnn"], abs=1e-4)
    assert fusion("export", tmp_path / "m", "--onnx", tmp_path / "m.onnx").exit_code == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()


@pytest.mark.slow
def test_an_attention_rollout_of_several_tokens_is_drawn(cells, tmp_path):
    folder = encoder(tmp_path / "encoder", REGISTERS, 112)
    common = ["--features", "morphology,cnn", "--backbone", f"local-dir:{folder}", "--store", tmp_path / "store"]
    common += ["--set", "splits=2", "--set", "extractors.cnn.pool=cls+mean"]
    assert fusion("train", cells, *common, "--classifier", "logreg", "-o", tmp_path / "m").exit_code == 0
    image = pd.read_csv(cells)["path"][0]
    asked = ["explain", tmp_path / "m", image, "--store", tmp_path / "store", "--set", "map=rollout"]
    rolled = fusion(*asked, "-o", tmp_path / "rolled")
    assert rolled.exit_code == 0, rolled.output
    assert "attention rollout" in (tmp_path / "rolled" / "explanations.html").read_text()


@pytest.mark.slow
def test_five_encoders_stand_in_one_comparison(cells, tmp_path):
    names = {"mobilenet": MOBILENET, "lite": LITE, "bloom-s": DINOBLOOM_S, "bloom-b": DINOBLOOM_B, "reg": REGISTERS}
    words = ["ablate", cells, "--features", ",".join(f"cnn.{name}" for name in names), "--subsets", "alone"]
    for name, backbone in names.items():
        known = parameters(backbone, tmp_path / ("dinobloom" if "bloom" in name else "encoders"))
        words += settings(known, f"extractors.cnn.{name}")
    words += ["--set", "extractors.cnn.reg.pool=cls+mean", "--set", "splits=2", "--repeats", "1"]
    words += ["--classifiers", "logreg", "--store", tmp_path / "store", "-o", tmp_path / "r"]
    made = fusion(*words)
    assert made.exit_code == 0, made.output
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    entries = set(pd.read_csv(tmp_path / "r" / "table.csv")["features"])
    assert {f"cnn.{name}" for name in names} <= entries
    assert "control.random" in entries  # by default, where a pretrained network is compared
    # By the content of the images, and by what the folder is called.
    stamped = [stamp for stamp in result["stamps"] if "dinobloom" in stamp and "seg-wbc" in stamp]
    assert len(stamped) == 2
    assert not [stamp for stamp in result["stamps"] if "mobilenet" in stamp or "lite" in stamp]


def finetuning(cells, folder, name, tune="lora"):
    """``fusion train`` of a network that sees by an encoder, but for where it is to be written."""
    known = parameters(name, folder)
    network = {**known, "view": "null"}
    training = {"epochs": 2, "validation": 0.0, "tune": tune, "batch_size": 8}
    words = [sys.executable, "-m", "fusion", "train", cells, "--classifier", "neural", "--config", "dinobloom-lora"]
    if name in (MOBILENET, LITE):
        network["pool"] = "null"
    words += settings(network, "classifiers.neural.network") + settings(training, "classifiers.neural.training")
    words += ["--set", "part=null", "--set", "positive=null", "--set", "classifiers.neural.threads=1", "--set"]
    return [str(word) for word in [*words, "holdout=true", "--jobs", "1", "-q", "-o"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tune"),
    [(MOBILENET, "last"), (LITE, "all"), (DINOBLOOM_S, "lora"), (REGISTERS, "lora"), (DINOBLOOM_B, "lora")],
)
def test_fine_tuned_and_killed_it_goes_on_to_the_same_bits(cells, tmp_path, name, tune):
    """A process of its own, ended by SIGKILL as soon as it has kept an epoch; the same command goes on by --resume."""
    words = finetuning(cells, tmp_path / "encoder", name, tune)
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "FUSION_CACHE": str(tmp_path / "cache")}
    running = subprocess.Popen([*words, tmp_path / "m"], cwd=ROOT, env=alone)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "m.unfinished").glob("*/checkpoint.safetensors")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "m").exists()
    subprocess.run([*words, tmp_path / "m", "--resume"], cwd=ROOT, env=alone, check=True)
    subprocess.run([*words, tmp_path / "whole"], cwd=ROOT, env=alone, check=True)
    stated = json.loads((tmp_path / "m" / "classifier" / "network.json").read_text())
    assert stated["params"]["training"]["tune"] == tune
    for file in ("backbone.safetensors", "layers.safetensors"):
        mended, whole = (tmp_path / folder / "classifier" / file for folder in ("m", "whole"))
        assert mended.read_bytes() == whole.read_bytes()
    assert fusion("export", tmp_path / "m", "--onnx", tmp_path / "m.onnx").exit_code == 0


def test_rollout_of_a_model_without_a_transformer_is_refused(trees, population, tmp_path):
    image = next(population.rglob("*.bmp"))
    result = fusion("explain", trees, image, "-o", tmp_path / "why", "--set", "map=rollout")
    assert_refused(result, 2, "attention rollout is of a transformer")
