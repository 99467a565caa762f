"""Every handcrafted feature in words, as a page: ``python -m extractors.catalogue > docs/features.md``.

A family says what its features are in its method ``describe``. Where features are named after the functions that
compute them, ``by_docstrings`` says it for the family.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from types import ModuleType

from extractors.feature_descriptions import described
from fusion.plugins.extractors import Describing, Description, Extractor
from fusion.plugins.registry import build_extractor

FAMILIES = ("morphology", "texture", "colour")

#: Parts of names that stand for a function of another name.
ABBREVIATIONS = {"lbp": "pattern_histogram"}

_TITLE = """# Features

Every handcrafted feature that Fusion computes, with its definition, unit, range and source. A column of a feature table
is named family.feature, such as `colour.cell_red_mean`. Values are float32, and NaN where the definition has no answer.
Where no source is named, the definition is complete as it stands here and our own.

This page is made from the code: `python -m extractors.catalogue > docs/features.md`.
"""


def page() -> str:
    """The text of ``docs/features.md``: of every family with its default parameters."""
    families = (build_extractor(family) for family in FAMILIES)
    return "\n".join([_TITLE, *(_section(family) for family in families if isinstance(family, Describing))])


def by_docstrings(extractor: Extractor) -> list[Description]:
    """What each feature of an extractor is, in the order of ``feature_names``.

    Raises
    ------
    LookupError : a feature whose name holds no function's, or that of two.
    """
    functions = list(_functions(inspect.getmodule(type(extractor))))
    return [described(_function_of(name, functions), name) for name in extractor.feature_names()]


def _function_of(name: str, functions: list[Callable]) -> Callable:
    """The function with the longest name inside ``name``."""
    parts = f"_{name}_"
    for short, long in ABBREVIATIONS.items():
        parts = parts.replace(f"_{short}_", f"_{long}_")
    fitting = [function for function in functions if f"_{function.__name__}_" in parts]
    longest = max((len(function.__name__) for function in fitting), default=0)
    best = [function for function in fitting if len(function.__name__) == longest]
    if len(best) != 1:
        found = ", ".join(f"{each.__module__}.{each.__name__}" for each in best) or "none"
        raise LookupError(f"feature '{name}' must be named after one documented function; found: {found}")
    return best[0]


def _functions(module: ModuleType | None, seen: set[str] | None = None) -> Iterator[Callable]:
    """Public documented functions of a module and of the modules of ours that it imports, each once."""
    seen = set() if seen is None else seen
    if module is None or module.__name__ in seen or not module.__name__.startswith("extractors."):
        return
    seen.add(module.__name__)
    for name, value in vars(module).items():
        if isinstance(value, ModuleType):
            yield from _functions(value, seen)
        elif inspect.isfunction(value):
            if value.__module__ == module.__name__ and not name.startswith("_") and value.__doc__:
                yield value
            yield from _functions(sys.modules.get(value.__module__), seen)


def _section(extractor: Describing) -> str:
    descriptions = extractor.describe()
    if [each.name for each in descriptions] != extractor.feature_names():
        raise LookupError(f"{extractor.name} describes other features than it names")
    rows = ["| feature | definition | unit | range | source |", "| --- | --- | --- | --- | --- |"]

    def _words(description: Description) -> tuple[str, ...]:
        return description.definition, description.unit, description.range, description.source

    # The same measure of cell and nucleus, or at several distances, is one row.
    order = {_words(each): at for at, each in reversed(list(enumerate(descriptions)))}
    for words, same in groupby(sorted(descriptions, key=lambda each: order[_words(each)]), key=_words):
        names = "<br>".join(f"`{each.name}`" for each in same)
        rows.append("| " + " | ".join([names, *(_cell(text) for text in words)]) + " |")
    heading = f"\n## {extractor.name} ({len(descriptions)} features, version {extractor.version})\n"
    summary = (inspect.getdoc(type(extractor)) or "").split("\n\n")[0]
    return "\n".join([heading, " ".join(summary.split()) + "\n", *rows])


def _cell(text: str) -> str:
    """Text that Markdown shows as it is: a bar would end the cell, and stars and underscores would be emphasis."""
    return re.sub(r"([|*_<>])", r"\\\1", text.replace("``", "'"))


if __name__ == "__main__":
    sys.stdout.write(page())
