"""What tells the features of a source: of every column the mean and standard deviation, or the whole distribution.

Cells may count for more or less. What describes the cells of several classes together follows from what describes
those of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.metrics.class_shares import LEAST_CELLS

ScoredRows = NDArray[np.float64]

#: Quantiles that stand for a distribution: with 33, three per cent of the cells lie between two.
_QUANTILES = np.linspace(0, 1, 33)


def class_shares(labels: NDArray[np.intp]) -> ScoredRows:
    """float64 (n,), of sum 1: what each cell counts for, so that classes of ``LEAST_CELLS`` cells or more count alike.

    A smaller class counts for so much less: one odd cell must not stand for a class.
    """
    return shares_of(np.eye(labels.max() + 1)[labels])


def shares_of(responsibilities: ScoredRows) -> ScoredRows:
    """The same of float64 (n, classes), how far each cell is of each class."""
    counts = responsibilities.sum(axis=0)
    shares = responsibilities @ (np.minimum(counts, LEAST_CELLS) / np.maximum(counts, 1e-9))
    return np.asarray(shares / shares.sum(), np.float64)


def describe(
    method: str, X: ScoredRows, shares: ScoredRows, whole: Mapping[str, ScoredRows] | None = None
) -> dict[str, ScoredRows]:
    """What a method needs of rows in their own order; where a column has no value, what it has in ``whole``."""
    return complete(describe_raw(method, X, shares), whole)


def describe_raw(method: str, X: ScoredRows, shares: ScoredRows) -> dict[str, ScoredRows]:
    """The same as it is, with "known" (d,), the share of what cells count for that have a value."""
    return _moments(X, shares) if method == "standard" else _quantiles(X, shares)


def complete(raw: Mapping[str, ScoredRows], whole: Mapping[str, ScoredRows] | None) -> dict[str, ScoredRows]:
    """What a method needs, of what ``describe_raw`` gave."""
    has = raw["known"] > 0
    if "quantiles" in raw:
        return {"quantiles": raw["quantiles"] if whole is None else np.where(has, raw["quantiles"], whole["quantiles"])}
    centre, spread = raw["centre"], raw["spread"]
    # What does not vary is moved, not stretched.
    flat = spread <= 1e-6 * np.maximum(np.abs(centre), 1e-30)
    stretch = np.where(flat, 1.0 if whole is None else whole["spread"], spread)
    return {"centre": centre if whole is None else np.where(has, centre, whole["centre"]), "spread": stretch}


def pool(method: str, parts: Sequence[Mapping[str, ScoredRows]]) -> dict[str, ScoredRows]:
    """What ``describe_raw`` gives of the cells of several classes together, by what it gave of each."""
    known = np.stack([part["known"] for part in parts])
    total = known.sum(axis=0)
    if method == "quantile":
        # Its quantiles stand for the cells of a class, and count for as much in every column.
        rows = np.concatenate([np.where(part["known"] > 0, part["quantiles"], np.nan) for part in parts])
        each = np.gradient(_QUANTILES)
        each[[0, -1]] /= 2  # the least and the greatest value have cells to one side alone
        shares = np.outer(known.max(axis=1), each).ravel()
        return {**_quantiles(rows, shares / shares.sum()), "known": total}
    weights = known / np.where(total > 0, total, 1.0)
    centres = np.stack([part["centre"] for part in parts])
    centre = (weights * centres).sum(axis=0)
    squares = np.stack([part["spread"] for part in parts]) ** 2 + (centres - centre) ** 2
    return {"centre": centre, "spread": np.sqrt((weights * squares).sum(axis=0)), "known": total}


def map_rows(method: str, X: ScoredRows, own: Mapping[str, ScoredRows], whole: Mapping[str, ScoredRows]) -> ScoredRows:
    if method == "standard":
        return (X - own["centre"]) / own["spread"] * whole["spread"] + whole["centre"]
    return _matched(X, own["quantiles"], whole["quantiles"])


def _moments(X: ScoredRows, shares: ScoredRows) -> dict[str, ScoredRows]:
    """Mean and standard deviation of every column over its values."""
    known: ScoredRows = ~np.isnan(X) * shares[:, None]
    total = known.sum(axis=0)
    divisor = np.where(total > 0, total, 1.0)
    filled = np.where(np.isnan(X), 0.0, X)
    centre = (known * filled).sum(axis=0) / divisor
    spread = np.sqrt((known * (filled - centre) ** 2).sum(axis=0) / divisor)
    return {"centre": centre, "spread": spread, "known": total}


def _quantiles(X: ScoredRows, shares: ScoredRows) -> dict[str, ScoredRows]:
    found = np.zeros((len(_QUANTILES), X.shape[1]))
    for at, column in enumerate(X.T):
        known = np.flatnonzero(~np.isnan(column))
        if len(known):
            order = known[np.argsort(column[known], kind="stable")]
            # Linear between the cells, the first at 0 and the last at 1: definition 7 where all count alike.
            below = np.cumsum(shares[order]) - shares[order]
            places = below / below[-1] if below[-1] > 0 else below
            found[:, at] = np.interp(_QUANTILES, places, column[order])
    return {"quantiles": found, "known": shares @ ~np.isnan(X)}


def _matched(X: ScoredRows, own: ScoredRows, whole: ScoredRows) -> ScoredRows:
    """Each value at the same quantile of the whole distribution; beyond the ends, as far beyond the whole's ends."""
    changed = np.full_like(X, np.nan)
    for at, column in enumerate(X.T):
        known = ~np.isnan(column)
        # Of several quantiles with one value the middle one: a value that half the cells share has no other place.
        levels, first = np.unique(own[:, at], return_index=True)
        last = len(own) - 1 - np.unique(own[::-1, at], return_index=True)[1]
        places = (_QUANTILES[first] + _QUANTILES[last]) / 2
        values = np.interp(np.interp(column[known], levels, places), _QUANTILES, whole[:, at])
        values += np.minimum(column[known] - levels[0], 0) + np.maximum(column[known] - levels[-1], 0)
        changed[known, at] = values
    return changed
