"""A cell that was cut out and laid on black is whatever is not black. Black bars beside a field are no slide."""

from __future__ import annotations

import cv2
import numpy as np

from fusion.images.segmentation._mask_geometry import Image, Mask, regions

# The darkest pixel measured inside a real cell on black has R + G + B = 26.
BLACK = 26


# Share of the border of what is not black that a field fills, which is a rectangle. A cell touches its bounding box in
# a few places only; an upright square with round corners, more square than any cell, fills less than 0.8.
FILLED = 0.9


def has_black_background(rgb: Image) -> bool:
    """Whether a cell was cut out and laid on black: at least half of the image's outermost pixels are black.

    A field with black bars beside it is none, see ``without_bars``.
    """
    if rgb.size == 0 or 2 * _black_share(rgb) < 1:
        return False
    return without_bars(rgb) == (slice(0, rgb.shape[0]), slice(0, rgb.shape[1]))


def without_bars(rgb: Image) -> tuple[slice, slice]:
    """Rows and columns of a field without the black bars that pad an image beyond the border of the camera's.

    All of them where there are no such bars, or where what lies on black is no rectangle, but a cell.
    """
    whole = slice(0, rgb.shape[0]), slice(0, rgb.shape[1])
    if rgb.size == 0 or not any(side.max() < BLACK and _is_black(side).all() for side in _sides(rgb)):
        return whole
    lit = ~_is_black(rgb)
    x, y, width, height = cv2.boundingRect(lit.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    return window if width and _black_share(rgb[window]) <= 1 - FILLED else whole


def _sides(rgb: Image) -> tuple[Image, Image, Image, Image]:
    return rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]


def _black_share(rgb: Image) -> float:
    """Of the outermost pixels, corners twice."""
    border = np.concatenate(_sides(rgb))
    return 0.0 if border.min() >= BLACK else float(_is_black(border).mean())


def _is_black(pixels: Image) -> Mask:
    red, green, blue = (pixels[..., channel].astype(np.uint16) for channel in range(3))
    return np.asarray(red + green + blue < BLACK, bool)


def cell_on_black(rgb: Image) -> Mask:
    """bool (H, W): the largest thing that is not black, without holes."""
    # R + G + B, cut off at 255: far above black.
    red, green, blue = cv2.split(rgb)
    brightness = cv2.add(cv2.add(red, green), blue)
    mask = brightness >= BLACK
    # A clean cut leaves no pixel between black and the cell. Where there are some, the image was resized or
    # compressed: its edge is then half-way up to the cell, whose darkest tenth stands for the cell at its edge.
    if mask.any() and cv2.countNonZero(brightness) > np.count_nonzero(mask):
        whole = rgb.sum(axis=2, dtype=np.int32)
        mask = whole >= max(BLACK, np.percentile(whole[mask], 10) / 2)
    return regions(mask)
