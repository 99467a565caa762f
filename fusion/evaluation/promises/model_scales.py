"""Held-out scores of the models of folds, put on the scale of the one model that is asked of new subjects.

A model that has not met a subject is pulled away from it, since it has learnt from the others alone: held-out scores
of few subjects lie further out than the kept model's scores of new subjects do, and a threshold among them is met too
often. (Of the simplest model, x minus the mean of the others, the lowest of n held-out scores lies n / (n - 1) times as
far out as under the mean of all; a new one is met with n / (n + 1) where both are taken from the same centre.) CV+
cures that by asking every fold's model of the new subject (Barber, Candès, Ramdas and Tibshirani 2021, Ann. Statist.
49:486-507). Here the new subject is asked of one model, and the comparison is moved to that instead: in each class, a
fold's scores are shifted and stretched in log odds, by what both models say of the training subjects that they have
learnt from.

They have the mean that the kept model gives them. How much a fold's scores are stretched is the same in all classes.
How far folds differ in it goes by how sure their models are: by the root mean square of log odds of all classes,
several standard deviations of one class, which few subjects tell where they do not tell that of a class. Of 12 subjects
of a class the former is closer to what new subjects have, whatever the classifier: with what folds really differ by
(logarithms of stretches) it has a correlation of .87 in bags' networks, .53 in `pool`, .91, .72 and .98 in logistic
regression, trees and SVM, where the class's own deviations have .58, .13, .78, .44 and .95. How much all folds together
are stretched lies in the middle of what both tell: the one errs where models know their subjects by heart, the other by
chance. Stretched by a class's own deviations alone, one training's coverage lies further from the mean of trainings, by
a tenth in an SVM and by half in `pool`.

Both know these alike, but a model flatters whom it has learnt from, and that of a fold more, since it has fewer: by how
much scores of learnt subjects lie above those of others, its optimism, falls with one over their number to first order
(of least squares 2 p / n: Efron 2004, J. Am. Statist. Assoc. 99:619-632; of 24 and 30 subjects measured .82 to .88 for
logistic regression, trees and bags of statistics, where 24 / 30 is .80). So the mean of held-out scores is put below
that of learnt ones by as much of the distance as falls to the kept model, n_fold / n of it. With all of it, sets cover
half a point to two points more.

That is no proof for any number of subjects, as CV+ has none of the level itself (of twice its complement). Where the
model of a fold is the kept one, or the kept one but for how sure it is, nothing is approximated; it becomes so as
subjects become many, since one fold then moves a model by less than subjects differ. It does need a model that does not
know its subjects by heart: where columns are enough to tell each one by itself, optimism hardly falls. Where learnt
subjects lie much further from held-out ones than these differ among each other, scores stay as the folds gave them. How
far it is off with few subjects is measured (docs/promises.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusion.data.units import Units
from fusion.evaluation.promises.held_out import HeldOut
from fusion.evaluation.scores import Scores

_Floats = NDArray[np.float64]

#: A probability beyond this from 0 or 1 says no more of a scale.
_SUREST = 1e-6

#: A scale of fewer subjects of a class than this is left as it is, and so is one that differs by more than a factor.
_LEAST_SUBJECTS, _MOST_STRETCH = 3, 2.0

#: By how many standard deviations of held-out scores those of learnt subjects may lie above them. With 15 subjects of a
#: class linear models of few columns have .1 to .6 (5th to 95th percentile of trainings), an RBF SVM .3 to 1.0, boosted
#: trees 1.0 to 2.8, linear models of three hundred columns .5 to 2.5. Of .75, 1.5, 2 and no limit, 2 has all of them
#: nearest to a level of .90 (.89 to .93; with .75 .89 to .95, without limit .87 to .93). Linear models of 500 columns
#: under a strong penalty lie at 4: there optimism falls no more, and sets of scaled scores would cover .85 or less.
_BY_HEART = 2.0


@dataclass(frozen=True, eq=False)
class LearntScores:
    """What models say of the very units that they have learnt from.

    Attributes
    ----------
    folds : the model of each test part, by its number: float64 (n, K), NaN where it has not learnt from a unit.
    whole : float64 (n, K), the model of all.
    """

    folds: Mapping[int, _Floats]
    whole: _Floats


def on_one_scale(held: HeldOut, cells: Units, learnt: LearntScores) -> HeldOut:
    """Held-out scores of subjects' own classes as the model of all would give them.

    Parameters
    ----------
    held : of these cells; probabilities of other classes than a cell's own stay as they are.
    cells : n units.
    learnt : of the same units.
    """
    pairs = {
        part: (_known(own, own, cells, held.classes), _known(learnt.whole, own, cells, held.classes))
        for part, own in learnt.folds.items()
    }
    everyone = _subjects_of(learnt.whole, cells)
    share = {part: _subjects_of(own, cells) / everyone for part, own in learnt.folds.items() if everyone}
    proba, means = held.proba.copy(), held.means.copy()
    codes = range(len(held.classes))
    of_cells = [{part: _of_cells(*pair, code, share[part]) for part, pair in pairs.items()} for code in codes]
    of_subjects = [{part: _of_subjects(*pair, code, share[part]) for part, pair in pairs.items()} for code in codes]
    stretches_of_cells, stretches_of_subjects = _stretches(of_cells), _stretches(of_subjects)
    for code in codes:
        rows = held.codes == code
        own = _Own(proba[rows, code], held.subjects[rows], held.folds[rows])
        proba[rows, code] = _scaled(own, of_cells[code], stretches_of_cells)
        rows = held.subject_codes == code
        own = _Own(means[rows, code], np.flatnonzero(rows), held.subject_folds[rows])
        means[rows, code] = _scaled(own, of_subjects[code], stretches_of_subjects)
    return replace(held, proba=proba, means=means)


def _subjects_of(proba: _Floats, cells: Units) -> int:
    """How many subjects a model has learnt from, of those that were asked about."""
    return len(np.unique(cells.subject_numbers[np.isfinite(proba).all(axis=1)]))


def _known(proba: _Floats, known: _Floats, cells: Units, classes: Sequence[str]) -> HeldOut:
    """Scores of those units that a fold's model has learnt from, cell by cell and subject by subject."""
    fold = np.where(np.isfinite(known).all(axis=1), 0, -1).astype(np.intp)
    return HeldOut.of(cells, Scores((), "", proba, fold), classes)


