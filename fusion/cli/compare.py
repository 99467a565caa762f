"""``fusion compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import OUTPUT, argument, command
from fusion.settings.commands import CompareConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(CompareConfig, argument("results", takes_many=True), OUTPUT)
def compare(screen: Screen, config: CompareConfig) -> None:
    """Compare two or more RESULTS on the same cells.

    Entries that every result has (same features, same classifier) are compared with those of the first; where there
    are none, the best with the best. Differences are those of the first result minus another.
    """
    from fusion.io.csv_text import csv_bytes
    from fusion.io.output_files import write_output
    from fusion.workflows.compare import compare_results

    found = compare_results(config)
    screen.notes(found.notes)
    screen.table(found.columns, found.lines(), found.title)
    if config.output is not None:
        write_output(config.output, csv_bytes(found.to_frame()))
        screen.line(f"written to {config.output}")
    screen.json(found.to_json())
