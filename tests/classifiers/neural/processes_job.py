"""What each process of test_neural_processes does; started by torchrun, with a folder to write into."""

import sys
from pathlib import Path

import numpy as np
import safetensors.torch

from classifiers.neural.estimator import NeuralClassifier
from fusion.compute import torch_processes
from fusion.data.classifier_inputs import CellInputs
from tests.builders.images import paint

NETWORK = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "size": 32,
    "drop_path": 0.0,
    "head": [16],
    "head_dropout": [0.0, 0.1],
}


class Killed(Exception):
    pass


def cells():
    """40 small cells of 10 subjects, large ones and small ones, and a block of features that tells nothing."""
    images = np.stack([paint(at, side=32, radius=13 - 4 * (at % 2)) for at in range(40)])
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    X[3] = np.nan
    inputs = CellInputs(X, {"shape": slice(0, 3), "colour": slice(3, 5)}, images)
    return inputs, np.array(["all", "hem"])[np.arange(40) % 2], np.arange(40) // 4


def linear():
    """Without batch norm, dropout or augmentation: the gradient of a batch is the mean over its cells."""
    inputs, y, _ = cells()
    model = NeuralClassifier(
        network={"head": [], "head_dropout": [0.0]},
        training={
            "epochs": 2,
            "batch_size": 11,
            "validation": 0.0,
            "loss": "cross_entropy",
            "sampling": "natural",
            "clip": 0.5,
            "accumulate": 2,
        },
        device="cpu",
    )
    return model.fit(np.nan_to_num(inputs.X), y)


def fused(kind, **given):
    """Images and two blocks, the backbone frozen for an epoch, heads of single blocks, a running mean."""
    model = NeuralClassifier(
        network={**NETWORK, "fusion": kind, "auxiliary": 0.3},
        training={"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "freeze_epochs": 1, "ema": 0.9, "patience": 0},
        device="cpu",
    )
    return model.fit(*cells(), **given)


def resumed(folder):
    """Stopped in the second epoch, and gone on with."""

    def stop(epoch, epochs, step, steps):
        if epoch == 1:
            raise Killed

    try:
        fused("gated", checkpoint=folder, watch=stop)
    except Killed:
        return fused("gated", checkpoint=folder, resume=True)
    raise AssertionError("was not stopped")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    trained = {"linear": linear(), **{kind: fused(kind) for kind in ("concat", "gated", "film", "attention")}}
    trained["resumed"] = resumed(out / "checkpoint")
    for name, each in trained.items():
        tensors = {part: tensor.clone().contiguous() for part, tensor in each.network_.state_dict().items()}
        safetensors.torch.save_file(tensors, out / f"{name}-{torch_processes.rank()}.safetensors")
