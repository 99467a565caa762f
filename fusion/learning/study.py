"""The cells of one comparison: who takes part, what is known of them, and the one way to their features and images.

Who takes part is decided once, in the plain view: the cells that have every block and every image that any recipe of
the run asks for. All recipes are then judged on the same cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.classifier_inputs import CellInputs
from fusion.data.dataset import Dataset, Fault, measured_key
from fusion.data.feature_table import AugmentedCells, FeatureTable
from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import join_cells, widen_cells
from fusion.features.blocks import Block, instances, measure, regrouped
from fusion.features.cell_measurement import check_rows
from fusion.features.image_cache import InputTransform, read_images
from fusion.features.store import FeatureStore
from fusion.features.stored_matrix import is_stored, rows_of
from fusion.images.cell import PREPARATION, Cell
from fusion.learning._training_rows import TrainingRows
from fusion.plugins import registry
from fusion.progress import Progress
from fusion.settings.data import Unit

_Rows = NDArray[np.intp]

#: Values of cells of patients, 4 bytes each, above which they are read from the store when they are asked for.
HELD = 128_000_000


@dataclass(frozen=True, eq=False)
class Images:
    """Images of a study's cells by one input transform, on disk until a batch is asked for.

    Attributes
    ----------
    source : uint8 (m, S, S, 3).
    rows : intp (n,), which image is whose.
    """

    source: NDArray[np.uint8]
    rows: _Rows


@dataclass(frozen=True, eq=False)
class Study:
    """Labelled cells, their measured blocks side by side, and their images; or subjects, of each the bag of its cells.

    Attributes
    ----------
    table : who the cells are, their features, and their augmented cells, to learn from.
    images : by input transform; of the cells, where units are subjects.
    faults : images that were skipped.
    identity : plain values that the features depend on beside the cells' own keys: blocks by fingerprint.
    cells : where units are subjects, the table of their cells, to which ``table.cells`` are rows.
    """

    table: FeatureTable
    images: Mapping[InputTransform, Images] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    cells: FeatureTable | None = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        blocks: Sequence[Block],
        transforms: Sequence[InputTransform],
        store: FeatureStore,
        *,
        jobs: int = 0,
        progress: Progress | None = None,
        stored: bool = False,
    ) -> Self:
        """Measure the cells of a data set, and take their images.

        Parameters
        ----------
        dataset : the view that is measured, its images normalised as they are to be.
        blocks : what is measured, in the order of the table's columns.
        transforms : the input transforms by which classifiers take images, each once.
        stored : leave features in the store, for a classifier that reads them batch by batch.

        Raises
        ------
        FusionError : as ``extract`` does.
        """
        found = measure(dataset, blocks, store, jobs=jobs, progress=progress, stored=stored)
        table, at, faults = found.table, found.complete, found.faults
        maps = {each: read_images(dataset, each, store.local, jobs=jobs, progress=progress) for each in transforms}
        has = np.ones(len(at), bool)
        for each in maps.values():
            has &= each.positions[at] >= 0
            known = {fault.path for fault in faults}
            faults = (*faults, *(fault for fault in each.faults.values() if fault.path not in known))
        images = {by: Images(each.images, each.positions[at][has]) for by, each in maps.items()}
        keys = list(map(measured_key, dataset.each("key"), dataset.each("adjustment")))
        identity = {
            "preparation": PREPARATION,
            "blocks": {block.name: registry.fingerprint(block.extractor, PREPARATION) for block in blocks},
            "cells": [keys[row] for row in at[has].tolist()],
        }
        return cls(table.take(np.flatnonzero(has)) if maps else table, images, tuple(faults), identity)

    @classmethod
    def of_cells(
        cls,
        cells: Sequence[Cell],
        names: Sequence[str],
        blocks: Sequence[Block],
        transforms: Sequence[InputTransform],
        source: str | None = None,
    ) -> Self:
        """Measure cells in memory; nothing is kept.

        Parameters
        ----------
        names : stand for the cells in table and faults, and for their subjects' groups: each is its own.
        source : the site that they are from.
        """
        measured = instances(blocks)
        rows: list[list[NDArray[np.float32]]] = []
        kept: list[int] = []
        faults: list[Fault] = []
        for at, (cell, name) in enumerate(zip(cells, names, strict=True)):
            try:
                # By themselves, so that one that cannot be measured stops no other.
                rows.append([check_rows(each, each.extract([cell]), 1)[0] for each in measured.values()])
            except Exception as error:  # any trouble of a measurement is the cell's, as in a data set
                faults.append(Fault(Path(name), "extract", f"{type(error).__name__}: {error}"))
            else:
                kept.append(at)
        columns = [f"{name}.{feature}" for name, each in measured.items() for feature in each.feature_names()]
        X = np.array([np.concatenate(row) if row else [] for row in rows], np.float32).reshape(len(kept), len(columns))
        table = FeatureTable.of_cells(X, columns, [names[at] for at in kept], source)
        images = {each: Images(each([cells[at] for at in kept]), np.arange(len(kept))) for each in transforms}
        return cls(regrouped(table, blocks), images, tuple(faults))

    @classmethod
    def pair(cls, train: Study, test: Study, groups: _Rows) -> Self:
        """Both studies' cells, those that are learnt from first; ``groups`` are over all of them."""
        images = {}
        for each, own in train.images.items():
            other = test.images[each]
            both = np.concatenate([own.source[own.rows], other.source[other.rows]])
            images[each] = Images(both, np.arange(len(both)))
        table = _stacked(train.table, test.table, groups)
        identity = {"train": train.identity, "test": test.identity}
        cells = None
        if train.cells is not None and test.cells is not None:
            of_cells = np.zeros(len(train.cells) + len(test.cells), np.intp)
            for group, rows in zip(groups, table.cells, strict=True):
                of_cells[rows] = group
            cells = _stacked(train.cells, test.cells, of_cells)
        return cls(table, images, (*train.faults, *test.faults), identity, cells)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> list[str]:
        """Labels of the cells, sorted."""
        return sorted({str(label) for label in self.table.y})

    def count_cells(self, units: _Rows) -> int:
        """How many cells these units are."""
        X = self.table.X
        return int(X.sizes[units].sum()) if isinstance(X, Bags) else len(units)

    @property
    def everyone(self) -> _Rows:
        """Numbers of all cells."""
        return np.arange(len(self.table))

    def by_subject(self, labels: Sequence[str | None] = ()) -> Self:
        """The subjects of these cells, of each the bag of its cells; ``labels`` are what the cells themselves are."""
        cells = replace(self.table, augmented=None)
        return replace(self, table=self.table.by_subject(labels), cells=cells)

    @property
    def of_cells_alone(self) -> Self:
        """The cells themselves as units, each under the label of its subject; the same study where units are cells."""
        if self.cells is None:
            return self
        labels = np.array(self.cells.y, object)
        for label, own in zip(self.table.y, self.table.cells, strict=True):
            labels[own] = label
        return replace(self, table=replace(self.cells, y=tuple(labels)), cells=None)

    def with_augmented(self, augmented: AugmentedCells | None) -> Self:
        """The same cells with augmented cells to learn from."""
        return replace(self, table=replace(self.table, augmented=augmented))

    def with_groups(self, groups: _Rows) -> Self:
        """The same cells in other groups."""
        return replace(self, table=replace(self.table, groups=groups))

    def with_block(self, name: str, rows: NDArray[np.float32]) -> Self:
        """The same units with float32 (n, d) of n cells as a further, last block."""
        columns = (*self.table.columns, *(f"{name}.e{at:04d}" for at in range(rows.shape[1])))
        if self.cells is None:
            table = replace(self.table, X=np.hstack([self.table.X, rows]), columns=columns)
            return replace(self, table=table)
        X = widen_cells(self.cells.X, rows)  # which subjects and cells share
        table = replace(self.table, X=replace(self.table.X, cells=X), columns=columns)
        return replace(self, table=table, cells=replace(self.cells, X=X, columns=columns))

    def select(self, blocks: Sequence[str]) -> FeatureTable:
        """Their table with these blocks, in this order."""
        if list(self.table.blocks) == list(blocks):
            return self.table
        if not blocks:
            return replace(self.table, X=self.table.X[:, :0], columns=(), augmented=None)
        return self.table.select(blocks)

    def training_rows(self, blocks: Sequence[str], units: _Rows) -> TrainingRows:
        """What a model of these blocks learns from, of these cells and no others."""
        return TrainingRows.of(self.select(blocks), units)

    def rows(self, blocks: Sequence[str], units: _Rows) -> Any:
        """float32 (n, d) features of these cells, in the store still if they are there."""
        return rows_of(self.select(blocks).X, units)

    def sources(self, units: _Rows) -> list[str | None]:
        """Where these cells are from."""
        return [self.table.sources[row] for row in units]

    def inputs(self, by: InputTransform, blocks: Sequence[str], units: _Rows) -> CellInputs:
        """Images and features of these cells, as a classifier of images takes them."""
        table, images = self.select(blocks), self.images[by]
        return CellInputs(table.X, table.blocks, images.source, images.rows, table.sources).take(units)

    @property
    def unnamed_arrays(self) -> list[NDArray[Any]]:
        """Features that ``identity`` does not name, since they were measured by nobody that it knows."""
        if self.identity:
            return []
        augmented = self.table.augmented
        own = [] if augmented is None else [augmented.X, augmented.there]
        if isinstance(X := self.table.X, Bags):
            return [X.cells, *X.rows, *own]
        return [X, *own]

    @property
    def is_stored(self) -> bool:
        """Whether features are still in the store."""
        return is_stored(self.table.X)


