"""What a model is fitted on: the training cells' features, and their augmented cells below them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import AugmentedCells, FeatureTable
from fusion.data.patients.bags import Bags
from fusion.features.stored_matrix import rows_of
from fusion.learning.augmented_cells import source_of_augmented
from fusion.metrics.class_shares import LEAST_CELLS

#: Cells of bags that scaling and harmonisation are fitted on: medians and spreads of 20,000 are within a hundredth of
#: theirs, and 2,699 features of them take 430 MB.
_CELLS = 20_000


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows to learn from: training cells first, each augmented cell somewhere below.

    Attributes
    ----------
    X : float (n, d), in the store still where the table's are (``StoredRows``).
    y : object (n,), labels.
    groups : intp (n,).
    sources : n names, None where unknown; an augmented cell's own where it passes for another site's.
    cells : intp (n,), for every row the row of the cell that it shows: its own, unless it is augmented.
    """

    X: Any
    y: NDArray[Any]
    groups: NDArray[np.intp]
    sources: tuple[str | None, ...]
    cells: NDArray[np.intp]

    @classmethod
    def of(cls, table: FeatureTable, rows: NDArray[np.intp]) -> Self:
        """The cells of these rows and all of their augmented cells that could be measured; of subjects the bags of
        either."""
        if table.augmented is not None and table.are_subjects:
            return cls._of_augmented_bags(table, table.augmented, rows)
        own = np.arange(len(rows))
        labels, sources = np.array(table.y)[rows], [table.sources[row] for row in rows]
        X = rows_of(table.X, rows)
        if table.augmented is None:
            return cls(X, labels, table.groups[rows], tuple(sources), own)
        parts, cells, named = [X], [own], list(sources)
        for number, (copy, there) in enumerate(zip(table.augmented.X, table.augmented.there, strict=True), start=1):
            has = np.flatnonzero(there[rows])
            parts.append(copy[rows[has]])
            cells.append(has)
            of = [sources[at] for at in has]
            named += [source_of_augmented(name, number) for name in of] if table.augmented.are_sources else of
        shown = np.concatenate(cells)
        return cls(np.vstack(parts), labels[shown], table.groups[rows][shown], tuple(named), shown)

    @classmethod
    def _of_augmented_bags(cls, table: FeatureTable, augmented: AugmentedCells, rows: NDArray[np.intp]) -> Self:
        """Subjects, and for each number of augmented cells each subject once more, as the bag of these."""
        X = rows_of(table.X, rows)
        sources = [table.sources[row] for row in rows]
        shown, named = [np.arange(len(rows))], list(sources)
        for number, (copy, there) in enumerate(zip(augmented.X, augmented.there, strict=True), start=1):
            own = [cells[there[cells]] for cells in table.X[rows].rows]
            has = np.flatnonzero([len(cells) for cells in own])
            X = X.followed_by(Bags(copy, tuple(own[at] for at in has), table.X.labels))
            shown.append(has)
            of = [sources[at] for at in has]
            named += [source_of_augmented(name, number) for name in of] if augmented.are_sources else of
        cells = np.concatenate(shown)
        return cls(X, np.array(table.y)[rows][cells], table.groups[rows][cells], tuple(named), cells)

    @classmethod
    def of_arrays(cls, X: Any, y: Any, groups: Any, sources: Any = (), cells: NDArray[np.intp] | None = None) -> Self:
        """Rows that are arrays already; ``sources`` () is n times unknown, ``cells`` None is no augmented cell."""
        labels = np.asarray(y)
        own = np.arange(len(labels)) if cells is None else np.asarray(cells, np.intp)
        return cls(X, labels, np.asarray(groups), tuple(sources) or (None,) * len(labels), own)

    def of_cells(self, seed: int) -> Self:
        """The cells of bags as rows, each under the label and in the group of its bag, at most ``_CELLS`` of them, as
        many of each bag as go; the rows themselves where they are cells."""
        if not isinstance(self.X, Bags):
            return self
        drawn = self.X.drawn(_CELLS, seed)
        owner = np.full(len(self.X.cells), -1, np.intp)
        for at, own in enumerate(self.X.rows):
            owner[own] = at
        of = owner[drawn]
        sources = tuple(self.sources[at] for at in of)
        return type(self)(np.asarray(self.X.cells[drawn]), self.y[of], self.groups[of], sources, np.arange(len(of)))

    def of_labelled_cells(self, seed: int) -> Self | None:
        """The cells of ``labelled`` as rows, each under its own label, drawn as ``of_cells`` draws; None as there."""
        bags = self.labelled()
        if bags is None:
            return None
        return replace(bags.of_cells(seed), y=bags.X.labels[bags.X.drawn(_CELLS, seed)])

    def labelled(self) -> Self | None:
        """Bags of those cells alone that have labels of their own. None where they do not tell which classes a source
        has: all of one class, or few in some source.

        What patients have does not stand in for it: on real cells of two laboratories a mix of classes that was
        estimated by patients' labels told no more than one supposed to be equal (docs/patients.md).
        """
        if not isinstance(self.X, Bags) or self.X.labels is None:
            return None
        labels = self.X.labels
        is_labelled = np.array([label is not None for label in labels], bool)
        rows = [own[is_labelled[own]] for own in self.X.rows]
        kept = np.flatnonzero([len(own) > 0 for own in rows])
        counts = dict.fromkeys(self.sources, 0)
        for source, own in zip(self.sources, rows, strict=True):
            counts[source] += len(own)
        if min(counts.values()) < LEAST_CELLS or len({labels[row] for own in rows for row in own.tolist()}) < 2:
            return None
        return replace(
            self,
            X=Bags(self.X.cells, tuple(rows[at] for at in kept), labels),
            y=self.y[kept],
            groups=self.groups[kept],
            sources=tuple(self.sources[at] for at in kept),
            cells=np.arange(len(kept)),
        )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def count(self) -> int:
        """How many training cells there are: the first rows."""
        return int((self.cells == np.arange(len(self.cells))).sum())

    @property
    def own_sources(self) -> tuple[str | None, ...]:
        """Sources of the training cells themselves: augmented cells' are none that a cell can be from."""
        return self.sources[: self.count]

    def only(self, units: NDArray[np.intp]) -> Self:
        """These training cells, counted from 0, with the augmented cells that follow them: the one way into a fold."""
        shown = self.positions(units)
        place = np.full(self.count, -1, np.intp)
        place[units] = np.arange(len(units))
        return type(self)(
            self.X[shown],
            self.y[shown],
            self.groups[shown],
            tuple(self.sources[row] for row in shown),
            place[self.cells[shown]],
        )

    def without_augmented(self) -> Self:
        """The training cells alone."""
        own = slice(self.count)
        return type(self)(self.X[own], self.y[own], self.groups[own], self.sources[own], self.cells[own])

    def of_columns(self, part: slice) -> Self:
        """The same rows with these columns alone: those of a block."""
        return replace(self, X=self.X[:, part])

    def positions(self, units: NDArray[np.intp]) -> NDArray[np.intp]:
        """intp (k,): which rows these training cells and their augmented cells are."""
        count = self.count
        chosen = np.zeros(count, bool)
        chosen[units] = True
        return np.concatenate([units, count + np.flatnonzero(chosen[self.cells[count:]])])
