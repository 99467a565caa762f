"""Light that falls off across a field, as by vignetting or a lamp out of line, found on the empty slide and evened."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.segmentation._mask_geometry import Image

# The field is looked at in so many squares a side, each of so many pixels a side.
TILES, PIXELS = 8, 16

# Nearly the lightest of a square is slide, where it shows any.
LIGHTEST = 0.9

# Squares are lit as the surface says within so much (of the logarithm); what is darker shows no slide, and what is
# lighter by thrice as much is dirt or glare. A surface of six numbers takes twice as many squares.
NEAR, LEAST_TILES, TURNS = 0.04, 12, 6

# Light is uneven where its logarithm falls by more than the first, to 0.85; in fields of a microscope in order it falls
# to 0.93. Where it seems to fall to less than 0.3, or as the surface says in less than this share of the squares, cells
# fill the field; and where red does not fall as green does (by this factor), it is their stain.
LEAST_FALL, MOST_FALL, SHARE, ALIKE = 0.16, 1.2, 0.5, 0.7

# Squares in a line, say, tell no surface: this keeps it finite.
_FIRM = 1e-6 * np.eye(6)

# Light falls off in one direction, or away from its middle: no way does it bend upwards by more (the second derivative
# of its logarithm, half a side being 1). A surface that does is that of a dark cell, or of red cells that lie close.
BENT = 0.06


def evened(rgb: Image) -> Image:
    """A field as even light would show it; the same array where its light is even, or where that cannot be told.

    Parameters
    ----------
    rgb : uint8 (H, W, 3), a field of a smear without black bars.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < TILES * 4:
        return rgb
    surface = _light(rgb)
    if surface is None:
        return rgb
    y, x = (2 * (np.arange(side, dtype=np.float32) + 0.5) / side - 1 for side in (height, width))
    light = _terms(y[:, None], x[None, :]) @ surface.astype(np.float32)
    gain = np.exp(light.max() - light)
    return np.asarray(np.minimum(rgb * gain[..., None] + np.float32(0.5), 255), np.uint8)


def _light(rgb: Image) -> NDArray[np.float64] | None:
    """The logarithm of the light as a polynomial of second degree, float64 (6,); None where it is even, or unknown."""
    side = TILES * PIXELS
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_NEAREST)
    tiles = small.reshape(TILES, PIXELS, TILES, PIXELS, 3).transpose(4, 0, 2, 1, 3).reshape(3, TILES * TILES, -1)
    rank = int(LIGHTEST * tiles.shape[2])
    red, lit = np.log(np.maximum(np.partition(tiles[:2], rank, axis=2)[..., rank], 1).astype(np.float64))
    middle = 2 * (np.arange(TILES) + 0.5) / TILES - 1
    terms = _terms(middle[:, None], middle[None, :]).reshape(TILES * TILES, 6)
    kept = np.ones(len(lit), bool)
    for _ in range(TURNS):
        surface = _fitted(terms[kept], lit[kept])
        off = lit - terms @ surface
        near = (off > -NEAR) & (off < 3 * NEAR)
        if near.sum() < LEAST_TILES:
            return None
        if np.array_equal(near, kept):
            break
        kept = near
    _, _, _, xx, xy, yy = surface
    if np.linalg.eigvalsh([[2 * xx, xy], [xy, 2 * yy]])[-1] > BENT:
        return None
    fall, of_red = np.ptp(terms @ surface), np.ptp(terms @ _fitted(terms[kept], red[kept]))
    if not LEAST_FALL < fall < MOST_FALL or not ALIKE * fall < of_red < fall / ALIKE:
        return None
    return surface if (np.abs(lit - terms @ surface) < NEAR).mean() >= SHARE else None


def _fitted(terms: NDArray, lit: NDArray) -> NDArray[np.float64]:
    return np.asarray(np.linalg.solve(terms.T @ terms + _FIRM, terms.T @ lit), np.float64)


def _terms(y: NDArray, x: NDArray) -> NDArray:
    """(..., 6): 1, x, y and their products."""
    y, x = np.broadcast_arrays(y, x)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
