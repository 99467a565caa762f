"""The white cell in a field of a stained smear: its nucleus first, then the best closed curve around that.

The nucleus is the dark purple blob nearest the centre. Every threshold comes from the picture and every length from
the nucleus found, so that neither the stain nor the magnification is assumed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.segmentation_nucleus import greenness
from fusion.segmentation_outline import DOUBTING, TRUSTING, Field, grow_outline
from fusion.shapes import Mask, Picture, disc, opened, polygon, radius_of, regions, solidity
from fusion.thresholds import Values, counts, quantiles, three_classes, to_bytes, two_classes

# Pictures are searched at 512 pixels at most: a cell is then still 100 pixels wide where it fills a fifth of the field.
SEARCH_SIZE = 512

# Share of the cell around its nucleus that may look like slide: 99 of 100 drawn cells have less.
SLIDE_INSIDE = 0.05

# Solidity below which an outline is no cell's: the least of 300 drawn cells is 0.96.
SOLID = 0.95


def cell_in_field(rgb: Picture) -> Mask:
    """bool (H, W): the white cell nearest the centre; all False where nothing looks like a nucleus."""
    scale = min(1.0, SEARCH_SIZE / max(1, *rgb.shape[:2]))
    if min(rgb.shape[:2]) * scale < 8:  # smaller than any nucleus whose outline could be followed
        return np.zeros(rgb.shape[:2], bool)
    small = rgb if scale == 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    outline = _outline(np.asarray(small, np.uint8))
    if outline is None:
        return np.zeros(rgb.shape[:2], bool)
    # Pixel centres lie at whole numbers, so scaling has to keep the corner at -0.5 in place.
    return _without_bumps(polygon((outline + 0.5) / scale - 0.5, rgb.shape[:2]))


def slide_colour(rgb: Picture) -> Values:
    """float32 (3,): the colour of the empty slide, at least 1 so that one may divide by it."""
    return _median_colour(rgb, _slide(rgb))


def _outline(rgb: Picture) -> NDArray[np.float64] | None:
    """The cell's outline as (n, 2) points (x, y); None where nothing in the picture looks like a nucleus."""
    # Just under one percent of the picture's side takes off noise and JPEG blocks and leaves outlines where they are.
    smooth = np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(0.6, min(rgb.shape[:2]) / 120)), np.uint8)
    slide = _slide(smooth)
    white = _median_colour(smooth, slide)
    nucleus = _central_nucleus(greenness(smooth, white))
    if nucleus is None:
        return None
    transmission = _transmission(smooth, white)
    stain = _norm(1 - transmission)
    # What three quarters of the slide stay below is no stain, by half as much again; 0.15 is more than any noise.
    faint = max(min(1.5 * float(np.percentile(stain[slide], 75)), 0.15), _faint_stain(stain, nucleus))
    darkest = (quantiles(smooth, 0.02) / white).astype(np.float32)
    field = Field(transmission, stain, nucleus, faint, darkest)
    points = grow_outline(field, TRUSTING)
    cell = polygon(points, nucleus.shape)
    around = cell & ~nucleus
    # There is no slide in a cell, and no deep bay in its outline: the curve has run around red cells that touch it.
    if solidity(points) < SOLID or (around.any() and (stain[around] < faint).mean() > SLIDE_INSIDE):
        points = grow_outline(field, DOUBTING)
    return points


def _slide(rgb: Picture) -> Mask:
    """Where the slide is empty: the lightest of three classes of green, or of fewer where it has fewer tones."""
    green = np.asarray(cv2.extractChannel(rgb, 1), np.uint8)
    lightest = green > three_classes(green)[1]
    return lightest if lightest.any() else green == green.max()


def _median_colour(rgb: Picture, where: Mask) -> Values:
    return np.maximum(quantiles(rgb, 0.5, where.view(np.uint8)), 1).astype(np.float32)


