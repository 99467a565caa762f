"""Making the pixels of one laboratory look like those of another, before anything is measured.

What a cell is changed by is an ``Adjustment``: a zoom, a white balance, a colour map, a background. Its fingerprint is
part of the key under which the cell's features are kept, so that each way of looking at a cell is measured once.

A ``Normaliser`` is fitted on training cells: what cells are to be like, and how each training source is. A source that
it does not know is described by the cells that are to be judged, all together and without labels: that is transductive,
and is stamped on every result. With ``of: cell`` every cell is described by itself, which needs no other cell.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.appearance import LEAST_RED_CELLS, PIXELS, RED_CELL_UM
from fusion.cells import Cell, make_cell
from fusion.errors import UsageError
from fusion.files import sha256
from fusion.stain import STAINS, WHITE, Stain, white_balanced
from fusion.table import FeatureTable

#: Zooms stay within these, so that one wrong size of a pixel cannot fill the memory.
_LEAST_ZOOM, _MOST_ZOOM = 1 / 16, 16.0

#: Scales that make a pixel the same length for all.
_BY_LENGTH = ("um_per_px", "red-cells")

#: The column after those of ``Appearance``: the diameter of red cells, where a scale by them is asked for.
_RED_CELLS = 5 + 3 * PIXELS

#: What is drawn around a cell where its own surroundings are taken away.
_GREY = 128


class Change(Protocol):
    """What is done to a cell before it is measured."""

    @property
    def zoom(self) -> float:
        """Factor on lengths in pixels."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""

    def apply(self, cell: Cell) -> Cell:
        """The changed cell."""

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The changed cell of a picture, uint8 (H, W, 3), without a mask; arguments and errors as of ``make_cell``."""


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
    stain: Stain | None = None
    target: Stain | None = None
    background: str = "keep"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""
        content = [dataclasses.asdict(self), type(self.stain).__name__, VERSION]
        return sha256(json.dumps(content, sort_keys=True).encode())[:32]

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The adjusted cell of a picture without a mask, found before it is adjusted."""
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
                pixels = self.stain.apply(pixels, self.target)  # type: ignore[arg-type]  # both of one kind
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
class Looks:
    """How a set of cells looks: median diameter in pixels, in micrometres (None unknown), its stain, and micrometres on
    the side of a pixel as red cells tell them (None where nobody asked, or none are seen)."""

    diameter: float
    diameter_um: float | None
    stain: Stain | None
    um_per_px: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        stain = None if self.stain is None else dataclasses.asdict(self.stain)
        told = {} if self.um_per_px is None else {"um_per_px": self.um_per_px}
        return {"diameter": self.diameter, "diameter_um": self.diameter_um, "stain": stain, **told}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], colour: str) -> Self:
        """What ``to_json`` told."""
        stain = values["stain"]
        if stain is not None:
            stain = STAINS[colour](**{name: tuple(map(float, part)) for name, part in stain.items()})
        um, um_per_px = (None if um is None else float(um) for um in (values["diameter_um"], values.get("um_per_px")))
        return cls(float(values["diameter"]), um, stain, um_per_px)


