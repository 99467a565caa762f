"""Colour of the cell, of its nucleus and of its cytoplasm, and what colour tells: vacuoles, granules and lobes.

Only pixels inside the mask are ever looked at, and what is summed are the cell's colours in the order of their codes:
an image turned, mirrored or padded gives the same numbers to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors.colour._colour_spaces import AT, CHANNELS, Channel
from extractors.colour._distributions import REGIONS, Distributions, Hue, Values
from extractors.colour._lobes import NARROW, Lobes
from extractors.colour._vacuoles import Vacuoles
from extractors.feature_descriptions import described
from extractors.plain_words import in_plain_words
from fusion.images.cell import Cell
from fusion.plugins.extractors import Description


@dataclass(frozen=True)
class Colour:
    """Distribution of colour in RGB, HSV, CIELAB and two stain spaces, and the nucleus's contrast with the cytoplasm.

    Units: as in ``colour_spaces.CHANNELS``. Features of an empty nucleus or cytoplasm are NaN, and the contrast with
    it; but an empty nucleus has 0 lobes.

    Parameters
    ----------
    percentiles : of every channel but hue, 0 to 100.

    Raises
    ------
    ValueError : a percentile out of its range, or twice the same.
    """

    name: ClassVar[str] = "colour"
    version: ClassVar[str] = "5"
    in_main_process: ClassVar[bool] = False

    # The median, the quartiles, and both tails without the few pixels that contour or dirt decide.
    percentiles: tuple[int, ...] = (5, 25, 50, 75, 95)

    def __post_init__(self) -> None:
        if any(not 0 <= percent <= 100 for percent in self.percentiles):
            raise ValueError(f"percentiles must be 0 to 100, not {self.percentiles}")
        if len(set(self.percentiles)) != len(self.percentiles):
            raise ValueError(f"percentiles must be different, not {self.percentiles}")

    def feature_names(self) -> list[str]:
        """``cell_red_mean``, ``nucleus_lab_l_percentile_5``, ``cytoplasm_azure_std``, ``contrast_delta_e``."""
        return list(_names(self.percentiles))

    def describe(self) -> list[Description]:
        """What each feature is, in the order of ``feature_names``."""
        return in_plain_words(self.name, _describe_all(self.percentiles))

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN where a feature is undefined."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(_describe_all(self.percentiles)))

    def _measure(self, cell: Cell) -> Values:
        distributions = Distributions.from_cell(cell, self.percentiles)
        statistics = [statistic(distributions) for statistic in STATISTICS]
        # (regions, channels, statistics)
        of_channels = np.concatenate([np.stack(statistics, axis=-1), distributions.percentiles], axis=-1)
        of_hue = np.array([[statistic(hue) for statistic in HUE_STATISTICS] for hue in distributions.hues])
        regions = np.concatenate([of_channels.reshape(len(REGIONS), -1), of_hue], axis=1)
        _, nucleus, cytoplasm = distributions.means
        pair = [nucleus[at] - cytoplasm[at] for at in _CONTRASTED_AT]
        pair += [contrast(nucleus, cytoplasm) for contrast in (*CONTRASTS, *CYTOPLASM_FEATURES)]
        vacuoles, lobes = Vacuoles.of(cell), Lobes.of(cell)
        pair += [feature(vacuoles) for feature in VACUOLE_FEATURES]
        pair += [feature(distributions) for feature in GRANULE_FEATURES]
        pair += [feature(lobes) for feature in LOBE_FEATURES]
        return np.concatenate([regions.ravel(), pair])


# ---- statistics of one channel in one region ------------------------------------------------------------------------
# Each takes distributions and gives float64 (regions, channels).


def mean(of: Distributions) -> Values:
    """Sum of values over their number.  Unit: the channel's."""
    return of.means


def std(of: Distributions) -> Values:
    """Square root of the second central moment m2, over n and not n - 1.  Unit: the channel's.  Range: 0 up."""
    return np.sqrt(of.second)


def skewness(of: Distributions) -> Values:
    """m3 / m2**1.5, 0 for a symmetric distribution, above it for a tail of high values.  Unit: none.

    NaN for a constant region.
    Source: IBSI KE2A.
    """
    return np.where(of.is_constant, np.nan, of.third / np.where(of.is_constant, 1, of.second) ** 1.5)


