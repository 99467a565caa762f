"""Varied copies of training cells, which models learn from beside the cells themselves; see
``fusion.image_transforms.augmentation``.

A copy has the label and the group of its cell, and no part in anything but learning: it is not judged, not counted, not
shown, and whether a probability is to be trusted is not asked of it. Copies of test cells are not learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, as_columns
from fusion.data.feature_table import Copies, FeatureTable
from fusion.errors import UsageError
from fusion.image_transforms.augmentation import draw
from fusion.settings.learning import JitterSettings

#: Between the name of a source and the number of its copy.
_MARK = "~"

#: Measures a data set: the same columns as the table whose cells are copied.
Measuring = Callable[[Dataset], FeatureTable]


def source_of_copy(source: str | None, number: int) -> str:
    """The source that augmented cells of this number pass for, the first being 1."""
    return f"{source or ''}{_MARK}{number}"


def check_sources(sources: Iterable[str | None], settings: JitterSettings) -> None:
    """UsageError where a source is named as copies of another would be."""
    if not settings.copies or settings.of != "source":
        return
    named = set(sources)
    taken = {source_of_copy(name, number) for name in named for number in range(1, settings.copies + 1)}
    if clash := sorted(name for name in named if name in taken):
        raise UsageError(
            "a source is named as the copies of another would be",
            found=", ".join(map(str, clash)),
            do="Name it otherwise, or take jitter.of=cell.",
        )


def jittered(dataset: Dataset, settings: JitterSettings, seed: int, number: int) -> Dataset:
    """The data set with one drawn variation of every cell, of laboratories of their own where ``of`` is "source"."""
    plain = settings.model_dump()
    samples = (
        replace(
            sample,
            adjustment=draw(plain, seed, number, sample.source, sample.key),
            source=source_of_copy(sample.source, number) if settings.of == "source" else sample.source,
        )
        for sample in dataset.samples
    )
    return replace(dataset, samples=as_columns(samples), faults=())


def augmented_cells(
    dataset: Dataset, table: FeatureTable, settings: JitterSettings, seed: int, measure: Measuring
) -> Copies | None:
    """Copies of the table's cells, which are of this data set; None where none are asked for."""
    if not settings.copies:
        return None
    known = _only(dataset, set(table.names))
    found = _none_yet(table, settings)
    for at in range(settings.copies):
        _put(found, at, table, measure(jittered(known, settings, seed, at + 1)))
    return found


def augmentation_notes(settings: JitterSettings, table: FeatureTable, parts: Sequence[NDArray[np.intp]]) -> list[str]:
    """What is to be known about the copies of a table's cells, for the notes of a result.

    ``parts`` are the training rows of every fit.
    """
    if table.copies is None:
        return []
    as_what = "as if of another laboratory" if settings.of == "source" else "each cell's by a draw of its own"
    number = "a varied copy" if settings.copies == 1 else f"{settings.copies} varied copies"
    notes = [f"jitter: models learn from {number} of every training cell too, {as_what}; no copy is judged."]
    lost = max((int((~table.copies.there[:, rows]).sum()) for rows in parts), default=0)
    if lost:
        notes.append(f"jitter: up to {lost} copies of a training part could not be measured, and are left out.")
    return notes


def _only(dataset: Dataset, names: set[str]) -> Dataset:
    """The samples of these names."""
    samples = dataset.samples
    at = [row for row, name in enumerate(dataset.names) if name in names]
    return replace(dataset, samples=as_columns(samples[row] for row in at), faults=())


def _none_yet(table: FeatureTable, settings: JitterSettings) -> Copies:
    shape = (settings.copies, len(table))
    X = np.full((*shape, len(table.columns)), np.nan, np.float32)
    return Copies(X, np.zeros(shape, bool), settings.of == "source")


def _put(copies: Copies, at: int, table: FeatureTable, measured: FeatureTable) -> None:
    """Enter what was measured of one copy."""
    rows = {name: row for row, name in enumerate(measured.names)}
    has = np.array([row for row, name in enumerate(table.names) if name in rows], np.intp)
    copies.X[at, has] = measured.X[[rows[table.names[row]] for row in has]]
    copies.there[at, has] = True
