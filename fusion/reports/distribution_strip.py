"""How a cell's value lies among those of the training cells, class by class, as a small strip."""

from __future__ import annotations

from html import escape

import numpy as np

from fusion.explanation.explanation import Explanation, Reason
from fusion.reports.explanation_rows import shown_classes, strip_range

#: Width of a strip, of the names beside it, and height of a class, in the units of its own picture.
_WIDTH, _NAMES, _ROW = 230, 74, 12

#: Letters of a class's name that fit beside it.
_LETTERS = 13


def distribution_strip(reason: Reason, found: Explanation) -> str:
    """An SVG: for each class a line over 90% of its cells, a bar over the middle half and a tick at the median; this
    cell across all of them. Colours are the page's."""
    classes = shown_classes(found)
    ends = strip_range(reason, classes)
    if ends is None:
        return ""
    low, high = ends

    def x(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(_NAMES + (_WIDTH - _NAMES - 4) * share, 1)

    height = _ROW * len(classes) + 4
    parts = []
    for number, at in enumerate(classes):
        y = 2 + _ROW * number + _ROW / 2
        name = found.classes[at]
        ink = "var(--for)" if name == found.predicted else "var(--soft)"
        shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}\u2026"
        parts.append(f'<text x="{_NAMES - 6}" y="{y + 3.5}" text-anchor="end">{escape(shown)}</text>')
        spread = reason.spreads[at]
        if np.isnan(spread).any():
            continue
        p5, p25, p50, p75, p95 = map(x, spread)
        parts.append(f'<path d="M{p5} {y}H{p95}" stroke="{ink}" stroke-width="1"/>')
        parts.append(f'<path d="M{p25} {y}H{p75}" stroke="{ink}" stroke-width="5" opacity=".55"/>')
        parts.append(f'<path d="M{p50} {y - 4}V{y + 4}" stroke="{ink}" stroke-width="2"/>')
    if not np.isnan(reason.value):
        own = x(reason.value)
        parts.append(f'<path d="M{own} 1V{height - 1}" stroke="var(--ink)" stroke-width="2"/>')
    words = escape(
        f"this cell is {reason.held_to(found.classes)}" if reason.held_to(found.classes) else "no training cells"
    )
    return (
        f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}">{"".join(parts)}</svg>'
    )
