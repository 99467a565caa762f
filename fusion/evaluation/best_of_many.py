"""The best of many entries: how good it is once it was picked, and which others it cannot be told from.

The highest of many figures is too high by what it was lucky, and a test of it against the others that was written down
before anybody knew which it would be is another test. Both are answered here from how entries vary together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.variation import Variation
from fusion.metrics.jackknife import Strata, intervals, spread_of, spread_of_procedure
from fusion.metrics.scored_rows import AT_PREVALENCE

_Floats = NDArray[np.float64]

#: Joint draws of all entries: an error of 5% is known to half a percent.
_DRAWS = 4000

#: Entries that differ by less differ by rounding.
_EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class Best:
    """The best of several entries, by one figure.

    Attributes
    ----------
    at : its position. Of entries that tie, the one with the fewest blocks, then the first.
    value : its figure as it was measured.
    corrected : float, the figure that a set picked so would have on other subjects.
    low, high : 95% interval of ``corrected``, NaN where there is none; its upper end is that of ``value`` where the
        entry is picked in half of the bootstrap samples or more, and lies in proportion between the two where in fewer:
        the correction takes an entry that is truly ahead for a luckier one than it was.
    p : float64 (entries,), for each the smallest family-wise error at which it is told from the best; 1 for the best.
    not_distinguished : positions that are not told from the best at 5%, the best first.
    ties : positions whose figure equals the best one's.
    """

    at: int
    value: float
    corrected: float
    low: float
    high: float
    p: _Floats
    not_distinguished: tuple[int, ...]
    ties: tuple[int, ...]


def best_of(
    values: Sequence[float],
    variations: Sequence[Variation],
    sizes: Sequence[int],
    key: tuple[str, str] = ("image", "balanced_accuracy"),
    *,
    level: float = 0.05,
    samples: int = 2000,
    seed: int = 0,
) -> Best:
    """The best entry with its corrected figure, and the set that holds the truly best one with probability 1 - level.

    Parameters
    ----------
    values : a figure of each entry, NaN is worst.
    variations : of the same entries, on the same cells.
    sizes : how many blocks each entry has, for ties.
    key : the level and the metric of the figures.
    samples : bootstrap samples of subjects behind the corrected figure; of 2,000 its own error is under a thousandth.
    """
    figures = np.nan_to_num(np.asarray(values, np.float64), nan=-np.inf)
    ties = np.flatnonzero(figures >= figures.max() - _EQUAL).tolist()
    at = min(ties, key=lambda entry: (sizes[entry], entry))
    influence = np.stack([one.influences[key] for one in variations], axis=1)
    strata = variations[at].strata.get(key[0])
    known = strata is not None and strata.smallest > 1 and np.isfinite(influence).all() and np.isfinite(figures).all()
    if strata is None or not known:
        # Where nothing is known of how subjects differ, no entry is told from another.
        order = (at, *(entry for entry in range(len(figures)) if entry != at))
        nothing = float("nan")
        p = np.ones(len(figures))
        return Best(at, float(values[at]), nothing, nothing, nothing, p, order, tuple(ties))
    rng = np.random.default_rng(seed)
    samples_of = [members for members, _ in strata.samples]
    corrected, picked = corrected_best(figures, influence, samples_of, samples, rng, at)
    repeats = {len(one.by_repeat[key]) for one in variations}
    by_repeat = None
    if len(repeats) == 1 and max(repeats) > 1:
        by_repeat = np.stack([one.by_repeat[key] for one in variations], axis=2)
    shares = [one.test_share for one in variations if one.test_share is not None]
    share = float(np.mean(shares)) if shares else None
    spread = variations[at].combined((), (1.0,), key).spread
    ends = [corrected, corrected + min(1, 2 * picked) * (float(figures[at]) - corrected)]
    low, high, _ = intervals(ends, spread, [strata.smallest], is_share=key[1] not in AT_PREVALENCE)
    p = np.ones(len(figures))
    if len(figures) > 1:
        p = told_from_best(figures, _Pairs.of(influence, by_repeat, strata, share), at, rng)
    kept = tuple(sorted(np.flatnonzero(p >= level).tolist(), key=lambda entry: (entry != at, -figures[entry], entry)))
    return Best(at, float(values[at]), corrected, float(low[0]), float(high[1]), p, kept, tuple(ties))


def corrected_best(
    figures: _Floats,
    influence: _Floats,
    strata: Sequence[NDArray[np.intp]],
    samples: int,
    rng: np.random.Generator,
    best: int = 0,
) -> tuple[float, float]:
    """What the best of float64 (E,) figures would be on other subjects, by bootstrap bias-corrected cross-validation,
    and in which share of the samples the entry ``best`` is picked.

    In each bootstrap sample of subjects the best entry is picked, and judged on the subjects that were not drawn; the
    mean of these is the estimate. Figures under weights of subjects are linear in the weights, by their influences, so
    that no figure is computed anew. Of entries that are equally good nothing is left of the bias (by Stein's lemma:
    what a sample draws more often and what it leaves out vary against each other just as the figures vary); of one
    that is truly ahead the estimate is too low, by .005 to .02, since samples pick it less often. Source: Tsamardinos,
    Greasidou and Borboudakis (2018), Machine Learning 107:1895-1922 (BBC-CV).

    Parameters
    ----------
    influence : float64 (groups, E).
    strata : the groups of each sample; groups are drawn within.
    samples : bootstrap samples.
    """
    if len(figures) == 1:
        return float(figures[0]), 1.0
    groups = influence.shape[0]
    inside, outside = np.zeros((2, groups, samples))
    change = np.zeros_like(influence)
    for members in strata:
        n = len(members)
        drawn = rng.multinomial(n, np.full(n, 1 / n), samples).T.astype(np.float64)
        left = (drawn == 0).astype(np.float64)
        # A sample that drew every subject has none left to judge by, and is judged by all.
        left[:, left.sum(axis=0) == 0] = 1
        inside[members] = drawn - 1
        outside[members] = left * n / left.sum(axis=0) - 1
        change[members] = np.sqrt((n - 1) / n) * influence[members]
    picked = (figures[:, None] + change.T @ inside).argmax(axis=0)
    judged = figures[:, None] + change.T @ outside
    return float(judged[picked, np.arange(samples)].mean()), float(np.mean(picked == best))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Differences between E entries: float64 (E, E) standard ``errors``, the ``covariance`` that joint draws have, and
    the ``degrees`` of freedom of the errors."""

    errors: _Floats
    covariance: _Floats
    degrees: float

    @classmethod
    def of(cls, influence: _Floats, by_repeat: _Floats | None, strata: Strata, share: float | None) -> _Pairs:
        entries = influence.shape[1]
        one, other = np.triu_indices(entries, 1)
        differences = influence[:, one] - influence[:, other]
        repeated = None if by_repeat is None else by_repeat[:, :, one] - by_repeat[:, :, other]
        if share is None:
            spread = spread_of(differences, strata)
        else:
            spread = spread_of_procedure(differences, repeated, strata, share)
        covariance = influence.T @ influence
        if by_repeat is not None and share is not None:
            flat = (by_repeat - by_repeat.mean(axis=0)).reshape(-1, entries)
            covariance = covariance + (1 - share) / share * flat.T @ flat / (len(by_repeat) - 1)
        errors = np.zeros((entries, entries))
        errors[one, other] = errors[other, one] = np.sqrt(spread.variance)
        return cls(errors, covariance, float(np.mean(spread.degrees)))


