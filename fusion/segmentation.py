"""From a picture to masks: where the white cell is, and where its nucleus is.

Two kinds of picture are understood. On a black background the cell is whatever is not black. In a field of a stained
smear the nucleus is found first, as the dark purple blob nearest the centre; the outline of the cell is then the best
closed curve around it. Every threshold comes from the picture and every length from the nucleus found, so that neither
the stain nor the magnification is assumed. Same input, same masks: nothing here is random.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

#: Part of every feature's fingerprint: raise it when a mask could change.
VERSION = "1"

# The darkest pixel measured inside a real cell on black has R + G + B = 26.
BLACK = 26

# Pictures are searched at 512 pixels at most: a cell is then still 100 pixels wide where it fills a fifth of the field.
SEARCH_SIZE = 512

# Separability of two classes that are none: a flat distribution scores 0.75, a single normal one 0.64.
FLAT = 0.75

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Values = NDArray[np.float32]


def has_black_background(rgb: Picture) -> bool:
    """Whether a cell was cut out and laid on black: at least half of the picture's outermost pixels are black."""
    if rgb.size == 0:
        return False
    frame = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    return bool((frame.sum(axis=1, dtype=np.int32) < BLACK).mean() >= 0.5)


def segment_cell(rgb: Picture) -> Mask:
    """The whole white cell, nucleus and cytoplasm.

    Parameters
    ----------
    rgb : uint8 (H, W, 3).

    Returns
    -------
    bool (H, W) : one connected region without holes; all False where no cell is found.
    """
    if has_black_background(rgb):
        return _not_black(rgb)
    scale = min(1.0, SEARCH_SIZE / max(1, *rgb.shape[:2]))
    if min(rgb.shape[:2]) * scale < 8:  # smaller than any nucleus whose outline could be followed
        return np.zeros(rgb.shape[:2], bool)
    small = rgb if scale == 1 else _picture(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    outline = _outline(small)
    if outline is None:
        return np.zeros(rgb.shape[:2], bool)
    # Pixel centres lie at whole numbers, so scaling has to keep the corner at -0.5 in place.
    mask = _polygon((outline + 0.5) / scale - 0.5, rgb.shape[:2])
    return _without_bumps(mask)


def segment_nucleus(rgb: Picture, mask: Mask) -> Mask:
    """The nucleus inside a known cell: the purple part, told from the cytoplasm by a threshold of the cell's own.

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
    on_black = has_black_background(rgb)
    white = None if on_black else _colour(rgb, _slide(rgb))
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    nucleus[window] = _purple_part(rgb[window], mask[window], white)
    return nucleus


# ---- a cell on black ------------------------------------------------------------------------------------------------


def _not_black(rgb: Picture) -> Mask:
    """The largest thing that is not black."""
    brightness = rgb.sum(axis=2, dtype=np.int32)
    mask = brightness >= BLACK
    if not mask.any():
        return mask
    # A clean cut leaves no pixel between black and the cell. Where there are some, the picture was resized or
    # compressed: its edge is then half-way up to the cell, whose darkest tenth stands for the cell at its edge.
    if ((brightness > 0) & ~mask).any():
        mask = brightness >= max(BLACK, np.percentile(brightness[mask], 10) / 2)
    return _largest(mask)


# ---- a cell in a field: nucleus first -------------------------------------------------------------------------------


def _outline(rgb: Picture) -> NDArray[np.float64] | None:
    """The cell's outline as (n, 2) points (x, y); None where nothing in the picture looks like a nucleus."""
    # Just under one percent of the picture's side takes off noise and JPEG blocks and leaves outlines where they are.
    smooth = _picture(cv2.GaussianBlur(rgb, (0, 0), max(0.6, min(rgb.shape[:2]) / 120)))
    slide = _slide(smooth)
    transmission = _transmission(smooth, _colour(smooth, slide))
    nucleus = _central_nucleus(_greenness(transmission))
    if nucleus is None:
        return None
    stain = np.linalg.norm(1 - transmission, axis=2).astype(np.float32)
    # What three quarters of the slide stay below is no stain, by half as much again; 0.15 is more than any noise.
    faint = max(min(1.5 * float(np.percentile(stain[slide], 75)), 0.15), _faint_stain(stain, nucleus))
    points = _grow_outline(transmission, stain, nucleus, faint, TRUSTING)
    cell = _polygon(points, nucleus.shape)
    around = cell & ~nucleus
    # There is no slide in a cell: 99 of 100 drawn ones have less than 5% of it around the nucleus. Where there is more,
    # the curve has run around a ring of red cells and not around a cytoplasm.
    if around.any() and (stain[around] < faint).mean() > 0.05:
        points = _grow_outline(transmission, stain, nucleus, faint, DOUBTING)
    return points


def _slide(rgb: Picture) -> Mask:
    """Where the slide is empty: the lightest of three classes of green, or of fewer where it has fewer tones."""
    green = rgb[..., 1]
    lightest = green > _three_classes(green)[1]
    return lightest if lightest.any() else green == green.max()


def _colour(rgb: Picture, where: Mask) -> Values:
    """(3,) the median colour there, at least 1 so that one may divide by it."""
    return np.maximum(np.median(rgb[where], axis=0), 1).astype(np.float32)


def _transmission(rgb: Picture, white: Values) -> Values:
    """float32 (H, W, 3): the share of light let through, 1 on the empty slide."""
    return np.minimum(rgb / white, 1, dtype=np.float32)


def _greenness(transmission: Values) -> Values:
    """Green minus half of blue, 0.5 on the empty slide: lowest where chromatin is.

    The dye of chromatin takes green light and leaves blue. Haemoglobin and eosin granules take both, so subtracting
    blue sets them apart from a nucleus as dark as they are; all of it would only add the noise of the blue channel.
    """
    return transmission[..., 1] - 0.5 * transmission[..., 2]


def _central_nucleus(greenness: Values) -> Mask | None:
    """The dark purple blob nearest the centre, with the lobes that belong to it."""
    tones = _to_bytes(greenness, -0.5, 0.75)
    dark = tones <= _three_classes(tones)[0]
    # Red cells alone stay above 0.3: they take no more than 0.35 of the green, and as much of the blue.
    if not dark.any() or np.median(greenness[dark]) > 0.3:
        return None
    blobs = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, _disc(1))
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
    split, separability = _two_classes(tones[nucleus])
    # A nucleus alone, with its blurred edge, scores up to 0.78.
    return nucleus & (tones <= split) if separability > 0.8 else nucleus


