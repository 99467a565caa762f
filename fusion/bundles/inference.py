"""What a loaded model says of cells: of images that are read and measured, and of cells in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.bundles.new_sites import class_notes, describe_sites, misnamed, silent_blocks, state_classes
from fusion.data.dataset import Dataset, load_dataset, load_images
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.bags import Bags
from fusion.data.patients.patient_labels import HOW_TO_NAME_SUBJECTS
from fusion.data.patients.unreadable_patients import note_unreadable_patients
from fusion.data.readers import DEFAULT, is_image
from fusion.data.subjects import Identity
from fusion.errors import UsageError
from fusion.evaluation.promises.held_out import Asked
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained, cells_as_trained
from fusion.images.cell import Cell
from fusion.io.files import printable
from fusion.learning.bags.harmonised_bags import LEAST_PATIENTS, harmonise_bags, sources_of_few_patients
from fusion.learning.novelty import Novelty
from fusion.learning.predictions import Predictions
from fusion.learning.study import Study, are_many
from fusion.metrics.class_shares import ClassShares
from fusion.plugins.classifiers import MindsSources
from fusion.progress import Progress
from fusion.settings.commands import ExplainConfig, PredictConfig
from fusion.settings.data import ReadingSettings


def ask(
    bundle: ModelBundle, config: PredictConfig | ExplainConfig, progress: Progress | None = None
) -> tuple[Dataset, Predictions]:
    """What the images hold, normalised as the model's training cells were, and what the model says of it."""
    store = FeatureStore(config.store)
    dataset = collect(config.images, config.store, progress, config.mask_levels, config).with_source(config.source)
    dataset, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    bundle = state_classes(bundle, config.site_classes, list(dataset.each("source")))
    stored = are_many(dataset, bundle.blocks, bundle.unit)
    found = Study.of(
        dataset, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress, stored=stored
    )
    return dataset, judge_study(bundle, found, dataset.root, (*dataset.notes, *adapted))


def predict_cells(
    bundle: ModelBundle, cells: Sequence[Cell], names: Sequence[str], source: str | None = None
) -> Predictions:
    """Class probabilities for cells in memory, called by these names; nothing is read, stored or remembered.

    ``source`` is the site that all of them are from, None where it is unknown. A cell that an extractor cannot
    measure becomes a fault, as it does in ``predict``.

    Examples
    --------
    >>> cell = load("cells").samples[0].read_cell()  # doctest: +SKIP
    >>> predict_cells(load_model("model"), [cell], ["a cell"]).predicted  # doctest: +SKIP
    """
    shown, adapted = cells_as_trained(bundle.normaliser, cells, source)
    found = Study.of_cells(shown, names, bundle.blocks, bundle.transforms, source)
    return judge_study(bundle, found, Path(), adapted)


def judge_study(bundle: ModelBundle, found: Study, root: Path, remarks: Sequence[str] = ()) -> Predictions:
    """What the model says of measured cells, or of their subjects, where it judges these, and what it promises of them.

    Raises
    ------
    UsageError : the model judges subjects, and nobody says whose some of the cells are.
    """
    judge = _judge_subjects if bundle.unit == "subject" else _judge_cells
    return replace(judge(bundle, found, root, remarks), promises=bundle.promising(Asked()))


def _judge_cells(bundle: ModelBundle, found: Study, root: Path, remarks: Sequence[str]) -> Predictions:
    """What the model says of measured cells."""
    bundle = describe_sites(bundle, found.table)
    proba = bundle.predict_proba(found) if len(found) else np.empty((0, len(bundle.classes)))
    features = bundle.model.harmonised(found.table.X, found.table.sources).astype(np.float32)
    distance = None if bundle.novelty is None else bundle.novelty.distance(features, found.table.sources)
    outside = None if distance is None else distance > 1
    return Predictions(
        table=replace(found.table, X=features),
        classes=tuple(bundle.classes),
        proba=proba,
        faults=found.faults,
        root=root,
        positive=bundle.positive,
        threshold=bundle.model.threshold,
        costs=bundle.model.costs,
        calibrated=bundle.model.calibration is not None,
        trained_on=np.array([bundle.provenance.has_image(key) for key in found.table.image_keys], bool),
        distance=distance,
        remarks=(*remarks, *harmonisation_notes(bundle, found.table)),
        shares=estimate_class_shares(bundle, found.table, proba, outside),
    )


