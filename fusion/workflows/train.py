"""fusion train: judge a classifier on held-out subjects, fit it on all cells, save it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fusion import plugins
from fusion.bundles.model_bundle import ModelBundle, check_writable
from fusion.compute import torch_processes
from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.subjects import remembered
from fusion.errors import UsageError
from fusion.evaluation.results import UNKNOWN_SUBJECTS, Result, Scores, judge
from fusion.feature_transforms.stable_features import selection_notes
from fusion.features.stored_matrix import sample_rows
from fusion.image_transforms.dataset_transforms import stated
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import Plan, make_plan
from fusion.leakage.provenance import trained_on
from fusion.learning.augmented_cells import check_sources
from fusion.learning.calibration import DecisionSettings
from fusion.learning.cross_validation import cross_validate, prepare_fits
from fusion.learning.learn import FittedModel, learn
from fusion.learning.novelty import learn_novelty
from fusion.learning.parameter_search import check_optuna
from fusion.learning.recipe import Recipe, recipe_of
from fusion.learning.refusals import batches_setting, check_processes, check_recipes
from fusion.learning.run import Run, check_tensorboard, half_the_memory
from fusion.learning.study import Study, units_of
from fusion.learning.training_quantiles import learn_reference
from fusion.plugins import TakesImages
from fusion.progress import Progress
from fusion.reports.mlflow_tracking import open_tracker
from fusion.reports.png import write_png
from fusion.settings.commands import TrainConfig
from fusion.settings.loading import write_config
from fusion.workflows.loading import Inputs, Measured, load_labelled
from fusion.workflows.run_facts import adapted_stamps, choose_positive, chosen_rows, describe_thresholds, facts

#: Ending of the folder beside a model in which unfinished trainings are kept.
UNFINISHED = ".unfinished"

#: Cells that novelty and reference are learnt from where the features stay in the store.
_USUAL = 50_000


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model and what it showed on subjects it had not seen."""

    bundle: ModelBundle
    result: Result
    dataset: Dataset


def train(config: TrainConfig, progress: Progress | None = None) -> Trained:
    """Cross-validate one classifier on one feature set by subject, fit it on all cells, and save the model.

    Parameters
    ----------
    config : what is trained on which cells.
    progress : informed of every step.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.

    Examples
    --------
    >>> trained = train(TrainConfig(data="cells", classifier="xgb", output="model"))  # doctest: +SKIP
    """
    check_writable(config.output)
    config = config.model_copy(update={"normalise": stated(config.normalise)})
    recipe, inputs = _plan_recipe(config)
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    progress = progress if torch_processes.is_first() else None
    dataset = load_labelled(config, progress)
    check_sources(dataset.each("source"), config.augment)
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    make_plan(units_of(dataset), "grouped", config.splits, 1, config.seed)  # what cannot be split is refused at once
    with torch_processes.first_alone(inputs.device):
        measured = inputs.measure(dataset, config, progress, stored=bool(batches_setting(recipe)))
    recipe = replace(recipe, positive=choose_positive(measured.study.classes, config.positive))
    run = _run(config, recipe, inputs, progress)
    _show_batch(config, recipe, inputs, measured.study)
    plan = _folds(measured.study.table, config)
    (scores,) = cross_validate(prepare_fits(measured.study, plan, [recipe], run, inputs.learnt), plan)
    model = learn(measured.study, measured.study.everyone, recipe, run, learnt=inputs.learnt)
    known = set(measured.study.table.keys)
    model.remember(trained_on([sample for sample in dataset.samples if sample.key in known]))
    _show_attention(config, model)
    usual = _usual(model, config.seed)
    result = _result(config, dataset, measured, plan, scores, model, stamps, usual)
    bundle = _bundle(result, inputs, measured, model, usual, run)
    if torch_processes.is_first():  # the others have what the first one writes
        bundle = _save(bundle, model, config, run)
        if tracker is not None:
            tracker.log(result, config, config.output)
    return Trained(bundle, result, dataset)


# ---- before anything is read -----------------------------------------------------------------------------------------