@dataclass(frozen=True)
class Normaliser:
    """Fitted on training cells: what all cells are made to look like, and how each training source looks.

    Attributes
    ----------
    colour : "none", "reinhard", "macenko" or "vahadane".
    white_balance : whether the light is made even by empty glass, where any is seen.
    scale : "none", "um_per_px" (the same length of a pixel for all), "red-cells" (the same, told by the red cells
        around, and where none are seen by the table) or "median-size" (the same median cell for all sources).
    of : "source" or "cell", whose colours and red cells are taken; a picture that shows too few red cells takes the
        median of its source.
    background : "keep", "black" or "grey".
    target : how cells are to look.
    sources : how each training source looks, by name; "" is that of cells without a source.
    """

    colour: str
    white_balance: bool
    scale: str
    of: str
    background: str
    target: Looks
    sources: Mapping[str, Looks]

    @classmethod
    def fit(cls, settings: Mapping[str, Any], cells: FeatureTable) -> Self:
        """From the ``Appearance`` of training cells; labels are not looked at.

        Parameters
        ----------
        settings : colour, white_balance, scale, of, background, and diameter, the median diameter in pixels that
            training cells are brought to, None for that which they have.

        Raises
        ------
        UsageError : a scale by the size of pixels, and cells without one.
        """
        wanted = dict(settings)
        diameter = wanted.pop("diameter")
        looks = _Look(wanted["colour"], wanted["white_balance"], wanted["scale"], wanted["of"])
        sources = looks.by_source(cells)
        target = looks.at(cells, looks.sizes(cells, sources))
        if wanted["scale"] in _BY_LENGTH and target.diameter_um is None:
            raise _without_size(wanted["scale"], cells, looks.sizes(cells, sources))
        if diameter is not None:
            target = dataclasses.replace(target, diameter=float(diameter))
        return cls(**wanted, target=target, sources=sources)

    def unknown(self, sources: Sequence[str | None]) -> list[str]:
        """Sources among these that no training cell is of; "" for cells without a source."""
        return sorted({_named(source) for source in sources} - set(self.sources))

    @property
    def describes_sources(self) -> bool:
        """Whether anything of a source as a whole is needed, so that an unknown one is described by its cells."""
        return self.scale in ("median-size", "red-cells") or (self.of == "source" and self.colour != "none")

    def adjustments(self, cells: FeatureTable) -> list[Adjustment]:
        """One for each row of ``Appearance``; a training source is as it was in training, whatever its cells here.

        Raises
        ------
        UsageError : a scale by the size of pixels, and a cell without one.
        """
        known = dict(self.sources)
        unknown = set(self.unknown(cells.sources))
        looks = _Look(self.colour, self.white_balance, self.scale, self.of)
        if unknown:
            rows = np.flatnonzero([_named(source) in unknown for source in cells.sources])
            known |= looks.by_source(cells.take(rows))
        sizes = looks.sizes(cells, known)
        if self.scale in _BY_LENGTH and np.isnan(sizes).any():
            raise _without_size(self.scale, cells, sizes)
        return [
            self._adjustment(row, size, known[_named(source)])
            for row, size, source in zip(cells.X, sizes, cells.sources, strict=True)
        ]

    def _adjustment(self, row: NDArray[np.float32], size: float, source: Looks) -> Adjustment:
        zoom = 1.0
        if self.scale in _BY_LENGTH and self.target.diameter_um is not None:
            zoom = self.target.diameter / self.target.diameter_um * float(size)
        elif self.scale == "median-size":
            zoom = self.target.diameter / source.diameter
        glass = None
        if self.white_balance and not math.isnan(row[2]):
            glass = (float(row[2]), float(row[3]), float(row[4]))
        stain = source.stain
        if self.colour != "none" and self.of == "cell":
            stain = STAINS[self.colour].fit(_pixels(row[None], self.white_balance))
        zoom = float(f"{min(max(zoom, _LEAST_ZOOM), _MOST_ZOOM):.6g}")
        return Adjustment(zoom, glass, stain, None if stain is None else self.target.stain, self.background)

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` makes it again from."""
        values = {name: getattr(self, name) for name in ("colour", "white_balance", "scale", "of", "background")}
        looks = {name: looks.to_json() for name, looks in sorted(self.sources.items())}
        return {**values, "target": self.target.to_json(), "sources": looks}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The normaliser that ``to_json`` told of."""
        plain = dict(values)
        colour = str(plain["colour"])
        looks = {str(name): Looks.from_json(each, colour) for name, each in plain.pop("sources").items()}
        return cls(target=Looks.from_json(plain.pop("target"), colour), sources=looks, **plain)


def _named(source: str | None) -> str:
    return "" if source is None else source


@dataclass(frozen=True)
class _Look:
    """What of cells is looked at; see ``Normaliser``."""

    colour: str
    white_balance: bool
    scale: str
    of: str

    def by_source(self, cells: FeatureTable) -> dict[str, Looks]:
        """How each source looks, by name."""
        names = _names(cells)
        parts = {name: cells.take(np.flatnonzero(names == name)) for name in sorted(set(names))}
        return {name: self.at(part, self.sizes(part, {})) for name, part in parts.items()}

    def at(self, cells: FeatureTable, sizes: NDArray[np.float64]) -> Looks:
        """How these cells look together, with micrometres on the side of a pixel for each."""
        diameters = cells.X[:, 0].astype(np.float64)
        stain = None if self.colour == "none" else STAINS[self.colour].fit(_pixels(cells.X, self.white_balance))
        middle = float(np.median(sizes * diameters))
        told = self._by_red_cells(cells) if self.scale == "red-cells" else np.empty(0)
        um_per_px = None if np.isnan(told).all() else float(np.nanmedian(told))
        return Looks(float(np.median(diameters)), None if math.isnan(middle) else middle, stain, um_per_px)

    def sizes(self, cells: FeatureTable, known: Mapping[str, Looks]) -> NDArray[np.float64]:
        """float64 (n,): micrometres on the side of a pixel, NaN where unknown; ``known`` sources are as they were."""
        stated = cells.X[:, 1].astype(np.float64)
        if self.scale != "red-cells":
            return stated
        told, names = self._by_red_cells(cells), _names(cells)
        found = told if self.of == "cell" else np.full(len(told), np.nan)
        for name in sorted(set(names)):
            of = names == name
            seen = told[of][~np.isnan(told[of])]
            middle = known[name].um_per_px if name in known else float(np.median(seen)) if len(seen) else None
            found = np.where(of & np.isnan(found), np.nan if middle is None else middle, found)
        return np.where(np.isnan(found), stated, found)

    @staticmethod
    def _by_red_cells(cells: FeatureTable) -> NDArray[np.float64]:
        return RED_CELL_UM / cells.X[:, _RED_CELLS].astype(np.float64)


def _names(cells: FeatureTable) -> NDArray[np.object_]:
    return np.array([_named(source) for source in cells.sources], object)


def _without_size(scale: str, cells: FeatureTable, sizes: NDArray[np.float64]) -> UsageError:
    bare = sorted(set(_names(cells)[np.isnan(sizes)]))
    what = {
        "um_per_px": ("the size of a pixel", "cells without one"),
        "red-cells": ("red cells around the cell", f"no picture with {LEAST_RED_CELLS} whole ones"),
    }[scale]
    return UsageError(
        f"normalising by {scale} needs {what[0]}",
        found=f"{what[1]}" + (f" in source {', '.join(bare)}" if any(bare) else ""),
        do="Give the table a column 'um_per_px', or take scale: median-size.",
    )


def _pixels(rows: NDArray[np.float32], white_balance: bool) -> NDArray[np.float64]:
    """float64 (n PIXELS, 3): sampled pixels of all cells, in even light where that is asked for and can be had."""
    pixels = rows[:, 5:_RED_CELLS].astype(np.float64).reshape(-1, PIXELS, 3)
    if white_balance:
        glass = rows[:, 2:5].astype(np.float64)
        pixels = pixels * np.where(np.isnan(glass), 1.0, WHITE / np.maximum(glass, 1.0))[:, None]
    return pixels.reshape(-1, 3)
