"""Differences between the entries of results on the same cells, each with its interval and its paired tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.evaluation import _paired_tests
from fusion.evaluation.results import Result
from fusion.evaluation.scores import IMAGE, Scores, entry_name
from fusion.evaluation.shapley import block_contributions, sampled_contributions
from fusion.leakage.protocols import Plan
from fusion.metrics import classification
from fusion.metrics.cluster_bootstrap import bootstrap_p, percentile

_Floats = NDArray[np.float64]
Replicates = Mapping[tuple[str, str], _Floats]

#: What none of the blocks achieves.
_CHANCE_AUROC = 0.5


def pairwise(
    cells: FeatureTable,
    classes: Sequence[str],
    positive: str | None,
    first: Scores,
    second: Scores,
    figures: tuple[Mapping[str, Any], Mapping[str, Any]],
    replicates: tuple[Replicates, Replicates],
    test_share: float | None = None,
) -> dict[str, Any]:
    """``first`` minus ``second``, with every paired test that applies.

    Returns
    -------
    Plain values: "first", "second" (names); for "balanced_accuracy" and "auroc" {"value", "low", "high", "p"} cell by
    cell, by cluster bootstrap; "permutation_p" (balanced accuracy, subjects change sides), "delong_p" (AUROC, two
    classes only), "corrected_t_p" (balanced accuracy, fold by fold; with ``test_share`` only), "mcnemar_p" (by cell, a
    reference). McNemar's takes the first round of each; so does the permutation where rounds are not the same.
    """
    found: dict[str, Any] = {"first": entry_name(first), "second": entry_name(second)}
    for metric in ("balanced_accuracy", "auroc"):
        value = figures[0]["image"][metric]["value"] - figures[1]["image"][metric]["value"]
        found[metric] = _difference(value, replicates[0]["image", metric] - replicates[1]["image", metric])
    y = np.array(cells.y, object)
    index = {str(label): at for at, label in enumerate(classes)}
    rows = [classification.pooled(y, scores.proba, cells.groups) for scores in (first, second)]
    column = None if positive is None else index[positive]
    right_one, right_other = (correct_predictions(y, scores, index, column) for scores in (first, second))
    tested = ~np.isnan(right_one) & ~np.isnan(right_other)
    found["mcnemar_p"] = _paired_tests.mcnemar_p(right_one[tested] == 1, right_other[tested] == 1)
    found["delong_p"] = float("nan")
    if all(np.array_equal(rows[0][part], rows[1][part]) for part in (3, 4)):  # the same cells in the same rounds
        labels, groups = rows[0][0], rows[0][2]
        codes = np.array([index[label] for label in labels.tolist()], np.intp)
        right = [
            classification.predicted_classes(
                row[1], None if scores.threshold is None else scores.threshold[row[3], row[4]], column
            )
            == codes
            for row, scores in zip(rows, (first, second), strict=True)
        ]
        found["permutation_p"] = _paired_tests.permutation_p(right[0], right[1], codes, groups)
        if positive is not None:
            a, b = (scores[:, index[positive]] for _, scores, *_ in rows)
            found["delong_p"] = _paired_tests.clustered_delong(labels == positive, a, b, groups).p
    else:
        codes = np.array([index[str(label)] for label in y[tested]], np.intp)
        found["permutation_p"] = _paired_tests.permutation_p(
            right_one[tested], right_other[tested], codes, cells.groups[tested]
        )
    found["corrected_t_p"] = float("nan")
    if test_share is not None:
        gaps = fold_values(y, first, index, column) - fold_values(y, second, index, column)
        found["corrected_t_p"] = _paired_tests.corrected_t_p(gaps.tolist(), test_share)
    return found


def against_best(result: Result, plan: Plan | None) -> list[dict[str, Any]]:
    """The best entry minus each other one, with Holm's adjustment of the permutation tests over all of them."""
    best, *others = result.ranked()
    share = plan.test_share() if plan is not None and len(plan.splits) > 1 else None
    rows = [
        pairwise(
            result.cells,
            result.classes,
            result.positive,
            result.scores[best],
            result.scores[at],
            (result.figures[best], result.figures[at]),
            (result.replicates[best], result.replicates[at]),
            share,
        )
        for at in others
    ]
    return with_holm(rows)


