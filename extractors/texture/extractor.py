"""Texture of the cell and of its nucleus: co-occurrence, runs, zones, patterns, coarseness and chromatin.

Only pixels inside the mask are ever looked at: a black background counted as texture would measure the cell's area.
The nucleus lies inside the cell, so most counts are made once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors import numba_kernels
from extractors.feature_descriptions import described
from extractors.plain_words import in_plain_words
from extractors.texture import _chromatin, _coarseness, _cooccurrence, _local_patterns, _runs_and_zones
from fusion.images.cell import Cell
from fusion.plugins.extractors import Description

Values = NDArray[np.float64]

REGIONS = ("cell", "nucleus")

#: Ways of looking at texture, in the order of their columns: the second word of a column's name.
Method = Literal["glcm", "glrlm", "glszm", "lbp", "tas", "tamura", "band_energy", "chromatin"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Texture:
    """Texture of grey values, and of the nucleus' chromatin, over pixels of the mask only.

    Grey is the luma of the image, 0.299 R + 0.587 G + 0.114 B in whole numbers. Every value is without unit unless
    its function says otherwise.

    Parameters
    ----------
    methods : which of ``METHODS`` to compute; leaving some out saves their time.
    levels : grey levels that co-occurrences, runs and zones are counted over, 2 to 256.
    binning : "fixed_width", levels of equal width over 0 .. 255, so that a pale and a dark nucleus stay different; or
        "fixed_count", over the darkest to the brightest pixel of each region, so that neither stain nor exposure
        matters, and noise in an even one counts as texture. The IBSI calls them fixed bin size and number.
    distances : of the pixel pairs, in pixels. Each gives mean and range over the four angles.
    circles : (points, radius in pixels) of each local binary pattern.

    Raises
    ------
    ValueError : a parameter out of its range.
    """

    name: ClassVar[str] = "texture"
    version: ClassVar[str] = "3"
    in_main_process: ClassVar[bool] = False

    methods: tuple[Method, ...] = METHODS
    # Below 16 levels chromatin detail is lost, above 64 a 100-pixel nucleus fills under one count per bin.
    levels: int = 32
    binning: Literal["fixed_width", "fixed_count"] = "fixed_width"
    # Fine, middle and coarse chromatin of a nucleus about 100 pixels wide; beyond 4 the pairs tell of shading.
    distances: tuple[int, ...] = (1, 2, 4)
    # The three scales of Ojala et al. (2002).
    circles: tuple[tuple[int, int], ...] = ((8, 1), (16, 2), (24, 3))

    def __post_init__(self) -> None:
        if not self.methods or len(set(self.methods)) != len(self.methods) or not set(self.methods) <= set(METHODS):
            raise ValueError(f"methods must be different ones of {', '.join(METHODS)}, not {self.methods}")
        if not 2 <= self.levels <= 256:  # there are no more in an 8-bit image
            raise ValueError(f"levels must be 2 to 256, not {self.levels}")
        if self.binning not in ("fixed_width", "fixed_count"):
            raise ValueError(f"binning must be fixed_width or fixed_count, not {self.binning}")
        if len(set(self.distances)) != len(self.distances) or any(distance < 1 for distance in self.distances):
            raise ValueError(f"distances must be different whole numbers from 1, not {self.distances}")
        if len(set(self.circles)) != len(self.circles):
            raise ValueError(f"circles must be different, not {self.circles}")
        for points, radius in self.circles:
            if not 3 <= points <= 64 or radius < 1:  # two points are no circle; a pattern is stored in a byte
                raise ValueError(f"a circle has 3 to 64 points and a radius from 1, not {(points, radius)}")

    @property
    def _columns(self) -> list[Column]:
        return _columns(frozenset(self.methods), self.distances, self.circles)

    def feature_names(self) -> list[str]:
        """``cell_glcm_contrast_d1_mean``, ``nucleus_lbp_8_1_bin00``: region, method, statistic."""
        return list(_names(frozenset(self.methods), self.distances, self.circles))

    def describe(self) -> list[Description]:
        """What each feature is, in the order of ``feature_names``."""
        found = []
        for name, function, of in self._columns:
            words = described(function, name)
            definition = f"{of} {words.definition}".strip()
            found.append(Description(name, definition, words.unit, words.range, words.source))
        return in_plain_words(self.name, found)

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell, NaN where a statistic is undefined, as all are for an empty nucleus."""
        rows = [self._measure(cell) for cell in cells]
        return np.array(rows, np.float32).reshape(len(cells), len(self._columns))

    def _measure(self, cell: Cell) -> Values:
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(cell.mask).view(np.uint8))
        window = slice(y, y + height), slice(x, x + width)
        rgb, nucleus = cell.rgb[window], np.ascontiguousarray(cell.nucleus[window])
        grey = to_grey(rgb)
        depth = cell.mask[window].view(np.uint8) + nucleus.view(np.uint8)
        parts = [self._of_levels(grey, depth)]
        if "lbp" in self.methods:
            parts += [_local_patterns.pattern_histogram(grey, depth, 2, *circle) for circle in self.circles]
        survey = numba_kernels.Survey.from_grey(grey, depth, 2) if {"tas", "tamura"} & set(self.methods) else None
        if "tas" in self.methods:
            parts.append(_local_patterns.threshold_adjacency(grey, depth, 2, survey))
        if "tamura" in self.methods:
            parts.append(_coarseness.tamura(grey, depth, 2, survey))
        if "band_energy" in self.methods:
            parts.append(_coarseness.band_energy(grey, depth, 2))
        row = np.concatenate([part.reshape(2, -1) for part in parts], axis=1).ravel()
        if "chromatin" in self.methods:
            row = np.concatenate([row, _chromatin.chromatin_statistics(rgb, nucleus)])
        return row

    def _of_levels(self, grey: NDArray[np.uint8], depth: NDArray[np.uint8]) -> Values:
        """float64 (2, d): co-occurrences, runs and zones of cell and nucleus."""
        if self.binning == "fixed_width":
            return self._of_binned(quantise(grey, self.levels), depth, 2)
        insides = [(depth > region).view(np.uint8) for region in range(2)]
        found = [self._of_binned(stretch(grey, each, self.levels), each, 1) for each in insides if each.any()]
        nothing = np.full_like(found[0], np.nan)  # an empty nucleus has neither darkest nor brightest pixel
        return np.concatenate([*found, *[nothing] * (2 - len(found))])

    def _of_binned(self, levels: NDArray[np.uint8], depth: NDArray[np.uint8], regions: int) -> Values:
        found = [np.empty((regions, 0))]
        if "glcm" in self.methods:
            found.append(_cooccurrence.cooccurrence_statistics(levels, depth, regions, self.levels, self.distances))
        if "glrlm" in self.methods:
            found.append(_runs_and_zones.run_statistics(levels, depth, regions))
        if "glszm" in self.methods:
            found.append(_runs_and_zones.zone_statistics(levels, depth, regions))
        return np.concatenate([part.reshape(regions, -1) for part in found], axis=1)


