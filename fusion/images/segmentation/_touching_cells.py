"""White cells that touch and were taken as one: told by the neck between them, or by nuclei too large for one cell.

Between two cells that touch, their common contour has a bay on either side, and what lies between the bays is narrower
than either cell. Where the bays are filled, by a red cell or by blur, the nuclei tell: two that lie side by side in one
round cell have at most half its radius.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusion.images.segmentation._mask_geometry import Mask, regions
from fusion.images.segmentation._otsu import Values

# Between two cells the contour is narrower than the narrower of them by this factor or more: of 300 cells drawn by hand
# none has a waist below 0.99. Seven stretched cells in 2,100 of another laboratory do, and are cut.
_NECK = 0.95

# What is less wide than this share of the largest is no cell of its own: a bump, a platelet, an arm of the cell.
_LEAST = 0.45

# Two nuclei parted by so narrow a neck, the less wide of which has this share of the width of the cell, are of two
# cells. Lobes of one nucleus have up to 0.50 in 1,300 cells of four laboratories, and 0.41 in 300 drawn by hand.
_NECK_OF_NUCLEI, _LARGE = 0.75, 0.52

# Share of a white cell that is nucleus, at the least; red cells have none.
_NUCLEAR = 0.15

# Steps in which a neck is looked for, as a share of the greatest depth.
_STEP = 0.03


def part_in_the_middle(cell: Mask, nucleus: Mask) -> Mask | None:
    """Of several cells taken as one, the one nearest the middle of the image.

    Parameters
    ----------
    cell : bool (H, W), one region.
    nucleus : bool (H, W), of one cell or of all.

    Returns
    -------
    bool (H, W), or None : None where ``cell`` is one cell, or no part has a nucleus.
    """
    x, y, width, height = cv2.boundingRect(cell.view(np.uint8))
    if not width:
        return None
    window = slice(y, y + height), slice(x, x + width)
    within, dark = cell[window], cell[window] & nucleus[window]
    depth, of_nucleus = _depth(within), _depth(dark)
    cores = _cores(depth, _LEAST * depth.max(), _NECK)
    if cores is None:
        cores = _cores(of_nucleus, _LARGE * depth.max(), _NECK_OF_NUCLEI)
    if cores is None:
        return None
    *_, nearest = cv2.distanceTransformWithLabels(
        (~cores).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    rows, columns = np.nonzero(cores)
    middle = (cell.shape[0] - 1) / 2 - y, (cell.shape[1] - 1) / 2 - x
    away = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2
    names = nearest[rows, columns]
    for name in sorted(np.unique(names), key=lambda name: away[names == name].min()):
        part = within & (nearest == name)
        if np.count_nonzero(part & dark) > _NUCLEAR * np.count_nonzero(part):
            whole = np.zeros_like(cell)
            whole[window] = part
            return regions(whole)
    return None


def _depth(mask: Mask) -> Values:
    """float32 (H, W): how far inside a mask a pixel lies; outside the image there is no mask."""
    depth = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.asarray(depth, np.float32)


def _cores(depth: Values, least: float, neck: float) -> Mask | None:
    """bool (H, W): the insides of the parts of a mask, apart from each other; None where it is of one part.

    ``least``: the greatest depth that a part has. ``neck``: how deep the mask may be between two parts, as a share of
    the depth of the less deep one.
    """
    top = float(depth.max())
    if top <= least:
        return None
    x, y, width, height = cv2.boundingRect((depth > least).view(np.uint8))
    inner, deepest = np.ascontiguousarray(depth[y : y + height, x : x + width]), -1.0
    for level in np.arange(0, neck, _STEP) * top:
        # A part of its own holds a pixel as deep as this. Where all of these hang together there is one part.
        deep = max(least, level / neck)
        if deep > deepest:
            deepest, apart = deep, cv2.connectedComponents((inner > deep).view(np.uint8), connectivity=8)[0] > 2
        if apart:
            _, labels = cv2.connectedComponents((depth > level).view(np.uint8), connectivity=8)
            parts = np.unique(labels[depth > deep])
            if len(parts) > 1:
                return np.isin(labels, parts)
    return None
