"""What a patient's class rests on: for each of its cells how much the model looks at it, and what it adds.

Attention says where a network looked, not what would change without a cell (Jain and Wallace 2019, NAACL: 3543-3556),
so that both are told. What a cell adds is its Shapley value in the game whose players are the patient's cells: the
probability of the predicted class by the cells of a coalition alone. An empty coalition has every class alike, since
the models' probabilities are at equal class shares. The values of all cells add up to what the patient's probability
lies above that. Of very many cells no sample tells what each adds: parts of them are the players then, of cells by each
of which alone the model would say about the same.

Sources: Shapley (1953), Contributions to the Theory of Games II: 307-317; sampled by permutations and their reverses
as in Mitchell, Cooper, Frank and Holmes (2022), JMLR 23:43.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.patients.bags import Bags
from fusion.learning.predictions import Predictions
from fusion.plugins.classifiers import Attends

_Floats = NDArray[np.float64]

#: Cells up to which every coalition is asked: 1,024 of them.
_EXACT = 10

#: Permutations, each with its reverse, and places of each at which the model is asked: cells between two places share
#: what they add together.
_PERMUTATIONS, _PLACES = 16, 48

#: Cells of a patient up to which each is left out in turn, which takes the square of their number; of more, those that
#: tell most: as many that speak for the class, against it, and that are looked at.
_EACH_LEFT_OUT, _TELLING = 500, 16

#: Parts in which more cells than these are players together: as many permutations more are asked as parts are fewer.
#: One by one, which of 5,000 cells add most was chance: it told those that came first in most permutations.
_PARTS = 16

#: Cells of coalitions that the model is asked of at a time: what it makes of each is held for all of them.
_ASKED = 50_000


@dataclass(frozen=True, eq=False)
class PatientExplanation:
    """One patient, and its cells.

    Attributes
    ----------
    name, predicted : of the patient, and its class.
    classes, proba : by class, the probability of the patient.
    rows : intp (k,), rows of its cells in the cells' table of the predictions.
    names : of these cells.
    adds : float64 (k,), what each cell adds to the probability of the predicted class; see this module.
    without : float64 (k,), by how much that probability falls where this cell alone is left out; NaN of those that tell
        little, where there are more than 500.
    attention : float64 (k,), 1 in sum; None for a model that attends to none.
    base : what the values begin from: the probability without cells.
    is_exact : whether every coalition was asked.
    distance : of the median cell from the training cells, in units of what is usual; None where unknown.
    """

    name: str
    predicted: str
    classes: tuple[str, ...]
    proba: tuple[float, ...]
    rows: NDArray[np.intp]
    names: tuple[str, ...]
    adds: _Floats
    without: _Floats
    attention: _Floats | None
    base: float
    is_exact: bool
    distance: float | None

    @property
    def parts(self) -> int:
        """In how many parts cells share what they add; 0 where each has its own."""
        return _PARTS if len(self.adds) > _EACH_LEFT_OUT else 0

    @property
    def verdict(self) -> str:
        """In one line: the class, its probability, and how many cells hold half of what speaks for it."""
        half = cells_of_half(self.adds)
        probability = self.proba[self.classes.index(self.predicted)]
        return f"{self.predicted}, {probability:.3f}; {half} of {len(self.names)} cells hold half of what speaks for it"

    def to_json(self) -> dict[str, Any]:
        """Plain values, a row a cell."""
        attention = [None] * len(self.names) if self.attention is None else self.attention.tolist()
        cells = zip(self.names, self.adds.tolist(), known_values(self.without), attention, strict=True)
        return {
            "subject": self.name,
            "class": self.predicted,
            "probability": dict(zip(self.classes, self.proba, strict=True)),
            "base": self.base,
            "exact": self.is_exact,
            "parts": self.parts,
            "cells": [
                {"name": name, "adds": adds, "without": without, "attention": weight}
                for name, adds, without, weight in cells
            ],
        }


def explain_patients(bundle: ModelBundle, found: Predictions, seed: int = 0) -> list[PatientExplanation]:
    """Every judged patient with what its cells add.

    Parameters
    ----------
    found : of a model of patients, with the table of their cells.
    """
    assert found.cells is not None
    made = []
    for at, (name, label) in enumerate(zip(found.table.names, found.predicted, strict=True)):
        bag = found.table.X[np.array([at])].changed(lambda some: bundle.model.fused(some.stacked))
        column = found.classes.index(label)

        def ask(members: list[NDArray[np.intp]], bag: Bags = bag, column: int = column) -> _Floats:
            return _asked(bundle, Bags(bag.cells, tuple(members)))[:, column]

        size = len(bag.cells)
        adds, is_exact = shapley_of_cells(ask, size, 1 / len(found.classes), np.random.default_rng([seed, at]))
        classifier = bundle.model.classifier
        attention = classifier.attention(bag)[0] if isinstance(classifier, Attends) else None
        rows = found.table.cells[at]
        made.append(
            PatientExplanation(
                name=name,
                predicted=label,
                classes=found.classes,
                proba=tuple(found.proba[at].tolist()),
                rows=rows,
                names=tuple(found.cells.names[row] for row in rows),
                adds=adds,
                without=_left_out(ask, size, 1 / len(found.classes), _telling(adds, attention)),
                attention=attention,
                base=1 / len(found.classes),
                is_exact=is_exact,
                distance=None if found.distance is None else float(found.distance[at]),
            )
        )
    return made


_Ask = Callable[[list[NDArray[np.intp]]], _Floats]


def shapley_of_cells(ask: _Ask, cells: int, base: float, rng: np.random.Generator) -> tuple[_Floats, bool]:
    """float64 (cells,): what each cell adds, in sum ``ask`` of all less ``base``; and whether that is exact.

    Parameters
    ----------
    ask : float64 (n,), the value of n coalitions of cells, none of them empty.
    base : the value of the empty one.

    Examples
    --------
    >>> import numpy as np
    >>> worth = np.array([0.1, 0.2, 0.0])
    >>> value = lambda members: np.array([0.5 + worth[own].sum() for own in members])
    >>> shapley_of_cells(value, 3, 0.5, np.random.default_rng(0))[0].round(6).tolist()
    [0.1, 0.2, 0.0]
    """
    if cells <= _EXACT:
        return _exact(ask, cells, base), True
    if cells > _EACH_LEFT_OUT:
        return _of_parts(ask, cells, base, rng), False
    places = np.unique(np.linspace(0, cells, min(cells, _PLACES) + 1).round().astype(np.intp))
    found = np.zeros(cells)
    for _ in range(_PERMUTATIONS):
        order = rng.permutation(cells)
        for way in (order, order[::-1]):
            values = np.concatenate([[base], ask([np.sort(way[:end]) for end in places[1:]])])
            steps = np.diff(places)
            found[way] += np.repeat(np.diff(values) / steps, steps)
    return found / (2 * _PERMUTATIONS), False


def _of_parts(ask: _Ask, cells: int, base: float, rng: np.random.Generator) -> _Floats:
    """float64 (cells,): cells whose values alone are alike are players together, and share what they add alike."""
    alone = ask([np.array([cell]) for cell in range(cells)])
    parts = np.array_split(np.argsort(alone, kind="stable"), min(_PARTS, cells))
    found = np.zeros(len(parts))
    count = _PERMUTATIONS * _PLACES // _PARTS
    for _ in range(count):
        order = rng.permutation(len(parts))
        for way in (order, order[::-1]):
            members = [np.sort(np.concatenate([parts[at] for at in way[:end]])) for end in range(1, len(parts) + 1)]
            found[way] += np.diff([base, *ask(members)])
    shared = np.empty(cells)
    for own, value in zip(parts, found / (2 * count), strict=True):
        shared[own] = value / len(own)
    return shared


def _exact(ask: _Ask, cells: int, base: float) -> _Floats:
    numbers = np.arange(1, 2**cells)
    members = (numbers[:, None] >> np.arange(cells)) & 1 == 1
    values = np.concatenate([[base], ask([np.flatnonzero(own) for own in members])])
    sizes = np.concatenate([[0], members.sum(axis=1)])
    weights = np.array([1 / (cells * math.comb(cells - 1, size)) for size in range(cells)])
    found = np.zeros(cells)
    for cell in range(cells):
        without = np.flatnonzero((np.arange(2**cells) >> cell) & 1 == 0)
        found[cell] = (weights[sizes[without]] * (values[without | (1 << cell)] - values[without])).sum()
    return found


def _left_out(ask: _Ask, cells: int, base: float, telling: NDArray[np.intp]) -> _Floats:
    """float64 (cells,): by how much the value falls without each cell alone; NaN where that is not asked."""
    everyone = np.arange(cells, dtype=np.intp)
    if cells == 1:
        return ask([everyone]) - base
    chosen = everyone if cells <= _EACH_LEFT_OUT else telling
    found = np.full(cells, np.nan)
    found[chosen] = ask([everyone])[0] - ask([np.delete(everyone, cell) for cell in chosen])
    return found


def _telling(adds: _Floats, attention: _Floats | None) -> NDArray[np.intp]:
    """intp: the cells that add most, that take most away, and that are looked at most."""
    orders = [adds, -adds, *([] if attention is None else [attention])]
    return np.unique(np.concatenate([np.argsort(-values, kind="stable")[:_TELLING] for values in orders]))


def known_values(values: _Floats) -> list[float | None]:
    """The values as plain ones, None for NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def cells_of_half(adds: _Floats) -> int:
    """How many cells, those that add most first, hold half of all that is added by cells that speak for the class."""
    positive = np.sort(adds[adds > 0])[::-1]
    if not len(positive):
        return 0
    return int(np.searchsorted(np.cumsum(positive), positive.sum() / 2)) + 1


def _asked(bundle: ModelBundle, fused: Bags) -> _Floats:
    """float64 (n, classes) of bags of fused cells, calibrated where the model is."""
    turns = np.cumsum(fused.sizes) // _ASKED
    parts = [fused[turns == turn] for turn in np.unique(turns)]
    # Bags where the protocol has matrices, by the model's unit.
    proba = np.concatenate([bundle.model.classifier.predict_proba(part) for part in parts])  # type: ignore[arg-type]
    calibration = bundle.model.calibration
    return np.asarray(proba if calibration is None else calibration.apply(proba), np.float64)
