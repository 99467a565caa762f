"""linear CKA of two blocks, whatever the labels are."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of

#: Draws of one cell of every group: what two blocks share is then known to a hundredth of its interval.
_DRAWS = 100

#: Groups that the estimate needs at least.
_FEWEST = 4


def redundancy(table: FeatureTable, seed: int = 0) -> list[dict[str, Any]]:
    """How alike two blocks place the cells, the most alike first.

    Columns are standardised as in the fusion layer, so that units play no part. Labels are not looked at.

    Returns
    -------
    Plain values, a row a pair of blocks: {"pair": [name, name], "cka", "low", "high", "groups", "note"}, see
    ``cka_of_groups``; NaN with the reason in "note" where there are fewer than four groups or a block does not vary.
    """
    from fusion.feature_transforms.fusion_layer import FusionLayer

    parts = {}
    for name, part in table.blocks.items():
        layer = FusionLayer(blocks={name: list(range(part.stop - part.start))}, weights="none")
        parts[name] = layer.fit_transform(table.X[:, part])
    n_groups = len(np.unique(table.groups))
    rows = []
    for one, other in combinations(parts, 2):
        value, low, high = cka_of_groups(parts[one], parts[other], table.groups, seed)
        note = ""
        if np.isnan(value):
            few = n_groups < _FEWEST
            note = f"cells of {_FEWEST} or more groups are needed, not {n_groups}" if few else "a block does not vary"
        found = {"pair": [one, other], "cka": value, "low": low, "high": high, "groups": n_groups, "note": note}
        rows.append(found)
    return sorted(rows, key=lambda row: -row["cka"] if row["cka"] == row["cka"] else 2.0)


def cka_of_groups(
    X: NDArray[np.float64], Y: NDArray[np.float64], groups: NDArray[np.intp], seed: int = 0
) -> tuple[float, float, float]:
    """Linear CKA over cells of different groups (subjects), with its 95% interval over groups.

    Cells of a subject are alike in every block, whatever a block measures: over all cells, two blocks that share
    nothing but the subjects have a CKA of .4. One cell of every group is drawn, many times over; the estimates of HSIC
    are averaged over draws. The interval leaves each group out (``metrics.jackknife``).

    Parameters
    ----------
    X, Y : float64 (n, p) and (n, q).
    groups : intp (n,); where each cell is its own group, there is one draw.

    Returns
    -------
    The value and its bounds; NaN where there are fewer than four groups, or one does not vary.
    """
    ids = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(ids)
    if len(sizes) < _FEWEST:
        return float("nan"), float("nan"), float("nan")
    order, first = np.argsort(ids, kind="stable"), np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    draws = 1 if len(sizes) == len(ids) else _DRAWS
    whole, without = np.zeros(3), np.zeros((3, len(sizes)))
    for _ in range(draws):
        drawn = order[first + rng.integers(sizes)]
        K, L = (_without_diagonal(part[drawn]) for part in (X, Y))
        for at, (one, other) in enumerate(((K, L), (K, K), (L, L))):
            whole[at] += _hsic(one, other)
            without[at] += _hsic_left_out(one, other) if len(sizes) > _FEWEST else np.nan
    value, left_out = _aligned(whole), _aligned(without)
    strata = Strata.from_counts(np.ones((len(sizes), 1)), ["any"])
    spread = spread_of(influences(left_out[:, None], strata), strata)
    low, high, _ = intervals([value], spread, [len(sizes)], -1.0, 1.0)
    return float(value), float(low[0]), float(high[0])


def _aligned(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """``both / sqrt(one * other)`` of three estimates of HSIC; NaN where one does not vary."""
    both, one, other = sums
    varies = (one > 0) & (other > 0)
    found = np.divide(both, np.sqrt(np.where(varies, one * other, 1)))
    return np.where(varies, np.clip(found, -1, 1), np.nan)


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


def _hsic_left_out(K: NDArray[np.float64], L: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (n,): ``_hsic`` without each cell in turn."""
    n = len(K) - 1
    of_rows, others, products = K.sum(axis=1), L.sum(axis=1), np.einsum("ij,ij->i", K, L)
    trace = products.sum() - 2 * products
    apart = (of_rows.sum() - 2 * of_rows) * (others.sum() - 2 * others) / ((n - 1) * (n - 2))
    rows = of_rows @ others - of_rows * others - L @ of_rows - K @ others + products
    return (trace + apart - 2 * rows / (n - 2)) / (n * (n - 3))
