"""Differences between the entries of results on the same cells, each with its interval and its paired tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.evaluation import _paired_tests
from fusion.evaluation.best_of_many import Best, best_of
from fusion.evaluation.scores import IMAGE, Scores, entry_name
from fusion.evaluation.shapley import block_contributions, sampled_contributions
from fusion.evaluation.variation import Combined, Variation
from fusion.features.blocks import is_control
from fusion.metrics import classification

if TYPE_CHECKING:
    import pandas as pd

    from fusion.evaluation.results import Result

_Floats = NDArray[np.float64]

#: Metrics of which differences are told.
DIFFERENCES = ("balanced_accuracy", "auroc")

#: What none of the blocks achieves.
_CHANCE_AUROC = 0.5


def pairwise(
    cells: FeatureTable,
    classes: Sequence[str],
    positive: str | None,
    first: Scores,
    second: Scores,
    figures: tuple[Mapping[str, Any], Mapping[str, Any]],
    variations: tuple[Variation, Variation],
    margin: float | None = None,
) -> dict[str, Any]:
    """``first`` minus ``second``, with the primary test of each metric and the secondary ones of balanced accuracy.

    The primary test is the jackknife's, of ``Variation``: of the two procedures, where models were cross-validated. The
    secondary ones hold the models fixed, so that they find more than there is between two ways of building a model.

    Returns
    -------
    Plain values: "first", "second" (names); for "balanced_accuracy" and "auroc", cell by cell, what
    ``Combined.difference`` says; of fixed models "permutation_p" (balanced accuracy, subjects change sides), "delong_p"
    (AUROC, two classes only) and "mcnemar_p" (by cell, a reference). McNemar's takes the first round of each; so
    does the permutation where rounds are not the same.
    """
    found: dict[str, Any] = {"first": entry_name(first), "second": entry_name(second)}
    for metric in DIFFERENCES:
        value = figures[0]["image"][metric]["value"] - figures[1]["image"][metric]["value"]
        combined = variations[0].combined([variations[1]], (1.0, -1.0), ("image", metric))
        found[metric] = combined.difference(value, margin)
    return {**found, **_of_fixed_models(cells, classes, positive, first, second)}


def _of_fixed_models(
    cells: FeatureTable, classes: Sequence[str], positive: str | None, first: Scores, second: Scores
) -> dict[str, float]:
    """p-values of tests that hold the models fixed."""
    found: dict[str, float] = {}
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
            scores.predicted(column)[row[3], row[4]] == codes for row, scores in zip(rows, (first, second), strict=True)
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
    return found


def best_entry(result: Result, metric: str = "balanced_accuracy", level: str = "image") -> Best:
    """The best entry of a result, how good it is once it was picked, and which others it cannot be told from."""
    values = [figures[level][metric]["value"] for figures in result.figures]
    sizes = [scores.blocks for scores in result.scores]
    samples, seed = (int(result.facts.get(key, other)) for key, other in (("samples", 2000), ("seed", 0)))
    return best_of(values, result.variations, sizes, (level, metric), samples=samples, seed=seed)


def best_row(result: Result) -> dict[str, Any]:
    """Plain values of ``best_entry``: "entry", "value", "corrected", "low", "high", "kind", "not_distinguished" and
    "ties" (names, the best first)."""
    found = best_entry(result)
    names = [entry_name(scores) for scores in result.scores]
    return {
        "entry": names[found.at],
        "value": found.value,
        "corrected": found.corrected,
        "low": found.low,
        "high": found.high,
        "kind": result.variations[found.at].kind,
        "not_distinguished": [names[at] for at in found.not_distinguished],
        "ties": [names[at] for at in found.ties],
    }


def against_best(result: Result, margin: float | None = None) -> list[dict[str, Any]]:
    """The best entry minus each other one, the nearest first, each with "p_adjusted": the family-wise error at which it
    is told from the best, whichever that turned out to be (``best_of_many.told_from_best``)."""
    best = best_entry(result)
    rows = []
    for at in result.ranked():
        if at == best.at:
            continue
        row = pairwise(
            result.cells,
            result.classes,
            result.positive,
            result.scores[best.at],
            result.scores[at],
            (result.figures[best.at], result.figures[at]),
            (result.variations[best.at], result.variations[at]),
            margin,
        )
        rows.append({**row, "p_adjusted": float(best.p[at])})
    return rows


#: Columns of ``difference_frame``.
COLUMNS = ("entry_a", "entry_b", "metric", "difference", "low", "high", "p", "p_adjusted", "test", "kind")


def difference_frame(result: Result) -> pd.DataFrame:
    """Every pair of entries, metric by metric: ``COLUMNS``.

    "test" says which family "p_adjusted" is of: "primary", a comparison named beforehand, which stands for itself;
    "best", the best entry against each other one, whichever turned out to be the best
    (``best_of_many.told_from_best``); "pair", all pairs of entries (Holm 1979).
    """
    import pandas as pd

    rows = [row for metric in DIFFERENCES for row in _difference_rows(result, metric)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _difference_rows(result: Result, metric: str) -> list[dict[str, Any]]:
    """The rows of one metric: the primary comparison, the best against each other entry, then all other pairs."""
    names = [entry_name(scores) for scores in result.scores]
    best = best_entry(result, metric) if len(names) > 1 else None
    primary = result.findings.get("primary")
    named = (primary["first"], primary["second"]) if primary else None
    rows = []
    for pair in combinations(range(len(names)), 2):
        a, b = pair if best is None or pair[1] != best.at else pair[::-1]
        if named and {names[a], names[b]} == set(named):
            a, b = names.index(named[0]), names.index(named[1])
        found = _difference_of(result, a, b, metric)
        test = "primary" if (names[a], names[b]) == named else "best" if best and best.at in pair else "pair"
        rows.append({"entry_a": names[a], "entry_b": names[b], "metric": metric, "test": test, "at": (a, b), **found})
    for row, holm in zip(rows, _paired_tests.holm([row["p"] for row in rows]), strict=True):
        (other,) = {*row["at"]} - {best.at if best else -1} if row["test"] == "best" else (0,)
        of_best = float(best.p[other]) if best else math.nan
        row["p_adjusted"] = {"primary": row["p"], "best": of_best, "pair": holm}[row["test"]]
    return sorted(rows, key=lambda row: ("primary", "best", "pair").index(row["test"]))


def _difference_of(result: Result, a: int, b: int, metric: str) -> dict[str, Any]:
    """One metric of entry ``a`` minus that of ``b``."""
    value = result.figures[a]["image"][metric]["value"] - result.figures[b]["image"][metric]["value"]
    combined = result.variations[a].combined([result.variations[b]], (1.0, -1.0), ("image", metric))
    found = combined.difference(value)
    return {"difference": value, **{part: found[part] for part in ("low", "high", "p", "kind")}}


def with_adjusted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of comparisons that were named beforehand with "p_adjusted": Holm's adjustment over the table."""
    adjusted = _paired_tests.holm([row["balanced_accuracy"]["p"] for row in rows])
    return [{**row, "p_adjusted": p} for row, p in zip(rows, adjusted, strict=True)]


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
    entries = {
        frozenset(s.features): at
        for at, s in enumerate(result.scores)
        if s.classifier == classifier and not any(is_control(name) for name in s.features)
    }
    takes_images = any(IMAGE in features for features in entries)
    held = {features - {IMAGE}: at for features, at in entries.items()}
    alone = held.pop(frozenset(), None)
    named = dict.fromkeys(name for s in result.scores for name in s.features)
    blocks = [name for name in named if any(name in features for features in held)]
    is_whole = len(held) == 2 ** len(blocks) - 1
    if len(blocks) < 2 or not (is_whole or _are_begun(blocks, orders, held)) or (takes_images and alone is None):
        return
    for metric in DIFFERENCES:
        like = result.variations[next(iter(held.values()))].combined((), (1.0,), ("image", metric))
        values = {subset: _with_influences(result, at, metric) for subset, at in held.items()}
        values[frozenset()] = _of_no_block(result, metric, alone, like)

        def figure(parts: _Floats, reach: float, like: Combined = like) -> dict[str, float]:
            groups = len(like.influence)
            repeats = parts[1 + groups :].reshape(-1, groups)
            varied = replace(like, influence=parts[1 : 1 + groups], by_repeat=repeats)
            return varied.figure(float(parts[0]), -reach, reach)

        judged = (
            block_contributions(blocks, values, figure)
            if is_whole
            else sampled_contributions(blocks, values, orders, figure)
        )
        yield {"classifier": classifier, "metric": metric, "kind": result.variations[0].kind, **judged}


