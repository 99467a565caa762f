"""A timm network made for its working size, and what it gives: a feature map, or tokens and how they are pooled."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import timm
import torch

from extractors.cnn._hub import reason_of
from extractors.cnn._published_models import published, published_config
from fusion.errors import UsageError

#: How tokens become one embedding: the class token, the mean of the patches' tokens, both side by side, or as the
#: architecture's own head has it (attention pooling, for example), where that is neither.
POOLS = ("cls", "mean", "cls+mean", "head")

#: timm's words for the first two.
_TIMMS_POOLS = {"token": "cls", "avg": "mean"}


class Layout(NamedTuple):
    """What a network gives.

    Attributes
    ----------
    width : channels of the map or of a token.
    is_map : whether it gives a feature map.
    channels_last : whether the map's channels come last.
    prefix : tokens before those of the patches: class token and registers.
    has_class_token : whether the first of them is a class token.
    pool : how its own head pools tokens; "" of a map.
    patch : side in pixels of a patch; 0 where there are none.
    """

    width: int
    is_map: bool
    channels_last: bool = False
    prefix: int = 0
    has_class_token: bool = False
    pool: str = ""
    patch: int = 0


def create(
    backbone: str, size: int | None, pad_type: str | None = None, model_args: str = "", drop_path: float = 0.0
) -> Any:
    """The network with random weights and without classifier.

    Parameters
    ----------
    backbone : name of a timm model.
    size : side in pixels of its images, for those that must be told; None leaves the architecture's own.
    model_args : parameters of the architecture, as JSON.

    Raises
    ------
    UsageError : an unknown backbone, or parameters that it does not take.
    """
    published(backbone)
    options: dict[str, Any] = {} if pad_type is None else {"pad_type": pad_type}
    options |= {"drop_path_rate": drop_path} if drop_path else {}
    own = {**(json.loads(model_args) if model_args else {}), **options}
    own.pop("img_size", None)
    if size is not None:
        with contextlib.suppress(_TakesNoSize):
            return _made(backbone, options, {**own, "img_size": size})
    return _made(backbone, options, own)


class _TakesNoSize(Exception):
    """A network that takes images of any size."""


def _made(backbone: str, options: Mapping[str, Any], every: dict[str, Any]) -> Any:
    try:
        return timm.create_model(backbone, num_classes=0, **every)
    except TypeError as error:
        if "img_size" in every and "img_size" in str(error):
            raise _TakesNoSize from error
        if not every:
            raise
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        named = {unknown[1]: every[unknown[1]]} if unknown and unknown[1] in every else options or every
        raise UsageError(
            f"backbone '{backbone}' takes no {' or no '.join(named)}",
            found=", ".join(repr(value) for value in named.values()),
        ) from error


@functools.lru_cache(maxsize=32)
def layout(backbone: str, size: int, pad_type: str | None, model_args: str = "") -> Layout:
    """Asked of the network itself, on torch's meta device: shapes without numbers, in a tenth of a second.

    Raises
    ------
    UsageError : the network cannot take images of this size.
    """
    with own_random_state(0), torch.device("meta"), torch.no_grad():
        try:
            network = create(backbone, size, pad_type, model_args).eval()
            patch = _patch(network)
            if patch and size % patch:
                raise ValueError(f"patches of {patch} pixels, which would leave out the last {size % patch}")
            features = network.forward_features(torch.empty(1, 3, size, size))
            return _layout_of(network, features, patch)
        except (RuntimeError, AssertionError, ValueError) as error:
            usual = published_config(backbone)["size"]
            if size != usual:
                layout(backbone, usual, pad_type, model_args)  # raises where it is not the size that does not fit
            raise UsageError(
                f"backbone '{backbone}' cannot take images of {size} pixels"
                if size != usual
                else f"backbone '{backbone}' cannot be made",
                found=reason_of(error) + (f", with {model_args}" if model_args and size == usual else ""),
                expected=f"{usual}" if size != usual else "",
            ) from error


def _layout_of(network: Any, features: Any, patch: int) -> Layout:
    channels_last = getattr(network, "output_fmt", None) == "NHWC"
    if features.ndim == 4:
        return Layout(features.shape[-1 if channels_last else 1], True, channels_last)
    head = network.forward_head(features, pre_logits=True).shape[1]
    prefix = getattr(network, "num_prefix_tokens", None)
    if prefix is None or head != features.shape[2]:
        return Layout(head, False, pool="head")
    pool = _TIMMS_POOLS.get(str(getattr(network, "global_pool", "")), "head")
    has_class = getattr(network, "cls_token", None) is not None
    return Layout(head, False, False, int(prefix), has_class, pool, patch)


def _patch(network: Any) -> int:
    """Side of a patch where images are cut into them by one convolution without overlap; 0 for all others."""
    sides = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if getattr(network, "num_prefix_tokens", None) is None or not sides:
        return 0
    return int(sides[0]) if isinstance(sides, tuple) else int(sides)


def size_of_positions(backbone: str, positions: tuple[int, ...], model_args: str = "") -> int | None:
    """The size of images that weights with position embeddings of this shape, (1, tokens, channels), were made for.

    None where the architecture has none, or none of a square of patches.
    """
    usual = published_config(backbone)["size"]
    with own_random_state(0), torch.device("meta"):
        network = create(backbone, usual, None, model_args)
    own, patch = getattr(network, "pos_embed", None), _patch(network)
    if own is None or not patch or len(positions) != 3:
        return None
    beside = own.shape[1] - (usual // patch) ** 2
    side = math.isqrt(max(0, positions[1] - beside))
    return side * patch if side and side * side == positions[1] - beside else None


@contextlib.contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Random numbers from ``seed``, the caller's own stream untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        yield
