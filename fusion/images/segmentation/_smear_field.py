"""The white cell in a field of a stained smear: its nucleus first, then the best closed curve around that.

The nucleus is the dark purple blob nearest the centre. Every threshold comes from the image and every length from
the nucleus found, so that neither the stain nor the magnification is assumed.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._cell_contour import DOUBTING, TRUSTING, Field, grow_contour, transmitted
from fusion.images.segmentation._haemoglobin import red_cells
from fusion.images.segmentation._mask_geometry import (
    Image,
    Mask,
    around_box,
    centroid,
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
from fusion.images.segmentation._touching_cells import part_in_the_middle

# Images are searched at 256 pixels at most, and at 512 where the nucleus is then smaller than this radius, or none is
# found: drawn cells three times as large are found as well as at 512 (Dice .977 and .963), in a quarter of the pixels.
SEARCH_SIZES, SMALL = (256, 512), 20

# Pixels that tell a share or a percentile as well as all do.
_ENOUGH = 4000

# Share of the cell around its nucleus that may look like slide: 99 of 100 drawn cells have less.
SLIDE_INSIDE = 0.05

# Of cells that touch, the one in the middle is parted from the others in so many turns: a cut leaves half of them.
MOST_CUTS = 5

# How much a nearer nucleus is preferred to a larger one: at the edge of an image a nucleus counts as much as one in the
# middle of a seventh of its area; of a three-thousandth where there was none in the middle. What is then found is a
# cell if it has a tenth of the area of the other: platelets have less.
PULL, STRONG_PULL, LEAST_CELL = 2.0, 8.0, 0.1

# Grey levels that channels of a grey image differ by at most, once it was compressed in colour and smoothed.
NEARLY_GREY = 4

# Solidity below which a contour is no cell's: the least of 300 drawn cells is 0.96.
SOLID = 0.95


def cell_in_field(rgb: Image) -> Mask:
    """bool (H, W): the white cell nearest the middle; all False where nothing looks like a nucleus."""
    smears: dict[float, _Smear] = {}
    scale, field = _searched(rgb, PULL, smears)
    cell = _cell(rgb, scale, field)
    height, width = cell.shape
    if field is None or cell[height // 2, width // 2] or not cell.any():
        return cell
    # The nucleus was a large one and there may be a cell nearer the middle, or in it.
    nearer_scale, nearer_field = _searched(rgb, STRONG_PULL, smears)
    if nearer_scale == scale and nearer_field is not None and np.array_equal(nearer_field.nucleus, field.nucleus):
        return cell
    nearer = _cell(rgb, nearer_scale, nearer_field)
    is_cell = np.count_nonzero(nearer) > LEAST_CELL * np.count_nonzero(cell)
    return nearer if is_cell and _off_centre(nearer) < _off_centre(cell) else cell


def _cell(rgb: Image, scale: float, field: Field | None) -> Mask:
    """bool (H, W): the cell round the nucleus of a field that was searched at that scale; all False without one."""
    if field is None:
        return np.zeros(rgb.shape[:2], bool)
    # Pixel centres lie at whole numbers, so scaling has to keep the corner at -0.5 in place.
    return _without_bumps(polygon((_contour_of_one(field) + 0.5) / scale - 0.5, rgb.shape[:2]))


def _off_centre(mask: Mask) -> float:
    """How far the centroid of a mask lies from the middle of the image, in pixels."""
    x, y = centroid(mask)
    return float(np.hypot(x - (mask.shape[1] - 1) / 2, y - (mask.shape[0] - 1) / 2))


def slide_colour(rgb: Image) -> Values:
    """float32 (3,): the colour of the empty slide, at least 1 so that one may divide by it."""
    step = max(1, min(rgb.shape[:2]) // 128)  # some 20,000 pixels tell a median to less than a tone
    rgb = np.ascontiguousarray(rgb[::step, ::step])
    return _median_colour(rgb, _slide(rgb))


class _Smear(NamedTuple):
    """An image at one scale: smoothed, where its slide is empty, and the colour of that."""

    rgb: Image
    slide: Mask
    white: Values

    @classmethod
    def of(cls, rgb: Image, scale: float) -> Self:
        # By half and less two pixels are enough to make one of, and what that leaves is smoothed.
        way = cv2.INTER_LINEAR if scale >= 0.5 else cv2.INTER_AREA
        small = (
            rgb if scale == 1 else np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=way), np.uint8)
        )
        # Just under one percent of the image's side takes off noise and JPEG blocks and leaves contours where they are.
        smooth = np.asarray(cv2.GaussianBlur(small, (0, 0), max(0.6, min(small.shape[:2]) / 120)), np.uint8)
        slide = _slide(smooth)
        return cls(smooth, slide, _median_colour(smooth, slide))


def _searched(rgb: Image, pull: float, smears: dict[float, _Smear]) -> tuple[float, Field | None]:
    """The scale at which an image is searched, and what is known there; None where nothing looks like a nucleus: the
    large one near the middle, the nearer the stronger the pull.

    ``smears``: what is known at any scale, added to.
    """
    field = None
    for size in SEARCH_SIZES:
        scale = min(1.0, size / max(1, *rgb.shape[:2]))
        if min(rgb.shape[:2]) * scale < 8:  # smaller than any nucleus whose contour could be followed
            continue
        if scale not in smears:
            smears[scale] = _Smear.of(rgb, scale)
        field = _field(smears[scale], pull)
        if scale == 1 or (field is not None and radius_of(np.count_nonzero(field.nucleus)) >= SMALL):
            break
    return scale, field


def _field(smear: _Smear, pull: float) -> Field | None:
    smooth, slide, white = smear
    nucleus = _central_nucleus(smooth, white, pull)
    if nucleus is None:
        return None
    faint = _above_slide(_stain(smooth, slide, white), _faint_stain(smooth, white, nucleus))
    darkest = (quantiles(smooth, 0.02) / white).astype(np.float32)
    return Field(smooth.astype(np.float32), white, nucleus, faint, darkest, red_cells(smooth, white, nucleus, faint))


def _contour_of_one(field: Field) -> NDArray[np.float64]:
    """The contour of the cell in the middle, alone where it touches others, as (n, 2) points (x, y)."""
    points = _contour(field)
    # In a grey image pale cytoplasm often passes for slide: what has necks then are lobes of one nucleus.
    for _ in range(0 if _is_grey(field.rgb) else MOST_CUTS):
        cells = polygon(points, field.nucleus.shape)
        middle = part_in_the_middle(cells, field.nucleus)
        if middle is None:
            break
        others = cells & ~middle
        field = field._replace(
            nucleus=field.nucleus & middle, foreign=others if field.foreign is None else field.foreign | others
        )
        points = _contour(field)
    return points


def _contour(field: Field) -> NDArray[np.float64]:
    """The cell's contour as (n, 2) points (x, y)."""
    points = grow_contour(field, TRUSTING)
    around = polygon(points, field.nucleus.shape) & ~field.nucleus
    # There is no slide in a cell, and no deep bay in its contour: the curve has run around red cells that touch it.
    if solidity(points) < SOLID or (
        around.any() and (_stain(field.rgb, around, field.white) < field.faint).mean() > SLIDE_INSIDE
    ):
        points = grow_contour(field, DOUBTING)
    return points