def with_holm(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with "holm_p", the permutation test's p adjusted over the table."""
    adjusted = _paired_tests.holm([row["permutation_p"] for row in rows])
    return [{**row, "holm_p": p} for row, p in zip(rows, adjusted, strict=True)]


def contributions_of_blocks(result: Result, orders: Sequence[Sequence[str]] = ()) -> list[dict[str, Any]]:
    """Contribution of each block to each classifier, where every subset of its two or more blocks was compared.

    A classifier of images is given them beside every set: what its blocks add is added to what images alone achieve.

    Parameters
    ----------
    orders : were sampled; they serve where only the sets that begin them were compared.
    """
    classifiers = dict.fromkeys(scores.classifier for scores in result.scores)
    return [row for classifier in classifiers for row in _contributions_to(result, classifier, orders)]


def _contributions_to(result: Result, classifier: str, orders: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """A row for each metric; none where too few sets were compared."""
    entries = {frozenset(s.features): at for at, s in enumerate(result.scores) if s.classifier == classifier}
    takes_images = any(IMAGE in features for features in entries)
    held = {features - {IMAGE}: at for features, at in entries.items()}
    alone = held.pop(frozenset(), None)
    named = dict.fromkeys(name for s in result.scores for name in s.features)
    blocks = [name for name in named if any(name in features for features in held)]
    is_whole = len(held) == 2 ** len(blocks) - 1
    if len(blocks) < 2 or not (is_whole or _are_begun(blocks, orders, held)) or (takes_images and alone is None):
        return
    for metric in ("balanced_accuracy", "auroc"):
        values = {subset: _with_replicates(result, at, metric) for subset, at in held.items()}
        values[frozenset()] = _of_no_block(result, metric, alone)
        judged = block_contributions(blocks, values) if is_whole else sampled_contributions(blocks, values, orders)
        yield {"classifier": classifier, "metric": metric, **judged}


def _of_no_block(result: Result, metric: str, alone: int | None) -> _Floats:
    """What an entry of images alone achieves; where there is none, what chance does."""
    if alone is not None:
        return _with_replicates(result, alone, metric)
    chance = 1 / len(result.classes) if metric == "balanced_accuracy" else _CHANCE_AUROC
    return np.full_like(_with_replicates(result, 0, metric), chance)


def _are_begun(blocks: Sequence[str], orders: Sequence[Sequence[str]], held: Mapping[frozenset[str], int]) -> bool:
    """Whether every set that begins one of the sampled orders was compared."""
    begun = {frozenset(order[:length]) for order in orders for length in range(1, len(order) + 1)}
    begun |= {frozenset(blocks) - {block} for block in blocks} | {frozenset([block]) for block in blocks}
    return bool(orders) and begun <= set(held)


def _with_replicates(result: Result, at: int, metric: str) -> _Floats:
    """float64 (1 + bootstrap,): a figure of an entry, cell by cell, and its replicates."""
    return np.append(result.figures[at]["image"][metric]["value"], result.replicates[at]["image", metric])


def optimism(honest: Result, leaky: Result) -> dict[str, Any]:
    """How much kinder a random split is than one by subject, entry by entry and on average, resampling subjects.

    Both results hold the same entries on the same cells. The interval says how the difference would vary over other
    subjects of the same kind.

    Returns
    -------
    "rows" and "mean": {metric: {"value", "low", "high", "p"}} for balanced accuracy and AUROC, cell by cell; a row also
    has "features", "classifier" and the figures "random" and "grouped" of each metric.
    """
    rows: list[dict[str, Any]] = []
    model_inputs: dict[str, list[tuple[float, _Floats]]] = {"balanced_accuracy": [], "auroc": []}
    for at, scores in enumerate(honest.scores):
        row: dict[str, Any] = {"features": list(scores.features), "classifier": scores.classifier}
        for metric, held in model_inputs.items():
            random, grouped = (part.figures[at]["image"][metric]["value"] for part in (leaky, honest))
            drawn = leaky.replicates[at]["image", metric] - honest.replicates[at]["image", metric]
            held.append((random - grouped, drawn))
            row[metric] = {**_difference(random - grouped, drawn), "random": random, "grouped": grouped}
        rows.append(row)
    mean = {
        metric: _difference(float(np.mean([value for value, _ in held])), np.mean([drawn for _, drawn in held], axis=0))
        for metric, held in model_inputs.items()
    }
    return {"rows": rows, "mean": mean, "stamp": leaky.stamps[-1]}


def finding_lines(result: Result) -> list[str]:
    """What a terminal shows of the findings: the contribution of each block, what is lost between sources, and what a
    random split would have claimed."""
    lines = []
    for contributions in result.findings.get("shapley", ()):
        if contributions["metric"] == "balanced_accuracy":
            shares = ", ".join(f"{row['block']} {signed(row['shapley'])}" for row in contributions["blocks"])
            lines.append(
                f"What each block adds to balanced accuracy with {contributions['classifier']} (Shapley): {shares}."
            )
    if cross_site_findings := result.findings.get("cross_site"):
        best = result.scores[result.ranked()[0]]
        row = next(
            one
            for one in cross_site_findings["rows"]
            if (tuple(one["features"]), one["classifier"]) == (best.features, best.classifier)
        )
        lines.append(
            f"From sources that were learnt from to a new one, the best differs by {signed(row['drop'])} in balanced "
            f"accuracy (internal validation {row['internal']['value']:.3f})."
        )
    if leak := result.findings.get("leak"):
        lines.append(
            f"A random split of the images would have an optimistic bias of "
            f"{signed(leak['mean']['balanced_accuracy'])} in balanced "
            f"accuracy, {signed(leak['mean']['auroc'])} in AUROC, on average over {len(leak['rows'])} comparisons."
        )
    return lines


def signed(figure: Mapping[str, float]) -> str:
    """``+0.031 [-0.004, +0.070]``, or ``+0.031 (no interval)``."""
    if math.isnan(figure["value"]):
        return "undefined"
    # Adding 0 turns a rounded -0 into 0: there is no such sign to tell.
    value, low, high = (round(figure[part], 3) + 0.0 for part in ("value", "low", "high"))
    return f"{value:+.3f} (no interval)" if math.isnan(low) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def fold_values(
    y: NDArray[np.object_], scores: Scores, index: Mapping[str, int], positive: int | None = None
) -> _Floats:
    """float64 (folds over all rounds,): the balanced accuracy of each test part; NaN where a class is missing."""
    codes = np.array([index[str(label)] for label in y], np.intp)
    values = []
    for number, (proba, fold) in enumerate(zip(scores.proba, scores.fold, strict=True)):
        for at in range(fold.max() + 1):
            rows = np.flatnonzero(fold == at)
            threshold = None if scores.threshold is None else scores.threshold[number, rows]
            right = classification.predicted_classes(proba[rows], threshold, positive) == codes[rows]
            shares = [right[codes[rows] == code].mean() for code in np.unique(codes[rows])]
            values.append(float(np.mean(shares)) if len(shares) == len(index) else float("nan"))
    return np.array(values)


def correct_predictions(
    y: NDArray[np.object_], scores: Scores, index: Mapping[str, int], positive: int | None = None
) -> _Floats:
    """float64 (n,): 1 where the first round that tested the cell predicted its class, 0 where not, NaN where none
    did."""
    codes = np.array([index[str(label)] for label in y], np.intp)
    tested = ~np.isnan(scores.proba).any(axis=2)
    first, cells = tested.argmax(axis=0), np.arange(len(codes))
    proba = scores.proba[first, cells]
    threshold = None if scores.threshold is None else scores.threshold[first, cells]
    right = classification.predicted_classes(np.where(np.isnan(proba), 0, proba), threshold, positive) == codes
    return np.where(tested.any(axis=0), right, np.nan)


def _difference(value: float, replicates: _Floats) -> dict[str, float]:
    low, high = percentile(replicates[:, None])
    return {"value": value, "low": float(low[0]), "high": float(high[0]), "p": bootstrap_p(replicates)}
