"""The training cells most like a cell, as images: precedents that a person can compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.dataset import Sample, load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.patient_labels import label_by_subject
from fusion.data.readers import DEFAULT
from fusion.errors import UsageError
from fusion.features.blocks import measure
from fusion.features.store import FeatureStore
from fusion.features.stored_matrix import BATCH
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.images.cell import Cell, CellError
from fusion.learning.novelty import Novelty
from fusion.progress import Progress
from fusion.settings.data import ReadingSettings

#: Cells shown.
NEAREST = 5


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A training cell: its name, label and image, how far it is in fused space (no unit), and whose it is.

    To a model of patients its label is its patient's class.
    """

    name: str
    label: str | None
    cell: Cell
    distance: float
    subject: str | None = None


@dataclass(frozen=True, eq=False)
class Gallery:
    """Training cells in fused space; ``Z`` is float32 (n, d), a row a sample."""

    novelty: Novelty
    Z: NDArray[np.float32]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]

    def nearest(
        self, features: NDArray[np.float32], image_id: str, count: int = NEAREST, not_of: str | None = None
    ) -> tuple[Neighbour, ...]:
        """The cells nearest to float32 (d,) by Euclidean distance in fused space, which scales every block alike.

        The image with this content itself is left out, as are cells of the subject ``not_of``, and images that can no
        longer be read.
        """
        own = self.novelty.layer.transform(features[None])
        starts = range(0, len(self.Z), BATCH)
        away = np.concatenate([np.linalg.norm(self.Z[at : at + BATCH] - own, axis=1) for at in starts])
        found: list[Neighbour] = []
        for at in np.argsort(away, kind="stable"):
            sample = self.samples[at]
            if sample.image_id == image_id or (not_of is not None and sample.subject == not_of):
                continue
            try:
                cell = sample.read_cell()
            except CellError:  # moved or changed since it was measured: the next one is shown
                continue
            found.append(Neighbour(self.names[at], sample.label, cell, float(away[at]), sample.subject))
            if len(found) == count:
                break
        return tuple(found)


def open_gallery(
    bundle: ModelBundle,
    data: Path,
    store: Path | None,
    jobs: int,
    progress: Progress | None = None,
    mask_levels: str | None = None,
    reading: ReadingSettings = DEFAULT,
) -> Gallery:
    """The cells of a data set that the model has learnt from.

    Raises
    ------
    UsageError : none of them is in the data set, or the model has no features to compare cells by.
    """
    if bundle.novelty is None:
        raise UsageError("--data needs a model with features, to compare cells by", do="Leave --data out.")
    part = "all" if data.is_dir() else None
    dataset = load_dataset(
        data, part=part, reading=reading, is_lenient=True, needs_labels=False, mask_levels=mask_levels, store=store
    )
    if bundle.unit == "subject":
        dataset = label_by_subject(dataset)
    known = [bundle.provenance.has_image(sample.image_key, sample.pixel_key) for sample in dataset.samples]
    if not any(known):
        raise UsageError(
            f"{data} has none of the cells that the model learnt from",
            found=f"{len(known)} other images",
            do="Give the data set of its training, or leave --data out.",
        )
    kept = FeatureStore(store)
    shown, _ = as_trained(bundle.normaliser, dataset, kept, jobs=jobs, progress=progress)
    found = measure(shown, bundle.blocks, kept, jobs=jobs, progress=progress, stored=True)
    table = found.table
    rows = np.flatnonzero([bundle.provenance.has_image(key) for key in table.image_keys])
    samples = [dataset.samples[at] for at in found.complete[rows]]
    names = tuple(table.names[at] for at in rows)
    return Gallery(bundle.novelty, _in_fused_space(bundle, table, rows), names, tuple(samples))


def _in_fused_space(bundle: ModelBundle, table: FeatureTable, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """float32 (n, d): these rows, read from the store some at a time; all rows at once where they are harmonised, since
    a site that is new to the model is described by all of its cells."""
    assert bundle.novelty is not None  # asked before
    layer, harmonised = bundle.novelty.layer, bundle.model.harmoniser is not None
    X: Any = bundle.model.harmonised(table.X[:], table.sources) if harmonised else table.X
    Z = np.empty((len(rows), layer.transform(X[rows[:1]]).shape[1]), np.float32)
    for at in range(0, len(rows), BATCH):
        Z[at : at + BATCH] = layer.transform(X[rows[at : at + BATCH]])
    return Z
