"""``fusion doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command()
def doctor(screen: Screen) -> None:
    """Tell what this installation has, and what it lacks.

    Versions, processor and GPU, weights that are at hand, the feature store, extras. Nothing is changed or fetched.
    """
    from fusion.interface.installation import check_installation

    checks = check_installation()
    screen.table(["what", "found"], [[check.name, check.found] for check in checks])
    for check in checks:
        if check.remedy:
            screen.line(f"{check.name}: {check.remedy}")
    screen.json([check.to_json() for check in checks])
