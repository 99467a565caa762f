"""Cells of a data set, brought to look alike before they are measured; see ``fusion.normalisation``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.appearance import LEAST_RED_CELLS, Appearance, RedCells
from fusion.cells import Cell
from fusion.config import NormaliseSettings
from fusion.datasets import Dataset, as_columns
from fusion.errors import UsageError
from fusion.extraction import Progress, extract
from fusion.inputs import CellInputs
from fusion.jitter import Jittered
from fusion.normalisation import Adjustment, Change, Normaliser
from fusion.plugins import Extractor
from fusion.splits import Split
from fusion.store import FeatureStore
from fusion.table import FeatureTable


@dataclass(frozen=True, eq=False)
class Described:
    """A data set and how each of its cells looks; ``at`` are the samples that the rows of ``looks`` are of."""

    dataset: Dataset
    looks: FeatureTable
    at: NDArray[np.intp]

    @property
    def notes(self) -> list[str]:
        """Around how many cells red cells were seen, where they were looked for."""
        at = f"{RedCells.name}.diameter"
        if at not in self.looks.columns:
            return []
        seen = int((~np.isnan(self.looks.X[:, self.looks.columns.index(at)])).sum())
        return [
            f"scale by red cells: {LEAST_RED_CELLS} or more are whole around {seen} of {len(self.looks)} cells; the "
            "others take the median of their source, or what the table says."
        ]

    def fit(self, settings: NormaliseSettings, names: Sequence[str] | None = None) -> Normaliser:
        """Fitted on the samples of these names, by default on all."""
        if names is None:
            return Normaliser.fit(settings.steps, self.looks)
        wanted = set(names)
        rows = [row for row, name in enumerate(self.looks.names) if name in wanted]
        return Normaliser.fit(settings.steps, self.looks.take(np.array(rows, np.intp)))

    def only(self, names: Collection[str]) -> Described:
        """The samples of these names that could be looked at."""
        rows = np.array([row for row, name in enumerate(self.looks.names) if name in names], np.intp)
        samples = as_columns(self.dataset.samples[at] for at in self.at[rows])
        return Described(replace(self.dataset, samples=samples), self.looks.take(rows), np.arange(len(rows)))

    def adjusted(self, normaliser: Normaliser) -> Dataset:
        """The data set with an adjustment for every cell, after what it is changed by already; what cannot be read is
        left as it is."""
        given = dict(zip(self.at.tolist(), normaliser.adjustments(self.looks), strict=True)) if len(self.at) else {}
        samples = (
            replace(sample, adjustment=_after(sample.adjustment, given[at])) if at in given else sample
            for at, sample in enumerate(self.dataset.samples)
        )
        return replace(self.dataset, samples=as_columns(samples))


def _after(change: Change | None, adjustment: Adjustment) -> Change:
    return adjustment if change is None else Jittered(change, adjustment)


def describe(
    dataset: Dataset, store: FeatureStore, *, scale: str = "none", jobs: int, progress: Progress | None = None
) -> Described:
    """Look at every cell once, and at red cells around it where ``scale`` asks; what is seen is kept in the store."""
    seen: list[Extractor] = [Appearance(), *([RedCells()] if scale == "red-cells" else [])]
    found = extract(dataset, seen, store, jobs=jobs, progress=progress)
    # A picture is known by its content, and what the store remembers of the size of its pixels may be of another table.
    stated = [
        np.nan if um is None else um / (1.0 if change is None else change.zoom)
        for um, change in zip(dataset.each("um_per_px"), dataset.each("adjustment"), strict=True)
    ]
    looks = found.table
    X = looks.X.copy()
    X[:, looks.columns.index(f"{Appearance.name}.um_per_px")] = np.array(stated)[found.complete]
    return Described(dataset, replace(looks, X=X), found.complete)


def as_trained(
    normaliser: Normaliser | None,
    dataset: Dataset,
    store: FeatureStore,
    *,
    jobs: int,
    progress: Progress | None = None,
) -> tuple[Dataset, list[str]]:
    """The data set with its pixels normalised as a model's training cells were, and stamps."""
    if normaliser is None:
        return dataset, []
    described = describe(dataset, store, scale=normaliser.scale, jobs=jobs, progress=progress)
    return described.adjusted(normaliser), [*told(normaliser, described.looks), *described.notes]