def _with_lobes(labels: NDArray, areas: NDArray[np.float64], seed: int) -> Mask:
    """Blob ``seed`` and the blobs beside it: lobes of one nucleus lie within a radius of each other."""
    nucleus = labels == seed
    reach = _radius(areas[seed])
    for _ in range(2):  # a lobe may hang on a lobe; more rounds would run through a cluster of cells
        distance = cv2.distanceTransform((~nucleus).view(np.uint8), cv2.DIST_L2, 5)
        near = [
            label
            for label in range(1, len(areas))
            # Crumbs below 3% are platelets and specks; what is larger than the seed by half is another cell's.
            if 0.03 * areas[seed] < areas[label] < 1.5 * areas[seed] and distance[labels == label].min() < reach
        ]
        nucleus = nucleus | np.isin(labels, near)
    return nucleus


# ---- ... then the best closed curve around it -----------------------------------------------------------------------

# The curve has 64 corners (3 pixels apart on a cell 60 pixels wide) and 80 radii to choose from, out to 3.2 radii of
# the nucleus: the nucleus of a neutrophil can be a quarter of its cell and lie at one side of it.
ANGLES, RADII, REACH = 64, 80, 3.2
# Curve, colours, curve: the colour model is learnt again inside and outside each curve. A fourth round changes nothing.
ROUNDS = 3
# Levels per colour: fewer merge cytoplasm with red cells, more leave too few of about 5,000 samples in each bin.
LEVELS = 24


class _Beliefs(NamedTuple):
    """How the first curve is looked for: what is known of colours before any curve is drawn."""

    near: float  # stained pixels within this many radii of the nucleus are cell
    rarity: float  # the other stained pixels count as if they were at least this many times the cytoplasm
    dilution: float  # share of the nucleus that might have shown any colour and did not


# Little is stained outside the cell, so that a few specks must not decide what its colours are ...
TRUSTING = _Beliefs(near=1.6, rarity=1.0, dilution=0.0)
# ... or red cells lie all around, and a colour that is found far out too is not the cell's.
DOUBTING = _Beliefs(near=1.4, rarity=0.3, dilution=0.3)
# Farther than this many radii of the nucleus nearly nothing belongs to the cell.
FAR = 2.1


