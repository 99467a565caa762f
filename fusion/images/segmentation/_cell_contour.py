"""The best closed curve around a nucleus, between the colours of the cell and all others.

The curve is a radius in each of 64 directions. What it encloses is judged by colour: how frequent it is inside and
outside is learnt from the image itself, and again after the first curve. The cheapest curve is found by dynamic
programming.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._mask_geometry import Image, Mask, centroid, polygon, radius_of
from fusion.images.segmentation._otsu import Values, percentile

# The curve has 64 corners (3 pixels apart on a cell 60 pixels wide) and 80 radii to choose from, out to 3.2 radii of
# the nucleus: the nucleus of a neutrophil can be a quarter of its cell and lie at one side of it.
ANGLES, RADII, REACH = 64, 80, 3.2
# Curve, colours, curve: the colour model is learnt again inside and outside the first curve. A third changes nothing.
ROUNDS = 2
# Levels per colour: fewer merge cytoplasm with red cells, more leave too few of about 5,000 samples in each bin.
LEVELS = 24
# Farther than this many radii of the nucleus nearly nothing belongs to the cell.
FAR = 2.1
# Slide this many samples long (0.12 radii of the nucleus) ends a cell; pale spots in a cytoplasm are shorter.
GAP = 3
# From one corner to the next the curve may step over this many samples (0.32 radii): steeper ones cost too much.
JUMP = 8


class Field(NamedTuple):
    """What is known before any curve is drawn.

    ``rgb`` float32 (H, W, 3), smoothed, ``white`` float32 (3,) the colour of the slide, ``nucleus`` bool (H, W),
    ``faint`` the stain below which there is slide, ``darkest`` float32 (3,) the least transmission of the image,
    ``foreign`` bool (H, W) what is known to be of other cells: red ones by their hue, and white ones that touch; None
    where nothing is.
    """

    rgb: Values
    white: Values
    nucleus: Mask
    faint: float
    darkest: Values
    foreign: Mask | None


class Beliefs(NamedTuple):
    """How the first curve is looked for: what is known of colours before any curve is drawn."""

    near: float  # stained pixels within this many radii of the nucleus are cell
    rarity: float  # the other stained pixels count as if they were at least this many times the cytoplasm
    dilution: float  # this many nuclei of cell might have shown a colour and did not: what little is stained beside a
    # nucleus without cytoplasm does not make its colour that of the cell
    nearer: float  # odds of being cell before any slide lies between, and of not being cell behind it


# Little is stained outside the cell, so that a few specks must not decide what its colours are, and what no slide
# parts from the nucleus is cell, unless its colour is three times as frequent outside ...
TRUSTING = Beliefs(near=1.6, rarity=1.0, dilution=0.0, nearer=3.0)
# ... or red cells touch it all around: no slide lies before them, and a colour found far out too is not the cell's.
DOUBTING = Beliefs(near=1.4, rarity=0.3, dilution=1.0, nearer=1.0)


_TURNS = np.arange(ANGLES)[:, None] * (2 * np.pi / ANGLES)
_COSINES, _SINES = np.cos(_TURNS).astype(np.float32), np.sin(_TURNS).astype(np.float32)


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


def grow_contour(field: Field, beliefs: Beliefs) -> NDArray[np.float64]:
    """(ANGLES, 2) of x, y: the closed curve that best parts cell colours from all others, and follows an edge.

    Colours are distinguished by their frequency inside and outside, which is what sets the cytoplasm apart from red
    cells that touch it; where colours fail, the slide between cells, edges and the smoothness of the curve decide.
    """
    nucleus = field.nucleus
    radius = radius_of(np.count_nonzero(nucleus))
    radii = ((np.arange(RADII) + 0.5) / RADII * REACH * radius).astype(np.float32)
    centre, cell = centroid(nucleus), nucleus
    for turn in range(ROUNDS):
        rays = _Rays(centre[0] + _COSINES * radii, centre[1] + _SINES * radii)
        inside, in_nucleus = rays.inside(nucleus.shape), rays.sample_mask(nucleus)
        colours, stain = transmitted(rays.sample(field.rgb), field.white)
        stained = stain > field.faint
        is_cell = rays.sample_mask(cell) if turn else (radii < beliefs.near * radius) & stained
        is_other = ~is_cell if turn else (radii > FAR * radius) & stained & ~in_nucleus
        if field.foreign is not None:
            is_foreign = rays.sample_mask(field.foreign) & ~in_nucleus
            is_cell, is_other = is_cell & ~is_foreign, is_other | is_foreign
        counted = inside & stained
        parts = np.stack([counted & is_cell & ~in_nucleus, counted & is_other, counted & in_nucleus])
        likely, unlikely = _frequencies(colours, field.darkest, radii, parts, beliefs)
        behind = _behind_slide(stained | in_nucleus)
        membership = _membership(likely, unlikely, np.where(behind, 1 / beliefs.nearer, beliefs.nearer))
        # Slide costs less than a foreign colour: there are pale spots in a cytoplasm.
        membership = np.where(stained, membership, np.minimum(membership, 0) - np.float32(0.25))
        if field.foreign is not None:
            membership[is_foreign] = -1
        membership[in_nucleus] = 1
        edges = _edges(colours, stain, in_nucleus, stained)
        curve = radii[_best_ring(_ring_cost(membership * inside, edges, inside))]
        points = np.stack([centre[0] + _COSINES[:, 0] * curve, centre[1] + _SINES[:, 0] * curve], axis=1)
        cell = polygon(points, nucleus.shape)
        centre = centroid(cell | nucleus)
    return np.asarray(points, np.float64)


def transmitted(pixels: Image | Values, white: Values) -> tuple[Values, Values]:
    """float32 (..., 3), the share of light let through, 1 on the empty slide, and (...), how much is held back: the
    length of 1 - transmission."""
    transmission = np.minimum(pixels / white, 1)
    lacking = 1 - transmission
    return transmission, np.sqrt(np.einsum("...c,...c", lacking, lacking))


def _behind_slide(stained: Mask) -> Mask:
    """Whether slide lies between a sample and the centre of its ray."""
    kernel = np.ones((1, GAP), np.uint8)
    ends = cv2.erode((~stained).view(np.uint8), kernel, anchor=(GAP - 1, 0), borderType=cv2.BORDER_CONSTANT)
    return np.maximum.accumulate(ends, axis=1) > 0


def _frequencies(
    colours: Values, darkest: Values, radii: Values, parts: Mask, beliefs: Beliefs
) -> tuple[Values, Values]:
    """float32 (ANGLES, RADII) each: how frequent the colour of every sample is inside the cell, and outside.

    ``parts``: bool (3, ANGLES, RADII), the samples of the cell without its nucleus, of all else, and of the nucleus. A
    sample stands for more of the image the farther out it is.
    """
    from fusion.images.segmentation._contour_loops import colour_histograms

    bins, histograms, (of_cell, of_other, of_nucleus) = colour_histograms(colours, darkest, radii, parts, LEVELS)
    cell, other = _smooth(histograms)
    inside = cell / np.float32(max(of_cell + beliefs.dilution * of_nucleus, 1e-9))
    outside = other / np.float32(max(of_other, beliefs.rarity * of_cell, 1e-9))
    return inside[bins], outside[bins]


def _membership(likely: Values, unlikely: Values, nearer: Values) -> Values:
    """From -1 for colours seen outside the cell only to +1 for colours seen inside only."""
    likely = likely * nearer.astype(np.float32)
    # The small term leaves colours that are nearly absent undecided.
    return (likely - unlikely) / (likely + unlikely + np.float32(1e-6))


def _smooth(histograms: Values) -> Values:
    """float32 (2, LEVELS**3): each blurred by one level in every colour."""
    for _ in range(3):  # each turn blurs one axis by one level and brings the next to the front
        histograms = histograms.reshape(2, LEVELS, LEVELS**2).transpose(0, 2, 1) @ _LEVEL_BLUR
    return histograms.reshape(2, -1)


def _gaussian_matrix(size: int) -> Values:
    step = np.arange(size)
    matrix = np.exp(-0.5 * (step[:, None] - step) ** 2)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True), np.float32)


_LEVEL_BLUR = _gaussian_matrix(LEVELS)


def _edges(colours: Values, stain: Values, in_nucleus: Mask, stained: Mask) -> NDArray[np.float32]:
    """Up to 1 where colours change along a ray, best to less stain; not at the nucleus, whose edge outdoes all others.

    Where the slide begins right outside the nucleus, its edge is the cell's too and counts.
    """
    from fusion.images.segmentation._contour_loops import changes_along

    change = changes_along(colours, stain)
    at_nucleus = cv2.dilate(in_nucleus.view(np.uint8), np.ones((3, 7), np.uint8)) > 0
    at_nucleus[:, :-6] &= stained[:, 6:]
    change[0][at_nucleus] = 0
    if at_nucleus.all():  # a nucleus that fills the image: there is no other edge
        return np.zeros(stain.shape, np.float32)
    # Every other ray is enough to know what is strong, unless all of them lie at the nucleus.
    elsewhere = ~at_nucleus[::2]
    seen = change[:, ::2][:, elsewhere] if elsewhere.any() else change[:, ~at_nucleus]
    strong = np.array([percentile(row, 0.95) for row in np.abs(seen)], np.float32)[:, None, None]
    any_change, fall = np.clip(change / np.maximum(strong, 1e-6), -1, 1)
    return np.float32(0.7) * any_change + np.float32(0.3) * fall


def _ring_cost(membership: Values, edges: Values, inside: Mask) -> NDArray[np.float64]:
    """What the curve pays to cross a ray at a radius: less with every cell pixel within, less on an edge."""
    area = np.cumsum(membership, axis=1, dtype=np.float64) * (REACH / RADII)
    # A full edge is worth 0.15 nucleus radii of cell; a small toll keeps the curve in the image where it can.
    return 0.02 * ~inside - area - 0.15 * edges


# Quadratic, so that a bend of 5 steps (0.2 nucleus radii) costs as much as 0.1 radii of area.
_BEND = np.asarray(0.004 * np.arange(-JUMP, JUMP + 1) ** 2.0, np.float64)


def _best_ring(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """(ANGLES,) the radius index per angle of the cheapest closed curve, by dynamic programming.

    Closed is what the middle of a turn and a quarter is: its ends lie eight corners from where the path starts and
    stops, where only the image decides how it runs.
    """
    from fusion.images.segmentation._contour_loops import cheapest_path

    lead = ANGLES // 8
    path = cheapest_path(cost, _BEND, ANGLES + 2 * lead)
    return np.roll(path[lead : lead + ANGLES], lead)
