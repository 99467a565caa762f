"""``fusion plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command()
def plugins(screen: Screen) -> None:
    """List installed extractors and classifiers."""
    from fusion.plugins import CLASSIFIERS, EXTRACTORS, registered

    rows = [
        [name, group.rpartition(".")[2].rstrip("s"), target, origin]
        for group in (EXTRACTORS, CLASSIFIERS)
        for name, target, origin in registered(group)
    ]
    screen.table(["name", "kind", "class", "from"], rows)
    screen.json([dict(zip(("name", "kind", "class", "from"), row, strict=True)) for row in rows])
