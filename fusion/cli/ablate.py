"""``fusion ablate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import (
    DATA,
    FEATURES,
    MARGIN,
    MLFLOW,
    OUTPUT,
    POSITIVE,
    PRIMARY,
    SITE_CLASSES,
    SPLITS,
    THRESHOLD,
    command,
    option,
)
from fusion.io.remote_path import as_path
from fusion.settings.commands import AblateConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    AblateConfig,
    *DATA,
    "unit",
    option("compare", "--classifiers", metavar="A,B"),
    *FEATURES,
    option("subsets", metavar="RULE"),
    option("fuse", metavar="A,B"),
    option("control", metavar="A,B"),
    OUTPUT,
    "force",
    "split",
    SPLITS,
    option("repeats", metavar="R"),
    SITE_CLASSES,
    PRIMARY,
    MARGIN,
    "search",
    "calibrate",
    THRESHOLD,
    option("by", metavar="COLUMN"),
    option("null", metavar="N"),
    "learning_curve",
    "show_leak",
    "audit",
    option("test", metavar="DATA"),
    "test_part",
    "other_cohort",
    "cnn_crossfit",
    "allow_leakage",
    POSITIVE,
    MLFLOW,
    "jobs",
    "store",
    "seed",
)
def ablate(screen: Screen, config: AblateConfig) -> tuple[Fault, ...]:
    """Compare all subsets of feature blocks on held-out cells.

    Every subset of the blocks with every classifier, on the same folds by subject. One that takes images sees these
    alone, and beside every subset.
    """
    from fusion.evaluation.analysis_lines import analysis_lines
    from fusion.evaluation.result_differences import finding_lines
    from fusion.workflows.ablate import ablate

    result = ablate(config, screen.progress)
    screen.result(result)
    for line in analysis_lines(result):
        screen.line(line)
    for line in finding_lines(result):
        screen.line(line)
    screen.line(f"page {config.output / 'report.html'}, figures, table.csv, table.tex, scores.parquet, result.json")
    screen.json(result.to_json(as_path(result.facts["data"])))
    return result.faults
