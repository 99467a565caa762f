"""Networks that are learnt anew in every split: the least one, and what reaches their training and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fusion.data.patients.bags import Bags
from fusion.learning import learnt_blocks as learning
from fusion.learning._inner_folds import InnerFolds

#: Parameters of a network that learns in a fifth of a second.
NEURAL = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "head": [],
        "head_dropout": [0.0],
    },
    "training": {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "patience": 0, "validation": 0.0},
}


def crossfit_settings(data, output, store, **more) -> dict[str, Any]:
    """Settings of a command that trains such a network in each of two splits, beside a measured block."""
    given = {"features": ["colour", "cnn"], "splits": 2, "classifiers": {"neural": NEURAL}}
    return {"data": data, "output": output, "store": store, "jobs": 1, "cnn_crossfit": True, **given, **more}


class Training(NamedTuple):
    """What a network learns from: images by number, their labels and their groups."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


class InnerFold(NamedTuple):
    """Cells that are scored by what other cells have taught, and the units that the network behind both has met."""

    scored: set[int]
    learnt: set[int]
    met: set[int]


@dataclass
class Heard:
    """What networks were given, in the order in which they were trained.

    Attributes
    ----------
    trainings : of every network what it learns from.
    embedded : of every network the units that it has learnt from, and the cell of each of its rows.
    parts : every fold inside a training part that was asked for.
    """

    trainings: list[Training] = field(default_factory=list)
    embedded: list[tuple[set[int], dict[bytes, int]]] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)

    def inner(self) -> Iterator[InnerFold]:
        """Every fold inside, told by the rows that are scored and learnt from themselves."""
        for part in self.parts:
            scored, learnt = _cells(part.X), _cells(part.rows.X)
            met, cell_of = next(one for one in self.embedded if scored[0].tobytes() in one[1])
            yield InnerFold(*({cell_of[row.tobytes()] for row in rows} for rows in (scored, learnt)), met)


def listen_to_networks(monkeypatch) -> Heard:
    """Hear of every network that is trained behind a block, of cells or of patients."""
    heard = Heard()
    build, embedded, part = learning.build_seeded, learning.embedded, InnerFolds.part

    def listening(name, params, seed):
        network = build(name, params, seed)
        fit = network.fit

        def told(X, y, groups, **more):
            heard.trainings.append(Training(X.rows, np.asarray(y), np.asarray(groups)))
            return fit(X, y, groups, **more)

        network.fit = told
        return network

    def watched(block, study, units, *more):
        found = embedded(block, study, units, *more)
        heard.embedded.append((set(units.tolist()), {row.tobytes(): cell for cell, row in enumerate(found)}))
        return found

    def asked(self, train, test):
        heard.parts.append(part(self, train, test))
        return heard.parts[-1]

    monkeypatch.setattr(learning, "build_seeded", listening)
    monkeypatch.setattr(learning, "embedded", watched)
    monkeypatch.setattr(InnerFolds, "part", asked)
    return heard


def _cells(rows: Any) -> np.ndarray:
    """The rows of cells, of bags those of all their cells."""
    return rows.stacked if isinstance(rows, Bags) else rows
