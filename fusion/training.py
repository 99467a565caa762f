"""Fitting a model, after asking cells of held-out subjects what it is worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import plugins, processes
from fusion.bundle import ModelBundle, check_writable
from fusion.calibration import Finish
from fusion.config import DataSettings, FitSettings, TrainConfig, write_config
from fusion.copies import check_sources, copied, copied_by_part, learnt, refuse
from fusion.copies import told as told_of_copies
from fusion.crossfit import BLOCK, CROSSFITTED, NETWORK, Crossfit, block_of, crossfit_of, others, with_block
from fusion.datasets import Dataset, load_dataset
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.inputs import CellInputs
from fusion.metrics import default_positive
from fusion.model import FusedModel, fit_model, takes_pictures
from fusion.normalising import Described, describe, seen_by_split
from fusion.novelty import learn_novelty
from fusion.parts import Block, build_blocks
from fusion.pictured import (
    UNFINISHED,
    Gathered,
    Training,
    build,
    check_board,
    dataset_view,
    gather,
    load_model,
    write_sheet,
)
from fusion.plans import make_plan
from fusion.plugins import Classifier
from fusion.provenance import check_unseen, trained_on
from fusion.reference import learn_reference
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, judge
from fusion.selection import told as told_of_selection
from fusion.splits import Split
from fusion.store import FeatureStore
from fusion.streaming import is_stored, rows_of, some
from fusion.subjects import remembered
from fusion.table import Copies, FeatureTable
from fusion.tracking import open_tracker
from fusion.tuning import check_optuna

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

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.
    """
    check_writable(config.output)
    Finish(config.calibrate, config.threshold)  # refuses a threshold that is none before anything is read
    if config.trials:
        check_optuna()
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    if config.scheduler is not None and "scheduler" not in plugins.parameters(plugins.CLASSIFIERS, config.classifier):
        raise UsageError(
            "--scheduler is for a classifier that a cluster trains",
            found=f"--classifier {config.classifier}",
            expected="xgb, or another one with the parameter 'scheduler'",
        )
    classifier = build(config.classifier, config.params(config.classifier))
    refuse(config.jitter, looks=takes_pictures(classifier), crossfit=config.cnn_crossfit)
    if processes.count() > 1:
        _check_processes(config, classifier)
        progress = progress if processes.is_first() else None
    dataset = load_labelled(config, progress)
    check_sources(dataset.each("source"), config.jitter)
    blocks = build_blocks(config)
    crossfit = _crossfit(config, classifier) if config.cnn_crossfit else None
    looker: Any = classifier if crossfit is None else crossfit.classifier
    refuse_steps(config, classifier)
    _check_wishes(config, looker)
    is_external = _is_external(config, classifier)
    blocks = others(blocks) if crossfit is not None else blocks
    learners: list[tuple[str, Any]] = [(block.name, block.extractor) for block in blocks]
    learners += [(config.classifier, classifier), *([(NETWORK, looker)] if crossfit is not None else [])]
    stamps = check_unseen(learners, dataset, allow=config.allow_leakage)
    make_plan(dataset_view(dataset), "grouped", config.splits, 1, config.seed)
    store = FeatureStore(config.store)
    described, normaliser = None, None

    def seen_as(which: Dataset) -> Described:
        return describe(which, store, scale=config.normalise.scale, jobs=config.jobs, progress=progress)

    if not config.normalise.is_nothing:
        described = seen_as(dataset)
        normaliser = described.fit(config.normalise)

    def gathered(which: Dataset) -> Gathered:
        return gather(which, blocks, looker, store, jobs=config.jobs, progress=progress, stored=is_external)

    with processes.first_alone(getattr(looker, "device", "auto")):
        found = gathered(dataset if described is None or normaliser is None else described.adjusted(normaliser))
    table, inputs, labels = found.table, found.inputs, [str(label) for label in found.table.y]
    if inputs is not None and config.show_batch is not None and processes.is_first():
        write_sheet(config.show_batch, looker.show_batch(inputs, labels))
    plan = make_plan(table, "grouped", config.splits, 1, config.seed)
    (folds,) = plan.rounds
    notes = [*dataset.notes, *plan.notes, *(described.notes if described is not None else [])]
    if config.holdout:
        notes.append(f"The figures come from one held-out part of {len(folds[0].test)} cells, not from all folds.")
        folds = folds[:1]
    training = None
    if inputs is not None and takes_pictures(classifier) and not Finish(config.calibrate, config.threshold).is_nothing:
        raise UsageError(
            f"--calibrate and --threshold would train classifier '{config.classifier}' six times over",
            do="Leave them out, or train a network by --cnn-crossfit under another classifier.",
        )
    if inputs is not None:
        unfinished = config.output.with_name(config.output.name + UNFINISHED)
        board = config.tensorboard if processes.is_first() else None
        training = Training(inputs, unfinished, config.resume, progress, board)
        if processes.is_first():
            training.begin()
    network: Any
    learnt = set(table.keys)
    known = trained_on([sample for sample in dataset.samples if sample.key in learnt])
    normalised: tuple[NDArray[np.float32], ...] = ()
    seen: tuple[CellInputs, ...] = ()
    if described is not None:
        by_fold, said = seen_by_split(described, config.normalise, table, folds, lambda which: gathered(which).rows)
        normalised = tuple(X for X, _ in by_fold)
        seen = tuple(part for _, part in by_fold if part is not None)
        stamps += said
    everyone = np.arange(len(table))
    parts = [*(fold.train for fold in folds), everyone]

    def measured(which: Dataset) -> FeatureTable:
        return gathered(which).table

    varied: tuple[Copies | None, ...] = (None,) * len(parts)
    if config.jitter.copies and (described is None or normaliser is None):
        varied = (copied(dataset, table, config.jitter, config.seed, measured),) * len(parts)
    elif config.jitter.copies and described is not None and normaliser is not None:
        normalisers = [described.fit(config.normalise, [table.names[row] for row in fold.train]) for fold in folds]
        varied = copied_by_part(
            dataset, table, parts, [*normalisers, normaliser], config.jitter, config.seed, seen_as, measured
        )
    notes += told_of_copies(config.jitter, list(zip(varied, parts, strict=True)))
    if crossfit is not None and training is not None:
        scores = _cross_fitted(crossfit, table, folds, config, training, normalised, seen)
        scores = replace(scores, features=(*table.blocks, BLOCK))
        network, block = _final_network(crossfit, table, training, known)
        blocks = [*blocks, block]
        table = with_block(table, network.embed(training.inputs))
        model = fit(table, everyone, config.classifier, config)
        notes += [CROSSFITTED, network.describe()]
    else:
        scores = cross_validate(
            table, folds, config.classifier, config, progress, training, normalised, seen, varied[:-1]
        )
        scores = replace(scores, features=found.features)
        model = fit(replace(table, copies=varied[-1]), everyone, config.classifier, config, training)
        network = model.classifier
        if training is not None:
            network.remember(known)
            notes.append(network.describe())
    if training is not None and config.show_attention is not None and processes.is_first():
        write_sheet(config.show_attention, network.show_attention(training.inputs, labels))
    if model.selection is not None:
        notes += told_of_selection([model.selection], table.columns)
    positive = choose_positive(model.classes, config.positive)
    if cuts := describe_cuts(scores, positive):
        notes.append(cuts)
    if chosen := getattr(model.classifier, "chosen_", {}):
        listed = ", ".join(f"{name} {value:.4g}" for name, value in chosen.items())
        notes.append(f"For all cells, folds inside them chose {listed}; for each fold see result.json.")
    figures = judge(table, scores, model.classes, positive, bootstrap=config.bootstrap, seed=config.seed)
    stamps += adapted_stamps(table, folds, config)
    stamps += [] if table.subjects_known else [UNKNOWN_SUBJECTS]
    result = Result(
        command="train",
        cells=table,
        classes=tuple(model.classes),
        positive=positive,
        scores=(scores,),
        figures=(figures,),
        config=write_config(config),
        findings={"chosen": chosen_rows([scores])} if scores.chosen else {},
        stamps=tuple(stamps),
        notes=tuple(notes),
        faults=found.faults,
        facts=facts(dataset, table, folds, "grouped")
        | ({"jitter": config.jitter.model_dump()} if config.jitter.copies else {}),
    )
    # Of a table that may be larger than the memory, some cells tell what is usual.
    usual = table
    if is_stored(table.X):
        drawn = some(table.X, _USUAL, config.seed)
        usual = table.take(drawn)
        if len(drawn) < len(table):
            notes.append(f"What is usual, for novelty and explanations, is learnt from {len(drawn)} cells drawn.")
    shown = model.harmonised(usual.X, usual.sources)
    bundle = ModelBundle(
        model=model,
        classifier=config.classifier,
        blocks=tuple(blocks),
        columns=table.columns,
        positive=positive,
        image_keys=frozenset(table.image_keys),
        subjects=frozenset(
            one
            for subject, source in zip(table.subjects, table.sources, strict=True)
            if subject is not None
            for one in remembered(subject, source)
        ),
        facts=result.to_json(dataset.root),
        # Not by what a network sees in cells that it has learnt from: it sees new ones otherwise.
        novelty=learn_novelty(
            shown,
            np.array(usual.y),
            usual.groups,
            {name: part for name, part in table.blocks.items() if crossfit is None or name != BLOCK},
            seed=config.seed,
        ),
        reference=learn_reference(shown, usual.y, model.classes) if table.columns else None,
        normaliser=normaliser,
    )
    if not processes.is_first():  # it has what the first one writes
        return Trained(bundle, result, dataset)
    bundle.save(config.output)
    if crossfit is not None:
        bundle = load_model(config.output)  # whose weights lie in the model, and no longer among the unfinished
    if training is not None:
        training.end()
    if tracker is not None:
        tracker.log(result, config, config.output)
    return Trained(bundle, result, dataset)


