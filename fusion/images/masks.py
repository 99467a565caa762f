"""Masks that a user gives: which of their values is the cell, which its nucleus, and which masks are not that clear.

Masks in the wild have soft rims (resized, anti-aliased), JPEG noise, palettes, opacity, a border of 255 as VOC draws
it, numbers of instances, or levels the other way round. Levels are therefore told by the area that is left of them
after an erosion, never by single pixels, and a mask that could be read in two ways is refused with what was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.decoding import CellError, ImageError, decode_mask
from fusion.images.file_headers import read_header
from fusion.settings.mask_levels import ROLES, MaskLevels

#: Grey values of a two-level mask file: 0 background, 128 cytoplasm, 255 nucleus.
CYTOPLASM_VALUE, NUCLEUS_VALUE = 128, 255
_LEVELS = (0, CYTOPLASM_VALUE, NUCLEUS_VALUE)

#: From here on a value is nearer to the cytoplasm's than to 0, and nearer to the nucleus's than to the cytoplasm's.
_CELL_FROM, _NUCLEUS_FROM = CYTOPLASM_VALUE // 2, (CYTOPLASM_VALUE + NUCLEUS_VALUE + 1) // 2

#: How far the values of a level may lie off it. Less than a third of the step between two levels: 0, 85, 170 and
#: 0, 100, 200 are scales of their own.
_OFF = 40

#: Range of values in 3 x 3 pixels that are one level: JPEG makes plains uneven by about ten either way.
_UNEVEN = 24

#: Of each value the level that it is nearest to, and whether it is too far off.
_LEVEL_OF = np.searchsorted([_CELL_FROM, _NUCLEUS_FROM], np.arange(256), side="right")
_IS_OFF = np.abs(np.arange(256) - np.array(_LEVELS)[_LEVEL_OF]) > _OFF

#: Labels 0, 1, 2 as grey values.
_OF_LABELS = np.array([*_LEVELS, *[0] * 253], np.uint8)

_WINDOW, _CROSS = np.ones((3, 3), np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)

#: Labels of 0, 1, 2 are less apart than JPEG changes a value by.
_JPEG_LABELS = 16

#: Two plains of one level whose values lie further apart than this were drawn as two; so were any two where a mask has
#: no more values in all than somebody draws, which noise would have made more.
_GAP, _FEW = 8, 8

#: Share of the cell from which on a level counts, after the erosion and before it. In 300 masks drawn by hand the
#: thinnest cytoplasm is 8% after it.
_DOMINANT, _STRAY = 0.01, 0.005

#: Share of the cell that may lie between the levels. Blurred so far, the nuclei of 300 masks drawn by hand lose up to
#: 5% of their share of the cell; a little further, and a thin cytoplasm is no level any more.
_SOFT = 0.2

_UNCLEAR = "which of its values is the cell is not clear; say it with --mask-levels"
_FRAME = "its cell is what lies along the frame: inverted, or without background; say it with --mask-levels"
_APART = "one of its values is not inside the other, as a nucleus is: instances, or swapped; say it with --mask-levels"
_RIM = "one of its values is no more than a rim: a border, or a soft edge; say it with --mask-levels"
_BLURRED = "its edges are soft over a large part of the cell; save it without smoothing, or say it with --mask-levels"
_HOLLOW = "its cell has a large hole: an outline, or the nucleus left out; say it with --mask-levels"
_SEVERAL = "draws several cells; give each a mask and a row of its own, or say --mask-levels instance=N"


class MaskError(ImageError):
    """This mask can be read in more than one way, or in none."""


@dataclass(frozen=True, eq=False)
class GivenMask:
    """A mask as it is meant.

    Attributes
    ----------
    cell : bool (H, W).
    nucleus : bool (H, W), inside ``cell``; None where the file draws the cell only.
    levels : the values that were taken for levels, "0/128/255".
    """

    cell: NDArray[np.bool_]
    nucleus: NDArray[np.bool_] | None
    levels: str

    @property
    def kind(self) -> str:
        """In words: what it draws, and by which values."""
        return f"{'cell only' if self.nucleus is None else 'cell and nucleus'}, {self.levels}"


def read_mask(data: bytes, levels: str | None = None, name: str = "") -> GivenMask:
    """A mask file as it is meant.

    Parameters
    ----------
    data : the file's content.
    levels : what its values mean, as ``--mask-levels`` takes it; None takes 0/255, 0/1, 0/128, 0/128/255, 0/1/2.
    name : the file's, for messages.

    Raises
    ------
    MaskError : it can be read in more than one way, or in none.
    CellError : there is no cell in it.
    """
    meaning = None if levels is None else MaskLevels.parse(levels)
    try:
        values = decode_mask(data, "value" if meaning is None else meaning.by)
        if meaning is None and values.max(initial=0) <= _JPEG_LABELS and read_header(data).format == "JPEG":
            raise MaskError("its values are numbers that JPEG has changed; save it as PNG", found=_shares(values))
        return given_mask(values) if meaning is None else _as_said(values, meaning)
    except ImageError as error:
        where = f"mask {name}: " if name else "mask: "
        raise MaskError(f"{where}{error.what}", found=error.found, expected=error.expected, do=error.do) from error


def given_mask(values: NDArray[np.uint8] | NDArray[np.uint16]) -> GivenMask:
    """The meaning of (H, W) values that nobody has said anything about.

    Raises
    ------
    MaskError : it can be read in more than one way, or in none.
    CellError : there is no cell in it.
    """
    if values.max(initial=0) > 255:
        raise MaskError("the mask has values above 255", found=_shares(values), expected="0, 128, 255 or 0, 1, 2")
    grey = np.ascontiguousarray(values, np.uint8)
    is_labels = bool(grey.max(initial=0) <= 2)
    scaled = np.asarray(cv2.LUT(grey, _OF_LABELS), np.uint8) if is_labels else grey
    if not (scaled >= _CELL_FROM).any():
        raise CellError("the mask holds no cell pixel", found=f"values up to {grey.max(initial=0)}")
    cell, nucleus = _two_levels(grey, scaled, is_labels=is_labels)
    _check_place(grey, cell, nucleus)
    every = [0, 1, 2] if is_labels else list(_LEVELS)
    drawn = every if nucleus is not None else [0, *_drawn_value(grey, cell, is_labels=is_labels)]
    return GivenMask(cell, nucleus, "/".join(map(str, drawn)))


def _drawn_value(grey: NDArray[np.uint8], cell: NDArray[np.bool_], *, is_labels: bool) -> list[int]:
    value = int(_counts(grey, cell.view(np.uint8)).argmax())
    return [value] if is_labels else [_LEVELS[_LEVEL_OF[value]]]


def _two_levels(
    grey: NDArray[np.uint8], scaled: NDArray[np.uint8], *, is_labels: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Cell and nucleus, None where one level alone is drawn, by the area of every level's plains."""
    spread = cv2.subtract(cv2.dilate(scaled, _WINDOW), cv2.erode(scaled, _WINDOW))
    plains = _counts(scaled, (spread <= (0 if is_labels else _UNEVEN)).view(np.uint8))
    counts = _counts(scaled)
    area = int(counts[_CELL_FROM:].sum())
    _check_plains(grey, plains, counts, area)
    plasm, inner = (int(part.sum()) for part in (plains[_CELL_FROM:_NUCLEUS_FROM], plains[_NUCLEUS_FROM:]))
    all_plasm, all_inner = (int(part.sum()) for part in (counts[_CELL_FROM:_NUCLEUS_FROM], counts[_NUCLEUS_FROM:]))
    if plasm >= _DOMINANT * area and inner >= _DOMINANT * area:
        return scaled >= _CELL_FROM, scaled >= _NUCLEUS_FROM
    if inner >= _DOMINANT * area:  # what is half-way is a soft rim, unless it is all at half-way
        between = counts[26:230]
        half_way = counts[CYTOPLASM_VALUE - 20 : CYTOPLASM_VALUE + 21].sum()
        # A rim of even fall has a fifth of its pixels there, and is narrower than what it surrounds.
        is_drawn = 2 * half_way > between.sum() or 4 * half_way > between.sum() > area / 2
        if is_labels or (all_plasm > _STRAY * area and is_drawn):
            raise MaskError(_RIM if all_plasm else _UNCLEAR, found=_shares(grey))
        return scaled >= CYTOPLASM_VALUE, None
    if plasm < _DOMINANT * area or all_inner > _STRAY * area:
        raise MaskError(_RIM, found=_shares(grey))
    return scaled >= _CELL_FROM, None