def cells_as_trained(
    normaliser: Normaliser | None, cells: Sequence[Cell], source: str | None
) -> tuple[list[Cell], list[str]]:
    """Cells of one source in memory, normalised as a model's training cells were, and stamps."""
    if normaliser is None or not cells:
        return list(cells), []
    one, red = Appearance(), RedCells()
    names, nothing = tuple(map(str, range(len(cells)))), (None,) * len(cells)
    columns = tuple(f"{each.name}.{feature}" for each in (one, red) for feature in each.feature_names())
    # A cell that was cropped without a look at its red cells shows none.
    around = red.extract([replace(cell, red_cells=cell.red_cells or ()) for cell in cells])
    looks = FeatureTable(
        np.hstack([one.extract(cells), around]), columns, names, names, names, nothing, nothing, nothing,
        np.arange(len(cells)), subjects_known=False, sources=(source,) * len(cells),
    )  # fmt: skip
    adjusted = [each.apply(cell) for each, cell in zip(normaliser.adjustments(looks), cells, strict=True)]
    return adjusted, told(normaliser, looks)


def told(normaliser: Normaliser, looks: FeatureTable) -> list[str]:
    """Stamps for a result on these cells."""
    unknown = normaliser.unknown(looks.sources) if normaliser.describes_sources else []
    if not unknown:
        return []
    cells = sum(("" if source is None else source) in unknown for source in looks.sources)
    who = ", ".join(name or "cells without a source" for name in unknown)
    return [f"transductive: pixels normalised by {cells} cells that are judged here, without labels ({who})"]


def split_by_split(
    described: Described,
    settings: NormaliseSettings,
    table: FeatureTable,
    splits: Sequence[Split],
    measure: Callable[[Dataset], FeatureTable],
) -> tuple[tuple[NDArray[np.float32], ...], list[str]]:
    """For every split float32 (n, d), the rows of ``table`` as normalised by the split's training part; and stamps.

    A cell that cannot be measured under one of them has NaN there.
    """
    seen, stamps = seen_by_split(described, settings, table, splits, lambda which: (measure(which), None))
    return tuple(X for X, _ in seen), stamps


def seen_by_split(
    described: Described,
    settings: NormaliseSettings,
    table: FeatureTable,
    splits: Sequence[Split],
    look: Callable[[Dataset], tuple[FeatureTable, CellInputs | None]],
) -> tuple[tuple[tuple[NDArray[np.float32], CellInputs | None], ...], list[str]]:
    """For every split the rows of ``table``, features as in ``split_by_split`` and pictures where ``look`` takes any,
    all as the split's training part normalises them; and stamps.

    Raises
    ------
    UsageError : a cell that has no picture once it is normalised.
    """
    parts: list[tuple[NDArray[np.float32], CellInputs | None]] = []
    stamps: dict[str, None] = {}
    for split in splits:
        normaliser = described.fit(settings, [table.names[row] for row in split.train])
        measured, inputs = look(described.adjusted(normaliser))
        rows = {name: at for at, name in enumerate(measured.names)}
        X = np.full(table.X.shape, np.nan, np.float32)
        for row, name in enumerate(table.names):
            if name in rows:
                X[row] = measured.X[rows[name]]
        if inputs is not None:
            if lost := [name for name in table.names if name not in rows]:
                raise UsageError("cells without a picture once they are normalised", found=", ".join(lost[:3]))
            inputs = replace(inputs.take(np.array([rows[name] for name in table.names], np.intp)), X=X)
        parts.append((X, inputs))
        judged = {table.names[row] for row in split.test}
        of = [row for row, name in enumerate(described.looks.names) if name in judged]
        stamps |= dict.fromkeys(told(normaliser, described.looks.take(np.array(of, np.intp))))
    return tuple(parts), list(stamps)