#: Name of a column, the function whose docstring defines it, and what that is applied to.
Column = tuple[str, Callable, str]

_OF_PAIRS = (
    "Of pairs of pixels d apart, mean or range over four angles, p(i, j) being the share of grey levels i and j:"
)
_OF_RUNS = "Of runs of one grey level, mean or range over four directions:"
_OF_ZONES = "Of zones of one grey level:"
_OF_CIRCLES = (
    "Of uniform local binary patterns, one bin for each number of circle points not darker than the middle, the last "
    "for circles with more than two changes:"
)
_OF_BANDS = "Of bands of detail, s being the standard deviation of the wider Gaussian in pixels:"


@lru_cache(maxsize=8)
def _columns(
    methods: frozenset[Method], distances: tuple[int, ...], circles: tuple[tuple[int, int], ...]
) -> list[Column]:
    """In the order that ``Texture`` measures them in."""
    columns: list[Column] = []
    for region in REGIONS:
        for method in METHODS:
            if method in methods and method != "chromatin":
                of_either = _columns_of(method, distances, circles)
                columns += [(f"{region}_{name}", function, of) for name, function, of in of_either]
    if "chromatin" in methods:
        columns += [(f"nucleus_chromatin_{each.__name__}", each, "") for each in _chromatin.STATISTICS]
    return columns


