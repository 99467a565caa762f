"""The nucleus inside a known cell: the purple part, distinguished from the cytoplasm by a threshold of the cell's
own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._mask_geometry import Image, Mask, disc, radius_of, regions
from fusion.images.segmentation._otsu import Values, median_level, two_classes

# Separability of two classes that are none: a flat distribution scores 0.75, a single normal one 0.64.
FLAT = 0.75

# The tones of a nucleus and of its cytoplasm lie this share of the way from the darker one to the slide apart, at the
# least: chromatin alone spans up to 0.14 of it, a cytoplasm is at least 0.23 away, eosin granules included. Where no
# slide is seen, white stands for it; the same light would be less of the way by a dimmer lamp, and more of it by a
# denser stain, so that more is asked: of 629 cells of five laboratories cut out on black, and of their nuclei alone, a
# fifth tells most for what they are.
WAY_TO_SLIDE, WAY_TO_WHITE = 0.16, 0.2

# A channel parts two tones clearly better than another if it explains so much more of the variance.
CLEARLY = 0.03

# Tones that lie no farther apart are one.
GREY_LEVEL = 1 / 255

# Levels of a cell's tones: half a level is then less than the sensor can tell apart.
LEVELS = 512

# A cell is judged at a radius of about 48 pixels: squares of whole pixels become one, which is an order of magnitude
# faster than any other scale. What is lost is finer than the blur that is needed anyway (a pixel of 48 is a fiftieth of
# the radius), and the border is interpolated back to the pixels of the image.
WORKING_RADIUS = 48

# A cell's rim is mixed with what lies around it, or refracts darkly: a tenth of the radius tells nothing about the two
# tones. But a thin cytoplasm lies there and nowhere else, and a cell cut out on black is clean up to its edge: the
# rim left out may then be the thinner one, whichever shows the two tones better.
RIMS = (0.1, 0.04)

# Where the camera resolves grains of chromatin, a threshold may part these instead of nucleus and cytoplasm: its part
# then has a ragged border, longer than that of a disc of its area by this factor (three round lobes have 1.7, and all
# but one of 300 drawn nuclei less than 2), and most of it changes with the grains blurred away. Blurring changes less
# than GRAINY of all other nuclei.
RAGGED = 1.9
GRAINY = 0.92

# Blurred away is what is finer than a tenth of the radius, two standard deviations; the border of what is found then
# is less sharp by half of that, and is left to the finer part.
GRAIN = 1 / 20


def purple_part(rgb: Image, mask: Mask, white: Values | None) -> Mask:
    """bool (H, W): the nucleus, or all of ``mask`` where the cell shows no second tone.

    Parameters
    ----------
    rgb : uint8 (H, W, 3), the cell's bounding box.
    mask : bool (H, W), the cell, not empty.
    white : (3,) the colour of the empty slide; None where the cell lies on black.
    """
    radius = radius_of(np.count_nonzero(mask))
    # A fortieth of the radius is less than an edge is blurred, and more than the grain of a sensor.
    cell = _Inside(mask, max(1, round(radius / WORKING_RADIUS)), radius)
    fine = _dark_part(rgb, mask, white, cell)
    if not _is_ragged(fine):
        return fine
    coarse = _dark_part(rgb, mask, white, cell.blurred(GRAIN))
    if 2 * np.count_nonzero(fine & coarse) >= GRAINY * (np.count_nonzero(fine) + np.count_nonzero(coarse)):
        return fine
    depth = cv2.distanceTransform(np.pad(coarse, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return mask & regions(fine | (depth > GRAIN * radius), 0.05)


def _dark_part(rgb: Image, mask: Mask, white: Values | None, cell: _Inside) -> Mask:
    """bool (H, W): what is nearer to the darker of the cell's two tones; all of ``mask`` where it shows one only."""
    tones = _on_black(rgb, cell) if white is None else _on_slide(rgb, white, cell)
    if tones is None:
        return mask
    # Half-way between the tones is where a blurred edge lies; Otsu's split leans to the class of wider spread.
    dark = mask & (cell.without_threads(tones) <= (tones.dark + tones.light) / 2)
    # The smallest lobes of a segmented nucleus are about a tenth of it; crumbs are less.
    return mask & regions(dark, 0.05)


def _is_ragged(nucleus: Mask) -> bool:
    """Whether the border, holes apart, is longer than that of a disc of the same area by ``RAGGED``."""
    contours, _ = cv2.findContours(nucleus.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(contour, True) for contour in contours)
    return bool(length > RAGGED * 2 * np.pi * radius_of(np.count_nonzero(nucleus)))


