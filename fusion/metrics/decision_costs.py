"""What wrong predictions cost, and the class that is predicted because it costs least.

A cell of K classes is predicted as the class whose expected cost is least (Elkan 2001, IJCAI, 973-978): the sum over
classes of the cell's probability of each times what the prediction costs where that one is true. Thresholds of several
classes are a case of it: where a wrong prediction costs 1 / t of the true class, the class with the highest
probability over its threshold is predicted. Of two classes both are one threshold of the positive class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError, did_you_mean

_Floats = NDArray[np.float64]

#: What was given for two classes: true class -> predicted class -> cost.
Costs = Mapping[str, Mapping[str, float]]


def cost_matrix(classes: Sequence[str], costs: Costs) -> _Floats:
    """float64 (K, K), what predicting each class (columns) costs where each (rows) is true.

    What is right costs 0, and a mistake that ``costs`` does not name 1.

    Parameters
    ----------
    classes : K labels, the order of rows and columns.
    costs : true class -> predicted class -> cost.

    Raises
    ------
    UsageError : it names a class that is not there.

    Examples
    --------
    >>> cost_matrix(["all", "hem"], {"all": {"hem": 5}}).tolist()
    [[0.0, 5.0], [1.0, 0.0]]
    """
    found = 1 - np.eye(len(classes))
    for true, row in costs.items():
        for predicted, cost in row.items():
            for name in (true, predicted):
                if name not in classes:
                    raise UsageError(
                        "costs name a class that is not among the cells",
                        found=name,
                        expected=", ".join(classes),
                        do=did_you_mean(name, classes),
                    )
            found[classes.index(true), classes.index(predicted)] = cost
    return found


def threshold_matrix(classes: Sequence[str], thresholds: Mapping[str, float]) -> _Floats:
    """float64 (K, K): costs under which the class with the highest probability over its threshold costs least.

    Raises
    ------
    UsageError : not one threshold for each class.

    Examples
    --------
    >>> threshold_matrix(["a", "b"], {"a": 0.5, "b": 0.25}).tolist()
    [[0.0, 2.0], [4.0, 0.0]]
    """
    if sorted(thresholds) != sorted(classes):
        raise UsageError(
            "--threshold names other classes than those of the cells",
            found=", ".join(thresholds),
            expected=", ".join(classes),
            do="Give one threshold for each class.",
        )
    return (1 - np.eye(len(classes))) / np.array([thresholds[name] for name in classes])[:, None]


def expected_costs(proba: _Floats, costs: _Floats) -> _Floats:
    """float64 (n, K), what predicting each class costs on average, by float64 (n, K) probabilities and (K, K) costs.

    The same bits for a row whichever rows are beside it, which a product of matrices does not promise.
    """
    return np.asarray((proba[:, :, None] * costs).sum(axis=1), np.float64)


def threshold_of(costs: _Floats, positive: int) -> float:
    """From which probability of class ``positive`` of two it costs less to predict it, by (2, 2) costs.

    >>> threshold_of(np.array([[0.0, 1.0], [4.0, 0.0]]), 1)
    0.2
    """
    false, missed = costs[1 - positive, positive], costs[positive, 1 - positive]
    return float(false / (false + missed))


def fixed_rule(
    classes: Sequence[str], positive: str | None, thresholds: float | Mapping[str, float] | None, costs: Costs
) -> tuple[float | None, _Floats | None]:
    """The threshold of two classes, or the (K, K) costs of more, that follow from what is given without any scores.

    Parameters
    ----------
    positive : the class that a threshold is of.
    thresholds : a number for two classes, one for each class, or None.
    costs : true class -> predicted class -> cost; {} for none. Probabilities are then taken at their word.

    Raises
    ------
    UsageError : a single number for more than two classes, or names of other classes.

    Examples
    --------
    >>> fixed_rule(["a", "b"], "b", None, {"b": {"a": 4}})
    (0.2, None)
    """
    if isinstance(thresholds, float | int):
        if len(classes) != 2:
            raise UsageError(
                "one threshold is for two classes",
                found=f"{thresholds:g} for {len(classes)}: {', '.join(classes)}",
                expected="one for each class: --threshold " + ",".join(f"{name}:SHARE" for name in classes),
            )
        return float(thresholds), None
    if thresholds is None and not costs:
        return None, None
    matrix = cost_matrix(classes, costs) if thresholds is None else threshold_matrix(classes, thresholds)
    if len(classes) == 2 and positive is not None:
        return threshold_of(matrix, list(classes).index(positive)), None
    return None, matrix
