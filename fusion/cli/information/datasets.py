"""``fusion datasets``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command(click.Argument(["name"], required=False))
def datasets(screen: Screen, *, name: str | None) -> None:
    """List public data sets, or show one's card and its traps.

    A card says where to get a data set, on which terms, how Fusion reads it, and what is known to mislead. fusion
    inspect knows most of them again; dataset=NAME says which one it is.
    """
    from fusion.data.registers import public_datasets as register

    if name is None:
        every = register.cards().values()
        screen.table(
            ["name", "title", "cells", "licence", "known traps"],
            [[each.name, each.title, each.cells, each.licence, str(len(each.traps))] for each in every],
        )
        screen.json([each.to_json() for each in every])
        return
    one = register.card(name)
    facts = ("title", "where", "licence", "cite", "layout", "classes", "cells", "subjects", "masks")
    rows = [[fact, getattr(one, fact)] for fact in facts]
    rows += [["known trap", trap] for trap in one.traps]
    rows += [["not verified here", ", ".join(one.unverified)]] if one.unverified else []
    screen.table(["what", name], rows)
    screen.json(one.to_json())
