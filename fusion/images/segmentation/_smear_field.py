"""The white cell in a field of a stained smear: its nucleus first, then the best closed curve around that.

The nucleus is the dark purple blob nearest the centre. Every threshold comes from the image and every length from
the nucleus found, so that neither the stain nor the magnification is assumed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._cell_contour import DOUBTING, TRUSTING, Field, grow_contour
from fusion.images.segmentation._mask_geometry import (
    Image,
    Mask,
    around_box,
    disc,
    opened,
    polygon,
    radius_of,
    regions,
    solidity,
)
from fusion.images.segmentation._nucleus import greenness
from fusion.images.segmentation._otsu import (
    Values,
    counts,
    median,
    percentile,
    quantiles,
    three_classes,
    to_bytes,
    two_classes,
)

# Images are searched at 512 pixels at most: a cell is then still 100 pixels wide where it fills a fifth of the field.
SEARCH_SIZE = 512

# Share of the cell around its nucleus that may look like slide: 99 of 100 drawn cells have less.
SLIDE_INSIDE = 0.05

# Solidity below which a contour is no cell's: the least of 300 drawn cells is 0.96.
SOLID = 0.95


def cell_in_field(rgb: Image) -> Mask:
    """bool (H, W): the white cell nearest the centre; all False where nothing looks like a nucleus."""
    scale = min(1.0, SEARCH_SIZE / max(1, *rgb.shape[:2]))
    if min(rgb.shape[:2]) * scale < 8:  # smaller than any nucleus whose contour could be followed
        return np.zeros(rgb.shape[:2], bool)
    small = rgb if scale == 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    contour = _contour(np.asarray(small, np.uint8))
    if contour is None:
        return np.zeros(rgb.shape[:2], bool)
    # Pixel centres lie at whole numbers, so scaling has to keep the corner at -0.5 in place.
    return _without_bumps(polygon((contour + 0.5) / scale - 0.5, rgb.shape[:2]))


def slide_colour(rgb: Image) -> Values:
    """float32 (3,): the colour of the empty slide, at least 1 so that one may divide by it."""
    return _median_colour(rgb, _slide(rgb))


def _contour(rgb: Image) -> NDArray[np.float64] | None:
    """The cell's contour as (n, 2) points (x, y); None where nothing in the image looks like a nucleus."""
    # Just under one percent of the image's side takes off noise and JPEG blocks and leaves contours where they are.
    smooth = np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(0.6, min(rgb.shape[:2]) / 120)), np.uint8)
    slide = _slide(smooth)
    white = _median_colour(smooth, slide)
    transmission = _transmission(smooth, white)
    nucleus = _central_nucleus(greenness(smooth, white), transmission[..., 1])
    if nucleus is None:
        return None
    stain = _stain(smooth, white)
    faint = _above_slide(stain, slide, _faint_stain(stain, nucleus))
    darkest = (quantiles(smooth, 0.02) / white).astype(np.float32)
    field = Field(transmission, stain, nucleus, faint, darkest)
    points = grow_contour(field, TRUSTING)
    cell = polygon(points, nucleus.shape)
    around = cell & ~nucleus
    # There is no slide in a cell, and no deep bay in its contour: the curve has run around red cells that touch it.
    if solidity(points) < SOLID or (around.any() and (stain[around] < faint).mean() > SLIDE_INSIDE):
        points = grow_contour(field, DOUBTING)
    return points


def _slide(rgb: Image) -> Mask:
    """Where the slide is empty: the lightest of three classes of green, or of fewer where it has fewer tones."""
    green = np.asarray(cv2.extractChannel(rgb, 1), np.uint8)
    lightest = green > three_classes(green)[1]
    return lightest if lightest.any() else green == green.max()


def _median_colour(rgb: Image, where: Mask) -> Values:
    return np.maximum(quantiles(rgb, 0.5, where.view(np.uint8)), 1).astype(np.float32)


def _transmission(rgb: Image, white: Values) -> Values:
    """float32 (H, W, 3): the share of light let through, 1 on the empty slide."""
    table = np.minimum(np.arange(256, dtype=np.float32)[:, None] / white, 1)
    return np.asarray(cv2.LUT(rgb, table[None]), np.float32)


def _stain(rgb: Image, white: Values) -> Values:
    """float32 (H, W): how much light is held back, the length of 1 - transmission."""
    lacking = 1 - np.minimum(np.arange(256, dtype=np.float32) / white[:, None], 1)
    squares = lacking * lacking
    total, *others = (np.asarray(cv2.LUT(cv2.extractChannel(rgb, at), squares[at]), np.float32) for at in range(3))
    for other in others:
        total += other
    return np.sqrt(total, out=total)


def _above_slide(stain: Values, slide: Mask, least: float) -> float:
    """The stain below which a pixel is empty slide: ``least``, or half as much again as three quarters of the slide
    stay below, up to 0.15, which is more than any noise."""
    # Where three quarters and one more are known to lie lower, there is no need to know how much.
    if np.count_nonzero((stain < np.float32(0.999 * least / 1.5)) & slide) > 0.75 * np.count_nonzero(slide) + 2:
        return least
    return max(min(1.5 * percentile(stain[slide], 0.75), 0.15), least)


