"""``fusion ablate``: sets of the chosen blocks with every classifier, on the same cells and the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion import plugins
from fusion.analysis.block_importance import importance
from fusion.analysis.block_similarity import redundancy
from fusion.analysis.block_subsets import FeatureSet, feature_sets, sampled_orders
from fusion.analysis.cross_site import cross_site, distances, selective_prediction
from fusion.data.dataset import Dataset, load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.evaluation.result_differences import against_best, contributions_of_blocks, optimism
from fusion.evaluation.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge_paired
from fusion.feature_transforms.stable_features import selection_notes
from fusion.image_transforms.dataset_transforms import stated
from fusion.io.run_checkpoint import Checkpoint, forget_unfinished
from fusion.leakage.near_duplicates import near_duplicates
from fusion.leakage.protocols import Plan, external_plan, leaking_subjects, make_plan
from fusion.learning.augmented_cells import check_sources
from fusion.learning.calibration import DecisionSettings
from fusion.learning.cross_validation import cross_validate, prepare_fits
from fusion.learning.fits import Fits
from fusion.learning.learnt_blocks import LearntBlock
from fusion.learning.parameter_search import check_optuna
from fusion.learning.recipe import Recipe, recipe_of
from fusion.learning.refusals import check_recipes
from fusion.learning.run import Run, half_the_memory
from fusion.learning.selections import selections
from fusion.learning.study import Study, units_of
from fusion.progress import Progress
from fusion.reports import html_report
from fusion.reports.mlflow_tracking import open_tracker
from fusion.settings.commands import AblateConfig
from fusion.settings.loading import write_config
from fusion.versions import versions
from fusion.workflows.loading import Inputs, group_numbers, load_labelled
from fusion.workflows.run_facts import adapted_stamps, choose_positive, chosen_rows, facts

#: Cells up to which blocks are aligned: two matrices of all pairs of 12,000 are 2.3 GB.
_MOST_ALIGNED = 12_000

#: Training cells that approximate SVMs go by: eigenvectors of 2,000 take seconds, and a subject has 150 cells.
_LANDMARKS = 2000

_CHOSEN = "Each training part chose its own threshold (--threshold): they are in scores.parquet."


@dataclass(frozen=True, eq=False)
class _Judged:
    """Cells with their features and the plan to judge them by; ``tested`` is an external test set."""

    study: Study
    plan: Plan
    notes: tuple[str, ...]
    stamps: tuple[str, ...]
    tested: Dataset | None = None


def ablate(config: AblateConfig, progress: Progress | None = None) -> Result:
    """Compare sets of blocks under all classifiers, and write table, figures, page and scores.

    A run that was stopped goes on where it was when it is started again with the same settings.

    Parameters
    ----------
    config : what is compared on which cells.
    progress : informed of every step.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.

    Examples
    --------
    >>> result = ablate(AblateConfig(data="cells", compare=["svm", "neural"], output="result"))  # doctest: +SKIP
    """
    check_result_folder(config.output)
    config = config.model_copy(update={"normalise": stated(config.normalise)})
    inputs = _plan_inputs(config)
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    dataset = load_labelled(config, progress)
    check_sources(dataset.each("source"), config.augment)
    judged = _external(config, dataset, inputs, progress) if config.test else _within(config, dataset, inputs, progress)
    result = compare(judged.study, judged.plan, dataset, config, progress, inputs.learnt)
    result = replace(
        result,
        stamps=(*judged.stamps, *result.stamps),
        notes=(*dataset.notes, *judged.notes, *result.notes),
        faults=judged.study.faults,
    )
    if config.show_leak:
        result = _with_leak(result, judged, dataset, config, progress, inputs.learnt)
    result.save(config.output, dataset.root)
    shown = judged.tested or dataset
    places = {shown.name_of(sample): (sample.path, sample.mask_path) for sample in shown.samples}
    html_report.write_report(result, config.output, places)
    forget_unfinished(config.output)
    if tracker is not None:
        tracker.log(result, config, config.output)
    return result


# ---- which recipes ---------------------------------------------------------------------------------------------------


def recipes_of(
    config: AblateConfig, blocks: Sequence[str], learnt: Sequence[LearntBlock], classes: Sequence[str] = ()
) -> list[Recipe]:
    """Every set of blocks with every classifier; one of images sees these beside each set, and by themselves first."""
    names = [block.name for block in learnt]
    positive = choose_positive(classes, config.positive) if classes else None
    takers = {
        name: isinstance(plugins.build_classifier(name, config.params(name)), plugins.TakesImages)
        for name in config.compare
    }
    alone: list[FeatureSet] = [()] if any(takers.values()) and not config.subsets else []
    sets = [*alone, *(feature_sets(blocks, config.subsets, config.seed) if blocks else [()])]
    made = [
        recipe_of(config, name, chosen, names)
        for chosen in dict.fromkeys(sets)
        for name in config.compare
        if chosen or takers[name]
    ]
    return [replace(recipe, positive=positive) for recipe in made]


def _plan_inputs(config: AblateConfig) -> Inputs:
    """The blocks and classifiers; what cannot be asked is refused before anything is read."""
    if not config.compare:
        raise UsageError("nothing to compare", found="no classifier", do="Name some: --classifiers.")
    DecisionSettings(config.calibrate, config.threshold)
    if config.trials:
        check_optuna()
    inputs = Inputs.of(config)
    recipes = recipes_of(config, inputs.names, inputs.learnt)
    if not recipes:
        raise UsageError("these classifiers learn from features, and there are none", do="Choose some: --features.")
    check_recipes(recipes)
    return inputs.of_recipes(recipes)


# ---- which cells -----------------------------------------------------------------------------------------------------


def _external(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> _Judged:
    """All of the data set to learn from, all of another one to be judged."""
    assert config.test is not None
    if config.near_duplicates:
        raise UsageError(
            "near_duplicates joins cells of one data set, and --test has another",
            do="Leave one of them out.",
        )
    other = load_dataset(config.test, part=config.test_part, store=config.store).select(config.classes).labelled()
    external_plan(units_of(dataset), units_of(other))
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    stamps += [one for one in inputs.check_unseen(other, allow=config.allow_leakage) if one not in stamps]
    first = inputs.measure(dataset, config, progress)
    second, brought = inputs.measure_as(first, other, progress)
    plan, groups = external_plan(first.study.table, second.table)
    study = Study.pair(first.study, second, groups)
    splits = [split for _, split in plan.splits]
    # Augmented cells are those of the first table, whose rows are the first of both.
    return _Judged(study, plan, (*other.notes, *first.notes(splits)), (*stamps, *brought), other)


def _within(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> _Judged:
    """Splits of one data set; what cannot be split is refused before anything is measured."""
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    _plan(units_of(dataset), config)
    joined, notes = near_duplicates(dataset, config.near_duplicates, progress) if config.near_duplicates else ({}, [])
    measured = inputs.measure(dataset, config, progress)
    study = measured.study
    if joined:
        study = study.with_groups(group_numbers(study.table, joined))
    plan = _plan(study.table, config)
    splits = [split for _, split in plan.splits]
    return _Judged(study, plan, (*notes, *measured.notes(splits)), (*stamps, *measured.stamps(splits)))


def _plan(table: FeatureTable, config: AblateConfig) -> Plan:
    return make_plan(table, config.split, config.splits, config.rounds, config.seed)


# ---- fitting and judging ---------------------------------------------------------------------------------------------


def compare(
    study: Study,
    plan: Plan,
    dataset: Dataset,
    config: AblateConfig,
    progress: Progress | None = None,
    learnt: Sequence[LearntBlock] = (),
) -> Result:
    """Fit and judge everything; writes nothing but what a run that is killed can go on from.

    Parameters
    ----------
    study, plan : the cells, and the splits they are judged by.
    dataset : where they are from, for the facts of the result.
    learnt : blocks that are learnt anew in every split.
    """
    config, approximate = _by_landmarks(config, plan)
    fits = _fits(study, plan, config, progress, learnt)
    scores = cross_validate(fits, plan)
    result = _judge(fits, plan, scores, config)
    table = fits.study_of(0).table
    notes = [
        *plan.notes,
        *(block.describe() for block in fits.learnt),
        *([_CHOSEN] if config.threshold is not None else []),
        *_without_room(fits),
        *selection_notes(selections(fits), table.columns),
    ]
    result = replace(
        result,
        config=write_config(config),
        stamps=(*_stamps(table, plan, config), *approximate),
        notes=tuple(notes),
        facts=_facts(dataset, table, plan, config),
    )
    return replace(result, findings=_findings(result, fits, plan, config))


def _fits(
    study: Study, plan: Plan, config: AblateConfig, progress: Progress | None, learnt: Sequence[LearntBlock]
) -> Fits:
    """Every fit of the comparison, with what an earlier run has finished of it."""
    blocks = [*study.table.blocks, *(block.name for block in learnt)]
    recipes = recipes_of(config, blocks, learnt, study.classes)
    checkpoint = _checkpoint(study, plan, config, learnt)
    run = Run(
        folder=checkpoint.folder,
        checkpoint=checkpoint,
        jobs=config.jobs,
        memory=config.memory_gb * 1e9 if config.memory_gb is not None else half_the_memory(),
        progress=progress,
    )
    return prepare_fits(study, plan, recipes, run, learnt)


def _judge(fits: Fits, plan: Plan, scores: Sequence[Scores], config: AblateConfig) -> Result:
    """The figures of every entry."""
    table, classes = replace(fits.study_of(0).table, augmented=None), fits.study.classes
    positive = choose_positive(classes, config.positive)
    judged = []
    for at, scored in enumerate(scores, start=1):
        judged.append(
            judge_paired(
                table,
                scored,
                classes,
                positive,
                bootstrap=config.bootstrap,
                seed=config.seed,
                prevalence=config.prevalence,
            )
        )
        fits.run.tell("judging", at, len(scores))
    return Result(
        command="ablate",
        cells=table,
        classes=tuple(classes),
        positive=positive,
        scores=tuple(scores),
        figures=tuple(figures for figures, _ in judged),
        config="",
        replicates=tuple(replicates for _, replicates in judged),
    )


def _findings(result: Result, fits: Fits, plan: Plan, config: AblateConfig) -> dict[str, Any]:
    """What is told of differences and blocks."""
    table, scores = fits.study_of(0).table, result.scores
    blocks = list(table.blocks)
    findings: dict[str, Any] = {"shapley": contributions_of_blocks(result, sampled_orders(blocks, config.seed))}
    if len(blocks) > 1 and 4 <= len(table) <= _MOST_ALIGNED:
        findings["redundancy"] = redundancy(table)
    if len(blocks) > 1 and any(scored.features == tuple(blocks) for scored in scores):
        findings["importance"] = importance(fits, config.bootstrap)
    if config.search or config.trials:
        findings["chosen"] = chosen_rows(scores)
    if len(scores) > 1:
        findings["paired"] = against_best(result, plan)
    distance = None
    if plan.kind == "leave-one-source-out" and not fits.trains_networks:  # which every fold inside would train anew
        distance = distances(fits, scores[result.ranked()[0]].features)
        if config.in_source and (found := cross_site(result, fits, distance, config)):
            findings["cross_site"] = found
    findings["selective_prediction"] = selective_prediction(result, distance)
    return findings


def _with_leak(
    result: Result,
    judged: _Judged,
    dataset: Dataset,
    config: AblateConfig,
    progress: Progress | None,
    learnt: Sequence[LearntBlock],
) -> Result:
    """The result with what a random split of the same cells would have claimed."""
    if judged.plan.kind != "grouped":
        raise UsageError("--show-leak compares with folds by subject", found=f"--split {judged.plan.kind}")
    plan = make_plan(judged.study.table, "random", config.splits, config.rounds, config.seed)
    tell = (lambda stage, *rest: progress(f"{stage} leaky", *rest)) if progress is not None else None
    leaky = compare(judged.study, plan, dataset, config, tell, learnt)
    leaky.save_scores(config.output / "scores-random.parquet")
    return replace(result, findings={**result.findings, "leak": optimism(result, leaky)})


def _by_landmarks(config: AblateConfig, plan: Plan) -> tuple[AblateConfig, list[str]]:
    """The configuration with landmarks for classifiers that take them, where training parts are too large for exact
    SVMs, and a stamp for each of these; parameters that are given stay."""
    largest = max(len(split.train) for _, split in plan.splits) * (1 + config.augment.per_cell)
    changed = {
        name: {"landmarks": _LANDMARKS, **config.classifiers.get(name, {})}
        for name in config.compare
        if largest > config.exact_up_to and "landmarks" in plugins.parameters(plugins.CLASSIFIERS, name)
    }
    stamps = [
        f"approximate: {name} goes by {params['landmarks']} landmarks (Nystroem), since training parts have more than "
        f"{config.exact_up_to} cells{', with their augmented cells' if config.augment.per_cell else ''}"
        for name, params in changed.items()
        if params["landmarks"]
    ]
    return config.model_copy(update={"classifiers": {**config.classifiers, **changed}}), stamps


def _without_room(fits: Fits) -> list[str]:
    """A note for each classifier that could share distances if there were more memory."""
    return [
        f"{name}: every feature set is fitted by itself, since shared distances need "
        f"{fits.bytes_a_worker / 1e9:.1f} GB a worker and memory_gb allows {fits.run.memory / 1e9:.1f} GB."
        for name in fits.shared
        if fits.lacks_room(name)
    ]


def _checkpoint(study: Study, plan: Plan, config: AblateConfig, learnt: Sequence[LearntBlock]) -> Checkpoint:
    """Where finished fits are kept: a name that changes with everything that could change a probability."""
    table = study.table
    values = {
        "study": study.identity,
        "columns": table.columns,
        "y": table.y,
        "sources": table.sources,
        "classifiers": config.classifiers,
        "input": config.input,
        "layer": config.layer,
        "search": [config.search, config.trials],
        "finish": [config.calibrate, config.threshold, config.positive],
        "harmonise": config.harmonise.model_dump(),
        "stability": config.stability,
        "augment": config.augment.model_dump(),
        "learnt": {block.name: block.network.identity() for block in learnt},
        "nested": config.nested,
        "seed": config.seed,
        "versions": versions(),
    }
    parts = [part for _, split in plan.splits for part in (split.train, split.test)]
    return Checkpoint.of(config.output, values, [table.groups, *parts, *study.unnamed_arrays])


# ---- facts -----------------------------------------------------------------------------------------------------------


def _facts(dataset: Dataset, table: FeatureTable, plan: Plan, config: AblateConfig) -> dict[str, Any]:
    splits = [split for _, split in plan.splits]
    found = facts(dataset, table, splits, plan.kind)
    found["split"] |= {"folds": len(plan.rounds[0]), "repeats": len(plan.rounds)}
    found["prevalence"] = config.prevalence
    if plan.kind == "external":
        (split,) = splits
        tested = table.take(split.test)
        found["learnt_from"] = {"images": len(split.train), "groups": len(np.unique(table.groups[split.train]))}
        found["split"]["kind"] = "external test"
        found |= {
            "images": len(tested),
            "groups": len(np.unique(tested.groups)),
            "classes": {label: tested.y.count(label) for label in dataset.classes},
        }
    return found


def _stamps(table: FeatureTable, plan: Plan, config: AblateConfig) -> list[str]:
    stamps = [] if table.subjects_known else [UNKNOWN_SUBJECTS]
    stamps += adapted_stamps(table, [split for _, split in plan.splits], config)
    if plan.kind == "random":
        stamps.append(f"leaky: images of {leaking_subjects(plan)} subjects on both sides")
    return stamps
