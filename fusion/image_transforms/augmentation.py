"""Augmented cells of a cell as other sites would show it: another stain, light, scale, sharpness, and other contours.

What an augmented cell is changed by is a ``CellAugmentation``, drawn before anything is measured. Its fingerprint is
part of the key under which the copy's features are kept, as an ``Adjustment``'s is. A draw depends on the seed, the
number of the augmented version, and on the source or the content of the image; on no other cell, and not on the order
of cells. An augmented cell that is normalised after that is changed by a ``AugmentedAdjustment``.

The order of the changes is that of the light: through stain and lens onto a sensor, and from there into a file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.image_transforms.normaliser import Adjustment
from fusion.images.cell import Cell, make_cell
from fusion.images.cell_transform import Change
from fusion.images.segmentation.segment import has_black_background
from fusion.io.files import sha256

#: Raised when An augmentation of the same values would give other pixels.
VERSION = "1"

#: The least that a stain is made of what it was: below, a cell would be glass.
_LEAST_STAIN = 0.2

#: Best quality of a JPEG, which leaves pixels as they are but for rounding.
_BEST_JPEG = 100


@dataclass(frozen=True)
class CellAugmentation:
    """One drawn variation of a cell.

    Attributes
    ----------
    stain : factors on the optical density of red, green and blue.
    light : factor on grey levels.
    zoom : factor on lengths in pixels.
    blur : sigma of a Gaussian in pixels of the zoomed image.
    noise : standard deviation of what is added to each grey level; ``grain`` is its seed.
    jpeg : quality of the JPEG that the image goes through, 0 for none.
    contour, nucleus : what cell and nucleus are grown by, as a share of the cell's radius; negative shrinks.
    """

    stain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    light: float = 1.0
    zoom: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    grain: int = 0
    jpeg: int = 0
    contour: float = 0.0
    nucleus: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""
        content = [dataclasses.asdict(self), type(self).__name__, VERSION]
        return sha256(json.dumps(content, sort_keys=True).encode())[:32]

    def apply(self, cell: Cell) -> Cell:
        """The varied cell. Black around it stays black. A grown contour takes in what is seen beside the cell; where
        most of that is black, as around a cell that was cut out, it takes in nothing, and what a shrunk one gives away
        becomes black. A mask that nothing would be left of stays as it was."""
        black = ~cell.mask & (cell.rgb.max(axis=2) == 0)
        is_cut = 2 * np.count_nonzero(black) > np.count_nonzero(~cell.mask)
        # An image is enlarged, blurred and compressed before a cell is cut out of it: black must not bleed in.
        whole = replace(cell, rgb=_continued(cell.rgb, black)) if black.any() else cell
        zoomed = Adjustment(zoom=self.zoom).apply(whole)
        size = zoomed.mask.shape[::-1]
        black = cv2.resize(black.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool) & ~zoomed.mask
        mask, nucleus = self._with_varied_contour(zoomed, zoomed.mask if is_cut else ~black)
        rgb = self._shown(zoomed.rgb)
        rgb[~mask if is_cut else black] = 0
        around = None if cell.red_cells is None else tuple(width * self.zoom for width in cell.red_cells)
        return replace(zoomed, rgb=rgb, mask=mask, nucleus=nucleus, red_cells=around)

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The varied cell of an image without a mask, looked for in the varied image: what another site shows
        is segmented as it is there, and not as it would have been here."""
        seen = rgb.max(axis=2) > 0 if has_black_background(rgb) else np.ones(rgb.shape[:2], bool)
        if not seen.any():
            return make_cell(rgb)  # which says that there is none
        whole = Cell(rgb, seen, np.zeros_like(seen), um_per_px=um_per_px)
        augmented_view = replace(self, contour=0.0, nucleus=0.0).apply(whole)
        cell = make_cell(augmented_view.rgb, None, augmented_view.um_per_px, red_cells=red_cells)
        return CellAugmentation(contour=self.contour, nucleus=self.nucleus).apply(cell)

    def _with_varied_contour(self, cell: Cell, seen: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Cell and nucleus inside what is ``seen``."""
        radius = math.sqrt(np.count_nonzero(cell.mask) / math.pi)
        mask = _grown(cell.mask, self.contour * radius) & seen
        nucleus = _grown(cell.nucleus, self.nucleus * radius) & mask
        if cell.nucleus.any() and not nucleus.any():
            nucleus = cell.nucleus & mask
        return mask, nucleus

    def _shown(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3): the image, anew through stain, lens, sensor and file."""
        shown = rgb.astype(np.float64)
        if self.stain != (1.0, 1.0, 1.0):
            # 1 of 256 grey levels added: the density of black stays finite.
            shown = 256 * np.exp(np.log((shown + 1) / 256) * np.array(self.stain)) - 1
        shown *= self.light
        if self.blur:
            blurred = cv2.GaussianBlur(shown, (0, 0), self.blur, borderType=cv2.BORDER_REPLICATE)
            shown = np.asarray(blurred, np.float64).reshape(shown.shape)
        if self.noise:
            shown += self.noise * np.random.default_rng(self.grain).standard_normal(shown.shape)
        found = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        return _through_jpeg(found, self.jpeg) if self.jpeg else found


@dataclass(frozen=True)
class AugmentedAdjustment:
    """A cell that is varied, and then normalised."""

    augmentation: Change
    adjustment: Adjustment

    @property
    def zoom(self) -> float:
        """Factor on lengths in pixels of both."""
        return self.augmentation.zoom * self.adjustment.zoom

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes a pixel."""
        return sha256(f"{self.augmentation.fingerprint}+{self.adjustment.fingerprint}".encode())[:32]

    def find(self, rgb: NDArray[np.uint8], um_per_px: float | None, *, red_cells: bool = False) -> Cell:
        """The varied cell of an image without a mask, normalised."""
        return self.adjustment.apply(self.augmentation.find(rgb, um_per_px, red_cells=red_cells))

    def apply(self, cell: Cell) -> Cell:
        """The varied cell, normalised."""
        return self.adjustment.apply(self.augmentation.apply(cell))


def draw(settings: Mapping[str, Any], seed: int, copy: int, source: str | None, key: str) -> CellAugmentation:
    """The variation of one copy of one cell.

    Parameters
    ----------
    settings : "of" ("source": all cells of a source and copy alike but for the noise; "cell": each its own), and how
        far: "stain", "brightness", "scale", "blur", "noise", "jpeg", "contour", as ``config.AugmentSettings`` has them.
    seed, copy : of the command, and the number of the augmented version.
    source : the cell's site, None where unknown.
    key : hash of the cell's image and mask.
    """
    whose = ["source", source or ""] if settings["per"] == "source" else ["cell", key]
    rng = np.random.default_rng(_number([seed, copy, *whose]))
    shared, own, either = rng.standard_normal(), rng.standard_normal(3), rng.uniform(-1, 1, 4)
    share = rng.uniform(0, 1, 3)
    stain = np.maximum(1 + settings["stain"] * (shared + own), _LEAST_STAIN)
    noise, worst = settings["noise"] * share[1], settings["jpeg"]
    return CellAugmentation(
        stain=(float(stain[0]), float(stain[1]), float(stain[2])),
        light=float(1 + settings["brightness"] * either[0]),
        zoom=float(1 + settings["scale"] * either[1]),
        blur=float(settings["blur"] * share[0]),
        noise=float(noise),
        # Other grains of the same sensor: two cells of one size would share their noise otherwise.
        grain=_number([seed, copy, "grain", key]) if noise else 0,
        jpeg=0 if worst in (0, _BEST_JPEG) else int(worst + share[2] * (_BEST_JPEG + 1 - worst)),
        contour=float(settings["contour"] * either[2]),
        nucleus=float(settings["contour"] * either[3]),
    )


def _number(parts: list[Any]) -> int:
    """The same number for the same parts, in any process."""
    return int(sha256(json.dumps(parts).encode())[:16], 16)


def _grown(mask: NDArray[np.bool_], by: float) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside the contour when it is moved outwards by so many pixels; as it was, if none."""
    if by == 0 or not mask.any() or mask.all():
        return mask
    # A pixel's distance is to the centre of the nearest pixel on the other side; the contour lies half-way to that.
    inside, outside = (
        cv2.distanceTransform(part.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (mask, ~mask)
    )
    moved: NDArray[np.bool_] = np.where(mask, inside - 0.5, 0.5 - outside) > -by
    return np.ascontiguousarray(moved) if moved.any() else mask


def _continued(rgb: NDArray[np.uint8], black: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): every black pixel as the nearest one that is not."""
    labels = cv2.distanceTransformWithLabels(
        black.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[~black]] = rgb[~black]
    return np.where(black[..., None], colours[labels], rgb)


def _through_jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
