"""``fusion train``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import (
    DATA,
    FEATURES,
    MLFLOW,
    OUTPUT,
    POSITIVE,
    RISK,
    SETS,
    SOURCE,
    SPLITS,
    THRESHOLD,
    command,
    option,
)
from fusion.settings.commands import TrainConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    TrainConfig,
    *DATA,
    SOURCE,
    "unit",
    option("classifier", metavar="NAME"),
    *FEATURES,
    "fuse",
    OUTPUT,
    option("report", metavar="FOLDER"),
    "force",
    SPLITS,
    option("scheduler", metavar="ADDR"),
    "holdout",
    "resume",
    option("show_batch", metavar="PNG"),
    option("show_attention", metavar="PNG"),
    option("tensorboard", metavar="DIR"),
    "cnn_crossfit",
    "allow_leakage",
    "search",
    "calibrate",
    THRESHOLD,
    SETS,
    RISK,
    option("by", metavar="COLUMN"),
    option("null", metavar="N"),
    "learning_curve",
    POSITIVE,
    MLFLOW,
    "jobs",
    "store",
    "seed",
)
def train(screen: Screen, config: TrainConfig) -> tuple[Fault, ...]:
    """Judge a classifier on held-out subjects, fit it, save it.

    The figures come from folds by subject; the model saved in OUTPUT is then fitted on all cells. neural trains the
    whole network on the images; --features none leaves the handcrafted blocks out. --report FOLDER has the figures as a
    page; compare, plan and judge read what lies there.
    """
    from fusion.compute.torch_processes import is_first
    from fusion.evaluation.analysis_lines import analysis_lines
    from fusion.workflows.train import train

    trained = train(config, screen.progress)
    if is_first():
        screen.result(trained.result)
        for line in analysis_lines(trained.result):
            screen.line(line)
        screen.line(f"model in {config.output}, fitted on all {len(trained.result.cells)} {trained.result.judged}s")
        if config.report is None:
            screen.note("These figures as a page, with tables and scores: --report FOLDER.")
        else:
            screen.line(f"page {config.report / 'report.html'}, figures, scores.parquet, table.csv and result.json")
        screen.json({"model": str(config.output), **trained.result.to_json(trained.dataset.root)})
    return trained.result.faults
