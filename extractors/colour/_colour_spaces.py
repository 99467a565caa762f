"""The numbers that the colour of one pixel is written in: RGB, HSV, CIELAB, and amounts of dye in two stain spaces.

Both stain spaces take white (255, 255, 255) for light that no dye has weakened, in every image: a cell cut out on
black has no background to measure the lamp on, and a white point of its own would make cells incomparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.colour import _colour_kernels

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Channel:
    """One number of a colour.

    Attributes
    ----------
    name : as in feature names.
    definition, unit, range, source : as in ``docs/features.md``.
    """

    name: str
    definition: str
    unit: str
    range: str
    source: str


_SMITH = "Smith (1978), SIGGRAPH Computer Graphics 12(3):12-19"
_CIE = "CIE 15:2004, section 8.2.1, from sRGB (IEC 61966-2-1) under D65"
_RUIFROK = "Ruifrok and Johnston (2001), Anal. Quant. Cytol. Histol. 23(4):291-299"
_LANDINI = "Landini, Martinelli and Piccinini (2021), Bioinformatics 37(10):1485-1487, vectors 'Giemsa'"
_SIXTHS = "sixths of an optical density, the scale of scikit-image's rgb2hed"
_DENSITY = "optical density, log10 of the light before over that behind"

#: Channels with the full set of statistics, in the order of the first planes.
CHANNELS = (
    Channel("red", "red of the image", "8-bit value", "0 to 255", "IEC 61966-2-1"),
    Channel("green", "green of the image", "8-bit value", "0 to 255", "IEC 61966-2-1"),
    Channel("blue", "blue of the image", "8-bit value", "0 to 255", "IEC 61966-2-1"),
    Channel("saturation", "(max - min) / max of red, green and blue, 0 for black", "none", "0, grey, to 1", _SMITH),
    Channel("value", "the largest of red, green and blue", "8-bit value", "0 to 255", _SMITH),
    Channel("lab_l", "CIELAB lightness", "CIELAB", "0 to 100", _CIE),
    Channel("lab_a", "CIELAB a, from green to red; 2.3 is just noticeable", "CIELAB", "-87 to 99", _CIE),
    Channel("lab_b", "CIELAB b, from blue to yellow; 2.3 is just noticeable", "CIELAB", "-108 to 95", _CIE),
    Channel("haematoxylin", "haematoxylin that would make this colour, with eosin and DAB", _SIXTHS, "0 up", _RUIFROK),
    Channel("eosin", "eosin that would make this colour, with haematoxylin and DAB", _SIXTHS, "0 up", _RUIFROK),
    Channel("dab", "DAB, the brown that haematoxylin and eosin do not explain", _SIXTHS, "0 up", _RUIFROK),
    Channel("azure", "blue thiazine dye of Giemsa and Wright (azure B, methylene blue)", _DENSITY, "0 up", _LANDINI),
    Channel("eosin_y", "eosin Y of Giemsa and Wright; in chromatin, its purple with azure", _DENSITY, "0 up", _LANDINI),
    Channel(
        "residual",
        "density across those of azure and eosin Y, which neither explains; above 0 for yellow and brown",
        _DENSITY,
        "about 0, either side",
        _LANDINI,
    ),
)
#: bool (14,): the channels whose values are whole numbers from 0 to 255.
WHOLE = np.array([channel.unit == "8-bit value" for channel in CHANNELS])

#: Planes behind those of the channels: 1 where there is a hue, else 0; then the cosine and sine of the hue and of twice
#: the hue, all 0 for grey. The hue is 0 for red, 120 degrees for green and 240 for blue (Smith 1978).
DIRECTIONS = ("has_hue", "cosine", "sine", "double_cosine", "double_sine")
PLANES = (*(channel.name for channel in CHANNELS), *DIRECTIONS)
#: Where each plane stands.
AT = {name: at for at, name in enumerate(PLANES)}

#: Linear sRGB to CIE XYZ, and the white point D65 of the 2 degree observer (IEC 61966-2-1; ASTM E308).
XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])

#: Colours of haematoxylin, eosin and DAB as optical densities of red, green and blue (Ruifrok and Johnston 2001).
HAEMATOXYLIN_EOSIN_DAB = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# In these sixths an optical density of 6 stands for black, whose logarithm would be infinite.
DARKEST = 1e-6

#: Colours of the blue dye and of eosin in Giemsa's stain, of length 1, as measured for Landini's Colour Deconvolution.
#: Wright's, Giemsa's and all other "Romanowsky" stains mix these two dyes, azure B and eosin Y.
AZURE, EOSIN_Y = np.array([0.834750233, 0.513556283, 0.196330403]), np.array([0.092789, 0.954111, 0.283111])


def convert(codes: NDArray[np.uint32]) -> Values:
    """float64 (19, k), the planes of ``PLANES``, of uint32 (k,) colours, red * 65,536 + green * 256 + blue.

    Negative amounts of dye are cut off to 0.
    """
    return _colour_kernels.convert(codes, _LIGHT, _ROOTS, _XYZ_OVER_WHITE, _DENSITIES, _STAINS, _TURNS)


def _linear_light() -> Values:
    """float64 (256,): the light that an 8-bit sRGB value stands for, 0 .. 1 (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def _stain_matrices() -> Values:
    """float64 (2, 3, 3): from densities of red, green and blue to the stains of either space, a row a stain."""
    across = np.cross(AZURE, EOSIN_Y)
    romanowsky = np.array([AZURE, EOSIN_Y, across / np.linalg.norm(across)])
    return np.stack([np.linalg.inv(colours).T for colours in (HAEMATOXYLIN_EOSIN_DAB, romanowsky)])


_LIGHT = _linear_light()
_ROOTS = np.cbrt(np.arange(1025) / 1024)
# A 256th of 60 degrees apart.
_ANGLES = np.radians(np.arange(-256, 5 * 256 + 1) * (60 / 256))
_TURNS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_XYZ_OVER_WHITE = XYZ_FROM_RGB / WHITE[:, None]
_STAINS = np.ascontiguousarray(_stain_matrices())
_DENSITIES = np.stack(
    [
        np.log(np.maximum(np.arange(256) / 255, DARKEST)) / np.log(DARKEST),
        # A value of 0 is anything below half a step: a density of 2.7, the most that 8 bits can tell.
        -np.log10(np.maximum(np.arange(256), 0.5) / 255),
    ]
)
