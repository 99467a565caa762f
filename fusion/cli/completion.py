"""What a shell offers when somebody presses Tab: settings, recipes, names of plug-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from pydantic import BaseModel

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: Option -> where the plug-ins are registered whose names it takes.
_PLUGINS = {"features": "fusion.extractors", "classifier": "fusion.classifiers", "compare": "fusion.classifiers"}


def complete_setting(model: type[BaseModel]) -> Complete:
    """Keys for ``--set``; parameters of plug-ins from the second level on, since asking them takes a second."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        from fusion.settings.key import settings_of

        found = {setting.key: setting.meaning for setting in settings_of(model)}
        if typed.partition(".")[0] in ("extractors", "classifiers", "layer") and "." in typed:
            from fusion.workflows.settings_reference import reference

            found = {setting.key: setting.meaning for setting in reference(str(ctx.info_name)).settings}
        return [CompletionItem(f"{key}=", help=meaning) for key, meaning in found.items() if key.startswith(typed)]

    return complete


def complete_recipe(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of recipes for ``--config``, and files, as the shell knows them."""
    from fusion.settings.recipes import recipe_files

    names = [CompletionItem(name) for name in recipe_files() if name.startswith(typed)]
    return names or [CompletionItem(typed, type="file")]


def complete_plugins(option: str) -> Complete | None:
    """Names of installed plug-ins for an option that takes some, after the last comma; None for other options."""
    if option not in _PLUGINS:
        return None

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        from fusion.plugins.registry import names

        before, comma, last = typed.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in names(_PLUGINS[option]) if name.startswith(last)]

    return complete