def refuse_steps(config: FitSettings, classifier: Classifier) -> None:
    """UsageError where features are to be changed or chosen for a network that joins them to pictures by itself."""
    if takes_pictures(classifier) and config.minds_sources:
        step = "stability" if config.harmonise.method == "none" else "harmonise"
        raise UsageError(
            f"{step} is for features, and this network learns from the pictures themselves",
            do="Normalise the pictures, or take --cnn-crossfit under another classifier.",
        )


def _check_processes(config: TrainConfig, classifier: Classifier) -> None:
    """UsageError for what several processes cannot do together; before anything is read."""
    if not takes_pictures(classifier) or config.cnn_crossfit:
        what = "--cnn-crossfit" if config.cnn_crossfit else f"classifier '{config.classifier}'"
        raise UsageError(
            f"{what} is trained by one process",
            found=f"{processes.count()} processes, started by torchrun",
            do="Take --classifier neural, or start fusion by itself.",
        )


def _is_external(config: TrainConfig, classifier: Classifier) -> bool:
    """Whether the classifier keeps features out of memory; UsageError for what needs all of them in it."""
    setting = getattr(classifier, "reads_batches", "")
    if not setting:
        return False
    if setting == "scheduler":
        from fusion import cluster

        cluster.check_address(classifier.scheduler)  # type: ignore[attr-defined]  # as it says
    asked = {
        "search": getattr(classifier, "search", False),
        "calibrate or threshold": not Finish(config.calibrate, config.threshold).is_nothing,
        "normalise": not config.normalise.is_nothing,
        "harmonise": config.harmonise.method != "none",
        "stability": config.stability is not None,
        "jitter": config.jitter.copies > 0,
        "cnn-crossfit": config.cnn_crossfit,
    }
    if wanted := [name for name, is_asked in asked.items() if is_asked]:
        raise UsageError(
            f"{setting} keeps the features out of memory, and this needs them in it", found=", ".join(wanted)
        )
    return True


