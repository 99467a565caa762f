"""``fusion evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import DATA, OUTPUT, OWN, RISK, SETS, SITE_CLASSES, SOURCE, argument, command, option
from fusion.io.remote_path import as_path
from fusion.settings.commands import EvaluateConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    EvaluateConfig,
    argument("model"),
    *DATA,
    OUTPUT,
    "force",
    SOURCE,
    SITE_CLASSES,
    OWN,
    option("threshold", metavar="RULE"),
    SETS,
    RISK,
    option("by", metavar="COLUMN"),
    "stress",
    "allow_leakage",
    "other_cohort",
    "jobs",
    "store",
    "seed",
)
def evaluate(screen: Screen, config: EvaluateConfig) -> tuple[Fault, ...]:
    """Score labelled cells of new subjects with a MODEL.

    Refuses cells and subjects that the model was trained on.
    """
    from fusion.evaluation.analysis_lines import analysis_lines
    from fusion.workflows.evaluate import evaluate

    result = evaluate(config, screen.progress)
    screen.result(result)
    for line in analysis_lines(result):
        screen.line(line)
    screen.line(f"page {config.output / 'report.html'}, figures, scores.parquet, table.csv and result.json")
    screen.json(result.to_json(as_path(result.facts["data"])))
    return result.faults
