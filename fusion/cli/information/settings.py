"""``fusion settings``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.settings.key import Setting
    from fusion.workflows.settings_reference import Reference


@plain_command(
    click.Argument(["command"], required=False),
    click.Option(["--json-schema"], is_flag=True, help="A JSON schema of COMMAND's file for --config, for editors."),
)
def settings(screen: Screen, *, command: str | None, json_schema: bool) -> None:
    """List every key that a command takes, with its meaning.

    Type, default and meaning of every key of COMMAND, or of all commands, as a file for --config and --set take it;
    the parameters of installed extractors and classifiers are among them.
    """
    from fusion.errors import UsageError
    from fusion.workflows.settings_reference import COMMANDS, reference

    if json_schema:
        if command is None:
            raise UsageError("--json-schema is of one command", expected=", ".join(COMMANDS))
        screen.write(json.dumps(reference(command).to_json_schema(), indent=1))
        return
    found = [reference(name) for name in ([command] if command else COMMANDS)]
    _show(screen, found)
    screen.json([row for each in found for row in each.to_json()])


def _show(screen: Screen, found: Sequence[Reference]) -> None:
    """A table a command, then one of the plug-ins' parameters, which are the same in all commands that take them."""
    for each in found:
        _table(screen, each.own, f"fusion {each.command}")
    parameters = {setting.key: setting for each in found for setting in each.parameters}
    if parameters:
        _table(screen, list(parameters.values()), "parameters of the fusion layer, of extractors and of classifiers")
    screen.notes(list(dict.fromkeys(fault for each in found for fault in each.faults)))


def _table(screen: Screen, settings: Sequence[Setting], title: str) -> None:
    rows = [
        [each.key, each.type, "has to be given" if each.is_required else each.default_in_words, each.meaning]
        for each in settings
    ]
    screen.table(["key", "type", "default", "meaning"], rows, title)
    screen.line()
