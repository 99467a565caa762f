"""A map of the cells: their first two principal components in fused feature space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.features.stored_matrix import rows_of

#: Cells on a map: more are one cloud, and make the page of a result heavy.
CELLS = 3000


def cell_map(table: FeatureTable, judged: NDArray[np.intp], seed: int = 0) -> dict[str, Any] | None:
    """Where cells lie by the two directions in which their fused features vary most (PCA).

    Fitted on these very cells and without labels, for looking alone: nothing that is judged may stand on it.

    Parameters
    ----------
    table : the cells, with the blocks that are fused.
    judged : rows that may be shown; of more than ``CELLS`` as many are drawn.

    Returns
    -------
    Plain values: "features", the blocks; "judged", how many cells there were; "variance", the two shares of all
    variance; "points", a row of the table and two coordinates for each cell; "explained", by what is known of the cells
    ("class", "source", "subject" or "group"), the share of the spread over both axes that lies between its values,
    adjusted for their number (epsilon squared; Kelley 1935, PNAS 21:554-559). None for fewer than three cells or
    features.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    >>> cells = FeatureTable.of_cells(X, [f"size.{at}" for at in range(4)], [f"{at}.png" for at in range(20)])
    >>> len(cell_map(cells, np.arange(20))["points"])
    20
    """
    from sklearn.decomposition import PCA

    from fusion.feature_transforms.fusion_layer import FusionLayer

    if len(judged) < 3 or len(table.columns) < 3:
        return None
    drawn = np.random.default_rng(seed).permutation(judged)[:CELLS] if len(judged) > CELLS else judged
    drawn = np.sort(drawn)
    columns = {name: list(range(part.start, part.stop)) for name, part in table.blocks.items()}
    fused = FusionLayer(blocks=columns, random_state=seed).fit_transform(rows_of(table.X, drawn)[:])
    if not fused.any():
        return None
    pca = PCA(2, svd_solver="randomized", random_state=seed)
    places = pca.fit_transform(fused)
    # One sign of two that are equally good, so that a map is the same on every machine.
    places *= np.where(np.abs(places.min(axis=0)) > places.max(axis=0), -1, 1)
    known: dict[str, Sequence[object]] = {"class": table.y, "source": table.sources}
    if table.unit != "image":
        known[table.unit] = table.subject_names if table.unit == "subject" else table.group_ids
    return {
        "features": list(table.blocks),
        "judged": len(judged),
        "variance": [round(float(share), 4) for share in pca.explained_variance_ratio_],
        "points": [[int(row), float(f"{x:.4g}"), float(f"{y:.4g}")] for row, (x, y) in zip(drawn, places, strict=True)],
        "explained": {
            name: share
            for name, values in known.items()
            if (share := _explained(places, [values[row] for row in drawn])) is not None
        },
    }


def _explained(places: NDArray[np.float64], values: Sequence[object]) -> float | None:
    """Epsilon squared of both axes together; None where there are fewer than two values, or as many as cells."""
    kept = np.array([value is not None for value in values])
    names, codes = np.unique([str(value) for value in values if value is not None], return_inverse=True)
    n, k = int(kept.sum()), len(names)
    if k < 2 or n <= k:
        return None
    shown = places[kept]
    sums = np.stack([np.bincount(codes, column, k) for column in shown.T], axis=1)
    middles = sums / np.bincount(codes, minlength=k)[:, None]
    within = float(((shown - middles[codes]) ** 2).sum()) / (n - k)
    whole = float(((shown - shown.mean(axis=0)) ** 2).sum()) / (n - 1)
    return round(1 - within / whole, 3) if whole else None
