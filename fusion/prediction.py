"""Using a trained model: on labelled cells it has not seen (evaluate), and on any cells (predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fusion.bundle import ModelBundle, load_model
from fusion.cells import Cell
from fusion.config import EvaluateConfig, ExplainConfig, PredictConfig, write_config
from fusion.datasets import Dataset, load_dataset, load_pictures
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.files import printable
from fusion.learning.study import Study
from fusion.normalising import as_trained, cells_as_trained
from fusion.plugins import MindsSources
from fusion.predictions import Predictions
from fusion.provenance import check_unseen
from fusion.readers import is_picture
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge
from fusion.splits import LeakageError, Split
from fusion.store import FeatureStore
from fusion.subjects import Identity, recognises
from fusion.table import FeatureTable
from fusion.workflows.loading import load_labelled
from fusion.workflows.run_facts import facts


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Result:
    """Score labelled cells with a trained model, and write the result.

    Raises
    ------
    LeakageError : the model has been trained on some of these pictures or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know.
    BundleError, FusionError : the model or the data cannot be read.
    """
    check_result_folder(config.output)
    bundle = load_model(config.model)
    dataset = _only_known_classes(load_labelled(config, progress), bundle)
    seen = _seen(dataset, bundle)
    if seen and not config.allow_leakage:
        raise _leakage(dataset, seen, config)
    # What the classifier itself has seen is said by the bundle; but its weights may have learnt from more before.
    learners: list[tuple[str, Any]] = [(block.name, block.extractor) for block in bundle.blocks]
    learners += [] if seen else [(bundle.classifier, bundle.model.classifier)]
    known = check_unseen(learners, dataset, allow=config.allow_leakage)
    store = FeatureStore(config.store)
    shown, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    found = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress)
    table = found.table
    proba = bundle.predict_proba(found)
    adapted += _harmonised(bundle, table)
    cut = None if bundle.model.cut is None else np.full(len(table), bundle.model.cut)
    scores = Scores(bundle.features, bundle.classifier, proba, np.zeros(len(table), np.intp), cut)
    figures = judge(table, scores, bundle.classes, bundle.positive, bootstrap=config.bootstrap, seed=config.seed)
    everything = Split(np.empty(0, np.intp), np.arange(len(table)), table.groups)
    stamps = [*known, *adapted] if table.subjects_known else [*known, *adapted, UNKNOWN_SUBJECTS]
    if seen:
        stamps.append(f"leaky: the model was trained on {len(seen)} of these pictures or on their subjects")
    result = Result(
        command="evaluate",
        cells=table,
        classes=tuple(bundle.classes),
        positive=bundle.positive,
        scores=(scores,),
        figures=(figures,),
        config=write_config(config),
        stamps=tuple(stamps),
        notes=dataset.notes,
        faults=found.faults,
        facts=facts(dataset, table, [everything], "external"),
    )
    from fusion import report, travel  # draws; predicting does not

    result = replace(result, findings={"abstention": travel.abstentions(result)})
    result.save(config.output, dataset.root)

    places = {dataset.name_of(sample): (sample.path, sample.mask_path) for sample in dataset.samples}
    report.write_report(result, config.output, places)
    return result


def predict(config: PredictConfig, progress: Progress | None = None) -> Predictions:
    """Class probabilities for pictures, folders of pictures or tables, labelled or not.

    Raises
    ------
    BundleError : the model cannot be read.
    DatasetError : a path that is nothing Fusion can read.
    UsageError : ``explain`` is a folder that cannot be written.
    """
    bundle = load_model(config.model)
    if config.explain is not None:
        from fusion.explaining import check_folder, write_explanations  # draws; predicting alone does not

        check_folder(config.explain)
    dataset, found = ask(bundle, config, progress)
    if config.explain is not None and len(found):
        explained = write_explanations(bundle, dataset, found, config.explain, progress=progress)
        return replace(found, faults=explained.faults)
    return found


def ask(
    bundle: ModelBundle, config: PredictConfig | ExplainConfig, progress: Progress | None = None
) -> tuple[Dataset, Predictions]:
    """What the images hold, normalised as the model's training cells were, and what the model says of it."""
    store = FeatureStore(config.store)
    dataset = collect(config.images, config.store, progress).with_source(config.source)
    dataset, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    found = Study.of(dataset, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress)
    return dataset, judge_study(bundle, found, dataset.root, (*dataset.notes, *adapted))


