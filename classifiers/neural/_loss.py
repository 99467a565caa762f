"""What training makes small. Targets are shares of the classes (N, K), so that mixed images have mixed targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("focal", "cross_entropy")


def targets(codes: Tensor, classes: int, smoothing: float) -> Tensor:
    """float (N, classes): 1 for the class, moved towards equal shares by ``smoothing``."""
    return functional.one_hot(codes, classes).float() * (1 - smoothing) + smoothing / classes


def cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean over cells of -sum t log p."""
    return functional.cross_entropy(logits, shares)


def focal_loss(logits: Tensor, shares: Tensor, alpha: float | Sequence[float], gamma: float) -> Tensor:
    """Mean over cells of -sum alpha t (1 - p)**gamma log p: cells that are distinguished already count little.

    ``alpha`` is one factor for all classes, as in the published code, or one a class in the order of the classes.
    Source: Lin et al. (2017), Focal loss for dense object detection, ICCV, equation 5.
    """
    log_p = functional.log_softmax(logits, dim=1)
    weight = torch.as_tensor(alpha, dtype=logits.dtype, device=logits.device)
    return -(weight * shares * (1 - log_p.exp()) ** gamma * log_p).sum(1).mean()