def kurtosis(of: Distributions) -> Values:
    """m4 / m2**2 - 3, 0 for a normal distribution, high for tails.  Unit: none.  Range: -2, two equal values, up.

    NaN for a constant region.
    Source: IBSI IPH6.
    """
    return np.where(of.is_constant, np.nan, of.fourth / np.where(of.is_constant, 1, of.second) ** 2 - 3)


def percentile(of: Distributions) -> Values:
    """The value that so many % of the others lie below, linear between neighbours.  Unit: the channel's.

    float64 (regions, channels, percentiles).
    Source: Hyndman and Fan (1996), The American Statistician 50(4):361-365, definition 7.
    """
    return of.percentiles


STATISTICS = (mean, std, skewness, kurtosis)


# ---- statistics of the hue, an angle --------------------------------------------------------------------------------


def hue_mean(hue: Hue) -> float:
    """The angle of the mean of unit vectors in the direction of the hue.  Unit: degrees.  Range: above -270 to 90.

    Red is 0, purple about -80, blue -120; the jump from 90 to -270 lies opposite of purple, in a yellowish green that
    no stain of blood has. Grey pixels have no hue. NaN where all are grey or where directions cancel out.
    Source: Mardia and Jupp (2000), Directional Statistics, 2.2.1; hue of Smith (1978), SIGGRAPH 12(3):12-19.
    """
    angle = math.degrees(hue.angle)
    return angle - 360 if angle > 90 else angle


def hue_std(hue: Hue) -> float:
    """sqrt(-2 ln R), R being the length of the mean vector.  Unit: degrees.  Range: 0 up.  NaN as ``hue_mean``.

    Source: Mardia and Jupp (2000), Directional Statistics, 2.3.1.
    """
    return math.degrees(math.sqrt(abs(2 * math.log(hue.length)))) if hue.length > 1e-9 else math.nan


def hue_skewness(hue: Hue) -> float:
    """R2 sin(m2 - 2 m1) / (1 - R)**1.5, 0 for hues that lie evenly on both sides of the mean m1.  Unit: none.

    R2 and m2 are length and angle of the mean of unit vectors at twice the hue. NaN as ``hue_mean``, and for one hue.
    Source: Fisher (1993), Statistical Analysis of Circular Data, equation 2.29.
    """
    across = hue.double_y * math.cos(2 * hue.angle) - hue.double_x * math.sin(2 * hue.angle)
    return across / (1 - hue.length) ** 1.5 if _varies(hue) else math.nan


def hue_kurtosis(hue: Hue) -> float:
    """(R2 cos(m2 - 2 m1) - R**4) / (1 - R)**2, 0 for a wrapped normal distribution, above it for tails.  Unit: none.

    R2, m2 and NaN as in ``hue_skewness``.
    Source: Fisher (1993), Statistical Analysis of Circular Data, equation 2.30.
    """
    along = hue.double_x * math.cos(2 * hue.angle) + hue.double_y * math.sin(2 * hue.angle)
    return (along - hue.length**4) / (1 - hue.length) ** 2 if _varies(hue) else math.nan


def _varies(hue: Hue) -> bool:
    # 1 - R of 1e-9 is a standard deviation of 0.003 degrees, a hundredth of the finest step between two 8-bit hues.
    return hue.length > 1e-9 and 1 - hue.length > 1e-9


HUE_STATISTICS = (hue_mean, hue_std, hue_skewness, hue_kurtosis)


# ---- nucleus against cytoplasm: each takes the two means of all channels, float64 (14,) -----------------------------

#: Mean of the nucleus less that of the cytoplasm; for RGB and HSV the same would say less about what the eye sees.
CONTRASTED = tuple(
    channel for channel in CHANNELS if channel.name not in ("red", "green", "blue", "saturation", "value")
)
_CONTRASTED_AT = [AT[channel.name] for channel in CONTRASTED]
_LAB = [AT["lab_l"], AT["lab_a"], AT["lab_b"]]