def told_from_best(figures: _Floats, pairs: _Pairs, best: int, rng: np.random.Generator) -> _Floats:
    """float64 (E,): for each entry the family-wise error at which it is told from the best.

    From the entry that is nearest to the best to the one that is furthest from it: an entry, and whatever is further
    away, is told from the best where its studentised distance exceeds what the largest distance among as many equally
    good entries, those up to it, exceeds in 5 of 100 data sets. So the best stands alone where it is told from the
    nearest as if there were these two alone, which needs no adjustment for how many others there are: of more that tie,
    the two foremost are seldom as far apart.

    Source: Gutmann and Maymin (1987), Ann. Statist. 15:456-461, and Hung and Fithian (2019), Ann. Statist. 47:758-782,
    for the first step; Dunnett and Tamhane (1992), J. Am. Statist. Assoc. 87:162-170, for steps upwards.
    """
    distances = _ratios(figures[best] - figures, pairs.errors[best])
    distances[best] = -np.inf
    order = np.argsort(distances, kind="stable")
    p, lowest = np.ones(len(figures)), 1.0
    for entry, largest in zip(order[1:], _largest_distances(order, pairs, rng), strict=True):
        hits = np.count_nonzero(largest >= distances[entry] - _EQUAL)
        lowest = min(lowest, (hits + 1) / (_DRAWS + 1))
        p[entry] = lowest
    return p


def _largest_distances(order: NDArray[np.intp], pairs: _Pairs, rng: np.random.Generator) -> _Floats:
    """float64 (E - 1, draws): in joint draws of equally good entries the largest studentised distance from the best one
    of the draw, among the entries of ``order`` up to the second, the third and so on."""
    values, vectors = np.linalg.eigh(pairs.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = root @ rng.standard_normal((len(order), _DRAWS))
    # One scale for all entries: the subjects behind their errors are the same.
    drawn *= np.sqrt(pairs.degrees / rng.chisquare(pairs.degrees, _DRAWS))
    drawn = drawn[order]
    variances = np.diag(pairs.covariance)
    errors = np.sqrt(np.maximum(variances[:, None] + variances - 2 * pairs.covariance, 0))[np.ix_(order, order)]
    found, every = np.zeros((len(order) - 1, _DRAWS)), np.arange(_DRAWS)
    first, furthest = np.zeros(_DRAWS, np.intp), np.zeros(_DRAWS)
    for at in range(1, len(order)):
        behind = _ratios(drawn[first, every] - drawn[at], errors[first, at])
        furthest = np.maximum(furthest, behind)
        new = np.flatnonzero(behind < 0)
        first[new] = at
        furthest[new] = _ratios(drawn[at, new] - drawn[:at, new], errors[:at, [at]]).max(axis=0)
        found[at - 1] = furthest
    return found


def _ratios(differences: _Floats, errors: _Floats) -> _Floats:
    """``differences / errors``; where nothing varies, 0: without spread nothing is told apart."""
    return np.divide(differences, errors, out=np.zeros(np.broadcast(differences, errors).shape), where=errors > _EQUAL)
