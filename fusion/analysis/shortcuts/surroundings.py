"""What an image shows around its cell: background, border, marks, light, focus, and where in the image the cell lies.

None of it is biology, and a network sees all of it. Nothing here looks into the cell, whose size and colour may differ
between classes by right: what is around it begins a tenth of its diameter outside its contour.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

_Image = NDArray[np.uint8]
_Grey = NDArray[np.float32]
_Flags = NDArray[np.bool_]

#: Share of the cell's diameter around it, and pixels at least, that are not around it yet: blur, halo, missed rim.
_HALO, _LEAST_HALO = 0.1, 4

#: Pixels that a background must have to be described.
_LEAST_BACKGROUND = 50

#: Width of the frame that is the border, as a share of the image's shorter side, and pixels at least.
_FRAME, _LEAST_FRAME = 0.01, 2

#: Levels of a channel between pixels of one row below which the row is part of a bar: JPEG leaves bars a little noise.
_BAR = 4

#: Share of what lies around a cell that is of one level where it was cut out; a slide has grain.
_ONE_LEVEL = 0.9

#: Values up to which a pixel is black.
_BLACK = 3

#: Tiles of each side in which light is looked at, how many must be bright enough for it, and pixels of each.
_TILES, _LEAST_TILES, _LEAST_OF_TILE = 6, 12, 12

#: Share of a tile's pixels that are darker than its light: what covers the slide does not count.
_LIGHT = 0.9

#: Standard deviations, in pixels, of the blurs whose differences are the bands of focus.
_BANDS = (0.0, 0.7, 1.4, 2.8)


def surroundings(rgb: _Image, mask: _Flags | None) -> dict[str, tuple[float, ...]]:
    """Numbers by probe; () where the image does not tell.

    Parameters
    ----------
    mask : bool, the cell in the whole image; None where none was found.
    """
    if mask is None:
        return {"border": _border(rgb, np.ones(rgb.shape[:2], bool))}
    around = _around(mask)
    found = {"border": _border(rgb, around)}
    found["position of the cell"] = _position(mask)
    found["marks"] = _marks(rgb, around)
    if np.count_nonzero(around) >= _LEAST_BACKGROUND:
        found["background"] = _described(rgb[around])
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
        found["illumination"] = _illumination(grey, around)
        if not _is_cut_out(grey[around]):
            found["focus"] = _focus(grey, around)
    return found


def _around(mask: _Flags) -> _Flags:
    """What lies outside the cell and its halo."""
    halo = max(_LEAST_HALO, _HALO * 2 * np.sqrt(mask.sum() / np.pi))
    far: _Flags = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) > halo
    return far


def _is_cut_out(levels: _Grey) -> bool:
    """Whether what lies around the cell was made one colour: then its blurs show nothing but the cell's own edge."""
    return bool(np.bincount(levels.astype(np.intp)).max() > _ONE_LEVEL * len(levels))


def _border(rgb: _Image, around: _Flags) -> tuple[float, ...]:
    """Colours of the outermost frame, and how many lines of one colour lie along each side; 0 where they lead up to the
    cell, as around one that was cut out: its size is no matter of the border."""
    wide = max(_LEAST_FRAME, round(_FRAME * min(rgb.shape[:2])))
    inside: _Flags = np.zeros(rgb.shape[:2], bool)
    inside[wide:-wide, wide:-wide] = True
    sides = [(rgb, around), (rgb.swapaxes(0, 1), around.T)]
    bars = [_bar(lines[::way], free[::way]) for lines, free in sides for way in (1, -1)]
    frame = rgb[~inside & around]
    return (*(_described(frame) if len(frame) else [np.nan] * 7), *bars)


def _bar(lines: _Image, free: _Flags) -> float:
    """How many lines from the first one on are of one colour, as a share of all; 0 where it is but the cell, with its
    halo, that ends them.

    ``free`` : bool, what is neither cell nor halo.
    """
    is_even = (np.ptp(lines, axis=1) <= _BAR).all(axis=1)
    if is_even.all():
        return 1.0
    count = int(is_even.argmin())
    beside = lines[count][free[count]]
    return 0.0 if count and (np.abs(beside - lines[0, 0].astype(np.int16)) <= _BAR).all() else count / len(is_even)


def _described(values: _Image) -> tuple[float, ...]:
    """Mean and spread of the channels, and the share of black."""
    black = (values <= _BLACK).all(axis=1).mean()
    return (*values.mean(axis=0).tolist(), *values.std(axis=0).tolist(), float(black))


def _marks(rgb: _Image, around: _Flags) -> tuple[float, ...]:
    """The sharpest edge in each of the eight outer ninths of the image, NaN where the cell leaves none: a scale bar, a
    time stamp, a dot in a corner are sharper than what lies on a slide.

    An edge is the range of a channel among 3 x 3 pixels.
    """
    square = np.ones((3, 3), np.uint8)
    edges = np.where(around, (cv2.dilate(rgb, square) - cv2.erode(rgb, square)).max(axis=2), 0)
    rows, columns = (np.linspace(0, side, 4).astype(int) for side in rgb.shape[:2])
    parts = [
        (slice(rows[down], rows[down + 1]), slice(columns[along], columns[along + 1]))
        for down in range(3)
        for along in range(3)
        if (down, along) != (1, 1)
    ]
    return tuple(float(edges[part].max()) if around[part].any() else np.nan for part in parts)


def _illumination(grey: _Grey, around: _Flags) -> tuple[float, ...]:
    """How much brighter it becomes rightwards, downwards, and from the middle outwards, as shares of the light in the
    middle: a plane and a bowl fitted to the light of tiles."""
    height, width = grey.shape
    rows, columns = (np.linspace(0, side, _TILES + 1).astype(int) for side in (height, width))
    seen = []
    for down in range(_TILES):
        for along in range(_TILES):
            part = slice(rows[down], rows[down + 1]), slice(columns[along], columns[along + 1])
            values = grey[part][around[part]]
            if len(values) >= _LEAST_OF_TILE:
                x, y = (2 * (at + 0.5) / _TILES - 1 for at in (along, down))
                seen.append((1.0, x, y, x**2 + y**2, float(np.quantile(values, _LIGHT))))
    tiles = np.array(seen).reshape(-1, 5)
    tiles = tiles[tiles[:, 4] > _BLACK]
    if len(tiles) < _LEAST_TILES:
        return ()
    level, right, down_, outwards = np.linalg.lstsq(tiles[:, :4], tiles[:, 4], rcond=None)[0]
    return tuple(float(part / max(level, 1.0)) for part in (right, down_, outwards))


def _focus(grey: _Grey, around: _Flags) -> tuple[float, ...]:
    """The grain of the finest band, and how much weaker each band is than the next coarser one, as logarithms."""
    blurred = [grey if sigma == 0 else cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in _BANDS]
    bands = [(fine - coarse)[around] for fine, coarse in pairwise(blurred)]
    # A tenth of a level: rounding to levels alone leaves more.
    power = [float(np.log(np.mean(band**2) + 0.01)) for band in bands]
    grain = float(np.log(np.median(np.abs(bands[0])) + 0.1))
    return (grain, *(fine - coarse for fine, coarse in pairwise(power)))


def _position(mask: _Flags) -> tuple[float, ...]:
    """How far the middle of the cell's box lies from that of the image, rightwards, downwards and at all, as shares of
    the image's sides."""
    left, top, wide, high = cv2.boundingRect(mask.astype(np.uint8))
    height, width = mask.shape
    right, down = (left + wide / 2) / width - 0.5, (top + high / 2) / height - 0.5
    return right, down, float(np.hypot(right, down))