def _check_wishes(config: TrainConfig, looker: Any) -> None:
    """UsageError for what is asked of a network, where there is none or it cannot; before anything is measured."""
    sees = takes_pictures(looker)
    if not sees and (config.show_batch or config.show_attention or config.tensorboard):
        raise UsageError("only a classifier that takes pictures can show them", do="Take --classifier neural.")
    if not sees and config.resume:
        raise UsageError(f"classifier '{config.classifier}' has no training to go on with", do="Leave --resume out.")
    if config.show_attention is not None and not looker.has_map():
        raise UsageError("--show-attention needs a feature map", found="a backbone of tokens, as transformers are")
    if config.tensorboard is not None:
        check_board()


def _crossfit(config: TrainConfig, classifier: Classifier) -> Crossfit:
    if takes_pictures(classifier):
        raise UsageError(
            f"classifier '{config.classifier}' sees the pictures itself, and is trained in every fold as it is",
            do="Leave --cnn-crossfit out, and cnn too.",
        )
    return crossfit_of(config, config)


def _cross_fitted(
    crossfit: Crossfit,
    table: FeatureTable,
    folds: Sequence[Split],
    config: TrainConfig,
    training: Training,
    normalised: Sequence[NDArray[np.float32]],
    seen: Sequence[CellInputs],
) -> Scores:
    """Every cell judged on what a network sees in it that has learnt from the fold's training part alone."""
    steps = config.normalise.steps if seen else None
    embedded = crossfit.embed(table, seen or training.inputs, folds, training.folder, training.progress, steps)
    parts = []
    for at, (fold, rows) in enumerate(zip(folds, embedded, strict=True)):
        of_fold = replace(table, X=normalised[at]) if normalised else table
        parts.append(cross_validate(with_block(of_fold, rows), [fold], config.classifier, config))
    proba, number = parts[0].proba.copy(), parts[0].fold.copy()
    cut = None if parts[0].cut is None else parts[0].cut.copy()
    chosen: list[dict[str, float]] = []
    for at, (fold, part) in enumerate(zip(folds, parts, strict=True)):
        proba[:, fold.test], number[:, fold.test] = part.proba[:, fold.test], at
        if cut is not None and part.cut is not None:
            cut[:, fold.test] = part.cut[:, fold.test]
        chosen += [{**values, "fold": at + 1} for values in part.chosen]
    return replace(parts[0], proba=proba, fold=number, cut=cut, chosen=tuple(chosen))


