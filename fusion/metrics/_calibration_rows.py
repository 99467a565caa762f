"""Calibration of scored rows: intercept and slope of the log-odds, and an error that chance does not make.

Prepared as sums over groups, so that both can be had without each group in turn at the cost of one fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.metrics._ranked_rows import ratio

_Floats = NDArray[np.float64]

#: Log-odds are taken no further than those of this probability: what is 0 by rounding is not infinitely unlikely.
_LEAST = 1e-12

#: Steps of Newton's method; a logistic regression of two parameters that has a solution needs fewer than ten.
_STEPS = 30

#: A step below is the solution.
_CLOSE = 1e-9

#: Slopes beyond are those of classes that the scores tell apart without a mistake, which have none.
_STEEPEST = 50.0

#: A calibration error that chance alone makes of calibrated scores, above which no error is told.
_NOISE = 0.05


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Logistic regression of a class on the log-odds of its score.

    Attributes
    ----------
    intercept : in log-odds, with the slope held at 1 ("calibration in the large"): below 0 the class is over-predicted.
    slope : below 1 the scores are too far from 0.5. Both are NaN where there is no solution.
    pulls : float64 (n_groups, 3), the groups' derivatives of the likelihood: of the intercept alone, and of intercept
        and slope together.
    bends : float64 (n_groups, 4), likewise the second derivatives, less their sign: of the intercept alone, and of both
        together the corner of the intercept, the mixed one, and that of the slope.
    """

    intercept: float
    slope: float
    pulls: _Floats
    bends: _Floats

    @classmethod
    def from_scores(
        cls, score: _Floats, is_positive: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int
    ) -> Recalibration:
        """Of one class's probability, float64 (n,).

        Source: Cox (1958), Biometrika 45:562-565; the names as in Van Calster et al. (2019), BMC Medicine 17:230.
        """
        # In an order of their own, so that the same rows in another order give the same sums to the last bit.
        order = np.lexsort((is_positive, score))
        hit, groups = is_positive[order].astype(np.float64), groups[order]
        held = np.clip(score[order], _LEAST, 1 - _LEAST)
        odds = np.log(held) - np.log1p(-held)
        (intercept,) = _solve([np.ones_like(odds)], hit, odds, [0.0])
        together = _solve([np.ones_like(odds), odds], hit, np.zeros_like(odds), [0.0, 1.0])
        alone, joint = (_probability(margin) for margin in (odds + intercept, together[0] + together[1] * odds))
        columns = [hit - alone, hit - joint, (hit - joint) * odds]
        curved = [alone * (1 - alone), joint * (1 - joint)]
        curved += [curved[1] * odds, curved[1] * odds**2]
        pulls, bends = (
            np.stack([np.bincount(groups, column, n_groups).astype(np.float64) for column in part], axis=1)
            for part in (columns, curved)
        )
        return cls(intercept, together[1], pulls, bends)

    def values(self, weights: _Floats) -> _Floats:
        """float64 (B, 2), intercept and slope for weights (n_groups, B), by one step from those of equal weights.

        Source: Moulton and Zeger (1991), Comput. Stat. Data Anal. 11:53-63 (the one-step bootstrap).
        """
        return self._stepped(weights.T @ self.pulls, weights.T @ self.bends)

    def left_out(self) -> _Floats:
        """float64 (n_groups, 2): intercept and slope without each group, by one step."""
        return self._stepped(
            self.pulls.sum(axis=0) - self.pulls,
            self.bends.sum(axis=0) - self.bends,
        )

    def _stepped(self, pulls: _Floats, bends: _Floats) -> _Floats:
        intercept = self.intercept + ratio(pulls[:, 0], bends[:, 0])
        corner, mixed, own = bends[:, 1:].T
        determinant = corner * own - mixed**2
        slope = self.slope + ratio(corner * pulls[:, 2] - mixed * pulls[:, 1], determinant)
        return np.stack([intercept, slope], axis=1)


