"""What is left of a model in a source that it has not learnt from: the same cells, judged by models that have learnt
from other cells of their source, and by models that have met no cell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.data.patients.bags import Bags
from fusion.evaluation.curves import risk_coverage_curve
from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.io.run_checkpoint import Checkpoint
from fusion.leakage.grouped_splits import Split, SplitError, affordable_splits, grouped_folds
from fusion.leakage.protocols import Plan, check
from fusion.learning.cross_validation import cross_validate
from fusion.learning.fits import Fits
from fusion.learning.fused_model import fit_harmoniser
from fusion.learning.novelty import learn_novelty
from fusion.metrics import classification
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of_procedure
from fusion.metrics.scored_rows import ratio
from fusion.settings.learning import FitSettings

_Floats = NDArray[np.float64]

#: Sources left out within which cells are judged among their own; beyond that a cell is judged ten times already.
_LEFT_OUT = 10


def internal_folds(table: FeatureTable, splits: Sequence[Split], n_splits: int, seed: int) -> Plan:
    """At most ``n_splits`` folds by subject inside the training part of splits that leave a source out, every source in
    each fold: a round for each of the splits, of ``_LEFT_OUT`` at most.

    Raises
    ------
    SplitError : a training part with a class of a single group.
    """
    y, rounds = np.array(table.y, object), []
    chosen = np.unique(np.linspace(0, len(splits) - 1, _LEFT_OUT).round().astype(int)).tolist()
    for at in chosen:
        rows = splits[at].train
        labels, groups = y[rows], table.groups[rows]
        count = affordable_splits(labels, groups, n_splits)
        folds = grouped_folds(labels, groups, count, seed, strata=[table.sources[row] for row in rows])
        rounds.append(tuple(Split(rows[fold.train], rows[fold.test], table.groups) for fold in folds))
    plan = Plan("source-stratified", tuple(rounds))
    check(plan, table)
    return plan


def drops_between_sites(result: Result, fits: Fits, distance: _Floats, config: FitSettings) -> dict[str, Any]:
    """What each entry loses from cells of sources that it has learnt from to the same cells of a new source.

    Internal validation: every cell by models that have learnt from other subjects of its source and of all others but
    one, each source being that one in turn. External validation: by the model that has learnt from all others but its
    own, as the result has it. The drop is taken on the same cells, each with equal weight, and its interval is
    over groups: other subjects of these sources. It says nothing of how far off another source would be.

    Parameters
    ----------
    result, fits : of splits that leave a source out in turn.
    distance : what ``distances`` says of the best entry's blocks.
    config : its settings.

    Returns
    -------
    Plain values. "rows", for each of ``result.scores``: "features", "classifier", and balanced accuracy "internal",
    "external" and "drop" {"value", "low", "high"}. "sources", of the best entry for each source: "source", "cells", the
    same three, "calibration" {"internal", "external"} (mean confidence, accuracy), and
    "out_of_distribution", the share of its cells that are flagged as out of distribution, None where that cannot be
    determined. "folds", inside a training part.
    Empty where a training part has a class of a single group.
    """
    try:
        internal = internal_folds(fits.study.table, fits.splits, config.splits, config.seed)
    except SplitError:
        return {}
    scores = _internal_scores(fits, internal)
    rows = []
    for at, own in enumerate(scores):
        row = {"features": list(own.features), "classifier": own.classifier, **_drop(result, at, own)}
        if row["cells"] == result.figures[at]["n_images"]:  # as everywhere else on the page
            row["external"] = dict(result.figures[at]["image"]["balanced_accuracy"])
        rows.append(row)
    best = result.ranked()[0]
    names = sorted({str(source) for source in fits.study.table.sources})
    sources = []
    for name in names:
        is_own = np.array(fits.study.table.sources, object) == name
        held = distance[is_own]
        sources.append(
            {
                "source": name,
                **_drop(result, best, scores[best], is_own),
                "calibration": {
                    where: _calibration(result, entry, is_own)
                    for where, entry in (("internal", scores[best]), ("external", result.scores[best]))
                },
                "out_of_distribution": None if np.isnan(held).any() else float((held > 1).mean()),
            }
        )
    return {
        "rows": rows,
        "sources": sources,
        "folds": max(len(folds) for folds in internal.rounds),
    }


def distances(fits: Fits, blocks: Sequence[str]) -> _Floats:
    """float64 (n,): how far each cell lies from the training cells of the split that tests it, in units of the
    threshold above which it is flagged (``novelty``); NaN where that cannot be learnt."""
    found = np.full(len(fits.study), np.nan)
    recipe = fits.recipes[0]
    for at, split in enumerate(fits.splits):
        study = fits.study_of(at)
        known, tested = study.sources(split.train), study.sources(split.test)
        y, groups = np.array(study.table.y)[split.train], study.table.groups[split.train]
        X, seen = study.rows(blocks, split.train), study.rows(blocks, split.test)
        bags = seen if isinstance(seen, Bags) else None
        if bags is not None:  # of patients, by their cells
            cells = study.training_rows(blocks, split.train).of_cells(recipe.seed)
            X, y, groups, known = cells.X, cells.y, cells.groups, list(cells.sources)
            seen, tested = bags.stacked, bags.spread(tested)
        if recipe.harmonise.method != "none":
            shown = study.training_rows(blocks, split.train)
            harmoniser = fit_harmoniser(shown, study.select(blocks).blocks, recipe).only(known)
            X, seen = (harmoniser.transform(rows, of).astype(np.float32) for rows, of in ((X, known), (seen, tested)))
        try:
            table = study.select(blocks)
            novelty = learn_novelty(X, y, groups, table.blocks, seed=recipe.seed)
        except SplitError:  # a class of one group cannot be held out, and the page says that nothing is told
            continue
        if novelty is not None:
            distance = novelty.distance(seen)
            found[split.test] = distance if bags is None else bags.medians(distance)
    return found


def selective_prediction(result: Result, distance: _Floats | None = None) -> list[dict[str, Any]]:
    """Selective prediction: the result's main metric where the least confident cells are rejected, for each
    classifier's best entry; and for the best of all where those furthest from the training cells are not, if their
    ``distance`` (n,) is known.

    Returns
    -------
    Plain values, a row a curve: "features", "classifier", "order" ("confidence" or "nearness"), and lists "share" of
    cells answered, "balanced_accuracy" (of cells of one class "accuracy"), "low" and "high" (95%, by group).
    """
    firsts: dict[str, int] = {}
    for at in result.ranked():
        firsts.setdefault(result.scores[at].classifier, at)
    asked: list[tuple[int, str, _Floats | None]] = [(at, "confidence", None) for at in firsts.values()]
    if distance is not None and not np.isnan(distance).all():
        asked.insert(1, (asked[0][0], "nearness", -distance))
    rows = []
    for at, order, nearness in asked:
        curve = risk_coverage_curve(result, at, nearness)
        scores = result.scores[at]
        rows.append(
            {
                "features": list(scores.features),
                "classifier": scores.classifier,
                "order": order,
                "share": curve.x.tolist(),
                result.main_metric: curve.y.tolist(),
                "low": curve.low.tolist(),
                "high": curve.high.tolist(),
            }
        )
    return rows


def _internal_scores(fits: Fits, internal: Plan) -> tuple[Scores, ...]:
    """For each entry of the result, its scores of cells whose source was learnt from."""
    splits = tuple(split for _, split in internal.splits)
    kept = fits.run.checkpoint
    run = replace(fits.run, checkpoint=None if kept is None else Checkpoint(kept.folder / f"inside-{len(splits)}"))
    return cross_validate(replace(fits, splits=splits, run=run), internal, "fitting inside sources")


def _right(result: Result, scores: Scores) -> _Floats:
    """float64 (n,): the share of the rounds that tested a cell in which it was predicted its class; NaN where none
    did."""
    codes = np.searchsorted(result.classes, np.array(result.cells.y, object).astype(str))
    positive = None if result.positive is None else result.classes.index(result.positive)
    tested = ~np.isnan(scores.proba).any(axis=2)
    right = np.where(tested, scores.predicted(positive) == codes, np.nan)
    count = tested.sum(axis=0)
    return np.where(count > 0, np.where(tested, right, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _drop(result: Result, at: int, own: Scores, wanted: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """Balanced accuracy "internal", "external" and "drop", each with its interval by group, over cells that both
    judged."""
    internal, external = _right(result, own), _right(result, result.scores[at])
    judged = ~np.isnan(internal) & ~np.isnan(external)
    rows = np.flatnonzero(judged if wanted is None else judged & wanted)
    labels = np.array(result.cells.y, object)[rows].astype(str)
    codes = np.unique(labels, return_inverse=True)[1]
    ids = np.unique(result.cells.groups[rows], return_inverse=True)[1]
    counts = np.zeros((codes.max(initial=0) + 1, ids.max(initial=0) + 1))
    np.add.at(counts, (codes, ids), 1)
    hits = np.zeros((2, *counts.shape))
    for which, right in enumerate((internal, external)):
        np.add.at(hits[which], (codes, ids), right[rows])

    def values(hits: _Floats, counts: _Floats) -> _Floats:
        """float64 (..., 3) of hits (2, classes, ...) and counts (classes, ...)."""
        both = ratio(hits, np.broadcast_to(counts, hits.shape)).mean(axis=1)
        return np.stack([*both, both[1] - both[0]], axis=-1)

    found = values(hits.sum(axis=2), counts.sum(axis=1))
    strata = Strata.from_counts(counts.T, [str(label) for label in np.unique(labels)])
    without = values(hits.sum(axis=2, keepdims=True) - hits, counts.sum(axis=1, keepdims=True) - counts)
    spread = spread_of_procedure(influences(without, strata), None, strata, 1 / len(np.unique(result.scores[at].fold)))
    low, high, _ = intervals(found, spread, [strata.smallest], [0, 0, -1], 1.0, [True, True, False])
    parts = zip(("internal", "external", "drop"), found.tolist(), low.tolist(), high.tolist(), strict=True)
    return {"cells": len(rows)} | {
        name: {"value": value, "low": lower, "high": upper} for name, value, lower, upper in parts
    }


def _calibration(result: Result, scores: Scores, is_own: NDArray[np.bool_]) -> Mapping[str, float]:
    """Of a source's cells "confidence", the mean highest probability, and "accuracy" of the most probable class,
    whatever the threshold: what lies between is by how much a model is too sure there."""
    y = np.array(result.cells.y, object)[is_own]
    proba = scores.proba[:, is_own]
    rows = proba[~np.isnan(proba).any(axis=2)]
    labels = np.tile(y, len(proba)).reshape(len(proba), -1)[~np.isnan(proba).any(axis=2)]
    if not len(rows):
        return {name: float("nan") for name in ("confidence", "accuracy")}
    found = classification.image_metrics(labels, rows, result.classes, result.positive)
    return {"confidence": float(rows.max(axis=1).mean()), "accuracy": found["accuracy"]}
