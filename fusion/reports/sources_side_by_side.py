"""One image with the sources of a data set beside each other: what a number calls a shift, a person sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, Sample
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.reports.contact_sheets import OverlayError, even_spread
from fusion.reports.png import write_png

Image = NDArray[np.uint8]

#: The file, and how many cells of each source stand in a column below its name: four of each of two classes.
NAME, ROWS = "sources.png", 8

#: Cells beside each other in a source's column, sources on a sheet, and a tile's side in pixels.
_BESIDE, _MOST, _SIDE = 2, 6, 128

_GAP, _WIDE, _LINE = 4, 18, 20
_PAPER, _INK, _PALE, _BEYOND = (255, 255, 255), (30, 30, 30), (110, 110, 110), 235

#: Middle of a cell (y, x) and how far from there a tile must reach.
_PathType = tuple[int, int, int]


def draw_sources(
    dataset: Dataset, folder: Path, *, seed: int = 0, progress: Callable[[int, int, int], None] | None = None
) -> Path:
    """Write ``sources.png``: for each source, cells of the same classes in the same rows, all at the same scale.

    A tile shows as many source pixels in every column, so that a cell that looks larger is larger in its image.
    Nothing is normalised. Of more than six sources the six with the most cells are drawn. Same data and seed, same
    image.

    Raises
    ------
    OverlayError : ``folder`` cannot be written.
    """
    by_source: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.source is not None:
            by_source.setdefault(sample.source, []).append(sample)
    sources = sorted(sorted(by_source, key=lambda name: (-len(by_source[name]), name))[:_MOST])
    places = _places({name: _chosen(dataset, by_source[name], seed) for name in sources}, progress)
    needed = [place[2] for part in places.values() for _, place in part if place is not None]
    # The largest cell fits, but what was taken for a cell and is a whole field does not shrink all others.
    reach = min(max(needed), 2 * int(np.median(needed))) if needed else 1
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_png(path, _sheet(places, reach))
    except OSError as error:
        raise OverlayError(
            f"cannot write contact sheets to {folder}", found=error.strerror or str(error), do="Name another folder."
        ) from error
    return path


def _places(
    chosen: Mapping[str, Sequence[Sample]], progress: Callable[[int, int, int], None] | None
) -> dict[str, list[tuple[Sample, _PathType | None]]]:
    """Of each source the chosen cells, and where in its image each is."""
    total, done = sum(len(part) for part in chosen.values()), 0
    places: dict[str, list[tuple[Sample, _PathType | None]]] = {name: [] for name in chosen}
    for name, samples in chosen.items():
        for sample in samples:
            places[name].append((sample, _place(sample)))
            done += 1
            if progress is not None:
                progress(done, total, 0)
    return places


def _chosen(dataset: Dataset, samples: list[Sample], seed: int) -> list[Sample]:
    """Cells of one source, as many of each class, of different subjects as far as they go, class by class."""
    own = replace(dataset, samples=tuple(samples))
    return [own.samples[at] for at in even_spread(own, ROWS * _BESIDE, seed)]


def _place(sample: Sample) -> _PathType | None:
    """Middle of the cell, and half the side that shows it and a quarter more; None where there is no cell."""
    try:
        rgb = decode_image(read_bytes(sample.path))
        cell = make_cell(rgb, sample.read_mask())
    except CellError:  # it is among the faults of whoever measures it, and here an empty tile
        return None
    rows, columns = (np.flatnonzero(cell.mask.any(axis=axis)) for axis in (1, 0))
    needed = math.ceil(0.625 * max(np.ptp(rows), np.ptp(columns))) + 1
    return cell.origin[0] + int(rows[0] + rows[-1]) // 2, cell.origin[1] + int(columns[0] + columns[-1]) // 2, needed


def _tile(sample: Sample, place: _PathType, reach: int) -> Image:
    """uint8 (side, side, 3): ``reach`` pixels to each side of the middle, grey beyond the image."""
    rgb = decode_image(read_bytes(sample.path))
    square = np.full((2 * reach + 1, 2 * reach + 1, 3), _BEYOND, np.uint8)
    y, x = place[0] - reach, place[1] - reach
    shown = rgb[max(0, y) : y + len(square), max(0, x) : x + len(square)]
    top, left = max(0, -y), max(0, -x)
    square[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    how = cv2.INTER_AREA if len(square) > _SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (_SIDE, _SIDE), interpolation=how), np.uint8)


def _sheet(seen: Mapping[str, Sequence[tuple[Sample, _PathType | None]]], reach: int) -> Image:
    column = _BESIDE * (_SIDE + _GAP) + _WIDE
    classes = sorted({sample.label or "" for part in seen.values() for sample, _ in part})
    rows = {label: max(_rows(part, label) for part in seen.values()) for label in classes}
    label_wide = max((_width(label) for label in classes), default=0) + _WIDE
    high = 2 * _LINE + sum(count * (_SIDE + _GAP) + _WIDE for count in rows.values())
    paper = np.full((high, label_wide + len(seen) * column, 3), _PAPER, np.uint8)
    top = 2 * _LINE
    for label, count in rows.items():
        _write(paper, label, _GAP, top + _LINE, _INK)
        for number, (name, part) in enumerate(seen.items()):
            left = label_wide + number * column
            _write(paper, _short(name, column - _WIDE), left, _LINE, _INK)
            own = [(sample, place) for sample, place in part if (sample.label or "") == label]
            for at, (sample, place) in enumerate(own):
                y, x = top + at // _BESIDE * (_SIDE + _GAP), left + at % _BESIDE * (_SIDE + _GAP)
                if place is None:
                    _write(paper, "no cell", x + _GAP, y + _LINE, _PALE)
                else:
                    paper[y : y + _SIDE, x : x + _SIDE] = _tile(sample, place, reach)
        top += count * (_SIDE + _GAP) + _WIDE
    return paper


def _rows(part: Sequence[tuple[Sample, _PathType | None]], label: str) -> int:
    return -(-sum((sample.label or "") == label for sample, _ in part) // _BESIDE)


_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.48


def _width(text: str) -> int:
    return int(cv2.getTextSize(_plain(text), _FONT, _FONT_SCALE, 1)[0][0])


def _short(text: str, room: int) -> str:
    while len(text) > 4 and _width(text) > room:
        text = f"{text[:-4]}..."
    return text


def _write(paper: Image, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(paper, _plain(text), (x, y), _FONT, _FONT_SCALE, colour, 1, cv2.LINE_AA)


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode()  # the font knows no other letters
