"""ROC, precision, reliability and risk-coverage curves with bands over subjects.

A band is pointwise: at each place the interval that any figure has (``fusion.metrics.jackknife``), exact where nothing
varies, of the subjects that have a cell there. Where few subjects vary, such intervals jump from place to place; what
cannot fall as a curve goes on (the false positives of a ROC or precision-recall curve, the mistakes of a risk-coverage
curve) bounds its neighbours too, so that bands neither dip nor spike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.metrics.classification import pooled
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of
from fusion.metrics.judgement import comparable_parts
from fusion.metrics.scored_rows import reliability_of, reliability_rows

_Floats = NDArray[np.float64]

#: Groups up to which each is left out by itself for a band; more are left out in sets.
_MOST_LEFT_OUT = 150

#: Sets of groups of each class, then: Student's t of 49 degrees is within 3% of the normal's.
_SETS = 50


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve and its 95% band, NaN where there is none: float64 (m,) each."""

    x: _Floats
    y: _Floats
    low: _Floats
    high: _Floats


def _scored(
    result: Result, at: int, about: str | None, what: str
) -> tuple[NDArray[np.object_], _Floats, NDArray[np.bool_], NDArray[np.intp], list[NDArray[np.intp]]]:
    """Labels of the scored rows of one entry, their scores for the class in question, whether they are of it, the
    number of their group, and the rows of each model whose scores are of one scale."""
    about = result.positive if about is None else about
    if about is None:
        raise ValueError(f"{what} of more than two classes is about one of them")
    y, scores, ids, repeat, cell = pooled(
        np.array(result.cells.y, object), result.scores[at].proba, result.cells.groups
    )
    is_positive = y == about
    parts, _ = comparable_parts(is_positive, repeat, result.scores[at].fold[repeat, cell])
    models = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    return y, scores[:, result.classes.index(about)], is_positive, np.unique(ids, return_inverse=True)[1], models


def roc_curve(result: Result, at: int, about: str | None = None) -> Curve:
    """Sensitivity over 1 - specificity of one entry, on a grid of 101; the band is pointwise.

    A ROC curve never falls, so that a bound below it holds further right too, and one above it further left: the band
    never falls either, and does not dip to 0 where a single subject tells how much the curve varies.

    The straight line between two neighbouring thresholds, averaged over the models of folds and repeats by their
    pairs (vertical averaging, Fawcett 2006, Pattern Recognit. Lett. 27:861-874), so that the area is the AUROC.

    Parameters
    ----------
    about : the class that is told from the rest; None takes the positive one of two.

    Raises
    ------
    ValueError : a result of more than two classes, and none of them named.
    """
    y, score, is_positive, rank, models = _scored(result, at, about, "a ROC curve")
    staircases = [rows[np.argsort(-score[rows], kind="stable")] for rows in models]
    grid = np.linspace(0, 1, 101)

    def at_grid(weights: _Floats) -> _Floats:
        total, pairs = np.zeros(len(grid)), 0.0
        for order in staircases:
            drawn, kinds = weights[rank[order]], is_positive[order]
            ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
            found, predicted = np.cumsum(drawn * kinds)[ends], np.cumsum(drawn * ~kinds)[ends]
            weight = float(found[-1] * predicted[-1])
            if not weight:
                continue
            false, true = (np.append(0, part / part[-1]) for part in (predicted, found))
            # A hair between equal rates keeps the steps upright, which interpolation would otherwise lean.
            total += weight * np.interp(grid, false + 1e-12 * np.arange(len(false)), true)
            pairs += weight
        return total / pairs if pairs else np.full(len(grid), np.nan)

    curve = _with_band(grid, at_grid, rank, np.unique(y, return_inverse=True)[1])
    low = np.fmax.accumulate(curve.low)
    high = np.fmin.accumulate(curve.high[::-1])[::-1]
    return Curve(grid, curve.y, low, high)