@lru_cache(maxsize=8)
def _names(
    methods: frozenset[Method], distances: tuple[int, ...], circles: tuple[tuple[int, int], ...]
) -> tuple[str, ...]:
    return tuple(name for name, _, _ in _columns(methods, distances, circles))


def _columns_of(method: Method, distances: tuple[int, ...], circles: tuple[tuple[int, int], ...]) -> Iterator[Column]:
    """Of either region."""
    if method == "glcm":
        return _of_cooccurrence(distances)
    if method == "lbp":
        return _of_local_patterns(circles)
    return _WITHOUT_PARAMETERS[method]()


def _of_cooccurrence(distances: tuple[int, ...]) -> Iterator[Column]:
    for pairs in _cooccurrence.STATISTICS:
        for distance in distances:
            for over in ("mean", "range"):
                yield f"glcm_{pairs.__name__}_d{distance}_{over}", pairs, _OF_PAIRS


def _of_runs() -> Iterator[Column]:
    for sizes in _runs_and_zones.STATISTICS:
        for over in ("mean", "range"):
            yield f"glrlm_{sizes.__name__}_{over}", sizes, _OF_RUNS


def _of_zones() -> Iterator[Column]:
    for sizes in _runs_and_zones.STATISTICS:
        yield f"glszm_{sizes.__name__}", sizes, _OF_ZONES


def _of_local_patterns(circles: tuple[tuple[int, int], ...]) -> Iterator[Column]:
    for points, radius in circles:
        for pattern in range(points + 2):
            yield f"lbp_{points}_{radius}_bin{pattern:02d}", _local_patterns.pattern_histogram, _OF_CIRCLES


def _of_adjacency() -> Iterator[Column]:
    for of in _local_patterns.RANGES:
        for place in ("in", "out"):
            for neighbours in range(9):
                yield f"tas_{of}_{place}{neighbours}", _local_patterns.threshold_adjacency, ""


def _of_tamura() -> Iterator[Column]:
    for scale in _coarseness.TAMURA:
        yield scale.__name__, scale, ""


def _of_bands() -> Iterator[Column]:
    for band in _coarseness.BANDS:
        yield f"band_energy_s{band}", _coarseness.band_energy, _OF_BANDS


_WITHOUT_PARAMETERS: dict[Method, Callable[[], Iterator[Column]]] = {
    "glrlm": _of_runs,
    "glszm": _of_zones,
    "tas": _of_adjacency,
    "tamura": _of_tamura,
    "band_energy": _of_bands,
}


def to_grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W): luma of ITU-R BT.601, rounded to whole numbers."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.uint8)


def quantise(grey: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """uint8 (H, W), 0 .. levels - 1: ``levels`` bins of equal width over 0 .. 255."""
    return np.asarray(cv2.LUT(grey, (np.arange(256) * levels // 256).astype(np.uint8)), np.uint8)


def stretch(grey: NDArray[np.uint8], inside: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """uint8 (H, W), 0 .. levels - 1: bins of equal width over the darkest to the brightest pixel inside.

    The brightest one goes into the last bin, as the IBSI's fixed bin number has it; all are 0 where there is one value.
    """
    darkest, brightest, _, _ = cv2.minMaxLoc(grey, inside)
    if brightest <= darkest:
        return np.zeros_like(grey)
    above = np.clip(np.arange(256) - int(darkest), 0, int(brightest - darkest))
    level_of = np.minimum(above * levels // int(brightest - darkest), levels - 1).astype(np.uint8)
    return np.asarray(cv2.LUT(grey, level_of), np.uint8)
