"""What more subjects would bring: the best entry learnt from a quarter, a half and three quarters of the subjects of
each training part, and judged on the same test parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.evaluation.results import Result, judge_paired
from fusion.io.run_checkpoint import Checkpoint
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import Plan
from fusion.learning.cross_validation import cross_validate
from fusion.learning.fits import Fits
from fusion.learning.recipe import Recipe

#: Shares of the subjects of every training part, of each class alike; all of them are the result itself.
SHARES = (0.25, 0.5, 0.75)


def check_learning_curve(recipes: Sequence[Recipe], wanted: bool) -> None:
    """UsageError where a curve would train networks."""
    if wanted and (networks := [one for one in recipes if one.takes_images or one.learnt]):
        raise UsageError(
            "--learning-curve would train networks for each of its points",
            found=networks[0].name.replace("/", " on "),
            do="Leave it out, or compare classifiers of measured blocks alone.",
        )


def smaller_split(split: Split, y: NDArray[Any], share: float, seed: int) -> Split | None:
    """The split with so many of its training groups, of each class alike; None where a class would have fewer than two.

    Groups are drawn in an order of their own, so that those of a small share are among those of a larger one.
    """
    ids = split.groups[split.train]
    groups, first = np.unique(ids, return_index=True)
    labels = y[split.train][first].astype(str)  # of several classes, that of its first cell
    rank = np.random.default_rng([seed, len(groups)]).permutation(len(groups))
    kept = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept.append(groups[own[np.argsort(rank[own])][: round(share * len(own))]])
    train = split.train[np.isin(ids, np.concatenate(kept))]
    held = {label: len(np.unique(split.groups[train][y[train].astype(str) == label])) for label in np.unique(labels)}
    return Split(train, split.test, split.groups) if min(held.values()) > 1 else None


def learning_curve(result: Result, fits: Fits, plan: Plan, seed: int) -> dict[str, Any]:
    """Balanced accuracy of the best entry over the subjects that it learns from.

    Returns
    -------
    Plain values: "features", "classifier", and "points" {"share", "subjects" (mean of the training parts), "cells",
    "balanced_accuracy" and "auroc" {"value", "low", "high"}}, ascending; the last is the result itself. Fewer points
    where a share would leave a class with a single subject.
    """
    best = result.ranked()[0]
    own = replace(fits, recipes=(fits.recipes[best],))
    y = np.array(result.cells.y, object)
    points = []
    for share in SHARES:
        smaller = [smaller_split(split, y, share, seed + at) for at, split in enumerate(fits.splits)]
        splits = tuple(split for split in smaller if split is not None)
        if len(splits) < len(smaller):
            continue
        kept = fits.run.checkpoint
        folder = None if kept is None else Checkpoint(kept.folder / f"share-{share}")
        less = replace(own, splits=splits, run=replace(fits.run, checkpoint=folder))
        (scores,) = cross_validate(less, _plan_of(plan, splits), "learning curve")
        figures, _ = judge_paired(result.cells, scores, result.classes, result.positive)
        points.append({"share": share, **_size(splits), **_figures(figures)})
    points.append({"share": 1.0, **_size(fits.splits), **_figures(result.figures[best])})
    scores = result.scores[best]
    return {"features": list(scores.features), "classifier": scores.classifier, "points": points}


def _plan_of(plan: Plan, splits: Sequence[Split]) -> Plan:
    """The plan with these splits in the places of its own."""
    left = iter(splits)
    return replace(plan, rounds=tuple(tuple(next(left) for _ in part) for part in plan.rounds))


def _size(splits: Sequence[Split]) -> dict[str, float]:
    return {
        "subjects": float(np.mean([len(np.unique(split.groups[split.train])) for split in splits])),
        "cells": float(np.mean([len(split.train) for split in splits])),
    }


def _figures(figures: Any) -> dict[str, Any]:
    return {
        metric: {part: figures["image"][metric][part] for part in ("value", "low", "high")}
        for metric in ("balanced_accuracy", "auroc")
    }
