"""Sets of classes and thresholds that keep a promise for subjects who were never met.

**Sets.** Of n subjects of a class, and one new one, each is as likely as any other to have the lowest score: so a
threshold at the right rank among the n scores is met by a new subject's score with a probability that is known,
whatever the model and however the scores are distributed (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a
Random World; by class: Vovk 2013, Machine Learning 92:349-376). What is exchangeable is the subject, never the cell:
two cells of a subject share its slide, and a thousand of them are no thousand witnesses. Of a subject with many cells
one is drawn by chance, before any score is looked at (subsampling once: Dunn, Wasserman and Ramdas 2023, J. Am.
Statist. Assoc. 118:2491-2502); a cell of a new subject, drawn likewise, is then one more of as many exchangeable
scores, and the level is exact. Pooling all cells with the subjects' weights (Lee, Barber and Willett 2023,
arXiv:2306.06342) is valid too, but of 15 subjects it holds in up to 96% where 90% are asked for.

Ranks are whole, and (n + 1) level is not: of 15 subjects they are met in 87.5 or in 93.75%. Which of both is taken is
drawn once, in such shares that the mean is the level (smoothed conformal predictors, loc. cit.); afterwards it stays.

**Risk.** "At most 5% of the leukaemic are missed" is a threshold on one score. On average over trainings it holds at
the rank floor(0.05 (n + 1)) (conformal risk control: Angelopoulos, Bates, Fisch, Lei and Schuster 2024, ICLR). In 95
of 100 trainings it holds at the highest rank whose miss rate the exact binomial test finds to be below 5% (Learn then
Test, by fixed sequence: Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv:2110.01052).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def subjects_for_level(level: float) -> int:
    """The fewest subjects of a class that a set of this level is possible from.

    >>> subjects_for_level(0.9), subjects_for_level(0.95)
    (9, 19)
    """
    # Not n >= level / (1 - level) itself: 0.9 / (1 - 0.9) is 9.000000000000002.
    return math.ceil(level / (1 - level) - 1e-9)


def set_threshold(scores: _Floats, level: float, draw: float) -> float:
    """The score from which a class is in a set: a new subject of the class is not below it with probability ``level``.

    Parameters
    ----------
    scores : float64 (n,), of n subjects of the class, each the probability of this class that a model gives which has
        not met the subject. Equal ones make the promise hold more often.
    level : share of new subjects, 0 to 1.
    draw : uniform in [0, 1), drawn without a look at the scores.

    Returns
    -------
    The threshold; -inf where there are too few subjects (``subjects_for_level``): the class is in every set.

    Examples
    --------
    >>> set_threshold(np.arange(9) / 10, 0.9, 0.5), set_threshold(np.arange(8) / 10, 0.9, 0.5)
    (0.0, -inf)
    """
    n = len(scores)
    if n < subjects_for_level(level):
        return -math.inf
    above = math.floor((n + 1) * level + draw + 1e-9)  # scores that are not below the threshold
    if above < 1:
        return math.inf
    return float(np.sort(scores)[n - min(above, n)])


def in_set(proba: _Floats, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """bool (n, K): whether each class is in each set, from float64 (n, K) and K thresholds."""
    found: NDArray[np.bool_] = proba >= np.asarray(thresholds, float)
    return found


def subjects_for_risk(risk: float, confidence: float | None) -> int:
    """The fewest positive subjects from which a threshold can promise to miss at most a share ``risk`` of them.

    >>> subjects_for_risk(0.05, None), subjects_for_risk(0.05, 0.95)
    (19, 59)
    """
    if confidence is None:
        return math.ceil(1 / risk - 1 - 1e-9)
    return math.ceil(math.log(1 - confidence) / math.log1p(-risk) - 1e-9)


def risk_threshold(scores: _Floats, risk: float, confidence: float | None) -> float:
    """The highest score below which a new positive subject is ruled out, and at most a share ``risk`` of them.

    Parameters
    ----------
    scores : float64 (n,), of n positive subjects, the probability of the positive class.
    risk : share of positive subjects that may be missed, 0 to 1.
    confidence : in which share of trainings it holds; None for on average over them.

    Returns
    -------
    The threshold; -inf, which rules nobody out, where there are too few subjects (``subjects_for_risk``).

    Examples
    --------
    >>> scores = np.arange(100) / 100
    >>> risk_threshold(scores, 0.05, None), risk_threshold(scores, 0.05, 0.95), risk_threshold(scores[:9], 0.05, None)
    (0.04, 0.01, -inf)
    """
    from scipy.stats import binom

    n = len(scores)
    if confidence is None:
        rank = math.floor((n + 1) * risk + 1e-9)
    else:
        # The miss rate at the k-th lowest score is above the risk with the probability of k - 1 successes or fewer.
        ranks = np.arange(1, n + 1)
        rank = int((binom.cdf(ranks - 1, n, risk) <= 1 - confidence).sum())
    return float(np.sort(scores)[rank - 1]) if rank else -math.inf


def draw_cells(subjects: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of one cell of each subject, by chance.

    >>> draw_cells(np.array([7, 7, 3]), np.random.default_rng(0)).tolist()
    [2, 0]
    """
    order = rng.permutation(len(subjects))
    first = np.unique(subjects[order], return_index=True)[1]
    return order[first].astype(np.intp)
