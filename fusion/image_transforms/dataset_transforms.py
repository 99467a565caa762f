"""Cells of a data set, brought to look alike before they are measured; see ``fusion.image_transforms.normaliser``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, as_columns
from fusion.data.feature_table import FeatureTable
from fusion.errors import ConfigError
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.image_transforms._appearance import LEAST_RED_CELLS, Appearance, RedCells
from fusion.image_transforms.augmentation import AugmentedAdjustment
from fusion.image_transforms.normaliser import Adjustment, Normaliser, target_of
from fusion.images.cell import Cell, CellError, read_cell
from fusion.images.cell_transform import Change
from fusion.leakage.grouped_splits import Split
from fusion.plugins.extractors import Extractor
from fusion.progress import Progress
from fusion.settings.learning import NormaliseSettings, ReinhardTarget


@dataclass(frozen=True, eq=False)
class Normalised:
    """A data set as its cells are measured, and what a model keeps of that.

    Attributes
    ----------
    dataset : with an adjustment for every cell that is changed.
    normaliser : does the same to other cells; None where nothing is changed.
    leaning : name -> source ("" for none) of cells whose scale is that of their source, not their own.
    notes : for a result.
    """

    dataset: Dataset
    normaliser: Normaliser | None
    leaning: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def stamps(self, table: FeatureTable, splits: Sequence[Split]) -> list[str]:
        """For a result on these splits of ``table``: where a source was described by cells that are judged, and no
        others."""
        found: dict[str, None] = {}
        for split in splits:
            known = {table.sources[row] or "" for row in split.train}
            leaning = (self.leaning.get(table.names[row]) for row in split.test)
            found |= dict.fromkeys(
                _source_notes(source for source in leaning if source is not None and source not in known)
            )
        return list(found)


def stated(settings: NormaliseSettings) -> NormaliseSettings:
    """The settings in plain values: an image that others are to be stained like is read.

    Raises
    ------
    ConfigError : there is no cell in it.
    """
    if not isinstance(settings.reinhard, Path):
        return settings
    try:
        target = target_of(read_cell(settings.reinhard), settings.white_balance)
    except (CellError, OSError) as error:
        raise ConfigError(
            f"normalise.reinhard: {settings.reinhard} shows no stain", found=str(error), expected="an image of a cell"
        ) from error
    return settings.model_copy(update={"reinhard": ReinhardTarget(mean=target.mean, spread=target.spread)})


def normalise(
    dataset: Dataset,
    settings: NormaliseSettings,
    store: FeatureStore,
    *,
    jobs: int,
    progress: Progress | None = None,
) -> Normalised:
    """The data set as ``stated`` settings ask for it: the same for every split, whoever is in a training part.

    Raises
    ------
    UsageError : a scale by the length of pixels, and cells without one.
    """
    if settings.is_nothing:
        return Normalised(dataset, None, {})
    described = _describe(dataset, settings.scale, store, jobs, progress)
    normaliser = Normaliser.fit(settings.steps, described.image_statistics)
    image_statistics, leans = described.image_statistics, normaliser.leans(described.image_statistics)
    leaning = {image_statistics.names[row]: image_statistics.sources[row] or "" for row in np.flatnonzero(leans)}
    median = (
        f"scale by {settings.scale}: the median of a source is that of all its cells in the data set, held-out ones "
        "too, without labels."
    )
    notes = [*described.notes, *([median] if leaning else [])]
    return Normalised(described.adjusted(normaliser), normaliser, leaning, tuple(notes))


def views_of(*datasets: Dataset) -> str:
    """A hash that changes with any cell, and with anything that it is changed by before it is measured."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for sample in dataset.samples:
            digest.update(sample.measured_key.encode())
    return digest.hexdigest()


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
    described = _describe(dataset, normaliser.scale, store, jobs, progress)
    return described.adjusted(normaliser), [*_unknown(normaliser, described.image_statistics), *described.notes]


def knowing_sources(
    normaliser: Normaliser | None, dataset: Dataset, store: FeatureStore, *, jobs: int, progress: Progress | None = None
) -> Normaliser | None:
    """A model's normaliser that knows the data set's new sources too, where it scales by what a source is like."""
    if normaliser is None or not normaliser.describes_sources:
        return normaliser
    return normaliser.with_sources(_describe(dataset, normaliser.scale, store, jobs, progress).image_statistics)


