"""What a plug-in's parameters are: names, types and defaults from its class, meanings from the class's docstring."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from fusion.plugins.extractors import HasParameterGroups
from fusion.settings.key import Setting

#: Sections of a numpydoc docstring that describe parameters: an estimator's, and a dataclass's fields.
_SECTIONS = ("Parameters", "Attributes")

#: What follows "name :" where it is a type, and the meaning stands below: "int, default=5", "{'a', 'b'}".
_TYPE = re.compile(r"(?:\{.*\}|[\w.\[\]| ]+(?: of \w+)?)(?:,? *(?:optional|default\b.*))?")

_ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(?:, *\*{0,2}\w+)*) *:(?: +(?P<rest>.*))?")


def parameters_of(kind: type, within: str) -> list[Setting]:
    """The parameters of a plug-in's class, those of its parameter groups among them.

    Parameters
    ----------
    kind : a dataclass, or an estimator in the sense of scikit-learn.
    within : key that they lie under, such as "classifiers.svm".
    """
    groups = kind.parameter_groups if isinstance(kind, HasParameterGroups) else {}
    meanings, types = documented(inspect.getdoc(kind) or ""), _annotations(kind)
    found: list[Setting] = []
    for name, default in _defaults(kind):
        if name in groups:
            found += parameters_of(groups[name], f"{within}.{name}")
            continue
        is_required = default is dataclasses.MISSING
        found.append(
            Setting(
                f"{within}.{name}",
                types.get(name, Any),
                None if is_required else default,
                meanings.get(name, ""),
                is_required,
            )
        )
    return found


def documented(docstring: str) -> dict[str, str]:
    """Parameter -> what a docstring in the style of numpydoc says of it, in one line."""
    found: dict[str, str] = {}
    for names, text in _entries(docstring.splitlines()):
        meaning = " ".join(text).strip()
        found |= {name.strip().lstrip("*"): meaning for name in names.split(",")}
    return found


def _entries(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(names, lines of text) of every entry under ``_SECTIONS``."""
    names, text = "", list[str]()
    for line in _lines_of_sections(lines):
        if entry := _ENTRY.fullmatch(line):
            if names:
                yield names, _without_type(text)
            names, text = entry["names"], [entry["rest"] or ""]
        elif names:
            text.append(line.strip())
    if names:
        yield names, _without_type(text)


def _lines_of_sections(lines: list[str]) -> Iterator[str]:
    is_inside = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _is_underline(following):
            is_inside = line.strip() in _SECTIONS
        elif is_inside and not _is_underline(line):
            yield line


def _is_underline(line: str) -> bool:
    return set(line.strip()) == {"-"}


def _without_type(text: list[str]) -> list[str]:
    """The lines of an entry; a first one that only says the type is left out where the meaning stands below it."""
    first, *rest = text
    return rest if any(rest) and _TYPE.fullmatch(first) and not _goes_on(first, rest) else text


def _goes_on(first: str, rest: list[str]) -> bool:
    """Whether a first line is the beginning of a sentence, which the next one continues in small letters."""
    is_type = re.match(r"(?:\{|(?:int|float|str|bool|list|tuple|dict|callable|array|path)\b)", first, re.IGNORECASE)
    return not is_type and "default=" not in first and rest[0][:1].islower()


def _defaults(kind: type) -> Iterator[tuple[str, Any]]:
    """(name, default) of every parameter; ``dataclasses.MISSING`` where there is none."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if field.init:
                factory = field.default_factory
                yield field.name, field.default if factory is dataclasses.MISSING else factory()
        return
    known = inspect.signature(kind).parameters
    for name in sorted(kind().get_params(deep=False), key=list(known).index):
        default = known[name].default
        yield name, dataclasses.MISSING if default is inspect.Parameter.empty else default


def _annotations(kind: type) -> Mapping[str, Any]:
    """Types of the parameters; as the texts they are written as, where a name in them is imported for checkers only."""
    source: Any = kind if dataclasses.is_dataclass(kind) else vars(kind).get("__init__", object.__init__)
    try:
        return typing.get_type_hints(source)
    except NameError:
        return inspect.get_annotations(source)
