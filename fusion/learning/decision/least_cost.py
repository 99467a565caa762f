"""The rule of several classes that costs least on held-out scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Codes = NDArray[np.intp]

#: Sweeps over the classes, at most: a search that goes on for longer goes on for rounding.
_SWEEPS = 50

#: Cells up to which the sum of costs is so rough that a search may be caught on a step, and begins anew elsewhere: of
#: 60 draws of 40 cells of three classes 2 are then above a grid's least, without 8.
_ROUGH = 2000

#: How far a weight may go from 1: what is beyond is a class that is always or never predicted.
_FURTHEST = 1e6

#: Sums of costs that differ by less are the same.
_ROUNDING = 1e-9


def least_cost_weights(proba: _Floats, codes: _Codes, costs: _Floats, of_cells: _Floats | None = None) -> _Floats:
    """float64 (K,), weights of the classes' probabilities under which held-out cells cost least.

    A cell is predicted as the class j of the least ``sum_i w_i p_i costs[i, j]``. With weights of 1 that is the best
    there is by probabilities that mean what they say (Elkan 2001, IJCAI, 973-978); the weights make up for what they do
    not, as another prior does. The sum of costs is a staircase of the weights, which is searched along one class after
    another, over all of its steps and not on a grid, from all weights 1, from those of equally common classes, and from
    each class by itself favoured or not where cells are few; of equal steps in a row the middle one is taken.

    Parameters
    ----------
    proba : float64 (n, K), held-out.
    codes : intp (n,), numbers of the true classes.
    costs : float64 (K, K), what predicting each class (columns) costs where each (rows) is true.
    of_cells : float64 (K,), how much a cell of each class counts; None counts cells alike.

    Returns
    -------
    Weights whose geometric mean is 1.

    Examples
    --------
    >>> p = np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.8, 0.1, 0.1]])
    >>> weights = least_cost_weights(p, np.array([1, 2, 0]), 1 - np.eye(3))
    >>> (p * weights).argmax(axis=1).tolist()
    [1, 2, 0]
    """
    k = len(costs)
    paid = (np.ones(k) if of_cells is None else of_cells)[codes][:, None] * costs[codes]
    counts = np.maximum(np.bincount(codes, minlength=k), 1)
    starts = [np.ones(k), counts.mean() / counts]
    if len(codes) <= _ROUGH:
        starts += [*np.exp(np.eye(k)), *np.exp(-np.eye(k))]
    found = [_descend(proba, paid, costs, start) for start in starts]
    weights = min(found, key=lambda one: _paid(proba, paid, costs, one))
    return np.asarray(weights / np.exp(np.log(weights).mean()), np.float64)


def _paid(proba: _Floats, paid: _Floats, costs: _Floats, weights: _Floats) -> float:
    """The sum of costs of the predictions under these weights."""
    predicted = ((proba * weights) @ costs).argmin(axis=1)
    return float(paid[np.arange(len(paid)), predicted].sum())


def _descend(proba: _Floats, paid: _Floats, costs: _Floats, start: _Floats) -> _Floats:
    """Weights from which no change of a single one brings the sum of costs down."""
    weights, least = start.copy(), np.inf
    for _ in range(_SWEEPS):
        before = least
        for which in range(len(weights)):
            weights[which], least = _best_along(proba, paid, costs, weights, which)
        if least >= before - _ROUNDING:
            break
    return weights


def _best_along(proba: _Floats, paid: _Floats, costs: _Floats, weights: _Floats, which: int) -> tuple[float, float]:
    """The best weight of one class while the others stay, and the sum of costs with it.

    The expected cost of predicting each class is a line in this weight, and the predicted class the lowest of the
    lines: along their lower envelope, cell by cell, lie the weights at which a prediction changes, and what it changes.
    """
    others = weights.copy()
    others[which] = 0.0
    height, slope = (proba * others) @ costs, proba[:, which, None] * costs[which]
    rows = np.arange(len(proba))
    # Of lines that begin at one height the flattest is the lowest.
    lowest = height <= height.min(axis=1, keepdims=True)
    current = np.where(lowest, slope, np.inf).argmin(axis=1)
    total = float(paid[rows, current].sum())
    places, changes = [], []
    for _ in range(len(weights) - 1):
        falls = slope[rows, current][:, None] - slope
        gap = height - height[rows, current][:, None]
        crossing = np.divide(gap, falls, out=np.full_like(gap, np.inf), where=falls > 0)
        following = crossing.argmin(axis=1)
        place = crossing[rows, following]
        moved = np.isfinite(place)
        if not moved.any():
            break
        places.append(place[moved])
        changes.append((paid[rows, following] - paid[rows, current])[moved])
        current = np.where(moved, following, current)
    if not places:
        return float(weights[which]), total
    at = np.concatenate(places)
    order = np.argsort(at, kind="stable")
    ends, last = at[order], np.flatnonzero(np.append(np.diff(at[order]) > 0, True))
    sums = np.append(total, total + np.cumsum(np.concatenate(changes)[order])[last])
    steps = np.clip(np.concatenate([[0.0], ends[last], [np.inf]]), 1 / _FURTHEST, _FURTHEST)
    best = np.flatnonzero(sums <= sums.min() + _ROUNDING)
    # Neighbouring steps of one sum are one; of several such the widest on a scale of ratios is the surest.
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    low, high = max(((steps[run[0]], steps[run[-1] + 1]) for run in runs), key=lambda ends: ends[1] / ends[0])
    return float(np.sqrt(low * high)), float(sums.min())