def estimate_class_shares(
    bundle: ModelBundle, table: FeatureTable, proba: NDArray[np.float64], outside: NDArray[np.bool_] | None
) -> tuple[ClassShares, ...]:
    """The shares of classes in each new source, where the model describes it by its cells.

    Parameters
    ----------
    proba : float64 (n, classes), what the model says of the cells.
    outside : bool (n,), which cells are out of distribution; None for a model that cannot tell.
    """
    harmoniser, model = bundle.model.harmoniser, bundle.model
    if harmoniser is None or not harmoniser.transductive:
        return ()
    supposed = np.full(len(bundle.classes), 1 / len(bundle.classes))
    if model.calibration is not None and model.calibration.keeps_shares:
        counts = bundle.facts.get("facts", {}).get("classes", {})
        if set(counts) != set(bundle.classes):
            return ()
        supposed = np.array([counts[label] for label in bundle.classes], np.float64) / sum(counts.values())
    found = []
    for name in harmoniser.unknown(table.sources):
        of = np.array([(source or "") == name for source in table.sources], bool)
        own = None if outside is None else outside[of]
        found.append(ClassShares.of(name, bundle.classes, proba[of], supposed, table.groups[of], own))
    return tuple(found)


def _judge_subjects(bundle: ModelBundle, found: Study, root: Path, remarks: Sequence[str]) -> Predictions:
    """What the model says of the subjects of measured cells; how far off one is, its median cell tells."""
    study = by_subject(found)
    cells, table = found.table, study.table
    bundle = describe_sites(bundle, table)
    features = harmonise_bags(bundle.model.harmoniser, table.X, table.sources, np.float32)
    distance = None if bundle.novelty is None else _distances_of_cells(bundle.novelty, features, table.sources)
    known = np.array([bundle.provenance.has_image(key) for key in cells.image_keys], bool)
    return Predictions(
        table=replace(table, X=features),
        classes=tuple(bundle.classes),
        proba=bundle.predict_proba(study) if len(study) else np.empty((0, len(bundle.classes))),
        faults=found.faults,
        root=root,
        positive=bundle.positive,
        threshold=bundle.model.threshold,
        costs=bundle.model.costs,
        calibrated=bundle.model.calibration is not None,
        trained_on=np.array([known[rows].any() for rows in table.cells], bool),
        distance=None if distance is None else features.medians(distance),
        remarks=(
            *remarks,
            *note_unreadable_patients(found.faults, cells.subjects, cells.sources),
            *harmonisation_notes(bundle, cells),
        ),
        cells=cells,
    )


def by_subject(found: Study) -> Study:
    """The subjects of measured cells, as a model of patients is asked of them.

    Raises
    ------
    UsageError : nobody says whose some of the cells are.
    """
    if nameless := sum(who is None for who in found.table.identities):
        raise UsageError(
            "this model judges patients, and cells name none",
            found=f"{nameless} of {len(found)} cells without a subject",
            do=HOW_TO_NAME_SUBJECTS,
        )
    return found.by_subject()


def harmonisation_notes(bundle: ModelBundle, table: FeatureTable) -> list[str]:
    """Stamps of what the model, by which sites are described, does by source; where neither side names one, cells pass
    for those of training."""
    harmoniser = bundle.model.harmoniser
    of_few: list[str] = []
    if harmoniser is not None and bundle.unit == "subject":
        of_few = sources_of_few_patients(harmoniser, table.sources, table.subject_numbers.tolist())
    stamps = [
        f"not harmonised: fewer than {LEAST_PATIENTS} patients of {name or 'no named source'}; judge more at once, or "
        "keep what their site looks like (fusion adapt)"
        for name in of_few
    ]
    described = np.array([(source or "") not in of_few for source in table.sources], bool)
    stamps += [] if harmoniser is None else harmoniser.notes([table.sources[row] for row in np.flatnonzero(described)])
    adapted, here = bundle.facts.get("adapted", {}), {source or "" for source in table.sources}
    kept_of = {"features harmonised": "sites", "pixels scaled": "sizes", "batch norms": "norms"}
    kept_of["what is out of distribution is told"] = "usual"
    for what, kept in ((what, adapted.get(name, {})) for what, name in kept_of.items()):
        stamps += [
            f"{what} by the {kept[name]} cells of {name} that the model was adapted by"
            for name in sorted(here & kept.keys())
        ]
    stamps += [] if harmoniser is None else class_notes(harmoniser, table.sources)
    stamps += misnamed(bundle, table) + silent_blocks(bundle, table)
    if isinstance(bundle.model.classifier, MindsSources):  # a network whose batch norms are the source's
        stamps += bundle.model.classifier.notes(table.sources)
    known = {*(harmoniser.maps if harmoniser else ()), *(bundle.normaliser.sources if bundle.normaliser else ())}
    if "" in known and None in table.sources:
        stamps.append(
            "no source named: taken for the site that the model was trained in; if it is another one, say --source NAME"
        )
    return stamps


