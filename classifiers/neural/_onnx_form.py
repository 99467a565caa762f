"""The network as an ONNX file: images as its input transform takes them, and features as measured, to probabilities."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.neural.network import Network
from fusion.bundles.onnx_graph import FEATURES, IMAGES, NETWORK_OUTPUT, OPSET
from fusion.data.classifier_inputs import CellInputs
from fusion.errors import UsageError

#: Cells of the trial: some more than the two that the network is traced with.
_TRIAL = 6


class _Judge(nn.Module):
    """What ``_trainer.predict`` does: scale, turn, normalise, judge, and take the mean over the turns."""

    def __init__(self, network: Network, turns: int, takes_features: bool) -> None:
        super().__init__()
        self.network, self.turns, self.takes_features = network, turns, takes_features

    def forward(self, *given: Tensor) -> Tensor:
        """float64 (n, classes) of uint8 images (n, S, S, 3), float32 features (n, d), or both in this order."""
        backbone = self.network.backbone
        X = given[-1] if self.takes_features else given[0].new_zeros((given[0].shape[0], 0), dtype=torch.float32)
        if backbone is None:
            return self.network(X, None).logits.double().softmax(1)
        x = given[0].permute(0, 3, 1, 2).float() / 255
        views = [backbone.normalise(_turned(x, 4 * at // self.turns)) for at in range(self.turns)]
        return torch.stack([self.network(X, view).logits.double().softmax(1) for view in views]).mean(0)


def network_to_onnx(network: Network, turns: int, columns: int, size: int | None) -> tuple[bytes, CellInputs]:
    """The file's content, and made-up cells to try it on.

    Parameters
    ----------
    network : in evaluation mode; it is exported on the CPU.
    turns : rotations that a prediction is the mean over.
    columns : number of features, 0 for none.
    size : side of the images, None for none.

    Raises
    ------
    UsageError : rotations that are no quarter turns: torch's resampling has no ONNX form of the same numbers.
    """
    if size is not None and 4 % turns:
        raise UsageError(
            "this network has no ONNX form",
            found=f"predictions over {turns} rotations",
            expected="1, 2 or 4, which move pixels and change none",
        )
    trial = _trial(network, columns, size)
    few = np.arange(2)
    given = {IMAGES: torch.from_numpy(trial.images(few))} if size is not None else {}
    given |= {FEATURES: torch.from_numpy(trial.X[few])} if columns else {}
    device = next(network.parameters()).device
    sink: Any = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The older of torch's two exporters, as for the embedding: see extractors.cnn.onnx_backend.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Judge(network.cpu(), turns, bool(columns)).eval(),
                tuple(given.values()),
                sink,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(given),
                output_names=[NETWORK_OUTPUT],
                dynamic_axes={name: {0: "n"} for name in (*given, NETWORK_OUTPUT)},
            )
        finally:
            network.to(device)
    return sink.getvalue(), trial


def _turned(x: Tensor, quarters: int) -> Tensor:
    """``torch.rot90`` over the last two axes, in operators that ONNX has."""
    if quarters == 1:
        return x.transpose(2, 3).flip(2)
    if quarters == 2:
        return x.flip(2).flip(3)
    return x.transpose(2, 3).flip(3) if quarters == 3 else x


def _trial(network: Network, columns: int, size: int | None) -> CellInputs:
    """Noise, halved and cut to discs; features around the training part's, some missing, one cell without any."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(_TRIAL, columns))
    if columns:
        scales: Any = network.fuse.scales
        centre, spread = (
            np.concatenate([getattr(scale, name).cpu().numpy() for scale in scales]) for name in ("centre", "spread")
        )
        X = X * spread + centre
        X[draw.random(X.shape) < 0.1] = np.nan
        X[1] = np.nan
    rows = np.asarray(X, np.float32)
    if size is None:
        return CellInputs(rows, _blocks(network))
    noise = draw.integers(0, 256, (_TRIAL, size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    noise[2:] = noise[2:] // 2 * (np.hypot(y, x) < 0.4)[..., None].astype(np.uint8)
    return CellInputs(rows, _blocks(network), noise)


def _blocks(network: Network) -> dict[str, slice]:
    stops = np.cumsum(network.fuse.sizes).tolist()
    return {
        name: slice(stop - size, stop)
        for name, stop, size in zip(network.fuse.names, stops, network.fuse.sizes, strict=True)
    }
