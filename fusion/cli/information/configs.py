"""``fusion configs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command(click.Argument(["name"], required=False))
def configs(screen: Screen, *, name: str | None) -> None:
    """List the recipes that come with Fusion, or show one.

    --config NAME takes one by its name; what NAME holds is written as it is, to be changed and given as a file.
    """
    from fusion.errors import UsageError, did_you_mean
    from fusion.settings.recipes import first_lines, recipe_files

    known = recipe_files()
    if name is None:
        rows = [[each, *reversed(first_lines(file))] for each, file in known.items()]
        screen.table(["name", "what it is", "command"], rows)
        screen.json([dict(zip(("name", "what", "command"), row, strict=True)) for row in rows])
        return
    if name not in known:
        raise UsageError(f"no recipe '{name}'", expected=", ".join(known), do=did_you_mean(name, known))
    text = known[name].read_text(encoding="utf-8")
    if screen.as_json:
        screen.json({"name": name, "file": str(known[name]), "text": text})
    else:
        screen.write(text.rstrip("\n"))