def precision_curve(result: Result, at: int, about: str | None = None) -> Curve:
    """Precision over sensitivity of one entry, on a grid of 100 from 0.01; the band is pointwise.

    Precision p at a sensitivity s says how many of the N negatives are called positive beside s of the P positives:
    s (1 - p) / p times P / N of them (over several models too, as harmonic means). The band is of that share, which
    never falls as sensitivity grows, so that a bound above it holds further left too, and one below it further right.
    At a small sensitivity it is wide however good the precision is: few subjects cannot rule out one whose cells all
    score high.

    At each sensitivity the precision of the highest threshold that reaches it: a staircase, since precision between two
    thresholds lies on no straight line (Davis and Goadrich 2006, ICML, 233-240); averaged over the models of folds and
    repeats by their positives, as the AUPRC is.

    Parameters
    ----------
    about : the class that is told from the rest; None takes the positive one of two.

    Raises
    ------
    ValueError : a result of more than two classes, and none of them named.
    """
    y, score, is_positive, rank, models = _scored(result, at, about, "a precision-recall curve")
    staircases = [rows[np.argsort(-score[rows], kind="stable")] for rows in models if 0 < is_positive[rows].mean() < 1]
    grid = np.linspace(0.01, 1, 100)

    def at_grid(weights: _Floats) -> _Floats:
        gained, total = np.zeros(len(grid)), 0.0
        for order in staircases:
            drawn = weights[rank[order]]
            ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
            found, predicted = np.cumsum(drawn * is_positive[order])[ends], np.cumsum(drawn)[ends]
            if not found[-1]:
                continue
            first = np.minimum(np.searchsorted(found / found[-1], grid - 1e-12), len(found) - 1)
            gained += found[-1] * found[first] / np.maximum(predicted[first], 1e-300)
            total += float(found[-1])
        return gained / total if total else np.full(len(grid), np.nan)

    positives = np.bincount(rank, is_positive)
    negatives = np.bincount(rank) - positives

    def called_positive(weights: _Floats) -> _Floats:
        return grid * (1 / at_grid(weights) - 1) * (weights @ positives) / np.maximum(weights @ negatives, 1e-300)

    band = _with_band(grid, called_positive, rank, np.unique(y, return_inverse=True)[1])
    precision, reached = at_grid(np.ones(len(positives))), grid * positives.sum() / max(1, negatives.sum())
    least, most = np.fmax.accumulate(band.low), np.fmin.accumulate(band.high[::-1])[::-1]
    low, high = reached / (reached + most), reached / (reached + least)
    return Curve(grid, precision, np.minimum(low, precision), np.maximum(high, precision))


def reliability_curve(result: Result, at: int) -> Curve:
    """Share of hits over mean confidence, a point a bin of equally many cells; see ``scored_rows.reliability_of``."""
    y, scores, ids, _, _ = pooled(np.array(result.cells.y, object), result.scores[at].proba, result.cells.groups)
    codes = np.array([result.classes.index(label) for label in y.tolist()], np.intp)
    positive = None if result.positive is None else result.classes.index(result.positive)
    confidence, hit = reliability_of(codes, scores, positive)
    which = reliability_rows(confidence)
    rank = np.unique(ids, return_inverse=True)[1]
    size = int(which.max()) + 1
    mean = np.bincount(which, confidence, size) / np.maximum(np.bincount(which, minlength=size), 1)

    def share(weights: _Floats) -> _Floats:
        drawn = weights[rank]
        rows = np.bincount(which, drawn, size)
        return np.divide(np.bincount(which, drawn * hit, size), rows, out=np.full(size, np.nan), where=rows > 0)

    curve = _with_band(mean, share, rank, codes, _groups_of(which, rank, size))
    held = np.bincount(which, minlength=size) > 0
    return Curve(*(part[held] for part in (curve.x, curve.y, curve.low, curve.high)))


def risk_coverage_curve(result: Result, at: int, sureness: _Floats | None = None) -> Curve:
    """Balanced accuracy of one entry over the share of cells answered (coverage), from a tenth to all; the band is
    pointwise.

    Cells are answered in the order of ``sureness``, float64 (n,), NaN last; by default that is how far above its
    threshold (or above nothing) a cell's class is. Cells that are equally sure are answered together, so that at least
    the share is. NaN where no cell of a class is answered: what is right about the others is no balanced accuracy.
    Mistakes are never fewer where more is answered, so that the bounds at one place, in mistakes of a class, hold at
    its neighbours too; how many cells of each class are answered is taken as it was measured.
    Source: El-Yaniv and Wiener (2010), JMLR 11:1605-1641 (the risk-coverage curve).
    """
    labels, proba, ids, repeat, cell = pooled(
        np.array(result.cells.y, object), result.scores[at].proba, result.cells.groups
    )
    own = result.scores[at]
    positive = None if result.positive is None else result.classes.index(result.positive)
    codes = np.array([result.classes.index(label) for label in labels.tolist()], np.intp)
    right = own.predicted(positive)[repeat, cell] == codes
    thresholds, costs = (None if part is None else part[repeat, cell] for part in (own.threshold, own.costs))
    sure = np.nan_to_num(sureness[cell], nan=-np.inf) if sureness is not None else None
    sure = _confidence(proba, thresholds, positive, costs) if sure is None else sure
    rank = np.unique(ids, return_inverse=True)[1]
    order = np.argsort(-sure, kind="stable")
    ends = np.flatnonzero(np.append(sure[order][1:] != sure[order][:-1], True))
    grid = np.linspace(0.1, 1, 46)
    occurs = np.unique(codes)

    def at_grid(weights: _Floats) -> _Floats:
        drawn = weights[rank[order]]
        answered = np.cumsum(drawn)[ends]
        first = np.minimum(np.searchsorted(answered, (grid - 1e-9) * answered[-1]), len(ends) - 1)
        recalls = []
        for code in occurs:
            of = drawn * (codes[order] == code)
            cells, hits = np.cumsum(of)[ends][first], np.cumsum(of * right[order])[ends][first]
            recalls.append(np.divide(hits, cells, out=np.full(len(grid), np.nan), where=cells > 0))
        return np.mean(recalls, axis=0)

    answered = ends[np.minimum(np.searchsorted(ends + 1, (grid - 1e-9) * len(order)), len(ends) - 1)]
    met = [_met(np.flatnonzero(codes[order] == code), rank[order], answered) for code in occurs]
    cells, groups = np.array(met).swapaxes(0, 1)
    curve = _with_band(grid, at_grid, rank, codes, groups.min(axis=0))
    low, high = _bounded_by_neighbours(1 - curve.high, 1 - curve.low, cells)
    known = ~np.isnan(curve.y)
    return Curve(grid, curve.y, np.where(known, 1 - high, np.nan), np.where(known, 1 - low, np.nan))


