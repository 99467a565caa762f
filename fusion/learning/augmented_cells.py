"""Augmented training cells, which models learn from beside the cells themselves; see
``fusion.image_transforms.augmentation``.

An augmented cell has the label and the group of its cell, and no part in anything but learning: it is not judged, not
counted, not shown, and whether a probability is to be trusted is not asked of it. Augmented test cells are not learnt
from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, as_columns
from fusion.data.feature_table import AugmentedCells, FeatureTable
from fusion.errors import UsageError
from fusion.image_transforms.augmentation import draw
from fusion.settings.learning import AugmentSettings

#: Between the name of a source and the number of its copy.
_MARK = "~"

#: Measures a data set: the same columns as the table whose cells are copied.
Measuring = Callable[[Dataset], FeatureTable]


def source_of_augmented(source: str | None, number: int) -> str:
    """The source that augmented cells of this number pass for, the first being 1."""
    return f"{source or ''}{_MARK}{number}"


def check_sources(sources: Iterable[str | None], settings: AugmentSettings) -> None:
    """UsageError where a source is named as augmented cells of another would be."""
    if not settings.per_cell or settings.per != "source":
        return
    named = set(sources)
    taken = {source_of_augmented(name, number) for name in named for number in range(1, settings.per_cell + 1)}
    if clash := sorted(name for name in named if name in taken):
        raise UsageError(
            "a source is named as the augmented cells of another would be",
            found=", ".join(map(str, clash)),
            do="Name it otherwise, or take augment.per=cell.",
        )


def augmented_dataset(dataset: Dataset, settings: AugmentSettings, seed: int, number: int) -> Dataset:
    """The data set with one drawn variation of every cell, of sites of their own where ``per`` is "source"."""
    plain = settings.model_dump()
    samples = (
        replace(
            sample,
            adjustment=draw(plain, seed, number, sample.source, sample.key),
            source=source_of_augmented(sample.source, number) if settings.per == "source" else sample.source,
        )
        for sample in dataset.samples
    )
    return replace(dataset, samples=as_columns(samples), faults=())


def augmented_cells(
    dataset: Dataset, table: FeatureTable, settings: AugmentSettings, seed: int, measure: Measuring
) -> AugmentedCells | None:
    """Augmented cells of the table's cells, which are of this data set; None where none are asked for."""
    if not settings.per_cell:
        return None
    known = _only(dataset, set(table.names))
    found = _none_yet(table, settings)
    for at in range(settings.per_cell):
        _put(found, at, table, measure(augmented_dataset(known, settings, seed, at + 1)))
    return found


def augmentation_notes(settings: AugmentSettings, table: FeatureTable, parts: Sequence[NDArray[np.intp]]) -> list[str]:
    """What is to be known about the augmented cells of a table's cells, for the notes of a result.

    ``parts`` are the training rows of every fit.
    """
    if table.augmented is None:
        return []
    as_what = "as if of another site" if settings.per == "source" else "each cell's by a draw of its own"
    number = "one augmented version" if settings.per_cell == 1 else f"{settings.per_cell} augmented cells"
    notes = [f"augment: models learn from {number} of every training cell too, {as_what}; no augmented cell is judged."]
    cells = [np.concatenate([table.cells[row] for row in rows]) if table.are_subjects else rows for rows in parts]
    lost = max((int((~table.augmented.there[:, rows]).sum()) for rows in cells), default=0)
    if lost:
        notes.append(
            f"augment: up to {lost} augmented cells of a training part could not be measured, and are left out."
        )
    return notes


def _only(dataset: Dataset, names: set[str]) -> Dataset:
    """The samples of these names."""
    samples = dataset.samples
    at = [row for row, name in enumerate(dataset.names) if name in names]
    return replace(dataset, samples=as_columns(samples[row] for row in at), faults=())


def _none_yet(table: FeatureTable, settings: AugmentSettings) -> AugmentedCells:
    shape = (settings.per_cell, len(table))
    X = np.full((*shape, len(table.columns)), np.nan, np.float32)
    return AugmentedCells(X, np.zeros(shape, bool), settings.per == "source")


def _put(augmented: AugmentedCells, at: int, table: FeatureTable, measured: FeatureTable) -> None:
    """Enter what was measured of one copy."""
    rows = {name: row for row, name in enumerate(measured.names)}
    has = np.array([row for row, name in enumerate(table.names) if name in rows], np.intp)
    augmented.X[at, has] = measured.X[[rows[table.names[row]] for row in has]]
    augmented.there[at, has] = True
