"""Draws of whole groups, and what intervals and p-values are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: Rounds of redrawing replicates that lost a class. A class in 2 of many groups is lost once in 7 draws, so that even
#: ten such classes leave less than one replicate in a thousand after 30 rounds.
_REDRAWS = 30


def draw_groups(holds: NDArray[np.bool_], n_boot: int, rng: np.random.Generator) -> _Floats:
    """Draw groups with replacement, as many as there are.

    Where every group has one label, groups are drawn within each label; where groups hold several they are drawn from
    all, and a replicate that lost a class is drawn again. See ``metrics.evaluate`` for the reasons.

    Parameters
    ----------
    holds : bool (groups, classes), which classes a group has.

    Returns
    -------
    float64 (groups, n_boot): how often each group is drawn.
    """
    if (holds.sum(axis=1) == 1).all():
        strata = [np.flatnonzero(column) for column in holds.T if column.any()]
        return _draw_within(strata, len(holds), n_boot, rng)
    everyone = [np.arange(len(holds))]
    weights = _draw_within(everyone, len(holds), n_boot, rng)
    needed = holds[:, holds.any(axis=0)].astype(np.float64)
    for _ in range(_REDRAWS):
        lost = np.flatnonzero((needed.T @ weights == 0).any(axis=0))
        if not len(lost):
            break
        weights[:, lost] = _draw_within(everyone, len(holds), len(lost), rng)
    return weights


def can_be_drawn(holds: NDArray[np.bool_]) -> bool:
    """Whether every class that occurs has two groups; with one, nothing is known of how its subjects differ."""
    per_class = holds.sum(axis=0)
    return bool(per_class[per_class > 0].min(initial=len(holds)) >= 2)


def percentile(replicates: _Floats) -> tuple[_Floats, _Floats]:
    """Lower and upper bound of the 95% percentile interval of each column of float64 (B, m); NaN where all are."""
    defined = ~np.isnan(replicates).all(axis=0)
    both = np.full((2, replicates.shape[1]), np.nan)
    both[:, defined] = np.nanquantile(replicates[:, defined], (0.025, 0.975), axis=0)
    return both[0], both[1]


def bootstrap_p(replicates: _Floats) -> float:
    """Two-sided p of "the difference is 0": the level at which the percentile interval just reaches 0.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 15.4. Never 0: with B replicates
    nothing below 2 / (B + 1) can be said.
    """
    values = replicates[~np.isnan(replicates)]
    if not len(values):
        return float("nan")
    tail = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return float(min(1.0, 2 * (tail + 1) / (len(values) + 1)))


def corrected_interval(values: Sequence[float], test_share: float) -> tuple[float, float, float]:
    """Mean of one value a split, with the interval that knows how far training parts overlap.

    The variance of the mean is s**2 (1 / J + test_share / (1 - test_share)) for J splits, with Student's t on J - 1
    degrees of freedom: the correction for the training cells that any two splits share.
    Source: Nadeau and Bengio (2003), Machine Learning 52:239-281, equation 11.

    Parameters
    ----------
    values : J >= 2 values, one a split; those that are NaN are left out.
    test_share : share of the cells that a split tests, above 0 and below 1.

    Returns
    -------
    mean, low, high; the bounds are NaN with fewer than two values.
    """
    from scipy.stats import t

    mean, error, degrees = corrected_error(values, test_share)
    reach = float(t.ppf(0.975, degrees)) * error if degrees > 0 else float("nan")
    return mean, mean - reach, mean + reach


def corrected_error(values: Sequence[float], test_share: float) -> tuple[float, float, int]:
    """Mean, corrected standard error and degrees of freedom of ``corrected_interval``."""
    held = np.asarray([value for value in values if not np.isnan(value)], np.float64)
    if len(held) < 2:
        return (float(held.mean()) if len(held) else float("nan")), float("nan"), 0
    variance = held.var(ddof=1) * (1 / len(held) + test_share / (1 - test_share))
    return float(held.mean()), float(np.sqrt(variance)), len(held) - 1


def _draw_within(strata: Sequence[NDArray[np.intp]], n_groups: int, n_boot: int, rng: np.random.Generator) -> _Floats:
    """Draw from each stratum as many groups as it has, with replacement."""
    weights = np.zeros((n_groups, n_boot))
    for members in strata:
        drawn = rng.integers(len(members), size=(len(members), n_boot)) * n_boot + np.arange(n_boot)
        weights[members] = np.bincount(drawn.ravel(), minlength=len(members) * n_boot).reshape(-1, n_boot)
    return weights
