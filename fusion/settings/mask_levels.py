"""What the values of a mask mean, where a user says so: ``background=0,cell=1,nucleus=2``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator

#: What a value can stand for.
ROLES = ("background", "cell", "nucleus")
_CHANNELS = ("red", "green", "blue", "alpha")
_COLOUR = re.compile(r"#[0-9a-f]{6}\Z")


@dataclass(frozen=True)
class MaskLevels:
    """The meaning of a mask's values.

    Attributes
    ----------
    by : "value" for grey values and indices of a palette, "colour", or the channel that counts: "red", "green", "blue",
        "alpha".
    background, cell, nucleus : values of each, a colour as 0xrrggbb.
    instance : the one value that is the cell, whatever others there are; None where roles are given.
    """

    by: str = "value"
    background: tuple[int, ...] = ()
    cell: tuple[int, ...] = ()
    nucleus: tuple[int, ...] = ()
    instance: int | None = None

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> MaskLevels:
        """From text as one types it.

        Raises
        ------
        ValueError : says what is wrong, and what is expected.
        """
        given = _assignments(text)
        by = given.pop("channel", "value")
        if by != "value" and by not in _CHANNELS:
            raise ValueError(f"channel is one of {', '.join(_CHANNELS)}")
        values = {name: tuple(each.strip() for each in texts.split("+")) for name, texts in given.items()}
        if any(_COLOUR.match(each) for texts in values.values() for each in texts):
            by = "colour" if by == "value" else by
        numbers = {name: tuple(sorted(_number(each, by) for each in texts)) for name, texts in values.items()}
        _check_roles(numbers)
        background, cell, nucleus = (numbers.get(role, ()) for role in ROLES)
        (instance,) = numbers.get("instance", (None,))
        return cls(by, background, cell, nucleus, instance)

    def __str__(self) -> str:
        parts = [] if self.by in ("value", "colour") else [f"channel={self.by}"]
        roles = {"instance": () if self.instance is None else (self.instance,), **{r: getattr(self, r) for r in ROLES}}
        parts += [f"{name}={'+'.join(map(self.write, values))}" for name, values in roles.items() if values]
        return ",".join(parts)

    def write(self, value: int) -> str:
        """A value as one types it."""
        return f"#{value:06x}" if self.by == "colour" else str(value)


def _assignments(text: str) -> dict[str, str]:
    """What stands behind each name: ``{"background": "0", "cell": "1+2"}``."""
    given: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, said = (each.strip().lower() for each in part.partition("="))
        if not equals or name not in (*ROLES, "instance", "channel") or name in given:
            raise ValueError(f"background=0,cell=1,nucleus=2 or instance=7, each once; not {part!r}")
        given[name] = said
    return given


def _check_roles(numbers: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse values that mean two things, and roles that leave open what the cell is."""
    if "instance" in numbers:
        if len(numbers) > 1 or len(numbers["instance"]) > 1:
            raise ValueError("instance is one value, and all others are background then")
        return
    if not {"background", "cell"} <= numbers.keys():
        raise ValueError("background and cell, or instance")
    every = [number for each in numbers.values() for number in each]
    if len(set(every)) < len(every):
        raise ValueError("one meaning for each value")


def _number(text: str, by: str) -> int:
    if by == "colour" and _COLOUR.match(text):
        return int(text[1:], 16)
    if by != "colour" and text.isdecimal() and int(text) <= 65535:
        return int(text)
    expected = "colours such as #00ff00, all of them" if by == "colour" else "numbers from 0 to 65535"
    raise ValueError(f"{expected}; not {text!r}")


def _text(value: Any) -> Any:
    """A mapping as text; text in the one way it is kept in."""
    if isinstance(value, Mapping):
        lists = {name: each if isinstance(each, list | tuple) else [each] for name, each in value.items()}
        value = ",".join(f"{name}={'+'.join(map(str, each))}" for name, each in lists.items())
    return str(MaskLevels.parse(value)) if isinstance(value, str) else value


#: A setting: kept as text, typed as text or as a mapping.
MaskLevelsText = Annotated[str, BeforeValidator(_text)]
