"""Where in an image the network looks: maps over its last feature map, enlarged to the image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from classifiers.neural.network import Network

#: "channels": the sum over channels of the feature map times the gates of squeeze and excitation, as published; it is
#: the same whatever the class. "grad-cam" (Selvaraju et al. 2017, ICCV): every channel counts by the mean gradient of
#: the class's logit. "layer-cam" (Jiang et al. 2021, IEEE TIP 30:5875): by the positive gradient at every place.
METHODS = ("channels", "grad-cam", "layer-cam")


def attention_maps(
    network: Network, images: NDArray[np.uint8], X: Tensor, method: str, target: int | None = None
) -> NDArray[np.float32]:
    """float32 (N, S, S) in [0, 1] over images: what in them speaks for a class; a map's largest value is 1.

    Parameters
    ----------
    network : with a backbone that has a feature map, in evaluation mode.
    images : uint8 (N, S, S, 3).
    X : float (N, d), their features.
    method : one of ``METHODS``.
    target : number of the class; None is the one that the network finds in each cell.

    Returns
    -------
    The maps; all 0 where nothing speaks for the class.

    Raises
    ------
    ValueError : an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be {', '.join(METHODS)}, not {method!r}")
    backbone = network.backbone
    assert backbone is not None
    with torch.no_grad():
        feature_map = backbone.feature_map(backbone.prepare(images))
    if method == "channels":
        places = feature_map.sum(1)
        places = places - places.amin((1, 2), keepdim=True)
    else:
        gradient = _gradient(network, X, feature_map, target)
        gradient = gradient.mean((2, 3), keepdim=True) if method == "grad-cam" else gradient.relu()
        places = (gradient * feature_map).sum(1).relu()
    largest = places.amax((1, 2), keepdim=True)
    places = places / torch.where(largest > 0, largest, torch.ones_like(largest))
    size = images.shape[1]
    whole = functional.interpolate(places[:, None].float(), (size, size), mode="bilinear", align_corners=False)
    return whole[:, 0].clamp(0, 1).cpu().numpy()


def _gradient(network: Network, X: Tensor, feature_map: Tensor, target: int | None) -> Tensor:
    """(N, C, H, W): how the class's logit changes with the feature map."""
    with torch.enable_grad():
        feature_map = feature_map.detach().requires_grad_()
        logits = network.judge_map(X, feature_map).logits
        # Each cell's logit depends on its own map alone, so one pass gives the gradients of all.
        chosen = logits.amax(1) if target is None else logits[:, target]
        (gradient,) = torch.autograd.grad(chosen.sum(), feature_map)
    return gradient