def delta_e(nucleus: Values, cytoplasm: Values) -> float:
    """Distance of the two mean colours.  Unit: CIELAB.  Range: 0 up.

    Source: CIE 15:2004, section 8.2.1.3 (Delta E 1976).
    """
    return float(np.linalg.norm(nucleus[_LAB] - cytoplasm[_LAB]))


CONTRASTS = (delta_e,)


def basophilia(nucleus: Values, cytoplasm: Values) -> float:
    """Mean azure of the cytoplasm over mean azure of the nucleus.  Unit: none.  Range: 0, clear, to about 1, deep blue.

    The nucleus of the same cell is the standard: a slide stained longer or lit less changes both. NaN without
    nucleus, cytoplasm, or azure in the nucleus.
    Source: own measure of what Bennett et al. (1976), Br. J. Haematol. 33(4):451-458, grade by eye.
    """
    standard = float(nucleus[AT["azure"]])
    return float(cytoplasm[AT["azure"]]) / standard if standard > 1e-6 else math.nan


def azure_share(nucleus: Values, cytoplasm: Values) -> float:
    """Mean azure of the cytoplasm over its mean azure and eosin Y together.  Unit: none.  Range: 0, pink, to 1, blue.

    Needs no nucleus, and does not change with the depth of the stain. NaN for a cytoplasm that is empty or white.
    Source: own measure of what Bennett et al. (1976), Br. J. Haematol. 33(4):451-458, grade by eye.
    """
    azure, eosin = float(cytoplasm[AT["azure"]]), float(cytoplasm[AT["eosin_y"]])
    return azure / (azure + eosin) if azure + eosin > 1e-6 else math.nan


CYTOPLASM_FEATURES = (basophilia, azure_share)


# ---- vacuoles: each takes what is pale in the inner cytoplasm -------------------------------------------------------


def vacuole_fraction(vacuoles: Vacuoles) -> float:
    """Share of the inner cytoplasm in pale places: at most 0.55 of its median optical density.  Unit: none.

    Range: 0 to below 0.5. Places of a roundness below a quarter, such as a crescent beside the nucleus, are none;
    what is inner, averaged and NaN is as in ``vacuole_paleness``.
    Source: own measure of what Bennett et al. (1976), Br. J. Haematol. 33(4):451-458, grade by eye.
    """
    return vacuoles.fraction


def vacuole_paleness(vacuoles: Vacuoles) -> float:
    """1 less the optical density of the palest hundredth of the inner cytoplasm over its median.  Unit: none.

    Range: 0, an even cytoplasm, to 1, holes as clear as glass. The rim of the cell, a tenth of its radius, and what
    lies next to the nucleus, a sixteenth, are left out, and grains finer than a thirty-second are averaged. NaN where
    less than a hundredth of the cell is left.
    Source: own measure of what Bennett et al. (1976), Br. J. Haematol. 33(4):451-458, grade by eye.
    """
    return vacuoles.paleness


VACUOLE_FEATURES = (vacuole_fraction, vacuole_paleness)


# ---- granules -------------------------------------------------------------------------------------------------------


def granule_share(of: Distributions) -> float:
    """Share of the cytoplasm's pixels that have taken more eosin Y than azure.  Unit: none.  Range: 0 to 1.

    Granules of neutrophils, eosinophils and basophils bind eosin or both dyes, a cytoplasm without granules binds
    azure. NaN without cytoplasm.
    Source: own measure by the stains of ``azure_share``.
    """
    return of.eosinophilic


def granule_redness(of: Distributions) -> float:
    """How orange the pixels of ``granule_share`` are: their mean density of brown beside purple and red; 0 of none.

    Unit: sixths of an optical density.  Range: 0 up. Granules of eosinophils hold back blue, as brown does, which pink
    granules of neutrophils and purple ones of basophils let pass. NaN without cytoplasm.
    Source: own measure by the third dye of Ruifrok and Johnston (2001), Anal. Quant. Cytol. Histol. 23(4):291-299.
    """
    return of.redness


GRANULE_FEATURES = (granule_share, granule_redness)


# ---- lobes of the nucleus, which are None where it is empty ---------------------------------------------------------


