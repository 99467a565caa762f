"""Blocks scaled once in a split, and concatenated for every set of them.

The fusion layer fills, scales, clips and reduces each block by itself; only the weight depends on which blocks are
fused. Medians and deviations of a thousand columns cost more than a logistic regression on them, and each block is in
half of all sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaledBlock:
    """One block of one split as the fusion layer scales it, not yet weighted.

    Attributes
    ----------
    train, test : float64 (n, d).
    variances : float64 (d,), of the outgoing columns in the training part.
    """

    train: _Floats
    test: _Floats
    variances: _Floats


def scale_block(
    X: NDArray[np.float32], name: str, train: NDArray[np.intp], test: NDArray[np.intp], layer: Mapping[str, Any]
) -> ScaledBlock:
    """Fit the layer on the training rows of one block's columns, and transform both parts.

    Parameters
    ----------
    X : float32 (n, d) of the block alone, NaN allowed.
    name : of the block, by which ``layer`` may name it.
    train, test : row numbers.
    layer : parameters of the fusion layer.
    """
    from fusion.feature_transforms.fusion_layer import FusionLayer

    scaler = FusionLayer(blocks={name: list(range(X.shape[1]))}, **{**layer, "weights": "none"})
    train_rows = scaler.fit_transform(X[train])
    return ScaledBlock(train_rows, scaler.transform(X[test]), train_rows.var(axis=0))


class ScaledBlocks:
    """Every block of one split scaled, from which the rows fused from any set of blocks are had at once.

    Parameters are those of ``SharedDistances``; the rows are those of a ``FusionLayer`` to the last bit but one.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        blocks: Mapping[str, slice],
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        layer: Mapping[str, Any],
    ) -> None:
        self._weights = layer.get("weights", "equal")
        self._blocks = {name: scale_block(X[:, part], name, train, test, layer) for name, part in blocks.items()}

    def of(self, names: Sequence[str]) -> tuple[_Floats, _Floats]:
        """float64 (n, d) of the training and of the test part, fused from these blocks."""
        from fusion.feature_transforms.fusion_layer import block_weights

        blocks = [self._blocks[name] for name in names]
        weights = block_weights(self._weights, names, [block.variances for block in blocks])
        return (
            np.hstack([block.train * weight for block, weight in zip(blocks, weights, strict=True)]),
            np.hstack([block.test * weight for block, weight in zip(blocks, weights, strict=True)]),
        )

    def columns(self, names: Sequence[str]) -> list[slice]:
        """Where each of these blocks lies in rows that are fused from them."""
        ends = np.cumsum([0, *(len(self._blocks[name].variances) for name in names)]).tolist()
        return [slice(start, stop) for start, stop in pairwise(ends)]