class _Rays(NamedTuple):
    """Pixels along 64 rays from a centre, each array (ANGLES, RADII)."""

    x: Values
    y: Values

    def sample(self, image: NDArray) -> NDArray:
        return cv2.remap(image, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def sample_mask(self, mask: Mask) -> Mask:
        return self.sample(mask.view(np.uint8) * np.uint8(255)) > 127

    def inside(self, shape: tuple[int, ...]) -> Mask:
        return (self.x >= 0) & (self.y >= 0) & (self.x <= shape[1] - 1) & (self.y <= shape[0] - 1)


def _faint_stain(stain: Values, nucleus: Mask) -> float:
    """Below this much stain a pixel is empty slide: half of what is typical close around the nucleus."""
    radius = _radius(nucleus.sum())
    distance = cv2.distanceTransform((~nucleus).view(np.uint8), cv2.DIST_L2, 5)
    around = stain[(distance > 0.15 * radius) & (distance < 0.4 * radius)]
    of_nucleus = float(np.median(stain[nucleus]))
    # The palest cytoplasm has a quarter of the stain of its nucleus. Where not a fifth of the surroundings has half
    # of that there is no cytoplasm, not even a crescent of it, and the edge of the nucleus is that of the cell.
    if not around.size or np.percentile(around, 80) < of_nucleus / 8:
        return of_nucleus / 2
    return min(float(np.median(around)), of_nucleus) / 2


def _grow_outline(
    transmission: Values, stain: Values, nucleus: Mask, faint: float, beliefs: _Beliefs
) -> NDArray[np.float64]:
    """The closed curve around ``nucleus`` that best parts cell colours from all others, and follows an edge.

    Colours are told apart by their frequency inside and outside, which is what sets the cytoplasm apart from red
    cells that touch it; where colours fail, edges and the smoothness of the curve decide.
    """
    radius = _radius(nucleus.sum())
    radii = (np.arange(RADII) + 0.5) / RADII * REACH * radius
    angles = np.arange(ANGLES)[:, None] * (2 * np.pi / ANGLES)
    darkest = np.percentile(transmission.reshape(-1, 3), 2, axis=0).astype(np.float32)
    centre, cell = _centroid(nucleus), nucleus
    for turn in range(ROUNDS):
        x, y = centre[0] + np.cos(angles) * radii, centre[1] + np.sin(angles) * radii
        rays = _Rays(x.astype(np.float32), y.astype(np.float32))
        inside, in_nucleus = rays.inside(nucleus.shape), rays.sample_mask(nucleus)
        colours, stain_along = rays.sample(transmission), rays.sample(stain)
        stained = stain_along > faint
        is_cell = rays.sample_mask(cell) if turn else (radii < beliefs.near * radius) & stained
        is_other = ~is_cell if turn else (radii > FAR * radius) & stained & ~in_nucleus
        area = inside * stained * radii  # a sample stands for more of the picture the farther out it is
        membership = _membership(
            _colour_bins(colours, darkest),
            area * (is_cell & ~in_nucleus),
            area * is_other,
            beliefs.rarity,
            beliefs.dilution * float((area * in_nucleus).sum()),
        )
        # Slide costs less than a foreign colour: there are pale spots in a cytoplasm.
        membership = np.where(stained, membership, np.minimum(membership, 0) - 0.25)
        membership = np.where(in_nucleus, 1, membership) * inside
        edges = _edges(colours, stain_along, in_nucleus, stained)
        curve = radii[_best_ring(_ring_cost(membership, edges, inside))]
        points = np.stack([centre[0] + np.cos(angles[:, 0]) * curve, centre[1] + np.sin(angles[:, 0]) * curve], axis=1)
        cell = _polygon(points, nucleus.shape)
        centre = _centroid(cell | nucleus)
    return points


def _colour_bins(transmission: Values, darkest: Values) -> NDArray[np.intp]:
    """The number of the colour bin of every sample; the bins span the colours of the picture."""
    share = np.clip((transmission - darkest) / (1 - darkest + 1e-3), 0, 1)
    levels = np.minimum(share * LEVELS, LEVELS - 1).astype(np.intp)
    return (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]


def _membership(
    bins: NDArray[np.intp], cell: NDArray, other: NDArray, rarity: float, dilution: float
) -> NDArray[np.float64]:
    """From -1 for colours seen outside the cell only to +1 for colours seen inside only."""
    inside = _smooth_histogram(bins, cell) / max(float(cell.sum()) + dilution, 1e-9)
    outside = _smooth_histogram(bins, other) / max(float(other.sum()), rarity * float(cell.sum()), 1e-9)
    # The small term leaves colours that are nearly absent undecided.
    return ((inside - outside) / (inside + outside + 1e-6))[bins]


def _smooth_histogram(bins: NDArray[np.intp], weights: NDArray) -> NDArray[np.float64]:
    histogram: NDArray = np.bincount(bins.ravel(), weights.ravel(), minlength=LEVELS**3).reshape((LEVELS,) * 3)
    for _ in range(3):  # each turn blurs one axis by one level and brings the next to the front
        histogram = np.tensordot(histogram, _LEVEL_BLUR, (0, 0))
    return histogram.ravel()


def _gaussian_matrix(size: int) -> NDArray[np.float64]:
    step = np.arange(size)
    matrix = np.exp(-0.5 * (step[:, None] - step) ** 2)
    return matrix / matrix.sum(axis=1, keepdims=True)


_LEVEL_BLUR = _gaussian_matrix(LEVELS)


def _edges(colours: Values, stain: Values, in_nucleus: Mask, stained: Mask) -> NDArray[np.float64]:
    """Up to 1 where colours change along a ray, best to less stain; not at the nucleus, whose edge outdoes all others.

    Where the slide begins right outside the nucleus, its edge is the cell's too and counts.
    """
    change = np.zeros((2, *stain.shape))
    change[0, :, 1:-1] = np.linalg.norm(colours[:, 2:] - colours[:, :-2], axis=2)
    change[1, :, 1:-1] = stain[:, :-2] - stain[:, 2:]
    at_nucleus = cv2.dilate(in_nucleus.view(np.uint8), np.ones((3, 7), np.uint8)) > 0
    at_nucleus[:, :-6] &= stained[:, 6:]
    change[0][at_nucleus] = 0
    strong = np.percentile(np.abs(change[:, ~at_nucleus]), 95, axis=1)[:, None, None]
    any_change, fall = np.clip(change / np.maximum(strong, 1e-6), -1, 1)
    return 0.7 * any_change + 0.3 * fall


def _ring_cost(membership: NDArray[np.float64], edges: NDArray[np.float64], inside: Mask) -> NDArray[np.float64]:
    """What the curve pays to cross a ray at a radius: less with every cell pixel within, less on an edge."""
    area = np.cumsum(membership, axis=1) * (REACH / RADII)
    # A full edge is worth 0.15 nucleus radii of cell; a small toll keeps the curve in the picture where it can.
    return 0.02 * ~inside - area - 0.15 * edges


def _best_ring(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """(ANGLES,) the radius index per angle of the cheapest closed curve, by dynamic programming.

    Closed is what the middle of two turns is: its ends are half a turn from where the path starts and stops.
    """
    turns = 2 * ANGLES
    step = np.arange(RADII)
    # Quadratic, so that a bend of 5 steps (0.2 nucleus radii) costs as much as 0.1 radii of area.
    bend = 0.004 * (step[:, None] - step) ** 2.0
    origin = np.zeros((turns, RADII), np.intp)
    total = cost[0]
    for turn in range(1, turns):
        ways = total[:, None] + bend
        origin[turn] = ways.argmin(axis=0)
        total = ways[origin[turn], step] + cost[turn % ANGLES]
    path = np.empty(turns, np.intp)
    path[-1] = total.argmin()
    for turn in range(turns - 1, 0, -1):
        path[turn - 1] = origin[turn, path[turn]]
    half = ANGLES // 2
    return np.roll(path[half : half + ANGLES], half)


def _without_bumps(mask: Mask) -> Mask:
    """Drop what sticks out and is narrower than half the cell: parts of platelets and of neighbours."""
    if not mask.any():
        return mask
    width = float(cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5).max())
    kernel = _disc(int(width * 0.5))
    return _largest(cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, kernel) > 0)


