"""A result as tables: a row a figure, and a row an entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fusion.evaluation.scores import entry_name
from fusion.metrics.classification import LEVELS
from fusion.metrics.judgement import MODELS
from fusion.metrics.scored_rows import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from fusion.evaluation.results import Result

#: Columns of ``figure_frame``.
COLUMNS = ("entry", "level", "metric", "value", "low", "high", "kind", "subjects", "effective_subjects", "note")

#: How levels are called in ``figure_frame`` -> in figures.
_LEVELS = {"cell": "image", "subject": "subject"}

_PARTS = {"": "value", "_low": "low", "_high": "high"}


def figure_frame(result: Result) -> pd.DataFrame:
    """A row for each entry, level, metric and kind of figure: ``COLUMNS``.

    "subjects" are what intervals are over (groups, where subjects share images), "effective_subjects" Kish's number of
    them, summed over classes. Figures of cross-validated models stand there twice: as of the procedure, and as of these
    fitted models.
    """
    import pandas as pd

    return pd.DataFrame(list(_figure_rows(result)), columns=list(COLUMNS))


def _figure_rows(result: Result) -> Iterator[dict[str, Any]]:
    for scores, figures in zip(result.scores, result.figures, strict=True):
        for level, held in _LEVELS.items():
            for metric in METRICS:
                figure = figures[held][metric]
                row = {"entry": entry_name(scores), "level": level, "metric": metric, "value": figure["value"]}
                rest = {
                    "subjects": figures["n_subjects"],
                    "effective_subjects": float(sum(figure["effective_subjects"].values())),
                    "note": figure["note"],
                }
                yield {**row, "low": figure["low"], "high": figure["high"], "kind": figure["kind"], **rest}
                if "models" in figure:
                    yield {**row, **_bounds(figure["models"]), "kind": MODELS, **rest}


def _bounds(interval: Mapping[str, float]) -> dict[str, float]:
    return {"low": interval["low"], "high": interval["high"]}


def entry_frame(result: Result) -> pd.DataFrame:
    """A row for each feature set and classifier, the best first, each figure with its interval, at all levels."""
    import pandas as pd

    rows = []
    for at in result.ranked():
        row: dict[str, Any] = {
            "features": "+".join(result.scores[at].features),
            "classifier": result.scores[at].classifier,
            "kind": result.figures[at]["image"]["balanced_accuracy"]["kind"],
        }
        for level in LEVELS:
            for metric in METRICS:
                figure = result.figures[at][level][metric]
                row |= {f"{level}_{metric}{part}": figure[key] for part, key in _PARTS.items()}
        rows.append(row)
    return pd.DataFrame(rows)
