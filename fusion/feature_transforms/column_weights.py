"""The weights of the fusion layer, for classifiers that know no scale but draw columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fusion.feature_transforms.fusion_layer import FusionLayer


def column_weights(layer: FusionLayer) -> NDArray[np.float64] | None:
    """float64 (d,): the share of the variance that a layer's weights and emphasis would give to each column.

    None where it asks for neither: blocks that weigh alike are right for distances, where a large block is else all
    that counts; trees choose by themselves, and at home lose more by looking less at a large block than they gain.

    Parameters
    ----------
    layer : whose ``blocks`` are all of the d columns; not fitted.

    Examples
    --------
    >>> blocks = {"size": [0], "colour": [1, 2]}
    >>> column_weights(FusionLayer(blocks, weights={"colour": 0.5}))
    array([0.8, 0.1, 0.1])
    """
    blocks, factors = layer.blocks, layer.weights if isinstance(layer.weights, Mapping) else {}
    if blocks is None or not (factors or layer.emphasis is not None):
        return None
    found = np.empty(sum(map(len, blocks.values())))
    for name, columns in blocks.items():
        own = np.full(len(columns), 1 / len(columns))
        chosen = np.isin(np.arange(len(columns)), (layer.emphasised or {}).get(name, ()))
        if layer.emphasis is not None and 0 < chosen.sum() < len(columns):
            own = np.where(chosen, layer.emphasis / chosen.sum(), (1 - layer.emphasis) / (~chosen).sum())
        total = len(columns) if layer.weights == "none" else float(factors.get(name, 1.0)) ** 2
        found[list(columns)] = own * total
    return np.asarray(found / found.sum(), np.float64)
