"""Held-out class probabilities of the cells for one feature set and one classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.metrics.classification import predicted_classes

#: How results name the images that a classifier is given beside its blocks.
IMAGE = "image"


@dataclass(frozen=True, eq=False)
class Scores:
    """Held-out class probabilities of the cells for one feature set and one classifier.

    ``proba`` is float64 (rounds, n, classes), NaN for cells that a round did not test; ``fold`` intp (rounds, n)
    numbers the test part a cell was scored in, -1 for none. What is given without rounds, (n, classes) and (n,), is
    one round. ``threshold`` is float64 of ``fold``'s shape, from which probability of the positive class a cell is
    predicted positive, as the cell's training part chose it; of more than two classes ``costs``, of ``proba``'s shape,
    are what predicting each is expected to cost, and the least is predicted. None of either predicts the most probable
    class. ``chosen`` are the classifier's parameters that training parts chose, with the fold that each was for;
    ``trained`` the epochs of its networks: "split", "epoch", "loss" and "score".
    """

    features: tuple[str, ...]
    classifier: str
    proba: NDArray[np.float64]
    fold: NDArray[np.intp]
    threshold: NDArray[np.float64] | None = None
    chosen: tuple[Mapping[str, float], ...] = ()
    trained: tuple[Mapping[str, float], ...] = ()
    costs: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.proba.ndim == 2:
            object.__setattr__(self, "proba", self.proba[None])
            object.__setattr__(self, "fold", self.fold[None])
            object.__setattr__(self, "threshold", None if self.threshold is None else self.threshold[None])
            object.__setattr__(self, "costs", None if self.costs is None else self.costs[None])

    def predicted(self, positive: int | None) -> NDArray[np.intp]:
        """intp (rounds, n), the column of each cell's predicted class; without meaning where a round did not test it.

        Parameters
        ----------
        positive : column of the class that ``threshold`` is of.
        """
        shape, k = self.fold.shape, self.proba.shape[2]
        return predicted_classes(
            np.nan_to_num(self.proba).reshape(-1, k),
            None if self.threshold is None else self.threshold.ravel(),
            positive,
            None if self.costs is None else np.nan_to_num(self.costs).reshape(-1, k),
        ).reshape(shape)

    def take(self, cells: NDArray[np.intp]) -> Scores:
        """The scores of these cells."""
        threshold, costs = (None if part is None else part[:, cells] for part in (self.threshold, self.costs))
        return replace(self, proba=self.proba[:, cells], fold=self.fold[:, cells], threshold=threshold, costs=costs)

    @property
    def blocks(self) -> int:
        """How many blocks are fused: of entries that are equally good, the one with fewer is the simpler."""
        return sum(name.count("+") + 1 for name in self.features)


def entry_name(scores: Scores) -> str:
    """``morphology + texture, svm``; scores from elsewhere are called what their table calls them."""
    features = " + ".join(scores.features)
    return f"{features}, {scores.classifier}" if scores.classifier else features
