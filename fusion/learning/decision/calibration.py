"""Maps from a classifier's probabilities to ones that mean what they say, fitted on held-out scores.

Source of the word: a probability is calibrated where, of the cells that are given it, that share is of the class (Dawid
1982, J. Am. Statist. Assoc. 77:605-610).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

Method = Literal["none", "logistic", "temperature", "isotonic"]

#: Logarithms of probabilities are taken no further than this: what is 0 by rounding is not infinitely unlikely.
_LEAST = 1e-12

#: Slopes that are looked at: a model that is wrong by more than these factors needs another model. Above 0, so that a
#: probability never falls where the score rises, whatever a few held-out cells say.
_SLOPES = (math.exp(-3), math.exp(3))

#: Intercepts that are looked at: odds are changed by no more than a million.
_INTERCEPTS = (-14.0, 14.0)


@dataclass(frozen=True)
class Calibration:
    """A fitted map from probabilities to probabilities; plain values, so that it is stored as JSON.

    Attributes
    ----------
    slopes, intercepts : one a class: the new logarithm of each class's probability, up to a constant, is slope x its
        logarithm + intercept. Empty for isotonic.
    knots : for isotonic one (from, to) pair of ascending tuples a class, or one for the second of two classes.
    """

    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    @property
    def keeps_shares(self) -> bool:
        """Whether the mean probability of a class is its share among the cells it was fitted on, not that of others."""
        return bool(self.knots) or any(self.intercepts)

    def apply(self, proba: _Floats) -> _Floats:
        """float64 (n, K), rows summing to 1, from float64 (n, K)."""
        if not self.knots:
            logs = _logs(proba) * np.array(self.slopes) + np.array(self.intercepts)
            odds = np.exp(logs - logs.max(axis=1, keepdims=True))
            return odds / odds.sum(axis=1, keepdims=True)
        if len(self.knots) == 1:
            second = np.interp(proba[:, 1], *self.knots[0])
            return np.column_stack([1 - second, second])
        mapped = np.column_stack([np.interp(p, *knots) for p, knots in zip(proba.T, self.knots, strict=True)])
        return mapped / mapped.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"slopes": self.slopes, "intercepts": self.intercepts, "knots": self.knots}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_json`` gave.

        Raises
        ------
        ValueError, KeyError, TypeError : it did not.
        """
        knots = tuple(tuple(tuple(float(x) for x in part) for part in pair) for pair in values["knots"])
        slopes, intercepts = (tuple(float(x) for x in values[name]) for name in ("slopes", "intercepts"))
        is_sane = len(slopes) == len(intercepts) and bool(slopes) != bool(knots)
        is_sane &= bool(np.isfinite([*slopes, *intercepts]).all()) and all(slope > 0 for slope in slopes)
        for pair in knots:
            steps, heights = pair
            is_sane &= len(steps) == len(heights) > 0 and bool(np.isfinite([*steps, *heights]).all())
            is_sane &= bool((np.diff(steps) > 0).all() and min(heights) > 0 and max(heights) < 1)
        if not is_sane:
            raise ValueError("a calibration of values that cannot be")
        return cls(slopes, intercepts, knots)  # type: ignore[arg-type]  # pairs, as just checked


def fit_calibration(method: Method, proba: _Floats, codes: NDArray[np.intp]) -> Calibration | None:
    """The calibration by held-out probabilities.

    Parameters
    ----------
    method : "logistic" fits an intercept and a slope to the log-odds (Cox 1958, Biometrika 45:562-565; Platt 1999, of
        whom the targets are too), of more than two classes one of either for the logarithm of each class's probability
        (vector scaling; Guo et al. 2017, ICML, 1321-1330): the mean probability of a class becomes its share among the
        held-out cells. "temperature" divides logarithms of probabilities by one number (Guo et al. 2017): it makes a
        model less sure or surer, and has no intercept, so that a class that is over-predicted stays so. "isotonic" maps
        each class's probability by a step function that never falls (Zadrozny and Elkan 2002, KDD, 694-699), the
        outcomes made to sum to 1. "none" is no calibration.
    proba : float64 (n, K), held-out.
    codes : intp (n,), numbers of the true classes.

    Returns
    -------
    The map; None for "none".

    Examples
    --------
    >>> p = np.repeat([0.3, 0.6], 100)  # in truth 0.1 and 0.3
    >>> is_second = np.concatenate([np.arange(100) < 10, np.arange(100) < 30]).astype(int)
    >>> found = fit_calibration("logistic", np.column_stack([1 - p, p]), is_second)
    >>> found.apply(np.array([[0.7, 0.3], [0.4, 0.6]]))[:, 1].round(2).tolist()
    [0.1, 0.3]
    """
    if method == "none":
        return None
    fit = {"logistic": _logistic, "temperature": _temperature, "isotonic": _isotonic}[method]
    return fit(proba, codes)


