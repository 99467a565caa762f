"""How each feature is spread over the training cells of each class, in a few numbers, to hold one value to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Quantiles that are kept: every 2.5%, between which values are taken as evenly spread. A class of 1,000 columns needs
#: 160 kB.
LEVELS = np.linspace(0, 1, 41)


@dataclass(frozen=True, eq=False)
class Reference:
    """Quantiles of the training part.

    Attributes
    ----------
    quantiles : float32 (classes, levels, d), of the defined values at ``LEVELS``; NaN where a class has none.
    typical : float32 (d,), the median over all classes; NaN where no cell has a value.
    counts : how many cells of each class there were.
    """

    quantiles: NDArray[np.float32]
    typical: NDArray[np.float32]
    counts: tuple[int, ...]

    def medians(self, column: int) -> NDArray[np.float64]:
        """float64 (classes,), the median of each class."""
        return self.quantiles[:, len(LEVELS) // 2, column].astype(np.float64)

    def spreads(self, column: int) -> NDArray[np.float64]:
        """float64 (classes, 5): the values that 5, 25, 50, 75 and 95% of each class lie below."""
        at = [int(np.flatnonzero(np.isclose(LEVELS, level))[0]) for level in (0.05, 0.25, 0.5, 0.75, 0.95)]
        return self.quantiles[:, at, column].astype(np.float64)

    def shares_below(self, column: int, value: float) -> NDArray[np.float64]:
        """float64 (classes,), the share of each class's cells whose value is below; half of those that equal it count.

        NaN where the value or the class has none.
        """
        found = np.full(len(self.quantiles), np.nan)
        for at, steps in enumerate(self.quantiles[:, :, column].astype(np.float64)):
            if np.isnan(value) or np.isnan(steps).any():
                continue
            first, last = np.searchsorted(steps, value, "left"), np.searchsorted(steps, value, "right")
            if last > first:  # the value is a quantile itself, or several of them
                found[at] = (LEVELS[first] + LEVELS[last - 1]) / 2
            else:
                found[at] = np.interp(value, steps, LEVELS)
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays that ``from_state`` makes it of again."""
        return {"quantiles": self.quantiles, "typical": self.typical, "counts": np.array(self.counts)}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What ``state`` gave.

        Raises
        ------
        ValueError, KeyError, TypeError : it did not.
        """
        quantiles, typical = arrays["quantiles"], arrays["typical"]
        counts = tuple(int(count) for count in arrays["counts"])
        if quantiles.shape != (len(counts), len(LEVELS), len(typical)) or np.isinf(quantiles).any():
            raise ValueError("the stored quantiles of the training cells do not fit together")
        return cls(quantiles, typical, counts)


def learn_reference(X: NDArray[np.float32], y: Sequence[str | None], classes: Sequence[str]) -> Reference:
    """The quantiles of float32 (n, d), NaN allowed, with n labels."""
    import warnings

    labels = np.array(y, object)
    with warnings.catch_warnings():
        # A column without a value has no quantiles; NaN says so.
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        quantiles = [np.nanquantile(X[labels == label], LEVELS, axis=0) for label in classes]
        typical = np.nanmedian(X, axis=0)
    counts = tuple(int((labels == label).sum()) for label in classes)
    return Reference(np.array(quantiles, np.float32), typical.astype(np.float32), counts)
