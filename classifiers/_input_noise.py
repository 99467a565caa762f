"""Training with noise on the inputs: copies of the cells, each moved at random by a share of the columns' spread.

A tree cuts at the value that parts the training cells, however near they lie to it. Of copies that lie around the cells
it learns cuts that hold in their neighbourhood, which is what remains of a cut where columns of another laboratory
differ a little. For a smooth model it is a penalty on its slope (Bishop 1995, Neural Computation 7:108-116).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

#: Copies of a cell, each with noise of its own.
COPIES = 8


def noisy_copies(X: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """float32 (COPIES n, d): all cells in turn, COPIES times, with normal noise on every column.

    Parameters
    ----------
    X : float32 (n, d), NaN where undefined, which stays.
    share : standard deviation of the noise, as a share of the column's own.
    seed : of the noise.
    """
    with np.errstate(invalid="ignore"):  # a column that is all undefined
        variance = np.nan_to_num(StandardScaler().fit(X).var_)
    spread = (share * np.sqrt(variance)).astype(np.float32)
    draw = np.random.default_rng(seed)
    return np.concatenate([X + spread * draw.standard_normal(X.shape, np.float32) for _ in range(COPIES)])
