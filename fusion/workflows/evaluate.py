"""Judging a trained model on labelled cells that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fusion.bundles.inference import harmonisation_notes
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.data.dataset import Dataset, check_usable
from fusion.data.subjects import recognises
from fusion.errors import UsageError
from fusion.evaluation.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.leakage.grouped_splits import LeakageError, Split
from fusion.leakage.provenance import check_unseen
from fusion.learning.study import Study
from fusion.progress import Progress
from fusion.settings.commands import EvaluateConfig
from fusion.settings.loading import write_config
from fusion.workflows.loading import load_labelled
from fusion.workflows.run_facts import facts


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Result:
    """Score labelled cells with a trained model, and write the result.

    Raises
    ------
    LeakageError : the model has been trained on some of these images or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know.
    BundleError, FusionError : the model or the data cannot be read.
    """
    check_result_folder(config.output)
    bundle = load_model(config.model)
    dataset = _only_known_classes(load_labelled(config, progress), bundle)
    overlap = _training_overlap(dataset, bundle)
    if overlap and not config.allow_leakage:
        raise _leakage(dataset, overlap, config)
    # What the classifier itself has seen is said by the bundle; but its weights may have learnt from more before.
    learners: list[tuple[str, Any]] = [(block.name, block.extractor) for block in bundle.blocks]
    learners += [] if overlap else [(bundle.classifier, bundle.model.classifier)]
    known = check_unseen(learners, dataset, allow=config.allow_leakage)
    store = FeatureStore(config.store)
    shown, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    found = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress)
    check_usable(len(found), found.faults)
    table = found.table
    proba = bundle.predict_proba(found)
    adapted += harmonisation_notes(bundle, table)
    threshold = None if bundle.model.threshold is None else np.full(len(table), bundle.model.threshold)
    scores = Scores(bundle.features, bundle.classifier, proba, np.zeros(len(table), np.intp), threshold)
    figures = judge(table, scores, bundle.classes, bundle.positive, bootstrap=config.bootstrap, seed=config.seed)
    everything = Split(np.empty(0, np.intp), np.arange(len(table)), table.groups)
    stamps = [*known, *adapted] if table.subjects_known else [*known, *adapted, UNKNOWN_SUBJECTS]
    if overlap:
        stamps.append(f"leaky: the model was trained on {len(overlap)} of these images or on their subjects")
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
    from fusion.analysis.cross_site import selective_prediction  # draws; predicting does not
    from fusion.reports import html_report  # draws; predicting does not

    result = replace(result, findings={"selective_prediction": selective_prediction(result)})
    result.save(config.output, dataset.root)

    places = {dataset.name_of(sample): sample for sample in dataset.samples}
    html_report.write_report(result, config.output, places)
    return result


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


def _training_overlap(dataset: Dataset, bundle: ModelBundle) -> list[int]:
    """Positions of samples whose image, or whose group's images or subject, the model was trained on."""
    groups = dataset.groups()
    tainted = {
        group
        for group, sample in zip(groups, dataset.samples, strict=True)
        if sample.image_key in bundle.image_keys or recognises(bundle.subjects, sample.subject, sample.source)
    }
    return [at for at, group in enumerate(groups) if group in tainted]


def _leakage(dataset: Dataset, overlap: Sequence[int], config: EvaluateConfig) -> LeakageError:
    subjects = sorted({s for at in overlap if (s := dataset.samples[at].subject) is not None})
    names = [dataset.name_of(dataset.samples[at]) for at in overlap[:3]]
    return LeakageError(
        f"{config.model} was trained on cells of this data set",
        found=f"{len(overlap)} of {len(dataset)} images"
        + (f", subjects {', '.join(subjects[:5])}" + (", ..." if len(subjects) > 5 else "") if subjects else "")
        + f", such as {', '.join(names)}",
        do="Evaluate on other subjects (--folds), or say --allow-leakage and have it stamped on the result.",
    )
