"""``fusion judge``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import MARGIN, OUTPUT, POSITIVE, PRIMARY, RISK, SETS, argument, command, option
from fusion.settings.commands import JudgeConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(
    JudgeConfig,
    argument("scores"),
    OUTPUT,
    "force",
    POSITIVE,
    PRIMARY,
    MARGIN,
    option("prevalence", metavar="X"),
    option("threshold", metavar="RULE"),
    option("by", metavar="COLUMN"),
    SETS,
    RISK,
    "seed",
)
def judge(screen: Screen, config: JudgeConfig) -> None:
    """Judge held-out SCORES of any framework, and compare them.

    SCORES is a CSV or Parquet table, a row for each scored cell: subject, label, score (the probability of the positive
    class) or p_CLASS for every class, and any of entry, fold, repeat, source, group, threshold, cost_CLASS, cell.
    """
    from fusion.evaluation.analysis_lines import analysis_lines
    from fusion.evaluation.result_differences import finding_lines
    from fusion.workflows.judge import judge_table

    result = judge_table(config, screen.progress)
    screen.result(result)
    for line in [*analysis_lines(result), *finding_lines(result)]:
        screen.line(line)
    screen.line(f"page {config.output / 'report.html'}, figures, table.csv, table.tex, scores.parquet, result.json")
    screen.json(result.to_json(config.scores.parent))