def _solve(columns: list[_Floats], hit: _Floats, offset: _Floats, start: list[float]) -> list[float]:
    """Maximum-likelihood coefficients of one or two columns by Newton's method; NaN where there are none.

    Sums instead of matrix products, whose last bit depends on where in memory their arrays lie.
    """
    found = start
    nothing = [float("nan")] * len(start)
    for _ in range(_STEPS):
        probability = _probability(offset + sum(one * column for one, column in zip(found, columns, strict=True)))
        curve = probability * (1 - probability)
        pull = [float(((hit - probability) * column).sum()) for column in columns]
        bend = [[float((curve * one * other).sum()) for other in columns] for one in columns]
        if len(columns) == 1:
            determinant, scale = bend[0][0], 1.0
            raw = pull
        else:
            determinant, scale = bend[0][0] * bend[1][1] - bend[0][1] ** 2, bend[0][0] * bend[1][1]
            raw = [
                bend[1][1] * pull[0] - bend[0][1] * pull[1],
                bend[0][0] * pull[1] - bend[0][1] * pull[0],
            ]
        if not determinant > 1e-12 * scale:
            return nothing
        step = [part / determinant for part in raw]
        longest = max(map(abs, step))
        # Far from the solution a whole step may overshoot; as many small ones arrive.
        found = [one + part / max(1.0, longest / 2) for one, part in zip(found, step, strict=True)]
        if longest < _CLOSE:
            return found if max(map(abs, found)) < _STEEPEST else nothing
    return nothing


def _probability(margin: _Floats) -> _Floats:
    return 1 / (1 + np.exp(-np.clip(margin, -700, 700)))


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """The mean squared distance between probability and share of hits, less what chance makes of it.

    A bin's squared gap is larger than that of the truth by the variance of the gap: calibrated scores of 100 cells have
    an "expected calibration error" of .10. Products of two different groups' gaps have no such surplus, whatever is
    alike within a group.

    Attributes
    ----------
    gaps : float64 (n_groups, bins), the sum over a group's rows in a bin of confidence minus hit.
    rows : float64 (n_groups, bins), how many rows these are.
    """

    gaps: _Floats
    rows: _Floats

    def squared(self, weights: _Floats) -> _Floats:
        """float64 (B,) for weights (n_groups, B) of 0 and 1; below 0 by chance; NaN where there is too little."""
        return self._of_sums(*(weights.T @ part for part in (self.gaps, self.gaps**2, self.rows, self.rows**2)))

    def left_out(self) -> _Floats:
        """float64 (n_groups,): the same without each group."""
        parts = (self.gaps, self.gaps**2, self.rows, self.rows**2)
        return self._of_sums(*(part.sum(axis=0) - part for part in parts))

    def _of_sums(self, gaps: _Floats, squares: _Floats, rows: _Floats, row_squares: _Floats) -> _Floats:
        """Mean over bins, weighted by their rows, of the mean product of two groups' gaps.

        Source: Kumar, Liang and Ma (2019), NeurIPS 32 (the debiased estimate), here of groups instead of rows.
        """
        if not self.is_enough:
            return np.full(len(gaps), np.nan)
        products = ratio(gaps**2 - squares, rows**2 - row_squares)
        return ratio((np.where(rows > 0, products, 0) * rows).sum(axis=1), rows.sum(axis=1))

    @property
    def is_enough(self) -> bool:
        """Whether calibrated scores of as many rows and groups would hardly be taken for others.

        The variance of a sum of products of independent gaps is twice the sum of the products of their squares.
        """
        rows, squares = self.rows.sum(axis=0), self.gaps**2
        pairs = rows**2 - (self.rows**2).sum(axis=0)
        if not rows.sum() or (pairs <= 0).any():
            return False
        variance = 2 * (squares.sum(axis=0) ** 2 - (squares**2).sum(axis=0)) / pairs**2
        noise = float(np.sqrt((variance * (rows / rows.sum()) ** 2).sum()))
        return bool(noise**0.5 <= _NOISE)
