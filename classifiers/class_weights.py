"""Class weights and inner folds, the same for every classifier here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def balanced_weights(y: NDArray[np.intp]) -> NDArray[np.float64]:
    """float64 (n,): every class weighs the same in sum, and the mean weight is 1.

    Probabilities of a classifier trained with them mean "if both classes were equally common", which is what
    balanced accuracy asks; a data set's own class shares say more about how it was collected than about a cell.
    """
    counts = np.bincount(y)
    return (len(y) / (np.count_nonzero(counts) * counts.clip(1)))[y]


def inner_folds(
    y: NDArray[np.intp], groups: ArrayLike | None, n_splits: int, seed: int | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(train, test) index pairs that partition the rows, stratified, no group on both sides.

    Fewer folds where a class has fewer groups. A class of a single group cannot be held out as a whole: then, and
    only then, rows are split regardless of groups, as they are where no groups are given.

    Raises
    ------
    ValueError : a class with a single row.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rows = np.bincount(y)
    if rows[rows > 0].min() < 2:
        raise ValueError("every class needs at least 2 samples; one class has a single sample")
    if groups is not None:
        ids = np.asarray(groups)
        affordable = min(len(np.unique(ids[y == label])) for label in np.unique(y))
        if affordable >= 2:
            splitter = StratifiedGroupKFold(min(n_splits, affordable), shuffle=True, random_state=seed)
            folds = list(splitter.split(y, y, ids))
            if all(len(np.unique(y[train])) == len(np.unique(y)) for train, _ in folds):
                return folds
    splitter = StratifiedKFold(int(min(n_splits, rows[rows > 0].min())), shuffle=True, random_state=seed)
    return list(splitter.split(y, y))
