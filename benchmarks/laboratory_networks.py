"""Recipes of networks for ``benchmarks.laboratories``: plain, one step more, several, all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.settings.loading import read_yaml

CONFIGS = Path(__file__).parents[1] / "configs"


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The later parts over the earlier ones, mapping by mapping."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            is_both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = together([merged[key], value]) if is_both else value
    return merged


def networks(weights: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    """What ``weights`` see, frozen and fine-tuned, plain and with the steps of ``configs/robust-network.yaml``.

    Parameters
    ----------
    weights : of MobileNetV2, as .safetensors.
    seed : of every training.
    """
    start = {"classifiers": {"neural": {"network": {"weights": str(weights)}}}}
    plain = together([_network("mobilenetv2-cpu"), start])
    whole = together([_network("robust-network"), start])
    neural = whole["classifiers"]["neural"]
    augmentation = _neural(augmentation=neural["augmentation"])
    scale = together([{"normalise": whole["normalise"]}, _neural(network={"view": neural["network"]["view"]})])
    statistics = _neural(batch_statistics="source")
    found = {
        "network": plain,
        "network + augmentation": together([plain, augmentation]),
        "network + scale": together([plain, scale]),
        "network + batch statistics": together([plain, statistics]),
        "network + augmentation + scale": together([plain, augmentation, scale]),
        "network + augmentation + batch statistics": together([plain, augmentation, statistics]),
        "network + scale + batch statistics": together([plain, scale, statistics]),
        "robust network": whole,
    }
    seen = {name: plain["classifiers"]["neural"]["network"][name] for name in ("backbone", "weights", "size")}
    frozen = {"classifier": "svm", "features": ["cnn"], "extractors": {"cnn": {**seen, "attention": False}}}
    robust: dict[str, Any] = {
        "normalise": {"scale": "median-size", "diameter": 64},
        "harmonise": {"method": "standard", "transductive": True},
    }
    found["frozen embedding, SVM"] = frozen
    found["frozen embedding, SVM, robust"] = together([frozen, robust])
    tuned = {"classifier": "svm", "cnn_crossfit": True, "nested": True, "features": ["cnn"], "extractors": {}}
    both = {**tuned, "features": ["morphology", "texture", "colour", "cnn"]}
    # An embedding is harmonised as other features are, instead of norms.
    adapted = together([whole, _neural(batch_statistics="training"), {"harmonise": robust["harmonise"]}])
    found["fine-tuned embedding, SVM"] = together([plain, tuned])
    found["fine-tuned embedding, SVM, robust"] = together([adapted, tuned])
    found["fine-tuned embedding + measured, SVM"] = together([plain, both])
    found["fine-tuned embedding + measured, SVM, robust"] = together([adapted, both])
    return {name: {**recipe, "seed": seed} for name, recipe in found.items()}


def _network(config: str) -> dict[str, Any]:
    found = {**read_yaml(CONFIGS / f"{config}.yaml"), "classifier": "neural"}
    return {key: value for key, value in found.items() if key not in ("seed", "splits")}  # the benchmark's own


def _neural(**settings: Any) -> dict[str, Any]:
    return {"classifiers": {"neural": settings}}
