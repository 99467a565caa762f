"""The bundle of a training: the fitted model with everything that predicting needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.promises.held_out import Promises
from fusion.evaluation.results import Result
from fusion.features.stored_matrix import sample_rows
from fusion.leakage.provenance import Provenance
from fusion.learning.learn import FittedModel
from fusion.learning.novelty import learn_novelty
from fusion.learning.run import Run
from fusion.learning.training_quantiles import learn_reference
from fusion.settings.commands import TrainConfig
from fusion.workflows.loading import Inputs, Measured

#: Cells that novelty and reference are learnt from where the features stay in the store; and cells of patients, on as
#: many of which scaling and harmonisation are fitted: of 2,699 features 50,000 take 3 GB on the way, 20,000 1.3 GB.
_REFERENCE_CELLS, _OF_PATIENTS = 50_000, 20_000


@dataclass(frozen=True, eq=False)
class ReferenceCells:
    """The training cells that tell what is usual, for novelty and explanations: of a table that may be larger than the
    memory, some."""

    table: FeatureTable
    notes: tuple[str, ...]


def reference_cells(model: FittedModel, seed: int) -> ReferenceCells:
    """All of the training cells, or some where they lie in the store, or are of patients and many."""
    table = model.study.cells or model.study.table
    if not model.study.is_stored and model.study.cells is None:
        return ReferenceCells(table, ())
    drawn = sample_rows(table.X, _REFERENCE_CELLS if model.study.cells is None else _OF_PATIENTS, seed)
    note = f"What is usual, for novelty and explanations, is learnt from {len(drawn)} cells drawn."
    return ReferenceCells(table.take(drawn), (note,) if len(drawn) < len(table) else ())


def build_bundle(
    result: Result,
    inputs: Inputs,
    measured: Measured,
    model: FittedModel,
    reference: ReferenceCells,
    provenance: Provenance,
    run: Run,
    promises: Promises,
) -> ModelBundle:
    """The model with everything that predicting needs."""
    table, fused = model.study.table, model.features
    shown = fused.harmonised(reference.table.X, reference.table.sources)
    # Not by what a network sees in cells that it has learnt from: it sees new ones otherwise.
    fixed = {name: part for name, part in table.blocks.items() if name not in model.recipe.learnt}
    seed, dataset_root = model.recipe.seed, Path(result.facts["data"])
    return ModelBundle(
        model=fused,
        classifier=model.recipe.classifier,
        blocks=(*inputs.blocks, *model.as_blocks(run.folder)),
        columns=table.columns,
        positive=result.positive,
        provenance=provenance,
        facts=result.to_json(dataset_root),
        novelty=learn_novelty(shown, np.array(reference.table.y), reference.table.groups, fixed, seed=seed),
        reference=learn_reference(shown, reference.table.y, model.classes) if table.columns else None,
        normaliser=measured.view.normaliser,
        config=result.config,
        promises=promises,
        unit=model.recipe.unit,
    )


def save_bundle(bundle: ModelBundle, model: FittedModel, config: TrainConfig, run: Run) -> ModelBundle:
    """Write the model; weights that were learnt then lie in it, and no longer among the unfinished."""
    bundle.save(config.output)
    if model.blocks:
        bundle = ModelBundle.load(config.output)
    if model.blocks or model.recipe.takes_images:
        run.end()
    return bundle