def _plan_recipe(config: TrainConfig) -> tuple[Recipe, Inputs]:
    """The recipe and its inputs; what cannot be asked is refused."""
    DecisionSettings(config.calibrate, config.threshold)
    if config.trials:
        check_optuna()
    if config.scheduler is not None and "scheduler" not in plugins.parameters(plugins.CLASSIFIERS, config.classifier):
        raise UsageError(
            "--scheduler is for a classifier that a cluster trains",
            found=f"--classifier {config.classifier}",
            expected="xgb, or another one with the parameter 'scheduler'",
        )
    inputs = Inputs.of(config)
    recipe = recipe_of(config, config.classifier, inputs.names, [block.name for block in inputs.learnt])
    check_processes(recipe, torch_processes.count())
    check_recipes([recipe])
    inputs = inputs.of_recipes([recipe])
    _check_wishes(config, recipe, inputs)
    return recipe, inputs


def _check_wishes(config: TrainConfig, recipe: Recipe, inputs: Inputs) -> None:
    """UsageError for what is asked of a network, where there is none or it cannot."""
    wishes = (config.show_batch, config.show_attention, config.tensorboard)
    if not inputs.takers:
        if any(wishes):
            raise UsageError("only a classifier that takes images can show them", do="Take a network of images.")
        if config.resume:
            raise UsageError(
                f"classifier '{recipe.classifier}' has no training to go on with", do="Leave --resume out."
            )
        return
    if config.show_attention is not None and not all(taker.has_map() for taker in inputs.takers):
        raise UsageError("--show-attention needs a feature map", found="a backbone of tokens, as transformers are")
    if config.tensorboard is not None:
        check_tensorboard()


def _run(config: TrainConfig, recipe: Recipe, inputs: Inputs, progress: Progress | None) -> Run:
    """How the fits are made; what an earlier run has left unfinished is forgotten, unless it is gone on with."""
    run = Run(
        folder=config.output.with_name(config.output.name + UNFINISHED),
        jobs=config.jobs,
        memory=half_the_memory(),
        resume=config.resume,
        progress=progress,
        board=config.tensorboard if torch_processes.is_first() else None,
    )
    if inputs.takers and torch_processes.is_first():
        run.begin()
    return run


def _folds(table: FeatureTable, config: TrainConfig) -> Plan:
    """Folds by subject, or one of them."""
    plan = make_plan(table, "grouped", config.splits, 1, config.seed)
    if not config.holdout:
        return plan
    first = plan.rounds[0][0]
    note = f"The figures come from one held-out part of {len(first.test)} cells, not from all folds."
    return Plan(plan.kind, ((first,),), (*plan.notes, note))


# ---- images of what networks see -----------------------------------------------------------------------------------


def _show_batch(config: TrainConfig, recipe: Recipe, inputs: Inputs, study: Study) -> None:
    """Draw what the network is given, before it is trained."""
    if config.show_batch is None or not torch_processes.is_first():
        return
    (taker,) = inputs.takers[:1]
    blocks = recipe.blocks if recipe.takes_images else ()
    images = study.inputs(taker.input_transform(), blocks, study.everyone)
    write_png(config.show_batch, taker.show_batch(images, [str(label) for label in study.table.y]))


def _show_attention(config: TrainConfig, model: FittedModel) -> None:
    """Draw where the trained network looks."""
    if config.show_attention is None or not torch_processes.is_first():
        return
    network, study = model.network, model.study
    blocks = model.recipe.blocks if model.recipe.takes_images else ()
    images = study.inputs(network.input_transform(), blocks, study.everyone)
    write_png(config.show_attention, network.show_attention(images, [str(label) for label in study.table.y]))


# ---- what is found and kept ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Usual:
    """The training cells that tell what is usual, for novelty and explanations: of a table that may be larger than the
    memory, some."""

    table: FeatureTable
    notes: tuple[str, ...]


def _usual(model: FittedModel, seed: int) -> _Usual:
    table = model.study.table
    if not model.study.is_stored:
        return _Usual(table, ())
    drawn = sample_rows(table.X, _USUAL, seed)
    note = f"What is usual, for novelty and explanations, is learnt from {len(drawn)} cells drawn."
    return _Usual(table.take(drawn), (note,) if len(drawn) < len(table) else ())


