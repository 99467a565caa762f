"""The recipes of an ablation and their fits; what cannot be asked is refused before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from fusion.analysis.block_subsets import RULES, FeatureSet, feature_sets
from fusion.analysis.learning_curve import check_learning_curve
from fusion.analysis.null import check_null
from fusion.data.dataset import Dataset
from fusion.errors import UsageError, did_you_mean
from fusion.evaluation.result_of_scores import Questions
from fusion.features.blocks import is_control
from fusion.io.run_checkpoint import Checkpoint
from fusion.leakage.protocols import Plan
from fusion.learning.cross_validation import prepare_fits
from fusion.learning.decision.thresholds import DecisionSettings
from fusion.learning.fits import Fits
from fusion.learning.learnt_blocks import LearntBlock
from fusion.learning.parameter_search import check_optuna
from fusion.learning.recipe import Recipe, classifier_params, emphasised_columns, recipe_of
from fusion.learning.refusals import possible_recipes
from fusion.learning.run import Run, half_the_memory
from fusion.learning.study import Study
from fusion.plugins import registry
from fusion.plugins.classifiers import DrawsColumns
from fusion.plugins.networks import TakesImages
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig
from fusion.settings.learning import Fuse
from fusion.versions import versions
from fusion.workflows.loading import Inputs
from fusion.workflows.run_facts import choose_positive, landmark_params


def plan_inputs(config: AblateConfig) -> Inputs:
    """The blocks and classifiers; what cannot be asked is refused before anything is read."""
    if not config.compare:
        raise UsageError("nothing to compare", found="no classifier", do="Name some: --classifiers.")
    if config.show_leak and (config.test or config.split != "grouped"):
        found = "--test" if config.test else f"--split {config.split}"
        raise UsageError("--show-leak compares with folds by subject", found=found, do="Leave one of them out.")
    DecisionSettings(config.calibrate, config.threshold, config.costs)
    if config.trials:
        check_optuna()
    inputs = Inputs.of(config)
    recipes = recipes_of(config, inputs.names, inputs.learnt)
    if not recipes:
        raise UsageError("these classifiers learn from features, and there are none", do="Choose some: --features.")
    possible = possible_recipes(recipes)[0]
    names = [("+".join(recipe.features), recipe.label) for recipe in possible]
    Questions(primary=config.primary, margin=config.margin).pair(names)
    check_null(possible, config.null)
    check_learning_curve(possible, config.learning_curve)
    return inputs.of_recipes(possible)


def recipes_of(
    config: AblateConfig, blocks: Sequence[str], learnt: Sequence[LearntBlock], classes: Sequence[str] = ()
) -> list[Recipe]:
    """Every set of blocks with every classifier; one of images sees these beside each set, and by themselves first."""
    names = [block.name for block in learnt]
    positive = choose_positive(classes, config.positive) if classes else None
    takers = {
        name: isinstance(registry.build_classifier(name, classifier_params(config, name)), TakesImages)
        for name in config.compare
    }
    # By themselves wherever a rule chooses the sets: what blocks add to images is counted from there.
    rules = not config.subsets or any(asked in RULES for asked in config.subsets)
    alone: list[FeatureSet] = [()] if any(takers.values()) and rules else []
    controls: list[FeatureSet] = [(name,) for name in blocks if is_control(name)]
    blocks = [name for name in blocks if not is_control(name)]
    sets = [*alone, *(feature_sets(blocks, config.subsets, config.seed) if blocks else [()])]
    emphasised = emphasised_columns(config)
    made = [
        recipe_of(config, name, chosen, names, fuse, emphasised)
        for chosen in dict.fromkeys([*sets, *controls])
        for name in config.compare
        if (chosen or takers[name]) and not (takers[name] and chosen in controls)
        for fuse in _ways(config, name, chosen)
    ]
    return [replace(recipe, positive=positive, site_classes=config.site_classes) for recipe in made]


def _ways(config: AblateConfig, classifier: str, chosen: FeatureSet) -> list[Fuse]:
    """The ways in which a set of blocks is fused, each once: a lone block in one, and trees mind those weights alone by
    which they draw columns."""
    if len(chosen) < 2:
        return ["weighted"]
    asked = cast(list[Fuse], config.fuse)  # as checked
    built = registry.build_classifier(classifier, classifier_params(config, classifier))
    draws = isinstance(built, DrawsColumns) and isinstance(config.layer.get("weights"), Mapping)
    is_one = built.prepares == "raw" and not draws
    return list(dict.fromkeys("weighted" if is_one and way == "concatenate" else way for way in asked))


def check_site_classes(config: AblateConfig, dataset: Dataset, plan: Plan, sources: Sequence[str | None]) -> None:
    """UsageError for what is stated of the classes of a source and has no say: no mix of classes is estimated, the
    source is learnt from in every split, or there is no such class.

    Parameters
    ----------
    dataset : what is learnt from, or both.
    sources : of the units of the plan.
    """
    if not config.site_classes:
        return
    if config.harmonise.method == "none" or config.harmonise.mix != "estimated" or not config.harmonise.transductive:
        raise UsageError(
            "--site-classes is for models that estimate a new site's mix of classes",
            found=f"harmonise.method {config.harmonise.method}, mix {config.harmonise.mix}",
            do="Leave it out, or compare by --config robust.",
        )
    new: set[str] = set()
    for _, split in plan.splits:
        new |= {sources[row] or "" for row in split.test} - {sources[row] or "" for row in split.train}
    labels = dataset.each("label" if dataset.unit == "cell" else "cell_label")
    known = sorted({label for label in labels if label is not None})
    for name, classes in config.site_classes.items():
        if name not in new:
            raise UsageError(
                f"--site-classes {name}: no split leaves this site out",
                found=f"new sites: {', '.join(sorted(new))}" if new else "no site that is judged and not learnt from",
                do=did_you_mean(name, sorted(new)) or "Say --split leave-one-source-out, or --test DATA of a new site.",
            )
        if unknown := [label for label in classes if label not in known]:
            raise UsageError(
                f"--site-classes {name}: no cell is of this class",
                found=unknown[0],
                expected=", ".join(known) or "cells that have labels of their own",
                do=did_you_mean(unknown[0], known),
            )


def by_landmarks(config: AblateConfig, plan: Plan, study: Study) -> tuple[AblateConfig, list[str]]:
    """The configuration with landmarks for classifiers that take them, where training parts are too large for exact
    SVMs, and a stamp for each of these; parameters that are given stay."""
    largest = max(study.count_cells(split.train) for _, split in plan.splits) * (1 + config.augment.per_cell)
    found = {name: landmark_params(name, config.classifiers.get(name, {}), largest, config) for name in config.compare}
    changed = {name: params for name, (params, _) in found.items() if params}
    stamps = [stamp for _, stamp in found.values() if stamp]
    return config.model_copy(update={"classifiers": {**config.classifiers, **changed}}), stamps


def plan_fits(
    study: Study, plan: Plan, config: AblateConfig, progress: Progress | None, learnt: Sequence[LearntBlock]
) -> tuple[Fits, list[str]]:
    """Every fit of the comparison, with what an earlier run has finished of it; notes on what cannot be compared."""
    blocks = [*study.table.blocks, *(block.name for block in learnt)]
    recipes, notes = possible_recipes(recipes_of(config, blocks, learnt, study.classes))
    checkpoint = _checkpoint(study, plan, config, learnt)
    run = Run(
        folder=checkpoint.folder,
        checkpoint=checkpoint,
        jobs=config.jobs,
        memory=config.memory_gb * 1e9 if config.memory_gb is not None else half_the_memory(),
        progress=progress,
    )
    return prepare_fits(study, plan, recipes, run, learnt), notes


def _checkpoint(study: Study, plan: Plan, config: AblateConfig, learnt: Sequence[LearntBlock]) -> Checkpoint:
    """Where finished fits are kept: a name that changes with everything that could change a probability."""
    table = study.table
    values = {
        "study": study.identity,
        "columns": table.columns,
        "units": [config.unit, table.keys if table.are_subjects else []],
        "y": table.y,
        "sources": table.sources,
        "classifiers": config.classifiers,
        "input": config.input,
        "layer": config.layer,
        "fuse": config.fuse,
        "search": [config.search, config.trials],
        "decision": [config.calibrate, config.threshold, config.costs, config.positive],
        "harmonise": [config.harmonise.model_dump(), config.site_classes],
        "stability": config.stability,
        "augment": config.augment.model_dump(),
        "learnt": {block.name: block.network.identity() for block in learnt},
        "nested": config.nested,
        "seed": config.seed,
        "versions": versions(),
    }
    parts = [part for _, split in plan.splits for part in (split.train, split.test)]
    return Checkpoint.of(config.output, values, [table.groups, *parts, *study.unnamed_arrays])