def _final_network(
    crossfit: Crossfit, table: FeatureTable, training: Training, known: Mapping[str, Sequence[str]]
) -> tuple[Any, Block]:
    """The network that the model keeps, fitted on all cells; and the block that sees by it."""
    everything = np.arange(len(table))
    network = crossfit.fit(table, training.inputs, everything, training.folder / "network", training.progress)
    network.remember(known)
    return network, block_of(network, training.folder / f"{BLOCK}.safetensors")


def load_labelled(config: DataSettings, progress: Progress | None = None) -> Dataset:
    """The labelled pictures that a configuration names."""
    return read_dataset(config, progress).select(config.classes, config.folds, config.sources).labelled()


def read_dataset(config: DataSettings, progress: Progress | None = None) -> Dataset:
    """Every picture of the data set that a configuration names, with the progress of reading it."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("reading", done, total, 0)

    dataset = load_dataset(config.data, part=config.part, store=config.store, progress=tell)
    return dataset.with_source(config.source)


def cross_validate(
    table: FeatureTable,
    folds: Sequence[Split],
    classifier: str,
    config: FitSettings,
    progress: Progress | None = None,
    training: Training | None = None,
    normalised: Sequence[NDArray[np.float32]] = (),
    seen: Sequence[CellInputs] = (),
    varied: Sequence[Copies | None] = (),
) -> Scores:
    """Score every cell of a test part with a model that was fitted without its fold; ``training`` is for networks.

    ``normalised`` has for every fold the table's rows as its training part normalises them, ``seen`` likewise what a
    network is given, ``varied`` the copies that are learnt from; or they are empty.
    """
    classes = sorted(set(table.y), key=str)
    proba = np.full((len(table), len(classes)), np.nan)
    number = np.full(len(table), -1, np.intp)
    cut = np.full(len(table), np.nan)
    chosen: list[dict[str, float]] = []
    for at, fold in enumerate(folds):
        if training is None:
            of_fold = replace(table, X=normalised[at] if normalised else table.X, copies=varied[at] if varied else None)
            proba[fold.test], cut[fold.test], found = score_fold(of_fold, fold, classifier, config)
            chosen += [{"fold": at + 1, **found}] if found else []
        else:
            own = replace(training, inputs=seen[at]) if seen else training
            model = fit(table, fold.train, classifier, config, own, f"fold {at + 1}")
            proba[fold.test] = model.predict_proba(own.inputs.take(fold.test))
        number[fold.test] = at
        if progress is not None:
            progress("fitting", at + 1, len(folds), 0)
    cuts = cut if config.threshold is not None else None
    return Scores(tuple(table.blocks), classifier, proba, number, cuts, tuple(chosen))


def score_fold(
    table: FeatureTable, fold: Split, classifier: str, config: FitSettings
) -> tuple[NDArray[np.float64], float, dict[str, float]]:
    """Probabilities for the test part by a model fitted on the training part, float64 (test cells, classes); what the
    training part chose: the threshold, NaN for none, and the classifier's parameters, empty without a search.

    Runs on one thread, so that a sum is added up in the same order on any machine and beside any other fit.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = fit(table, fold.train, classifier, config)
        cut = math.nan if model.cut is None else model.cut
        sources = [table.sources[row] for row in fold.test]
        return (
            model.predict_proba(rows_of(table.X, fold.test), sources),
            cut,
            dict(getattr(model.classifier, "chosen_", {})),
        )


