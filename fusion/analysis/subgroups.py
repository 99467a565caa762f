"""The figures of subgroups of cells, by a column of the table, and which one is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result, judge_paired

#: The figures that are told of each subgroup.
TOLD = ("balanced_accuracy", "auroc", "sensitivity", "specificity")

#: Values of a column of numbers above which they are put into three parts of equally many subjects.
_MOST_NUMBERS = 8

#: What is unknown of a cell.
UNKNOWN = "unknown"


def subgroup_names(values: Sequence[str | None]) -> list[str]:
    """n names of subgroups: the values themselves; of more than eight different numbers, thirds of the cells.

    >>> subgroup_names(["a", None])
    ['a', 'unknown']
    >>> subgroup_names([str(at) for at in range(9)])[::4]
    ['0 to 2', '3 to 5', '6 to 8']
    """
    known = [value for value in values if value is not None]
    numbers = _numbers(known)
    if numbers is None or len(set(numbers)) <= _MOST_NUMBERS:
        return [UNKNOWN if value is None else value for value in values]
    inner = np.quantile(numbers, (1 / 3, 2 / 3))
    part = np.searchsorted(inner, numbers, side="left")
    names = {at: f"{numbers[part == at].min():g} to {numbers[part == at].max():g}" for at in np.unique(part)}
    named = iter(names[at] for at in part)
    return [UNKNOWN if value is None else next(named) for value in values]


def _numbers(known: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        found = np.array([float(value) for value in known])
    except ValueError:
        return None
    return found if len(found) and np.isfinite(found).all() else None


def subgroups(result: Result, columns: Mapping[str, Sequence[str | None]]) -> list[dict[str, Any]]:
    """What the best entry scores in every subgroup.

    Parameters
    ----------
    columns : by name, the values of the n cells.

    Returns
    -------
    Plain values, one a column: "by"; "features", "classifier"; "rows", worst first: "subgroup", "cells", "subjects",
    and {"value", "low", "high"} of every metric of ``TOLD``; "worst", the subgroup with the lowest balanced accuracy
    among those that hold every class, None where fewer than two do.
    """
    best = result.ranked()[0]
    found = []
    for column, values in columns.items():
        names = np.array(subgroup_names(values), object)
        rows = [_row(result, best, str(name), np.flatnonzero(names == name)) for name in sorted(set(names.tolist()))]
        rows.sort(key=lambda row: (not row["is_whole"], row["balanced_accuracy"]["value"]))
        whole = [row["subgroup"] for row in rows if row["is_whole"]]
        found.append(
            {
                "by": column,
                "features": list(result.scores[best].features),
                "classifier": result.scores[best].classifier,
                "rows": rows,
                "worst": whole[0] if len(whole) > 1 else None,
            }
        )
    return found


def _row(result: Result, at: int, name: str, rows: NDArray[np.intp]) -> dict[str, Any]:
    scores, cells = result.scores[at], replace(result.cells, augmented=None).take(rows)
    own = scores.take(rows)
    said: dict[str, Any] = {
        "subgroup": name,
        "cells": len(rows),
        "subjects": len(np.unique(cells.groups)),
        "classes": {label: cells.y.count(label) for label in result.classes},
        "is_whole": set(cells.y) == set(result.classes),
    }
    if np.isnan(own.proba).all():
        nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
        return {**said, "is_whole": False, **{metric: dict(nothing) for metric in TOLD}}
    figures, _ = judge_paired(cells, own, result.classes, result.positive)
    return said | {
        metric: {part: figures["image"][metric][part] for part in ("value", "low", "high")} for metric in TOLD
    }
