"""How the colours of a cell are distributed: moments, percentiles and hues of every region, and what eosin has stained.

What is summed are the cell's colours in the order of their codes, so an image turned, mirrored or padded gives the same
numbers to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from extractors.colour import _colour_kernels
from extractors.colour._colour_spaces import AT, CHANNELS, WHOLE, convert
from fusion.images.cell import Cell

Values = NDArray[np.float64]

#: In this order the first axis of what is measured.
REGIONS = ("cell", "nucleus", "cytoplasm")


@dataclass(frozen=True, eq=False)
class Hue:
    """The mean over pixels that have a hue of its unit vector (x, y), and of that of twice the angle; NaN of none."""

    x: float
    y: float
    double_x: float
    double_y: float

    @property
    def length(self) -> float:
        """R, of the mean vector: 1 where all hues are the same, 0 where they cancel out."""
        length = math.hypot(self.x, self.y)
        return 1.0 if length > 1 else length  # rounding can take 1 above 1

    @property
    def angle(self) -> float:
        """Of the mean vector, in radians; NaN where directions cancel out."""
        # Directions that cancel out leave 1e-16 or so, whose angle is rounding.
        return math.atan2(self.y, self.x) if self.length > 1e-9 else math.nan


@dataclass(frozen=True, eq=False)
class Distributions:
    """Of every channel in every region, what its statistics are made of. NaN for a region without pixels.

    Attributes
    ----------
    means, second, third, fourth : float64 (3, 14), the mean and central moments; regions as in ``REGIONS``, channels
        as in ``CHANNELS``.
    lowest, highest : float64 (3, 14).
    percentiles : float64 (3, 14, percentiles).
    hues : one for each region.
    eosinophilic : share of the cytoplasm's pixels that have taken more eosin Y than azure.
    redness : mean of the channel dab over those; 0 where there are none.
    """

    means: Values
    second: Values
    third: Values
    fourth: Values
    lowest: Values
    highest: Values
    percentiles: Values
    hues: tuple[Hue, ...]
    eosinophilic: float
    redness: float

    @classmethod
    def from_cell(cls, cell: Cell, percentiles: Sequence[int]) -> Distributions:
        """Of the colours of a cell."""
        codes, counts, split = _colour_kernels.distinct_colours(
            np.ascontiguousarray(cell.rgb), np.ascontiguousarray(cell.mask), np.ascontiguousarray(cell.nucleus)
        )
        planes = convert(codes)
        moments = _colour_kernels.moments(planes, counts, split, len(CHANNELS))
        pixels = np.array([counts.sum(), counts[:split].sum(), counts[split:].sum()])
        moments[:, pixels == 0] = np.nan
        hues = tuple(_hue(region[len(CHANNELS) :]) for region in moments[0])

        # The two neighbours of every percentile, and of the extremes.
        place = np.array([0, *percentiles, 100]) / 100 * np.maximum(pixels - 1, 0)[:, None]
        below = np.floor(place)
        ranks = np.stack([below, np.ceil(place)], axis=2).astype(np.int64)
        values = _colour_kernels.values_at_ranks(planes, counts, split, ranks.reshape(3, -1), WHOLE)
        values[pixels == 0] = np.nan
        low, high = values[:, ::2], values[:, 1::2]
        between = (low + (high - low) * (place - below)[..., None]).transpose(0, 2, 1)
        mean, second, third, fourth = moments[..., : len(CHANNELS)]
        is_eosinophilic = planes[AT["eosin_y"], split:] > planes[AT["azure"], split:]
        eosinophilic = counts[split:][is_eosinophilic]
        number = eosinophilic.sum()
        share = float(number / pixels[2]) if pixels[2] else math.nan
        dab = float(planes[AT["dab"], split:][is_eosinophilic] @ eosinophilic)
        redness = (dab / float(number) if number else 0.0) if pixels[2] else math.nan
        extremes = between[..., 0], between[..., -1]
        return cls(mean, second, third, fourth, *extremes, between[..., 1:-1], hues, share, redness)

    @cached_property
    def is_constant(self) -> NDArray[np.bool_]:
        """Whether the values differ by no more than rounding does; the finest channel has steps of 1.5e-5."""
        largest = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return self.highest - self.lowest <= 1e-6 * np.maximum(1.0, largest)


def _hue(directions: Values) -> Hue:
    """From the means of ``DIRECTIONS`` over all pixels of a region."""
    share, *vectors = directions
    return Hue(*(float(value / share) if share > 0 else math.nan for value in vectors))
