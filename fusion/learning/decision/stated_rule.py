"""The rule of prediction that is stated for cells that are judged, and not learnt from any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.evaluation.scores import Scores
from fusion.metrics.decision_costs import Costs, expected_costs, fixed_rule
from fusion.settings.threshold_text import given_thresholds

#: A threshold of two classes, or (K, K) costs of more.
Rule = tuple[float | None, NDArray[np.float64] | None]


def stated_rule(threshold: str | None, costs: Costs, classes: Sequence[str], positive: str | None) -> Rule | None:
    """The rule that ``threshold`` or ``costs`` state; None where neither does.

    By costs the class of the least expected cost is predicted, probabilities taken at their word.

    Raises
    ------
    UsageError : both, or what these classes cannot have.
    """
    if threshold is not None and costs:
        raise UsageError(
            "--threshold and costs are two rules by which a class is predicted", do="Leave one of them out."
        )
    if threshold is None and not costs:
        return None
    return fixed_rule(classes, positive, None if threshold is None else given_thresholds(threshold), costs)


def by_rule(scores: Scores, threshold: float | None, costs: NDArray[np.float64] | None) -> Scores:
    """The scores under one rule for all cells."""
    expected = None
    if costs is not None:
        expected = np.stack([expected_costs(proba, costs) for proba in scores.proba])
    limit = None if threshold is None else np.full(scores.fold.shape, threshold)
    return replace(scores, threshold=limit, costs=expected)
