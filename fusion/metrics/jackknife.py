"""Intervals and tests that hold for few subjects: a jackknife over subjects within class, on the logit scale.

The cluster bootstrap covers the truth in 63 to 92 of 100 with 8 to 73 subjects: it draws from too few, and never beyond
them. What stands here keeps 95% from four subjects a class on (``benchmarks/coverage.py``), for five reasons:

- the variance comes from leaving each subject out, within each class (Efron and Stein 1981, Ann. Statist. 9:586-596),
  which is too large on average rather than too small;
- the interval is made on the logit scale, and cannot leave the range of the figure;
- Student's t with Satterthwaite's degrees of freedom over classes, each class with those of its effective number of
  subjects (Kish 1965, Survey Sampling, section 8.2), since subjects of a thousand cells and of nine do not count alike;
- near the end of a range, where few subjects show no failure by luck, a quarter of a subject is believed to be
  all or nothing: ``_ALL_OR_NOTHING``;
- where nothing varies at all, Clopper and Pearson's exact bound (1934, Biometrika 26:404-413) on subjects, which no
  interval of a share is wider than: nothing varies more than subjects who are each all right or all wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]

#: Share of a subject that is believed to be wholly right or wholly wrong, a variance of v (1 - v). Simulated with 4 to
#: 47 subjects a class at a sensitivity of .86 and .94: without it 94.2 and 92.7 of 100 intervals cover, with it 96 and
#: 96.5; in the middle of the range it is nothing.
_ALL_OR_NOTHING = 0.25

#: How far the variance of a share of subjects is known without an estimate. Where every subject is all right or all
#: wrong it follows from the share itself, and Student's t would pay for what was not estimated: intervals cover 98.3 of
#: 100. 1 would be a normal interval there, at 89 in the worst of the designs; with 0.85 none is below 92.
_FOLLOWS = 0.85

#: What is added at most to the variance, as a share of it, for models that are trained anew. A model of 30 features
#: from 8 to 15 subjects a class needs .7 to 1, one of 4 features .2; entries whose predictions flip by chance alone
#: seem to need more, and do not.
_MOST_TRAINING = 1.0

#: The same share where the cells were dealt to folds once, so that nothing tells.
_UNKNOWN_TRAINING = 0.6

#: Sums of squares below are rounding.
_NOTHING = 1e-20

#: Each side of a 95% interval.
_TAIL = 0.025


@dataclass(frozen=True, eq=False)
class Strata:
    """Groups (subjects) and the samples they were drawn from.

    Where every group has one class, the groups of each class are a sample of their own: how many leukaemic and healthy
    subjects were included is a choice, not chance. Where groups hold several classes they are one sample.

    Attributes
    ----------
    of : intp (groups,), the sample of each group, -1 for none.
    numbers : dict of class -> number of groups that hold it.
    effective : dict of class -> Kish's effective number of them, (sum n)**2 / sum n**2 of their n rows.
    is_pure : whether every group has one class.
    """

    of: NDArray[np.intp]
    numbers: dict[str, int]
    effective: dict[str, float]
    is_pure: bool

    @classmethod
    def from_counts(cls, counts: _Floats, classes: list[str]) -> Strata:
        """Of float64 (groups, K) rows of each class; a class without rows is left out.

        >>> Strata.from_counts(np.array([[10, 0], [30, 0], [0, 5], [0, 5]]), ["all", "hem"]).effective
        {'all': 1.6, 'hem': 2.0}
        """
        held = counts > 0
        occurs = np.flatnonzero(held.any(axis=0))
        is_pure = bool((held.sum(axis=1) <= 1).all())
        of = np.searchsorted(occurs, held.argmax(axis=1)) if is_pure else np.zeros(len(counts))
        squares = (counts.astype(np.float64) ** 2).sum(axis=0)
        return cls(
            of.astype(np.intp),
            {classes[at]: int(held[:, at].sum()) for at in occurs},
            {classes[at]: float(counts[:, at].sum() ** 2 / squares[at]) for at in occurs},
            is_pure,
        )

    def among(self, known: NDArray[np.intp], everyone: NDArray[np.intp]) -> Strata:
        """The same samples where ``known``, the groups' ascending numbers, are some of ``everyone``; the others are of
        no sample, -1."""
        of = np.full(len(everyone), -1, np.intp)
        of[np.searchsorted(everyone, known)] = self.of
        return replace(self, of=of)

    @property
    def smallest(self) -> int:
        """Groups of the class that has the fewest."""
        return min(self.numbers.values(), default=0)

    @property
    def samples(self) -> list[tuple[NDArray[np.intp], float]]:
        """For each sample its groups, and their effective number."""
        numbers = list(self.effective.values()) if self.is_pure else [min(self.effective.values(), default=0.0)]
        return [(np.flatnonzero(self.of == at), number) for at, number in enumerate(numbers)]


@dataclass(frozen=True, eq=False)
class Spread:
    """How m figures vary over groups: float64 (m,) each.

    Attributes
    ----------
    variance : of the figure.
    degrees : of freedom of that variance, 1 or more.
    weight : sum over samples of their share of the variance over their effective number squared; what
        ``_ALL_OR_NOTHING`` is scaled by.
    own : the variance over subjects alone, without what models that are trained anew add.
    most : what times v (1 - v) is the variance of a share v if every subject were all right or all wrong.
    third : third central moment of the figure over subjects, whose sign is that of its long tail.
    known_to : degrees of freedom of ``own`` by the fourth moments of what subjects contribute: where a few of them
        contribute nearly all, a variance is known less well than their number says.
    """

    variance: _Floats
    degrees: _Floats
    weight: _Floats
    own: _Floats
    most: _Floats
    third: _Floats
    known_to: _Floats

    @property
    def mirrored(self) -> Spread:
        """Of the figures with the other sign."""
        return replace(self, third=-self.third)

    @classmethod
    def unknown(cls, figures: int = 1) -> Spread:
        """Of figures of which nothing is known."""
        nothing = np.full(figures, np.nan)
        return cls(*[nothing] * 7)


def influences(left_out: _Floats, strata: Strata) -> _Floats:
    """float64 (groups, m) whose sums of squares are the variances of m figures, and whose sums of products are their
    covariances.

    Parameters
    ----------
    left_out : float64 (groups, m), the figures without each group in turn.
    """
    found = np.zeros_like(left_out)
    for members, _ in strata.samples:
        held = left_out[members]
        found[members] = np.sqrt((len(held) - 1) / max(1, len(held))) * (held.mean(axis=0) - held)
    return found


def spread_of(influence: _Floats, strata: Strata) -> Spread:
    """The spread of m figures, float64 (groups, m) ``influences``. All NaN where a class has a single group, since
    nothing is known then of how its subjects differ."""
    if strata.smallest < 2:
        return Spread.unknown(influence.shape[1])
    parts = np.stack([(influence[members] ** 2).sum(axis=0) for members, _ in strata.samples])
    numbers = np.array([number for _, number in strata.samples])[:, None]
    variance = parts.sum(axis=0)
    varies = variance > _NOTHING
    total = np.where(varies, variance, 1)
    share = np.where(varies, parts / total, 1 / len(parts))
    degrees = 1 / (share**2 / np.maximum(numbers - 1, 1)).sum(axis=0)
    fourth = [(influence[members] ** 4).sum(axis=0) for members, _ in strata.samples]
    counts = [len(members) for members, _ in strata.samples]
    doubt = sum(four - two**2 / count for four, two, count in zip(fourth, parts, counts, strict=True))
    known_to = np.minimum(degrees, 2 * total**2 / np.maximum(doubt, _NOTHING * total**2))
    return Spread(
        variance,
        degrees,
        (share / numbers**2).sum(axis=0),
        variance,
        (share / numbers).sum(axis=0),
        (influence**3).sum(axis=0),
        np.maximum(known_to, 1),
    )


def spread_of_procedure(influence: _Floats, by_repeat: _Floats | None, strata: Strata, test_share: float) -> Spread:
    """The spread of m cross-validated figures over other subjects to learn from, too.

    A cross-validation's figure varies more than its held-out subjects tell, since each of them also shaped the models
    that judged the others. How much shows in repeats that deal the subjects to folds anew: each repeat learns without
    other subjects. The variance between repeats, subject by subject, times the ratio of subjects learnt from to
    subjects tested (the delete-d jackknife, Shao and Wu 1989, Ann. Statist. 17:1176-1197) is added, up to the
    jackknife's own variance. Like Nadeau and Bengio's correction (2003, Machine Learning 52:239-281), which adds .45 to
    it for five times five folds whatever the model is, but measured.

    Parameters
    ----------
    influence : float64 (groups, m) ``influences`` of the figures over all repeats.
    by_repeat : float64 (repeats, groups, m), those of each repeat by itself; None or a single one where cells were
        dealt to folds once.
    test_share : share of the groups that a model is tested on.
    """
    spread = spread_of(influence, strata)
    if by_repeat is None or len(by_repeat) < 2:
        return replace(spread, variance=spread.variance * (1 + _UNKNOWN_TRAINING))
    between = by_repeat.var(axis=0, ddof=1).sum(axis=0)
    added = np.minimum((1 - test_share) / test_share * between, _MOST_TRAINING * spread.variance)
    return replace(spread, variance=spread.variance + added)


def intervals(
    values: ArrayLike,
    spread: Spread,
    subjects: ArrayLike,
    low_end: ArrayLike = 0.0,
    high_end: ArrayLike = 1.0,
    is_share: ArrayLike = False,
) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """95% intervals of m figures.

    Parameters
    ----------
    values : float64 (m,).
    subjects : (m,), groups of the smallest class that each figure is about, for the exact bound.
    low_end, high_end : (m,), the range of each figure; ``high_end`` may be infinite, and the scale is then the
        logarithm; where ``low_end`` is too, the scale is that of the figure itself.
    is_share : (m,), whether a figure varies no more than the share of as many subjects, each of them all right or all
        wrong: the interval is no wider than Clopper and Pearson's of that share, then. So it is of means over subjects
        of what lies between the ends, and of the AUROC (van Dantzig 1951, Indag. Math. 13:1-8: the variance of a share
        v of pairs is v (1 - v) over the smaller class at most).

    Returns
    -------
    float64 (m,) lower and upper bounds, never equal, and bool (m,), which of them are exact. NaN where there is no
    interval: a spread that is not known, or one of 0 in a range without end.

    >>> strata = Strata.from_counts(np.repeat(np.eye(2), 12, axis=0), ["all", "hem"])
    >>> low, high, exact = intervals([1.0], spread_of(np.zeros((24, 1)), strata), [12])
    >>> round(float(low[0]), 3), float(high[0]), bool(exact[0])
    (0.735, 1.0, True)
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    value, bottom, top, number, variance = np.broadcast_arrays(
        *(np.asarray(part, np.float64) for part in (values, low_end, high_end, subjects, spread.variance))
    )
    ends, is_free = np.isfinite(top), ~np.isfinite(bottom)
    bottom = np.where(is_free, 0, bottom)
    width = np.where(ends, top - bottom, 1.0)
    share = (value - bottom) / width
    # A figure at its very end that varies all the same, as a sum of absolute values may, can be anywhere.
    inside = np.clip(share, 1e-12, np.where(ends, 1 - 1e-12, np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        error, degrees = _on_scale(inside, width, spread, ends)
        error = np.where(is_free, np.sqrt(spread.variance), error)
        reach = t.ppf(1 - _TAIL, np.where(is_free, spread.degrees, degrees)) * error
        at = np.where(ends, logit(inside), np.log(inside))
        low, high = (np.where(ends, expit(at + side), np.exp(np.minimum(at + side, 700))) for side in (-reach, reach))
        low, high = np.where(is_free, share - reach, low), np.where(is_free, share + reach, high)
    exact = ~(variance > _NOTHING) & ~np.isnan(variance)
    unseen = 1 - _TAIL ** (1 / np.maximum(number, 1))
    low = np.where(exact, share - unseen * share, low)
    high = np.where(exact, share + unseen * (1 - share), high)
    unknown = np.isnan(variance) | np.isnan(value) | (exact & ~ends)
    least, most = _all_or_nothing(np.clip(share, 0, 1), spread, number)
    capped = np.asarray(is_share, bool) & ends & ~is_free & ~exact
    low, high = np.where(capped, np.maximum(low, least), low), np.where(capped, np.minimum(high, most), high)
    low, high = (np.where(unknown, np.nan, bottom + width * part) for part in (low, high))
    return low, high, exact & ~unknown


def _all_or_nothing(share: _Floats, spread: Spread, number: _Floats) -> tuple[_Floats, _Floats]:
    """Clopper and Pearson's 95% bounds of shares of subjects who are each all right or all wrong; of as many as would
    vary as little, where models that are trained anew vary too."""
    from scipy.special import betaincinv

    varies = spread.variance > _NOTHING
    known = np.divide(spread.own, spread.variance, out=np.ones_like(spread.variance), where=varies)
    subjects = np.minimum(number, 1 / spread.most) * known
    right, wrong = share * subjects, (1 - share) * subjects
    low = np.where(right > 0, betaincinv(np.maximum(right, 1e-12), wrong + 1, _TAIL), 0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.maximum(wrong, 1e-12), 1 - _TAIL), 1)
    return low, high


def p_values(differences: ArrayLike, spread: Spread, subjects: ArrayLike) -> _Floats:
    """Two-sided p of "the difference is 0" of m differences between -1 and 1: below 0.05 exactly where the interval of
    ``intervals`` from -1 to 1 leaves 0 out. Where nothing varies it is that of the sign test, 2 / 2**subjects for a
    difference of 1. 1 where nothing differs, NaN where the spread is not known."""
    from scipy.special import logit
    from scipy.stats import t

    value = np.asarray(differences, np.float64)
    share = (np.abs(value) + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        error, degrees = _on_scale(share, np.float64(2), spread, np.True_)
        found = 2 * t.sf(logit(share) / error, degrees)
    alike = np.minimum(1, 2 * (0.5 / share) ** np.maximum(np.asarray(subjects, np.float64), 1))
    found = np.where(spread.variance > _NOTHING, found, alike)
    return np.where(np.isnan(spread.variance), np.nan, np.where(value == 0, 1.0, found))


def one_sided_p(differences: ArrayLike, bound: float, spread: Spread, subjects: ArrayLike) -> _Floats:
    """One-sided p of "the difference is ``bound`` or less" of m differences between -1 and 1; NaN where the spread is
    not known. Where nothing varies, the level at which the exact bound of ``intervals`` reaches ``bound``.

    Two entries that are nearly the same differ in a few subjects, so that their difference is skewed, and its variance
    small where the difference is: Student's t would err in 7 of 100 at 5%. The larger of its p and of that by Hall's
    transformation of it (1992, J. R. Statist. Soc. B 54:221-228), which takes the skew out, is given, with the degrees
    of freedom that the fourth moments leave: 5.3 to 5.7 of 100.
    """
    from scipy.stats import t

    value = np.asarray(differences, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio, skew = (value - bound) / np.sqrt(spread.variance), spread.third / spread.variance**1.5
        symmetric = ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / 6
        found = t.sf(np.minimum(ratio, symmetric), np.minimum(spread.degrees, spread.known_to))
        # Up to a share of 1 - p ** (1 / subjects) may lie at the lower end.
        alike = ((bound + 1) / (value + 1)) ** np.maximum(np.asarray(subjects, np.float64), 1)
    alike = np.where(value > bound, alike, 1.0)
    found = np.where(spread.variance > _NOTHING, found, alike)
    return np.where(np.isnan(spread.variance), np.nan, found)


def _on_scale(share: _Floats, width: ArrayLike, spread: Spread, ends: ArrayLike) -> tuple[_Floats, _Floats]:
    """Standard error on the logit scale (the logarithm without an upper end) and its degrees of freedom."""
    slope = np.where(ends, share * (1 - share), share)
    squared = np.square(width)
    # Of figures with one end only, nothing is known of how far they may be from it.
    doubt = np.where(ends, _ALL_OR_NOTHING * spread.weight * (2 * share - 1) ** 2 * slope, 0)
    known = np.where(ends, np.clip(spread.own / squared / (slope * spread.most), 0, 1), 0)
    return np.sqrt(spread.variance / squared + doubt) / slope, spread.degrees / (1 - _FOLLOWS * known**2)
