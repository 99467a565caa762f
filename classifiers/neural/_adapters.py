"""Which weights of a backbone are trained: all, the last blocks, none, or low-rank adapters beside frozen ones.

Adapters live while a network is trained. When it is done they are added into the weights they stand beside, so that
what is kept, exported and explained is the plain backbone, by timm's own names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: What of the backbone is trained.
TUNED = ("all", "last", "lora", "none")

#: Layers of a transformer's attention, by the last part of their names.
_ATTENTION = ("qkv", "q_proj", "k_proj", "v_proj", "proj")


class LowRank(nn.Module):
    """A frozen linear layer with an adapter: ``W x + b + (alpha / r) B A x``.

    Source: Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models, ICLR, equation 3. B starts at zero,
    so that an untrained adapter changes nothing.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        return self.layer(x) + self.scale * functional.linear(functional.linear(x, self.down), self.up)

    def merged(self) -> nn.Linear:
        """The layer with its adapter in its weights."""
        with torch.no_grad():
            self.layer.weight += self.scale * (self.up @ self.down)
        return self.layer


def add_adapters(backbone: nn.Module, rank: int, alpha: float) -> int:
    """Put adapters beside every linear layer of the attention; how many there are.

    Raises
    ------
    ValueError : a backbone without such layers: one that is no transformer.
    """
    found = [(name, layer) for name, layer in backbone.named_modules() if _is_attention(name, layer)]
    if not found:
        raise ValueError("tune: lora is for transformers, and this backbone has no attention layers; take last or all")
    for name, layer in found:
        _replace(backbone, name, LowRank(layer, rank, alpha))
    return len(found)


def merge_adapters(backbone: nn.Module) -> None:
    """Add every adapter into its layer's weights, and take it away."""
    for name, layer in [each for each in backbone.named_modules() if isinstance(each[1], LowRank)]:
        _replace(backbone, name, layer.merged())


def freeze(backbone: nn.Module, tune: str, last_blocks: int) -> None:
    """Let only the parameters learn that ``tune`` names."""
    if tune == "lora":
        backbone.requires_grad_(False)
        for layer in backbone.modules():
            if isinstance(layer, LowRank):
                layer.down.requires_grad_(True)
                layer.up.requires_grad_(True)
        return
    if tune == "last":
        backbone.requires_grad_(False)
        trained = set(_last(backbone, last_blocks))
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name in trained)
        return
    backbone.requires_grad_(tune == "all")


def count_trained(network: nn.Module) -> int:
    """Number of values that training may change as things stand."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _is_attention(name: str, layer: nn.Module) -> bool:
    *_, parent, last = ("", "", *name.split("."))
    return isinstance(layer, nn.Linear) and parent == "attn" and last in _ATTENTION


def _replace(backbone: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(backbone.get_submodule(parent), last, layer)


def _last(backbone: Any, count: int) -> Iterator[str]:
    """Parameters of the last blocks or stages, as timm groups them, and of what follows them."""
    from timm.models import group_parameters

    stages = group_parameters(backbone, backbone.group_matcher(coarse=not hasattr(backbone, "blocks")), reverse=True)
    blocks = {stage for name, stage in stages.items() if name.startswith(("blocks.", "stages.", "layer", "features."))}
    kept = sorted(blocks or set(stages.values()))[-count:]
    return (name for name, stage in stages.items() if stage >= kept[0])
