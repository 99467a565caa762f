"""Where a transformer looks: attention rollout, and what of its image a set of regions shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors.cnn.backbone import Backbone
from fusion.errors import UsageError


def attention_rollout(network: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (N, h, w) in [0, 1]: how much of the pooled tokens comes from each patch, through all blocks.

    Every block passes on half of a token and half of what its heads, averaged, attend to; the products of all blocks
    say from which patches the class token (or, for the mean, the patches) is made. Alike for every class: it says what
    is looked at, not what speaks for a class.

    Source: Abnar & Zuidema (2020), Quantifying Attention Flow in Transformers, ACL, section 3.

    Raises
    ------
    UsageError : a network whose blocks have no attention of the usual form.
    """
    attentions = [block.attn for block in getattr(network.backbone, "blocks", ()) if hasattr(block, "attn")]
    if not attentions or not all(hasattr(one, "qkv") and hasattr(one, "num_heads") for one in attentions):
        raise UsageError(
            f"backbone '{network.backbone_config.backbone}' has no attention that can be rolled out",
            expected="a vision transformer with one qkv layer a block and no rotary positions",
        )
    kept: list[Tensor] = []
    handles = [one.register_forward_pre_hook(_weights_into(kept)) for one in attentions]
    try:
        with torch.inference_mode():
            network.backbone.forward_features(network.prepare(images))
    finally:
        for handle in handles:
            handle.remove()
    flow = None
    for weights in kept:
        passed = 0.5 * weights + 0.5 * torch.eye(weights.shape[-1], device=weights.device)
        flow = passed if flow is None else passed @ flow
    assert flow is not None
    prefix = network.prefix_tokens
    from_patches = flow[:, :, prefix:]
    is_cls = network.backbone_config.pool.startswith("cls")
    rolled = from_patches[:, 0] if is_cls else from_patches[:, prefix:].mean(1)
    side = round(rolled.shape[1] ** 0.5)
    places = rolled.reshape(len(rolled), side, side)
    return (places / places.amax((1, 2), keepdim=True)).float().cpu().numpy()


def _weights_into(kept: list[Tensor]) -> Any:
    """A hook that computes a block's attention again, of its input, as the mean over heads: (N, T, T)."""

    def hook(attention: Any, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        n, tokens, channels = x.shape
        heads = attention.num_heads
        qkv = attention.qkv(x).reshape(n, tokens, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        q, k = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])
        kept.append(((q * attention.scale) @ k.transpose(-2, -1)).softmax(-1).mean(1))

    return hook


def hide_regions(image: NDArray[np.uint8], shown: NDArray[np.bool_], background: int) -> NDArray[np.uint8]:
    """uint8 (n, S, S, 3): one image n times, of each only the regions that are shown, bool (n, k, k).

    Region borders are those of patches where k divides the patches of a side.
    """
    side = len(image)
    edges = np.linspace(0, side, shown.shape[1] + 1).round().astype(int)
    at = np.searchsorted(edges, np.arange(side), side="right") - 1
    return np.where(shown[:, at][:, :, at][..., None], image, np.uint8(background))
