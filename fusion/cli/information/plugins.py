"""``fusion plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command()
def plugins(screen: Screen) -> None:
    """List installed extractors, classifiers and segmenters."""
    from fusion.plugins.registry import CLASSIFIERS, EXTRACTORS, SEGMENTERS, kind_of, registered

    rows = [
        [name, kind_of(group), target, origin]
        for group in (EXTRACTORS, CLASSIFIERS, SEGMENTERS)
        for name, target, origin in registered(group)
    ]
    screen.table(["name", "kind", "class", "from"], rows)
    screen.json([dict(zip(("name", "kind", "class", "from"), row, strict=True)) for row in rows])
