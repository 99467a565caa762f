"""Paints one synthetic lymphocyte the way C-NMC shows one: a dark purple cell, cut out, on exactly black.

The stain follows Beer and Lambert: what is drawn is optical density (OD), and a channel's value is 255 exp(-OD).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Height and width of a C-NMC image, in pixels.
SIDE = 450

#: Standard deviation of the camera's blur, in pixels: it softens chromatin and leaves borders two pixels wide.
CAMERA_BLUR_PX = 0.8

#: Standard deviation of the sensor's noise, in grey levels: just visible on flat cytoplasm, far below any chromatin.
SENSOR_NOISE = 1.3

#: No channel of a cell pixel goes below this (R, G, B). The sum is 29: no real cell pixel has R + G + B below 26.
DARKEST = (12, 3, 14)

# OD (R, G, B) of an average nucleus. With cytoplasm around it, a cell's mean then lies near the (73, 32, 81) and
# (68, 30, 75) measured on real cells.
_NUCLEUS_OD = np.array([1.33, 2.25, 1.23], np.float32)

# OD (R, G, B) of cytoplasm: lighter and bluer, and in green (74, nucleus 27) far enough away for a threshold.
_CYTOPLASM_OD = np.array([0.97, 1.24, 0.81], np.float32)

# The direction in OD in which a stain turns bluer: red is held back more, blue less. Green is left alone, so that
# green shows chromatin and nothing else.
_HUE_OD = np.array([1.0, 0.0, -0.6], np.float32)

# How much wider the lower cut of the chromatin's noise is than the upper one. At 3 the mottles look natural, and
# drifts wider than a few mottles are left to the shading.
_BAND = 3.0

# Correlation length of that noise over the standard deviation of its low-pass: see ``_chromatin``.
_CORRELATION_PER_SIGMA = 1.67

# Farthest pixel distance at which texture is correlated: twice the widest that a cell may have.
_FARTHEST = 32

# No contour comes closer than this to the image's edge, in pixels: the frame stays black, as in every real image.
_EDGE_PX = 6

# Farthest that a cell's middle lies from the image's, down and across, in pixels.
_OFF_CENTRE_PX = 8

# Directions in which a contour is tabulated: a third of a pixel apart on the largest contour that fits.
_DIRECTIONS = 4096


@dataclass(frozen=True)
class CellTraits:
    """What a cell is to look like, in plain values.

    Attributes
    ----------
    area_px : area of the cell. A cell that would not fit is drawn as large as fits.
    elongation : long over short axis of the ellipse under the contour, from 1.
    contour_irregularity : root mean square, over all directions seen from the cell's middle, of the contour's
        distance from that ellipse, as a fraction of the ellipse's radius in that direction. 0 is the ellipse itself.
    nucleus_ratio : area of the nucleus over that of the cell, from 0.6 to below 1.
    texture_scale_px : correlation length of the noise that chromatin is drawn from, as the camera shows it, from 3
        to 16. One cell's own, ``PaintedCell.texture_scale_px``, lies some 3% around it.
    chromatin_contrast : standard deviation of the chromatin's OD over its mean.
    nucleoli : how many, up to 4.
    stain_darkness : factor on the OD of everything, 1 for an average stain.
    stain_hue : OD added to red, and 0.6 times as much taken from blue; above 0 is bluer.
    """

    area_px: float
    elongation: float
    contour_irregularity: float
    nucleus_ratio: float
    texture_scale_px: float
    chromatin_contrast: float
    nucleoli: int
    stain_darkness: float
    stain_hue: float


@dataclass(frozen=True, eq=False)
class PaintedCell:
    """An image and what was painted into it.

    Attributes
    ----------
    rgb : uint8 (450, 450, 3), exactly 0 outside ``mask``; inside, R + G + B is 29 at least.
    mask : bool (450, 450), one connected region without holes.
    nucleus : bool (450, 450), inside ``mask``.
    texture_scale_px : correlation length of the stain in this nucleus (``correlation_length``): chromatin and
        nucleoli, after the camera's blur, before noise and without the shading across the nucleus.
    """

    rgb: NDArray[np.uint8]
    mask: Mask
    nucleus: Mask
    texture_scale_px: float


@dataclass(frozen=True, eq=False)
class StainedCell:
    """A cell before any camera has seen it.

    Attributes
    ----------
    od : float32 (450, 450, 3), optical density of the stain; 0 outside ``mask``.
    mask, nucleus, texture_scale_px : as in ``PaintedCell``.
    """

    od: Values
    mask: Mask
    nucleus: Mask
    texture_scale_px: float


def paint_cell(traits: CellTraits, rng: np.random.Generator) -> PaintedCell:
    """Paint a cell with these traits; ``rng`` decides everything else (position, contour, grain, noise)."""
    canvas, mask, nucleus, stain, od = _stained(traits, rng)
    rgb = _develop(od, rng)
    rgb[~mask] = 0
    return PaintedCell(
        rgb=canvas.on_black(rgb),
        mask=canvas.on_black(mask),
        nucleus=canvas.on_black(nucleus),
        texture_scale_px=correlation_length(_blurred(stain), nucleus),
    )


def stain_cell(traits: CellTraits, rng: np.random.Generator) -> StainedCell:
    """The stain of a cell with these traits, for a site's own camera to look at."""
    canvas, mask, nucleus, stain, od = _stained(traits, rng)
    od[~mask] = 0
    return StainedCell(
        canvas.on_black(od),
        canvas.on_black(mask),
        canvas.on_black(nucleus),
        correlation_length(_blurred(stain), nucleus),
    )


