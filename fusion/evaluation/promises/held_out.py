"""Promises with a level: sets of classes that hold the true one, and how many of the positive subjects are missed.

What a promise rests on are held-out scores: of every subject of a class the probability of this class that a model gave
which had not met the subject, and likewise of one of its cells. A model keeps them (they are numbers without names), so
that any level can be asked of it later. Mathematics and sources are in ``fusion.metrics.conformal``.

The level is exact where one model has scored subjects that are as exchangeable as the next one. Scores of a
cross-validation come from models that differ, of four fifths of the subjects each: as they are, sets hold the true
class more often than they promise, by 1 to 5 points at 15 subjects of a class, and on the scale of the model that is
kept (``model_scales``) by up to 2, by 3 of hundreds of columns (measured in ``benchmarks/promises.py``). From another
site nobody is exchangeable, and nothing is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.units import Units
from fusion.errors import UsageError
from fusion.evaluation.scores import Scores
from fusion.metrics import conformal
from fusion.metrics.subject_level import label_of_subjects, pool_subjects

_Floats = NDArray[np.float64]

#: What is promised of, in this order.
KINDS = ("cells", "subjects")

#: Of a subject's cells, the share out of distribution above which nothing is promised of the subject. Of cells that are
#: none, one in a hundred is flagged (``fusion.learning.novelty``); half of them are no chance.
MOST_OUTSIDE = 0.5

#: Fields of ``OwnScores`` that a model keeps.
_KEPT = ("cells", "subjects", "draws", "unscaled")

#: Stream of random numbers of promises.
_OF_PROMISES = 24


@dataclass(frozen=True)
class Asked:
    """What is to be promised.

    Attributes
    ----------
    level : share of new cells, and of new subjects, of each class whose set holds it; None for no sets.
    sensitivity : share of positive subjects that is found at least; None for no such promise.
    confidence : in which share of trainings that holds; 0 for on average over them.
    """

    level: float | None = None
    sensitivity: float | None = None
    confidence: float = 0.95

    @classmethod
    def of(cls, sets: float | None, risk: str | None, confidence: float) -> Self:
        """By the words of the settings: ``risk`` is "sensitivity:0.95"."""
        return cls(sets, None if risk is None else float(risk.rpartition(":")[2]), confidence)

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is asked for."""
        return self.level is None and self.sensitivity is None

    @property
    def risk(self) -> float:
        """Share of positive subjects that may be missed."""
        return 1 - (self.sensitivity or 0.0)

    @property
    def held(self) -> str:
        """How firmly a risk is held, in words."""
        return f"in {self.confidence:.0%} of trainings" if self.confidence else "on average over trainings"

    def to_json(self) -> dict[str, float]:
        """Plain values; what is not asked for is left out."""
        given = {"level": self.level, "sensitivity": self.sensitivity, "confidence": self.confidence}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class OwnScores:
    """What subjects of each class were given of their own class by models that had not met them.

    Attributes
    ----------
    classes : in the order of the probabilities' columns.
    cells, subjects : for each class ascending probabilities, one a subject: of one cell drawn, and of the subject as a
        whole. ``subjects`` is () where what a subject is cannot be said. Sets rest on them.
    draws : for each class two numbers in [0, 1), by which ranks are rounded: of cells and of subjects.
    unscaled : ``subjects`` before they were put on the scale of the model that is asked (``model_scales``), which a
        risk rests on: it is to be held in nearly all trainings, and is by scores that err to the safe side.
    """

    classes: tuple[str, ...]
    cells: tuple[tuple[float, ...], ...]
    subjects: tuple[tuple[float, ...], ...]
    draws: tuple[tuple[float, float], ...]
    unscaled: tuple[tuple[float, ...], ...]

    def of(self, kind: str) -> tuple[tuple[float, ...], ...]:
        """Of "cells" or of "subjects"."""
        return self.cells if kind == "cells" else self.subjects

    def thresholds(self, kind: str, level: float) -> tuple[float, ...]:
        """For each class, from which probability on it is in a set of this level; 0 of too few subjects."""
        at = KINDS.index(kind)
        return tuple(
            max(0.0, conformal.set_threshold(np.array(own), level, draws[at]))
            for own, draws in zip(self.of(kind), self.draws, strict=True)
        )

    def risk_threshold(self, positive: str, asked: Asked) -> float:
        """Below which probability of the positive class a subject is ruled out; 0 rules nobody out."""
        own = np.array(self.unscaled[self.classes.index(positive)])
        return max(0.0, conformal.risk_threshold(own, asked.risk, asked.confidence or None))

    def check(self, asked: Asked, positive: str | None) -> None:
        """Refuse what so few subjects cannot promise.

        Raises
        ------
        UsageError : names the class, its subjects, and how many would do.
        """
        if asked.level is not None:
            needed = conformal.subjects_for_level(asked.level)
            for kind in KINDS:
                for name, own in zip(self.classes, self.of(kind), strict=False):
                    if len(own) < needed:
                        raise UsageError(
                            f"too few subjects of '{name}' for sets of level {asked.level:g}",
                            found=f"{len(own)}{' with such cells' if kind == 'cells' else ''}",
                            expected=f"{needed} at least",
                            do="Give more subjects, or ask for a lower level.",
                        )
        if asked.sensitivity is None:
            return
        if positive is None or not self.subjects:
            raise UsageError(
                "--risk is about subjects that are positive or not",
                found="more than two classes" if positive is None else "subjects whose class cannot be said",
                do="Say --positive, and what subjects are (subject_label).",
            )
        known = len(self.unscaled[self.classes.index(positive)])
        needed = conformal.subjects_for_risk(asked.risk, asked.confidence or None)
        if known < needed:
            average = conformal.subjects_for_risk(asked.risk, None)
            other = f" Or --set risk_confidence=0: on average {average} do." if average <= known else ""
            raise UsageError(
                f"too few subjects of '{positive}' to promise that {asked.sensitivity:g} of them are found",
                found=f"{known}",
                expected=f"{needed} at least, to hold {asked.held}",
                do=f"Give more subjects, or ask for less.{other}",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in _KEPT}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], classes: Sequence[str]) -> Self:
        """What ``to_json`` gave.

        Raises
        ------
        ValueError, KeyError, TypeError : it did not.
        """
        cells, subjects, draws, unscaled = (
            tuple(tuple(float(x) for x in part) for part in values[name]) for name in _KEPT
        )
        own = [value for part in (*cells, *subjects, *unscaled) for value in part]
        is_sane = len(cells) == len(draws) == len(classes) and len(subjects) in (0, len(classes))
        is_sane &= [len(part) for part in subjects] == [len(part) for part in unscaled]
        is_sane &= all(0 <= value <= 1 for value in own) and all(len(each) == 2 for each in draws)
        if not (is_sane and all(0 <= value < 1 for each in draws for value in each)):
            raise ValueError("held-out scores that cannot be")
        return cls(tuple(classes), cells, subjects, draws, unscaled)  # type: ignore[arg-type]  # pairs, as just checked