def out_of_distribution(bundle: ModelBundle, table: FeatureTable) -> NDArray[np.bool_] | None:
    """bool (n,): which cells are out of distribution, of subjects bag after bag; None for a model that cannot tell."""
    if bundle.novelty is None:
        return None
    if isinstance(table.X, Bags):
        bags = harmonise_bags(bundle.model.harmoniser, table.X, table.sources, np.float32)
        return _distances_of_cells(bundle.novelty, bags, table.sources) > 1
    features = bundle.model.harmonised(table.X, table.sources).astype(np.float32)
    return bundle.novelty.distance(features, table.sources) > 1


def _distances_of_cells(novelty: Novelty, bags: Bags, sources: Sequence[str | None]) -> NDArray[np.float64]:
    """float64 (k,): how far each cell of bags, whose sources these are, is from the training cells, as they are
    stacked."""
    found, at = [np.empty(0)], 0
    for some in bags.batches():
        found.append(novelty.distance(some.stacked, some.spread(sources[at : at + len(some)])))
        at += len(some)
    return np.concatenate(found)


def collect(
    images: Sequence[Path],
    store: Path | None = None,
    progress: Progress | None = None,
    mask_levels: str | None = None,
    reading: ReadingSettings = DEFAULT,
) -> Dataset:
    """One data set of all the paths, in their order; names stay as the user typed them.

    Images that are named one by one are one input, and so is each folder or table. Subjects of several inputs
    that are called alike, and whose source no input names, need not be the same person: they get the input's name in
    front.

    Raises
    ------
    DatasetError : a path that is nothing Fusion can read.
    """

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("reading", done, total, 0)

    parts: list[tuple[str, Dataset]] = []
    for loose, paths in groupby(images, key=lambda path: is_image(path) and not path.is_dir()):
        if loose:
            parts.append(("", load_images(list(paths), store=store, progress=tell)))
            continue
        for path in paths:
            part = "all" if path.is_dir() else None
            dataset = load_dataset(
                path,
                part=part,
                reading=reading,
                is_lenient=len(images) > 1,
                needs_labels=False,
                mask_levels=mask_levels,
                store=store,
                progress=tell,
            )
            parts.append((printable(path), dataset))
    if len(parts) == 1:
        return parts[0][1]
    return _joined(parts)


def _joined(parts: Sequence[tuple[str, Dataset]]) -> Dataset:
    """One data set of several inputs, each with what it was called; subjects that are called alike are kept apart."""
    inputs: dict[Identity | None, set[str]] = {}
    for given, dataset in parts:
        for sample in dataset.samples:
            inputs.setdefault(sample.identity, set()).add(given)
    shared = {subject for subject, among in inputs.items() if isinstance(subject, str) and len(among) > 1}
    notes = [note for _, dataset in parts for note in dataset.notes]
    if shared:
        notes.append(f"{len(shared)} subjects are called alike in several inputs, and are kept apart.")
    return Dataset(
        root=Path(),
        layout=parts[0][1].layout,
        samples=tuple(
            replace(sample, subject=f"{given}: {sample.subject}" if given else sample.subject)
            if sample.identity in shared
            else sample
            for given, dataset in parts
            for sample in dataset.samples
        ),
        faults=tuple(fault for _, dataset in parts for fault in dataset.faults),
        notes=tuple(notes),
    )
