"""XGBoost's external memory: a matrix read batch by batch, its bins cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from classifiers._row_batches import Batched


class _Batches(xgboost.DataIter):
    def __init__(self, X: Batched, codes: NDArray[np.intp], weights: NDArray[np.float64], folder: Path) -> None:
        self._X, self._codes, self._weights = X, codes, weights
        self._at, self._left = 0, X.batches()
        super().__init__(cache_prefix=str(folder / "bins"))

    def next(self, input_data: Callable[..., Any]) -> bool:
        batch = next(self._left, None)
        if batch is None:
            return False
        if np.isinf(batch).any():
            raise ValueError("Input X contains infinity")
        part = slice(self._at, self._at + len(batch))
        self._at = part.stop
        input_data(data=batch, label=self._codes[part], weight=self._weights[part])
        return True

    def reset(self) -> None:
        self._at, self._left = 0, self._X.batches()


def binned(
    X: Batched,
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    folder: Path,
    *,
    max_bin: int,
    threads: int,
    like: xgboost.QuantileDMatrix | None = None,
) -> xgboost.ExtMemQuantileDMatrix:
    """The matrix in bins, those of ``like`` where there is one; they lie in ``folder`` as long as it is used.

    Raises
    ------
    ValueError : inf.
    """
    batches = _Batches(X, codes, weights, folder)
    return xgboost.ExtMemQuantileDMatrix(batches, max_bin=max_bin, nthread=threads, ref=like)
