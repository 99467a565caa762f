"""A search for parameters by optuna (an extra): trials that learn from those before, where a grid is too coarse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fusion.errors import UsageError


@dataclass(frozen=True)
class Span:
    """Where a parameter is looked for: from ``low`` to ``high``, both included.

    ``log``: evenly in its logarithm; ``whole``: whole numbers only.
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False


def check_optuna() -> None:
    """UsageError where the extra ``optuna`` is not installed."""
    if find_spec("optuna") is None:
        raise UsageError("trials need optuna, which is not installed", do="pip install 'fusion-cells[optuna]'")


def tune(
    score: Callable[[Mapping[str, Any]], float], spans: Mapping[str, Span], trials: int, seed: int | None
) -> dict[str, Any]:
    """The parameters with the highest score of so many trials; of equally good ones the first.

    Tree-structured Parzen estimator, Bergstra et al. (2011), NIPS 24:2546-2554. The same seed and scores give the same
    trials. What ``score`` looks at is its own affair: held-out folds inside the training part, never the test part.

    Raises
    ------
    UsageError : the extra ``optuna`` is not installed.
    """
    check_optuna()
    import optuna

    def objective(trial: Any) -> float:
        drawn: dict[str, Any] = {}
        for name, span in spans.items():
            if span.whole:
                drawn[name] = trial.suggest_int(name, int(span.low), int(span.high), log=span.log)
            else:
                drawn[name] = trial.suggest_float(name, span.low, span.high, log=span.log)
        return score(drawn)

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line a trial is no message for our users
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed or 0))
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(study.best_params)
