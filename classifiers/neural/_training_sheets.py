"""Images of what the network sees, and of where in it it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from classifiers.neural.augmentation import Augmentation, augment
from fusion.data.classifier_inputs import CellInputs

#: Cells on a sheet, and variations of each beside it: what fits a screen.
CELLS, VARIATIONS = 6, 5

#: Side in pixels of a cell on the sheet, height of the line above it, and space between.
_SIDE, _LINE, _GAP = 160, 22, 6


def batch_sheet(
    inputs: CellInputs, labels: Sequence[str], how: Augmentation, seed: int, *, is_black: bool
) -> NDArray[np.uint8]:
    """uint8 RGB: a row for each of some cells, evenly drawn from the classes; first as it is, then varied."""
    rows = spread(labels, seed)
    raw = inputs.images(rows)
    x = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
    draw = torch.Generator().manual_seed(seed)
    augmented = [augment(x, how, draw, is_black=is_black) for _ in range(VARIATIONS)]
    columns = [raw, *((255 * v).round().byte().permute(0, 2, 3, 1).numpy() for v in augmented)]
    return _laid_out(columns, [f"{labels[row]}: as it is, then varied" for row in rows])


def attention_sheet(
    images: NDArray[np.uint8], maps: Mapping[str, NDArray[np.float32]], labels: Sequence[str]
) -> NDArray[np.uint8]:
    """uint8 RGB: a row for each cell, as it is and under the map of each method; a colour bar from 0 to 1 on the right.

    Parameters
    ----------
    images : uint8 (n, S, S, 3).
    maps : method -> float (n, S, S) in [0, 1].
    labels : n lines, one above each cell.
    """
    columns = [
        images,
        *(np.stack([overlay(p, m) for p, m in zip(images, of, strict=True)]) for of in maps.values()),
    ]
    sheet = _laid_out(columns, [f"{line}: as it is, {', '.join(maps)}" for line in labels])
    height = len(sheet) - 2 * _LINE
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, None].repeat(18, axis=1)
    bar = np.full((len(sheet), 64, 3), 255, np.uint8)
    bar[_LINE:-_LINE, 8:26] = _coloured(ramp)
    for text, at in (("1", _LINE + 5), ("0.5", len(sheet) // 2 + 5), ("0", len(sheet) - _LINE + 5)):
        _write(bar, text, (30, at))
    return np.hstack([sheet, bar])


def overlay(image: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 RGB (S, S, 3): the image in grey, coloured the more the larger the map is there."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colours = _coloured((255 * strength).round().astype(np.uint8))
    share = 0.65 * strength[..., None]
    return ((1 - share) * grey + share * colours).round().astype(np.uint8)


def _coloured(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB))


def _laid_out(columns: Sequence[NDArray[np.uint8]], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Every column's n images below each other, a line of text above each row."""
    step = _SIDE + _GAP
    sheet = np.full((len(lines) * (step + _LINE) + _GAP, len(columns) * step + _GAP, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        top = _GAP + i * (step + _LINE)
        _write(sheet, line, (_GAP, top + _LINE - 7))
        for j, column in enumerate(columns):
            left = _GAP + j * step
            shown = cv2.resize(column[i], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            sheet[top + _LINE : top + _LINE + _SIDE, left : left + _SIDE] = shown
    return sheet


def spread(labels: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Rows of ``CELLS`` cells, the classes in turn."""
    draw = np.random.default_rng(seed)
    codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)[1]
    order = draw.permutation(len(codes))
    turn = np.zeros(len(codes), np.intp)
    for code in np.unique(codes):
        own = order[codes[order] == code]
        turn[own] = np.arange(len(own))
    return np.lexsort((codes, turn))[:CELLS]


def _write(sheet: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's letters know no others
    cv2.putText(sheet, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