def predict_cells(
    bundle: ModelBundle, cells: Sequence[Cell], names: Sequence[str], source: str | None = None
) -> Predictions:
    """Class probabilities for cells in memory, called by these names; nothing is read, stored or remembered.

    ``source`` is the laboratory that all of them are from, None where it is unknown. A cell that an extractor cannot
    measure becomes a fault, as it does in ``predict``.
    """
    shown, adapted = cells_as_trained(bundle.normaliser, cells, source)
    found = Study.of_cells(shown, names, bundle.blocks, bundle.transforms, source)
    return judge_study(bundle, found, Path(), adapted)


def judge_study(bundle: ModelBundle, found: Study, root: Path, remarks: Sequence[str] = ()) -> Predictions:
    """What the model says of measured cells."""
    proba = bundle.predict_proba(found) if len(found) else np.empty((0, len(bundle.classes)))
    features = bundle.model.harmonised(found.table.X, found.table.sources).astype(np.float32)
    return Predictions(
        table=replace(found.table, X=features),
        classes=tuple(bundle.classes),
        proba=proba,
        faults=found.faults,
        root=root,
        positive=bundle.positive,
        cut=bundle.model.cut,
        calibrated=bundle.model.calibration is not None,
        trained_on=np.array([key in bundle.image_keys for key in found.table.image_keys], bool),
        distance=None if bundle.novelty is None else bundle.novelty.distance(features),
        remarks=(*remarks, *_harmonised(bundle, found.table)),
    )


def _harmonised(bundle: ModelBundle, table: FeatureTable) -> list[str]:
    """Stamps of what the model does by source; where neither side names one, cells pass for those of training."""
    harmoniser = bundle.model.harmoniser
    stamps = [] if harmoniser is None else harmoniser.told(table.sources)
    if isinstance(bundle.model.classifier, MindsSources):  # a network whose batch norms are the source's
        stamps += bundle.model.classifier.told(table.sources)
    known = {*(harmoniser.maps if harmoniser else ()), *(bundle.normaliser.sources if bundle.normaliser else ())}
    if "" in known and None in table.sources:
        stamps.append(
            "no source named: taken for the laboratory that the model was trained in; if it is another one, "
            "say --set source=NAME"
        )
    return stamps


def collect(images: Sequence[Path], store: Path | None = None, progress: Progress | None = None) -> Dataset:
    """One data set of all the paths, in their order; names stay as the user typed them.

    Pictures that are named one by one are one input, and so is each folder or table. Subjects of several inputs
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
    for loose, paths in groupby(images, key=lambda path: is_picture(path) and not path.is_dir()):
        if loose:
            parts.append(("", load_pictures(list(paths), store=store, progress=tell)))
            continue
        for path in paths:
            part = "all" if path.is_dir() else None
            parts.append((printable(path), load_dataset(path, part=part, store=store, progress=tell)))
    if len(parts) == 1:
        return parts[0][1]
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


def _only_known_classes(dataset: Dataset, bundle: ModelBundle) -> Dataset:
    unknown = sorted(set(dataset.classes) - set(bundle.classes))
    if unknown:
        raise UsageError(
            "labels that the model was not trained on",
            found=", ".join(unknown),
            expected=", ".join(bundle.classes),
            do="Choose classes with --classes.",
        )
    return dataset


def _seen(dataset: Dataset, bundle: ModelBundle) -> list[int]:
    """Positions of samples whose picture, or whose group's pictures or subject, the model was trained on."""
    groups = dataset.groups()
    tainted = {
        group
        for group, sample in zip(groups, dataset.samples, strict=True)
        if sample.image_key in bundle.image_keys or recognises(bundle.subjects, sample.subject, sample.source)
    }
    return [at for at, group in enumerate(groups) if group in tainted]


def _leakage(dataset: Dataset, seen: Sequence[int], config: EvaluateConfig) -> LeakageError:
    subjects = sorted({s for at in seen if (s := dataset.samples[at].subject) is not None})
    names = [dataset.name_of(dataset.samples[at]) for at in seen[:3]]
    return LeakageError(
        f"{config.model} was trained on cells of this data set",
        found=f"{len(seen)} of {len(dataset)} pictures"
        + (f", subjects {', '.join(subjects[:5])}" + (", ..." if len(subjects) > 5 else "") if subjects else "")
        + f", such as {', '.join(names)}",
        do="Evaluate on other subjects (--folds), or say --allow-leakage and have it stamped on the result.",
    )
