"""The fusion layer of the network: feature blocks standardised inside it, and joined to what the backbone sees.

Every way of joining gets the image's embedding (None without a backbone) and the blocks, and gives one vector a cell.
A block that a cell does not have is marked, and plays no part in what is said of that cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Ways of joining blocks, as ``Design.fusion`` names them.
FUSIONS = ("concat", "gated", "film", "attention")

#: Standardised values are cut here, as in the fusion layer of the other classifiers: only blunders are further out.
CLIP = 10.0

#: A spread below this share of a column's largest value is rounding of float32, not a measurement.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)

#: Heads of the cross-attention. The width of a block must be a multiple of it.
HEADS = 4


class Standardise(nn.Module):
    """``(x - mean) / standard deviation`` of the training part, NaN becomes 0, the mean; a constant column is always 0.

    Its numbers are part of the network's state, so that they travel with it.
    """

    centre: Tensor
    spread: Tensor
    varies: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        self.register_buffer("varies", torch.ones(columns))

    def learn(self, X: NDArray[np.float32]) -> None:
        """Take mean and spread from float (n, d), NaN left out; a column without any value counts as constant."""
        known = ~np.isnan(X)
        count = known.sum(axis=0).clip(1)
        values = np.where(known, X, 0).astype(np.float64)
        centre = values.sum(axis=0) / count
        spread = np.sqrt((np.where(known, values - centre, 0) ** 2).sum(axis=0) / count)
        varies = spread > _ROUNDING * np.abs(values).max(axis=0, initial=0.0)
        for name, value in (("centre", centre), ("spread", np.where(varies, spread, 1.0)), ("varies", varies)):
            getattr(self, name).copy_(torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """float (N, d) without NaN, within [-CLIP, CLIP]."""
        z = (x - self.centre) / self.spread * self.varies
        return torch.nan_to_num(z, nan=0.0).clamp(-CLIP, CLIP)


class Joined(NamedTuple):
    """What a fusion layer gives.

    Attributes
    ----------
    vector : (N, width), for the head.
    parts : name -> (N, w) of the image and of every block before they are joined, for auxiliary heads.
    present : name -> bool (N,), which cells have that part.
    gates : name -> (N,) in [0, 1], how far each part was let through; empty where nothing is gated.
    """

    vector: Tensor
    parts: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]


#: How the image's embedding is called among the parts.
IMAGE = "image"


def _check_fusion(fusion: str, blocks: Mapping[str, int], channels: int, width: int) -> None:
    """ValueError for what cannot be joined so."""
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be {', '.join(FUSIONS)}, not {fusion!r}")
    if fusion in ("film", "attention") and not channels:
        raise ValueError(f"fusion {fusion} joins blocks to an image, and there is none; take concat or gated")
    if fusion == "attention" and width % HEADS:
        raise ValueError(f"the width of a block must be a multiple of {HEADS} for attention, not {width}")
    if not blocks and not channels:
        raise ValueError("neither images nor blocks: there is nothing to learn from")


class BlockFusion(nn.Module):
    """Blocks encoded to one width each, then joined to the embedding.

    "concat" concatenates the embedding and the encoded blocks. "gated" does so after multiplying each with a gate,
    sigmoid(w . [all parts] + b), one number a part and cell, after Arevalo et al. (2017), arXiv:1702.01992: it can be
    read as how much the network relied on that part. "film" lets the blocks scale and shift the embedding channel by
    channel, after Perez et al. (2018), AAAI: the embedding is the mean of a feature map, and the mean of a map scaled
    and shifted by channel is the same as the mean scaled and shifted. "attention" lets every block ask the positions of
    the feature map (Vaswani et al. 2017), and puts block and answer, added up, beside the embedding.

    Parameters
    ----------
    fusion : one of ``FUSIONS``.
    blocks : block name -> number of its columns; they lie side by side in the table in this order.
    channels : of the embedding, 0 without a backbone.
    width : of an encoded block.
    dropout : share of (cell, block) pairs left out in training, so that the network bears missing ones.

    Raises
    ------
    ValueError : a way of joining that is not known, or that needs an image where there is none.
    """

    def __init__(self, fusion: str, blocks: Mapping[str, int], channels: int, width: int, dropout: float) -> None:
        super().__init__()
        _check_fusion(fusion, blocks, channels, width)
        self.fusion, self.names, self.channels, self.dropout = fusion, list(blocks), channels, dropout
        self.sizes = list(blocks.values())
        self.scales = nn.ModuleList(Standardise(columns) for columns in self.sizes)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(columns, width), nn.LayerNorm(width), nn.ReLU()) for columns in self.sizes
        )
        joint = len(blocks) * width
        self.width = channels + (0 if fusion == "film" else joint)
        if fusion == "gated" and blocks:
            # The embedding is brought to the blocks' width before it has a say in the gates: 1536 channels would drown
            # three blocks of 64.
            self.glimpse = nn.Linear(channels, width) if channels else None
            parts = len(blocks) + (1 if channels else 0)
            self.gate = nn.Linear(parts * width + parts, parts)
        elif fusion == "film" and blocks:
            self.modulate = nn.Linear(joint, 2 * channels)
            # Zero: before it has learnt, the blocks change nothing, and pretrained channels stay what they were.
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)
        elif fusion == "attention" and blocks:
            self.places = nn.Linear(channels, width)
            self.ask = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def learn(self, X: NDArray[np.float32]) -> None:
        """Take every block's mean and spread from the training part float (n, d)."""
        for scale, part in zip(self.scales, self._parts(X), strict=True):
            scale.learn(part)  # type: ignore[operator]  # a ModuleList knows no types

    def forward(self, X: Tensor, embedding: Tensor | None, feature_map: Tensor | None) -> Joined:
        """Join float (N, d) with NaN, (N, C) and (N, C, H, W); the latter two are None without a backbone."""
        encoded, there = self._encode(X)
        parts = dict(zip(self.names, encoded, strict=True))
        present = dict(zip(self.names, there, strict=True))
        if embedding is not None:
            parts = {IMAGE: embedding, **parts}
            # Its shape, not its length: the one is traced into an export, the other would be fixed in it.
            present = {IMAGE: embedding.new_ones(embedding.shape[0], dtype=torch.bool), **present}
        gates: dict[str, Tensor] = {}
        if not self.names:
            vector = parts[IMAGE]
        elif self.fusion == "gated":
            gates = self._gates(parts, present)
            vector = torch.cat([parts[name] * gates[name][:, None] for name in parts], 1)
        elif self.fusion == "film":
            scale, shift = self.modulate(torch.cat(encoded, 1)).chunk(2, dim=1)
            vector = parts[IMAGE] * (1 + scale) + shift
        elif self.fusion == "attention":
            assert feature_map is not None
            places = self.places(feature_map.flatten(2).transpose(1, 2))
            answers, _ = self.ask(torch.stack(encoded, 1), places, places, need_weights=False)
            # What a block says itself goes on beside the answer: it would be heard in the weights alone otherwise.
            answers = (torch.stack(encoded, 1) + answers) * torch.stack(there, 1)[:, :, None]
            vector = torch.cat([parts[IMAGE], answers.flatten(1)], 1)
        else:
            vector = torch.cat(list(parts.values()), 1)
        return Joined(vector, parts, present, gates)

    def _parts(self, X: Any) -> list[Any]:
        """The columns of each block, of an array or a tensor."""
        stops = np.cumsum(self.sizes, dtype=np.intp).tolist()
        return [X[:, stop - size : stop] for stop, size in zip(stops, self.sizes, strict=True)]

    def _encode(self, X: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Every block (N, width), zeros where a cell does not have it, and bool (N,): which cells have it."""
        encoded, there = [], []
        for scale, encoder, x in zip(self.scales, self.encoders, self._parts(X), strict=True):
            has = ~x.isnan().all(1)
            if self.training and self.dropout:
                has = has & (torch.rand(len(x), device=x.device) >= self.dropout)
            encoded.append(encoder(scale(x)) * has[:, None])
            there.append(has)
        return encoded, there

    def _gates(self, parts: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        seen = [
            self.glimpse(part) if name == IMAGE and self.glimpse is not None else part for name, part in parts.items()
        ]
        has = torch.stack([present[name] for name in parts], 1).to(seen[0].dtype)
        gates = torch.sigmoid(self.gate(torch.cat([*seen, has], 1))) * has
        return dict(zip(parts, gates.unbind(1), strict=True))


def block_sizes(blocks: Mapping[str, slice], names: Sequence[str] | None = None) -> dict[str, int]:
    """Block name -> number of columns, in the order of the table."""
    return {name: blocks[name].stop - blocks[name].start for name in (names or blocks)}
