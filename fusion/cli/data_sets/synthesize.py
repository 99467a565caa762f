"""``fusion synthesize``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import argument, command, option
from fusion.settings.commands import SynthesizeConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(
    SynthesizeConfig,
    argument("output"),
    "subjects",
    "cells",
    "classes",
    "witness_rate",
    "age_gap",
    "age_effect",
    option("laboratories", metavar="K"),
    "class_effect",
    "subject_effect",
    option("real_cells", metavar="DATA"),
    "witnesses",
    "seed",
    "jobs",
)
def synthesize(screen: Screen, config: SynthesizeConfig) -> None:
    """Make a data set with known truth in OUTPUT.

    Painted cells in a C-NMC-shaped tree; with --witness-rate subjects whose cells are mostly healthy ones, with
    --laboratories sites. With --real-cells no images: a table of patients, put together of the cells of DATA, in which
    only the ill have --witnesses.
    """
    from fusion.workflows.synthesize import make_data_set

    made = make_data_set(config, lambda done, total: screen.progress("painting", done, total, 0))
    count = f"{made.cells} cells of {made.subjects} subjects"
    if config.real_cells is not None:
        screen.line(f"{count} in {made.path}, {made.witnesses} of them witnesses; the images stay where they are.")
    else:
        each = f", {config.subjects} in each of {config.laboratories} sites" if config.laboratories else ""
        rare = f", {made.witnesses} of them leukaemic" if config.witness_rate < 1 else ""
        screen.line(f"{count}{each} in {made.path}{rare}, truth in truth.csv")
    screen.json({"output": str(made.path), "cells": made.cells, "subjects": made.subjects, "witnesses": made.witnesses})
