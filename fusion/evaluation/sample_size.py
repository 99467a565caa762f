"""How many subjects a difference of balanced accuracy needs to be found, and which one so many can find.

Two sets of features are judged on the same subjects, so what counts is how much the difference of a class's recall
varies from subject to subject: its standard deviation, one a class. It comes from a result that is there (a pilot), or
from what is assumed of accuracy, cells, and correlations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: What training anew on other subjects adds to the variance of a difference, as a share of what held-out subjects tell:
#: what is taken where nothing tells (``fusion.metrics.jackknife``).
TRAINING_VARIANCE = 0.6

#: Subjects of all classes above which no number is told: no study of blood smears has as many.
MOST_SUBJECTS = 1_000_000

#: Confidence with which the true spread is below the one that the cautious number is for.
#: Source: Browne (1995), Stat. Med. 14:1933-1940 (a pilot's spread is too small in half of all pilots).
_CAUTION = 0.8


@dataclass(frozen=True)
class Spreads:
    """How a difference of recalls varies from subject to subject.

    Attributes
    ----------
    deviations : of each class, the standard deviation over subjects.
    subjects : of each class, how many subjects that is known from; none where it is assumed.
    origin : where it is from, in words.
    """

    deviations: Mapping[str, float]
    subjects: Mapping[str, int]
    origin: str

    def cautious(self) -> Spreads:
        """With standard deviations that the true ones are below with 80% confidence, if subjects are normal."""
        from scipy.stats import chi2

        wider = {}
        for name, deviation in self.deviations.items():
            degrees = self.subjects[name] - 1
            wider[name] = deviation * math.sqrt(degrees / float(chi2.ppf(1 - _CAUTION, degrees)))
        return Spreads(wider, self.subjects, self.origin)


def assumed_spreads(
    classes: Sequence[str], accuracy: float, cells: float, within_subject: float, between_sets: float
) -> Spreads:
    """Spreads out of assumptions.

    A subject's share of right cells varies by p (1 - p) (rho + (1 - rho) / m), where p is the accuracy, rho the
    correlation of two cells of one subject and m its cells (the design effect of Kish 1965, Survey Sampling, section
    5.4); the difference of two sets by twice that, less what they have in common.

    Parameters
    ----------
    accuracy : share of a class's cells that is recognised.
    cells : of a subject.
    within_subject : correlation, 0 to 1, of whether two cells of one subject are recognised.
    between_sets : correlation, 0 to 1, of the shares of a subject's cells that both sets recognise.

    >>> round(assumed_spreads(["all"], 0.9, 1, 0.0, 0.0).deviations["all"] ** 2, 3)  # two coins of 0.9
    0.18
    """
    share = accuracy * (1 - accuracy) * (within_subject + (1 - within_subject) / cells)
    deviation = math.sqrt(2 * share * (1 - between_sets))
    words = (
        f"assumed: {accuracy:g} of the cells of a class recognised, {cells:g} cells a subject, correlation "
        f"{within_subject:g} of two cells of a subject and {between_sets:g} of the two sets"
    )
    return Spreads(dict.fromkeys(classes, deviation), {}, words)


def pilot_spreads(differences: _Floats, labels: Sequence[str], subjects: Sequence[Any], origin: str) -> Spreads:
    """Spreads as they were in a result.

    The standard deviation of one subject is sqrt(n) times the standard error of a class's mean over cells, so that
    subjects with many cells weigh as they do in balanced accuracy.

    Parameters
    ----------
    differences : float64 (n,), of every cell how much more often the first set recognised it, -1 to 1.
    labels, subjects : of the n cells.
    """
    of, who = (np.array(part, object).astype(str) for part in (labels, subjects))
    deviations, counts = {}, {}
    for name in sorted(set(of.tolist())):
        rows = of == name
        ids = np.unique(who[rows], return_inverse=True)[1]
        size = np.bincount(ids)
        gap = np.bincount(ids, differences[rows] - differences[rows].mean()) / len(ids)
        number = len(size)
        if number > 1:
            deviations[name] = math.sqrt(number * number / (number - 1) * float((gap**2).sum()))
            counts[name] = number
    return Spreads(deviations, counts, origin)


def power(
    difference: float,
    subjects: Mapping[str, float],
    spreads: Spreads,
    *,
    training: float = TRAINING_VARIANCE,
    level: float = 0.05,
) -> float:
    """Probability that a difference of balanced accuracy is found by a two-sided t-test with Satterthwaite's degrees of
    freedom over classes.

    Parameters
    ----------
    difference : the true one.
    subjects : of each class.
    training : what training anew adds to the variance, as a share.
    level : of the test.
    """
    from scipy.stats import nct, t

    parts = np.array([spreads.deviations[name] ** 2 / number for name, number in subjects.items()]) / len(subjects) ** 2
    numbers = np.array(list(subjects.values()))
    if not parts.sum():
        return 1.0 if difference else level
    degrees = float(parts.sum() ** 2 / (parts**2 / np.maximum(numbers - 1, 1e-9)).sum())
    error = math.sqrt(float(parts.sum()) * (1 + training))
    limit = float(t.ppf(1 - level / 2, degrees))
    found = 1 - nct.cdf(limit, degrees, abs(difference) / error) + nct.cdf(-limit, degrees, abs(difference) / error)
    return float(found) if math.isfinite(found) else 1.0


def subjects_needed(
    difference: float, shares: Mapping[str, float], spreads: Spreads, *, asked: float = 0.8, **how: float
) -> dict[str, int] | None:
    """The fewest subjects of each class, in these shares, that find a difference with the power that is asked for; two
    at least. None where a million do not.

    >>> coin = assumed_spreads(["all", "hem"], 0.9, 1, 0.0, 0.0)
    >>> found = subjects_needed(0.1, {"all": 0.5, "hem": 0.5}, coin, training=0.0)
    >>> power(0.1, found, coin, training=0.0) >= 0.8
    True
    """

    def numbers(total: int) -> dict[str, int]:
        return {name: max(2, math.ceil(share * total)) for name, share in shares.items()}

    low, high = 1, 4
    while power(difference, numbers(high), spreads, **how) < asked:
        low, high = high, 2 * high
        if high > MOST_SUBJECTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, numbers(middle), spreads, **how) >= asked else (middle, high)
    return numbers(high)


def smallest_difference(subjects: Mapping[str, float], spreads: Spreads, *, asked: float = 0.8, **how: float) -> float:
    """The smallest true difference that so many subjects find with the power that is asked for; NaN where none up to 1
    is."""
    if min(subjects.values(), default=0) < 2 or power(1.0, subjects, spreads, **how) < asked:
        return math.nan
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, subjects, spreads, **how) >= asked else (middle, high)
    return high
