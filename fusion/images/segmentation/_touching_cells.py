"""White cells that touch and were taken as one: told by the neck between them, or by nuclei too large for one cell.

Between two cells that touch, their common contour has a bay on either side, and what lies between the bays is narrower
than either cell. Where the bays are filled, by a red cell or by blur, the nuclei tell: two that lie side by side in one
round cell have at most half its radius, three and more still less.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._mask_geometry import Mask, regions
from fusion.images.segmentation._otsu import Values

# Between two cells the contour is narrower than the narrower of them by this factor or more: of 300 cells drawn by hand
# none has a waist below 0.99.
_NECK = 0.95

# A stretched cell may have a waist too, and its nucleus runs through it. So where the neck is as wide as this share of
# the narrower half, and the nucleus too, the halves are of one cell if the largest disc in either covers so much of
# them together: in clusters a half holds more than one cell. Unless both halves are mostly nucleus, as lymphoblasts are
# that press against each other. Of 2,100 cells of one laboratory five are stretched so, covered to 0.68 and more, with
# at most 0.58 of nucleus in the half that has less.
_WIDE, _COVERED, _MOSTLY = 0.8, 0.667, 0.62

# What has less nucleus than this is not bound to another by it.
_HARDLY = 0.05

# What is less wide than this share of the largest is no cell of its own: a bump, a platelet, an arm of the cell.
_LEAST = 0.45

# Nuclei parted by so narrow a neck are of several cells where they are too wide for one: where n times the square of
# the least wide of n nuclei is more than this share of the square of the width of the cell. Two lobes of one nucleus
# have up to 0.50 in 1,400 cells of four laboratories, which is half the width each; three have up to 0.46, and more of
# them 0.42.
_NECK_OF_NUCLEI, _CROWDED, _MOST_LOBES = 0.75, 0.5408, 5

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
    depth = _depth(within)
    top = float(depth.max())
    cores = _cores(depth, _LEAST * top, _NECK)
    if cores is None and np.count_nonzero(dark) <= _CROWDED * np.pi * top**2:
        return None
    of_nucleus = _depth(dark)
    if cores is None:
        cores = _cores_of_nuclei(of_nucleus, top)
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
            if _is_one(within, part, depth, of_nucleus):
                return None
            whole = np.zeros_like(cell)
            whole[window] = part
            return regions(whole)
    return None


def _is_one(cell: Mask, part: Mask, depth: Values, of_nucleus: Values) -> bool:
    """Whether a part and the rest are halves of one stretched cell: its nucleus runs through a wide waist."""
    rest = cell & ~part
    line = rest & (cv2.dilate(part.view(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    if not line.any():
        return False
    if any(inside[line].max() < _WIDE * min(inside[part].max(), inside[rest].max()) for inside in (depth, of_nucleus)):
        return False
    nuclear = min(np.count_nonzero(of_nucleus[half]) / np.count_nonzero(half) for half in (part, rest))
    covered = np.pi * sum(float(_depth(half).max()) ** 2 for half in (part, rest)) / np.count_nonzero(cell)
    return bool(_HARDLY <= nuclear <= _MOSTLY and covered > _COVERED)


def _depth(mask: Mask) -> Values:
    """float32 (H, W): how far inside a mask a pixel lies; outside the image there is no mask."""
    depth = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.asarray(depth, np.float32)


def _cores_of_nuclei(depth: Values, top: float) -> Mask | None:
    """bool (H, W): the insides of nuclei that are too large to be lobes in one cell; None where there are none.

    ``depth``: of the nuclei. ``top``: the greatest depth of the cell.
    """
    from fusion.images.segmentation._part_loops import hangs_together

    least = [top * np.sqrt(_CROWDED / number) for number in range(2, _MOST_LOBES + 1)]
    x, y, width, height = cv2.boundingRect((depth > least[-1]).view(np.uint8))
    if not width or hangs_together(
        np.ascontiguousarray(depth[y : y + height, x : x + width]),
        np.unique([_limits(depth, each, _NECK_OF_NUCLEI)[1] for each in least]),
    ):
        return None
    x, y, width, height = cv2.boundingRect((depth > 0).view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    inner = np.ascontiguousarray(depth[window])
    cores = _cores(inner, least[0], _NECK_OF_NUCLEI)
    for number in range(3, _MOST_LOBES + 1):
        if cores is not None:
            break
        nuclei = _innermost_cores(inner, least[number - 2])
        cores = np.any(nuclei, axis=0) if len(nuclei) >= number else None
    if cores is None:
        return None
    whole = np.zeros(depth.shape, bool)
    whole[window] = cores
    return whole


def _innermost_cores(depth: Values, least: float) -> list[Mask]:
    """The insides of all nuclei that are so deep, each bool (H, W): what is parted may have parts of its own."""
    cores = _cores(depth, least, _NECK_OF_NUCLEI)
    if cores is None:
        return [depth > least] if depth.max() > least else []
    number, labels = cv2.connectedComponents(cores.view(np.uint8), connectivity=8)
    parts = [labels == label for label in range(1, number)]
    return [core for part in parts for core in _innermost_cores(np.where(part, depth, np.float32(0)), least)]


def _cores(depth: Values, least: float, neck: float) -> Mask | None:
    """bool (H, W): the insides of the parts of a mask, apart from each other; None where it is of one part.

    ``least``: the greatest depth that a part has. ``neck``: how deep the mask may be between two parts, as a share of
    the depth of the less deep one.
    """
    from fusion.images.segmentation._part_loops import hangs_together

    x, y, width, height = cv2.boundingRect((depth > least).view(np.uint8))
    if not width:
        return None
    inner, (levels, limits) = np.ascontiguousarray(depth[y : y + height, x : x + width]), _limits(depth, least, neck)
    # Where all that is so deep hangs together there is one part.
    if hangs_together(inner, np.unique(limits)):
        return None
    known = -1.0
    for level, deep in zip(levels, limits, strict=True):
        if deep > known:
            known, apart = deep, cv2.connectedComponents((inner > deep).view(np.uint8), connectivity=8)[0] > 2
        if apart:
            number, labels = cv2.connectedComponents((depth > level).view(np.uint8), connectivity=8)
            is_part = np.bincount(labels[y : y + height, x : x + width][inner > deep], minlength=number) > 0
            if np.count_nonzero(is_part) > 1:
                return is_part[labels]
    return None


def _limits(depth: Values, least: float, neck: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels at which a mask may fall apart, and how deep a pixel of a part of its own is there at the least."""
    levels = np.arange(0, neck, _STEP) * float(depth.max())
    return levels, np.asarray(np.maximum(least, levels / neck), np.float64)