def _central_nucleus(green: Values, let_through: Values) -> Mask | None:
    """The dark purple blob nearest the centre, with the lobes that belong to it and without cells that touch it.

    ``green`` is the image's greenness, ``let_through`` its transmission of green.
    """
    tones = to_bytes(green, -0.5, 0.75)
    darkest = three_classes(tones)[0]
    dark = tones <= darkest
    # Red cells alone stay above 0.3: they take no more than 0.35 of the green, and as much of the blue.
    if dark.any() and median(green[dark]) > 0.3:
        # A pale nucleus may share its class with red cells. It is the darker part, and lets most of the blue through.
        darkest = int(two_classes(counts(tones[dark]))[0])
        dark = tones <= darkest
        taken = 1 - let_through[dark]
        if median(green[dark]) > 0.3 or median(2 * (green[dark] - let_through[dark]) + 1) > median(taken) / 2:
            return None
    if not dark.any():
        return None
    blobs = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, disc(1))
    labels, seed = _most_central(blobs)
    if seed == 0:
        return None
    nucleus = labels == seed
    # The palest cytoplasm takes a quarter of the light that its nucleus takes: half of that is slide.
    slide = let_through > 1 - (1 - float(median(let_through[nucleus]))) / 8
    parted = _without_neighbours(nucleus, slide)
    nucleus = _with_lobes(labels, seed, tones, darkest, slide) if parted is None else parted
    # Among many red cells the three classes are slide, red cells, and the whole white cell: then take its darker part.
    split, separability = two_classes(counts(tones[nucleus]))
    # A nucleus alone, with its blurred edge, scores up to 0.78.
    return nucleus & (tones <= split) if separability > 0.8 else nucleus


def _most_central(blobs: NDArray) -> tuple[NDArray, int]:
    """Labels of all blobs, and that of the largest near the centre; 0 where there is none."""
    _, labels, stats, centres = cv2.connectedComponentsWithStats(blobs, connectivity=4)
    middle = (np.array(labels.shape[::-1]) - 1) / 2
    off_centre = np.linalg.norm((centres - middle) / (middle + 1), axis=1)  # 1 in the middle of an edge
    weight = stats[:, cv2.CC_STAT_AREA] * np.exp(-2 * off_centre**2)
    weight[0] = 0
    return labels, int(weight.argmax())


def _with_lobes(labels: NDArray, seed: int, tones: Image, limit: int, slide: Mask) -> Mask:
    """Blob ``seed`` and the lobes of the same nucleus: as dark, near, and with cytoplasm between them.

    ``limit``: the lightest tone of a blob.
    """
    nucleus = labels == seed
    areas = np.bincount(labels.ravel())
    dark = (float(median(tones[nucleus])) + limit) / 2  # overlapping red cells are lighter
    reach = 1.5 * radius_of(areas[seed])  # lobes are seldom parted by more than three quarters of their width
    # Crumbs below 3% are platelets and specks; what is larger than the seed by half is another cell's.
    candidates = {int(at) for at in np.flatnonzero((areas > 0.03 * areas[seed]) & (areas < 1.5 * areas[seed]))}
    candidates -= {0, seed}
    for _ in range(2):  # a lobe may hang on a lobe; more rounds would run through a cluster of cells
        if not candidates:
            break
        window = around_box(nucleus, reach)
        distance = cv2.distanceTransform((~nucleus[window]).view(np.uint8), cv2.DIST_L2, 5)
        near = np.flatnonzero(np.bincount(labels[window][distance < reach]))
        for label in candidates & set(near.tolist()):
            lobe = labels == label
            # A tenth leaves room for pale spots: between lobes of one nucleus there is cytoplasm.
            if median(tones[lobe]) <= dark and _between(nucleus | lobe, slide)[1] < 0.1:
                nucleus |= lobe
                candidates.discard(label)
    return nucleus


def _without_neighbours(blob: Mask, slide: Mask) -> Mask | None:
    """The part of ``blob`` nearest the centre where it is of several cells that touch; None where it is of one."""
    share, of_slide = _between(blob, slide)
    # Two discs that touch fill all but an eighth of their hull. The bays of a bent nucleus are filled with cytoplasm:
    # of 300 drawn cells none has more than 0.15 of slide there, pale stains included.
    if share < 0.08 or of_slide < 0.25:
        return None
    depth = cv2.distanceTransform(np.pad(blob, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    # Cells that touch are joined by a neck narrower than 0.7 of the widest.
    cores = (depth > 0.7 * depth.max()).view(np.uint8)
    labels, seed = _most_central(cores)
    if labels.max() < 2:
        return None
    _, nearest = cv2.distanceTransformWithLabels(1 - cores, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    return blob & (nearest == nearest[labels == seed][0])


def _between(blobs: Mask, slide: Mask) -> tuple[float, float]:
    """What the convex hull adds to ``blobs``: its share of the hull, and the share of slide in it.

    Between lobes of one nucleus there is cytoplasm, between two cells there is slide.
    """
    contours, _ = cv2.findContours(blobs.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = np.zeros(blobs.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), [1])
    between = hull.view(bool) & ~blobs
    added = int(np.count_nonzero(between))
    return added / int(np.count_nonzero(hull)), float(slide[between].mean()) if added else 0.0


def _faint_stain(stain: Values, nucleus: Mask) -> float:
    """Below this much stain a pixel is empty slide: half of what is typical close around the nucleus."""
    radius = radius_of(np.count_nonzero(nucleus))
    window = around_box(nucleus, 0.4 * radius)
    distance = cv2.distanceTransform((~nucleus[window]).view(np.uint8), cv2.DIST_L2, 5)
    around = stain[window][(distance > 0.15 * radius) & (distance < 0.4 * radius)]
    of_nucleus = float(median(stain[nucleus]))
    # The palest cytoplasm has a quarter of the stain of its nucleus. Where not a fifth of the surroundings has half
    # of that there is no cytoplasm, not even a crescent of it, and the edge of the nucleus is that of the cell.
    if not around.size or percentile(around, 0.8) < of_nucleus / 8:
        return of_nucleus / 2
    return min(float(median(around)), of_nucleus) / 2


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