def _is_grey(rgb: Image | Values) -> bool:
    """Whether an image shows no colours."""
    red, green, blue = cv2.split(rgb)
    return max(cv2.norm(red, green, cv2.NORM_INF), cv2.norm(blue, green, cv2.NORM_INF)) <= NEARLY_GREY


def _slide(rgb: Image) -> Mask:
    """Where the slide is empty: the lightest of three classes of green, or of fewer where it has fewer tones."""
    green = np.asarray(cv2.extractChannel(rgb, 1), np.uint8)
    lightest = green > three_classes(green)[1]
    return lightest if lightest.any() else green == green.max()


def _median_colour(rgb: Image, where: Mask) -> Values:
    return np.maximum(quantiles(rgb, 0.5, where.view(np.uint8)), 1).astype(np.float32)


def _stain(rgb: Image | Values, where: Mask, white: Values) -> Values:
    """float32 (n,): how much light is held back by the pixels (H, W, 3) there, or by some thousands of them."""
    at = np.flatnonzero(where)
    at = at[:: max(1, len(at) // _ENOUGH)]
    return transmitted(rgb.reshape(-1, 3).take(at, axis=0), white)[1]


def _above_slide(stain: Values, least: float) -> float:
    """The stain below which a pixel is empty slide: ``least``, or half as much again as three quarters of the slide
    stay below, up to 0.15, which is more than any noise."""
    return max(min(1.5 * percentile(stain, 0.75), 0.15), least)


def _central_nucleus(rgb: Image, white: Values, pull: float) -> Mask | None:
    """The dark purple blob nearest the centre, with the lobes that belong to it and without cells that touch it."""
    green, light = greenness(rgb, white), np.asarray(cv2.extractChannel(rgb, 1), np.uint8)
    tones = to_bytes(green, -0.5, 0.75)
    darkest = three_classes(tones)[0]
    dark = tones <= darkest
    # Red cells alone stay above 0.3: they take no more than 0.35 of the green, and as much of the blue. In a grey image
    # a pale nucleus does, too.
    if dark.any() and median(green[dark]) > 0.3 and not _is_grey(rgb):
        # A pale nucleus may share its class with red cells. It is the darker part, and lets most of the blue through.
        darkest = int(two_classes(counts(tones[dark]))[0])
        dark = tones <= darkest
        taken = 1 - np.minimum(light[dark] / white[1], 1)
        if median(green[dark]) > 0.3 or median(2 * (green[dark] - 1 + taken) + 1) > median(taken) / 2:
            return None
    if not dark.any():
        return None
    blobs = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, disc(1))
    labels, stats, seed = _most_central(blobs, pull)
    if seed == 0:
        return None
    nucleus = labels == seed
    # The palest cytoplasm takes a quarter of the light that its nucleus takes: half of that is slide.
    slide = light > white[1] - (white[1] - float(median(light[nucleus]))) / 8
    parted = _without_neighbours(nucleus, slide)
    nucleus = _with_lobes(labels, stats, seed, tones, darkest, slide) if parted is None else parted
    # Among many red cells the three classes are slide, red cells, and the whole white cell: then take its darker part.
    split, separability = two_classes(counts(tones[nucleus]))
    # A nucleus alone, with its blurred edge, scores up to 0.78.
    return nucleus & (tones <= split) if separability > 0.8 else nucleus


def _most_central(blobs: NDArray, pull: float) -> tuple[NDArray, NDArray, int]:
    """Labels of all blobs, their boxes and areas as OpenCV has them, and the label of the largest near the centre; 0
    where there is none."""
    _, labels, stats, centres = cv2.connectedComponentsWithStats(blobs, connectivity=4)
    middle = (np.array(labels.shape[::-1]) - 1) / 2
    off_centre = np.linalg.norm((centres - middle) / (middle + 1), axis=1)  # 1 in the middle of an edge
    weight = stats[:, cv2.CC_STAT_AREA] * np.exp(-pull * off_centre**2)
    weight[0] = 0
    return labels, stats, int(weight.argmax())


def _with_lobes(labels: NDArray, stats: NDArray, seed: int, tones: Image, limit: int, slide: Mask) -> Mask:
    """Blob ``seed`` and the lobes of the same nucleus: as dark, near, and with cytoplasm between them.

    ``limit``: the lightest tone of a blob.
    """
    nucleus, areas = labels == seed, stats[:, cv2.CC_STAT_AREA]
    dark = (float(median(tones[nucleus])) + limit) / 2  # overlapping red cells are lighter
    reach = 1.5 * radius_of(areas[seed])  # lobes are seldom parted by more than three quarters of their width
    # Crumbs below 3% are platelets and specks; what is larger than the seed by half is another cell's.
    candidates = {int(at) for at in np.flatnonzero((areas > 0.03 * areas[seed]) & (areas < 1.5 * areas[seed]))}
    candidates -= {0, seed}
    for _ in range(2):  # a lobe may hang on a lobe; more rounds would run through a cluster of cells
        window = around_box(nucleus, reach)
        if not any(_overlap(stats[label], window) for label in candidates):
            break
        distance = cv2.distanceTransform((~nucleus[window]).view(np.uint8), cv2.DIST_L2, 5)
        near = np.flatnonzero(np.bincount(labels[window][distance < reach]))
        for label in candidates & set(near.tolist()):
            lobe = labels == label
            # A tenth leaves room for pale spots: between lobes of one nucleus there is cytoplasm.
            if median(tones[lobe]) <= dark and _between(nucleus | lobe, slide)[1] < 0.1:
                nucleus |= lobe
                candidates.discard(label)
    return nucleus


def _overlap(box: NDArray, window: tuple[slice, slice]) -> bool:
    """Whether a blob's box, as OpenCV has it, shares a pixel with these rows and columns."""
    left, top, width, height = box[:4]
    rows, columns = window
    return bool(top < rows.stop and rows.start < top + height and left < columns.stop and columns.start < left + width)


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
    labels, _, seed = _most_central(cores, PULL)
    if labels.max() < 2:
        return None
    _, nearest = cv2.distanceTransformWithLabels(1 - cores, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    return blob & (nearest == nearest[labels == seed][0])


def _between(blobs: Mask, slide: Mask) -> tuple[float, float]:
    """What the convex hull adds to ``blobs``: its share of the hull, and the share of slide in it.

    Between lobes of one nucleus there is cytoplasm, between two cells there is slide.
    """
    x, y, width, height = cv2.boundingRect(blobs.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    blobs = np.ascontiguousarray(blobs[window])
    contours, _ = cv2.findContours(blobs.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = np.zeros(blobs.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), [1])
    between = hull.view(bool) & ~blobs
    added = int(np.count_nonzero(between))
    return added / int(np.count_nonzero(hull)), float(slide[window][between].mean()) if added else 0.0


def _faint_stain(rgb: Image, white: Values, nucleus: Mask) -> float:
    """Below this much stain a pixel is empty slide: half of what is typical close around the nucleus."""
    radius = radius_of(np.count_nonzero(nucleus))
    window = around_box(nucleus, 0.4 * radius)
    distance = cv2.distanceTransform((~nucleus[window]).view(np.uint8), cv2.DIST_L2, 5)
    ring = (distance > 0.15 * radius) & (distance < 0.4 * radius)
    around = _stain(np.ascontiguousarray(rgb[window]), ring, white)
    of_nucleus = float(median(_stain(rgb, nucleus, white)))
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
