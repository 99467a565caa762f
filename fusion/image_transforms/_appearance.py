"""How a cell looks, in as few numbers as normalisation needs: its size, its empty glass and a sample of its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import Cell

#: Pixels sampled in each cell, evenly over it: 64 tell its mean colour within 2 grey levels, and 20 cells a stain.
PIXELS = 64

#: Whole red cells from which an image has a scale of its own: they differ by some 8%, the median of two by 6%.
LEAST_RED_CELLS = 2

#: Micrometres across a red cell on a dry smear: textbooks give 7 to 8.
RED_CELL_UM = 7.5

#: Pixels around the cell that its own blur reaches, and that are no glass.
_HALO = 3

#: Fewer pixels of glass than these say nothing.
_LEAST_GLASS = 20


@dataclass(frozen=True)
class Appearance:
    """Diameter, glass and sampled pixels of a cell. Not a block of features: it is what normalisation is fitted on."""

    name: ClassVar[str] = "appearance"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    def feature_names(self) -> list[str]:
        """``diameter``, ``um_per_px``, ``glass_red`` .., then ``pixel_0_red`` .."""
        names = ["diameter", "um_per_px", *(f"glass_{channel}" for channel in _CHANNELS)]
        return names + [f"pixel_{at}_{channel}" for at in range(PIXELS) for channel in _CHANNELS]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN for glass that is not seen and for an unknown size of a pixel."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(self.feature_names()))

    def _measure(self, cell: Cell) -> list[float]:
        inside = cell.rgb[cell.mask]
        at = np.linspace(0, len(inside) - 1, PIXELS).round().astype(np.intp)
        diameter = 2 * math.sqrt(len(inside) / math.pi)
        um = math.nan if cell.um_per_px is None else cell.um_per_px
        return [diameter, um, *glass_of(cell), *inside[at].ravel().tolist()]


@dataclass(frozen=True)
class RedCells:
    """Median diameter in pixels of the red cells around a cell, and how many are whole; for a scale by red cells."""

    name: ClassVar[str] = "red_cells"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False
    #: ``fusion.features.cell_measurement`` measures them while it has the whole image.
    needs_red_cells: ClassVar[bool] = True

    def feature_names(self) -> list[str]:
        """``diameter`` and ``count``."""
        return ["diameter", "count"]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, 2): one row a cell; diameter is NaN where fewer than ``LEAST_RED_CELLS`` are whole.

        Raises
        ------
        ValueError : a cell whose image was cropped without a look at its red cells.
        """
        rows = []
        for cell in cells:
            if cell.red_cells is None:
                raise ValueError("the red cells of this image have not been measured")
            seen = len(cell.red_cells)
            rows.append([float(np.median(cell.red_cells)) if seen >= LEAST_RED_CELLS else math.nan, float(seen)])
        return np.array(rows, np.float32).reshape(len(cells), 2)


_CHANNELS = ("red", "green", "blue")


def glass_of(cell: Cell) -> list[float]:
    """Grey level (R, G, B) of the empty glass beside a cell: median of the brighter half of what is around it.

    NaN where the cell is cut out on black or fills its image.
    """
    reach = np.ones((2 * _HALO + 1, 2 * _HALO + 1), np.uint8)
    around = cell.rgb[cv2.dilate(cell.mask.view(np.uint8), reach) == 0]
    around = around[around.max(axis=1) > 0] if len(around) else around
    outside = int((~cell.mask).sum())
    if len(around) < max(_LEAST_GLASS, outside // 10):
        return [math.nan] * 3
    light = around.sum(axis=1)
    return np.median(around[light >= np.median(light)], axis=0).tolist()
