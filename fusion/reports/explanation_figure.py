"""One figure a cell: its image with contours, where a network looks, and what speaks for and against."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.explanation.explanation import Explanation, Reason
from fusion.reports.contact_sheets import CELL_COLOUR, NUCLEUS_COLOUR, with_contours
from fusion.reports.explanation_rows import grouped, shown_classes, strip_range
from fusion.reports.result_figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What speaks for and against: the first two of a palette that colour-blind readers tell apart.
FOR, AGAINST = COLOURS[0], COLOURS[1]

#: Side in pixels of the cell's image.
_SIDE = 360

#: Letters on a line below the figure, and of a feature's name and value.
_LINE, _NAME = 150, 54

#: Letters of the heading, and of a cell's name in it at least.
_HEADING, _NAME_LEFT = 62, 12

#: Other classes whose probability is said.
_OTHERS = 3

#: What no figure may go without.
_RESEARCH = "For research: not a diagnosis."


def explanation_figure(found: Explanation) -> Figure:
    """The explanation as a figure, as high as it has reasons."""
    from matplotlib.figure import Figure

    lines = _lines(found)
    rows = max(9, len(lines))
    limits = textwrap.wrap(f"By {found.attribution.method}. {found.attribution.limits} {_legend(found)}", _LINE)
    high = 1.5 + 0.34 * rows + 0.16 * len(limits)
    figure = Figure(figsize=(10.5, high))
    top, foot = 1 - 0.62 / high, (0.65 + 0.16 * len(limits)) / high
    heading = _plain(f"{_ending(found.name, max(_NAME_LEFT, _HEADING - len(found.verdict)))}: {found.verdict}")
    figure.text(0.02, 1 - 0.28 / high, heading, fontsize=13, weight="bold", va="center")
    figure.text(
        0.02,
        1 - 0.52 / high,
        _plain(found.warning or _others(found)),
        fontsize=9,
        va="center",
        color=AGAINST if found.warning else "0.35",
    )
    figure.text(0.98, 1 - 0.28 / high, _RESEARCH, fontsize=9, va="center", ha="right", color="0.35")
    figure.text(0.02, 0.08 / high, "\n".join(limits), fontsize=7.5, color="0.35", va="bottom", linespacing=1.2)
    if not found.attribution.blocks:  # images alone, side by side
        spatial = figure.add_gridspec(1, 2, left=0.02, right=0.8, top=top - 0.1 / high, bottom=foot, wspace=0.1)
        _image(figure.add_subplot(spatial[0]), found)
        if found.map_caption:
            _map(figure.add_subplot(spatial[1]), found)
        return figure
    spatial = figure.add_gridspec(
        3 if found.map_caption else 2,
        1,
        left=0.02,
        right=0.26,
        top=top,
        bottom=foot,
        height_ratios=[3, 3, 1.6] if found.map_caption else [3, 1.6],
        hspace=0.36 if found.map_caption else 0.3,
    )
    _image(figure.add_subplot(spatial[0]), found)
    if found.map_caption:
        _map(figure.add_subplot(spatial[1]), found)
    _blocks(figure.add_subplot(spatial[-1]), found)
    strips = figure.add_axes((0.57, foot, 0.17, top - foot))
    _groups(figure.add_axes((0.76, foot, 0.22, top - foot)), strips, found, lines, rows)
    return figure


def _legend(found: Explanation) -> str:
    """What strips show, for figures that have any."""
    if not found.reasons:
        return ""
    names = ", ".join(found.classes[at] for at in shown_classes(found))
    return f"Strips, from above: 90% and the middle half of the training cells of {names}; upright: this cell."


def image_with_contours(found: Explanation, side: int = _SIDE) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): the cell and the contours of cell and nucleus."""
    return with_contours(found.cell.rgb, replace(found.cell, origin=(0, 0)), side)


def map_overlay(found: Explanation) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): the cell in grey; brighter and warmer where a network looks, or in one colour where a deep block
    speaks for the class and in another where against it, the more opaque the more."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    grey = np.repeat(found.cell.rgb.mean(axis=2, keepdims=True), 3, axis=2) / 255
    # Nothing is laid over what does not count: an overlay everywhere would hide the cell.
    if found.attention is not None:
        colour, weight = colormaps["inferno"](found.attention)[..., :3], 0.75 * found.attention[..., None]
    else:
        assert found.spatial is not None
        laid = found.spatial.over_cell
        colour = np.where(laid[..., None] > 0, to_rgb(FOR), to_rgb(AGAINST))
        weight = 0.75 * np.abs(laid[..., None]) / (np.abs(laid).max() or 1)
    return (255 * (grey * (1 - weight) + colour * weight)).round().astype(np.uint8)


def _image(axes: Axes, found: Explanation) -> None:
    axes.imshow(image_with_contours(found))
    axes.set_anchor("NW")
    axes.axis("off")
    for at, (word, colour) in enumerate((("cell", CELL_COLOUR), ("nucleus", NUCLEUS_COLOUR))):
        axes.text(
            0.35 * at,
            -0.02,
            f"\u2014 {word}",
            transform=axes.transAxes,
            fontsize=8,
            va="top",
            color=[part / 255 for part in colour],
            weight="bold",
        )