def fit(
    table: FeatureTable,
    rows: NDArray[np.intp],
    classifier: str,
    config: FitSettings,
    training: Training | None = None,
    part: str = "all cells",
) -> FusedModel:
    """Fit layer and classifier on these rows; a classifier of pictures by ``training``, which calls this fit ``part``.

    Raises
    ------
    UsageError : the classifier refuses its parameters or the data.
    """
    params = config.params(classifier)
    try:
        if training is not None:
            return training.fit(table, rows, classifier, params, config.seed, part)
        shown = learnt(table, rows)
        return fit_model(
            shown.X,
            shown.y,
            shown.groups,
            table.blocks,
            classifier,
            params=params,
            layer=config.layer,
            seed=config.seed,
            finish=Finish(config.calibrate, config.threshold),
            positive=choose_positive(sorted({str(label) for label in table.y}), config.positive),
            sources=shown.sources,
            harmonise=config.harmonise,
            stability=config.stability,
            cells=shown.cells,
        )
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"classifier '{classifier}' cannot be trained as asked", found=reason) from error


def adapted_stamps(table: FeatureTable, splits: Sequence[Split], config: FitSettings) -> list[str]:
    """A stamp where features of a source that is only tested are harmonised by the cells that are judged."""
    if config.harmonise.method == "none" or not config.harmonise.transductive:
        return []
    new = any(
        {table.sources[row] for row in split.test} - {table.sources[row] for row in split.train} for split in splits
    )
    stamp = "transductive: features of new sources harmonised by the cells that are judged, without labels"
    return [stamp] if new else []


def chosen_rows(entries: Sequence[Scores]) -> list[dict[str, Any]]:
    """Plain values: what every training part chose for its classifier."""
    return [
        {"features": list(scores.features), "classifier": scores.classifier, **chosen}
        for scores in entries
        for chosen in scores.chosen
    ]


def describe_cuts(scores: Scores, positive: str | None) -> str:
    """Which thresholds the training parts chose, in words; "" where none were asked for."""
    if scores.cut is None or positive is None:
        return ""
    chosen = np.unique(scores.cut[scores.fold >= 0])
    between = f"{chosen[0]:.3f}" if len(chosen) == 1 else f"{chosen[0]:.3f} to {chosen[-1]:.3f}"
    return f"A cell is called '{positive}' from a probability of {between}, chosen inside each training part."


def choose_positive(classes: Sequence[str], wanted: str | None) -> str | None:
    """The class that sensitivity is about; None for more than two classes.

    Raises
    ------
    UsageError : ``wanted`` is none of the classes.
    """
    if wanted is not None and wanted not in classes:
        raise UsageError("--positive names no class", found=wanted, expected=", ".join(classes))
    if len(classes) != 2:
        return None
    return wanted or default_positive(classes)


def facts(dataset: Dataset, table: FeatureTable, folds: Sequence[Split], kind: str) -> dict[str, Any]:
    """Plain values about data and split, for ``result.json``."""
    counts: Mapping[str, int] = {label: table.y.count(label) for label in dataset.classes}
    return {
        "data": str(dataset.root),
        "layout": dataset.layout,
        "images": len(table),
        "groups": len(np.unique(table.groups)),
        "subjects_known": table.subjects_known,
        "classes": counts,
        "split": {"kind": kind, "folds": len(folds), "test_images": [len(fold.test) for fold in folds]},
        "columns": {name: part.stop - part.start for name, part in table.blocks.items()},
        **({"sources": counts_of(table.sources)} if any(table.sources) else {}),
    }


def counts_of(names: Sequence[str | None]) -> dict[str, int]:
    """How often each name occurs, by name; "" stands for what has none."""
    return dict(sorted(Counter("" if name is None else name for name in names).items()))
