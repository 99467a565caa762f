"""Which network, and how images are prepared for it: what the features depend on beside the weights' content."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extractors.cnn._weights_file import FOLDER, HUB, WeightsFile, read_metadata
from fusion.errors import UsageError

#: EfficientNetV2-B3: 14 M parameters, 1536 features, and runs on a laptop.
DEFAULT_BACKBONE = "tf_efficientnetv2_b3"

#: Words that stand where a weights file could.
PRETRAINED, RANDOM = "pretrained", "random"

#: The pool, as a file's metadata says it, of what has no tokens.
MAP = "map"


@dataclass(frozen=True)
class BackboneConfig:
    """Which network, and how an image is prepared for it: ``(rgb / 255 - mean) / std``.

    Attributes
    ----------
    backbone : name of the timm model, with the tag of its weights where timm publishes them.
    attention : squeeze and excitation on the last feature map; False of a network that has none.
    size : side in pixels of its images.
    mean, std : of the weights' training images, scale 0 to 1, one a channel.
    interpolation : "bicubic" or "bilinear".
    pad_type : of the convolutions; None is the backbone's own.
    pool : how tokens become one embedding, see ``_architecture.POOLS``; "" of a feature map, which is averaged.
    model_args : parameters of the architecture that the weights were trained with, as JSON; "" for none.
    """

    backbone: str
    attention: bool
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    pad_type: str | None
    pool: str = ""
    model_args: str = ""


def resolve_backbone_config(
    file: WeightsFile | None,
    *,
    backbone: str | None = None,
    attention: bool = True,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pad_type: str | None = None,
    interpolation: str | None = None,
    pool: str | None = None,
    model_args: str | None = None,
) -> BackboneConfig:
    """What the caller says, else what the file's metadata says, else what is published of the backbone.

    A transformer's size is that of the position embeddings in the file, where nobody says otherwise. Attention stands
    aside where there is no feature map to weigh.

    Raises
    ------
    WeightsError : the metadata cannot be understood.
    UsageError : an unknown backbone, one that cannot take this size, or tokens that cannot be pooled so.
    """
    stated: dict[str, Any] = {} if file is None else read_metadata(file)
    given = {"backbone": backbone, "size": size, "mean": mean, "std": std, "pad_type": pad_type, "pool": pool}
    given |= {"interpolation": interpolation, "model_args": model_args}
    # A file of ours says what the network gives, which otherwise torch is asked.
    is_known = "pool" in stated and pool is None and backbone is None
    stated |= {name: value for name, value in given.items() if value is not None}
    stated = {
        name: value for name, value in stated.items() if name not in ("view", "background")
    }  # the input transform's
    stated.setdefault("backbone", DEFAULT_BACKBONE)
    stated = _with_published(stated, file)
    plain = {**stated, "mean": _three(stated["mean"]), "std": _three(stated["std"])}
    is_map, chosen = _pooled(plain, stated["pool"] if is_known else None, pool)
    return BackboneConfig(
        backbone=plain["backbone"],
        attention=attention and is_map,
        size=plain["size"],
        mean=plain["mean"],
        std=plain["std"],
        interpolation=plain["interpolation"],
        pad_type=plain.get("pad_type"),
        pool=chosen,
        model_args=plain.get("model_args", ""),
    )


def weights_path(backbone: str | None, weights: str) -> Path | None:
    """The file that the weights are in; None of random ones, and of those that timm publishes by their tag.

    Raises
    ------
    WeightsError : weights of a repository or folder that cannot be had.
    """
    if weights not in (PRETRAINED, RANDOM):
        return Path(weights)
    if weights == RANDOM or backbone is None:
        return None
    if not backbone.startswith((HUB, FOLDER)):
        return None
    from extractors.cnn._published_models import published_file

    return published_file(backbone)


def _with_published(stated: dict[str, Any], file: WeightsFile | None) -> dict[str, Any]:
    """What is stated, completed by what is published of the backbone; ``backbone`` is timm's name then."""
    name = stated["backbone"]
    if name.startswith((HUB, FOLDER)):
        from extractors.cnn._published_models import published, published_config

        found = published(name)
        stated = {**published_config(name), **stated, "backbone": found.architecture}
        if found.model_args:
            stated.setdefault("model_args", json.dumps(dict(found.model_args), sort_keys=True))
        return stated
    if {"size", "mean", "std", "interpolation"} <= stated.keys():
        return stated
    from extractors.cnn._architecture import size_of_positions
    from extractors.cnn._published_models import published_config

    usual = published_config(name)
    positions = None if file is None or "size" in stated else file.shapes.get("pos_embed")
    if positions is not None and (size := size_of_positions(name, positions, stated.get("model_args", ""))):
        usual["size"] = size
    return usual | stated


def _pooled(plain: Mapping[str, Any], known: str | None, asked: str | None) -> tuple[bool, str]:
    """Whether the network gives a map, and how its tokens are pooled; UsageError where they cannot be as asked."""
    if known is not None:
        return known == MAP, "" if known == MAP else known
    from extractors.cnn._architecture import layout

    backbone = plain["backbone"]
    found = layout(backbone, plain["size"], plain.get("pad_type"), plain.get("model_args", ""))
    if found.is_map:
        if asked:
            raise UsageError(
                f"backbone '{backbone}' gives a feature map, which is averaged",
                found=f"pool: {asked}",
                do="Leave pool out: it says how a transformer's tokens are pooled.",
            )
        return True, ""
    chosen = asked or plain.get("pool", found.pool)
    chosen = found.pool if chosen == MAP else chosen
    needs_class = "cls" in chosen and not found.has_class_token
    if needs_class or (chosen not in ("head", found.pool) and not found.patch):
        raise UsageError(
            f"the tokens of backbone '{backbone}' cannot be pooled as asked",
            found=f"pool: {chosen}, {'without a class token' if needs_class else 'by a head of its own'}",
            expected="mean or head" if needs_class else "head",
        )
    return False, str(chosen)


@functools.cache
def warn_of_random_weights(seed: int) -> None:
    """Say it once a process."""
    logging.getLogger("fusion").warning(
        "the network has random weights (seed %d): its embedding tries the machinery, and is not to be reported", seed
    )


def _three(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in (values if len(values) == 3 else (values[0],) * 3))