def _stained(traits: CellTraits, rng: np.random.Generator) -> tuple[_Canvas, Mask, Mask, Values, Values]:
    """Canvas, cell, nucleus, density of chromatin and nucleoli, and optical density."""
    contour = _contour(traits, rng)
    border = contour * _nucleus_share(contour, traits.nucleus_ratio, rng)
    canvas = _canvas(contour, rng)
    mask, nucleus = canvas.radius <= contour[canvas.direction], canvas.radius <= border[canvas.direction]
    stain = _chromatin(traits, nucleus, rng) * _nucleoli(traits.nucleoli, border, canvas, rng)
    density = stain * _shading(canvas.radius / border[canvas.direction], canvas, rng)
    return canvas, mask, nucleus, stain, _optical_density(traits, density, nucleus, rng)


def correlation_length(values: Values, mask: Mask) -> float:
    """Distance in pixels at which the autocorrelation of ``values`` inside ``mask`` has fallen to 1/e.

    The mean inside the mask is taken off; the covariance at a displacement is the mean product over all pairs of
    pixels inside the mask that lie so far apart. Displacements are averaged in rings one pixel wide, and the crossing
    is interpolated linearly between rings. ``_FARTHEST`` where it is not reached before.

    Parameters
    ----------
    values : float (H, W).
    mask : bool (H, W), not empty.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = mask[y : y + height, x : x + width]
    centred = np.where(inside, values[y : y + height, x : x + width] - values[mask].mean(), 0)
    # Empty space as wide as the farthest displacement keeps opposite sides from being paired.
    products, pairs = _self_products(centred), _self_products(inside)
    reach = np.arange(-_FARTHEST, _FARTHEST + 1)
    distance = np.hypot(reach[:, None], reach)
    ring = np.rint(distance).astype(np.intp)[distance <= _FARTHEST]
    covariance = (products / np.maximum(pairs, 0.5))[distance <= _FARTHEST]
    members = np.bincount(ring)
    profile = np.bincount(ring, covariance) / members
    far = np.bincount(ring, distance[distance <= _FARTHEST]) / members
    level = profile[0] / math.e
    below = int(np.argmax(profile < level))
    if below == 0:
        return float(_FARTHEST)
    fall = (profile[below - 1] - level) / (profile[below - 1] - profile[below])
    return float(far[below - 1] + fall * (far[below] - far[below - 1]))


def _self_products(layer: NDArray) -> NDArray[np.float64]:
    """Sum of products of ``layer`` with itself moved by every displacement up to ``_FARTHEST``, none in the middle."""
    # Multiples of 32 transform quickly; a bounding box on its own may well be a prime.
    shape = tuple((size + _FARTHEST + 31) // 32 * 32 for size in layer.shape)
    spectrum = np.fft.rfft2(layer, shape)
    products = np.fft.irfft2(spectrum.real**2 + spectrum.imag**2, shape)
    reach = np.arange(-_FARTHEST, _FARTHEST + 1)
    return products[np.ix_(reach % shape[0], reach % shape[1])]


# ---- contours: a radius in each of _DIRECTIONS directions -----------------------------------------------------------


def _contour(traits: CellTraits, rng: np.random.Generator) -> Values:
    """Radius of the cell in pixels: an ellipse, times one plus an irregularity of the wanted strength."""
    turned = _ANGLES - rng.uniform(0, np.pi)
    stretch = math.sqrt(traits.elongation)
    ellipse = 1 / np.hypot(np.cos(turned) / stretch, np.sin(turned) * stretch)
    contour = ellipse * (1 + traits.contour_irregularity * _irregularity(rng))
    contour *= math.sqrt(traits.area_px / (np.pi * np.mean(contour**2)))
    largest = SIDE / 2 - _EDGE_PX - _OFF_CENTRE_PX
    return (contour * min(1.0, largest / contour.max())).astype(np.float32)


def _irregularity(rng: np.random.Generator) -> NDArray[np.float64]:
    """A wave round the cell with mean 0 and mean square 1: lobes of all sizes, and on some cells one cleft."""
    # From 3: one lobe would be a shift, two an ellipse. To 11: finer ones are lost where cells are cut out by hand.
    # Falling with the square: slower and cells get scalloped, faster and they lose their corners.
    wave = sum(rng.normal() / lobes**2 * _wave(lobes, rng) for lobes in range(3, 12))
    wave /= np.sqrt(np.mean(wave**2))
    if rng.random() < 1 / 3:  # a cleft is common but not the rule
        wave -= 2.5 * _bay(12, rng)  # 12: some 35 degrees wide; 2.5: deeper than the lobes beside it
    wave -= wave.mean()
    return wave / np.sqrt(np.mean(wave**2))


def _nucleus_share(contour: Values, ratio: float, rng: np.random.Generator) -> Values:
    """Radius of the nucleus over that of the cell in each direction, such that the areas have this ratio."""
    # Where the nucleus leaves room: a bay of cytoplasm on one side, as lymphocytes have it, three to eight times as
    # deep as the waves around it; up to 23 of these, falling by a power that leaves the border rough but not ragged.
    room = rng.uniform(3, 8) * _bay(rng.uniform(1.5, 4), rng)
    room += sum(0.7 * rng.normal() / lobes**1.3 * _wave(lobes, rng) for lobes in range(2, 24))
    # A soft maximum with 0 (4: as soft as the waves are high) keeps the nucleus in the cell. 0.15 more is about a
    # pixel, which a cut along a nucleus leaves on.
    room = 0.15 + np.logaddexp(0, 4 * (0.5 + room)) / 4
    # The share is 1 - t room, and mean(r^2 (1 - t room)^2) = ratio mean(r^2) is quadratic in t.
    square = contour.astype(np.float64) ** 2
    a, b, c = np.mean(square * room**2), np.mean(square * room), (1 - ratio) * np.mean(square)
    # A nucleus so small that the bay would swallow its middle gets as close to its ratio as it can.
    t = min((b - np.sqrt(np.maximum(b * b - a * c, 0))) / a, 0.9 / room.max())
    return (1 - t * room).astype(np.float32)


_ANGLES = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)


def _wave(lobes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.cos(lobes * _ANGLES + rng.uniform(0, 2 * np.pi))


def _bay(narrowness: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """1 in one direction and falling off to both sides: von Mises' curve."""
    return np.exp(narrowness * (np.cos(_ANGLES - rng.uniform(0, 2 * np.pi)) - 1))