def _logs(proba: _Floats) -> _Floats:
    return np.log(np.clip(proba, _LEAST, None))


def _logistic(proba: _Floats, codes: NDArray[np.intp]) -> Calibration:
    """Maximum likelihood, of a convex problem; two classes share a slope and have one intercept."""
    from scipy.optimize import minimize

    logs, k = _logs(proba), proba.shape[1]
    targets = _targets(codes, k)

    def unpacked(values: _Floats) -> tuple[_Floats, _Floats]:
        if k == 2:
            return np.repeat(values[:1], 2), np.append(0.0, values[1])
        return values[:k], values[k:]

    def surprise(values: _Floats) -> tuple[float, _Floats]:
        slopes, intercepts = unpacked(values)
        margins = logs * slopes + intercepts
        margins -= margins.max(axis=1, keepdims=True)
        total = np.log(np.exp(margins).sum(axis=1, keepdims=True))
        gap = np.exp(margins - total) - targets
        of_slopes, of_intercepts = (gap * logs).mean(axis=0), gap.mean(axis=0)
        gradient = [of_slopes.sum(), of_intercepts[1]] if k == 2 else [*of_slopes, *of_intercepts]
        return float(-(targets * (margins - total)).sum(axis=1).mean()), np.array(gradient)

    count = 1 if k == 2 else k
    found = minimize(
        surprise,
        np.append(np.ones(count), np.zeros(count)),
        jac=True,
        method="L-BFGS-B",
        bounds=[_SLOPES] * count + [_INTERCEPTS] * count,
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000},
    )
    slopes, intercepts = unpacked(found.x)
    return Calibration(tuple(slopes.tolist()), tuple((intercepts - intercepts[0]).tolist()))


def _targets(codes: NDArray[np.intp], k: int) -> _Floats:
    """float64 (n, K): what a cell of each class is taken for, a little less than sure: else classes that the scores
    tell apart without a mistake would have a slope without end.

    Source: Platt (1999), Advances in Large Margin Classifiers, 61-74: (n + 1) / (n + 2) for a class of n cells. What is
    missing from 1 is the other classes' in equal parts, so that the shares of the classes stay what they are.
    """
    counts = np.bincount(codes, minlength=k)
    rest = 1 / (counts + 2)
    targets = np.repeat(rest[codes][:, None] / (k - 1), k, axis=1)
    targets[np.arange(len(codes)), codes] = 1 - rest[codes]
    return targets


def _temperature(proba: _Floats, codes: NDArray[np.intp]) -> Calibration:
    from scipy.optimize import minimize_scalar

    rows, k = np.arange(len(codes)), proba.shape[1]

    def with_slope(log_slope: float) -> Calibration:
        return Calibration((math.exp(log_slope),) * k, (0.0,) * k)

    def surprise(log_slope: float) -> float:
        calibrated = with_slope(log_slope).apply(proba)
        return float(-np.log(np.clip(calibrated[rows, codes], _LEAST, None)).mean())

    bounds = tuple(math.log(slope) for slope in _SLOPES)
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return with_slope(float(found.x))


def _isotonic(proba: _Floats, codes: NDArray[np.intp]) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    # Never quite 0 or 1: the next cell may be the first of its kind (Laplace's rule of succession).
    least = 1 / (len(codes) + 2)
    knots = []
    for code in range(proba.shape[1]) if proba.shape[1] > 2 else [1]:
        fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        fitted.fit(proba[:, code], codes == code)
        knots.append((tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_))))
    return Calibration(knots=tuple(knots))
