"""Lines broken between words: a terminal breaks them wherever its width ends, and goes on at its left edge."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

#: Columns that a line which goes on is indented by, beyond its own indentation.
_HANGING = 2

#: Columns below which nothing is broken: words of ours would stand one by one.
_NARROWEST = 24


def break_lines(text: str, width: int) -> str:
    """The text with no line wider than ``width``, as far as words allow; what goes on is indented further.

    Words are kept whole, so that a path or a command can be copied.

    >>> print(break_lines("  pixels: 120 x 120 (224); 112 x 116 (12)", 30))
      pixels: 120 x 120 (224); 112
        x 116 (12)
    """
    if width < _NARROWEST:
        return text
    return "\n".join(
        part
        for line in text.split("\n")
        for part in (
            textwrap.wrap(
                line,
                width,
                subsequent_indent=" " * (len(line) - len(line.lstrip(" ")) + _HANGING),
                break_long_words=False,
                break_on_hyphens=False,
            )
            if len(line) > width
            else [line]
        )
    )


def fit(text: str, stream: TextIO) -> str:
    """The text as it is shown on this stream: broken for a terminal, as it is for a file or a pipe."""
    width = width_of(stream)
    return text if width is None else break_lines(text, width)


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream leads to, ``COLUMNS`` before all; None for a file or a pipe."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):  # a terminal that has gone, or a stream of a test
        return None
