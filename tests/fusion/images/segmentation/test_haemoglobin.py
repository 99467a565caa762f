"""Red cells by their hue: found where the image shows it, and nothing said where it does not."""

import cv2
import numpy as np
import pytest

from fusion.images.segmentation._haemoglobin import red_cells
from fusion.images.segmentation.segment import segment_cell

SLIDE = np.array([225, 225, 220], np.float32)

#: Optical densities of red, green and blue: chromatin, cytoplasm, and a red cell as dense in green as the cytoplasm.
CHROMATIN, CYTOPLASM, RED_CELL = (0.7, 1.1, 0.25), (0.1, 0.3, 0.03), (0.12, 0.3, 0.2)


def field(red_cell=RED_CELL):
    """A white cell with a red cell against it and others beside; the image, its cell and its nucleus."""
    density = np.zeros((160, 160, 3), np.float32)
    for middle in ((80, 119), (25, 30), (135, 28), (25, 130), (132, 132)):
        cv2.circle(density, middle[::-1], 18, red_cell, -1)
    cell, nucleus = (np.zeros((160, 160), np.uint8) for _ in range(2))
    cv2.circle(cell, (78, 80), 28, 1, -1)
    cv2.circle(nucleus, (75, 80), 18, 1, -1)
    density[cell > 0], density[nucleus > 0] = CYTOPLASM, CHROMATIN
    light = SLIDE * np.exp(-density) + np.random.default_rng(0).normal(0, 2, density.shape)
    return cv2.GaussianBlur(np.clip(light, 0, 255).astype(np.uint8), (0, 0), 1.2), cell > 0, nucleus > 0


def test_red_cells_as_dense_as_the_cytoplasm_are_told_by_their_hue():
    rgb, cell, nucleus = field()
    red = red_cells(rgb, SLIDE, nucleus, 0.05)
    assert red is not None
    assert red[80, 122]
    assert red[25, 30]
    assert red[cell & ~nucleus].mean() < 0.1


@pytest.mark.parametrize("hue", [CYTOPLASM, (0.1, 0.3, 0.05)], ids=["the same", "nearly"])
def test_nothing_is_said_where_red_cells_have_the_hue_of_the_cytoplasm(hue):
    rgb, _, nucleus = field(hue)
    assert red_cells(rgb, SLIDE, nucleus, 0.05) is None


def test_a_red_cell_that_touches_is_no_part_of_the_contour():
    rgb, cell, _ = field()
    found = segment_cell(rgb)
    assert 2 * (found & cell).sum() / (found.sum() + cell.sum()) > 0.97


def test_an_image_too_small_to_tell_has_no_red_cells():
    tiny = np.full((10, 10, 3), 200, np.uint8)
    assert red_cells(tiny, SLIDE, np.eye(10, dtype=bool), 0.05) is None
