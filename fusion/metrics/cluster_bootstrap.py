"""Draws of whole groups, and what intervals and p-values are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: Rounds of redrawing replicates that lost a class. A class in 2 of many groups is lost once in 7 draws, so that even
#: ten such classes leave less than one replicate in a thousand after 30 rounds.
_REDRAWS = 30

#: Half the width of a 95% interval of a normal variable.
_Z95 = 1.959963984540054


def draw_groups(holds: NDArray[np.bool_], n_boot: int, rng: np.random.Generator) -> _Floats:
    """Draw groups with replacement, as many as there are.

    Where every group has one label, groups are drawn within each label; where groups hold several they are drawn from
    all, and a replicate that lost a class is drawn again. See ``metrics.judge_scores`` for the reasons.

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


def strata_of(holds: NDArray[np.bool_]) -> NDArray[np.intp]:
    """intp (groups,): which sample each group was drawn from by ``draw_groups``; one sample is all 0."""
    pure = bool((holds.sum(axis=1) == 1).all())
    return (holds.argmax(axis=1) if pure else np.zeros(len(holds))).astype(np.intp)


def bca(
    values: _Floats, replicates: _Floats, left_out: _Floats, strata: NDArray[np.intp]
) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """95% intervals, corrected for bias and for a spread that changes with the value (BCa), where that can be done.

    It cannot where a value is undefined without one of the groups, where nothing varies, and where the corrected bounds
    lie beyond the outermost replicates, as they do for a calibration error, which every resampling makes larger. There
    the interval is that of ``percentile``.
    Source: Efron (1987), J. Am. Statist. Assoc. 82:171-185; the acceleration from leaving each group out, over several
    samples as in Davison and Hinkley (1997), Bootstrap Methods and their Application, section 5.3.2.

    Parameters
    ----------
    values : float64 (m,), of all groups.
    replicates : float64 (B, m), NaN where undefined.
    left_out : float64 (groups, m), the values without each group; no rows where nothing was left out.
    strata : intp (groups,), the sample that each group was drawn from.

    Returns
    -------
    float64 (m,) lower and upper bounds, and bool (m,): which of them are BCa and not percentile intervals.
    """
    from scipy.special import ndtr, ndtri

    low, high = percentile(replicates)
    corrected = np.zeros(len(values), bool)
    if not len(left_out) or not len(replicates):
        return low, high, corrected
    accelerations = _accelerations(left_out, strata)
    for at, (value, acceleration) in enumerate(zip(values, accelerations, strict=True)):
        drawn = replicates[~np.isnan(replicates[:, at]), at]
        if np.isnan(acceleration) or not len(drawn):
            continue
        # Ties count half: a share of subjects takes few values, and is often met exactly.
        below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
        bias = ndtri(below)
        shifted = bias + np.array([-_Z95, _Z95])
        scale = 1 - acceleration * shifted
        if not np.isfinite(bias) or (scale <= 0).any():
            continue
        levels = ndtr(bias + shifted / scale)
        if levels[0] < 1 / (len(drawn) + 1) or levels[1] > len(drawn) / (len(drawn) + 1):
            continue
        low[at], high[at] = np.quantile(drawn, levels)
        corrected[at] = True
    return low, high, corrected


def _accelerations(left_out: _Floats, strata: NDArray[np.intp]) -> _Floats:
    """float64 (m,): a sixth of the skewness of the groups' influence; NaN where undefined or where there is none."""
    cubes, squares = np.zeros((2, left_out.shape[1]))
    for stratum in np.unique(strata):
        held = left_out[strata == stratum]
        influence = (len(held) - 1) / len(held) * (held.mean(axis=0) - held)
        cubes, squares = cubes + (influence**3).sum(axis=0), squares + (influence**2).sum(axis=0)
    # What does not vary but by rounding has no skewness.
    spread = np.where(squares > 1e-24, squares, np.nan)
    return cubes / (6 * spread**1.5)


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


def corrected_error(values: Sequence[float], test_share: float) -> tuple[float, float, int]:
    """Mean of one value a split, with a standard error that knows how far training parts overlap.

    The variance of the mean is s**2 (1 / J + test_share / (1 - test_share)) for J splits, with Student's t on J - 1
    degrees of freedom: the correction for the training cells that any two splits share.
    Source: Nadeau and Bengio (2003), Machine Learning 52:239-281, equation 11.

    Parameters
    ----------
    values : J values, one a split; those that are NaN are left out.
    test_share : share of the cells that a split tests, above 0 and below 1.

    Returns
    -------
    mean, standard error, degrees of freedom; the error is NaN and the degrees are 0 with fewer than two values.
    """
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