def _of_no_block(result: Result, metric: str, alone: int | None, like: Combined) -> _Floats:
    """What an entry of images alone achieves; where there is none, what chance does, which does not vary."""
    if alone is not None:
        return _with_influences(result, alone, metric)
    chance = 1 / len(result.classes) if metric == "balanced_accuracy" else _CHANCE_AUROC
    return np.append(chance, np.zeros(like.influence.size + like.by_repeat.size))


def _are_begun(blocks: Sequence[str], orders: Sequence[Sequence[str]], held: Mapping[frozenset[str], int]) -> bool:
    """Whether every set that begins one of the sampled orders was compared."""
    begun = {frozenset(order[:length]) for order in orders for length in range(1, len(order) + 1)}
    begun |= {frozenset(blocks) - {block} for block in blocks} | {frozenset([block]) for block in blocks}
    return bool(orders) and begun <= set(held)


def _with_influences(result: Result, at: int, metric: str) -> _Floats:
    """float64: a figure of an entry, cell by cell, then the influences of all groups, and those of each repeat."""
    variation, key = result.variations[at], ("image", metric)
    value = result.figures[at]["image"][metric]["value"]
    return np.concatenate([[value], variation.influences[key], variation.by_repeat[key].ravel()])


def optimism(honest: Result, leaky: Result) -> dict[str, Any]:
    """How much kinder a random split is than one by subject, entry by entry and on average.

    Both results hold the same entries on the same cells. The interval says how the difference would vary over other
    subjects of the same kind.

    Returns
    -------
    "rows" and "mean": {metric: what ``Combined.difference`` says} for balanced accuracy and AUROC, cell by cell; a row
    also has "features", "classifier" and the figures "random" and "grouped" of each metric.
    """
    rows: list[dict[str, Any]] = []
    mean: dict[str, dict[str, Any]] = {}
    for at, scores in enumerate(honest.scores):
        row: dict[str, Any] = {"features": list(scores.features), "classifier": scores.classifier}
        for metric in DIFFERENCES:
            random, grouped = (part.figures[at]["image"][metric]["value"] for part in (leaky, honest))
            varied = leaky.variations[at].combined([honest.variations[at]], (1.0, -1.0), ("image", metric))
            row[metric] = {**varied.difference(random - grouped), "random": random, "grouped": grouped}
        rows.append(row)
    first, *others = (*leaky.variations, *honest.variations)
    share = 1 / len(honest.scores)
    weights = [share] * len(leaky.scores) + [-share] * len(honest.scores)
    for metric in DIFFERENCES:
        varied = first.combined(others, weights, ("image", metric))
        mean[metric] = varied.difference(float(np.mean([row[metric]["value"] for row in rows])))
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


def correct_predictions(
    y: NDArray[np.object_], scores: Scores, index: Mapping[str, int], positive: int | None = None
) -> _Floats:
    """float64 (n,): 1 where the first round that tested the cell predicted its class, 0 where not, NaN where none
    did."""
    codes = np.array([index[str(label)] for label in y], np.intp)
    tested = ~np.isnan(scores.proba).any(axis=2)
    first, cells = tested.argmax(axis=0), np.arange(len(codes))
    right = scores.predicted(positive)[first, cells] == codes
    return np.where(tested.any(axis=0), right, np.nan)
