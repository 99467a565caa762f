"""What a model of settings refuses, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fusion.errors import ConfigError, did_you_mean
from fusion.settings.key import settings_of

#: Where all keys are told.
_ALL = "fusion settings COMMAND lists all."

#: How what a command cannot do without is given, where that is not by its place among the words.
_OPTIONS = {"output": "as -o FOLDER (--output)", "onnx": "as --onnx FILE"}

#: Pydantic's kind of error -> what is expected, where its own words are about parsing.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "path_type": "a path",
    "list_type": "a list",
    "dict_type": "a mapping of names",
    "string_type": "text",
}

#: Pydantic's name of a bound -> how it is said after the number.
_BOUNDS = {"ge": "or more", "le": "or less"}

#: Settings of one place that are listed where an unknown one is like none of them.
_LISTED = 12


def refusal(kind: type[BaseModel], error: ValidationError, file: str, given: Mapping[str, Any]) -> ConfigError:
    """What is wrong first, and where it was given.

    Parameters
    ----------
    kind : the model that refused.
    file, given : the file that settings were read from, "" for none, and what it holds.
    """
    errors = error.errors()
    # An unknown key may be why another is missing: it is the one to name.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        way = _OPTIONS.get(where, "on the command line")
        return ConfigError(f"no '{where}' given", do=f"Give it {way}, or in a --config file.")
    source = f" in {file}" if file and where.partition(".")[0] in given else ""
    found = _format_value(first["input"])[:100]
    if first["type"] == "too_short":
        least = first["ctx"]["min_length"]
        return ConfigError(f"too few values of '{where}'{source}", found=found or "none", expected=f"{least} or more")
    if first["type"] == "extra_forbidden":
        known = _fields(kind, first["loc"][:-1])
        near = did_you_mean(where, [setting.key for setting in settings_of(kind)])
        return ConfigError(
            f"unknown setting '{where}'{source}",
            found=found,
            expected=", ".join(known) if len(known) <= _LISTED else "",
            do=f"{near} {_ALL}".strip() if len(known) > _LISTED else near or _ALL,
        )
    return ConfigError(f"wrong setting '{where}'{source}", found=found, expected=_expected(first))


def _expected(refused: Mapping[str, Any]) -> str:
    """What a setting takes, in a few words: a bound as a reader says it, else what pydantic says."""
    bounds = [f"{refused['ctx'][bound]} {word}" for bound, word in _BOUNDS.items() if bound in refused.get("ctx", {})]
    if refused["type"] in _EXPECTED:
        return _EXPECTED[refused["type"]]
    if bounds:
        return bounds[0]
    return str(refused["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def _format_value(value: Any) -> str:
    """A value as the user would write it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_value, value))
    return "nothing" if value is None else repr(value)


def _fields(kind: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Names of the settings that there are at a place within a model."""
    for name in place:
        nested = getattr(kind.model_fields.get(str(name)), "annotation", None)
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            break
        kind = nested
    return list(kind.model_fields)
