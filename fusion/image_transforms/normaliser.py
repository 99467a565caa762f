"""Bringing the pixels of all sites to one stated scale, light and stain, before anything is measured.

What a cell is changed by is an ``Adjustment``: a zoom, a white balance, a stain normalisation, a background. Its
fingerprint is part of the key under which the cell's features are kept, so that each way of looking at a cell is
measured once.

A ``Normaliser`` says what cells are brought to. That is stated, never learnt, so that how a cell is seen depends
neither on a split nor on who is in a training part. Light and stain are taken from the cell alone. A scale may be that
of the cell's source, which is the median of its cells in the data set at hand, without labels; a model keeps it, and a
source that it does not know is described by the cells that are to be judged: that is transductive, and is stamped on a
result.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.image_transforms._appearance import LEAST_RED_CELLS, PIXELS, RED_CELL_UM, Appearance
from fusion.image_transforms._stain_normalisation import Reinhard, white_balanced
from fusion.images.cell import Cell, make_cell
from fusion.io.files import sha256
from fusion.metrics.class_shares import LEAST_CELLS

#: Zooms stay within these, so that one wrong size of a pixel cannot fill the memory.
_LEAST_ZOOM, _MOST_ZOOM = 1 / 16, 16.0

#: The column after those of ``Appearance``: the diameter of red cells, where a scale by them is asked for.
_RED_CELLS = 5 + 3 * PIXELS

#: What is drawn around a cell where its own surroundings are taken away.
_GREY = 128


@dataclass(frozen=True)
class Adjustment:
    """What is done to one cell before it is measured.

    Attributes
    ----------
    zoom : factor on lengths in pixels.
    glass : grey level (R, G, B) of empty glass, which becomes ``stain.WHITE``; None leaves the light as it is.
    stain, target : how this cell is stained, and how it is to be shown; None leaves the stain as it is.
    background : "keep", "black" or "grey": what is around the cell.
    """

    zoom: float = 1.0
    glass: tuple[float, float, float] | None = None
    stain: Reinhard | None = None
    target: Reinhard | None = None
    background: str = "keep"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""
        content = [dataclasses.asdict(self), type(self.stain).__name__, VERSION]
        return sha256(json.dumps(content, sort_keys=True).encode())[:32]

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The adjusted cell of an image without a mask, found before it is adjusted."""
        return self.apply(make_cell(rgb, None, um_per_px, red_cells=red_cells))

    def apply(self, cell: Cell) -> Cell:
        """The adjusted cell; masks are zoomed with it."""
        rgb, mask, nucleus = cell.rgb, cell.mask, cell.nucleus
        if self.zoom != 1:
            size = tuple(max(1, round(side * self.zoom)) for side in mask.shape[::-1])
            # By area, a pixel is the mean of what it covers: nothing is aliased. Larger ones are interpolated.
            how = cv2.INTER_AREA if self.zoom < 1 else cv2.INTER_CUBIC
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=how), np.uint8)
            mask, nucleus = _zoomed(mask, size, how, least=1), _zoomed(nucleus, size, how, least=0)
            nucleus = nucleus & mask
        cut_out = ~mask & (rgb.max(axis=2) == 0)
        if self.glass is not None or (self.stain is not None and self.target is not None):
            pixels = rgb.reshape(-1, 3).astype(np.float64)
            if self.glass is not None:
                pixels = white_balanced(pixels, self.glass)
            if self.stain is not None and self.target is not None:
                pixels = self.stain.apply(pixels, self.target)
            rgb = np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(rgb.shape)
            rgb[cut_out] = 0
        if self.background != "keep":
            rgb = rgb.copy()
            rgb[~mask] = _GREY if self.background == "grey" else 0
        um = None if cell.um_per_px is None else cell.um_per_px / self.zoom
        return Cell(np.ascontiguousarray(rgb), mask, nucleus, cell.origin, um)


#: Raised when an adjustment of the same values would give other pixels.
VERSION = "1"


