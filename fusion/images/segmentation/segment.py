"""From an image to masks: where the white cell is, and where its nucleus is.

Two kinds of image are understood. On a black background the cell is whatever is not black (``_black_background``);
black bars that pad a field are left aside. In a field of a stained smear the nucleus is found first, and the contour of
the cell is the best closed curve around it (``_smear_field``, ``_cell_contour``); light that falls off across the field
is evened before (``_illumination``). The nucleus of a known cell is its
purple part (``_nucleus``). Every threshold comes from the image and every length from the nucleus or the cell found, so
that neither the stain nor the magnification is assumed. Same input, same masks: nothing here is random, and nothing is
learnt in advance.

Cellpose is no extra of ours: version 4.2 installs, in 5.9 GB with its torch, but fetches its weights from a hub at run
time, and offline it could not be shown to work. Masks it has made elsewhere can be given like any other: given masks
win.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusion.images.segmentation._black_background import BLACK, cell_on_black, has_black_background, without_bars
from fusion.images.segmentation._illumination import evened
from fusion.images.segmentation._mask_geometry import Image, Mask
from fusion.images.segmentation._nucleus import purple_part
from fusion.images.segmentation._smear_field import cell_in_field, slide_colour

__all__ = ["BLACK", "VERSION", "has_black_background", "segment_cell", "segment_nucleus"]

#: Part of every feature's fingerprint: raise it when a mask could change.
VERSION = "12"


def segment_cell(rgb: Image) -> Mask:
    """The whole white cell, nucleus and cytoplasm.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).

    Returns
    -------
    bool (H, W) : one connected region without holes; all False where no cell is found.
    """
    if has_black_background(rgb):
        return cell_on_black(rgb)
    cell, field = np.zeros(rgb.shape[:2], bool), without_bars(rgb)
    cell[field] = cell_in_field(evened(np.ascontiguousarray(rgb[field])))
    return cell


def segment_nucleus(rgb: Image, mask: Mask) -> Mask:
    """The nucleus inside a known cell: the purple part, distinguished from the cytoplasm by a threshold of the cell's
    own.

    Where the cell shows no second tone, as a lymphoblast that is all nucleus, the whole cell is returned.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).
    mask : bool (H, W), the whole cell.

    Returns
    -------
    bool (H, W) : inside ``mask``, of one or several lobes, without holes. Empty where ``mask`` is.
    """
    nucleus = np.zeros(mask.shape, bool)
    if not mask.any():
        return nucleus
    white = None
    if not has_black_background(rgb):
        field = without_bars(rgb)
        shown = np.ascontiguousarray(rgb[field])
        even = evened(shown)
        white = slide_colour(even)
        if even is not shown:
            rgb = rgb.copy()
            rgb[field] = even
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    nucleus[window] = purple_part(np.ascontiguousarray(rgb[window]), np.ascontiguousarray(mask[window]), white)
    return nucleus
