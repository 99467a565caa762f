"""A classifier of cells that judges patients: the mean over a patient's cells, each learnt under its patient's class.

It is the baseline that everybody uses. Its cells inherit a label that is wrong for most of them where a few cells make
the class; and a patient with many cells has many rows in the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.patients.bags import Bags
from fusion.plugins.classifiers import Classifier, DrawsColumns, HoldsOut, ReadsBatches, Searches, TakesBags

_Rows = NDArray[np.intp]


class MeanOfCells:
    """A classifier of cells, asked of bags.

    Parameters
    ----------
    classifier : of cells.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.prepares = classifier.prepares

    def __repr__(self) -> str:
        return f"MeanOfCells({self.classifier!r})"

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels in the order of the probabilities' columns."""
        return self.classifier.classes_

    @property
    def chosen_(self) -> Mapping[str, float]:
        """What the classifier has chosen by folds of subjects."""
        return self.classifier.chosen_ if isinstance(self.classifier, Searches) else {}

    def draw_by(self, weights: NDArray[np.float64]) -> Self:
        """Draw columns in proportion to float64 (d,), where the classifier draws any."""
        if isinstance(self.classifier, DrawsColumns):
            self.classifier.draw_by(weights)
        return self

    def fit(self, X: Bags, y: Any, groups: Any = None) -> Self:
        """Fit the classifier on every cell of n bags, under the label and in the group of its bag.

        Cells that are not held are read batch by batch where the classifier can do that.
        """
        owners = X.owners
        is_read = isinstance(self.classifier, ReadsBatches) and not isinstance(X.cells, np.ndarray)
        cells: Any = X.ordered if is_read else X.stacked
        self.classifier.fit(cells, np.asarray(y)[owners], None if groups is None else np.asarray(groups)[owners])
        return self

    def predict_proba(self, X: Bags) -> NDArray[np.float64]:
        """float64 (n, classes): of each bag the mean over its cells."""
        return np.concatenate([some.mean(self.classifier.predict_proba(some.stacked)) for some in X.batches()])

    def save(self, folder: Path) -> None:
        """Write the classifier of cells; see its own ``save``."""
        self.classifier.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Not by itself: which classifier it is stands in the model's manifest."""
        raise TypeError("the classifier of cells is loaded, and then asked of bags")


class HeldOutMeanOfCells(MeanOfCells):
    """The same of a classifier that scores held-out cells while it is fitted."""

    def fit_held_out(self, X: Bags, y: Any, groups: Any, parts: Callable[[_Rows, _Rows], tuple[Bags, Bags]]) -> Self:
        """Fit as ``fit`` does, with what ``parts`` gives of every fold that is held out.

        Parameters
        ----------
        parts : (bags to learn from, bags to score), by numbers -> both.
        """
        owners = X.owners

        def of_cells(train: _Rows, test: _Rows) -> tuple[NDArray[Any], NDArray[Any]]:
            learnt, scored = parts(np.unique(owners[train]), np.unique(owners[test]))
            return _rows_of(learnt, owners, train), _rows_of(scored, owners, test)

        assert isinstance(self.classifier, HoldsOut)
        self.classifier.fit_held_out(X.stacked, np.asarray(y)[owners], np.asarray(groups)[owners], of_cells)
        return self


def _rows_of(bags: Bags, owners: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[Any]:
    """float (k, d): these cells, numbered over all bags, of which ``bags`` are those that own them, in order."""
    return bags.stacked[np.searchsorted(np.flatnonzero(np.isin(owners, owners[rows])), rows)]


def for_unit(classifier: Classifier, unit: str) -> Classifier:
    """The classifier as it is asked of cells or of subjects: one of cells judges a subject by the mean of its cells."""
    if unit == "cell" or takes_bags(classifier):
        return classifier
    kind = HeldOutMeanOfCells if isinstance(classifier, HoldsOut) else MeanOfCells
    return kind(classifier)  # type: ignore[return-value]  # which takes bags where the protocol has matrices


def takes_bags(classifier: object) -> bool:
    """Whether a classifier learns from bags of cells itself."""
    return isinstance(classifier, (TakesBags, MeanOfCells))
