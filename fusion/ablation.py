"""Ablation: every subset of the chosen blocks with every classifier, on the same cells and the same folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fusion import plugins, report, splits
from fusion.config import AblateConfig, write_config
from fusion.datasets import Dataset
from fusion.errors import UsageError
from fusion.extraction import Extraction, Progress, extract
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge
from fusion.splits import Split
from fusion.store import FeatureStore
from fusion.table import FeatureTable
from fusion.training import (
    build_extractors,
    choose_positive,
    dataset_view,
    facts,
    load_labelled,
    plan_splits,
    score_fold,
)

#: Blocks of which all subsets are still worth looking at: 2**10 - 1 feature sets.
_MAX_BLOCKS = 10


#: Fits below which another worker process costs more to start than it saves.
_WORTH_A_WORKER = 20


@dataclass(frozen=True, eq=False)
class _Fit:
    """One model to fit: which classifier, which blocks, which fold."""

    classifier: str
    blocks: tuple[str, ...]
    fold: int


def ablate(config: AblateConfig, progress: Progress | None = None) -> Result:
    """Compare all non-empty subsets of the blocks under all classifiers, and write table, figure, page and scores.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.
    """
    check_result_folder(config.output)
    dataset = load_labelled(config, progress)
    extractors = build_extractors(config)
    for name in config.compare:
        plugins.build_classifier(name, config.classifiers.get(name))
    if not config.compare or len(extractors) > _MAX_BLOCKS:
        raise UsageError("nothing that can be compared", found=f"{len(extractors)} blocks, {config.compare}")
    plan_splits(dataset_view(dataset), config.splits, config.seed, config.split)
    extraction = extract(dataset, extractors, FeatureStore(config.store), jobs=config.jobs, progress=progress)
    result = compare(extraction, dataset, config, progress)
    result.save(config.output, dataset.root)
    report.write_report(result, config.output)
    return result


def compare(extraction: Extraction, dataset: Dataset, config: AblateConfig, progress: Progress | None = None) -> Result:
    """Fit and judge everything; writes nothing."""
    table = extraction.table
    folds, notes = plan_splits(table, config.splits, config.seed, config.split)
    subsets = block_subsets(list(table.blocks))
    fits = [
        _Fit(classifier, blocks, fold)
        for blocks in subsets
        for classifier in config.compare
        for fold in range(len(folds))
    ]
    classes = sorted({str(label) for label in table.y})
    proba = {(f.classifier, f.blocks): np.zeros((len(table), len(classes))) for f in fits}
    for done, (f, part) in enumerate(zip(fits, _run(fits, table, folds, config), strict=True), start=1):
        proba[f.classifier, f.blocks][folds[f.fold].test] = part
        if progress is not None:
            progress("fitting", done, len(fits), 0)
    number = np.zeros(len(table), np.intp)
    for at, fold in enumerate(folds):
        number[fold.test] = at
    positive = choose_positive(classes, config.positive)
    scores = tuple(Scores(blocks, classifier, p, number) for (classifier, blocks), p in proba.items())
    return Result(
        command="ablate",
        cells=table,
        classes=tuple(classes),
        positive=positive,
        scores=scores,
        figures=tuple(
            judge(table, entry, classes, positive, bootstrap=config.bootstrap, seed=config.seed) for entry in scores
        ),
        config=write_config(config),
        stamps=tuple(_stamps(table, folds, config.split)),
        notes=(*dataset.notes, *notes),
        faults=extraction.faults,
        facts=facts(dataset, table, folds, config.split),
    )


def block_subsets(blocks: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets, the single blocks first, each in the order of ``blocks``."""
    return [subset for size in range(1, len(blocks) + 1) for subset in combinations(blocks, size)]


def _run(
    fits: Sequence[_Fit], table: FeatureTable, folds: Sequence[Split], config: AblateConfig
) -> Iterable[NDArray[np.float64]]:
    """Test-part probabilities of every fit, in order, whatever the number of workers."""
    from joblib import Parallel, cpu_count, delayed

    workers = min(config.jobs or cpu_count(), max(1, len(fits) // _WORTH_A_WORKER))
    calls = (delayed(_score)(table, folds[f.fold], f, config) for f in fits)
    return Parallel(n_jobs=workers, return_as="generator")(calls)


def _score(table: FeatureTable, fold: Split, f: _Fit, config: AblateConfig) -> NDArray[np.float64]:
    return score_fold(table.select(f.blocks), fold, f.classifier, config)


def _stamps(table: FeatureTable, folds: Sequence[Split], kind: str) -> list[str]:
    stamps = [] if table.subjects_known else [UNKNOWN_SUBJECTS]
    if kind == "random":
        leaked = {int(group) for fold in folds for group in splits.leaked_groups(fold)}
        stamps.append(f"leaky: images of {len(leaked)} subjects on both sides")
    return stamps