# ---- the canvas -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Canvas:
    """The square of the image that is painted: each pixel's place as seen from the cell's middle."""

    rows: slice
    columns: slice
    y: Values
    x: Values
    radius: Values
    direction: NDArray[np.int32]

    def on_black(self, layer: NDArray) -> NDArray:
        """The painted square in its place in an empty image."""
        image = np.zeros((SIDE, SIDE, *layer.shape[2:]), layer.dtype)
        image[self.rows, self.columns] = layer
        return image


def _canvas(contour: Values, rng: np.random.Generator) -> _Canvas:
    middle = SIDE / 2 + rng.uniform(-_OFF_CENTRE_PX, _OFF_CENTRE_PX, size=2)
    reach = math.ceil(contour.max()) + 2
    rows, columns = (slice(int(at) - reach, int(at) + reach + 1) for at in middle)
    y, x = np.mgrid[rows, columns].astype(np.float32) - middle[:, None, None].astype(np.float32)
    radius, angle = cv2.cartToPolar(x, y)
    direction = np.rint(angle * (_DIRECTIONS / (2 * np.pi))).astype(np.int32) % _DIRECTIONS
    return _Canvas(rows, columns, y, x, radius, direction)


# ---- stain ----------------------------------------------------------------------------------------------------------


def _chromatin(traits: CellTraits, nucleus: Mask, rng: np.random.Generator) -> Values:
    """Density of chromatin, 1 on average: band-limited noise.

    White noise through a Gaussian of s, less the same through another of h = 3 s, has the autocorrelation
    exp(-q) - 2 exp(-q / 5.5) / 5.5 + exp(-q / 10) / 10 with q = (r / 2 s)^2. It has fallen to 1/e at r = 1.67 s.
    The camera's blur is part of s: so much less is put in here.
    """
    seen = traits.texture_scale_px / _CORRELATION_PER_SIGMA
    white = rng.standard_normal(nucleus.shape, np.float32)
    grain = cv2.GaussianBlur(white, (0, 0), math.sqrt(seen**2 - CAMERA_BLUR_PX**2))
    grain = grain - cv2.GaussianBlur(grain, (0, 0), _BAND * seen)
    inside = grain[nucleus]
    grain = (grain - inside.mean()) / inside.std()
    # Some parts of a nucleus are more open than others: the contrast itself varies by a fifth.
    return 1 + traits.chromatin_contrast * grain * (1 + 0.2 * _drift(nucleus.shape, 6, rng))


