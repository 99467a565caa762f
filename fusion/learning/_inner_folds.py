"""Held-out scores inside a training part: for whoever calibrates, chooses or stops by them.

Where every block is measured, a fold inside is a slice of the training rows. Where a block is learnt, its network has
met the whole training part, and scores of slices would flatter: then each fold inside is learnt anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.learning._training_rows import TrainingRows

_Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class InnerPart:
    """One part inside a training part: what is learnt from, and the cells that are scored.

    Attributes
    ----------
    rows : to learn from.
    X : float (n, d), features of the cells that are scored, by the same blocks.
    sources : of these cells.
    folds : the folds inside this part, for a step that holds cells out again.
    """

    rows: TrainingRows
    X: Any
    sources: tuple[str | None, ...]
    folds: InnerFolds


@dataclass(frozen=True, eq=False)
class InnerFolds:
    """The way into a training part; training cells are counted from 0.

    Attributes
    ----------
    rows : of the whole training part, of which parts are slices; or None, and
    anew : learns the blocks of a part anew from its cells, and measures both sides by them.
    """

    rows: TrainingRows | None
    anew: Callable[[_Rows, _Rows], InnerPart] | None = None

    @property
    def are_slices(self) -> bool:
        """Whether a part is a slice of the training rows, so that what is known of these holds for it."""
        return self.rows is not None

    def part(self, train: _Rows, test: _Rows) -> InnerPart:
        """What is learnt from ``train`` and scored on ``test``, both of them training cells."""
        if self.rows is None:
            assert self.anew is not None
            return self.anew(train, test)
        rows = self.rows.only(train)
        sources = tuple(self.rows.sources[row] for row in test)
        return InnerPart(rows, self.rows.X[test], sources, InnerFolds(rows))
