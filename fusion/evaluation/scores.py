"""Held-out class probabilities of the cells for one feature set and one classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: How results name the images that a classifier is given beside its blocks.
IMAGE = "image"


@dataclass(frozen=True, eq=False)
class Scores:
    """Held-out class probabilities of the cells for one feature set and one classifier.

    ``proba`` is float64 (rounds, n, classes), NaN for cells that a round did not test; ``fold`` intp (rounds, n)
    numbers the test part a cell was scored in, -1 for none. What is given without rounds, (n, classes) and (n,), is
    one round. ``threshold`` is float64 of ``fold``'s shape, from which probability of the positive class a cell is
    predicted positive, as the cell's training part chose it; None predicts the most probable class. ``chosen`` are the
    classifier's parameters that training parts chose, with the fold that each was for; ``trained`` the epochs of its
    networks: "split", "epoch", "loss" and "score".
    """

    features: tuple[str, ...]
    classifier: str
    proba: NDArray[np.float64]
    fold: NDArray[np.intp]
    threshold: NDArray[np.float64] | None = None
    chosen: tuple[Mapping[str, float], ...] = ()
    trained: tuple[Mapping[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.proba.ndim == 2:
            object.__setattr__(self, "proba", self.proba[None])
            object.__setattr__(self, "fold", self.fold[None])
            object.__setattr__(self, "threshold", None if self.threshold is None else self.threshold[None])

    @property
    def blocks(self) -> int:
        """How many blocks are fused: of entries that are equally good, the one with fewer is the simpler."""
        return sum(name.count("+") + 1 for name in self.features)


def entry_name(scores: Scores) -> str:
    """``morphology + texture, svm``; scores from elsewhere are called what their table calls them."""
    features = " + ".join(scores.features)
    return f"{features}, {scores.classifier}" if scores.classifier else features
