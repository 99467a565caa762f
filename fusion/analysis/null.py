"""What the whole road scores where there is nothing to learn: labels permuted by subject.

A figure above chance may come from the cells, or from a leak, or from having been picked as the best of many. Where the
labels of whole subjects change hands and everything else stays (features, folds, search, calibration, the choice of the
best), only the latter two are left.

Sources: Ojala and Garriga (2010), JMLR 11:1833-1863 (permutation tests of classifiers); Phipson and Smyth (2010), Stat.
Appl. Genet. Mol. Biol. 9:39 (their p-value, which is never 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import Plan
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit, Fits
from fusion.learning.recipe import Recipe
from fusion.metrics.classification import pooled
from fusion.metrics.scored_rows import METRICS, prepare

_Floats = NDArray[np.float64]

#: The figures that are held against their null distribution.
JUDGED = ("balanced_accuracy", "auroc")

#: Draws of labels for one permutation before it is given up: in nearly all data sets the first one is kept.
_DRAWS = 1000

#: Bytes of probabilities that are held at a time; permutations beyond are done in turns.
_HELD = 500e6


def check_null(recipes: Sequence[Recipe], count: int) -> None:
    """UsageError where permutations would train networks."""
    if count and (networks := [one for one in recipes if one.takes_images or one.learnt]):
        raise UsageError(
            f"--null would train networks {count} times over",
            found=networks[0].name.replace("/", " on "),
            do="Leave --null out, or compare classifiers of measured blocks alone.",
        )


def permuted_labels(
    y: Sequence[Any], groups: NDArray[np.intp], splits: Sequence[Split], count: int, seed: int
) -> list[NDArray[Any]]:
    """``count`` times n labels, permuted so that subjects stay whole.

    Where every group has one label, groups exchange theirs; where groups hold several, cells exchange them within their
    group. Every training part keeps two groups of each class.

    Parameters
    ----------
    y, groups : n labels and group numbers.
    splits : by which cells are learnt from.

    Raises
    ------
    UsageError : no such permutation is found.
    """
    labels = np.array(y, object)
    ids = np.unique(groups, return_inverse=True)[1]
    first = np.unique(ids, return_index=True)[1]
    is_pure = bool((labels == labels[first][ids]).all())
    classes = sorted(set(labels.tolist()), key=str)
    rng = np.random.default_rng([seed, 0x6E756C6C])  # apart from every other choice of this seed
    found: list[NDArray[Any]] = []
    for _ in range(count):
        for _ in range(_DRAWS):
            drawn = labels[first][rng.permutation(len(first))][ids] if is_pure else _within(labels, ids, rng)
            if all(_groups_of(drawn, ids, split.train, label) > 1 for split in splits for label in classes):
                found.append(drawn)
                break
        else:
            raise UsageError(
                "--null finds no permutation that leaves two subjects of every class to learn from",
                found=", ".join(f"{len(set(ids[labels == label]))} of {label}" for label in classes),
                do="Leave --null out, or give more subjects.",
            )
    return found


def _within(labels: NDArray[Any], ids: NDArray[np.intp], rng: np.random.Generator) -> NDArray[Any]:
    drawn, order = labels.copy(), rng.permutation(len(ids))
    drawn[np.argsort(ids, kind="stable")] = labels[order[np.argsort(ids[order], kind="stable")]]
    return drawn


def _groups_of(labels: NDArray[Any], ids: NDArray[np.intp], rows: NDArray[np.intp], label: Any) -> int:
    return len(np.unique(ids[rows][labels[rows] == label]))


def null_distribution(result: Result, fits: Fits, plan: Plan, count: int, seed: int) -> dict[str, Any]:
    """What every entry scores by permuted labels, in the same splits.

    Fits of a split share scaled blocks and distances with each other, whatever the labels.

    Parameters
    ----------
    result : by the true labels; one entry a recipe of ``fits``.
    count : permutations.

    Returns
    -------
    Plain values: "permutations"; "rows", for each entry "features", "classifier" and by metric of ``JUDGED``
    {"value" (by the true labels), "mean", "low", "high" (of 95% of the permutations), "p"}; "best", the same of the
    highest balanced accuracy of all entries in each permutation.
    """
    labels = _labels(result, fits, plan, count, seed)
    held = len(fits.recipes) * len(plan.rounds) * len(result.cells) * len(result.classes) * 8
    at_once = max(1, int(_HELD // held))
    values = np.concatenate(
        [
            _values(result, replace(fits, permuted=tuple(labels)), plan, range(start, min(start + at_once, count)))
            for start in range(0, count, at_once)
        ]
    )
    rows = []
    for at, scores in enumerate(result.scores):
        figures = result.figures[at]["image"]
        held_against = {
            metric: _held_against(figures[metric]["value"], values[:, at, column])
            for column, metric in enumerate(JUDGED)
        }
        rows.append({"features": list(scores.features), "classifier": scores.classifier, **held_against})
    best = max(figures["image"]["balanced_accuracy"]["value"] for figures in result.figures)
    return {"permutations": count, "rows": rows, "best": _held_against(best, values[:, :, 0].max(axis=1))}


def _labels(result: Result, fits: Fits, plan: Plan, count: int, seed: int) -> list[NDArray[Any]]:
    """``count`` times n permuted labels; those of an external test set stay."""
    y = np.array(result.cells.y, object)
    if plan.kind != "external":
        return permuted_labels(y.tolist(), result.cells.groups, fits.splits, count, seed)
    (split,) = fits.splits
    groups = split.groups[split.train]
    inner = Split(np.arange(len(split.train)), np.arange(0), groups)
    found = []
    for drawn in permuted_labels(y[split.train].tolist(), groups, [inner], count, seed):
        own = y.copy()
        own[split.train] = drawn
        found.append(own)
    return found


def _values(result: Result, fits: Fits, plan: Plan, numbers: range) -> _Floats:
    """float64 (permutations, entries, metrics)."""
    rounds = np.array([number for number, _ in plan.splits])
    shape = (len(numbers), len(fits.recipes), len(plan.rounds), len(result.cells))
    proba, thresholds = np.full((*shape, len(result.classes)), np.nan), np.full(shape, np.nan)
    costs = np.full_like(proba, np.nan)
    fold = np.full(shape[2:], -1, np.intp)
    for at, (number, split) in enumerate(plan.splits):
        fold[number, split.test] = at
    every = [
        Fit(recipe, split, number + 1)
        for number in numbers
        for recipe in range(len(fits.recipes))
        for split in range(len(fits.splits))
    ]
    for done, found in enumerate(run_fits(every, fits), start=1):
        where = (found.fit.labels - 1 - numbers.start, found.fit.recipe, rounds[found.fit.split])
        tested = fits.splits[found.fit.split].test
        proba[where][tested], thresholds[where][tested] = found.proba, found.threshold
        costs[where][tested] = found.expected_costs
        fits.run.tell("permuting labels", done, len(every))
    has_rule = [recipe.decision.has_rule for recipe in fits.recipes]
    is_binary = len(result.classes) == 2

    def figures(at: int, number: int, entry: int) -> list[float]:
        limit = thresholds[at, entry] if has_rule[entry] and is_binary else None
        cost = costs[at, entry] if has_rule[entry] and not is_binary else None
        own = replace(result.scores[entry], proba=proba[at, entry], fold=fold, threshold=limit, costs=cost)
        return _figures(result, fits.permuted[number], own)

    return np.array(
        [[figures(at, number, entry) for entry in range(len(fits.recipes))] for at, number in enumerate(numbers)]
    )


def _figures(result: Result, labels: NDArray[Any], own: Scores) -> list[float]:
    """Balanced accuracy and AUROC, cell by cell, as ``judge_scores`` has them."""
    y, scores, ids, repeat, cell = pooled(labels, own.proba, result.cells.groups)
    column = None if result.positive is None else result.classes.index(result.positive)
    predicted = own.predicted(column)[repeat, cell]
    rows = prepare(y, scores, result.classes, ids, result.positive, predicted=predicted, parts=own.fold[repeat, cell])
    figures = rows.figures(np.ones((rows.n_groups, 1)))[0]
    return [float(figures[METRICS.index(metric)]) for metric in JUDGED]


def _held_against(value: float, null: _Floats) -> dict[str, float]:
    low, high = np.quantile(null, (0.025, 0.975))
    return {
        "value": float(value),
        "mean": float(null.mean()),
        "low": float(low),
        "high": float(high),
        "p": float((1 + np.count_nonzero(null >= value - 1e-12)) / (len(null) + 1)),
    }
