"""The embedding of a neural network, any of timm's or one's own weights.

In one direction: weights file, what timm publishes, configuration, backbone, ONNX Runtime, extractor. What the
features depend on is settled without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.cnn.backbone import Trunk as Trunk
    from extractors.cnn.backbone import gives_map as gives_map
    from extractors.cnn.backbone import load_trunk as load_trunk
    from extractors.cnn.backbone import misfits as misfits
    from extractors.cnn.backbone import save_trunk as save_trunk
    from extractors.cnn.backbone import untrained_trunk as untrained_trunk
    from extractors.cnn.extractor import Embedding as Embedding
    from extractors.cnn.input_transform import Eye as Eye

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "backbone": ["Trunk", "gives_map", "load_trunk", "misfits", "save_trunk", "untrained_trunk"],
        "extractor": ["Embedding"],
        "input_transform": ["Eye"],
    },
)
