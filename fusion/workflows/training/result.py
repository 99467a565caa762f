"""The result of a training: the figures of the held-out cells, and what should be known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.mixed_sources import mixed_sources
from fusion.data.dataset import Dataset
from fusion.evaluation.result_of_scores import Questions, result_of_scores
from fusion.evaluation.results import Result, subject_stamps
from fusion.evaluation.scores import Scores
from fusion.feature_transforms.stable_features import selection_notes
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import Plan
from fusion.learning.learn import FittedModel
from fusion.plugins.networks import TakesImages
from fusion.settings.commands import TrainConfig
from fusion.settings.loading import write_config
from fusion.workflows.loading import Measured
from fusion.workflows.run_facts import (
    adapted_stamps,
    chosen_rows,
    describe_thresholds,
    facts,
    judged_together_stamps,
    stage_notes,
    supposed_mix_stamps,
)


def judged_result(
    config: TrainConfig,
    dataset: Dataset,
    measured: Measured,
    plan: Plan,
    scores: Scores,
    model: FittedModel,
    stamps: Sequence[str],
    notes: Sequence[str],
) -> Result:
    """The figures of the held-out cells, and what should be known about them."""
    table = replace(model.study.table, augmented=None)
    splits = [split for _, split in plan.splits]
    everything = Split(measured.study.everyone, np.empty(0, np.intp), table.groups)
    parts = [split.train for split in [*splits, everything]]
    asked = Questions(prevalence=config.prevalence, seed=config.seed, costs=config.costs)
    result = result_of_scores("train", table, model.classes, model.recipe.positive, [scores], asked)
    return replace(
        result,
        config=write_config(config),
        findings={**result.findings, **({"chosen": chosen_rows([scores])} if scores.chosen else {})},
        stamps=(
            *stamps,
            *measured.stamps(splits),
            *adapted_stamps(table, splits, config),
            *supposed_mix_stamps(model.study, [everything.train], config),
            *judged_together_stamps([model.recipe], table, splits),
            *(stamp for block in model.blocks for stamp in block.stamps(model.study, parts)),
            *(mixed_sources(dataset, table, table.y) if config.harmonise.method != "none" else ()),
            *subject_stamps(table),
        ),
        notes=(
            *dataset.notes,
            *plan.notes,
            *measured.notes([*splits, everything]),
            *_model_notes(model, scores, parts),
            *stage_notes([model.recipe], model.study, parts),
            *notes,
        ),
        faults=measured.study.faults,
        facts=dict(result.facts)
        | facts(dataset, model.study, splits, "grouped")
        | ({"augment": config.augment.model_dump()} if config.augment.per_cell else {}),
    )


def _model_notes(model: FittedModel, scores: Scores, parts: Sequence[NDArray[np.intp]]) -> list[str]:
    """What networks, selection, thresholds and searches have to say of themselves; ``parts`` are the training units of
    all models."""
    notes = [block.describe(model.study, parts) for block in model.blocks]
    notes += [network.describe() for network in model.networks]
    classifier, selection = model.features.classifier, model.features.selection
    if isinstance(classifier, TakesImages):
        notes.append(classifier.describe())
    harmoniser = model.features.harmoniser
    if harmoniser is not None and harmoniser.transductive and list(harmoniser.maps) == [""]:
        notes.append(
            "no source named: give a column 'source' or --source NAME, here and for cells of another site, so that the "
            "model can tell them from its own."
        )
    if selection is not None:
        notes += selection_notes([selection], model.study.table.columns)
    if thresholds := describe_thresholds(scores, model.recipe.positive, model.recipe.unit):
        notes.append(thresholds)
    if model.chosen:
        listed = ", ".join(f"{name} {value:.4g}" for name, value in model.chosen.items())
        notes.append(f"For all cells, folds inside them chose {listed}; for each fold see result.json.")
    return notes
