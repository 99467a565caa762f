"""What may be done to a cell between its reading and its measuring, as a protocol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import Cell


class Change(Protocol):
    """What is done to a cell before it is measured."""

    @property
    def zoom(self) -> float:
        """Factor on lengths in pixels."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""

    def apply(self, cell: Cell) -> Cell:
        """The changed cell."""

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The changed cell of an image, uint8 (H, W, 3), without a mask; arguments and errors as of ``make_cell``."""
