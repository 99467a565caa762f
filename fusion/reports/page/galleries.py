"""Galleries of judged cells: those of one class that were predicted one class, as many as a page can carry."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import Cell, CellError
from fusion.reports.page.judged_cells import JudgedCell, Places

#: Images on a page, half of them of misclassified cells: 300 JPEGs of this size are 1.1 MB, of 5 that a page may have.
IMAGES = 300

#: Side of an image in pixels, and JPEG's quality: grain of chromatin is still seen, and 2.8 kB are taken on average.
_SIDE, _QUALITY = 112, 82


@dataclass(frozen=True)
class Tile:
    """A judged cell and its image as a ``data:`` address, "" where the image is no longer at hand."""

    cell: JudgedCell
    image: str


@dataclass(frozen=True)
class Gallery:
    """Cells of class ``label`` that were predicted ``predicted``: ``count`` of them, of which some are shown."""

    label: str
    predicted: str
    count: int
    tiles: tuple[Tile, ...]

    @property
    def is_right(self) -> bool:
        """Whether they were predicted what they are."""
        return self.label == self.predicted


def galleries(judged: Sequence[JudgedCell], places: Places) -> list[Gallery]:
    """A gallery for each pair of class and prediction that occurs: misclassified cells first, the larger before the
    smaller.

    Of misclassified cells those are shown that the model was most surely wrong about, of the others an even choice from
    those it was least sure of to those it was surest of.
    """
    of: dict[tuple[str, str], list[JudgedCell]] = {}
    for cell in sorted(judged, key=lambda each: (each.probability, each.name)):
        of.setdefault((cell.label, cell.predicted), []).append(cell)
    wrong = {pair: len(cells) for pair, cells in of.items() if pair[0] != pair[1]}
    right = {pair: len(cells) for pair, cells in of.items() if pair[0] == pair[1]}
    # What one half leaves the other may have.
    half = max(IMAGES // 2, IMAGES - sum(right.values()))
    room = divide(wrong, half)
    room |= divide(right, IMAGES - sum(room.values()))
    found = []
    for pair in [
        *sorted(wrong, key=lambda one: (-wrong[one], one)),
        *sorted(right, key=lambda one: (-right[one], one)),
    ]:
        cells = of[pair]
        chosen = cells[: room[pair]] if pair in wrong else _evenly(cells, room[pair])
        found.append(Gallery(*pair, len(cells), tuple(Tile(cell, _image(cell.name, places)) for cell in chosen)))
    return found


def divide(wanted: Mapping[tuple[str, str], int], room: int) -> dict[tuple[str, str], int]:
    """How many of each may be shown: as alike as may be, none more than it has, together at most ``room``.

    >>> divide({("a", "b"): 2, ("b", "a"): 9}, 6)
    {('a', 'b'): 2, ('b', 'a'): 4}
    """
    left, found = room, {}
    for at, pair in enumerate(sorted(wanted, key=lambda one: (wanted[one], one))):
        found[pair] = min(wanted[pair], max(0, left) // (len(wanted) - at))
        left -= found[pair]
    return found


def _evenly(cells: Sequence[JudgedCell], count: int) -> list[JudgedCell]:
    """So many of the cells at even distances, the first and the last among them."""
    return [cells[at] for at in np.unique(np.linspace(0, len(cells) - 1, count).round().astype(int))] if count else []


def _image(name: str, places: Places) -> str:
    """The image of a cell, "" where it was moved or changed since it was measured: the page says so."""
    if name not in places:
        return ""
    try:
        return thumbnail(places[name].read_cell())
    except CellError:
        return ""


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of a small JPEG: the crop, its longer side filling the square."""
    height, width = cell.mask.shape
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(cell.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square: NDArray[np.uint8] = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    done, content = cv2.imencode(".jpg", cv2.cvtColor(square, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
