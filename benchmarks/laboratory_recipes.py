"""The recipes that ``benchmarks.laboratories`` compares: a plain pipeline, one step more, several, all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.config import read_yaml

CONFIGS = Path(__file__).parents[1] / "configs"


def measured() -> dict[str, dict[str, Any]]:
    """The plain pipeline, each step of ``configs/robust.yaml`` alone, all of them, and what was tried beside them."""
    robust = {
        key: value for key, value in read_yaml(CONFIGS / "robust.yaml").items() if key in ("normalise", "harmonise")
    }
    scale = {"normalise": robust["normalise"]}
    light = {"white_balance": True, "colour": "reinhard"}
    macenko = {"normalise": {**light, "colour": "macenko"}}
    found: dict[str, dict[str, Any]] = {
        "plain": {},
        "plain + scale": scale,
        "plain + stain and light (Reinhard)": {"normalise": light},
        "plain + harmonisation (standard)": {"harmonise": robust["harmonise"]},
        "plain + rotation-free features": {"tags": ["rotation_free"]},
        "robust: scale + harmonisation": robust,
        "robust + stain and light (Reinhard)": _together([robust, {"normalise": light}]),
        "robust + stain and light (Macenko)": _together([robust, macenko]),
        "robust + stain and light (Vahadane)": _together([robust, {"normalise": {**light, "colour": "vahadane"}}]),
        "robust + rotation-free features": {**robust, "tags": ["rotation_free"]},
        "scale + stain and light, no harmonisation": _together([scale, {"normalise": light}]),
    }
    found["scale + stain and light (Macenko), no harmonisation"] = _together([scale, macenko])
    for method in ("quantile", "combat", "coral"):
        found[f"plain + harmonisation ({method})"] = {"harmonise": {**robust["harmonise"], "method": method}}
        found[f"robust, {method} instead"] = _together([robust, {"harmonise": {"method": method}}])
    found["robust + mix of classes"] = _together([robust, {"harmonise": {"mix": True}}])
    inductive = _together([robust, {"harmonise": {"transductive": False}}])
    return found | {"robust, inductive harmonisation": inductive}


def networks(weights: Path) -> dict[str, dict[str, Any]]:
    """What ``weights`` see, frozen and fine-tuned, plain and with the steps of ``configs/robust-network.yaml``."""
    start = {"classifiers": {"neural": {"network": {"weights": str(weights)}}}}
    plain = _together([_network("mobilenetv2-cpu"), start])
    whole = _together([_network("robust-network"), start])
    neural = whole["classifiers"]["neural"]
    augmentation = _neural(augmentation=neural["augmentation"])
    scale = _together([{"normalise": whole["normalise"]}, _neural(network={"view": neural["network"]["view"]})])
    statistics = _neural(batch_statistics="source")
    light = {"normalise": {"white_balance": True, "colour": "reinhard"}}
    found = {
        "network": plain,
        "network + augmentation": _together([plain, augmentation]),
        "network + scale": _together([plain, scale]),
        "network + stain and light (Reinhard)": _together([plain, light]),
        "network + batch statistics": _together([plain, statistics]),
        "network + augmentation + scale": _together([plain, augmentation, scale]),
        "network + augmentation + batch statistics": _together([plain, augmentation, statistics]),
        "network + scale + batch statistics": _together([plain, scale, statistics]),
        "robust network": whole,
        "robust network + stain and light (Reinhard)": _together([whole, light]),
    }
    seen = {name: plain["classifiers"]["neural"]["network"][name] for name in ("backbone", "weights", "size")}
    frozen = {"classifier": "svm", "features": ["cnn"], "extractors": {"cnn": {**seen, "attention": False}}}
    robust = {
        key: value for key, value in read_yaml(CONFIGS / "robust.yaml").items() if key in ("normalise", "harmonise")
    }
    found["frozen embedding, SVM"] = frozen
    found["frozen embedding, SVM, robust"] = _together([frozen, robust])
    tuned = {"classifier": "svm", "cnn_crossfit": True, "features": ["cnn"], "extractors": {}}
    both = {**tuned, "features": ["morphology", "texture", "colour", "cnn"]}
    harmonise = {"harmonise": robust["harmonise"]}
    found["fine-tuned embedding, SVM"] = _together([plain, tuned])
    found["fine-tuned embedding, SVM, robust"] = _together([whole, tuned, harmonise])
    found["fine-tuned embedding + measured, SVM"] = _together([plain, both])
    found["fine-tuned embedding + measured, SVM, robust"] = _together([whole, both, harmonise])
    return found


def _network(config: str) -> dict[str, Any]:
    found = {**read_yaml(CONFIGS / f"{config}.yaml"), "classifier": "neural"}
    return {key: value for key, value in found.items() if key not in ("seed", "splits")}  # the benchmark's own


def _neural(**settings: Any) -> dict[str, Any]:
    return {"classifiers": {"neural": settings}}


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The later parts over the earlier ones, mapping by mapping."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            is_both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = _together([merged[key], value]) if is_both else value
    return merged
