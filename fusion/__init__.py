"""Fusion: what tells a leukaemic cell from a healthy one, compared under splits that cannot leak.

The public API in one screen. Everything is loaded when it is first used, so that importing the package costs nothing.

>>> import fusion
>>> cells = fusion.load("C-NMC_training_data")  # doctest: +SKIP
>>> table = fusion.extract(cells, [fusion.extractor("texture")], fusion.FeatureStore()).table  # doctest: +SKIP
>>> result = fusion.ablate(fusion.AblateConfig(data="C-NMC_training_data", output="result"))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.bundle import ModelBundle as ModelBundle
    from fusion.cells import Cell as Cell
    from fusion.config import AblateConfig as AblateConfig
    from fusion.config import EvaluateConfig as EvaluateConfig
    from fusion.config import PredictConfig as PredictConfig
    from fusion.config import TrainConfig as TrainConfig
    from fusion.datasets import Dataset as Dataset
    from fusion.datasets import load_dataset as load
    from fusion.errors import FusionError as FusionError
    from fusion.explain import explain_cell as explain_cell
    from fusion.extraction import extract as extract
    from fusion.layer import FusionLayer as FusionLayer
    from fusion.learning.fused_model import fuse as fuse
    from fusion.plugins import build_classifier as classifier
    from fusion.plugins import build_extractor as extractor
    from fusion.prediction import evaluate as evaluate
    from fusion.prediction import predict as predict
    from fusion.prediction import predict_cells as predict_cells
    from fusion.results import Result as Result
    from fusion.store import FeatureStore as FeatureStore
    from fusion.synthetic import synthesize as synthesize
    from fusion.table import FeatureTable as FeatureTable
    from fusion.workflows.ablate import ablate as ablate
    from fusion.workflows.train import train as train

#: Public name -> where it lives, and what it is called there.
_PUBLIC = {
    "AblateConfig": ("fusion.config", "AblateConfig"),
    "Cell": ("fusion.cells", "Cell"),
    "Dataset": ("fusion.datasets", "Dataset"),
    "EvaluateConfig": ("fusion.config", "EvaluateConfig"),
    "FeatureStore": ("fusion.store", "FeatureStore"),
    "FeatureTable": ("fusion.table", "FeatureTable"),
    "FusionError": ("fusion.errors", "FusionError"),
    "FusionLayer": ("fusion.layer", "FusionLayer"),
    "ModelBundle": ("fusion.bundle", "ModelBundle"),
    "PredictConfig": ("fusion.config", "PredictConfig"),
    "Result": ("fusion.results", "Result"),
    "TrainConfig": ("fusion.config", "TrainConfig"),
    "ablate": ("fusion.workflows.ablate", "ablate"),
    "classifier": ("fusion.plugins", "build_classifier"),
    "evaluate": ("fusion.prediction", "evaluate"),
    "explain_cell": ("fusion.explain", "explain_cell"),
    "extract": ("fusion.extraction", "extract"),
    "extractor": ("fusion.plugins", "build_extractor"),
    "fuse": ("fusion.learning.fused_model", "fuse"),
    "load": ("fusion.datasets", "load_dataset"),
    "predict": ("fusion.prediction", "predict"),
    "predict_cells": ("fusion.prediction", "predict_cells"),
    "synthesize": ("fusion.synthetic", "synthesize"),
    "train": ("fusion.workflows.train", "train"),
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fusion' has no attribute '{name}'")
    module, original = _PUBLIC[name]
    return getattr(import_module(module), original)


def __dir__() -> list[str]:
    return __all__
