"""Red cells around the white cell of a field, and how wide they are: a scale that every smear brings along.

A red cell is distinguished from the slide by the green light it holds back, and its edge is where it holds back a third
of what its rim does. Only what is whole and by itself is measured: nothing at the image's edge, nothing that touches
another cell, nothing that is not round. Large ones are whole less often in a small image: the median is about a tenth
below that of all red cells, in every site alike.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._mask_geometry import Image, Mask, radius_of, solidity
from fusion.images.segmentation._otsu import Values, counts, to_bytes, two_classes
from fusion.images.segmentation._smear_field import slide_colour

#: Share of its rim's optical density at which a red cell ends. Its thickness falls off towards the edge: at a half,
#: drawn ones come out 5% too narrow; at a quarter 1%, and a sixth of them are lost to what lies near.
_EDGE = 1 / 3

#: Solidity, and shorter over longer side of the tightest rectangle, from which a blob is one red cell seen from above:
#: two that touch have 0.9 and 0.5.
_SOLID, _ROUND = 0.95, 0.8

#: Diameters over that of the white cell within which a blob may be a red cell: a platelet has a third, and a white cell
#: is from as wide as a red cell to three times as wide.
_NARROWEST, _WIDEST = 0.35, 1.25


def whole_red_cells(rgb: Image, mask: Mask) -> NDArray[np.float64]:
    """Middle and diameter, that of the disc of equal area, of every whole red cell beside the white cell; in pixels.

    Parameters
    ----------
    rgb : uint8 (H, W, 3), the whole image.
    mask : bool (H, W), the white cell.

    Returns
    -------
    float64 (n, 3) of y, x, diameter; n may be 0: so it is where the cell is cut out on black.
    """
    none = np.empty((0, 3))
    white = 2 * math.sqrt(np.count_nonzero(mask) / math.pi)
    beside = (cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)) == 0) & (rgb.max(axis=2) > 0)
    if np.count_nonzero(beside) < white**2 / 4:  # not even one cell's worth of surroundings
        return none
    smooth = np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(0.6, white / 100)), np.uint8)
    glass = slide_colour(smooth)
    density = -np.log(np.clip(smooth[..., 1] / glass[1], 1 / 256, 1)).astype(np.float32)
    tones = to_bytes(density, 0.0, 1.5)
    stained = (tones > two_classes(counts(tones[beside]))[0]) & beside
    found = []
    blobs, labels, stats, _ = cv2.connectedComponentsWithStats(_filled(stained).view(np.uint8), connectivity=4)
    touching = set(np.unique(labels[cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0]).tolist())
    height, width = mask.shape
    for label in range(1, blobs):
        x, y, w, h, area = stats[label]
        at_edge = x == 0 or y == 0 or x + w == width or y + h == height
        across = 2 * math.sqrt(area / math.pi)
        if at_edge or label in touching or not _NARROWEST * white <= across <= _WIDEST * white:
            continue
        blob = labels[y : y + h, x : x + w] == label
        if _is_round(blob):
            room = slice(max(0, y - 3), y + h + 3), slice(max(0, x - 3), x + w + 3)
            diameter = _width(density[room], labels[room] == label, beside[room])
            found += [(y + (h - 1) / 2, x + (w - 1) / 2, diameter)] if diameter else []
    return np.array(found).reshape(-1, 3)


def _filled(mask: Mask) -> Mask:
    """Without holes: the middle of a red cell may be as pale as the slide."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, contours, -1, [1], cv2.FILLED)
    return filled.view(bool)


def _width(density: Values, blob: Mask, beside: Mask) -> float:
    """Diameter of one red cell, by an edge of its own: 0 where that lets it run into something else."""
    level = _EDGE * float(np.percentile(density[blob], 75))
    whole = _filled((density > level) & beside)
    _, labels = cv2.connectedComponents(whole.view(np.uint8), connectivity=4)
    own = labels == np.bincount(labels[blob & whole], minlength=2)[1:].argmax() + 1
    edge = own[0].any() or own[-1].any() or own[:, 0].any() or own[:, -1].any()
    return 0.0 if edge or not _is_round(own) else 2 * radius_of(np.count_nonzero(own))


def _is_round(blob: Mask) -> bool:
    (contour, *_), _ = cv2.findContours(np.pad(blob, 1).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(contour) < 8:
        return False
    shorter, longer = sorted(cv2.minAreaRect(contour)[1])
    return solidity(contour[:, 0].astype(np.float64)) >= _SOLID and shorter >= _ROUND * longer
