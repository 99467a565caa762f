"""The end-to-end network: the backbone of the extractor ``cnn``, a fusion layer for feature blocks, and a head.

Network, training loop, schedules, augmentation on the device, class activation maps, and storage as safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from classifiers.neural.augmentation import Augmentation as Augmentation
    from classifiers.neural.augmentation import augment as augment
    from classifiers.neural.estimator import NeuralClassifier as NeuralClassifier

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "augmentation": ["Augmentation", "augment"],
        "estimator": ["NeuralClassifier"],
    },
)