def lobes(of: Lobes | None) -> float:
    """The number of lobes: parts of their own, and segments whose bridge to a wider one is at most 0.75 of their width.

    Lobes are of chromatin: what the nucleus' mask holds, bays narrower than 0.16 of its radius closed, and has at least
    0.54 of its median red density. Segments whose widest disc is less than a fortieth of that do not count. Round, oval
    and bean-shaped nuclei have 1.
    Unit: none.  Range: 0, no nucleus, 1, 2, ... FAB: lobed nuclear contour.
    Source: own measure by peaks and saddles of the distance to the border; Vincent and Soille (1991), IEEE Trans. PAMI
    13(6):583-598.
    """
    return 0.0 if of is None else 1.0 + sum(bridge <= NARROW for bridge in of.bridges)


def lobe_constriction(of: Lobes | None) -> float:
    """The sum over all segments of ``lobes`` but the widest of 1 less the width of their bridge over their own.

    Unit: none.  Range: 0, no constriction, to the number of segments less 1, all of which lie apart. NaN for an empty
    nucleus.
    Source: own measure, see ``lobes``; docs/agreement.md holds it against what pathologists call multilobed.
    """
    return math.nan if of is None else math.fsum(1 - bridge for bridge in of.bridges)


def lobe_clefts(of: Lobes | None) -> float:
    """Share of the nucleus' hull, but for its rim, with less than 0.65 of the nucleus' median red density.  Unit: none.

    Range: 0, a nucleus in one piece, to below 1, lobes apart. Chromatin takes red light, cytoplasm and most granules
    let it pass: lobes are told apart under granules too, where no contour of the nucleus shows them. The rim is 0.15 of
    the equivalent radius, tones are means over squares of 0.1. NaN for an empty nucleus, 0 for one of too few pixels
    to have an inside.
    Source: own measure; docs/agreement.md holds it against what pathologists call multilobed.
    """
    return math.nan if of is None else of.clefts


LOBE_FEATURES = (lobes, lobe_constriction, lobe_clefts)


# ---- words ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)  # taking 400 docstrings apart takes longer than measuring a cell
def _describe_all(percentiles: tuple[int, ...]) -> tuple[Description, ...]:
    found = [each for region in REGIONS for each in _describe_region(region, percentiles)]
    found += [_describe_contrast(channel) for channel in CONTRASTED]
    found += [described(feature, f"contrast_{feature.__name__}") for feature in CONTRASTS]
    found += [
        described(feature, f"cytoplasm_{feature.__name__}")
        for feature in (*CYTOPLASM_FEATURES, *VACUOLE_FEATURES, *GRANULE_FEATURES)
    ]
    return (*found, *(described(feature, f"nucleus_{feature.__name__}") for feature in LOBE_FEATURES))


@lru_cache(maxsize=8)
def _names(percentiles: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(description.name for description in _describe_all(percentiles))


def _describe_region(region: str, percentiles: tuple[int, ...]) -> list[Description]:
    found = []
    for channel in CHANNELS:
        found += [_describe(region, channel, described(statistic)) for statistic in STATISTICS]
        for percent in percentiles:
            general = described(percentile, f"percentile_{percent}")
            found.append(_describe(region, channel, general, general.definition.replace("so many", str(percent))))
    return found + [described(statistic, f"{region}_{statistic.__name__}") for statistic in HUE_STATISTICS]


def _describe(region: str, channel: Channel, statistic: Description, definition: str = "") -> Description:
    """One statistic of one channel in one region."""
    own_unit = statistic.unit == "the channel's"
    return Description(
        f"{region}_{channel.name}_{statistic.name}",
        f"{definition or statistic.definition} Channel: {channel.definition}.",
        channel.unit if own_unit else statistic.unit,
        statistic.range or (channel.range if own_unit else ""),
        "; ".join(source for source in (statistic.source, channel.source) if source),
    )


def _describe_contrast(channel: Channel) -> Description:
    definition = f"Mean of the nucleus less mean of the cytoplasm. Channel: {channel.definition}."
    return Description(f"contrast_{channel.name}", definition, channel.unit, "either side of 0", channel.source)
