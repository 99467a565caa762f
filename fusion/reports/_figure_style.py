"""What the figures have in common: their numbers, names broken into lines, bare axes, and a legend above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and the numbers that it shows, a row of plain values each, for whoever wants to draw it otherwise."""

    figure: Figure
    numbers: Sequence[Mapping[str, Any]]


#: Letters on a line of a name: longer ones take several lines. Five blocks on one line leave no room, on a phone, for
#: what the figure shows.
_LETTERS = 24


def in_lines(name: str) -> str:
    """A name broken before a "+" wherever a line would be too long."""
    lines = [""]
    for part in name.split(" + "):
        if lines[-1] and len(lines[-1]) + len(part) > _LETTERS:
            lines.append("")
        lines[-1] += f" + {part}" if lines[-1] or len(lines) > 1 else part
    return "\n".join(line.strip() for line in lines)


def height(names: list[str]) -> float:
    """Inches that the tallest name takes, and a little air."""
    return 0.08 + 0.15 * max(1 + name.count("\n") for name in names)


def plain(axes: Axes, *, grid: Any) -> None:
    """Axes without a box, over a light grid ("x", "y" or "both")."""
    axes.grid(axis=grid, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, axes: Axes, order: Sequence[str]) -> None:
    """A legend above all axes: what these ones show, each name once, in this order."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    shown = [name for name in order if name in unique]
    figure.legend([unique[name] for name in shown], shown, loc="outside upper left", ncols=len(shown), frameon=False)


def ends(value: Mapping[str, Any]) -> dict[str, Any]:
    """A value and the ends of its interval, as columns of a figure's numbers."""
    return {part: value[part] for part in ("value", "low", "high")}