def cells_as_trained(
    normaliser: Normaliser | None, cells: Sequence[Cell], source: str | None
) -> tuple[list[Cell], list[str]]:
    """Cells of one source in memory, normalised as a model's training cells were, and stamps."""
    if normaliser is None or not cells:
        return list(cells), []
    one, red = Appearance(), RedCells()
    names = tuple(map(str, range(len(cells))))
    columns = tuple(f"{each.name}.{feature}" for each in (one, red) for feature in each.feature_names())
    # A cell that was cropped without a look at its red cells shows none.
    around = red.extract([replace(cell, red_cells=cell.red_cells or ()) for cell in cells])
    image_statistics = FeatureTable.of_cells(np.hstack([one.extract(cells), around]), columns, names, source)
    adjusted = [each.apply(cell) for each, cell in zip(normaliser.adjustments(image_statistics), cells, strict=True)]
    return adjusted, _unknown(normaliser, image_statistics)


@dataclass(frozen=True, eq=False)
class _Described:
    """A data set and how each of its cells looks; ``at`` are the samples that the rows of ``image_statistics`` are
    of."""

    dataset: Dataset
    image_statistics: FeatureTable
    at: NDArray[np.intp]

    @property
    def notes(self) -> list[str]:
        """Around how many cells red cells were seen, where they were looked for."""
        at = f"{RedCells.name}.diameter"
        if at not in self.image_statistics.columns:
            return []
        seen = int((~np.isnan(self.image_statistics.X[:, self.image_statistics.columns.index(at)])).sum())
        return [
            f"scale by red cells: {LEAST_RED_CELLS} or more are whole around {seen} of {len(self.image_statistics)} "
            f"cells; the "
            "others take the median of their source, or what the table says."
        ]

    def adjusted(self, normaliser: Normaliser) -> Dataset:
        """The data set with an adjustment for every cell, after what it is changed by already; what cannot be read is
        left as it is."""
        given = (
            dict(zip(self.at.tolist(), normaliser.adjustments(self.image_statistics), strict=True))
            if len(self.at)
            else {}
        )
        samples = (
            replace(sample, adjustment=_after(sample.adjustment, given[at])) if at in given else sample
            for at, sample in enumerate(self.dataset.samples)
        )
        return replace(self.dataset, samples=as_columns(samples))


def _after(change: Change | None, adjustment: Adjustment) -> Change:
    return adjustment if change is None else AugmentedAdjustment(change, adjustment)


def _describe(dataset: Dataset, scale: str, store: FeatureStore, jobs: int, progress: Progress | None) -> _Described:
    """Look at every cell once, and at red cells around it where ``scale`` asks; what is seen is kept in the store."""
    seen: list[Extractor] = [Appearance(), *([RedCells()] if scale == "red-cells" else [])]
    found = extract(dataset, seen, store, jobs=jobs, progress=progress)
    # An image is known by its content, and what the store remembers of the size of its pixels may be of another table.
    lengths = [
        np.nan if um is None else um / (1.0 if change is None else change.zoom)
        for um, change in zip(dataset.each("um_per_px"), dataset.each("adjustment"), strict=True)
    ]
    image_statistics = found.table
    X = image_statistics.X.copy()
    X[:, image_statistics.columns.index(f"{Appearance.name}.um_per_px")] = np.array(lengths)[found.complete]
    return _Described(dataset, replace(image_statistics, X=X), found.complete)


def _unknown(normaliser: Normaliser, image_statistics: FeatureTable) -> list[str]:
    """Stamps for a result on these cells: which sources of theirs the model does not know."""
    leaning = (image_statistics.sources[row] or "" for row in np.flatnonzero(normaliser.leans(image_statistics)))
    return _source_notes(source for source in leaning if source not in normaliser.sources)


def _source_notes(sources: Iterable[str]) -> list[str]:
    """The stamp of judged cells of these sources, which are described by them alone; none for no cells."""
    count = Counter(sources)
    who = ", ".join(name or "cells without a source" for name in sorted(count))
    return (
        [f"transductive: pixels normalised by {count.total()} cells that are judged here, without labels ({who})"]
        if count
        else []
    )
