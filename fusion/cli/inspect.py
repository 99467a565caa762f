"""``fusion inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import DATA, OUTPUT, command, option
from fusion.settings.commands import InspectConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    InspectConfig,
    *DATA,
    "overlays",
    "audit",
    option("labels", metavar="RESULT"),
    "shift",
    OUTPUT,
    "jobs",
    "store",
    "seed",
)
def inspect(screen: Screen, config: InspectConfig) -> tuple[Fault, ...]:
    """Count classes and subjects, find bad files and leaks.

    Prints counts by class, subject and fold, unreadable files, identical images (also across subjects, folds and
    labels), and what a random split would leak. --audit tells whether the class can be told from what is no part of
    the cell; --labels which labels, of cells or of patients, may be wrong, and -o FOLDER has then a table to correct
    them by, with drawings.
    """
    from fusion.workflows.inspect import inspect

    found = inspect(config, screen.progress)
    screen.notes(found.dataset.notes)
    screen.line(f"{config.data}: {found.summary}")
    for line in found.lines():
        screen.line(f"  {line}")
    screen.json(found.to_json())
    return found.faults
