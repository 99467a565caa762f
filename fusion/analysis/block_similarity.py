"""linear CKA of two blocks, whatever the labels are."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable


def redundancy(table: FeatureTable) -> list[dict[str, Any]]:
    """Plain values, a row a pair of blocks: {"pair": [name, name], "cka": 0 to 1}, the most alike first.

    Columns are standardised as in the fusion layer, so that units play no part. Labels are not looked at.
    """
    from fusion.feature_transforms.fusion_layer import FusionLayer

    parts = {}
    for name, part in table.blocks.items():
        layer = FusionLayer(blocks={name: list(range(part.stop - part.start))}, weights="none")
        parts[name] = layer.fit_transform(table.X[:, part])
    rows = [
        {"pair": [one, other], "cka": linear_cka(parts[one], parts[other])} for one, other in combinations(parts, 2)
    ]
    return sorted(rows, key=lambda row: -row["cka"] if row["cka"] == row["cka"] else 2.0)


def linear_cka(X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """Linear centred kernel alignment of two sets of features of the same n cells.

    1 where cells lie alike in both but for rotation and scale, 0 where nothing linear in one is in the other; NaN where
    one does not vary. From the unbiased estimate of HSIC: with a thousand columns and a few hundred cells the plain one
    is near 1 for noise too; this one is near 0, and may be a little below it.
    Source: Kornblith, Norouzi, Lee and Hinton (2019), ICML, 3519-3529, equation 7; Song et al. (2012), JMLR
    13:1393-1434, equation 5.

    Parameters
    ----------
    X, Y : float64 (n, p) and (n, q), n at least 4.

    Raises
    ------
    ValueError : other numbers of rows, or fewer than 4.
    """
    if len(X) != len(Y) or len(X) < 4:
        raise ValueError(f"the same 4 or more cells are needed, not {len(X)} and {len(Y)}")
    K, L = (_without_diagonal(part) for part in (X, Y))
    both, one, other = _hsic(K, L), _hsic(K, K), _hsic(L, L)
    return both / float(np.sqrt(one * other)) if one > 0 and other > 0 else float("nan")


def _without_diagonal(X: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = X @ X.T
    np.fill_diagonal(kernel, 0)
    return kernel


def _hsic(K: NDArray[np.float64], L: NDArray[np.float64]) -> float:
    n = len(K)
    of_rows, others = K.sum(axis=1), L.sum(axis=1)
    trace = float(np.einsum("ij,ij->", K, L))
    apart = float(of_rows.sum() * others.sum()) / ((n - 1) * (n - 2))
    shared = 2 * float(of_rows @ others) / (n - 2)
    return (trace + apart - shared) / (n * (n - 3))
