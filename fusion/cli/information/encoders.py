"""``fusion encoders``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fusion.cli.options import plain_command

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@plain_command(click.Argument(["name"], required=False))
def encoders(screen: Screen, *, name: str | None) -> None:
    """List pretrained networks by name, and what they have met.

    --backbone NAME takes one of them. Where the cells that are judged may have been among those that it was pretrained
    on, the result is stamped.
    """
    from fusion.leakage import encoders as register

    if name is None:
        every = register.encoders().values()
        screen.table(
            ["name", "million parameters", "pixels", "licence", "pretrained on"],
            [[one.name, str(one.millions), str(one.size), one.licence, one.pretrained_on] for one in every],
        )
        screen.json([one.to_json() for one in every])
        return
    one = register.encoder(name)
    screen.table(
        ["what", name],
        [
            ["backbone", one.backbone],
            ["parameters", f"{one.millions} million"],
            ["images", f"{one.size} x {one.size} pixels"],
            ["licence", one.licence],
            ["pretrained on", one.pretrained_on],
            ["public blood data", ", ".join(one.met) or ("not known" if one.blood else "none")],
            *([["its makers judged it on", ", ".join(one.judged)]] if one.judged else []),
            *([["remark", one.remark]] if one.remark else []),
            ["source", one.source],
            *([["not verified here", ", ".join(one.unverified)]] if one.unverified else []),
        ],
    )
    screen.json(one.to_json())