def _on_black(rgb: Image, cell: _Inside) -> _Tones | None:
    """The two tones of a cell on black; None where it shows one only."""
    white, cores = np.full(3, 255, np.float32), [cell.core(rim) for rim in RIMS]
    # Without a slide the balance of green and blue is unknown: what takes less green than the rest is no nucleus, and
    # green alone may do better.
    green = _tones_of(cv2.extractChannel(rgb, 1) * np.float32(1 / 255), cell, cores)
    found = [_tones_of(channel, cell, cores) for channel in (greenness(rgb, white), red_greenness(rgb, white))]
    # In dim light two tones are nearer to each other: then they tell themselves by how well they part.
    are_two = [
        (tones.separability >= FLAT or tones.are_apart(WAY_TO_WHITE)) and _takes_more(green.values, tones, cores[0])
        for tones in found
    ]
    return _clearest([*found, green], [*are_two, green.separability >= FLAT])


def _takes_more(green: Values, tones: _Tones, core: Image) -> bool:
    """Whether the darker of two tones is the darker one in green, too."""
    dark = (tones.values <= (tones.dark + tones.light) / 2).view(np.uint8)
    return cv2.mean(green, core & dark)[0] <= cv2.mean(green, core & (1 - dark))[0]


def _on_slide(rgb: Image, white: Values, cell: _Inside) -> _Tones | None:
    """The two tones of a cell on a slide of this colour; None where it shows one only."""
    cores = [cell.core(RIMS[0])]
    found = [_tones_of(channel, cell, cores) for channel in (greenness(rgb, white), red_greenness(rgb, white))]
    return _clearest(found, [tones.are_apart(WAY_TO_SLIDE) for tones in found])


def _tones_of(channel: Values, cell: _Inside, cores: Sequence[Image]) -> _Tones:
    values = cell.smoothed(channel)
    return two_tones([(values, core) for core in cores])


def _clearest(found: Sequence[_Tones], are_two: Sequence[bool]) -> _Tones | None:
    """Of the tones that are two the first, or a later one that parts clearly better; None where all are one."""
    best = None
    for tones, is_two in zip(found, are_two, strict=True):
        if is_two and tones.contrast >= GREY_LEVEL:
            best = tones if best is None or tones.separability > best.separability + CLEARLY else best
    return best


def greenness(rgb: Image, white: Values) -> Values:
    """float32 (H, W): transmission of green minus half of that of blue, 0.5 on the empty slide, lowest in chromatin.

    The dye of chromatin takes green light and leaves blue. Haemoglobin and eosin granules take both, so subtracting
    blue sets them apart from a nucleus as dark as they are; all of it would only add the noise of the blue channel.
    """
    let_through = np.minimum(np.arange(256, dtype=np.float32) / white[:, None], 1)
    green = cv2.LUT(cv2.extractChannel(rgb, 1), let_through[1])
    blue = cv2.LUT(cv2.extractChannel(rgb, 2), 0.5 * let_through[2])
    return np.asarray(green - blue, np.float32)


def red_greenness(rgb: Image, white: Values) -> Values:
    """float32 (H, W): as ``greenness``, with the geometric mean of red and green, their mean density, in green's place.

    Eosin lets red pass, which chromatin takes. Where a stain, or the camera, leaves granules nearly as dark in green as
    the nucleus, and blue does not make up for it, red tells them apart; a basophilic cytoplasm takes red too.
    """
    roots = np.sqrt(np.minimum(np.arange(256, dtype=np.float32) / white[:, None], 1))
    red, green = (cv2.LUT(cv2.extractChannel(rgb, channel), roots[channel]) for channel in (0, 1))
    blue = cv2.LUT(cv2.extractChannel(rgb, 2), 0.5 * roots[2] ** 2)
    return np.asarray(red * green - blue, np.float32)


class _Tones(NamedTuple):
    """A smoothed channel, the medians of its two classes in the core of the cell, and how well they part."""

    values: Values
    dark: float
    light: float
    separability: float

    @property
    def contrast(self) -> float:
        return self.light - self.dark

    def are_apart(self, share: float) -> bool:
        """Whether they are apart by this share of the way from the darker one to the empty slide, which has 0.5."""
        return self.contrast >= share * (0.5 - self.dark)


