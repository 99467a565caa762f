"""The best of a grid, or of optuna's trials, on folds inside the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from classifiers.class_weights import balanced_weights
from fusion.learning.parameter_search import Span, tune


def best_of(
    estimator: Any,
    X: Any,
    codes: NDArray[Any],
    folds: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    scoring: str,
    *,
    grid: Mapping[str, Sequence[float]],
    spans: Mapping[str, Span],
    trials: int,
    seed: int | None,
) -> dict[str, Any]:
    """The parameters with the best mean score over ``folds``: of the grid, or where there are trials, by these.

    Parameters
    ----------
    estimator, scoring : of scikit-learn.
    X, codes : the training part.
    folds : (train, test) row numbers within it.
    grid : values by parameter; of equally good ones the first is taken.
    spans : where trials look.
    trials, seed : see ``parameter_search.tune``; 0 trials try the grid.
    """
    from sklearn.model_selection import GridSearchCV

    def tried(values: Mapping[str, Sequence[float]]) -> Any:
        search = GridSearchCV(estimator, dict(values), scoring=scoring, cv=folds, refit=False)
        return search.fit(X, codes, sample_weight=balanced_weights(codes))

    if not trials:
        return dict(tried(grid).best_params_)
    return tune(
        lambda values: float(tried({name: [value] for name, value in values.items()}).best_score_), spans, trials, seed
    )
