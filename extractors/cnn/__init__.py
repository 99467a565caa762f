"""The embedding of a neural network, any of timm's or one's own weights.

In one direction: weights file, what timm publishes, configuration, backbone, ONNX Runtime, extractor. What the
features depend on is settled without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.cnn.backbone import Backbone as Backbone
    from extractors.cnn.backbone import gives_map as gives_map
    from extractors.cnn.backbone import load_backbone as load_backbone
    from extractors.cnn.backbone import misfits as misfits
    from extractors.cnn.backbone import save_backbone as save_backbone
    from extractors.cnn.backbone import untrained_backbone as untrained_backbone
    from extractors.cnn.extractor import Embedding as Embedding
    from extractors.cnn.input_transform import InputTransform as InputTransform

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "backbone": ["Backbone", "gives_map", "load_backbone", "misfits", "save_backbone", "untrained_backbone"],
        "extractor": ["Embedding"],
        "input_transform": ["InputTransform"],
    },
)