def _counts(values: NDArray[np.uint8], within: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    """How often each of 256 values occurs."""
    return np.asarray(cv2.calcHist([values], [0], within, [256], [0, 256]), np.float32).ravel()


def _check_plains(grey: NDArray[np.uint8], plains: NDArray[np.float32], counts: NDArray[np.float32], area: int) -> None:
    """Refuse plains between the levels, two of one level, and edges that are as wide as what they part."""
    gap = 0 if np.count_nonzero(counts) <= _FEW else _GAP
    usual = np.flatnonzero(plains > _DOMINANT * area)
    level = _LEVEL_OF[usual]
    is_torn = (np.diff(usual) > gap) & (np.diff(level) == 0)
    if is_torn.any() or plains[_IS_OFF].sum() > _DOMINANT * area:
        raise MaskError(_UNCLEAR, found=_shares(grey))
    if counts[_IS_OFF].sum() > _SOFT * area:
        raise MaskError(_BLURRED, found=_shares(grey))


def _check_place(grey: NDArray[np.uint8], cell: NDArray[np.bool_], nucleus: NDArray[np.bool_] | None) -> None:
    """Refuse a cell that lies along the frame, a nucleus that is not inside, and more cells than one."""
    frame = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
    if 2 * np.count_nonzero(frame) >= len(frame):
        raise MaskError(_FRAME, found=_shares(grey))
    holes = _check_single(cell, grey)
    if 10 * holes >= cv2.countNonZero(cell.view(np.uint8)):
        raise MaskError(_HOLLOW, found=_shares(grey))
    if nucleus is None:
        return
    plasm, outside = cell & ~nucleus, ~cell
    of_nucleus, open_nucleus = _touching(nucleus, plasm), _touching(nucleus, outside)
    open_plasm = _touching(plasm, outside)
    # Drawn by hand, at least 98 of 100 pixels around a nucleus are cytoplasm, and so many of those around the cell lie
    # beside cytoplasm. Two cells side by side share a quarter of theirs at most.
    if 3 * of_nucleus < of_nucleus + open_nucleus or 10 * open_plasm < open_plasm + open_nucleus:
        raise MaskError(_APART, found=_shares(grey))


def _check_single(cell: NDArray[np.bool_], values: NDArray) -> float:
    """Refuse more cells than one; the area of the holes in it."""
    areas, holes = _regions(cell)
    # A speck beside the cell is a slip of the pen.
    if len(areas) > 1 and 4 * areas[1] >= areas[0]:
        raise MaskError(_SEVERAL, found=f"areas of {areas[0]:.0f} and {areas[1]:.0f} pixels, values {_shares(values)}")
    return holes


def _regions(cell: NDArray[np.bool_]) -> tuple[list[float], float]:
    """Areas of the regions with their holes, the largest first; and of all holes together."""
    contours, tree = cv2.findContours(cell.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    areas, holes = [], 0.0
    for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True):
        # Pick's theorem: the pixels within a curve through pixel centres, with those on it, or without round a hole.
        if parent < 0:
            areas.append(cv2.contourArea(contour) + len(contour) / 2 + 1)
        else:
            holes += cv2.contourArea(contour) - len(contour) / 2 + 1
    return sorted(areas, reverse=True), holes


def _touching(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
    """Pixels of the other that have one of the one above, below or beside them."""
    return cv2.countNonZero(cv2.bitwise_and(cv2.dilate(one.view(np.uint8), _CROSS), other.view(np.uint8)))


# ---- as a user says -------------------------------------------------------------------------------------------------


def _as_said(values: NDArray, meaning: MaskLevels) -> GivenMask:
    """The meaning of values whose names were given: (H, W), or (H, W, 3) colours."""
    codes = values if values.ndim == 2 else _packed(values)
    if meaning.instance is not None:
        cell = codes == meaning.instance
        if not cell.any():
            raise MaskError(f"does not hold instance {meaning.write(meaning.instance)}", found=_shares(codes, meaning))
        return GivenMask(cell, None, f"instance {meaning.write(meaning.instance)}")
    named = [(value, role) for role in ROLES for value in getattr(meaning, role)]
    found, where = np.unique(codes, return_inverse=True)
    nearest = _nearest_named(found, [value for value, _ in named], codes, meaning)
    roles = np.array([ROLES.index(role) for _, role in named])[nearest][where.reshape(codes.shape)]
    cell = roles > 0
    if not cell.any():
        raise CellError("the mask holds no cell pixel", found=_shares(codes, meaning))
    _check_single(cell, codes)
    return GivenMask(cell, roles == 2 if meaning.nucleus else None, str(meaning))


def _packed(colours: NDArray) -> NDArray[np.int64]:
    red, green, blue = (colours[..., i].astype(np.int64) for i in range(3))
    return red << 16 | green << 8 | blue


def _nearest_named(found: NDArray, named: list[int], codes: NDArray, meaning: MaskLevels) -> NDArray[np.intp]:
    """Which of the named values every value goes to.

    One that nobody has named is noise where it lies beside one that somebody has, and a soft edge where it lies between
    two and covers no plain.
    """
    here, there = (_channels(values, meaning) for values in (found, np.array(named)))
    apart = np.abs(here[:, None] - there[None]).sum(axis=2)
    step = min((int(np.abs(one - other).sum()) for i, one in enumerate(there) for other in there[:i]), default=0)
    is_noise = apart.min(axis=1) <= min(_OFF, step // 3)
    is_between = ((here >= there.min(axis=0)) & (here <= there.max(axis=0))).all(axis=1)
    edge = np.isin(codes, found[~is_noise]).astype(np.uint8)
    plains = cv2.erode(edge, _WINDOW)
    if (~is_noise & ~is_between).any() or np.count_nonzero(plains) > _DOMINANT * codes.size:
        raise MaskError("holds values that --mask-levels does not name", found=_shares(codes, meaning))
    return apart.argmin(axis=1)


def _channels(values: NDArray, meaning: MaskLevels) -> NDArray[np.int64]:
    """int64 (n, 3) of colours, (n, 1) of anything else."""
    shifts = (16, 8, 0) if meaning.by == "colour" else (0,)
    return np.stack([values.astype(np.int64) >> shift & (0xFF if len(shifts) > 1 else 0xFFFF) for shift in shifts], 1)


def _shares(values: NDArray, meaning: MaskLevels | None = None) -> str:
    """The commonest values and their shares, in the order of the values: "0 (80%), 255 (20%)"."""
    found, counts = np.unique(values, return_counts=True)
    largest = np.sort(np.argsort(-counts, kind="stable")[:6])
    texts = [
        f"{found[at] if meaning is None else meaning.write(int(found[at]))} ({counts[at] / counts.sum():.1%})"
        for at in largest
    ]
    return ", ".join(texts) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
