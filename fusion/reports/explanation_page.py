"""The page of explanations: one HTML file with everything it shows inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fusion.explanation.explanation import Explanation
from fusion.explanation.nearest_training_cells import Neighbour
from fusion.images.cell import Cell
from fusion.reports.distribution_strip import distribution_strip
from fusion.reports.explanation_figure import image_with_contours, map_overlay
from fusion.reports.explanation_rows import GroupRows, grouped
from fusion.reports.png import png_data_uri

#: Side in pixels of a cell's image on the page, and of a neighbour's.
_SIDE, _SMALL = 240, 112


@dataclass(frozen=True)
class Shown:
    """One explained cell: what was found, its figures, and the training cells most like it."""

    found: Explanation
    svg: Path
    png: Path
    neighbours: tuple[Neighbour, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the explanation, its figures, and the names of the cells most like it."""
        like = [{"name": one.name, "label": one.label, "distance": one.distance} for one in self.neighbours]
        return {**self.found.to_json(), "figures": [str(self.svg), str(self.png)], "nearest": like}


def explanation_page(shown: Sequence[Shown]) -> str:
    """The page as HTML text, with everything it shows inside it; figures are linked beside it."""
    return page_text([(each.found, each.svg.name, each.neighbours) for each in shown])


def page_text(explanations: Sequence[tuple[Explanation, str, Sequence[Neighbour]]]) -> str:
    """The page for explanations, each with the address of its figure ("" for none) and the training cells like it.

    Cells that are not judged come first.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    first = sorted(explanations, key=lambda each: not each[0].warning)
    return environment.get_template("explanations.html").render(
        rows=[_row(*each) for each in first], not_judged=sum(bool(found.warning) for found, *_ in explanations)
    )


def _row(found: Explanation, figure: str, neighbours: Sequence[Neighbour]) -> dict[str, Any]:
    """What the page shows of one cell."""
    groups, rest = grouped(found)
    return {
        "found": found,
        "image": png_data_uri(image_with_contours(found, _SIDE)),
        "map": png_data_uri(map_square(found)) if found.map_caption else None,
        "svg": figure,
        "groups": groups,
        "rest": rest,
        "strips": {reason.column: Markup(distribution_strip(reason, found)) for reason in found.reasons},
        "reach": _reach(groups),
        "block_reach": max((abs(value) for value in found.attribution.blocks.values()), default=1.0) or 1,
        "neighbours": [(one, thumbnail(one.cell)) for one in neighbours],
    }


def _reach(groups: Sequence[GroupRows]) -> float:
    """The longest bar of a cell: of a group, one of its features, or all its others."""
    bars = [abs(value) for group in groups for value in (group.share.value, group.share.rest)]
    bars += [abs(reason.contribution) for group in groups for reason in group.reasons]
    return max(bars, default=1.0) or 1.0


def map_square(found: Explanation) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), the longer side as on the page: where a network looks, or a deep block has what it adds."""
    return fitted(map_overlay(found), _SIDE)


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of a small image of a cell."""
    return png_data_uri(fitted(cell.rgb))


def fitted(rgb: NDArray[np.uint8], side: int = _SMALL) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), the longer side of ``side`` pixels; by default as small as a thumbnail."""
    scale = side / max(rgb.shape[:2])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)
