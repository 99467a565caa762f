"""The network as a whole: backbone, fusion layer, head; and how many parameters that makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.neural._blocks import IMAGE, BlockFusion
from extractors.cnn.backbone import Backbone
from extractors.cnn.extractor import Embedding
from extractors.cnn.network_config import DEFAULT_BACKBONE

#: Parameters that the paper states for its network, in millions.
PAPER_MILLIONS = 15.2

#: Layers wider than this are a slip of the pen, or someone's attempt to fill the memory.
WIDEST = 1 << 16


@dataclass(frozen=True)
class Design:
    """Which network; the defaults are the published one, with the image's size left to the backbone's weights.

    Attributes
    ----------
    backbone : any timm model, ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.
    weights : "pretrained", "random", or the path of a .safetensors file, as for the extractor ``cnn``.
    attention : squeeze and excitation on the last feature map, where there is one.
    size : side in pixels of the network's input; None is the size the weights were published with.
    view : side in source pixels of the square that is seen; None is the square that just holds the cell.
    input : "cell" (cut out on black), "cell-on-grey" or "field"; None is what a weights file says, else "cell".
    mean, std, pad_type, interpolation, pool, model_args : say otherwise than the weights' own configuration, as for
        the extractor ``cnn``; ``pool`` is how a transformer's tokens become one embedding.
    dropout : share of the feature map's elements left out in training, before attention.
    drop_path : largest share of cells whose residual branch is left out in training, rising with depth; backbones
        without stochastic depth (VGG, Xception) take none above 0.
    head : widths of the hidden layers, each with batch norm and ReLU.
    head_dropout : share left out before every layer of the head, one more number than ``head`` has.
    fusion : how blocks are joined to the image: "concat", "gated", "film" or "attention".
    block_width : of an encoded block.
    block_dropout : share of (cell, block) pairs left out in training.
    auxiliary : weight in the loss of heads that judge by one part alone; 0 makes none.

    Raises
    ------
    ValueError : a value outside the above.
    """

    backbone: str = DEFAULT_BACKBONE
    weights: str = "pretrained"
    attention: bool = True
    size: int | None = None
    view: int | None = None
    input: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pad_type: str | None = None
    interpolation: str | None = None
    pool: str | None = None
    model_args: str | None = None
    dropout: float = 0.3
    drop_path: float = 0.2
    head: tuple[int, ...] = (512, 256)
    head_dropout: tuple[float, ...] = (0.3, 0.2, 0.3)
    fusion: str = "concat"
    block_width: int = 64
    block_dropout: float = 0.0
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        if len(self.head_dropout) != len(self.head) + 1:
            raise ValueError(
                f"head_dropout needs {len(self.head) + 1} numbers for a head of {len(self.head)} hidden layers, "
                f"not {len(self.head_dropout)}"
            )
        shares = (self.dropout, self.drop_path, self.block_dropout, *self.head_dropout)
        if not all(0 <= share < 1 for share in shares):
            raise ValueError("every dropout is a share from 0 to below 1")
        if not all(1 <= width <= WIDEST for width in (self.block_width, *self.head)):
            raise ValueError(f"widths of layers are 1 to {WIDEST}")
        if self.auxiliary < 0:
            raise ValueError(f"auxiliary is 0 or more, not {self.auxiliary}")
        self.extractor()  # it checks what the two have in common

    def extractor(self) -> Embedding:
        """The extractor ``cnn`` that sees as this network does, and starts from the same weights."""
        return Embedding(
            backbone=self.backbone,
            weights=self.weights,
            attention=self.attention,
            size=self.size,
            view=self.view,
            input=self.input,
            mean=self.mean,
            std=self.std,
            pad_type=self.pad_type,
            interpolation=self.interpolation,
            pool=self.pool,
            model_args=self.model_args,
        )


class Output(NamedTuple):
    """Logits (N, classes); those of each part alone where there are auxiliary heads; presence and gates by part."""

    logits: Tensor
    auxiliary: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]


class Network(nn.Module):
    """Backbone (None for blocks alone), fusion layer and head.

    Parameters
    ----------
    design : its shape.
    backbone : with weights; becomes part of the network.
    blocks : block name -> number of columns; may be empty where there is a backbone.
    classes : how many.
    """

    def __init__(self, design: Design, backbone: Backbone | None, blocks: Mapping[str, int], classes: int) -> None:
        super().__init__()
        channels = 0 if backbone is None else backbone.width
        if design.fusion == "attention" and backbone is not None and not backbone.has_map:
            raise ValueError(f"backbone {design.backbone} has no feature map for blocks to attend to; take concat")
        self.backbone = backbone
        self.fuse = BlockFusion(design.fusion, blocks, channels, design.block_width, design.block_dropout)
        self.head = _head(self.fuse.width, design.head, design.head_dropout, classes)
        parts = {**({IMAGE: channels} if channels else {}), **dict.fromkeys(blocks, design.block_width)}
        # With a single part its auxiliary head would only repeat the head.
        judged = parts if design.auxiliary and len(parts) > 1 else {}
        self.auxiliary = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in judged.items()})

    def learn_scales(self, X: NDArray[np.float32]) -> None:
        """Take the blocks' means and spreads from the training part float (n, d)."""
        self.fuse.learn(X)

    def forward(self, X: Tensor, images: Tensor | None) -> Output:
        """Judge float (N, d) with NaN where undefined, and normalised images (N, 3, S, S), None without a backbone."""
        if self.backbone is None:
            return self._judge(X, None, None)
        assert images is not None
        return self.judge_encoded(X, self.encode(images))

    def encode(self, images: Tensor) -> Tensor:
        """What the backbone makes of normalised images: a feature map, or an embedding where it has none."""
        assert self.backbone is not None
        return self.backbone.feature_map(images) if self.backbone.has_map else self.backbone(images)

    def judge_encoded(self, X: Tensor, encoded: Tensor) -> Output:
        """Judge features and what ``see`` gave."""
        assert self.backbone is not None
        return self.judge_map(X, encoded) if self.backbone.has_map else self._judge(X, encoded, None)

    def judge_map(self, X: Tensor, feature_map: Tensor) -> Output:
        """Judge features and the feature map (N, C, H, W) after attention: all that comes after the backbone."""
        return self._judge(X, feature_map.mean((2, 3)), feature_map)

    def _judge(self, X: Tensor, embedding: Tensor | None, feature_map: Tensor | None) -> Output:
        joined = self.fuse(X, embedding, feature_map)
        auxiliary = {name: self.auxiliary[name](joined.parts[name]) for name in self.auxiliary}
        return Output(self.head(joined.vector), auxiliary, joined.present, joined.gates)