def two_tones(choices: Sequence[tuple[Values, Image]]) -> _Tones:
    """The tones of the smoothed channel that shows two best within its core; the first of those that show them as well.

    ``choices``: channels, float32 (H, W), each with the pixels to look at, uint8 (H, W), not all 0.
    """
    ranges = [cv2.minMaxLoc(values, core)[:2] for values, core in choices]
    low, high = np.array(ranges).T
    step = (high - low) / LEVELS
    if not step.any():  # one tone
        return _Tones(choices[0][0], 0, 0, 0)
    histograms = np.zeros((len(choices), LEVELS + 1))
    for at, (values, core) in enumerate(choices):
        if step[at] > 0:
            # The upper bound of a histogram is left out, so the highest tone needs one level more.
            bounds = [low[at], high[at] + step[at]]
            histograms[at] = cv2.calcHist([values], [0], core, [LEVELS + 1], bounds).ravel()
        else:
            histograms[at, 0] = 1
    below = np.cumsum(histograms, axis=1)
    for histogram, counts in zip(histograms, below, strict=True):
        # A hundredth at either end, whatever it is, counts as no darker or lighter than the rest.
        first, last = np.searchsorted(counts, np.array([0.01, 0.99]) * counts[-1])
        histogram[first], histogram[last] = counts[first], counts[-1] - counts[last] + histogram[last]
        histogram[:first] = histogram[last + 1 :] = 0
    splits, separabilities = two_classes(histograms)
    best = int(separabilities.argmax())
    if separabilities[best] == 0:
        return _Tones(choices[best][0], 0, 0, 0)
    split, histogram = int(splits[best]), histograms[best]
    dark, light = median_level(histogram[: split + 1]), split + 1 + median_level(histogram[split + 1 :])
    at_low, of_step = float(low[best]), float(step[best])
    return _Tones(
        choices[best][0],
        at_low + (dark + 0.5) * of_step,
        at_low + (light + 0.5) * of_step,
        float(separabilities[best]),
    )


class _Inside:
    """The inside of a cell at working size, where means take no pixel from outside it; ``radius`` is at that size."""

    def __init__(self, mask: Mask, factor: int, radius: float) -> None:
        self.full, self.factor, self.radius = mask.astype(np.float32), factor, radius / factor
        self.weight = self._resized(self.full)
        self.mask = self.weight > 0.5 if factor > 1 else mask
        self.sigma = max(0.6, self.radius / 40)
        self.share = np.maximum(cv2.GaussianBlur(self.weight, (0, 0), self.sigma), 1e-6)
        self.depth = cv2.distanceTransform(np.pad(self.mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]

    def blurred(self, share: float) -> _Inside:
        """The same, whose means reach as far as this share of the radius."""
        other = copy.copy(self)
        other.sigma = max(0.6, share * self.radius)
        other.share = np.maximum(cv2.GaussianBlur(self.weight, (0, 0), other.sigma), 1e-6)
        return other

    def _resized(self, values: Values) -> Values:
        if self.factor == 1:
            return values
        below, right = (-length % self.factor for length in values.shape)
        whole = cv2.copyMakeBorder(values, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
        size = whole.shape[1] // self.factor, whole.shape[0] // self.factor
        return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)

    def smoothed(self, channel: Values) -> Values:
        """A Gaussian mean of the pixels inside the cell only."""
        blurred = cv2.GaussianBlur(self._resized(channel * self.full), (0, 0), self.sigma)
        return np.asarray(blurred / self.share, np.float32)

    def core(self, rim: float) -> Image:
        """uint8 (H, W): 1 for pixels deeper inside than ``rim`` radii, for all where none is."""
        core = (self.depth > max(1, rim * self.radius)).view(np.uint8)
        return core if cv2.countNonZero(core) else np.ones_like(core)

    def without_threads(self, tones: _Tones) -> NDArray[np.float32]:
        """The channel at the size of the image, light where dark is narrower than a sixth of the cell's radius."""
        # Closing tones opens every set of pixels darker than a threshold. Outside the cell nothing is dark.
        values = np.where(self.mask, tones.values, np.float32(np.inf))
        values = cv2.morphologyEx(values, cv2.MORPH_CLOSE, disc(round(self.radius * 0.08)))
        if self.factor == 1:
            return np.asarray(values, np.float32)
        # The contour of the cell runs between pixels of this size: each side's tones reach across it.
        around = cv2.erode(np.where(self.mask, values, np.float32(np.inf)), np.ones((3, 3), np.uint8))
        values = np.where(self.mask, values, np.minimum(around, tones.light))
        size = values.shape[1] * self.factor, values.shape[0] * self.factor
        whole = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole[: self.full.shape[0], : self.full.shape[1]], np.float32)
