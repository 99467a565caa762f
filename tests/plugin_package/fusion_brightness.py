"""How bright a cell is: a third-party extractor for Fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import Cell
from fusion.plugins import Description


@dataclass(frozen=True)
class Brightness:
    """Mean grey value of the cell and of its nucleus.

    Parameters
    ----------
    gamma : exponent put on grey values as shares of white; 1 leaves them.

    Raises
    ------
    ValueError : gamma is not above 0.
    """

    name: ClassVar[str] = "brightness"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma must be above 0, not {self.gamma}")

    def feature_names(self) -> list[str]:
        return ["cell_mean", "nucleus_mean"]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        rows = np.full((len(cells), 2), np.nan, np.float32)
        for row, cell in zip(rows, cells, strict=True):
            grey = 255 * (cell.rgb.mean(axis=2) / 255) ** self.gamma
            row[0] = grey[cell.mask].mean()
            if cell.nucleus.any():
                row[1] = grey[cell.nucleus].mean()
        return rows

    def describe(self) -> list[Description]:
        """Optional: what exports and explanations say of each feature."""
        return [
            Description("cell_mean", "Mean grey value of the cell.", unit="grey value", range="0 to 255"),
            Description("nucleus_mean", "Mean grey value of the nucleus; NaN without one.", "grey value", "0 to 255"),
        ]
