"""What changes a cell's image before it is measured.

Normalisation of stain, light and scale, and data augmentation as other sites would show a cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.image_transforms.augmentation import draw as draw
    from fusion.image_transforms.dataset_transforms import Normalised as Normalised
    from fusion.image_transforms.dataset_transforms import as_trained as as_trained
    from fusion.image_transforms.dataset_transforms import cells_as_trained as cells_as_trained
    from fusion.image_transforms.dataset_transforms import normalise as normalise
    from fusion.image_transforms.dataset_transforms import stated as stated
    from fusion.image_transforms.normaliser import Normaliser as Normaliser

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "augmentation": ["draw"],
        "dataset_transforms": ["Normalised", "as_trained", "cells_as_trained", "normalise", "stated"],
        "normaliser": ["Normaliser"],
    },
)
