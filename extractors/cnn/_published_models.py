"""What timm publishes: which networks there are, how their images are prepared, and where their weights lie."""

from __future__ import annotations

import difflib
from typing import Any

import timm

from extractors.cnn._weights_file import WeightsError
from fusion.errors import UsageError


def published_config(backbone: str) -> dict[str, Any]:
    """``size, mean, std, interpolation`` that timm evaluates a backbone's published weights with."""
    config = timm.data.resolve_data_config(pretrained_cfg=published_entry(backbone).to_dict(), use_test_size=True)
    # timm says bicubic or bilinear; should it ever say more, bicubic is what it means by default.
    interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    return {
        "size": int(config["input_size"][-1]),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": interpolation,
    }


def published_weights(backbone: str) -> tuple[str, str]:
    """(repository, file) on the hub; the repository's name holds the tag that tells one training from another.

    Raises
    ------
    UsageError : unknown backbone.
    WeightsError : timm has no weights of it, or none as safetensors.
    """
    config = published_entry(backbone)
    file = config.hf_hub_filename or "model.safetensors"
    if not config.hf_hub_id or not file.endswith(".safetensors"):
        raise WeightsError(
            f"timm has no pretrained weights of '{backbone}' as safetensors",
            do="Give a file with --weights FILE.safetensors, or take another backbone.",
        )
    return config.hf_hub_id, file


def published_entry(backbone: str) -> Any:
    """timm's entry; UsageError for a name it does not know. Names with a prefix (hf-hub:, local-dir:) are none."""
    if not timm.is_model(backbone):
        close = difflib.get_close_matches(backbone.split(".")[0], timm.list_models(), 3)
        raise UsageError(
            f"unknown backbone '{backbone}'", expected=f"a timm model{', perhaps ' + ', '.join(close) if close else ''}"
        )
    try:
        return timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        known = timm.list_pretrained(backbone.split(".")[0] + "*")
        raise UsageError(f"unknown weights '{backbone}'", expected=", ".join(known[:5]) or "no tag") from error
