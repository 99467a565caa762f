"""Which network, and how images are prepared for it: settled before any torch is imported."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from extractors.cnn._weights_file import WeightsFile, read_metadata

#: EfficientNetV2-B3: 14 M parameters, 1536 features, and runs on a laptop.
DEFAULT_BACKBONE = "tf_efficientnetv2_b3"

#: Words that stand where a weights file could.
PRETRAINED, RANDOM = "pretrained", "random"


@dataclass(frozen=True)
class BackboneConfig:
    """Which network, and how an image is prepared for it: ``(rgb / 255 - mean) / std``."""

    backbone: str
    attention: bool
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    pad_type: str | None


def resolve_backbone_config(
    file: WeightsFile | None,
    *,
    backbone: str | None = None,
    attention: bool = True,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pad_type: str | None = None,
) -> BackboneConfig:
    """What the caller says, else what the file's metadata says, else what timm says of the backbone.

    Raises
    ------
    WeightsError : the metadata cannot be understood.
    UsageError : timm does not know the backbone.
    """
    stated = {} if file is None else read_metadata(file)
    given = {"backbone": backbone, "size": size, "mean": mean, "std": std, "pad_type": pad_type}
    stated |= {name: value for name, value in given.items() if value is not None}
    stated = {
        name: value for name, value in stated.items() if name not in ("view", "background")
    }  # the input transform's
    stated.setdefault("backbone", DEFAULT_BACKBONE)
    if not {"size", "mean", "std", "interpolation"} <= stated.keys():
        from extractors.cnn._published_models import published_config

        stated = published_config(stated["backbone"]) | stated
    return BackboneConfig(
        backbone=stated["backbone"],
        attention=attention,
        size=stated["size"],
        mean=_three(stated["mean"]),
        std=_three(stated["std"]),
        interpolation=stated["interpolation"],
        pad_type=stated.get("pad_type"),
    )


@functools.cache
def warn_of_random_weights(seed: int) -> None:
    """Say it once a process."""
    logging.getLogger("fusion").warning(
        "the network has random weights (seed %d): its embedding tries the machinery, and is not to be reported", seed
    )


def _three(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in (values if len(values) == 3 else (values[0],) * 3))
