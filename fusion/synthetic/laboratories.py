"""Sites that stain, photograph and store the same kind of cell each in its own way.

What differs between real sites is drawn for each: the stain's colour and strength, the light, the camera's
response, focus and noise, the scale of a pixel, how the file is compressed, and whether the cell is cut out on black
or stands in its field among red cells. The first site is the one that C-NMC's own images come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.synthetic.rendering import Mask, PaintedCell, StainedCell, Values

#: Micrometres on the side of a pixel before a site's scale: an average cell of 190 pixels has 12 micrometres.
UM_PER_PX = 0.064

#: Radius of a red cell in micrometres.
_RED_CELL_UM = 3.7

#: OD (R, G, B) of a red cell at its rim: haemoglobin holds back blue most, then green.
_RED_CELL_OD = np.array([0.10, 0.36, 0.42], np.float32)

#: Pixels of the field around the painted 450 x 450 that neighbouring red cells may reach in from.
_REACH = 40

#: What ``truth.csv`` tells about a site, by column.
FACTS: Mapping[str, str] = {
    "stain_red": "factor on the stain's optical density in red",
    "stain_green": "the same in green",
    "stain_blue": "the same in blue",
    "crosstalk": "share of each channel's optical density that a camera's filter lets over into the next",
    "gamma": "exponent of the camera's response to light",
    "blur_px": "standard deviation of its blur, in pixels of the file",
    "noise": "standard deviation of its noise, in grey levels",
    "jpeg_quality": "of the file, 0 where nothing is lost",
    "is_field": "1 where the cell stands among red cells, 0 where it is cut out on black",
}


@dataclass(frozen=True)
class Laboratory:
    """How one site shows a cell.

    Attributes
    ----------
    name : "lab_1", "lab_2", ...
    seed : of its subjects and cells.
    stain_red, stain_green, stain_blue, crosstalk, gamma, blur_px, noise, jpeg_quality, is_field : see ``FACTS``.
    scale : pixels of the file for each pixel of the painting, at most 1.
    light : grey level (R, G, B) of empty glass.
    """

    name: str
    seed: int
    stain_red: float = 1.0
    stain_green: float = 1.0
    stain_blue: float = 1.0
    crosstalk: float = 0.0
    gamma: float = 1.0
    blur_px: float = 0.8
    noise: float = 1.3
    jpeg_quality: int = 0
    is_field: bool = False
    scale: float = 1.0
    light: tuple[float, float, float] = (255.0, 255.0, 255.0)

    @property
    def ending(self) -> str:
        """Of its files: "jpg" or "png"."""
        return "jpg" if self.jpeg_quality else "png"

    def facts(self) -> dict[str, float]:
        """The values of ``FACTS``."""
        return {name: float(value) for name, value in asdict(self).items() if name in FACTS}


@dataclass(frozen=True, eq=False)
class Shot:
    """An image as its file holds it, and what is true of it before it was compressed."""

    painted: PaintedCell
    encoded: bytes
    encoded_mask: bytes


def draw_laboratories(count: int, seed: int) -> list[Laboratory]:
    """``count`` sites; the first is C-NMC's own, then cut-outs and fields by turns.

    The ranges are those that published smears differ by: stains from pink to blue at half to full strength, white to
    yellow light, 0.06 to 0.2 micrometres a pixel.
    """
    laboratories = []
    for at in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 20, at)))
        own = int(rng.integers(2**31))
        name = f"lab_{at + 1}"
        if at == 0:
            laboratories.append(Laboratory(name, own))
            continue
        strength = rng.uniform(0.45, 0.8)
        laboratories.append(
            Laboratory(
                name,
                own,
                stain_red=strength * math.exp(rng.normal(0, 0.25)),
                stain_green=strength * math.exp(rng.normal(0, 0.12)),
                stain_blue=strength * math.exp(rng.normal(0, 0.25)),
                crosstalk=rng.uniform(0, 0.15),
                gamma=rng.uniform(0.8, 1.25),
                blur_px=rng.uniform(0.6, 1.3),
                noise=rng.uniform(0.5, 3.0),
                jpeg_quality=int(rng.integers(70, 96)) if at % 3 else 0,
                is_field=at % 2 == 1,
                scale=rng.uniform(0.35, 0.9),
                light=(rng.uniform(235, 254), rng.uniform(225, 254), rng.uniform(170, 250)),
            )
        )
    return laboratories


def photograph(cell: StainedCell, laboratory: Laboratory, rng: np.random.Generator) -> Shot:
    """The cell as this site stains, sees and stores it."""
    stain = np.array([laboratory.stain_red, laboratory.stain_green, laboratory.stain_blue], np.float32)
    od = cell.od * stain
    if laboratory.is_field:
        od = np.maximum(od, red_cells(cell.mask, UM_PER_PX, rng) * stain**0.5)  # they take the stain up less
    mixed = od + np.float32(laboratory.crosstalk) * (np.roll(od, 1, axis=2) - od)
    size = tuple(round(side * laboratory.scale) for side in cell.mask.shape[::-1])
    light = np.exp(-mixed)
    light = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    light = cv2.GaussianBlur(light, (0, 0), laboratory.blur_px)
    if laboratory.is_field:
        light *= _vignette(light.shape[:2], rng)
    grey = np.array(laboratory.light, np.float32) * light ** np.float32(laboratory.gamma)
    grey += np.float32(laboratory.noise) * rng.standard_normal(grey.shape, np.float32)
    rgb = np.clip(np.rint(grey), 3, 255).astype(np.uint8)
    mask, nucleus = (_shrunk(part, size) for part in (cell.mask, cell.nucleus))
    nucleus &= mask
    if not laboratory.is_field:
        rgb[~mask] = 0
    levels = np.where(nucleus, 255, np.where(mask, 128, 0)).astype(np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    how = [cv2.IMWRITE_JPEG_QUALITY, laboratory.jpeg_quality] if laboratory.jpeg_quality else []
    return Shot(
        PaintedCell(rgb, mask, nucleus, cell.texture_scale_px * laboratory.scale),
        cv2.imencode(f".{laboratory.ending}", bgr, how)[1].tobytes(),
        cv2.imencode(".png", levels)[1].tobytes(),
    )


def red_cells(mask: Mask, um_per_px: float, rng: np.random.Generator) -> Values:
    """OD (H, W, 3) of red cells around a cell: pale in their middle, clear of it, hardly overlapping each other."""
    return placed_red_cells(mask, um_per_px, rng)[0]


def placed_red_cells(
    mask: Mask, um_per_px: float, rng: np.random.Generator
) -> tuple[Values, list[tuple[float, float, float]]]:
    """The same, and (y, x, radius) in pixels of each, those among them that reach out of the image."""
    height, width = mask.shape
    free = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    od = np.zeros((height, width, 3), np.float32)
    placed: list[tuple[float, float, float]] = []
    for _ in range(60):  # tries: a field that is full takes no more
        radius = _RED_CELL_UM / um_per_px * rng.uniform(0.85, 1.15)
        middle_y, middle_x = rng.uniform(-_REACH, height + _REACH), rng.uniform(-_REACH, width + _REACH)
        inside = free[int(np.clip(middle_y, 0, height - 1)), int(np.clip(middle_x, 0, width - 1))]
        beyond = math.hypot(
            middle_y - float(np.clip(middle_y, 0, height - 1)), middle_x - float(np.clip(middle_x, 0, width - 1))
        )
        clear = inside + beyond > radius + 4
        if not clear or any(math.hypot(middle_y - a, middle_x - b) < 0.9 * (radius + c) for a, b, c in placed):
            continue
        placed.append((middle_y, middle_x, radius))
        depth = np.hypot(y - np.float32(middle_y), x - np.float32(middle_x)) / np.float32(radius)
        # A biconcave disc: thickest at two thirds of the radius, a third as thick in the middle.
        thickness = np.clip((1 - depth) * 12, 0, 1) * (1 - 0.65 * np.exp(-((depth / 0.45) ** 2)))
        od += (thickness * np.float32(rng.uniform(0.8, 1.2)))[..., None] * _RED_CELL_OD
    return od, placed


def _vignette(shape: tuple[int, ...], rng: np.random.Generator) -> Values:
    """(H, W, 1): light that falls by up to 6% from one side to the other."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    side = rng.uniform(0, 2 * np.pi)
    tilt = y * np.float32(math.sin(side)) + x * np.float32(math.cos(side))
    return (1 - 0.03 * (1 + tilt / np.float32(math.sqrt(2))))[..., None]


def _shrunk(mask: Mask, size: tuple[int, ...]) -> NDArray[np.bool_]:
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
