"""Fusion: what tells a leukaemic cell from a healthy one, compared under splits that cannot leak.

The public API in one screen. Everything is loaded when it is first used, so that importing the package costs nothing.

>>> import fusion
>>> fusion.inspect("C-NMC_training_data")  # doctest: +SKIP
>>> result = fusion.ablate("C-NMC_training_data", features=["morphology", "texture"], output="result")  # doctest: +SKIP
>>> trained = fusion.train("cells.csv", classifier="xgb")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.bundles.inference import predict_cells as predict_cells
    from fusion.bundles.model_bundle import ModelBundle as ModelBundle
    from fusion.bundles.model_bundle import load_model as load_model
    from fusion.data.dataset import Dataset as Dataset
    from fusion.data.feature_table import FeatureTable as FeatureTable
    from fusion.errors import FusionError as FusionError
    from fusion.evaluation.results import Result as Result
    from fusion.explanation.explanation import explain_cell as explain_cell
    from fusion.feature_transforms.fusion_layer import FusionLayer as FusionLayer
    from fusion.features.extraction import extract as measure
    from fusion.features.store import FeatureStore as FeatureStore
    from fusion.images.cell import Cell as Cell
    from fusion.interface.estimator import FusionClassifier as FusionClassifier
    from fusion.interface.workflows import ablate as ablate
    from fusion.interface.workflows import adapt as adapt
    from fusion.interface.workflows import compare as compare
    from fusion.interface.workflows import evaluate as evaluate
    from fusion.interface.workflows import explain as explain
    from fusion.interface.workflows import extract as extract
    from fusion.interface.workflows import inspect as inspect
    from fusion.interface.workflows import load as load
    from fusion.interface.workflows import plan as plan
    from fusion.interface.workflows import predict as predict
    from fusion.interface.workflows import segment as segment
    from fusion.interface.workflows import train as train
    from fusion.learning.fused_model import fuse as fuse
    from fusion.plugins.registry import build_classifier as classifier
    from fusion.plugins.registry import build_extractor as extractor
    from fusion.settings.commands import AblateConfig as AblateConfig
    from fusion.settings.commands import EvaluateConfig as EvaluateConfig
    from fusion.settings.commands import PredictConfig as PredictConfig
    from fusion.settings.commands import TrainConfig as TrainConfig
    from fusion.synthetic.cells import synthesize as synthesize
    from fusion.workflows.judge import judge as judge

__version__: str

# OpenCV's own limit, which it reads when it is imported: should a header lie in a way that we do not see, nothing above
# it is decoded. The same as ``fusion.images.decoding.MAX_PIXELS``, which costs too much to import here.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))

#: Public name -> where it lives, and what it is called there.
_PUBLIC = {
    "AblateConfig": ("fusion.settings.commands", "AblateConfig"),
    "Cell": ("fusion.images.cell", "Cell"),
    "Dataset": ("fusion.data.dataset", "Dataset"),
    "EvaluateConfig": ("fusion.settings.commands", "EvaluateConfig"),
    "FeatureStore": ("fusion.features.store", "FeatureStore"),
    "FeatureTable": ("fusion.data.feature_table", "FeatureTable"),
    "FusionError": ("fusion.errors", "FusionError"),
    "FusionLayer": ("fusion.feature_transforms.fusion_layer", "FusionLayer"),
    "ModelBundle": ("fusion.bundles.model_bundle", "ModelBundle"),
    "PredictConfig": ("fusion.settings.commands", "PredictConfig"),
    "Result": ("fusion.evaluation.results", "Result"),
    "TrainConfig": ("fusion.settings.commands", "TrainConfig"),
    "ablate": ("fusion.interface.workflows", "ablate"),
    "adapt": ("fusion.interface.workflows", "adapt"),
    "compare": ("fusion.interface.workflows", "compare"),
    "classifier": ("fusion.plugins.registry", "build_classifier"),
    "evaluate": ("fusion.interface.workflows", "evaluate"),
    "explain_cell": ("fusion.explanation.explanation", "explain_cell"),
    "explain": ("fusion.interface.workflows", "explain"),
    "extract": ("fusion.interface.workflows", "extract"),
    "extractor": ("fusion.plugins.registry", "build_extractor"),
    "FusionClassifier": ("fusion.interface.estimator", "FusionClassifier"),
    "fuse": ("fusion.learning.fused_model", "fuse"),
    "inspect": ("fusion.interface.workflows", "inspect"),
    "judge": ("fusion.workflows.judge", "judge"),
    "load": ("fusion.interface.workflows", "load"),
    "load_model": ("fusion.bundles.model_bundle", "load_model"),
    "measure": ("fusion.features.extraction", "extract"),
    "plan": ("fusion.interface.workflows", "plan"),
    "predict": ("fusion.interface.workflows", "predict"),
    "predict_cells": ("fusion.bundles.inference", "predict_cells"),
    "segment": ("fusion.interface.workflows", "segment"),
    "synthesize": ("fusion.synthetic.cells", "synthesize"),
    "train": ("fusion.interface.workflows", "train"),
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fusion-cells")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fusion' has no attribute '{name}'")
    module, original = _PUBLIC[name]
    return getattr(import_module(module), original)


def __dir__() -> list[str]:
    return __all__
