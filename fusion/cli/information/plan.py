"""``fusion plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import argument, command, option
from fusion.settings.commands import PlanConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(
    PlanConfig,
    argument("result"),
    option("entries", metavar="A,B"),
    option("difference", metavar="D"),
    option("power", metavar="P"),
    option("subjects", metavar="N,N"),
    "accuracy",
    option("cells", metavar="M"),
    option("within_subject", metavar="R"),
    option("between_sets", metavar="R"),
)
def plan(screen: Screen, config: PlanConfig) -> None:
    """How many subjects would a difference need.

    By the spread of a RESULT that is there (its folder, or a table of scores as fusion judge takes it), or by what is
    assumed of accuracy, cells and correlations; which difference so many subjects find; and how many cells of a subject
    are enough to call it.
    """
    from fusion.analysis.cells_per_subject import SUBJECTS
    from fusion.workflows.plan import plan_study

    found = plan_study(config)
    for line in found.lines:
        screen.line(line)
    screen.table(["subjects", "smallest difference found"], found.table)
    if found.cells:
        screen.table(["cells of a subject", "subjects right", *(f"{n} a class" for n in SUBJECTS)], found.cell_table)
    screen.notes(found.notes)
    screen.json(found.to_json())
