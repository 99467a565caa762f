"""Which shares the classes have among the cells of a new site, without labels, with an interval, or that they cannot be
told.

A classifier's probabilities suppose the shares that it was made for. The shares under which the probabilities of all
cells together are likeliest are found by EM (Saerens, Latinne and Decaestecker 2002, Neural Computation 14:21-41; it
needs probabilities that are calibrated: Alexandari, Kundaje and Shrikumar 2020, ICML, 222-232). How far chance moves
them is told by the cells, taken by whole groups (the sandwich of White 1982, Econometrica 50:1-25).

But a classifier errs otherwise at another site, and no number of cells tells how. So no site counts for more than
``WORTH`` cells whose classes were known, and the interval of a class whose cells may be others' begins at 0: with that,
intervals of 95% hold the true share in real laboratories (docs/laboratories.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: As many cells of known classes say as much of a site's shares as all of its cells, by probabilities learnt elsewhere.
WORTH = 20

#: Fewer cells tell nothing of shares, nor is a new source described by them: a standard deviation of 10 is right within
#: a quarter.
LEAST_CELLS = 10

#: How sure, on average, the classifier has to be of the cells of a class, and of all. Nagin (2005), Group-based
#: Modeling of Development, 88: average posterior probabilities of 0.7.
_LEAST_SURE = 0.7

#: Share of cells that may be out of distribution.
_MOST_OUTSIDE = 0.5

_STEPS, _ARRIVED = 500, 1e-6

#: Share below which a class has none.
_NONE = 1e-4


@dataclass(frozen=True)
class ClassShares:
    """The shares of classes among the cells of one source.

    Attributes
    ----------
    source : its name, "" for cells without one.
    cells, groups : how many are there, and of how many groups that cannot be taken apart (subjects, say).
    classes : labels.
    shares, low, high : of each class, with an interval of 95%; empty where they cannot be told.
    refusal : why they cannot, "" where they can.
    """

    source: str
    cells: int
    groups: int
    classes: tuple[str, ...]
    shares: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    refusal: str = ""

    @classmethod
    def of(
        cls,
        source: str,
        classes: Sequence[str],
        proba: _Floats,
        supposed: _Floats,
        groups: NDArray[np.intp],
        outside: NDArray[np.bool_] | None = None,
    ) -> Self:
        """From what a classifier says of the cells.

        Parameters
        ----------
        proba : float64 (n, classes), of all cells of the source.
        supposed : float64 (classes,), the shares of classes that the probabilities suppose.
        groups : intp (n,).
        outside : bool (n,), which cells are out of distribution; None where that is not known.

        Examples
        --------
        >>> proba = np.repeat([[0.95, 0.05], [0.05, 0.95]], [80, 20], axis=0)  # by equal shares
        >>> ClassShares.of("b", ["all", "hem"], proba, np.array([0.5, 0.5]), np.arange(100)).line
        "Estimated shares of classes in 'b', 95% intervals: all 83% [59%, 95%], hem 17% [5%, 41%]."
        """
        own = cls(source, len(proba), len(np.unique(groups)), tuple(classes))
        if len(proba) < LEAST_CELLS:
            return own._without(f"fewer than {LEAST_CELLS} cells")
        if outside is not None and outside.mean() > _MOST_OUTSIDE:
            return own._without(f"{int(outside.sum())} of {len(outside)} cells are out of distribution")
        ratios = proba / supposed
        shares = _likeliest(ratios)
        found = ratios * shares
        found /= found.sum(axis=1, keepdims=True)
        if (found**2).sum() < _LEAST_SURE * len(found):
            return own._without("the model is too unsure of their classes")
        sure = (found**2).sum(axis=0) / np.maximum(found.sum(axis=0), 1e-12)
        low, high = _intervals(ratios, shares, groups)
        low = np.where(sure < _LEAST_SURE, 0.0, low)
        told, bottom, top = (tuple(values.tolist()) for values in (shares, low, high))
        return replace(own, shares=told, low=bottom, high=top)

    def _without(self, why: str) -> Self:
        return replace(self, refusal=why)

    @property
    def line(self) -> str:
        """The same for a person."""
        who = f"'{self.source}'" if self.source else "cells without a source"
        if self.refusal:
            return f"Shares of classes in {who} cannot be told beyond what is predicted: {self.refusal}."
        parts = [
            f"{label} {share:.0%} [{low:.0%}, {high:.0%}]"
            for label, share, low, high in zip(self.classes, self.shares, self.low, self.high, strict=True)
        ]
        return f"Estimated shares of classes in {who}, 95% intervals: {', '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``None`` for shares that cannot be told."""
        told = [
            {"class": label, "share": share, "low": low, "high": high}
            for label, share, low, high in zip(self.classes, self.shares, self.low, self.high, strict=False)
        ]
        about = asdict(self)
        return {
            **{name: about[name] for name in ("source", "cells", "groups")},
            "shares": told or None,
            "refusal": self.refusal or None,
        }


def _likeliest(ratios: _Floats) -> _Floats:
    """float64 (classes,): shares of the greatest likelihood, by densities (n, classes) up to a factor for each cell."""
    shares = np.full(ratios.shape[1], 1 / ratios.shape[1])
    for _ in range(_STEPS):
        before = shares
        shares = shares * (ratios / (ratios @ shares)[:, None]).mean(axis=0)
        if np.abs(shares - before).max() < _ARRIVED:
            break
    return shares / shares.sum()


def _intervals(ratios: _Floats, shares: _Floats, groups: NDArray[np.intp]) -> tuple[_Floats, _Floats]:
    """Score intervals (Wilson 1927, J. Am. Statist. Assoc. 22:209-212) of as many cells as the site is worth."""
    from scipy.stats import t

    n, count = len(ratios), len(np.unique(groups))
    # A single subject's cells say nothing of others: then the interval is of its own.
    own = np.unique(groups, return_inverse=True)[1] if count > 1 else np.arange(n)
    count = count if count > 1 else n
    variance = _variance(ratios, shares, own, count)
    spread = np.maximum(shares * (1 - shares), 0.25 / n)
    cells = np.minimum(n, spread / np.maximum(variance, 1e-12))
    worth = 1 / (1 / cells + 1 / WORTH)
    square = float(t.ppf(0.975, count - 1)) ** 2
    middle = (shares + square / (2 * worth)) / (1 + square / worth)
    half = np.sqrt(square * (shares * (1 - shares) / worth + square / (4 * worth**2))) / (1 + square / worth)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _variance(ratios: _Floats, shares: _Floats, groups: NDArray[np.intp], count: int) -> _Floats:
    """float64 (classes,): of the shares by chance, groups drawn whole; 0 of a class that has none."""
    has = np.flatnonzero(shares > _NONE)
    variance = np.zeros(len(shares))
    if len(has) < 2:
        return variance
    scores = ratios[:, has] / (ratios @ shares)[:, None]
    # Shares sum to 1: along directions that keep it so.
    along = np.linalg.svd(np.ones((1, len(has))))[2][1:].T
    ways = scores @ along
    sums = np.zeros((count, ways.shape[1]))
    np.add.at(sums, groups, ways)
    inverse = np.linalg.pinv(ways.T @ ways)
    covariance = along @ inverse @ (sums.T @ sums) @ inverse @ along.T * count / (count - 1)
    variance[has] = np.diag(covariance)
    return variance