def are_many(dataset: Dataset, blocks: Sequence[Block], unit: Unit) -> bool:
    """Whether so many values would be measured of patients' cells that they stay in the store."""
    return unit == "subject" and len(dataset) * sum(len(block.columns) for block in blocks) > HELD


def _stacked(first: FeatureTable, second: FeatureTable, groups: _Rows) -> FeatureTable:
    """Both tables' rows, one after the other; augmented cells are of the first alone."""
    augmented = first.augmented
    if augmented is not None:
        more = ((0, 0), (0, len(second.X.cells) if isinstance(second.X, Bags) else len(second)))
        X = np.pad(augmented.X, (*more, (0, 0)), constant_values=np.nan)
        augmented = replace(augmented, X=X, there=np.pad(augmented.there, more))
    moved = 0 if not first.cells else len(first.X.cells)
    return FeatureTable(
        X=first.X.followed_by(second.X) if isinstance(first.X, Bags) else join_cells(first.X, second.X),
        columns=first.columns,
        names=(*first.names, *second.names),
        keys=(*first.keys, *second.keys),
        image_keys=(*first.image_keys, *second.image_keys),
        y=(*first.y, *second.y),
        subjects=(*first.subjects, *second.subjects),
        folds=(*first.folds, *second.folds),
        groups=groups,
        subjects_known=second.subjects_known,  # they are judged; cells of the first without a subject are counted
        sources=(*first.sources, *second.sources),
        group_ids=(*first.group_ids, *second.group_ids),
        share_images=(*first.share_images, *second.share_images),
        cells=(*first.cells, *(rows + moved for rows in second.cells)),
        augmented=augmented,
    )