@dataclass(frozen=True, eq=False)
class _Own:
    """Held-out probabilities of their own class, of n rows of it: cells, or subjects; their subjects and test parts."""

    proba: _Floats
    subjects: NDArray[np.intp]
    folds: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Pair:
    """What a fold's model and the model of all say of the same learnt rows of a class, and whose these are; and of the
    subjects that the model of all has learnt from the share that the fold's has."""

    before: _Floats
    after: _Floats
    subjects: NDArray[np.intp]
    share: float

    @cached_property
    def moments(self) -> tuple[_Moments, _Moments]:
        """Of both."""
        return _Moments.of(self.before, self.subjects), _Moments.of(self.after, self.subjects)


def _of_cells(before: HeldOut, after: HeldOut, code: int, share: float) -> _Pair:
    rows = before.codes == code
    return _Pair(before.proba[rows, code], after.proba[rows, code], before.subjects[rows], share)


def _of_subjects(before: HeldOut, after: HeldOut, code: int, share: float) -> _Pair:
    rows = before.subject_codes == code
    return _Pair(before.means[rows, code], after.means[rows, code], np.flatnonzero(rows), share)


def _stretches(classes: Sequence[Mapping[int, _Pair]]) -> dict[int, float]:
    """By how much the model of all stretches the log odds of each fold's, by what both say of learnt rows of all
    classes: by how much surer it is, and half of what deviations within classes say beyond that of all folds."""
    surer, wider = {}, {}
    for part in classes[0]:
        moments = [own[part].moments for own in classes if len(own[part].before)]
        squares, variances = (
            [sum(of(pair[at]) for pair in moments) for at in (0, 1)]
            for of in (lambda each: each.square, lambda each: each.deviation**2)
        )
        if min(variances, default=0) > 0:
            surer[part], wider[part] = (0.5 * float(np.log(b / a)) for a, b in (squares, variances))
    if not surer:
        return {}
    common = 0.5 * float(np.mean([wider[part] - surer[part] for part in surer]))
    return {part: math.exp(own + common) for part, own in surer.items()}


def _scaled(own: _Own, known: Mapping[int, _Pair], stretches: Mapping[int, float]) -> _Floats:
    """The held-out probabilities of a class by the scale of the model of all."""
    found = own.proba.copy()
    learnt = [pair.moments[0].mean for pair in known.values() if len(pair.before)]
    if not len(found) or not learnt:
        return found
    held = _Moments.of(own.proba, own.subjects)
    optimism = float(np.mean(learnt)) - held.mean
    if optimism > _BY_HEART * held.deviation:
        return found
    for part, stretch in stretches.items():
        pair = known[part]
        is_known = len(np.unique(pair.subjects)) >= _LEAST_SUBJECTS
        if is_known and 1 / _MOST_STRETCH <= stretch <= _MOST_STRETCH:
            before, after = pair.moments
            rows = own.folds == part
            away = _log_odds(own.proba[rows]) - before.mean + optimism
            found[rows] = 1 / (1 + np.exp(-(after.mean - pair.share * optimism + stretch * away)))
    return found


@dataclass(frozen=True)
class _Moments:
    """Mean and standard deviation of log odds."""

    mean: float
    deviation: float

    @property
    def square(self) -> float:
        """Mean of squares."""
        return self.mean**2 + self.deviation**2

    @classmethod
    def of(cls, proba: _Floats, subjects: NDArray[np.intp]) -> _Moments:
        """Each subject weighs the same, however many rows it has."""
        _, who, count = np.unique(subjects, return_inverse=True, return_counts=True)
        values, weights = _log_odds(proba), 1 / count[who]
        mean = float(np.average(values, weights=weights))
        return cls(mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weights))))


def _log_odds(proba: _Floats) -> _Floats:
    clipped = np.clip(proba, _SUREST, 1 - _SUREST)
    return np.asarray(np.log(clipped / (1 - clipped)))
