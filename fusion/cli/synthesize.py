"""``fusion synthesize``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import argument, command, option
from fusion.settings.commands import SynthesizeConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.synthetic.cells import SyntheticDesign


@command(
    SynthesizeConfig,
    argument("output"),
    "subjects",
    "cells",
    option("laboratories", metavar="K"),
    "class_effect",
    "subject_effect",
    "seed",
    "jobs",
)
def synthesize(screen: Screen, config: SynthesizeConfig) -> None:
    """Make a C-NMC-shaped data set with known truth in OUTPUT."""
    from fusion.synthetic.cells import synthesize

    synthesize(
        config.output,
        _design(config),
        lambda done, total: screen.progress("painting", done, total, 0),
        jobs=config.jobs,
    )
    count = config.subjects * config.cells * max(1, config.laboratories)
    each = f" in each of {config.laboratories} sites" if config.laboratories else ""
    screen.line(f"{count} cells of {config.subjects} subjects{each} in {config.output}, truth in truth.csv")
    screen.json({"output": str(config.output), "cells": count, "subjects": config.subjects})


def _design(config: SynthesizeConfig) -> SyntheticDesign:
    from fusion.synthetic.cells import SyntheticDesign

    return SyntheticDesign(
        subjects=config.subjects,
        cells_per_subject=config.cells,
        seed=config.seed,
        class_effect=config.class_effect,
        subject_effect=config.subject_effect,
        folds=config.folds,
        laboratories=config.laboratories,
    )