# ---- nucleus inside a known cell ------------------------------------------------------------------------------------


def _purple_part(rgb: Picture, mask: Mask, white: Values | None) -> Mask:
    radius = _radius(mask.sum())
    # The cell's rim is mixed with the background, or refracts darkly: it tells nothing about the two tones.
    core = cv2.erode(np.pad(mask, 1).view(np.uint8), _disc(max(1, round(radius / 10))))[1:-1, 1:-1] > 0
    core = core if core.any() else mask
    transmission = _transmission(rgb, np.full(3, 255, np.float32) if white is None else white)
    # Without a slide the balance of green and blue is unknown, and green alone may do better.
    channels = [_greenness(transmission)] + ([transmission[..., 1]] if white is None else [])
    tones = max((_two_tones(channel, mask, core, radius) for channel in channels), key=lambda two: two.separability)
    contrast = tones.light - tones.dark
    if contrast < 1 / 255:  # less than a grey level
        return mask
    # On a slide the tones are compared with it: chromatin alone spans up to 0.14 of the way from its dark tone to the
    # slide, a cytoplasm is at least 0.23 away, eosin granules included. On black only their spread can be judged.
    if tones.separability < FLAT if white is None else contrast < 0.16 * (0.5 - tones.dark):
        return mask
    # Half-way between the tones is where a blurred edge lies; Otsu's split leans to the class of wider spread.
    nucleus = mask & (tones.values <= (tones.dark + tones.light) / 2)
    return mask & _lobes(nucleus, radius)


