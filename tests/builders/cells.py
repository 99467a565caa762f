"""Cells in memory, and what an extractor measures of them."""

from __future__ import annotations

import cv2
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np

from fusion.images.cell import Cell


def irregular_cell(seed: int = 0, side: int = 96) -> Cell:
    """A lopsided cell with a bilobed nucleus at one side of it, mottled, on a mottled grey background."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    bulge = 0.7 + 0.1 * np.cos(3 * np.arctan2(y, x) + seed) + 0.08 * np.sin(np.arctan2(y, 1.3 * x))
    mask = np.hypot(y, 1.15 * x) < bulge
    nucleus = mask & ((np.hypot(y + 0.2, x + 0.1) < 0.3) | (np.hypot(y - 0.15, x - 0.25) < 0.25))
    noise = cv2.GaussianBlur(rng.normal(size=(side, side, 3)), (0, 0), 1.2) * 60
    colours = np.where(nucleus[..., None], [95, 55, 130], np.where(mask[..., None], [175, 150, 200], [225, 220, 225]))
    return Cell((colours + noise).clip(0, 255).astype(np.uint8), mask, nucleus)


def solid_cell(mask, nucleus=None, colour=(140, 90, 160)) -> Cell:
    """A cell of one colour on black."""
    mask = np.asarray(mask, bool)
    nucleus = np.zeros_like(mask) if nucleus is None else np.asarray(nucleus, bool)
    return Cell(np.where(mask[..., None], np.array(colour, np.uint8), np.uint8(0)), mask, nucleus)


def pad(cell: Cell, widths: tuple[int, int, int, int], colour: int) -> Cell:
    """The same cell with background of one grey value above, below, left and right of it."""
    rows, columns = widths[:2], widths[2:]
    rgb = np.pad(cell.rgb, (rows, columns, (0, 0)), constant_values=colour)
    return Cell(rgb, np.pad(cell.mask, (rows, columns)), np.pad(cell.nucleus, (rows, columns)))


def turned(cell: Cell, quarters: int, mirrored: bool) -> Cell:
    """The same cell turned by quarters of a circle, and mirrored."""
    parts = (np.rot90(part, quarters) for part in (cell.rgb, cell.mask, cell.nucleus))
    return Cell(*(part[:, ::-1] if mirrored else part for part in parts))


TURNS = [(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)][1:]


def degenerate_cells() -> dict[str, Cell]:
    """Cells at the edge of what the contract of masks allows."""
    full = np.ones((20, 20), bool)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (20, 20, 3), np.uint8)
    one, row, column, diagonal = (np.zeros((20, 20), bool) for _ in range(4))
    one[7, 9], row[5, 2:17], column[2:17, 5], diagonal[np.arange(20), np.arange(20)] = True, True, True, True
    inner = np.zeros((20, 20), bool)
    inner[5:12, 6:14] = True
    return {
        "one pixel": Cell(noise, one, np.zeros_like(one)),
        "one pixel, all nucleus": Cell(noise, one, one),
        "an image of one pixel": Cell(noise[:1, :1], full[:1, :1], full[:1, :1]),
        "one row": Cell(noise, row, row & one),
        "one row, all nucleus": Cell(noise, row, row),
        "one column": Cell(noise, column, np.zeros_like(column)),
        "one diagonal": Cell(noise, diagonal, np.zeros_like(diagonal)),
        "constant colour": solid_cell(full, inner),
        "black": solid_cell(full, inner, (0, 0, 0)),
        "white": solid_cell(full, inner, (255, 255, 255)),
        "empty nucleus": Cell(noise, full, np.zeros_like(full)),
        "no cytoplasm": Cell(noise, full, full),
        "nucleus of one pixel": Cell(noise, full, one),
        "touching the border": Cell(noise, full, inner),
        "with a hole": Cell(noise, full & ~one, inner & ~one),
        "pixels apart": Cell(noise, noise[..., 0] > 240, np.zeros_like(full)),
    }


@st.composite
def random_cells(draw) -> Cell:
    """Any cell up to 9 pixels wide, ragged and in parts."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rgb = draw(arrays.arrays(np.uint8, (*shape, 3)))
    mask = draw(arrays.arrays(bool, shape))
    mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    return Cell(rgb, mask, mask & draw(arrays.arrays(bool, shape)))


def measured(extractor, cell: Cell) -> dict[str, np.float32]:
    """Feature name to value."""
    return dict(zip(extractor.feature_names(), extractor.extract([cell])[0], strict=True))