def _zoomed(mask: NDArray[np.bool_], size: Sequence[int], how: int, least: int) -> NDArray[np.bool_]:
    part = cv2.resize(
        mask.astype(np.float32), tuple(size), interpolation=cv2.INTER_AREA if how == cv2.INTER_AREA else 1
    )
    chosen: NDArray[np.bool_] = part >= 0.5
    if least and not chosen.any():  # a cell thinner than a pixel stays one
        chosen = part >= part.max()
    return np.ascontiguousarray(chosen)


@dataclass(frozen=True)
class Normaliser:
    """What all cells are brought to, which is stated; and what must be known of a source to bring its cells there.

    Attributes
    ----------
    white_balance : whether the light is made even by empty glass, where any is seen.
    scale : "none"; "um_per_px" (all pixels as long as ``um_per_px``, from the length that the table states);
        "red-cells" (the same, from the length that red cells around the cell tell; an image that shows too few takes
        the median of its source, and without that what the table states); or "median-size" (the median cell of every
        source is ``diameter`` across).
    um_per_px : micrometres on the side of every pixel afterwards, for the scales that ask for it.
    diameter : in pixels, for "median-size"; None for the others.
    reinhard : mean and spread in Lab that every cell is brought to by itself; None leaves stains as they are.
    background : "keep", "black" or "grey".
    sources : by name ("" for cells without one) the median diameter in pixels of the source's cells ("median-size"), or
        the median of micrometres on the side of a pixel that their red cells tell ("red-cells"; None where they show
        too few). Empty for the other scales.
    """

    white_balance: bool
    scale: str
    um_per_px: float
    diameter: float | None
    reinhard: Reinhard | None
    background: str
    sources: Mapping[str, float | None]

    @classmethod
    def fit(cls, settings: Mapping[str, Any], cells: FeatureTable) -> Self:
        """As ``settings`` state it, with the sources of these cells; labels are not looked at.

        Parameters
        ----------
        settings : plain values by the names above but ``sources``.
        cells : their ``Appearance``, and their ``RedCells`` for a scale by these.

        Raises
        ------
        UsageError : a scale by the length of pixels, and cells without one.
        """
        found = cls.from_json({**settings, "sources": {}})
        found._zooms(cells)  # which refuses cells without a scale
        return dataclasses.replace(found, sources=found._medians(cells))

    def with_sources(self, cells: FeatureTable) -> Self:
        """The same, which knows the sources that it did not as these cells are, where ten and more are of one."""
        counts = Counter(_names(cells).tolist())
        new = {name: size for name, size in self._medians(cells).items() if size and counts[name] >= LEAST_CELLS}
        return dataclasses.replace(self, sources={**new, **self.sources})

    @property
    def describes_sources(self) -> bool:
        """Whether anything of a source as a whole is needed, so that an unknown one is described by its cells."""
        return self.scale in ("median-size", "red-cells")

    def adjustments(self, cells: FeatureTable) -> list[Adjustment]:
        """One for each row of ``Appearance``; a known source is as it was, whatever its cells here.

        Raises
        ------
        UsageError : a scale by the length of pixels, and a cell without one.
        """
        return [self._adjustment(row, zoom) for row, zoom in zip(cells.X, self._zooms(cells)[0], strict=True)]

    def leans(self, cells: FeatureTable) -> NDArray[np.bool_]:
        """bool (n,): whose scale is that of the cell's source, and not its own."""
        return self._zooms(cells)[1]

    def _adjustment(self, row: NDArray[np.float32], zoom: float) -> Adjustment:
        glass = None
        if self.white_balance and not math.isnan(row[2]):
            glass = (float(row[2]), float(row[3]), float(row[4]))
        stain = None if self.reinhard is None else Reinhard.fit(_pixels(row, self.white_balance))
        zoom = float(f"{min(max(zoom, _LEAST_ZOOM), _MOST_ZOOM):.6g}")
        return Adjustment(zoom, glass, stain, self.reinhard, self.background)

    def _zooms(self, cells: FeatureTable) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """float64 (n,): factors on lengths; and bool (n,), those that are of the source and not the cell's own."""
        n = len(cells)
        if self.scale == "none":
            return np.ones(n), np.zeros(n, bool)
        medians = {**self._medians(cells), **self.sources}
        middle = np.array([medians.get(_named(source)) for source in cells.sources], np.float64)  # NaN for None
        if self.diameter is not None:
            return self.diameter / middle, np.ones(n, bool)
        sizes, leans = cells.X[:, 1].astype(np.float64), np.zeros(n, bool)
        if self.scale == "red-cells":
            own = _um_per_px_of_red_cells(cells)
            leans = np.isnan(own) & ~np.isnan(middle)
            sizes = np.where(np.isnan(own), np.where(leans, middle, sizes), own)
        if np.isnan(sizes).any():
            raise _without_size(self.scale, cells, sizes)
        return sizes / self.um_per_px, leans

    def _medians(self, cells: FeatureTable) -> dict[str, float | None]:
        """What ``sources`` holds, of these cells."""
        if not self.describes_sources:
            return {}
        values = _um_per_px_of_red_cells(cells) if self.scale == "red-cells" else cells.X[:, 0].astype(np.float64)
        names = _names(cells)
        found: dict[str, float | None] = {}
        for name in sorted(set(names)):
            of = values[names == name]
            seen = of[~np.isnan(of)]
            found[name] = float(np.median(seen)) if len(seen) else None
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` makes it again from."""
        return {**dataclasses.asdict(self), "sources": dict(sorted(self.sources.items()))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The normaliser written by ``to_json``.

        Raises
        ------
        ValueError : a length that is none.
        """
        plain = dict(values)
        sources = {str(name): None if value is None else float(value) for name, value in plain.pop("sources").items()}
        lengths = [plain["um_per_px"], plain["diameter"], *sources.values()]
        if not all(0 < float(length) < math.inf for length in lengths if length is not None):
            raise ValueError("normalise: a length that is none")
        if (target := plain.pop("reinhard")) is not None:
            target = Reinhard(**{name: tuple(map(float, part)) for name, part in target.items()})
        return cls(**plain, reinhard=target, sources=sources)


def target_of(cell: Cell, white_balance: bool) -> Reinhard:
    """How a cell is stained, as others are to be; in even light where that is asked for and can be had."""
    return Reinhard.fit(_pixels(Appearance().extract([cell])[0], white_balance))


def _named(source: str | None) -> str:
    return "" if source is None else source


def _names(cells: FeatureTable) -> NDArray[np.object_]:
    return np.array([_named(source) for source in cells.sources], object)


def _um_per_px_of_red_cells(cells: FeatureTable) -> NDArray[np.float64]:
    """float64 (n,): micrometres on the side of a pixel, NaN where too few red cells are seen."""
    return RED_CELL_UM / cells.X[:, _RED_CELLS].astype(np.float64)


def _without_size(scale: str, cells: FeatureTable, sizes: NDArray[np.float64]) -> UsageError:
    bare = sorted(set(_names(cells)[np.isnan(sizes)]))
    what = {
        "um_per_px": ("the size of a pixel", "cells without one"),
        "red-cells": ("red cells around the cell", f"no image with {LEAST_RED_CELLS} whole ones"),
    }[scale]
    return UsageError(
        f"normalising by {scale} needs {what[0]}",
        found=f"{what[1]}" + (f" in source {', '.join(bare)}" if any(bare) else ""),
        do="Give the table a column 'um_per_px', or take scale: median-size.",
    )


def _pixels(row: NDArray[np.float32], white_balance: bool) -> NDArray[np.float64]:
    """float64 (PIXELS, 3): the cell's sampled pixels, in even light where that is asked for and can be had."""
    pixels, glass = row[5:_RED_CELLS].astype(np.float64).reshape(PIXELS, 3), row[2:5].astype(np.float64)
    return white_balanced(pixels, glass) if white_balance and not np.isnan(glass).any() else pixels
