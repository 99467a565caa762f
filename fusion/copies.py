"""Varied copies of training cells, which models learn from beside the cells themselves; see ``fusion.jitter``.

A copy has the label and the group of its cell, and no part in anything but learning: it is not judged, not counted, not
shown, and whether a probability is to be trusted is not asked of it. Copies of test cells are not learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.config import JitterSettings
from fusion.datasets import Dataset, as_columns
from fusion.errors import UsageError
from fusion.jitter import draw
from fusion.streaming import rows_of
from fusion.table import Copies, FeatureTable

#: Between the name of a source and the number of its copy.
_MARK = "~"

#: Measures a data set: the same columns as the table whose cells are copied.
Measuring = Callable[[Dataset], FeatureTable]


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a model is fitted on: training cells, and their copies below them.

    Attributes
    ----------
    X : float32 (n, d), in the store still where the table's are.
    y : object (n,), labels.
    groups : intp (n,).
    sources : n names, None where unknown; a copy's own where copies stand for other laboratories.
    cells : intp (n,), for every row the row of the cell that it shows: its own, unless it is a copy.
    """

    X: Any
    y: NDArray[Any]
    groups: NDArray[np.intp]
    sources: list[str | None]
    cells: NDArray[np.intp]


def learnt(table: FeatureTable, rows: NDArray[np.intp]) -> Learnt:
    """The cells of these rows and all of their copies that could be measured."""
    own = np.arange(len(rows))
    labels, sources = np.array(table.y)[rows], [table.sources[row] for row in rows]
    X = rows_of(table.X, rows)
    if table.copies is None:
        return Learnt(X, labels, table.groups[rows], sources, own)
    parts, cells, named = [X], [own], list(sources)
    for number, (copy, there) in enumerate(zip(table.copies.X, table.copies.there, strict=True), start=1):
        has = np.flatnonzero(there[rows])
        parts.append(copy[rows[has]])
        cells.append(has)
        of = [sources[at] for at in has]
        named += [source_of_copy(name, number) for name in of] if table.copies.are_sources else of
    shown = np.concatenate(cells)
    return Learnt(np.vstack(parts), labels[shown], table.groups[rows][shown], named, shown)


def source_of_copy(source: str | None, number: int) -> str:
    """The name of the laboratory that copies of this number pass for, the first being 1."""
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


def copied(
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


def told(settings: JitterSettings, table: FeatureTable, parts: Sequence[NDArray[np.intp]]) -> list[str]:
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


def refuse(settings: JitterSettings, *, looks: bool = False, crossfit: bool = False, leak: bool = False) -> None:
    """UsageError for what does not go with copies: a classifier that looks at pictures, networks of every split, or a
    look at what a random split would flatter by."""
    if not settings.copies:
        return
    for is_asked, what, do in (
        (looks, "a network varies pictures itself", "Set classifiers.neural.augmentation instead."),
        (crossfit, "--cnn-crossfit does not learn from copies", "Leave one of them out, or set the network's own."),
        (leak, "--show-leak takes cells as they are", "Leave one of them out."),
    ):
        if is_asked:
            raise UsageError(what, found=f"jitter.copies {settings.copies}", do=do)


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
