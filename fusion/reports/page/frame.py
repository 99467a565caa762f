"""What makes a long page readable: a list of contents, and figures that follow the page's colours."""

from __future__ import annotations

import re
from html import unescape

#: Colours of the figures' ink, paper and lines -> the page's own, which change with a dark screen.
_COLOURS = {
    "#000000": "var(--ink)",
    "#262626": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#e6e6e6": "var(--line)",
    "#666666": "var(--soft)",
    "#808080": "var(--soft)",
}

#: Where the template wants the list of contents.
CONTENTS = "<!-- contents -->"

_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)


def with_page_colours(svg: str) -> str:
    """A figure whose black, white and grey are the page's.

    Examples
    --------
    >>> with_page_colours('<path style="fill: none; stroke: #000000"/>')
    '<path style="fill: none; stroke: var(--ink)"/>'
    """
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg


def with_contents(html: str) -> str:
    """A page whose headings can be linked to, with a list of them where the template wants it.

    Examples
    --------
    >>> with_contents(CONTENTS + "<h2>Notes</h2>")
    '<nav aria-label="Contents"><ol><li><a href="#notes">Notes</a></li></ol></nav><h2 id="notes">Notes</h2>'
    """
    entries: list[tuple[str, str]] = []

    def linked(match: re.Match[str]) -> str:
        words = match.group(1).strip()
        name = re.sub(r"[^a-z0-9]+", "-", unescape(re.sub(r"<[^>]*>", "", words)).lower()).strip("-")
        taken = {each for each, _ in entries}
        name = name if name not in taken else f"{name}-{len(entries)}"
        entries.append((name, words))
        return f'<h2 id="{name}">{words}</h2>'

    body = _HEADING.sub(linked, html)
    items = "".join(f'<li><a href="#{name}">{words}</a></li>' for name, words in entries)
    return body.replace(CONTENTS, f'<nav aria-label="Contents"><ol>{items}</ol></nav>', 1)
