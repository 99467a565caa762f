"""One training on two processes of a CPU, as torchrun starts them: one network, and one voice."""

import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch

from fusion.bundles.model_bundle import load_model
from fusion.compute import torch_processes
from fusion.errors import UsageError
from tests.builders.images import ROOT
from tests.classifiers.neural.processes_job import linear


def torchrun(*words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    return subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=570,
    )


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    """One start for all of it: starting takes longer than training here."""
    done = torchrun("--module", "tests.classifiers.neural.processes_job", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    weights = {path.stem: safetensors.torch.load_file(path) for path in tmp_path.glob("*.safetensors")}
    for name in ("linear", "concat", "gated", "film", "attention", "resumed"):
        assert_same(weights[f"{name}-0"], weights[f"{name}-1"])
    # Eleven cells are six and five: the mean over processes is weighed by cells.
    alone = linear().network_.state_dict()
    for part, tensor in weights["linear-0"].items():
        torch.testing.assert_close(tensor, alone[part], atol=1e-6, rtol=1e-4)
    # Stopped in the second epoch and gone on with, to the same bits.
    assert_same(weights["gated-0"], weights["resumed-0"])


def assert_same(first, second):
    assert first.keys() == second.keys()
    for part, tensor in first.items():
        assert torch.equal(tensor, second[part]), part


@pytest.mark.slow
def test_the_command_trains_on_two_processes_and_speaks_once(synthetic, tmp_path):
    (tmp_path / "n.yaml").write_text(
        "classifiers: {neural: {network: {backbone: test_efficientnet, weights: random, size: 32, head: [16],"
        " head_dropout: [0.0, 0.0]}, training: {epochs: 1, batch_size: 16, patience: 0}}}"
    )
    words = [
        "--module",
        "fusion",
        "train",
        synthetic,
        "--classifier",
        "neural",
        "--features",
        "morphology",
        "--splits",
        2,
        "--config",
        tmp_path / "n.yaml",
        "--store",
        tmp_path / "store",
        "-o",
        tmp_path / "m",
        "--jobs",
        1,
    ]
    done = torchrun(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "unused parameters" not in done.stderr
    assert done.stdout.count("model in") == 1
    assert done.stdout.count("balanced accuracy") == 1
    bundle = load_model(tmp_path / "m")
    assert bundle.classifier == "neural"
    assert not list(tmp_path.glob("m.*"))  # nothing unfinished is left


@pytest.mark.slow
def test_what_one_process_must_do_alone_is_refused_and_said_once(synthetic, tmp_path):
    done = torchrun("--module", "fusion", "train", synthetic, "--classifier", "svm", "-o", tmp_path / "m")
    assert done.returncode != 0
    assert done.stderr.count("classifier 'svm' is trained by one process") == 1
    assert "exitcode  : 2" in done.stderr
    done = torchrun("--module", "fusion", "inspect", synthetic)
    assert done.stderr.count("only fusion train works in several processes") == 1


def test_a_process_by_itself_is_the_first_of_one(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (torch_processes.count(), torch_processes.rank(), torch_processes.is_first()) == (1, 0, True)
    with torch_processes.first_alone("auto"):
        pass
    # A scheduler of the cluster may name ranks for other reasons.
    monkeypatch.setenv("RANK", "3")
    assert torch_processes.is_first()


def test_processes_cannot_share_one_gpu_and_batches_must_go_round(monkeypatch):
    from classifiers.neural.estimator import NeuralClassifier

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="device 'cuda:1' is for one process"):
        torch_processes.join("cuda:1")
    monkeypatch.setattr("classifiers.neural.estimator._device", lambda name: "cpu")
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    with pytest.raises(ValueError, match="batch_size must be 8 or more for 4 processes"):
        NeuralClassifier(training={"batch_size": 6, "validation": 0.0}).fit(X, y)
    with pytest.raises(ValueError, match="6 cells are too few for 4 processes"):
        NeuralClassifier(training={"batch_size": 8, "validation": 0.0}).fit(X[:6], y[:6])
