"""Pictures of what a stress does to a cell of each class."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from fusion.analysis.stress import STRESSES
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.reports.page.judged_cells import Places

#: Longer side in pixels of a cell without stress; others are drawn by the same measure, so that scale is to be seen.
_SIDE = 84


def pictures(stress: Mapping[str, Any], places: Places) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each stress, none first, its name, and of each pictured cell its name and a picture as a data URL. Cells
    whose files have gone are left out."""
    images = {}
    for name in stress["pictured"]:
        if name not in places:
            continue
        try:
            rgb = decode_image(read_bytes(places[name].path))
            images[name] = (rgb, make_cell(rgb, places[name].read_mask()))
        except CellError:
            continue
    rows = []
    for row in stress["rows"]:
        change = STRESSES.get(row["stress"])
        shown = []
        for name, (rgb, cell) in images.items():
            try:
                own = cell if change is None else change.find(rgb, None) if places[name].mask_path is None else None
                own = change.apply(cell) if own is None and change is not None else own
            except CellError:
                continue
            assert own is not None
            shown.append((name, _data_url(own.rgb, _SIDE / max(cell.rgb.shape[:2]))))
        rows.append((row["stress"], shown))
    return rows if images else []


def _data_url(rgb: np.ndarray, scale: float) -> str:
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    # Nearest where it is enlarged: noise and blocks are what is to be seen.
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    content = cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(content).decode()