@dataclass(frozen=True)
class Promises:
    """What a model promises of new cells and subjects.

    Attributes
    ----------
    asked : what, and at which level.
    own : what that rests on.
    positive : the class that a risk is about.
    """

    asked: Asked
    own: OwnScores
    positive: str | None

    def sets(self, kind: str, proba: _Floats) -> list[tuple[str, ...]] | None:
        """The set of each row of float64 (n, K); None where none is asked for, or what subjects are is unknown."""
        if self.asked.level is None or not self.own.of(kind):
            return None
        inside = conformal.in_set(proba, self.own.thresholds(kind, self.asked.level))
        return [tuple(name for name, is_in in zip(self.own.classes, row, strict=True) if is_in) for row in inside]

    def ruled_out(self, proba: _Floats) -> list[bool] | None:
        """Whether each subject, a row of float64 (n, K), is not of the positive class; None where no risk is asked."""
        if self.asked.sensitivity is None or self.positive is None:
            return None
        threshold = self.own.risk_threshold(self.positive, self.asked)
        ruled_out: list[bool] = (proba[:, self.own.classes.index(self.positive)] < threshold).tolist()
        return ruled_out

    def notes(self, cells: Sequence[bool] | None, subjects: Sequence[Any]) -> list[str]:
        """What must be read with sets and referrals, one line each.

        Parameters
        ----------
        cells : whether each is referred; None without sets.
        subjects : with ``referred`` and ``ruled_out``.
        """
        lines = []
        if self.asked.level is not None:
            counts = ", ".join(f"{len(own)} {name}" for name, own in zip(self.own.classes, self.own.cells, strict=True))
            lines.append(
                f"Sets hold the class of {self.asked.level:.0%} of new cells of every class"
                f"{', and of new subjects' if self.own.subjects else ''}, if they are as exchangeable with those of "
                f"training ({counts} subjects) as these are with each other: the same site, stain and camera."
                + (f" {sum(cells)} of {len(cells)} cells are referred." if cells else "")
            )
        if self.asked.sensitivity is not None:
            out = sum(bool(each.ruled_out) for each in subjects)
            lines.append(
                f"{out} of {len(subjects)} subjects are ruled out as '{self.positive}', the others referred: at least "
                f"{self.asked.sensitivity:.0%} of new subjects of '{self.positive}' are, {self.asked.held}."
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"asked": self.asked.to_json(), **self.own.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], classes: Sequence[str], positive: str | None) -> Self:
        """What ``to_json`` gave.

        Raises
        ------
        ValueError, KeyError, TypeError : it did not.
        """
        asked = Asked(**{name: float(value) for name, value in values["asked"].items()})
        shares = (asked.level or 0.0, asked.sensitivity or 0.0, asked.confidence)
        if not all(0 <= share < 1 for share in shares):
            raise ValueError("a promise of a level that cannot be")
        return cls(asked, OwnScores.from_json(values, classes), positive)

    def with_asked(self, asked: Asked) -> Self:
        """The same scores, something else promised; what so few subjects cannot promise is refused."""
        self.own.check(asked, self.positive)
        return replace(self, asked=asked)


