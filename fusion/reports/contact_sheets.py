"""Contact sheets: cells with the contours that would be measured, many on a page, to be looked at.

No number says whether masks are right; a person sees it in a second. Each tile is a cell with some of its
surroundings, the contours of cell and nucleus, the class and the file name. An image without a measurable cell is
an empty tile that says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, Fault
from fusion.errors import FusionError
from fusion.images.cell import Cell, CellError, decode_image, make_cell, read_bytes
from fusion.reports.png import write_png

Image = NDArray[np.uint8]

#: Contours of cell and nucleus, RGB: vermilion and sky blue, which every kind of colour vision tells apart and which
#: stand out on purple, white and black. Source: Okabe and Ito (2008), Color Universal Design.
CELL_COLOUR, NUCLEUS_COLOUR = (213, 94, 0), (86, 180, 233)

#: Tiles across and down a sheet, and a tile's side in pixels: a sheet then fits a screen without being scaled.
ACROSS, DOWN, SIDE = 6, 4, 240

#: What a cell's lightest parts are brightened to, and by how much at most: cells of C-NMC have a mean of 60 of 255.
_LIGHT, _MOST_BRIGHTENED = 190.0, 4.0

#: Pixels of the drawing between the edge of a cell and its line, so that a nucleus that fills the cell keeps its own.
_APART = 2

# Two lines of caption under each tile, and one line above the sheet.
_LINE, _GAP = 17, 6
_PAPER, _INK, _PALE = (255, 255, 255), (30, 30, 30), (110, 110, 110)


class OverlayError(FusionError):
    """The sheets cannot be written."""


@dataclass(frozen=True)
class Tile:
    """An image with contours, None where there is none to show, and two lines of text."""

    image: Image | None
    title: str
    caption: str


@dataclass(frozen=True)
class Overlays:
    """What was drawn: the sheets in order, how many of how many images, and those without a measurable cell."""

    folder: Path
    sheets: tuple[Path, ...]
    drawn: int
    images: int
    faults: tuple[Fault, ...]


def draw_dataset(
    dataset: Dataset,
    folder: Path,
    *,
    limit: int = 0,
    seed: int = 0,
    progress: Callable[[int, int, int], None] | None = None,
) -> Overlays:
    """Contact sheets of a data set in ``folder``, in the order of class, subject and name.

    Parameters
    ----------
    limit : images to draw, spread evenly over classes and their subjects; 0 draws all.
    seed : of the choice of images. Same data, limit and seed, same sheets.
    progress : called with (drawn, to draw, faults).

    Raises
    ------
    OverlayError : ``folder`` cannot be written. A bad image raises nothing: it is a tile and a fault.
    """
    chosen = even_spread(dataset, limit, seed)
    faults: list[Fault] = []

    def tiles() -> Iterator[Tile]:
        for done, at in enumerate(chosen, 1):
            sample = dataset.samples[at]
            name = dataset.name_of(sample)
            title = ", ".join(word for word in (sample.label, sample.subject and f"subject {sample.subject}") if word)
            try:
                rgb = decode_image(read_bytes(sample.path))
                image = with_contours(rgb, make_cell(rgb, sample.read_mask()))
                yield Tile(image, title, name)
            except CellError as error:
                faults.append(Fault(sample.path, "cell", error.what + (f" ({error.found})" if error.found else "")))
                yield Tile(None, error.what, name)
            if progress is not None:
                progress(done, len(chosen), len(faults))

    sheets = write_sheets(folder, tiles(), len(chosen))
    return Overlays(folder, tuple(sheets), len(chosen), len(dataset), tuple(faults))


def even_spread(dataset: Dataset, limit: int, seed: int) -> list[int]:
    """Positions of ``limit`` samples (0: all), as even over classes and, within each, over subjects as they allow."""
    samples = dataset.samples
    shuffled = np.random.default_rng(seed).permutation(len(samples)).tolist()
    of_subject: dict[tuple, int] = {}
    turn = {}
    for at in shuffled:  # a subject's first image comes before any subject's second
        subject = (samples[at].label, samples[at].subject)
        turn[at] = of_subject[subject] = of_subject.get(subject, -1) + 1
    of_class: dict[str | None, int] = {}
    rank = {}
    for at in sorted(shuffled, key=turn.__getitem__):
        label = samples[at].label
        rank[at] = of_class[label] = of_class.get(label, -1) + 1
    chosen = sorted(shuffled, key=lambda at: (rank[at], samples[at].label or ""))[: limit or None]
    return sorted(chosen, key=lambda at: (samples[at].label or "", samples[at].subject or "", str(samples[at].path)))


def with_contours(rgb: Image, cell: Cell, side: int = SIDE) -> Image:
    """uint8 (side, side, 3): the cell in its image with some of its surroundings, and both contours one pixel wide.

    A dark cell is brightened (see ``brightening``). The nucleus has its line on its outermost pixels, the cell just
    outside of itself: where both end together both lines are seen.

    ``rgb`` is the whole image that ``cell`` was cut from.
    """
    top, left = cell.origin
    rows, columns = (np.flatnonzero(cell.mask.any(axis=axis)) for axis in (1, 0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    # A square half as wide again as the cell shows what the contour might have missed.
    reach = math.ceil(0.75 * max(height, width))
    middle = top + (rows[0] + rows[-1]) // 2, left + (columns[0] + columns[-1]) // 2
    y, x = (slice(max(0, at - reach), at + reach + 1) for at in middle)
    masks = np.zeros((*rgb.shape[:2], 2), np.uint8)
    masks[top : top + cell.mask.shape[0], left : left + cell.mask.shape[1]] = np.dstack([cell.mask, cell.nucleus])
    bright = np.clip(rgb[y, x] * brightening(cell), 0, 255).astype(np.uint8)
    return _drawn(bright, masks[y, x, 0], masks[y, x, 1], side)


def brightening(cell: Cell) -> float:
    """The factor, 1 to 4, by which a cell too dark to be looked at is shown brighter; what is measured stays as it is.

    Takes the 95th percentile of the cell's grey to 190, where it is below.
    """
    light = float(np.percentile(cell.rgb[cell.mask].mean(axis=1), 95))
    return min(max(_LIGHT / max(light, 1.0), 1.0), _MOST_BRIGHTENED)


def contour_lines(mask: NDArray[np.bool_], outwards: int = 0) -> list[NDArray[np.int32]]:
    """int32 (n, 2) each, x and y: the outermost pixels of what is set and those round its holes, ``outwards`` pixels
    further out."""
    filled = np.pad(mask.astype(np.uint8), outwards)
    if outwards:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * outwards + 1, 2 * outwards + 1))
        filled = np.asarray(cv2.dilate(filled, disc), np.uint8)
    contours, _ = cv2.findContours(filled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(-outwards, -outwards))
    return [np.asarray(contour[:, 0], np.int32) for contour in contours]


def _drawn(rgb: Image, cell: NDArray, nucleus: NDArray, side: int) -> Image:
    scale = side / max(rgb.shape[:2])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    tile = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for mask, colour, outwards in ((nucleus, NUCLEUS_COLOUR, 0), (cell, CELL_COLOUR, _APART)):
        large = cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
        cv2.drawContours(tile, contour_lines(large > 127, outwards), -1, colour, 1, cv2.LINE_AA)
    square = np.full((side, side, 3), _PAPER, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = tile
    return square


# ---- sheets ---------------------------------------------------------------------------------------------------------


def write_sheets(folder: Path, tiles: Iterable[Tile], total: int) -> list[Path]:
    """Write ``total`` tiles as ``overlays-001.png`` and so on, 24 a sheet; sheets of an earlier run are replaced.

    Raises
    ------
    OverlayError : the folder cannot be written.
    """
    per_sheet = ACROSS * DOWN
    written: list[Path] = []
    page: list[Tile] = []
    sheets = math.ceil(total / per_sheet)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("overlays-[0-9][0-9][0-9].png"):
            old.unlink()
        for done, tile in enumerate(tiles, 1):
            page.append(tile)
            if len(page) == per_sheet or done == total:
                written.append(folder / f"overlays-{len(written) + 1:03d}.png")
                write_png(written[-1], sheet(page, f"sheet {len(written)} of {sheets}"))
                page = []
    except OSError as error:
        raise OverlayError(
            f"cannot write contact sheets to {folder}", found=error.strerror or str(error), do="Name another folder."
        ) from error
    return written


def sheet(tiles: Sequence[Tile], heading: str) -> Image:
    """Up to 24 tiles with what the colours mean above them."""
    rows = math.ceil(len(tiles) / ACROSS)
    high, wide = SIDE + 2 * _LINE + _GAP, SIDE + _GAP
    paper = np.full((_LINE + 2 * _GAP + rows * high, ACROSS * wide + _GAP, 3), _PAPER, np.uint8)
    _heading(paper, heading)
    for at, tile in enumerate(tiles):
        top, left = _LINE + 2 * _GAP + at // ACROSS * high, _GAP + at % ACROSS * wide
        place = paper[top : top + SIDE, left : left + SIDE]
        if tile.image is None:
            cv2.rectangle(paper, (left, top), (left + SIDE - 1, top + SIDE - 1), _PALE, 1)
            for number, line in enumerate(_wrapped(tile.title)):
                _write(paper, line, left + _GAP, top + (number + 2) * _LINE, _INK)
        else:
            place[:] = tile.image
            _write(paper, _fitting(tile.title), left, top + SIDE + _LINE - 4, _INK)
        _write(paper, _fitting(tile.caption), left, top + SIDE + 2 * _LINE - 4, _PALE)
    return paper


def _heading(paper: Image, heading: str) -> None:
    left = _GAP
    for word, colour in (("cell", CELL_COLOUR), ("nucleus", NUCLEUS_COLOUR)):
        cv2.line(paper, (left, _GAP + _LINE // 2), (left + 24, _GAP + _LINE // 2), colour, 2)
        _write(paper, word, left + 30, _GAP + _LINE - 4, _INK)
        left += 42 + _text_width(word)
    _write(paper, f"{heading}; dark cells are shown brighter than they are", left + 12, _GAP + _LINE - 4, _PALE)


_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def _write(paper: Image, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(paper, text, (x, y), _FONT, _FONT_SCALE, colour, 1, cv2.LINE_AA)


def _fitting(text: str) -> str:
    """Shortened in its middle to the width of a tile: a file name is told by its end."""
    text = text.encode("ascii", "replace").decode()  # the font knows no other letters
    if _text_width(text) <= SIDE:
        return text
    kept = len(text)
    while kept > 2 and _text_width(short := f"{text[: kept // 3]}...{text[-(kept - kept // 3) :]}") > SIDE:
        kept -= 1
    return short


def _wrapped(text: str) -> list[str]:
    """Lines no wider than a tile."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _text_width(longer) > SIDE - 2 * _GAP and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_fitting(line) for line in lines]
