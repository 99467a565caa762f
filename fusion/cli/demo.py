"""``fusion demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import argument, command
from fusion.settings.commands import DemoConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(DemoConfig, argument("output"), "seed", "jobs")
def demo(screen: Screen, config: DemoConfig) -> None:
    """Run the whole way on synthetic cells, offline.

    Synthesise, measure, compare, show a leak, train and predict in OUTPUT: two minutes on two cores.
    """
    from fusion.workflows.demo.story import run_demo

    story = run_demo(config, screen.progress)
    for line in story.lines:
        screen.line(line)
    screen.json({"lines": story.lines, **story.figures})
