"""What a feature is, in words: read out of the docstring of the function that computes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from fusion.plugins.extractors import Description

_MARK = re.compile(r"\b(Unit|Range|Source): ")


def described(function: Callable, name: str = "") -> Description:
    """What the docstring of ``function`` says; ``name`` is the feature's, the function's own where it is empty.

    The first paragraph is the definition. ``Unit:`` and ``Range:`` run to the end of their sentence, ``Source:`` to
    the end of its paragraph; what follows "NaN" belongs to the definition wherever it stands.
    """
    paragraphs = [" ".join(part.split("\n")) for part in (inspect.getdoc(function) or "").split("\n\n")]
    found = {"Unit": "", "Range": "", "Source": ""}
    definition: list[str] = []
    for index, paragraph in enumerate(paragraphs):
        plain, *marked = _MARK.split(paragraph)
        sentences = [plain]
        for mark, text in zip(marked[::2], marked[1::2], strict=True):
            # Sentences of one paragraph are set apart by two spaces where a mark ends and plain words follow.
            end = len(text) if mark == "Source" else _end_of_sentence(text)
            found[mark] = found[mark] or text[:end].strip().rstrip(".")
            sentences.append(text[end:])
        rest = " ".join(" ".join(sentences).split())
        definition += [rest] if index == 0 else re.findall(r"NaN [^.]*\.", rest)
    return Description(name or function.__name__, " ".join(definition), found["Unit"], found["Range"], found["Source"])


def _end_of_sentence(text: str) -> int:
    end = re.search(r"\.(?=\s|$)", text)
    return end.end() if end else len(text)