def _result(
    config: TrainConfig,
    dataset: Dataset,
    measured: Measured,
    plan: Plan,
    scores: Scores,
    model: FittedModel,
    stamps: Sequence[str],
    usual: _Usual,
) -> Result:
    """The figures of the held-out cells, and what should be known about them."""
    table = replace(model.study.table, augmented=None)
    splits = [split for _, split in plan.splits]
    everything = Split(measured.study.everyone, np.empty(0, np.intp), table.groups)
    positive = model.recipe.positive
    figures = judge(table, scores, model.classes, positive, bootstrap=config.bootstrap, seed=config.seed)
    return Result(
        command="train",
        cells=table,
        classes=tuple(model.classes),
        positive=positive,
        scores=(scores,),
        figures=(figures,),
        config=write_config(config),
        findings={"chosen": chosen_rows([scores])} if scores.chosen else {},
        stamps=(
            *stamps,
            *measured.stamps(splits),
            *adapted_stamps(table, splits, config),
            *([] if table.subjects_known else [UNKNOWN_SUBJECTS]),
        ),
        notes=(
            *dataset.notes,
            *plan.notes,
            *measured.notes([*splits, everything]),
            *_model_notes(model, scores),
            *usual.notes,
        ),
        faults=measured.study.faults,
        facts=facts(dataset, table, splits, "grouped")
        | ({"augment": config.augment.model_dump()} if config.augment.per_cell else {}),
    )


def _model_notes(model: FittedModel, scores: Scores) -> list[str]:
    """What networks, selection, thresholds and searches have to say of themselves."""
    notes = [block.describe() for block in model.blocks]
    notes += [network.describe() for network in model.networks]
    classifier, selection = model.features.classifier, model.features.selection
    if isinstance(classifier, TakesImages):
        notes.append(classifier.describe())
    if selection is not None:
        notes += selection_notes([selection], model.study.table.columns)
    if thresholds := describe_thresholds(scores, model.recipe.positive):
        notes.append(thresholds)
    if model.chosen:
        listed = ", ".join(f"{name} {value:.4g}" for name, value in model.chosen.items())
        notes.append(f"For all cells, folds inside them chose {listed}; for each fold see result.json.")
    return notes


def _bundle(
    result: Result, inputs: Inputs, measured: Measured, model: FittedModel, usual: _Usual, run: Run
) -> ModelBundle:
    """The model with everything that predicting needs."""
    table, fused = model.study.table, model.features
    shown = fused.harmonised(usual.table.X, usual.table.sources)
    # Not by what a network sees in cells that it has learnt from: it sees new ones otherwise.
    fixed = {name: part for name, part in table.blocks.items() if name not in model.recipe.learnt}
    seed, dataset_root = model.recipe.seed, Path(result.facts["data"])
    return ModelBundle(
        model=fused,
        classifier=model.recipe.classifier,
        blocks=(*inputs.blocks, *model.as_blocks(run.folder)),
        columns=table.columns,
        positive=result.positive,
        image_keys=frozenset(table.image_keys),
        subjects=frozenset(
            one
            for subject, source in zip(table.subjects, table.sources, strict=True)
            if subject is not None
            for one in remembered(subject, source)
        ),
        facts=result.to_json(dataset_root),
        novelty=learn_novelty(shown, np.array(usual.table.y), usual.table.groups, fixed, seed=seed),
        reference=learn_reference(shown, usual.table.y, model.classes) if table.columns else None,
        normaliser=measured.view.normaliser,
    )


def _save(bundle: ModelBundle, model: FittedModel, config: TrainConfig, run: Run) -> ModelBundle:
    """Write the model; weights that were learnt then lie in it, and no longer among the unfinished."""
    bundle.save(config.output)
    if model.blocks:
        bundle = ModelBundle.load(config.output)
    if model.blocks or model.recipe.takes_images:
        run.end()
    return bundle
