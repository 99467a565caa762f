"""A model saved and loaded without pickle, and what is done with it.

The model folder and its checks, inference on cells that are not labelled, and the same model as one ONNX file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.bundles.bundle_files import BundleError as BundleError
    from fusion.bundles.inference import ask as ask
    from fusion.bundles.inference import harmonisation_notes as harmonisation_notes
    from fusion.bundles.inference import judge_study as judge_study
    from fusion.bundles.inference import predict_cells as predict_cells
    from fusion.bundles.model_bundle import ModelBundle as ModelBundle
    from fusion.bundles.model_bundle import check_writable as check_writable
    from fusion.bundles.model_bundle import load_model as load_model
    from fusion.bundles.onnx_export import export_onnx as export_onnx
    from fusion.bundles.onnx_graph import Graph as Graph

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "bundle_files": ["BundleError"],
        "inference": ["ask", "harmonisation_notes", "judge_study", "predict_cells"],
        "model_bundle": ["ModelBundle", "check_writable", "load_model"],
        "onnx_export": ["export_onnx"],
        "onnx_graph": ["Graph"],
    },
)
