"""Judging a trained model on labelled cells that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.cell_columns import check_columns
from fusion.analysis.mixed_sources import mixed_sources
from fusion.bundles.inference import estimate_class_shares, harmonisation_notes, out_of_distribution
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.bundles.new_sites import contradicted, describe_sites, fewer_labels, state_classes
from fusion.data.class_names import check_known_classes
from fusion.data.dataset import Dataset, check_usable
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.unreadable_patients import note_unreadable_patients
from fusion.errors import UsageError
from fusion.evaluation.result_of_scores import Questions, result_of_scores
from fusion.evaluation.results import Result, check_result_folder, class_stamps, subject_stamps
from fusion.evaluation.scores import Scores
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.leakage.grouped_splits import Split
from fusion.leakage.near_duplicates import hash_images, near_known
from fusion.leakage.provenance import Cohort, check_unseen, cohort_notes, find_overlap, refusal
from fusion.learning.decision.stated_rule import by_rule, stated_rule
from fusion.learning.novelty import RATE
from fusion.learning.study import Study, are_many
from fusion.metrics.class_shares import ClassShares
from fusion.progress import Progress
from fusion.settings.commands import EvaluateConfig
from fusion.settings.loading import write_config
from fusion.settings.outputs import one_run_of
from fusion.workflows.asked_analyses import (
    asked_promises,
    with_page_findings,
    with_promises,
    with_subgroups,
)
from fusion.workflows.loading import group_numbers, load_labelled, subjects_of
from fusion.workflows.run_facts import facts

#: The share of cells out of distribution from which a result says so on its face; of cells like the training's it is
#: ``RATE``.
_STRANGE = 10 * RATE


@one_run_of
def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Result:
    """Score labelled cells with a trained model, and write the result.

    Raises
    ------
    LeakageError : the model has been trained on some of these images or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know.
    BundleError, FusionError : the model or the data cannot be read.
    """
    check_result_folder(config.output, force=config.force)
    check_columns(config.data, config, config.by)
    bundle = load_model(config.model).with_own(config.own)
    rule = stated_rule(config.threshold, config.costs, bundle.classes, bundle.positive)
    promises = bundle.promising(asked_promises(config))
    dataset = load_labelled(config, progress, bundle.unit, least=1)
    check_known_classes(dataset, bundle.classes)
    cohort = Cohort(config.other_cohort, config.source)
    bundle = state_classes(bundle, config.site_classes, list(dataset.each("source")), config.classes)
    overlap = find_overlap(bundle.provenance, dataset, cohort)
    near, nearly = _near_training(config, dataset, bundle, progress)
    overlap = overlap.with_near(near, dataset)
    if overlap.rows and not config.allow_leakage:
        raise refusal(str(config.model), overlap, dataset)
    # What the classifier itself has seen is said by the bundle; but its weights may have learnt from more before.
    learners: list[tuple[str, object]] = [(block.name, block.extractor) for block in bundle.blocks]
    learners += [] if overlap.rows else [(bundle.classifier, bundle.model.classifier)]
    known = check_unseen(learners, dataset, allow=config.allow_leakage, cohort=cohort)
    store = FeatureStore(config.store)
    found, adapted, unreadable = _measure(config, bundle, dataset, nearly, store, progress)
    table = found.table
    described = describe_sites(bundle, table)
    proba = described.predict_proba(found)
    scores = Scores(bundle.features, bundle.label, proba, np.zeros(len(table), np.intp))
    scores = by_rule(scores, *(rule or (bundle.model.threshold, bundle.model.costs)))
    everything = Split(np.empty(0, np.intp), np.arange(len(table)), table.groups)
    outside = out_of_distribution(described, table)
    stamps = [
        *known,
        *adapted,
        *harmonisation_notes(described, found.cells or table),
        *contradicted(described, table),
        *fewer_labels(described, table),
        *(mixed_sources(dataset, table, table.y) if bundle.model.harmoniser is not None else ()),
        *_strangeness(outside),
        *subject_stamps(table),
        *class_stamps(table, bundle.classes),
    ]
    if overlap.rows:
        stamps.append(overlap.stamp("the model"))
    asked = Questions(prevalence=config.prevalence, seed=config.seed, costs=config.costs)
    result = result_of_scores("evaluate", table, bundle.classes, bundle.positive, [scores], asked)
    result = replace(
        result,
        config=write_config(config),
        stamps=tuple(stamps),
        notes=(*dataset.notes, *unreadable, *cohort_notes(bundle.provenance, dataset, cohort)),
        faults=found.faults,
        facts={
            **result.facts,
            **facts(dataset, found, [everything], "external"),
            **({} if outside is None else {"out_of_distribution": int(outside.sum())}),
        },
    )
    from fusion.analysis.stress import stress_report  # draws; predicting does not
    from fusion.reports import html_report

    if promises is not None:
        result = with_promises(result, promises.asked, promises.own)
    result = _with_analyses(result, table, dataset, config)
    if bundle.unit == "cell":
        result = _with_class_shares(result, estimate_class_shares(described, table, proba, outside))
    if config.stress:
        stressed = stress_report(
            bundle, dataset, config.stress_cells, config.seed, store, config.jobs, progress, result.main_metric
        )
        result = replace(result, findings={**result.findings, "stress": stressed})
    html_report.write_result(result, config.output, dataset.root, dataset)
    return result


def _measure(
    config: EvaluateConfig,
    bundle: ModelBundle,
    dataset: Dataset,
    nearly: Mapping[str, int],
    store: FeatureStore,
    progress: Progress | None,
) -> tuple[Study, list[str], list[str]]:
    """What the model judges, cells or their subjects, with the groups of near-duplicates; stamps of how pixels were
    normalised; and notes on subjects without one usable image."""
    shown, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    stored = are_many(dataset, bundle.blocks, bundle.unit)
    found = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress, stored=stored)
    check_usable(len(found), found.faults)
    if nearly:
        found = found.with_groups(group_numbers(found.table, nearly))
    if bundle.unit == "cell":
        return found, list(adapted), []
    unreadable = note_unreadable_patients(found.faults, found.table.subjects, found.table.sources)
    return subjects_of(found, dataset), list(adapted), unreadable


def _strangeness(outside: NDArray[np.bool_] | None) -> list[str]:
    """A stamp where so many cells are out of distribution that they are no sample of what the model was trained on."""
    if outside is None or outside.mean() < _STRANGE:
        return []
    return [
        f"{outside.sum()} of {len(outside)} cells are out of distribution, further from the training cells than "
        f"{1 - RATE:.0%} of such cells of other subjects: another stain, another scale or another laboratory"
    ]


def _with_class_shares(result: Result, found: Sequence[ClassShares]) -> Result:
    """The result with the shares of classes in new sources, told without their labels."""
    if not found:
        return result
    findings = {**result.findings, "class_shares": [each.to_json() for each in found]}
    return replace(result, notes=(*result.notes, *(each.line for each in found)), findings=findings)


def _with_analyses(result: Result, table: FeatureTable, dataset: Dataset, config: EvaluateConfig) -> Result:
    """The result with selective prediction, classes, subgroups, and what the page shows of the cells."""
    from fusion.analysis.cross_site import selective_prediction  # draws; predicting does not

    result = replace(result, findings={**result.findings, "selective_prediction": selective_prediction(result)})
    result = with_subgroups(result, config.by, config.data, config, dataset)
    return with_page_findings(result, table)


def _near_training(
    config: EvaluateConfig, dataset: Dataset, bundle: ModelBundle, progress: Progress | None
) -> tuple[list[int], dict[str, int]]:
    """Positions of samples that are nearly the same as a training image, and the sets of samples that are nearly the
    same as each other; none where they are not asked for.

    Raises
    ------
    UsageError : the model has kept no perceptual hashes.
    """
    if not config.near_duplicates:
        return [], {}
    if not bundle.provenance.perceptual:
        raise UsageError(
            f"{config.model} cannot tell near-duplicates of its training images",
            found="no perceptual hashes in it",
            do="Train it with near_duplicates too, or leave near_duplicates out.",
        )
    hashed = hash_images([dataset], progress)
    is_near = near_known(hashed.hashes, bundle.provenance.perceptual, config.near_duplicates)
    near = {key for key, is_one in zip(hashed.keys, is_near, strict=True) if is_one}
    return [at for at, key in enumerate(dataset.image_ids()) if key in near], hashed.sets(config.near_duplicates)[0]
