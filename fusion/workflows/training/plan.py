"""The recipe of a training, its folds and its run; what cannot be asked is refused before anything is read."""

from __future__ import annotations

from fusion.analysis.learning_curve import check_learning_curve
from fusion.analysis.null import check_null
from fusion.compute import torch_processes
from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.leakage.protocols import Plan, make_plan
from fusion.learning.decision.thresholds import DecisionSettings
from fusion.learning.parameter_search import check_optuna
from fusion.learning.recipe import Recipe, recipe_of
from fusion.learning.refusals import check_processes, check_recipes
from fusion.learning.run import Run, half_the_memory
from fusion.plugins import registry
from fusion.plugins.classifiers import HasScheduler
from fusion.progress import Progress
from fusion.settings.commands import TrainConfig
from fusion.workflows.loading import Inputs
from fusion.workflows.training.images import check_wishes

#: Ending of the folder beside a model in which unfinished trainings are kept.
UNFINISHED = ".unfinished"


def plan_recipe(config: TrainConfig) -> tuple[Recipe, Inputs]:
    """The recipe and its inputs; what cannot be asked is refused."""
    DecisionSettings(config.calibrate, config.threshold, config.costs)
    if config.trials:
        check_optuna()
    if config.scheduler is not None and not isinstance(registry.build_classifier(config.classifier), HasScheduler):
        raise UsageError(
            "--scheduler is for a classifier that a cluster trains",
            found=f"--classifier {config.classifier}",
            expected="one with the parameter 'scheduler'",
        )
    inputs = Inputs.of(config)
    learnt = [block.name for block in inputs.learnt]
    recipe = recipe_of(config, config.classifier, inputs.names, learnt, config.fuse)
    check_processes(recipe, torch_processes.count())
    check_recipes([recipe])
    check_null([recipe], config.null)
    check_learning_curve([recipe], config.learning_curve)
    inputs = inputs.of_recipes([recipe])
    check_wishes(config, recipe, inputs)
    return recipe, inputs


def begin_run(config: TrainConfig, recipe: Recipe, inputs: Inputs, progress: Progress | None) -> Run:
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


def plan_folds(table: FeatureTable, config: TrainConfig) -> Plan:
    """Folds by subject, or one of them."""
    plan = make_plan(table, "grouped", config.splits, 1, config.seed)
    if not config.holdout:
        return plan
    first = plan.rounds[0][0]
    note = f"The figures come from one held-out part of {len(first.test)} cells, not from all folds."
    return Plan(plan.kind, ((first,),), (*plan.notes, note))
