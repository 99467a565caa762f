"""Colour of the cell, of its nucleus and of its cytoplasm, and the contrast between the two.

Only pixels inside the mask are ever looked at, and they are put in an order of their own before anything is summed: a
picture turned, mirrored or padded gives the same numbers to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors import kernels
from fusion.cells import Cell

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]

REGIONS = ("cell", "nucleus", "cytoplasm")
#: Channels with the full set of statistics. Hue, an angle, and the stains have sets of their own.
CHANNELS = ("red", "green", "blue", "saturation", "value", "lab_l", "lab_a", "lab_b")
STAINS = ("haematoxylin", "eosin", "dab")


@dataclass(frozen=True)
class Colour:
    """Distribution of colour in RGB, HSV, CIELAB and stain space, and the nucleus's contrast with the cytoplasm.

    Units: red, green, blue and value 0 .. 255; the others as in ``to_saturation``, ``to_hue``, ``to_lab`` and
    ``to_stains``. Features of an empty nucleus or cytoplasm are NaN, and the contrast with it.

    Parameters
    ----------
    percentiles : of every channel but hue and stains, 0 to 100.

    Raises
    ------
    ValueError : a percentile out of its range, or twice the same.
    """

    name: ClassVar[str] = "colour"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    # The median, the quartiles, and both tails without the few pixels that outline or dirt decide.
    percentiles: tuple[int, ...] = (5, 25, 50, 75, 95)

    def __post_init__(self) -> None:
        if any(not 0 <= percent <= 100 for percent in self.percentiles):
            raise ValueError(f"percentiles must be 0 to 100, not {self.percentiles}")
        if len(set(self.percentiles)) != len(self.percentiles):
            raise ValueError(f"percentiles must be different, not {self.percentiles}")

    def feature_names(self) -> list[str]:
        """``cell_red_mean``, ``nucleus_lab_l_percentile_5``, ``cytoplasm_eosin_std``, ``contrast_delta_e``."""
        names = [f"{region}_{name}" for region in REGIONS for name in self._region_names()]
        return names + [f"contrast_{contrast.__name__}" for contrast in CONTRASTS]

    def _region_names(self) -> list[str]:
        statistics = [statistic.__name__ for statistic in STATISTICS]
        statistics += [f"percentile_{percent}" for percent in self.percentiles]
        names = [f"{channel}_{statistic}" for channel in CHANNELS for statistic in statistics]
        names += [statistic.__name__ for statistic in HUE_STATISTICS]
        return names + [f"{stain}_{statistic.__name__}" for stain in STAINS for statistic in STAIN_STATISTICS]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN where a feature is undefined."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(self.feature_names()))

    def _measure(self, cell: Cell) -> list[float]:
        nucleus, cytoplasm = in_order(cell.rgb[cell.nucleus]), in_order(cell.rgb[cell.cytoplasm])
        planes = Planes.of(np.concatenate([nucleus, cytoplasm], axis=1))
        regions = slice(None), slice(nucleus.shape[1]), slice(nucleus.shape[1], None)
        row = [value for region in regions for value in self._measure_region(planes, region)]
        inner, outer = (mean_colour(planes.lab[:, region]) for region in regions[1:])
        return row + [contrast(inner, outer) for contrast in CONTRASTS]

    def _measure_region(self, planes: Planes, region: slice) -> list[float]:
        if planes.lab[:, region].size == 0:
            return [math.nan] * len(self._region_names())
        row: list[float] = []
        for values in planes.channels:
            distribution = Distribution(values[region])
            row += [statistic(distribution) for statistic in STATISTICS]
            row += [percentile(distribution, percent) for percent in self.percentiles]
        direction = mean_direction(planes.hue_directions[:, region])
        row += [statistic(*direction) for statistic in HUE_STATISTICS]
        stains = [Distribution(values[region]) for values in planes.stains]
        return row + [statistic(stain) for stain in stains for statistic in STAIN_STATISTICS]


def in_order(pixels: Pixels) -> Pixels:
    """uint8 (3, n) of uint8 (n, 3): the pixels sorted by colour, so that where they lay leaves no trace."""
    red, green, blue = pixels.T.astype(np.uint32)
    codes = red << 16 | green << 8 | blue
    codes.sort()
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255]).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Planes:
    """The pixels of one cell in every colour space, nucleus first.

    Attributes
    ----------
    channels : in the order of ``CHANNELS``, (n,) each, uint8 or float32.
    lab : float64 (3, n).
    hue_directions : float64 (2, n), cosine and sine of the hue, NaN for grey pixels.
    stains : float64 (3, n), in the order of ``STAINS``.
    """

    channels: tuple[NDArray, ...]
    lab: Values
    hue_directions: Values
    stains: Values

    @classmethod
    def of(cls, rgb: Pixels) -> Planes:
        """From uint8 (3, n)."""
        lab, hue = to_lab(rgb), np.radians(to_hue(rgb))
        # Single precision is sorted twice as fast and still a thousand times finer than 8-bit colours.
        saturation, *lab_channels = (plane.astype(np.float32) for plane in (to_saturation(rgb), *lab))
        channels = (*rgb, saturation, _largest(rgb), *lab_channels)
        return cls(channels, lab, np.stack([np.cos(hue), np.sin(hue)]), to_stains(rgb))


# ---- colour spaces: each takes uint8 (3, n), red, green and blue ----------------------------------------------------


def to_saturation(rgb: Pixels) -> Values:
    """float64 (n,): (max - min) / max of red, green and blue, 0 for black.  Range: 0, grey, to 1.

    Source: Smith (1978), SIGGRAPH Computer Graphics 12(3):12-19.
    """
    return (_largest(rgb) - _smallest(rgb)) / np.maximum(_largest(rgb), 1.0)  # a black pixel is 0 / 1


def to_hue(rgb: Pixels) -> Values:
    """float64 (n,): the angle of colour.  Unit: degrees, 0 red, 120 green, 240 blue.  NaN for grey pixels.

    Source: Smith (1978), see ``to_saturation``.
    """
    red, green, blue = rgb.astype(float)
    largest = _largest(rgb)
    chroma = (largest - _smallest(rgb)).astype(float)
    chroma[chroma == 0] = np.nan
    from_green, from_blue = 2 + (blue - red) / chroma, 4 + (red - green) / chroma
    sector = np.where(largest == red, (green - blue) / chroma, np.where(largest == green, from_green, from_blue))
    return np.where(sector < 0, sector + 6, sector) * 60


def _largest(rgb: Pixels) -> Pixels:
    return np.maximum(np.maximum(rgb[0], rgb[1]), rgb[2])


def _smallest(rgb: Pixels) -> Pixels:
    return np.minimum(np.minimum(rgb[0], rgb[1]), rgb[2])


#: Linear sRGB to CIE XYZ, and the white point D65 of the 2 degree observer (IEC 61966-2-1; ASTM E308).
XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def to_lab(rgb: Pixels) -> Values:
    """float64 (3, n): CIELAB lightness 0 .. 100 and the opponent colours a (green to red) and b (blue to yellow).

    From sRGB under D65. A distance of about 2.3 is just noticeable.
    Source: CIE 15:2004, section 8.2.1.
    """
    red, green, blue = _LINEAR[rgb]
    # Written out instead of a matrix product, whose order of summation depends on the number of pixels.
    x, y, z = (
        _lab_curve((row[0] * red + row[1] * green + row[2] * blue) / white)
        for row, white in zip(XYZ_FROM_RGB, WHITE, strict=True)
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _lab_curve(share: Values) -> Values:
    """The cube root, with the straight piece that CIELAB has for dark colours."""
    return np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)


def _linear_light() -> Values:
    """float64 (256,): the light that an 8-bit sRGB value stands for, 0 .. 1 (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


_LINEAR = _linear_light()

#: Colours of haematoxylin, eosin and DAB as optical densities of red, green and blue.
#: Source: Ruifrok and Johnston (2001), Anal. Quant. Cytol. Histol. 23(4):291-299.
DENSITY_OF_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# An optical density of 6 stands for black, whose logarithm would be infinite.
DARKEST = 1e-6
_STAINS_FROM_DENSITY = np.linalg.inv(DENSITY_OF_STAINS)
_DENSITY = np.log(np.maximum(np.arange(256) / 255, DARKEST)) / np.log(DARKEST)


def to_stains(rgb: Pixels) -> Values:
    """float64 (3, n): how much haematoxylin, eosin and DAB would make this colour, 0 upwards.

    Unit: sixths of an optical density, the scale of scikit-image's ``rgb2hed``, negative amounts cut off likewise. In
    smears of blood, read haematoxylin as the blue dye, eosin as eosin and DAB as the brown that neither explains.
    Source: Ruifrok and Johnston (2001), see ``DENSITY_OF_STAINS``.
    """
    red, green, blue = _DENSITY[rgb]
    amounts = [column[0] * red + column[1] * green + column[2] * blue for column in _STAINS_FROM_DENSITY.T]
    return np.maximum(np.stack(amounts), 0)


# ---- statistics of one channel in one region ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Distribution:
    """Values of a channel, and what their statistics are made of.

    Attributes
    ----------
    values : (n,), not empty.
    """

    values: NDArray

    @cached_property
    def moments(self) -> tuple[float, float, float, float]:
        """The mean, and the second, third and fourth central moments."""
        return kernels.central_moments(self.values)

    @cached_property
    def ordered(self) -> NDArray:
        """The values, sorted."""
        # Stable means counting for bytes, twenty times as fast as comparing them.
        return np.sort(self.values, kind="stable" if self.values.dtype == np.uint8 else "quicksort")

    @property
    def is_constant(self) -> bool:
        """Whether the values differ by no more than rounding does; the finest channel has steps of 1.5e-5."""
        low, high = float(self.ordered[0]), float(self.ordered[-1])
        return high - low <= 1e-6 * max(1.0, abs(low), abs(high))


def mean(distribution: Distribution) -> float:
    """Sum of values over their number.  Unit: the channel's."""
    return distribution.moments[0]


def std(distribution: Distribution) -> float:
    """Square root of the second central moment m2, over n and not n - 1.  Unit: the channel's."""
    return math.sqrt(distribution.moments[1])


def skewness(distribution: Distribution) -> float:
    """m3 / m2**1.5, 0 for a symmetric distribution, above it for a tail of high values.  NaN for a constant region.

    Source: IBSI KE2M.
    """
    _, second, third, _ = distribution.moments
    return math.nan if distribution.is_constant else third / second**1.5


def kurtosis(distribution: Distribution) -> float:
    """m4 / m2**2 - 3, 0 for a normal distribution, -2 for two equal values, high for tails.  NaN for a constant region.

    Source: IBSI IPH6.
    """
    _, second, _, fourth = distribution.moments
    return math.nan if distribution.is_constant else fourth / second**2 - 3


def percentile(distribution: Distribution, percent: int) -> float:
    """The value that ``percent`` % of the others lie below, linear between neighbours.  Unit: the channel's.

    Source: Hyndman and Fan (1996), The American Statistician 50(4):361-365, definition 7.
    """
    ordered = distribution.ordered
    place = percent / 100 * (len(ordered) - 1)
    below = math.floor(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (place - below)


STATISTICS = (mean, std, skewness, kurtosis)
# Stains are sums of logarithms of the other channels: more statistics of them would add names and no knowledge.
STAIN_STATISTICS = (mean, std)


# ---- statistics of the hue, an angle: each takes the mean of unit vectors -------------------------------------------


def mean_direction(directions: Values) -> tuple[float, float]:
    """The mean (x, y) of float64 (2, n) unit vectors, leaving out those that are NaN; NaN where all are."""
    count = directions.shape[1] - np.count_nonzero(np.isnan(directions[0]))
    x, y = np.nansum(directions, axis=1)
    return (float(x) / count, float(y) / count) if count else (math.nan, math.nan)


def hue_mean(x: float, y: float) -> float:
    """The angle of the mean vector.  Unit: degrees.  Range: above -270 to 90.

    Red is 0, purple about -80, blue -120; the jump from 90 to -270 lies opposite of purple, in a yellowish green that
    no stain of blood has. NaN where all pixels are grey or where directions cancel out.
    Source: Mardia and Jupp (2000), Directional Statistics, 2.2.1.
    """
    # Directions that cancel out leave 1e-16 or so, whose angle is rounding.
    if not math.hypot(x, y) > 1e-9:
        return math.nan
    angle = math.degrees(math.atan2(y, x))
    return angle - 360 if angle > 90 else angle


def hue_std(x: float, y: float) -> float:
    """sqrt(-2 ln R), R being the length of the mean vector.  Unit: degrees.  NaN as ``hue_mean``.

    Source: Mardia and Jupp (2000), Directional Statistics, 2.3.1.
    """
    length = min(1.0, math.hypot(x, y))  # rounding can take 1 above 1
    return math.degrees(math.sqrt(-2 * math.log(length))) if length > 1e-9 else math.nan


HUE_STATISTICS = (hue_mean, hue_std)


# ---- nucleus against cytoplasm: each takes two mean CIELAB colours, (3,) --------------------------------------------


def mean_colour(lab: Values) -> Values:
    """float64 (3,) of float64 (3, n); NaN of no pixels."""
    return lab.mean(axis=1) if lab.size else np.full(3, np.nan)


def lab_l(nucleus: Values, cytoplasm: Values) -> float:
    """Mean lightness of the nucleus less that of the cytoplasm.  Unit: CIELAB; below 0 where the nucleus is darker."""
    return float(nucleus[0] - cytoplasm[0])


def lab_a(nucleus: Values, cytoplasm: Values) -> float:
    """Mean a of the nucleus less that of the cytoplasm.  Unit: CIELAB; above 0 where the nucleus is redder."""
    return float(nucleus[1] - cytoplasm[1])


def lab_b(nucleus: Values, cytoplasm: Values) -> float:
    """Mean b of the nucleus less that of the cytoplasm.  Unit: CIELAB; below 0 where the nucleus is bluer."""
    return float(nucleus[2] - cytoplasm[2])


def delta_e(nucleus: Values, cytoplasm: Values) -> float:
    """Distance of the two mean colours.  Unit: CIELAB.  Source: CIE 15:2004, section 8.2.1.3 (Delta E 1976)."""
    return float(np.linalg.norm(nucleus - cytoplasm))


CONTRASTS = (lab_l, lab_a, lab_b, delta_e)
