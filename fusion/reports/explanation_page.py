"""The page of explanations: one HTML file with everything it shows inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.explanation.explanation import Explanation
from fusion.explanation.nearest_training_cells import Neighbour
from fusion.images.cell import Cell
from fusion.reports.explanation_figure import image_with_contours, map_overlay
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


# ---- the page -------------------------------------------------------------------------------------------------------


def explanation_page(shown: Sequence[Shown]) -> str:
    """The page as HTML text, with everything it shows inside it; figures are linked beside it."""
    return page_text([(each.found, each.svg.name, each.neighbours) for each in shown])


def page_text(explanations: Sequence[tuple[Explanation, str, Sequence[Neighbour]]]) -> str:
    """The page for explanations, each with the address of its figure ("" for none) and the training cells like it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("explanations.html").render(
        rows=[
            {
                "found": found,
                "image": png_data_uri(image_with_contours(found, _SIDE)),
                "map": png_data_uri(map_square(found)) if found.map_caption else None,
                "svg": figure,
                "reach": max((abs(reason.contribution) for reason in found.reasons), default=1.0),
                "block_reach": max((abs(value) for value in found.attribution.blocks.values()), default=1.0) or 1,
                "neighbours": [(one, thumbnail(one.cell)) for one in neighbours],
            }
            for found, figure, neighbours in explanations
        ]
    )


def map_square(found: Explanation) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), the longer side as on the page: where a network looks, or a deep block has what it adds."""
    return _fitted(map_overlay(found), _SIDE)


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of a small image of a cell."""
    return png_data_uri(_fitted(cell.rgb, _SMALL))


def _fitted(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(rgb.shape[:2])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)