def _map(axes: Axes, found: Explanation) -> None:
    axes.imshow(map_overlay(found))
    axes.set_anchor("NW")
    axes.axis("off")
    axes.text(
        0,
        -0.02,
        "\n".join(textwrap.wrap(_plain(found.map_caption), 44)),
        transform=axes.transAxes,
        fontsize=8,
        va="top",
        color="0.25",
    )


def _blocks(axes: Axes, found: Explanation) -> None:
    parts = sorted(found.attribution.blocks.items(), key=lambda part: -abs(part[1]))
    _bars(axes, [value for _, value in parts])
    axes.set_yticks([])
    # Names on the side that a bar leaves free.
    for at, (name, value) in enumerate(parts):
        axes.text(
            0.48 if value > 0 else 0.52,
            at,
            _plain(name),
            transform=axes.get_yaxis_transform(),
            fontsize=8,
            va="center",
            ha="right" if value > 0 else "left",
        )
    score, base = found.attribution.score, found.attribution.base
    axes.set_title(f"blocks: from {base:.2f} to {score:.2f}", fontsize=9, loc="left", pad=3)
    axes.tick_params(axis="x", labelsize=7)


@dataclass(frozen=True)
class _Line:
    """A line of the figure: a group, one of its features with its strip, or what all its others add."""

    text: str
    value: float
    is_group: bool
    reason: Reason | None = None


def _lines(found: Explanation) -> list[_Line]:
    shown, rest = grouped(found)
    lines = []
    for group in shown:
        lines.append(_Line(group.share.name, group.share.value, True))
        lines += [_Line(reason.sentence, reason.contribution, False, reason) for reason in group.reasons]
        if group.reasons and group.share.others:
            lines.append(_Line("all other features", group.share.rest, False))
    if rest:
        lines.append(_Line("all other groups", sum(share.value for share in rest), True))
    return lines


def _groups(axes: Axes, strips: Axes, found: Explanation, lines: Sequence[_Line], rows: int) -> None:
    """Bars of every line, its text to the left, and between them the strips of features."""
    _bars(axes, [line.value for line in lines])
    for patch, line in zip(axes.patches, lines, strict=True):
        patch.set_alpha(1 if line.is_group else 0.6)
    for at, line in enumerate(lines):
        strips.text(
            -0.03,
            at,
            _plain(_fitting(line.text, _NAME)),
            transform=strips.get_yaxis_transform(),
            fontsize=9 if line.is_group else 8,
            weight="bold" if line.is_group else "normal",
            color="0.4" if line.reason is None and not line.is_group else "black",
            ha="right",
            va="center",
        )
        if line.reason is not None:
            _strip(strips, at, line.reason, found)
    strips.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
    strips.axis("off")
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    unit = "log-odds" if len(found.classes) == 2 else "score"
    axes.set_xlabel(_plain(f"{unit} for {found.predicted}"), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(_plain(f"against {found.predicted}"), fontsize=9, loc="left", color=AGAINST, pad=3)
    axes.set_title(_plain(f"for {found.predicted}"), fontsize=9, loc="right", color=FOR, pad=3)


def _strip(axes: Axes, at: int, reason: Reason, found: Explanation) -> None:
    """Where training cells of each class lie, and this cell, over three quarters of a line."""
    classes = shown_classes(found)
    ends = strip_range(reason, classes)
    if ends is None:
        return
    low, high = ends
    step = 0.72 / len(classes)
    for number, label in enumerate(classes):
        spread = (np.array(reason.spreads[label]) - low) / (high - low)
        if np.isnan(spread).any():
            continue
        p5, p25, p50, p75, p95 = spread
        y = at - 0.36 + step * (number + 0.5)
        colour = FOR if found.classes[label] == found.predicted else "0.5"
        axes.plot([p5, p95], [y, y], color=colour, linewidth=0.8)
        axes.plot([p25, p75], [y, y], color=colour, linewidth=2.4, alpha=0.6, solid_capstyle="butt")
        axes.plot([p50, p50], [y - 0.07, y + 0.07], color=colour, linewidth=1.2)
    if not np.isnan(reason.value):
        own = min(max((reason.value - low) / (high - low), 0.0), 1.0)
        axes.plot([own, own], [at - 0.42, at + 0.42], color="black", linewidth=1.4)


def _bars(axes: Axes, values: Sequence[float]) -> None:
    axes.barh(range(len(values)), values, height=0.62, color=[FOR if value > 0 else AGAINST for value in values])
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_ylim(len(values) - 0.5, -0.5)
    # Symmetric, so that for and against can be set side by side.
    reach = 1.1 * max((abs(value) for value in values), default=1.0) or 1.0
    axes.set_xlim(-reach, reach)
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _others(found: Explanation) -> str:
    others = [(p, label) for label, p in zip(found.classes, found.proba, strict=True) if label != found.predicted]
    lines = [f"{label} {p:.3f}" for p, label in sorted(others, key=lambda other: -other[0])[:_OTHERS]]
    more = f" and {len(others) - _OTHERS} more" if len(others) > _OTHERS else ""
    like = "" if found.distance is None else f"; like the training cells ({found.distance:.2f} of the usual distance)"
    return f"{', '.join(lines)}{more}{like}."


def _ending(name: str, letters: int) -> str:
    """The end of a name that is too long: it is distinguished from others by that."""
    return name if len(name) <= letters else f"...{name[3 - letters :]}"


def _fitting(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 12]}...{text[-9:]}"


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