def _head(width: int, hidden: tuple[int, ...], dropout: tuple[float, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for share, following in zip(dropout, hidden, strict=False):  # the last share belongs to the last layer
        layers += [nn.Dropout(share), nn.Linear(width, following), nn.BatchNorm1d(following), nn.ReLU()]
        width = following
    return nn.Sequential(*layers, nn.Dropout(dropout[-1]), nn.Linear(width, classes))


def count_parameters(network: nn.Module) -> int:
    """Number of values that training may change."""
    return sum(parameter.numel() for parameter in network.parameters())


def describe(network: Network) -> str:
    """One line: parameters by part, beside what the paper states where it is the paper's network.

    The published description adds up to less than the paper says; we found no reading of it that gives 15.2 M.
    """
    parts = {"backbone": network.backbone, "fusion": network.fuse, "head": network.head, "auxiliary": network.auxiliary}
    counts = {name: count_parameters(part) for name, part in parts.items() if part is not None}
    shown = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items() if count)
    text = f"{sum(counts.values()) / 1e6:.2f} M parameters ({shown})"
    backbone = network.backbone
    if (
        backbone is not None
        and backbone.backbone_config.backbone == DEFAULT_BACKBONE
        and backbone.backbone_config.attention
    ):
        text += f"; the paper states {PAPER_MILLIONS} M for image alone"
    return text
