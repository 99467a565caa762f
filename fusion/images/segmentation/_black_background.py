"""A cell that was cut out and laid on black: whatever is not black."""

from __future__ import annotations

import cv2
import numpy as np

from fusion.images.segmentation._mask_geometry import Image, Mask, regions

# The darkest pixel measured inside a real cell on black has R + G + B = 26.
BLACK = 26


def has_black_background(rgb: Image) -> bool:
    """Whether a cell was cut out and laid on black: at least half of the image's outermost pixels are black."""
    if rgb.size == 0:
        return False
    frame = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    brightness = frame[:, 0].astype(np.uint16) + frame[:, 1] + frame[:, 2]
    return bool(2 * np.count_nonzero(brightness < BLACK) >= len(brightness))


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
