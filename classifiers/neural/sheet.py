"""A picture of what the network sees: cells as they come, and varied as in training."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from classifiers.neural.augmentation import Augmentation, augment
from fusion.inputs import CellInputs

#: Cells on a sheet, and variations of each beside it: what fits a screen.
CELLS, VARIATIONS = 6, 5

#: Side in pixels of a cell on the sheet, height of the line above it, and space between.
_SIDE, _LINE, _GAP = 160, 22, 6


def batch_sheet(
    inputs: CellInputs, labels: Sequence[str], how: Augmentation, seed: int, *, is_black: bool
) -> NDArray[np.uint8]:
    """uint8 RGB: a row for each of some cells, evenly drawn from the classes; first as it is, then varied."""
    rows = _spread(labels, seed)
    raw = inputs.pictures(rows)
    x = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
    draw = torch.Generator().manual_seed(seed)
    varied = [augment(x, how, draw, is_black=is_black) for _ in range(VARIATIONS)]
    columns = [raw, *((255 * v).round().byte().permute(0, 2, 3, 1).numpy() for v in varied)]
    step = _SIDE + _GAP
    sheet = np.full((len(rows) * (step + _LINE) + _GAP, len(columns) * step + _GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        top = _GAP + i * (step + _LINE)
        _write(sheet, f"{labels[row]}: as it is, then varied", (_GAP, top + _LINE - 7))
        for j, column in enumerate(columns):
            left = _GAP + j * step
            shown = cv2.resize(column[i], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            sheet[top + _LINE : top + _LINE + _SIDE, left : left + _SIDE] = shown
    return sheet


def _spread(labels: Sequence[str], seed: int) -> NDArray[np.intp]:
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
