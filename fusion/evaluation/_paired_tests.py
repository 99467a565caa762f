"""Secondary paired tests of two sets of scores on the same cells, which hold the models fixed.

Of two equally good ways of building a model they find a difference in 7 to 17 of 100 at a level of 5%; the primary test
is that of ``fusion.evaluation.variation``.

Cells of one subject are alike and the same cells are scored twice, so that neither cells nor scores are independent.
Every test here but ``mcnemar`` takes the subject as its unit; McNemar's, which takes the cell, is what papers usually
report, and is given as a reference only: with strong subject effects it finds differences where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AurocDifference:
    """Two areas under the curve and the test of their difference: ``a`` - ``b`` with ``error``, its standard error."""

    a: float
    b: float
    error: float
    p: float

    @property
    def difference(self) -> float:
        return self.a - self.b


def clustered_delong(positive: ArrayLike, a: ArrayLike, b: ArrayLike, groups: ArrayLike) -> AurocDifference:
    """Difference of two AUROCs on the same cells, with the variance of clustered data.

    DeLong's structural components are summed over each group's cells before their variance is taken, so that what
    cells of a group share counts once. Its z is referred to Student's t with one degree of freedom fewer than the
    rarer class has groups, since with tens of subjects the variance itself is an estimate.
    Source: Obuchowski (1997), Biometrics 53:567-578; without groups it is DeLong, DeLong and Clarke-Pearson (1988),
    Biometrics 44:837-845.

    Parameters
    ----------
    positive : bool (n,).
    a, b : float (n,) scores of the positive class.
    groups : n group numbers.

    Returns
    -------
    ``error`` and ``p`` are NaN where a class has fewer than two groups; p is 1 where the scores rank all cells alike.
    """
    from scipy.stats import t

    is_positive = np.asarray(positive, bool)
    _, rank = np.unique(np.asarray(groups), return_inverse=True)
    ids = rank[is_positive], rank[~is_positive]
    m, n = len(ids[0]), len(ids[1])
    scores = [np.asarray(score, np.float64) for score in (a, b)]
    components = [_components(score[is_positive], score[~is_positive]) for score in scores]
    areas = [float(wins.mean()) if m and n else float("nan") for wins, _ in components]
    holders = [len(np.unique(part)) for part in ids]
    if min(holders) < 2:
        return AurocDifference(areas[0], areas[1], float("nan"), float("nan"))
    size = rank.max() + 1
    sums = [
        [np.bincount(part, values - area, size) for part, values in zip(ids, both, strict=True)]
        for both, area in zip(components, areas, strict=True)
    ]
    # Of the difference directly: its sums over a group are the differences of the sums.
    over_positives, over_negatives = sums[0][0] - sums[1][0], sums[0][1] - sums[1][1]
    variance = (
        holders[0] / (holders[0] - 1) * (over_positives**2).sum() / m**2
        + holders[1] / (holders[1] - 1) * (over_negatives**2).sum() / n**2
        + 2 * size / (size - 1) * (over_positives * over_negatives).sum() / (m * n)
    )
    difference = areas[0] - areas[1]
    if variance <= 0:
        return AurocDifference(areas[0], areas[1], 0.0, 1.0 if difference == 0 else 0.0)
    error = float(np.sqrt(variance))
    p = float(2 * t.sf(abs(difference) / error, min(holders) - 1))
    return AurocDifference(areas[0], areas[1], error, p)


def permutation_p(
    right_a: ArrayLike,
    right_b: ArrayLike,
    codes: ArrayLike,
    groups: ArrayLike,
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p of "both are equally often right": whole subjects change sides.

    The statistic is the difference of balanced accuracies. Under the null the two sets of scores of a subject could
    as well be exchanged, so that each subject's part of the difference has either sign with equal probability.
    Source: Good (2005), Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3 (matched pairs), on
    subjects. Up to 13 subjects all exchanges are counted; above, the random ones include the one observed.

    Parameters
    ----------
    right_a, right_b : bool (n,), whether each call is right.
    codes : intp (n,), the true class, which weighs the cells as balanced accuracy does.
    groups : n group numbers.

    Returns
    -------
    above 0, at most 1.
    """
    classes, code, counts = np.unique(np.asarray(codes), return_inverse=True, return_counts=True)
    _, rank = np.unique(np.asarray(groups), return_inverse=True)
    gap = np.asarray(right_a, np.float64) - np.asarray(right_b, np.float64)
    parts = np.bincount(rank, gap / (counts[code] * len(classes)))
    parts = parts[parts != 0]
    # Sums that are equal in exact arithmetic differ by rounding; they must count as reached.
    reached = abs(parts.sum()) * (1 - 1e-9) - 1e-15
    if len(parts) <= _ALL_EXCHANGES:
        signs = 1 - 2 * ((np.arange(2 ** len(parts))[:, None] >> np.arange(len(parts))) & 1)
        return float((np.abs(signs @ parts) >= reached).mean())
    rng = np.random.default_rng(seed)
    hits, size = 1, max(1, 4_000_000 // len(parts))
    for start in range(0, n_permutations, size):
        signs = rng.integers(2, size=(min(size, n_permutations - start), len(parts)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ parts) >= reached).sum())
    return hits / (n_permutations + 1)


#: Subjects up to which all exchanges are counted: 2**13 are fewer than the random ones.
_ALL_EXCHANGES = 13


def mcnemar_p(right_a: ArrayLike, right_b: ArrayLike) -> float:
    """Two-sided exact p of "as many cells are right by A alone as by B alone", with the cell as the unit.

    Wrong where cells share subjects; see the top of this file. Source: McNemar (1947), Psychometrika 12:153-157.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that all tests of a table together err with at most the level's probability.

    Source: Holm (1979), Scand. J. Statist. 6:65-70. NaN stay NaN and do not count as tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [at for at in np.argsort(values, kind="stable") if not np.isnan(values[at])]
    highest = 0.0
    for done, at in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - done) * values[at]))
        adjusted[at] = highest
    return adjusted.tolist()


def _components(positives: _Floats, negatives: _Floats) -> tuple[_Floats, _Floats]:
    """For each positive the share of negatives that it beats, for each negative the share of positives that beat it;
    ties count half."""
    below, upto = (np.searchsorted(np.sort(negatives), positives, side) for side in ("left", "right"))
    under, over = (np.searchsorted(np.sort(positives), negatives, side) for side in ("left", "right"))
    wins = (below + upto) / (2 * max(1, len(negatives)))
    return wins, 1 - (under + over) / (2 * max(1, len(positives)))