def _nucleoli(count: int, border: Values, canvas: _Canvas, rng: np.random.Generator) -> Values:
    """A factor on the density: below 1 in ``count`` round spots, spread so that none hides another."""
    factor = np.ones_like(canvas.x)
    size = math.sqrt(np.mean(border**2))
    first = rng.uniform(0, 2 * np.pi)
    # Up to two may lie anywhere off the middle, more only in a ring, where each has room.
    nearest = 0.25 if count <= 2 else 0.45
    for spot in range(count):
        # Each in a sector of its own, and out to six tenths of the way: clear of its neighbours and of the border.
        angle = first + (spot + rng.uniform(-0.2, 0.2)) * 2 * np.pi / count
        away = rng.uniform(nearest, 0.6) * border[int(angle * _DIRECTIONS / (2 * np.pi)) % _DIRECTIONS]
        middle_y, middle_x = np.float32(away * math.sin(angle)), np.float32(away * math.cos(angle))
        distance = np.hypot(canvas.y - middle_y, canvas.x - middle_x)
        # A tenth of the nucleus in radius, give or take, as a micrometre is to ten, fading over 4 pixels; 15 to 22%
        # paler is twice the chromatin's contrast: less is lost in it, more looks like a hole.
        inside = 1 - np.clip((distance - size * np.float32(rng.uniform(0.09, 0.14))) / 4, 0, 1)
        factor *= 1 - np.float32(rng.uniform(0.15, 0.22)) * inside
    return factor


def _shading(depth: Values, canvas: _Canvas, rng: np.random.Generator) -> Values:
    """A factor on the nucleus' density. ``depth`` is 0 in the nucleus' middle and 1 at its border."""
    # Towards the border there is less nucleus under each pixel, but at the border itself chromatin gathers: a seam
    # 5% of the radius wide. All of it is weaker than chromatin's contrast, so that it does not pass for texture.
    thickness = 1.01 - 0.025 * depth**2 + 0.05 * np.exp(-(((depth - 0.97) / 0.05) ** 2))
    # Focus and thickness drift from one side to the other by two percent.
    side = rng.uniform(0, 2 * np.pi)
    tilt = (canvas.x * np.float32(math.cos(side)) + canvas.y * np.float32(math.sin(side))) / canvas.radius.max()
    return thickness * (1 + 0.02 * tilt)


def _optical_density(traits: CellTraits, density: Values, nucleus: Mask, rng: np.random.Generator) -> Values:
    """OD of every pixel, (h, w, 3): the nucleus, in cytoplasm all around, in this cell's stain."""
    # Cytoplasm is grainy too; at 4% its darkest grains stay clear of the nucleus.
    cytoplasm = 1 + 0.04 * _drift(nucleus.shape, 14, rng)
    od = np.where(nucleus[..., None], density[..., None] * _NUCLEUS_OD, cytoplasm[..., None] * _CYTOPLASM_OD)
    # Patches of a cell lean towards red or blue, however dark they are; half as much where there is less stain.
    patches = 0.05 * _drift(nucleus.shape, 7, rng) + 0.03 * _drift(nucleus.shape, 18, rng)
    hue = traits.stain_hue + patches * np.where(nucleus, np.float32(1), np.float32(0.5))
    return (traits.stain_darkness * (od + hue[..., None] * _HUE_OD)).astype(np.float32, copy=False)


def _drift(shape: tuple[int, ...], patches: int, rng: np.random.Generator) -> Values:
    """Smooth noise of mean 0 and deviation about 1, this many patches across."""
    coarse = rng.standard_normal((patches, patches), np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


# ---- the camera -----------------------------------------------------------------------------------------------------


def _develop(od: Values, rng: np.random.Generator) -> NDArray[np.uint8]:
    """From OD to grey levels, uint8 (h, w, 3), as a camera with blur and noise sees them."""
    light = _blurred(255 * np.exp(-od))
    light += SENSOR_NOISE * rng.standard_normal(light.shape, np.float32)
    return np.clip(np.rint(light), DARKEST, 255).astype(np.uint8)


def _blurred(values: Values) -> Values:
    return cv2.GaussianBlur(values, (0, 0), CAMERA_BLUR_PX).astype(np.float32, copy=False)