def _transmission(rgb: Picture, white: Values) -> Values:
    """float32 (H, W, 3): the share of light let through, 1 on the empty slide."""
    table = np.minimum(np.arange(256, dtype=np.float32)[:, None] / white, 1)
    return np.asarray(cv2.LUT(rgb, table[None]), np.float32)


def _norm(vectors: Values) -> Values:
    """The length of the vectors along the last axis, which has three parts."""
    squares = vectors * vectors
    return np.sqrt(squares[..., 0] + squares[..., 1] + squares[..., 2])


def _central_nucleus(green: Values) -> Mask | None:
    """The dark purple blob nearest the centre, with the lobes that belong to it."""
    tones = to_bytes(green, -0.5, 0.75)
    dark = tones <= three_classes(tones)[0]
    # Red cells alone stay above 0.3: they take no more than 0.35 of the green, and as much of the blue.
    if not dark.any() or np.median(green[dark]) > 0.3:
        return None
    blobs = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, disc(1))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(blobs, connectivity=4)
    if count == 1:
        return None
    areas = stats[:, cv2.CC_STAT_AREA].astype(float)
    middle = (np.array(labels.shape[::-1]) - 1) / 2
    off_centre = np.linalg.norm((centres - middle) / (middle + 1), axis=1)  # 1 in the middle of an edge
    weight = areas * np.exp(-2 * off_centre**2)
    weight[0] = 0
    nucleus = _with_lobes(labels, areas, int(weight.argmax()))
    # Among many red cells the three classes are slide, red cells, and the whole white cell: then take its darker part.
    split, separability = two_classes(counts(tones[nucleus]))
    # A nucleus alone, with its blurred edge, scores up to 0.78.
    return nucleus & (tones <= split) if separability > 0.8 else nucleus


def _with_lobes(labels: NDArray, areas: NDArray[np.float64], seed: int) -> Mask:
    """Blob ``seed`` and the blobs beside it: lobes of one nucleus lie within a radius of each other."""
    nucleus = labels == seed
    reach = radius_of(areas[seed])
    # Crumbs below 3% are platelets and specks; what is larger than the seed by half is another cell's.
    candidates = {int(at) for at in np.flatnonzero((areas > 0.03 * areas[seed]) & (areas < 1.5 * areas[seed]))}
    candidates -= {0, seed}
    for _ in range(2):  # a lobe may hang on a lobe; more rounds would run through a cluster of cells
        if not candidates:
            break
        distance = cv2.distanceTransform((~nucleus).view(np.uint8), cv2.DIST_L2, 5)
        near = candidates & set(np.unique(labels[distance < reach]).tolist())
        nucleus = nucleus | np.isin(labels, list(near))
        candidates -= near
    return nucleus


def _faint_stain(stain: Values, nucleus: Mask) -> float:
    """Below this much stain a pixel is empty slide: half of what is typical close around the nucleus."""
    radius = radius_of(np.count_nonzero(nucleus))
    distance = cv2.distanceTransform((~nucleus).view(np.uint8), cv2.DIST_L2, 5)
    around = stain[(distance > 0.15 * radius) & (distance < 0.4 * radius)]
    of_nucleus = float(np.median(stain[nucleus]))
    # The palest cytoplasm has a quarter of the stain of its nucleus. Where not a fifth of the surroundings has half
    # of that there is no cytoplasm, not even a crescent of it, and the edge of the nucleus is that of the cell.
    if not around.size or np.percentile(around, 80) < of_nucleus / 8:
        return of_nucleus / 2
    return min(float(np.median(around)), of_nucleus) / 2


def _without_bumps(mask: Mask) -> Mask:
    """Drop what sticks out and is narrower than half the cell: parts of platelets and of neighbours."""
    if not mask.any():
        return mask
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = mask[y : y + height, x : x + width]
    thickness = float(cv2.distanceTransform(np.pad(window, 1).view(np.uint8), cv2.DIST_L2, 5).max())
    kept = np.zeros_like(mask)
    kept[y : y + height, x : x + width] = regions(opened(window, thickness * 0.5))
    return kept
