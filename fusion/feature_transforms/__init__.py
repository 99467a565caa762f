"""Transformers over feature matrices, by scikit-learn's rules.

The fusion layer (impute, scale, reduce, weigh, concatenate), harmonisation of sites, and the choice of features that
do not tell sites apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.feature_transforms.block_columns import block_slices as block_slices
    from fusion.feature_transforms.fusion_layer import FusionLayer as FusionLayer
    from fusion.feature_transforms.fusion_layer import block_weights as block_weights
    from fusion.feature_transforms.harmonisation import Harmoniser as Harmoniser
    from fusion.feature_transforms.stable_features import Selection as Selection
    from fusion.feature_transforms.stable_features import selection_notes as selection_notes

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "block_columns": ["block_slices"],
        "fusion_layer": ["FusionLayer", "block_weights"],
        "harmonisation": ["Harmoniser"],
        "stable_features": ["Selection", "selection_notes"],
    },
)
