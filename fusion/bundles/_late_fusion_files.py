"""A late fusion as files: a folder for each block's model, and the weights among the plain values of the manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.bundles.bundle_files import BundleError, load_arrays, write_arrays
from fusion.learning.bags.mean_of_cells import for_unit, takes_bags
from fusion.learning.decision.late_fusion import LateFusion
from fusion.learning.fused_model import FusedModel
from fusion.plugins import registry
from fusion.settings.data import Unit

if TYPE_CHECKING:
    from fusion.feature_transforms.fusion_layer import FusionLayer

#: The file of a fusion layer's arrays, and the folder of a classifier.
LAYER, CLASSIFIER = "layer.safetensors", "classifier"

#: Files of the models of blocks, which are numbered: names of blocks need not be names of files.
_FILES = re.compile(rf"block-\d+/({re.escape(LAYER)}|{CLASSIFIER}/.+)")


def is_file_of_late_fusion(name: str) -> bool:
    """Whether a file of a model's folder may belong to a late fusion."""
    return _FILES.fullmatch(name) is not None


def write_layer(folder: Path, layer: FusionLayer | None) -> dict[str, Any] | None:
    """Write a layer's arrays, and return its parameters; None for no layer."""
    if layer is None:
        return None
    write_arrays(folder / LAYER, layer.state())
    return plain(layer.get_params())


def load_layer(folder: Path, params: Mapping[str, Any] | None) -> FusionLayer | None:
    """The layer that ``write_layer`` wrote."""
    if params is None:
        return None
    from fusion.feature_transforms.fusion_layer import FusionLayer

    return FusionLayer.from_state(params, load_arrays(folder / LAYER))


def write_late_fusion(folder: Path, late: LateFusion) -> dict[str, Any]:
    """Write the models of its blocks into a model's folder, and return what the manifest says of it."""
    layers = []
    for at, member in enumerate(late.members.values()):
        own = folder / f"block-{at}"
        (own / CLASSIFIER).mkdir(parents=True)
        assert not isinstance(member.classifier, LateFusion)  # blocks are fused once
        member.classifier.save(own / CLASSIFIER)
        layers.append(write_layer(own, member.layer))
    return {
        "blocks": list(late.members),
        "layers": layers,
        "weights": late.weights.tolist(),
        "intercepts": late.intercepts.tolist(),
    }


def load_late_fusion(
    folder: Path, about: Mapping[str, Any], kind: str, columns: Mapping[str, slice], unit: Unit
) -> LateFusion:
    """The late fusion that ``write_late_fusion`` wrote.

    Parameters
    ----------
    about : what the manifest says of it.
    kind : the registered name of its blocks' classifiers.
    columns : block name -> its columns in the model.
    unit : what they judge.

    Raises
    ------
    BundleError : values or models that do not fit together.
    """
    names, layers = about["blocks"], about["layers"]
    weights, intercepts = (np.array(about[name], np.float64) for name in ("weights", "intercepts"))
    if names != list(columns) or not len(names) == len(layers) == len(weights):
        raise BundleError("a late fusion of other blocks than the model has", found=repr(names)[:100])
    members = {}
    for at, (name, params) in enumerate(zip(names, layers, strict=True)):
        own = folder / f"block-{at}"
        classifier = for_unit(registry.classifier_class(kind).load(own / CLASSIFIER), unit)
        if unit == "cell" and takes_bags(classifier):
            raise BundleError("classifiers of patients in a model of cells", found=kind[:60])
        members[name] = FusedModel(load_layer(own, params), classifier)
    classes = next(iter(members.values())).classes
    agree = all(member.classes == classes for member in members.values()) and intercepts.shape == (len(classes),)
    if not agree or not (np.isfinite(weights).all() and np.isfinite(intercepts).all() and (weights >= 0).all()):
        raise BundleError("a late fusion whose models and weights do not fit together")
    return LateFusion(members, dict(columns), weights, intercepts)


def plain(value: Any) -> Any:
    """``value`` as JSON has it, so that what is written equals what will be read."""
    return json.loads(json.dumps(value, default=lambda odd: odd.tolist() if hasattr(odd, "tolist") else list(odd)))