def _met(rows: NDArray[np.intp], rank: NDArray[np.intp], upto: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    """How many of the ascending ``rows``, and of the groups that they are of, there are up to each place."""
    first = np.sort(rows[np.unique(rank[rows], return_index=True)[1]])
    return np.searchsorted(rows, upto, "right"), np.searchsorted(first, upto, "right")


def _bounded_by_neighbours(low: _Floats, high: _Floats, cells: NDArray[np.intp]) -> tuple[_Floats, _Floats]:
    """Bounds of a mean share of mistakes over classes, intp (classes, m) ``cells`` of which are answered at each place:
    mistakes of a class are no more than those among more of its cells, and no fewer than those among less."""
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = cells[:, None, :] / cells[:, :, None]  # of each place's cells, at each other place
    later = np.triu(np.ones(growth.shape[1:], bool))
    most = np.where(later, high * growth.max(axis=0), np.nan)
    least = np.where(later.T, low * growth.min(axis=0), np.nan)
    low, high = np.fmax.reduce(least, axis=1), np.fmin.reduce(most, axis=1)
    high = np.minimum(high, 1)  # mistakes among two cells bound those among one at twice their share
    # What is bounded from one side alone may lie anywhere on the other.
    return np.where(np.isnan(low) & ~np.isnan(high), 0, low), np.where(np.isnan(high) & ~np.isnan(low), 1, high)


def _confidence(
    proba: _Floats, thresholds: _Floats | None, positive: int | None, costs: _Floats | None = None
) -> _Floats:
    """float64 (n,): the highest probability; with a threshold, the share of the way from there to certainty; with
    costs, the least one below the mean of all, as a share of it."""
    if costs is not None:
        return 1 - costs.min(axis=1) / np.maximum(costs.mean(axis=1), 1e-300)
    if thresholds is None or positive is None:
        return proba.max(axis=1)
    p = proba[:, positive]
    return np.where(
        p >= thresholds,
        (p - thresholds) / np.maximum(1 - thresholds, 1e-12),
        (thresholds - p) / np.maximum(thresholds, 1e-12),
    )


def _groups_of(places: NDArray[np.intp], rank: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """intp (size,): how many groups have a row in each place."""
    pairs = np.unique(places * (int(rank.max()) + 1) + rank)
    return np.bincount(pairs // (int(rank.max()) + 1), minlength=size)


def _with_band(
    x: _Floats,
    value: Callable[[_Floats], _Floats],
    rank: NDArray[np.intp],
    codes: NDArray[np.intp],
    groups: NDArray[np.intp] | None = None,
) -> Curve:
    """The curve ``value`` of weights of groups with its pointwise band, by leaving groups out within class; ``groups``
    are how many there are at each place where not all of them are, of the class that has the fewest."""
    counts = np.zeros((int(rank.max()) + 1, int(codes.max()) + 1))
    np.add.at(counts, (rank, codes), 1)
    classes = [str(code) for code in range(counts.shape[1])]
    strata = Strata.from_counts(counts, classes)
    y = value(np.ones(len(counts)))
    if len(counts) > _MOST_LEFT_OUT:
        sets = np.zeros(len(counts), np.intp)
        for number, (members, _) in enumerate(strata.samples):
            sets[members] = number * _SETS + np.arange(len(members)) % _SETS
        sets = np.unique(sets, return_inverse=True)[1]
        held = np.zeros((int(sets.max()) + 1, counts.shape[1]))
        np.add.at(held, sets, counts)
        strata = Strata.from_counts(held, classes)
    else:
        sets = np.arange(len(counts))
    without = np.stack([value((sets != left).astype(np.float64)) for left in range(int(sets.max()) + 1)])
    behind = strata.smallest if groups is None else np.minimum(groups, strata.smallest)
    low, high, _ = intervals(y, spread_of(influences(without, strata), strata), behind, is_share=True)
    return Curve(x, y, low, high)