class _Tones(NamedTuple):
    """A smoothed channel, the medians of its two classes in the core of the cell, and how well they part."""

    values: Values
    dark: float
    light: float
    separability: float


def _two_tones(channel: Values, mask: Mask, core: Mask, radius: float) -> _Tones:
    # A fortieth of the radius is less than an edge is blurred, and more than the grain of a sensor.
    values = _blur_inside(channel, mask, max(0.6, radius / 40))
    inner = values[core]
    tones = _to_bytes(inner, *np.percentile(inner, [1, 99]))
    split, separability = _two_classes(tones)
    if separability == 0:  # one tone
        return _Tones(values, 0, 0, 0)
    dark, light = (float(np.median(inner[part])) for part in (tones <= split, tones > split))
    return _Tones(values, dark, light, separability)


def _lobes(nucleus: Mask, radius: float) -> Mask:
    """Without threads and crumbs, holes filled."""
    opened = cv2.morphologyEx(nucleus.view(np.uint8), cv2.MORPH_OPEN, _disc(round(radius * 0.08)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    # The smallest lobes of a segmented nucleus are about a tenth of it.
    keep = stats[:, cv2.CC_STAT_AREA] >= 0.05 * opened.sum()
    keep[0] = False
    return _filled(keep[labels])


def _blur_inside(values: Values, mask: Mask, sigma: float) -> Values:
    """A Gaussian mean of the pixels inside ``mask`` only."""
    weight = mask.astype(np.float32)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    return np.where(mask, cv2.GaussianBlur(values * weight, (0, 0), sigma) / np.maximum(share, 1e-6), values)


# ---- thresholds -----------------------------------------------------------------------------------------------------


def _to_bytes(values: Values, low: float, high: float) -> Picture:
    return _picture(np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255))


def _two_classes(tones: Picture) -> tuple[int, float]:
    """Otsu's threshold (the last dark tone) and his separability, the share of variance between classes, 0 to 1."""
    variance = float(tones.var())
    split = int(cv2.threshold(tones.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0])
    dark = tones <= split
    share = float(dark.mean())
    if variance == 0 or share in (0.0, 1.0):
        return split, 0.0
    return split, share * (1 - share) * float(tones[dark].mean() - tones[~dark].mean()) ** 2 / variance


def _three_classes(tones: Picture) -> tuple[int, int]:
    """Otsu's two thresholds for three classes, each the last tone of its class."""
    # 128 levels are finer than any threshold needs to be, and a quarter of the work of 256.
    histogram = np.bincount(tones.ravel() >> 1, minlength=128).astype(float)
    count = np.concatenate([[0.0], np.cumsum(histogram)])
    total = np.concatenate([[0.0], np.cumsum(histogram * np.arange(128))])
    # Squared sum over count of the class of levels first ... last - 1, for every first and last.
    counts, totals = count[None] - count[:, None], total[None] - total[:, None]
    score = np.where(counts > 0, totals**2 / np.maximum(counts, 1), 0)
    score[np.tril_indices(129, -1)] = -np.inf
    of_pair = score[0][:, None] + score + score[:, 128][None]
    first, second = np.unravel_index(of_pair.argmax(), of_pair.shape)
    return 2 * int(first) - 1, 2 * int(second) - 1


# ---- shapes ---------------------------------------------------------------------------------------------------------


def _radius(area: float) -> float:
    """Of the disc of that area."""
    return float(np.sqrt(area / np.pi))


def _disc(radius: int) -> Picture:
    return _picture(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))


def _centroid(mask: Mask) -> tuple[float, float]:
    """(x, y)"""
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def _polygon(points: NDArray[np.float64], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, np.uint8)
    # Four binary digits behind the point: OpenCV takes whole numbers of sixteenths.
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], [1], shift=4)
    return mask > 0


def _largest(mask: Mask) -> Mask:
    """The largest connected region, its holes filled."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    if count == 1:
        return mask
    return _filled(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _filled(mask: Mask) -> Mask:
    """Without holes."""
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = mask.astype(np.uint8)
    cv2.drawContours(filled, outlines, -1, [1], cv2.FILLED)
    return filled > 0


def _picture(values: NDArray) -> Picture:
    return values.astype(np.uint8, copy=False)
