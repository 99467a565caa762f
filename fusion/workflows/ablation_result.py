"""The result of an ablation: figures of every entry, what differs between them, stamps, notes and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.block_importance import importance
from fusion.analysis.block_similarity import redundancy
from fusion.analysis.block_subsets import sampled_orders
from fusion.analysis.cross_site import distances, drops_between_sites, selective_prediction
from fusion.analysis.mixed_sources import mixed_sources
from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.result_differences import contributions_of_blocks
from fusion.evaluation.result_of_scores import Questions, result_of_scores
from fusion.evaluation.results import Result, subject_stamps
from fusion.evaluation.scores import Scores
from fusion.feature_transforms.stable_features import selection_notes
from fusion.features.blocks import is_control
from fusion.features.stored_matrix import sample_rows
from fusion.leakage.protocols import Plan, leaking_subjects
from fusion.learning.fits import Fit, Fits
from fusion.learning.selections import selections
from fusion.learning.study import Study
from fusion.settings.commands import AblateConfig
from fusion.settings.loading import write_config
from fusion.workflows.run_facts import (
    adapted_stamps,
    choose_positive,
    chosen_rows,
    facts,
    image_flow,
    judged_together_stamps,
    stage_notes,
    supposed_mix_stamps,
)

#: Groups up to which blocks are aligned, by a cell of each: two matrices of all pairs of 12,000 are 2.3 GB.
_MOST_ALIGNED = 12_000
#: Cells of patients by which blocks are aligned where these are read from the store: 216 MB of 2,699 columns.
_CELLS_ALIGNED = 20_000

_CHOSEN = "Each training part chose its own rule of prediction (--threshold, costs): they are in scores.parquet."


def judged_result(
    fits: Fits,
    plan: Plan,
    scores: Sequence[Scores],
    answers: Mapping[Fit, Mapping[str, NDArray[Any]]],
    dataset: Dataset,
    config: AblateConfig,
) -> Result:
    """The result of every entry, but for what the choice of cells has to say.

    Parameters
    ----------
    answers : of ``BlockImportance``, by fit; none where it was not asked.
    """
    result = _judge(fits, scores, config)
    table = fits.study_of(0).table
    result = replace(
        result,
        config=write_config(config),
        stamps=tuple(_stamps(fits, table, plan, config, dataset)),
        notes=tuple(_notes(fits, plan, config)),
        facts={**result.facts, **_facts(dataset, fits.study_of(0), plan, config)},
    )
    return replace(result, findings={**result.findings, **_findings(result, fits, plan, answers, config)})


def _judge(fits: Fits, scores: Sequence[Scores], config: AblateConfig) -> Result:
    """The figures of every entry, the best of them, and what differs."""
    table, classes = replace(fits.study_of(0).table, augmented=None), fits.study.classes
    positive = choose_positive(classes, config.positive)
    return result_of_scores(
        "ablate", table, classes, positive, scores, questions(config), partial(fits.run.tell, "judging")
    )


def questions(config: AblateConfig) -> Questions:
    """What is asked of the scores of an ablation."""
    return Questions(config.prevalence, config.primary, config.margin, config.seed, config.bootstrap, config.costs)


def _findings(
    result: Result, fits: Fits, plan: Plan, answers: Mapping[Fit, Mapping[str, NDArray[Any]]], config: AblateConfig
) -> dict[str, Any]:
    """What is told of differences and blocks."""
    table, scores = fits.study_of(0).table, result.scores
    blocks = [name for name in table.blocks if not is_control(name)]
    findings: dict[str, Any] = {"shapley": contributions_of_blocks(result, sampled_orders(blocks, config.seed))}
    # What a learnt block holds is another thing in every split.
    measured = [name for name in blocks if name in fits.study.table.blocks]
    if len(measured) > 1 and len(np.unique(table.groups)) <= _MOST_ALIGNED:
        findings["redundancy"] = redundancy(_aligned_cells(fits.study, config.seed).select(measured))
    if answers:
        findings["importance"] = importance(fits, answers)
    if any(scored.chosen for scored in scores):
        findings["chosen"] = chosen_rows(scores)
    distance = None
    if plan.kind == "leave-one-source-out" and not fits.trains_networks:  # which every fold inside would train anew
        distance = distances(fits, scores[result.ranked()[0]].features)
        if config.in_source and (found := drops_between_sites(result, fits, distance, config)):
            findings["cross_site"] = found
    findings["selective_prediction"] = selective_prediction(result, distance)
    return findings


def _notes(fits: Fits, plan: Plan, config: AblateConfig) -> list[str]:
    return [
        *plan.notes,
        *(block.describe(fits.study, [split.train for split in fits.splits]) for block in fits.learnt),
        *([_CHOSEN] if config.threshold is not None or config.costs else []),
        *_without_room(fits),
        *_omissions(fits, plan, config),
        *stage_notes(fits.recipes, fits.study, [split.train for split in fits.splits]),
        *selection_notes(selections(fits), fits.study_of(0).table.columns),
    ]


def _without_room(fits: Fits) -> list[str]:
    """A note for each classifier that could share distances if there were more memory."""
    return [
        f"{name}: every feature set is fitted by itself, since shared distances need "
        f"{fits.bytes_a_worker / 1e9:.1f} GB a worker and memory_gb allows {fits.run.memory / 1e9:.1f} GB."
        for name in fits.shared
        if fits.lacks_room(name)
    ]


def _omissions(fits: Fits, plan: Plan, config: AblateConfig) -> list[str]:
    """What findings leave out where networks are trained, and why."""
    takers = dict.fromkeys(recipe.classifier for recipe in fits.recipes if recipe.takes_images)
    notes = [
        f"{name}: what a model of all blocks relies on is told of classifiers of features alone, not of one that sees "
        "the images too."
        for name in takers
        if len(fits.compared) > 1
    ]
    if plan.kind == "leave-one-source-out" and config.in_source and fits.trains_networks:
        notes.append(
            "What is lost from sources that were learnt from to a new one is not told: every fold inside a source "
            "would train its networks anew."
        )
    return notes


def _stamps(fits: Fits, table: FeatureTable, plan: Plan, config: AblateConfig, dataset: Dataset) -> list[str]:
    stamps = subject_stamps(table)
    stamps += mixed_sources(dataset, table, table.y) if config.harmonise.method != "none" else []
    stamps += adapted_stamps(table, fits.splits, config, config.site_classes)
    stamps += supposed_mix_stamps(fits.study, [split.train for split in fits.splits], config)
    stamps += judged_together_stamps(fits.recipes, table, fits.splits)
    parts = [split.train for split in fits.splits]
    stamps += [stamp for block in fits.learnt for stamp in block.stamps(fits.study, parts)]
    leaking = leaking_subjects(plan)
    if leaking or plan.kind == "random":
        what = f"{leaking} images" if table.unit == "image" else f"images of {leaking} {table.unit}s"
        stamps.append(f"leaky: {what} on both sides")
    return stamps


def _aligned_cells(study: Study, seed: int) -> FeatureTable:
    """The cells by which blocks are aligned; of features that stay in the store, some."""
    cells = study.cells or study.table
    return cells if isinstance(cells.X, np.ndarray) else cells.take(sample_rows(cells.X, _CELLS_ALIGNED, seed))


def _facts(dataset: Dataset, study: Study, plan: Plan, config: AblateConfig) -> dict[str, Any]:
    splits = [split for _, split in plan.splits]
    table = study.table
    found = facts(dataset, study, splits, plan.kind)
    found["split"] |= {"folds": len(plan.rounds[0]), "repeats": len(plan.rounds)}
    if plan.kind == "external":
        (split,) = splits
        tested, learnt = table.take(split.test), table.take(split.train)
        if study.cells is not None:
            cells = np.concatenate([table.cells[at] for at in split.train])
            learnt = study.cells.without_features().take(cells)
        found["learnt_from"] = {"images": len(split.train), "groups": len(np.unique(table.groups[split.train]))}
        found["split"]["kind"] = "external test"
        found |= {
            "images": len(tested),
            "groups": len(np.unique(tested.groups)),
            "classes": {label: tested.y.count(label) for label in dataset.classes},
            "flow": image_flow(dataset, learnt),
        }
        if table.are_subjects:
            found["cells"] = study.count_cells(split.test)
    return found
