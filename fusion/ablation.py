"""Ablation: sets of the chosen blocks with every classifier, on the same cells and the same folds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import plugins, report
from fusion.calibration import Finish
from fusion.checkpoint import Checkpoint, forget_unfinished
from fusion.config import AblateConfig, JitterSettings, write_config
from fusion.copies import check_sources, copied, copied_by_part, refuse
from fusion.copies import told as told_of_copies
from fusion.crossfit import CROSSFITTED, NETWORK, Crossfit, crossfit_of, others, stacked, with_block
from fusion.datasets import Dataset, Fault, load_dataset
from fusion.differences import against_best, optimism, worth_of_blocks
from fusion.duplicates import near_duplicates
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.feature_sets import feature_sets, sampled_orders
from fusion.fitting import Fit, Workload, run_fits, selections, without_room
from fusion.importance import importance
from fusion.inputs import CellInputs
from fusion.model import takes_pictures
from fusion.normalising import Described, describe, seen_by_split, told
from fusion.parts import Block, build_blocks, measure
from fusion.pictured import Gathered, gather
from fusion.plans import Plan, external_plan, leaking_subjects, make_plan
from fusion.provenance import check_unseen
from fusion.redundancy import redundancy
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge_paired, versions
from fusion.selection import told as told_of_selection
from fusion.store import FeatureStore
from fusion.table import Copies, FeatureTable
from fusion.tracking import open_tracker
from fusion.training import (
    adapted_stamps,
    choose_positive,
    chosen_rows,
    dataset_view,
    facts,
    load_labelled,
)
from fusion.travel import abstentions, distances, travelled
from fusion.tuning import check_optuna

#: Cells up to which blocks are aligned: two matrices of all pairs of 12,000 are 2.3 GB.
_MOST_ALIGNED = 12_000

#: Training cells that approximate machines go by: eigenvectors of 2,000 take seconds, and a subject has 150 cells.
_LANDMARKS = 2000

_CHOSEN = "Each training part chose its own threshold (--threshold): they are in scores.parquet."


@dataclass(frozen=True, eq=False)
class _Measured:
    """Cells with their features and the plan to judge them by; ``tested`` is an external test set.

    ``normalised`` has for every split the table's rows as its training part normalises them, ``varied`` the copies that
    are learnt from; or they are empty.
    """

    dataset: Dataset
    table: FeatureTable
    plan: Plan
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]
    stamps: tuple[str, ...] = ()
    sight: Sight | None = None
    tested: Dataset | None = None
    normalised: tuple[NDArray[np.float32], ...] = ()
    varied: tuple[Copies | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Sight:
    """The networks of a block that is learnt anew in every split, and the pictures of the table's cells: the same in
    all splits, or for each split as its training part normalises them."""

    crossfit: Crossfit
    inputs: CellInputs | tuple[CellInputs, ...]


def ablate(config: AblateConfig, progress: Progress | None = None) -> Result:
    """Compare sets of blocks under all classifiers, and write table, figures, page and scores.

    A run that was stopped goes on where it was when it is started again with the same settings.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.
    """
    check_result_folder(config.output)
    # What cannot be asked is refused before anything is read.
    feature_sets(config.blocks, config.subsets, config.seed)
    Finish(config.calibrate, config.threshold)
    if config.trials:
        check_optuna()
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    refuse(config.jitter, crossfit=config.cnn_crossfit, leak=config.show_leak)
    dataset = load_labelled(config, progress)
    check_sources(dataset.each("source"), config.jitter)
    blocks = build_blocks(config)
    for name in config.compare:
        built = plugins.build_classifier(name, config.params(name))
        refuse(config.jitter, looks=takes_pictures(built))
    crossfit = crossfit_of(config, config) if config.cnn_crossfit else None
    if not config.compare:
        raise UsageError("nothing to compare", found="no classifier", do="Name some: --classifiers.")
    measured = _measure(config, dataset, blocks, crossfit, progress)
    result = compare(
        measured.table, measured.plan, dataset, config, progress, measured.sight, measured.normalised, measured.varied
    )
    result = replace(
        result,
        stamps=(*measured.stamps, *result.stamps),
        notes=(*dataset.notes, *measured.notes, *result.notes),
        faults=measured.faults,
    )
    if config.show_leak:
        result = _with_leak(result, measured, config, progress)
    result.save(config.output, dataset.root)
    judged = measured.tested or dataset
    places = {judged.name_of(sample): (sample.path, sample.mask_path) for sample in judged.samples}
    report.write_report(result, config.output, places)
    forget_unfinished(config.output)
    if tracker is not None:
        tracker.log(result, config, config.output)
    return result


def compare(
    table: FeatureTable,
    plan: Plan,
    dataset: Dataset,
    config: AblateConfig,
    progress: Progress | None = None,
    sight: Sight | None = None,
    normalised: Sequence[NDArray[np.float32]] = (),
    varied: Sequence[Copies | None] = (),
) -> Result:
    """Fit and judge everything; writes nothing but what a run that is killed can go on from."""
    config, approximate = _by_landmarks(config, plan)
    classes = sorted({str(label) for label in table.y})
    splits = tuple(split for _, split in plan.splits)
    embedded: tuple[NDArray[np.float32], ...] = tuple(normalised)
    if sight is not None:
        steps = None if config.normalise.is_nothing else config.normalise.steps
        rows = sight.crossfit.embed(table, sight.inputs, splits, config.output, progress, steps)
        # Where features are normalised split by split too, all columns are the split's own, and else the network's.
        embedded = tuple(np.hstack(both) for both in zip(normalised, rows, strict=True)) if normalised else rows
        table = with_block(table, np.zeros_like(rows[0]))
    checkpoint = _checkpoint(table, plan, config, embedded, varied)
    load = Workload(table, splits, config, checkpoint, embedded, tuple(varied))
    sets = feature_sets(list(table.blocks), config.subsets, config.seed)
    entries = [(blocks, name) for blocks in sets for name in config.compare]
    fits = [Fit(name, blocks, at) for blocks, name in entries for at in range(len(load.splits))]
    memory = config.memory_gb * 1e9 if config.memory_gb is not None else _half_the_memory()
    rounds = np.array([number for number, _ in plan.splits])
    shape = (len(plan.rounds), len(table))
    proba = {entry: np.full((*shape, len(classes)), np.nan) for entry in entries}
    cuts = {entry: np.full(shape, np.nan) for entry in entries}
    chosen: dict[tuple[tuple[str, ...], str], list[dict[str, float]]] = {entry: [] for entry in entries}
    for done, (fit, part, cut, values) in enumerate(run_fits(fits, load, jobs=config.jobs, memory=memory), start=1):
        entry, tested = (fit.blocks, fit.classifier), (rounds[fit.split], load.splits[fit.split].test)
        proba[entry][tested], cuts[entry][tested] = part, cut
        chosen[entry] += [{"split": fit.split, **values}] if values else []
        if progress is not None:
            progress("fitting", done, len(fits), 0)
    fold = np.full(shape, -1, np.intp)
    for number, splits in enumerate(plan.rounds):
        for at, split in enumerate(splits):
            fold[number, split.test] = at
    positive = choose_positive(classes, config.positive)
    chose = config.threshold is not None
    scores = tuple(
        Scores(
            *entry, p, fold, cuts[entry] if chose else None, tuple(sorted(chosen[entry], key=lambda one: one["split"]))
        )
        for entry, p in proba.items()
    )
    judged = []
    for at, scored in enumerate(scores, start=1):
        judged.append(
            judge_paired(
                table, scored, classes, positive,
                bootstrap=config.bootstrap, seed=config.seed, prevalence=config.prevalence,
            )
        )  # fmt: skip
        if progress is not None:
            progress("judging", at, len(scores), 0)
    result = Result(
        command="ablate",
        cells=table,
        classes=tuple(classes),
        positive=positive,
        scores=scores,
        figures=tuple(figures for figures, _ in judged),
        config=write_config(config),
        stamps=(*_stamps(table, plan, config), *approximate),
        notes=(
            *plan.notes,
            *([CROSSFITTED] if sight is not None else []),
            *([_CHOSEN] if chose else []),
            *without_room(config.compare, load, memory),
            *told_of_selection(selections(load), table.columns),
        ),
        facts=_facts(dataset, table, plan, config),
        replicates=tuple(replicates for _, replicates in judged),
    )
    findings: dict[str, Any] = {"worth": worth_of_blocks(result, sampled_orders(list(table.blocks), config.seed))}
    if len(table.blocks) > 1 and 4 <= len(table) <= _MOST_ALIGNED:
        findings["redundancy"] = redundancy(table)
    if len(table.blocks) > 1 and tuple(table.blocks) in sets:
        findings["importance"] = importance(
            load, config.compare, classes, positive, config.bootstrap, memory=memory, progress=progress
        )
    if config.search or config.trials:
        findings["chosen"] = chosen_rows(scores)
    if len(scores) > 1:
        findings["paired"] = against_best(result, plan)
    distance = None
    if plan.kind == "leave-one-source-out" and sight is None:  # a network would be learnt anew in every fold inside
        distance = distances(load, scores[result.ranked()[0]].features)
        if config.in_source and (found := travelled(result, load, distance, config.jobs, memory, progress)):
            findings["travel"] = found
    findings["abstention"] = abstentions(result, distance)
    return replace(result, findings=findings)


def _measure(
    config: AblateConfig,
    dataset: Dataset,
    blocks: Sequence[Block],
    crossfit: Crossfit | None,
    progress: Progress | None,
) -> _Measured:
    """Plan before anything is measured, so that what cannot be split is refused at once; then measure and plan."""
    store = FeatureStore(config.store)
    fixed = blocks if crossfit is None else others(blocks)
    learners: list[tuple[str, Any]] = [(block.name, block.extractor) for block in fixed]
    learners += [] if crossfit is None else [(NETWORK, crossfit.classifier)]

    def gathered(which: Dataset) -> Gathered:
        if crossfit is not None:
            return gather(which, fixed, crossfit.classifier, store, jobs=config.jobs, progress=progress)
        found = measure(which, fixed, store, jobs=config.jobs, progress=progress)
        return Gathered(found.table, None, found.faults)

    def sight(inputs: CellInputs | tuple[CellInputs, ...] | None) -> Sight | None:
        return None if crossfit is None or inputs is None else Sight(crossfit, inputs)

    def seen_as(which: Dataset) -> Described:
        return describe(which, store, scale=config.normalise.scale, jobs=config.jobs, progress=progress)

    def measured(which: Dataset) -> FeatureTable:
        return gathered(which).table

    stamps = check_unseen(learners, dataset, allow=config.allow_leakage)
    steps, jitter = config.normalise, config.jitter
    if config.test is not None:
        other = load_dataset(config.test, part=config.test_part, store=config.store).select(config.classes).labelled()
        external_plan(dataset_view(dataset), dataset_view(other))
        stamps = [*stamps, *(s for s in check_unseen(learners, other, allow=config.allow_leakage) if s not in stamps)]
        if steps.is_nothing:
            one, two = gathered(dataset), gathered(other)
            own = copied(dataset, one.table, jitter, config.seed, measured)
        else:
            own = None
            first, second = seen_as(dataset), seen_as(other)
            normaliser = first.fit(steps)
            one, two = gathered(first.adjusted(normaliser)), gathered(second.adjusted(normaliser))
            stamps += [*told(normaliser, second.looks), *first.notes, *second.notes]
            everyone = [np.arange(len(one.table))]
            if jitter.copies:
                (own,) = copied_by_part(
                    dataset, one.table, everyone, [normaliser], jitter, config.seed, seen_as, measured
                )
        plan, groups = external_plan(one.table, two.table)
        table = _stack(one.table, two.table, groups)
        seen = None if one.inputs is None or two.inputs is None else stacked(one.inputs, two.inputs)
        ((_, split),) = plan.splits
        varied: tuple[Copies | None, ...] = () if own is None else (_above(own, len(table)),)
        return _Measured(
            dataset, table, plan, (*other.notes, *_told_of(varied, [split.train], jitter)),
            (*one.faults, *two.faults), tuple(stamps), sight(seen), other, varied=varied,
        )  # fmt: skip
    _plan(dataset_view(dataset), config)
    joined, notes = near_duplicates(dataset, config.near_duplicates, progress) if config.near_duplicates else ({}, [])
    described = None if steps.is_nothing else seen_as(dataset)
    notes = [*notes, *(described.notes if described is not None else [])]
    found = gathered(dataset if described is None else described.adjusted(described.fit(steps)))
    table = found.table
    if joined:
        table = replace(table, groups=_joined_groups(table, joined))
    plan = _plan(table, config)
    normalised: tuple[NDArray[np.float32], ...] = ()
    if described is not None:
        seen_by, said = seen_by_split(
            described, steps, table, [split for _, split in plan.splits], lambda which: gathered(which).rows
        )
        normalised = tuple(X for X, _ in seen_by)
        inputs = tuple(part for _, part in seen_by if part is not None)
        stamps += said
    else:
        inputs = ()
    parts = [split.train for _, split in plan.splits]
    varied = ()
    if jitter.copies and described is None:
        varied = (copied(dataset, table, jitter, config.seed, measured),) * len(parts)
    elif jitter.copies and described is not None:
        by = [described.fit(steps, [table.names[row] for row in rows]) for rows in parts]
        varied = copied_by_part(dataset, table, parts, by, jitter, config.seed, seen_as, measured)
    return _Measured(
        dataset, table, plan, (*notes, *_told_of(varied, parts, jitter)), found.faults, tuple(stamps),
        sight(inputs or found.inputs), None, normalised, varied,
    )  # fmt: skip


def _told_of(varied: Sequence[Copies | None], parts: Sequence[NDArray[np.intp]], jitter: JitterSettings) -> list[str]:
    return told_of_copies(jitter, list(zip(varied, parts, strict=True))) if varied else []


def _above(copies: Copies, n: int) -> Copies:
    """Copies of the first of n rows; the others, which are judged, have none."""
    more = n - copies.X.shape[1]
    X = np.pad(copies.X, ((0, 0), (0, more), (0, 0)), constant_values=np.nan)
    return replace(copies, X=X, there=np.pad(copies.there, ((0, 0), (0, more))))


def _plan(table: FeatureTable, config: AblateConfig) -> Plan:
    return make_plan(table, config.split, config.splits, config.rounds, config.seed)


def _joined_groups(table: FeatureTable, joined: dict[str, int]) -> NDArray[np.intp]:
    """Groups of the table, merged where near-duplicates (picture hash -> number of their set) join them."""
    from fusion.splits import merge_groups

    sets = [f"near {joined[key]}" if key in joined else None for key in table.image_keys]
    return merge_groups([str(group) for group in table.groups], table.image_keys, sets)


def _with_leak(result: Result, measured: _Measured, config: AblateConfig, progress: Progress | None) -> Result:
    """The result with what a random split of the same cells would have claimed."""
    if measured.plan.kind != "grouped":
        raise UsageError("--show-leak compares with folds by subject", found=f"--split {measured.plan.kind}")
    if measured.normalised:
        raise UsageError("--show-leak takes cells as they are", found="normalise", do="Leave one of them out.")
    plan = make_plan(measured.table, "random", config.splits, config.rounds, config.seed)
    told = (lambda stage, *rest: progress(f"{stage} leaky", *rest)) if progress is not None else None
    leaky = compare(measured.table, plan, measured.dataset, config, told, measured.sight)
    leaky.save_scores(config.output / "scores-random.parquet")
    return replace(result, findings={**result.findings, "leak": optimism(result, leaky)})


def _by_landmarks(config: AblateConfig, plan: Plan) -> tuple[AblateConfig, list[str]]:
    """The configuration with landmarks for classifiers that take them, where training parts are too large for exact
    machines, and a stamp for each of these; parameters that are given stay."""
    largest = max(len(split.train) for _, split in plan.splits) * (1 + config.jitter.copies)
    changed = {
        name: {"landmarks": _LANDMARKS, **config.classifiers.get(name, {})}
        for name in config.compare
        if largest > config.exact_up_to and "landmarks" in plugins.parameters(plugins.CLASSIFIERS, name)
    }
    stamps = [
        f"approximate: {name} goes by {params['landmarks']} landmarks (Nystroem), since training parts have more than "
        f"{config.exact_up_to} cells{', with their copies' if config.jitter.copies else ''}"
        for name, params in changed.items()
        if params["landmarks"]
    ]
    return config.model_copy(update={"classifiers": {**config.classifiers, **changed}}), stamps


def _checkpoint(
    table: FeatureTable,
    plan: Plan,
    config: AblateConfig,
    embedded: Sequence[NDArray[np.float32]],
    varied: Sequence[Copies | None],
) -> Checkpoint:
    """Where finished fits are kept: a name that changes with everything that could change a probability."""
    values = {
        "columns": table.columns,
        "y": table.y,
        "classifiers": config.classifiers,
        "layer": config.layer,
        "search": [config.search, config.trials],
        "finish": [config.calibrate, config.threshold, config.positive],
        **({} if config.harmonise.method == "none" else {"harmonise": [config.harmonise.model_dump(), table.sources]}),
        **({} if config.stability is None else {"stability": [config.stability, table.sources]}),
        **({"jitter": [config.jitter.model_dump(), table.sources]} if config.jitter.copies else {}),
        "seed": config.seed,
        "versions": versions(),
    }
    parts = [part for _, split in plan.splits for part in (split.train, split.test)]
    # Splits may have the same copies, which are asked once.
    each = {id(copies): copies for copies in varied if copies is not None}.values()
    copies = [array for one in each for array in (one.X, one.there)]
    return Checkpoint.of(config.output, values, [table.X, table.groups, *parts, *embedded, *copies])


def _half_the_memory() -> float:
    """Bytes: half of what the machine has, or 4 GB where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems not these names
        return 4e9


def _stack(first: FeatureTable, second: FeatureTable, groups: NDArray[np.intp]) -> FeatureTable:
    """Both tables' rows, one after the other."""
    return FeatureTable(
        X=np.vstack([first.X, second.X]),
        columns=first.columns,
        names=(*first.names, *second.names),
        keys=(*first.keys, *second.keys),
        image_keys=(*first.image_keys, *second.image_keys),
        y=(*first.y, *second.y),
        subjects=(*first.subjects, *second.subjects),
        folds=(*first.folds, *second.folds),
        groups=groups,
        subjects_known=first.subjects_known and second.subjects_known,
        sources=(*first.sources, *second.sources),
    )


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
