"""``methods.md``: the paragraph of methods and the reporting sheet of a result, to be taken into a paper."""

from __future__ import annotations

import re
from dataclasses import replace

from fusion.evaluation.results import Result
from fusion.reports._methods_text import methods_sentences
from fusion.reports._reporting_sheet import FOR_AUTHORS, reporting_sheet

#: Parts of the methods that are a paragraph together.
_PARAGRAPHS = (
    ("aim", "data", "exclusions"),
    ("features", "preparation", "classifiers", "decision"),
    ("partition", "metrics", "intervals", "comparisons", "analyses"),
    ("performance", "cautions"),
    ("software",),
)


def methods_paragraphs(result: Result) -> list[str]:
    """The methods as paragraphs of plain text."""
    said = methods_sentences(result)
    paragraphs = (" ".join(said[part] for part in parts if said[part]) for parts in _PARAGRAPHS)
    return [paragraph for paragraph in paragraphs if paragraph]


def methods_markdown(result: Result) -> str:
    """The content of ``methods.md``; names of the data cannot break out of text or table."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown, and not HTML: what it would take for marks is escaped by _plain.
    environment = Environment(loader=PackageLoader("fusion.reports"), undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("methods.md").render(
        stamps=[_plain(stamp) for stamp in result.stamps],
        paragraphs=[_plain(paragraph) for paragraph in methods_paragraphs(result)],
        sheet=[replace(row, answer=_plain(row.answer)) for row in reporting_sheet(result)],
        for_authors=FOR_AUTHORS,
    )


def _plain(text: str) -> str:
    r"""The text in one line, its marks escaped.

    >>> _plain("a | <b>")
    'a \\| \\<b>'
    """
    return re.sub(r"([\\`*<|])", r"\\\1", " ".join(text.split()))
