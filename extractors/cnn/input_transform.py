"""How a cell becomes the square image that a network is given; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import MARGIN, Cell

#: What the network is shown, and what then becomes of what lies around the cell.
INPUTS = {"cell": "black", "cell-on-grey": "grey", "field": "kept"}

#: What becomes of what lies around the cell, as weights files say it.
BACKGROUNDS = tuple(INPUTS.values())

#: The grey: the middle of the range, near the mean that networks are trained about.
GREY = 128


@dataclass(frozen=True)
class InputTransform:
    """How a cell becomes the square image that a network sees; plain values, needs no torch.

    Attributes
    ----------
    size : side in pixels of the image.
    view : side in source pixels of the square, centred on the cell; None is the square that just holds it.
    background : "black", "grey" or "kept".
    interpolation : "bicubic" or "bilinear", where the image is enlarged.
    """

    size: int
    view: int | None
    background: str
    interpolation: str

    def __call__(self, cells: Sequence[Cell]) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3)."""
        squares = [_resized(square(cell, self.view, self.background), self.size, self.interpolation) for cell in cells]
        return np.stack(squares) if squares else np.empty((0, self.size, self.size, 3), np.uint8)

    def resample_to_cell(self, values: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb`` from float (S, S) over the cell's image; 0 where that does not reach."""
        side, top, left = _window(cell, self.view)
        whole = cv2.resize(np.asarray(values, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        laid = np.zeros(cell.rgb.shape[:2], np.float32)
        rows, columns = _reach(top, side, cell.rgb.shape[0]), _reach(left, side, cell.rgb.shape[1])
        laid[rows, columns] = whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return laid


def square(cell: Cell, view: int | None, background: str) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): the cell's bounding box in the middle of a square of source pixels, beyond the crop black,
    or grey where the background is.

    Both side and middle follow the mask alone, so that background around the cell changes nothing.
    """
    side, top, left = _window(cell, view)
    rows, columns = _reach(top, side, cell.rgb.shape[0]), _reach(left, side, cell.rgb.shape[1])
    crop = cell.rgb[rows, columns]
    level = GREY if background == "grey" else 0
    if background != "kept":
        crop = np.where(cell.mask[rows, columns, None], crop, np.uint8(level))
    image = np.full((side, side, 3), level, np.uint8)
    image[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = crop
    return image


def _window(cell: Cell, view: int | None) -> tuple[int, int, int]:
    """Side, top and left of the square in source pixels of the crop; it may reach beyond it."""
    x, y, width, height = cv2.boundingRect(cell.mask.view(np.uint8))
    side = view or max(width, height) + 2 * MARGIN
    return side, y + (height - side) // 2, x + (width - side) // 2


def _reach(start: int, side: int, length: int) -> slice:
    """The part of 0 to ``length`` that the square covers; empty where a crop lies outside it."""
    first = max(0, start)
    return slice(first, max(first, min(length, start + side)))


def _resized(image: NDArray[np.uint8], side: int, interpolation: str) -> NDArray[np.uint8]:
    """Shrunk by averaging areas, enlarged by what the weights were trained with.

    OpenCV's bicubic reads 16 pixels whatever the scale: shrinking with it skips pixels and turns chromatin into noise.
    timm's own evaluation shrinks with an antialiased filter, to which the area average is the nearest in OpenCV. timm's
    crop to 90% or so is left out: it would cut the contour off a cell that already fills the image.
    """
    if len(image) == side:
        return image
    enlarging = cv2.INTER_CUBIC if interpolation == "bicubic" else cv2.INTER_LINEAR
    chosen = cv2.INTER_AREA if len(image) > side else enlarging
    return np.asarray(cv2.resize(image, (side, side), interpolation=chosen), np.uint8)