# ---- held-out scores ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out scores of one deal of folds, cell by cell and subject by subject.

    Attributes
    ----------
    classes : of the columns.
    codes, proba, subjects, folds : of n cells: class, float64 (n, K) probabilities, number of the subject, test part.
    subject_codes, means, subject_folds : of the subjects, the same; () where what they are cannot be said.
    """

    classes: tuple[str, ...]
    codes: NDArray[np.intp]
    proba: _Floats
    subjects: NDArray[np.intp]
    folds: NDArray[np.intp]
    subject_codes: NDArray[np.intp]
    means: _Floats
    subject_folds: NDArray[np.intp]

    @classmethod
    def of(cls, cells: Units, scores: Scores, classes: Sequence[str]) -> Self:
        """The first deal: of a second one the same subjects would count twice."""
        rows = np.flatnonzero((scores.fold[0] >= 0) & np.isfinite(scores.proba[0]).all(axis=1))
        labels, subjects = np.array(cells.y, object).astype(str)[rows], cells.subject_numbers[rows]
        proba, folds = scores.proba[0][rows], scores.fold[0][rows]
        own = [cells.subject_labels[at] for at in rows.tolist()] if cells.subject_labels else None
        known, _ = label_of_subjects(labels, subjects, own)
        number = {name: at for at, name in enumerate(classes)}
        if known is None or any(name not in number for name in known.tolist()):
            whole: tuple[Any, ...] = (np.empty(0, np.intp), np.empty((0, len(classes))), np.empty(0, np.intp))
        else:
            pooled = pool_subjects(known, proba, subjects, proba.argmax(axis=1).astype(np.intp))
            whole = (np.array([number[name] for name in pooled.labels.tolist()]), pooled.means, folds[pooled.first])
        codes = np.array([number[name] for name in labels.tolist()], np.intp)
        return cls(tuple(classes), codes, proba, subjects, folds, *whole)

    def own_scores(self, seed: int, *, without: int | None = None) -> OwnScores:
        """What a promise is made of: of all subjects, or of those outside one test part.

        Cells are drawn anew from the seed, whatever is left out.
        """
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OF_PROMISES,)))
        cells, subjects, draws = [], [], []
        for code in range(len(self.classes)):
            draws.append((float(rng.random()), float(rng.random())))
            rows = np.flatnonzero(self.codes == code)
            drawn = rows[conformal.draw_cells(self.subjects[rows], rng)]
            drawn = drawn[self.folds[drawn] != (-1 if without is None else without)]
            cells.append(tuple(np.sort(self.proba[drawn, code]).tolist()))
            of_class = self.subject_codes == code
            of_class &= self.subject_folds != (-1 if without is None else without)
            subjects.append(tuple(np.sort(self.means[of_class, code]).tolist()))
        whole = tuple(subjects) if len(self.means) else ()
        return OwnScores(self.classes, tuple(cells), whole, tuple(draws), whole)


def check_subjects(cells: Units, classes: Sequence[str], asked: Asked, positive: str | None) -> None:
    """Refuse what these subjects cannot promise, before anything is learnt from them.

    Raises
    ------
    UsageError : see ``OwnScores.check``.
    """
    if not asked.is_nothing:
        unscored = np.full((len(cells), len(classes)), 1 / len(classes))
        scores = Scores((), "", unscored, np.zeros(len(cells), np.intp))
        HeldOut.of(cells, scores, classes).own_scores(0).check(asked, positive)
