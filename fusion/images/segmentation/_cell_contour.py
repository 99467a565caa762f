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

from fusion.images.segmentation._mask_geometry import Mask, centroid, polygon, radius_of
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

    ``transmission`` float32 (H, W, 3), ``stain`` float32 (H, W) its distance from that of the slide, ``nucleus`` bool
    (H, W), ``faint`` the stain below which there is slide, ``darkest`` (3,) the least transmission of the image.
    """

    transmission: Values
    stain: Values
    nucleus: Mask
    faint: float
    darkest: Values


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
    radii = (np.arange(RADII) + 0.5) / RADII * REACH * radius
    angles = np.arange(ANGLES)[:, None] * (2 * np.pi / ANGLES)
    centre, cell = centroid(nucleus), nucleus
    for turn in range(ROUNDS):
        x, y = centre[0] + np.cos(angles) * radii, centre[1] + np.sin(angles) * radii
        rays = _Rays(x.astype(np.float32), y.astype(np.float32))
        inside, in_nucleus = rays.inside(nucleus.shape), rays.sample_mask(nucleus)
        colours, stain = rays.sample(field.transmission), rays.sample(field.stain)
        stained = stain > field.faint
        is_cell = rays.sample_mask(cell) if turn else (radii < beliefs.near * radius) & stained
        is_other = ~is_cell if turn else (radii > FAR * radius) & stained & ~in_nucleus
        area = inside * stained * radii  # a sample stands for more of the image the farther out it is
        membership = _membership(
            _colour_bins(colours, field.darkest),
            area * (is_cell & ~in_nucleus),
            area * is_other,
            beliefs,
            beliefs.dilution * float((area * in_nucleus).sum()),
            _behind_slide(stained | in_nucleus),
        )
        # Slide costs less than a foreign colour: there are pale spots in a cytoplasm.
        membership = np.where(stained, membership, np.minimum(membership, 0) - 0.25)
        membership = np.where(in_nucleus, 1, membership) * inside
        edges = _edges(colours, stain, in_nucleus, stained)
        curve = radii[_best_ring(_ring_cost(membership, edges, inside))]
        points = np.stack([centre[0] + np.cos(angles[:, 0]) * curve, centre[1] + np.sin(angles[:, 0]) * curve], axis=1)
        cell = polygon(points, nucleus.shape)
        centre = centroid(cell | nucleus)
    return points


def _behind_slide(stained: Mask) -> Mask:
    """Whether slide lies between a sample and the centre of its ray."""
    kernel = np.ones((1, GAP), np.uint8)
    ends = cv2.erode((~stained).view(np.uint8), kernel, anchor=(GAP - 1, 0), borderType=cv2.BORDER_CONSTANT)
    return np.maximum.accumulate(ends, axis=1) > 0


def _colour_bins(transmission: Values, darkest: Values) -> NDArray[np.intp]:
    """The number of the colour bin of every sample; the bins span the colours of the image."""
    share = np.clip((transmission - darkest) / (1 - darkest + np.float32(1e-3)), 0, 1)
    levels = np.minimum(share * LEVELS, LEVELS - 1).astype(np.intp)
    return (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]


def _membership(
    bins: NDArray[np.intp], cell: NDArray, other: NDArray, beliefs: Beliefs, dilution: float, behind: Mask
) -> NDArray[np.float64]:
    """From -1 for colours seen outside the cell only to +1 for colours seen inside only."""
    inside = _smooth_histogram(bins, cell) / max(float(cell.sum()) + dilution, 1e-9)
    outside = _smooth_histogram(bins, other) / max(float(other.sum()), beliefs.rarity * float(cell.sum()), 1e-9)
    likely = inside[bins] * np.where(behind, 1 / beliefs.nearer, beliefs.nearer)
    unlikely = outside[bins]
    # The small term leaves colours that are nearly absent undecided.
    return (likely - unlikely) / (likely + unlikely + 1e-6)


def _smooth_histogram(bins: NDArray[np.intp], weights: NDArray) -> NDArray[np.float64]:
    histogram: NDArray = np.bincount(bins.ravel(), weights.ravel(), minlength=LEVELS**3)
    for _ in range(3):  # each turn blurs one axis by one level and brings the next to the front
        histogram = histogram.reshape(LEVELS, LEVELS**2).T @ _LEVEL_BLUR
    return histogram.ravel()


def _gaussian_matrix(size: int) -> NDArray[np.float64]:
    step = np.arange(size)
    matrix = np.exp(-0.5 * (step[:, None] - step) ** 2)
    return matrix / matrix.sum(axis=1, keepdims=True)


_LEVEL_BLUR = _gaussian_matrix(LEVELS)


def _edges(colours: Values, stain: Values, in_nucleus: Mask, stained: Mask) -> NDArray[np.float32]:
    """Up to 1 where colours change along a ray, best to less stain; not at the nucleus, whose edge outdoes all others.

    Where the slide begins right outside the nucleus, its edge is the cell's too and counts.
    """
    change = np.zeros((2, *stain.shape), np.float32)
    step = colours[:, 2:] - colours[:, :-2]
    change[0, :, 1:-1] = np.sqrt(np.einsum("...c,...c", step, step))
    change[1, :, 1:-1] = stain[:, :-2] - stain[:, 2:]
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


def _ring_cost(membership: NDArray[np.float64], edges: NDArray[np.float32], inside: Mask) -> NDArray[np.float64]:
    """What the curve pays to cross a ray at a radius: less with every cell pixel within, less on an edge."""
    area = np.cumsum(membership, axis=1) * (REACH / RADII)
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
