"""What an entry's mistakes cost on average, by the costs that were stated for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.metrics.classification import pooled
from fusion.metrics.decision_costs import Costs, cost_matrix
from fusion.metrics.jackknife import Strata, influences, intervals, spread_of, spread_of_procedure
from fusion.metrics.judgement import MODELS, PROCEDURE

_Floats = NDArray[np.float64]


def mean_costs(result: Result, costs: Costs) -> dict[str, Any]:
    """The mean cost of a cell's prediction for every entry, and what it would be by most probable classes.

    Parameters
    ----------
    costs : true class -> predicted class -> cost; see ``metrics.decision_costs.cost_matrix``.

    Returns
    -------
    Plain values: "classes"; "matrix", a row for each true and a column for each predicted class; "rows", an entry each,
    the cheapest first: "features", "classifier", "value", "low", "high" (95%, by subject; of the procedure where
    several models scored the cells), "kind", and "most_probable", the mean cost without a rule. Costs are means over
    cells, at the shares of classes among them.
    """
    matrix = cost_matrix(list(result.classes), costs)
    rows = [_row(result, at, scores, matrix) for at, scores in enumerate(result.scores)]
    rows.sort(key=lambda row: float(row["value"]))
    return {"classes": list(result.classes), "matrix": matrix.tolist(), "rows": rows}


def _row(result: Result, at: int, scores: Scores, matrix: _Floats) -> dict[str, Any]:
    column = None if result.positive is None else list(result.classes).index(result.positive)
    predicted = scores.predicted(column)
    y, proba, ids, repeat, cell = pooled(np.array(result.cells.y, object), scores.proba, result.cells.groups)
    codes = np.array([list(result.classes).index(label) for label in y.tolist()], np.intp)
    group = np.unique(ids, return_inverse=True)[1]
    paid = matrix[codes, predicted[repeat, cell]]
    strata = Strata.from_counts(_counts(group, codes, len(result.classes)), list(result.classes))
    variation = result.variations[at]
    whole = _influences(paid, group, strata)
    repeats = [_influences(paid[repeat == one], group[repeat == one], strata) for one in np.unique(repeat)]
    tests_everyone = all(len(np.unique(group[repeat == one])) == len(strata.of) for one in np.unique(repeat))
    if variation.test_share is None:
        spread = spread_of(whole, strata)
    else:
        by_repeat = np.array(repeats) if tests_everyone else None
        spread = spread_of_procedure(whole, by_repeat, strata, variation.test_share)
    value = float(paid.mean())
    low, high, _ = intervals([value], spread, [strata.smallest], 0.0, float(matrix.max()), is_share=True)
    return {
        "features": list(scores.features),
        "classifier": scores.classifier,
        "value": value,
        "low": float(low[0]),
        "high": float(high[0]),
        "kind": MODELS if variation.test_share is None else PROCEDURE,
        "most_probable": float(matrix[codes, proba.argmax(axis=1)].mean()),
    }


def _counts(group: NDArray[np.intp], codes: NDArray[np.intp], k: int) -> _Floats:
    size = int(group.max(initial=-1)) + 1
    return np.bincount(group * k + codes, minlength=size * k).reshape(size, k).astype(np.float64)


def _influences(paid: _Floats, group: NDArray[np.intp], strata: Strata) -> _Floats:
    """float64 (groups, 1), of the mean cost."""
    total, rows = (np.bincount(group, part, len(strata.of)) for part in (paid, np.ones(len(paid))))
    return influences(((total.sum() - total) / np.maximum(rows.sum() - rows, 1))[:, None], strata)
