"""Masks where an image is made harder in a way whose truth is known: cells pasted to touch, cut by the border, larger
and smaller, grey, with an alpha channel, of 16 bits. Drawn cells, and real ones whose masks people have drawn.
"""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from fusion.images.cell import decode_image
from fusion.images.segmentation._smear_field import slide_colour
from fusion.images.segmentation.segment import segment_cell, segment_nucleus
from tests.fusion.images.segmentation.test_segment import REAL, dice, field


def scaled(image, factor):
    if image.dtype == bool:
        return scaled(image.astype(np.float32), factor) > 0.5
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=way)


def stored(bgr):
    """As it is read again from a PNG."""
    return decode_image(cv2.imencode(".png", bgr)[1].tobytes())


def with_alpha(rgb):
    return stored(np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255, np.uint8)]))


def of_16_bits(rgb):
    return stored(rgb[..., ::-1].astype(np.uint16) * 257)


def grey(rgb):
    return stored(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def cut_at_left(rgb, cell, nucleus, share):
    """The image without what lies left of a share of the cell's width."""
    left, _, width, _ = cv2.boundingRect(cell.view(np.uint8))
    cut = left + int(share * width)
    return tuple(np.ascontiguousarray(array[:, cut:]) for array in (rgb, cell, nucleus))


def scores(rgb, cell, nucleus):
    found = segment_cell(rgb)
    return dice(found, cell), dice(segment_nucleus(rgb, found), nucleus)


# ---- drawn


@pytest.mark.parametrize(("side", "of_cell", "of_nucleus"), [(60, 0.96, 0.96), (1000, 0.97, 0.97)])
def test_a_drawn_cell_is_found_at_any_size(side, of_cell, of_nucleus):
    drawn = [scaled(array, side / 160) for array in field()]
    cell, nucleus = scores(*drawn)
    assert cell > of_cell
    assert nucleus > of_nucleus


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("turns", range(4))
def test_a_drawn_cell_is_found_at_every_border(turns, share):
    cut = [np.ascontiguousarray(np.rot90(array, turns)) for array in cut_at_left(*field(), share)]
    cell, nucleus = scores(*cut)
    assert cell > 0.93
    assert nucleus > 0.93


@pytest.mark.parametrize("change", [with_alpha, of_16_bits])
def test_the_masks_do_not_depend_on_how_an_image_is_stored(change):
    rgb, *_ = field()
    np.testing.assert_array_equal(segment_cell(change(rgb)), segment_cell(rgb))


def test_a_drawn_cell_is_found_without_colours():
    rgb, cell, nucleus = field(red_cells=())
    of_cell, of_nucleus = scores(grey(rgb), cell, nucleus)
    assert of_cell > 0.93
    assert of_nucleus > 0.93


# ---- real


@pytest.fixture(scope="module")
def real_cells():
    """Every twelfth: (rgb, cell, nucleus) each, as people have drawn them."""
    if not (REAL / "labels.csv").exists():
        pytest.skip(f"no real cells with drawn masks in {REAL}")
    with (REAL / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::12]
    masks = [cv2.imread(str(REAL / row["mask"]), cv2.IMREAD_GRAYSCALE) for row in rows]
    return [
        (decode_image((REAL / row["path"]).read_bytes()), mask >= 64, mask >= 192)
        for row, mask in zip(rows, masks, strict=True)
    ]


@pytest.mark.parametrize("side", [60, 1000])
def test_real_cells_have_the_same_mask_at_any_size(real_cells, side):
    """Measured on all: at least 0.95 and 0.98 on average. Half a pixel around a cell 30 pixels wide are 0.97."""
    found = []
    for rgb, *_ in real_cells[::3]:
        factor = side / max(rgb.shape[:2])
        found.append(dice(segment_cell(scaled(rgb, factor)), scaled(segment_cell(rgb), factor)))
    assert min(found) > 0.94
    assert np.mean(found) > 0.97


def test_real_cells_are_found_at_the_border(real_cells):
    """Three tenths of each are cut off. Measured on these: 0.974, as against 0.978 of whole ones; of 60 others 2 have
    less than 0.9."""
    cells, nuclei = np.array([scores(*cut_at_left(*real, 0.3)) for real in real_cells]).T
    assert min(cells) > 0.93
    assert np.mean(cells) > 0.965
    assert np.mean(nuclei) > 0.95


def test_real_cells_are_found_without_colours(real_cells):
    """Measured on these: 0.971, one of them 0.84."""
    cells, nuclei = np.array([scores(grey(rgb), cell, nucleus) for rgb, cell, nucleus in real_cells]).T
    assert np.mean(cells) > 0.96
    assert np.mean(nuclei) > 0.93


def test_of_real_cells_pasted_to_touch_the_one_in_the_middle_is_taken(real_cells):
    """Measured: one of these 25 is below 0.9; of 60 pairs of others 5, one of them the wrong cell. Before cells were
    parted 25 of those 60 were."""
    found = []
    for index, (rgb, cell, _) in enumerate(real_cells):
        other = similar(real_cells, index)
        if other is not None:
            pasted, truth = touching((rgb, cell), other, turn=2.4 * index)
            found.append(dice(segment_cell(pasted), truth))
    assert len(found) >= 20
    assert np.mean(np.array(found) > 0.9) > 0.9
    assert np.mean(found) > 0.94


def similar(cells, index):
    """The next cell, (rgb, cell), of like size on a like slide; None where there is none."""
    rgb, cell, _ = cells[index]
    for other, of_other, _ in cells[index + 1 :] + cells[:index]:
        if np.abs(slide_colour(other) - slide_colour(rgb)).max() < 25 and 0.6 < of_other.sum() / cell.sum() < 1.6:
            return other, of_other
    return None


def touching(cell, other, turn):
    """A cell in the middle of an empty slide and another that touches it in that direction: the image, and the mask of
    the first."""
    side = 3 * max(*cell[0].shape, *other[0].shape)
    canvas = np.random.default_rng(0).normal(slide_colour(cell[0]), 2, (side, side, 3))
    first = moved(cell[1], side, (0, 0))
    nearest = (cv2.boundingRect(cell[1].view(np.uint8))[2] + cv2.boundingRect(other[1].view(np.uint8))[2]) // 3
    for distance in range(nearest, side):
        second = moved(other[1], side, (distance * np.cos(turn), distance * np.sin(turn)))
        if not (first & second).any():
            break
    canvas[second], canvas[first] = other[0][other[1]], cell[0][cell[1]]
    return cv2.GaussianBlur(canvas, (0, 0), 0.7).clip(0, 255).astype(np.uint8), first


def moved(mask, side, offset):
    """A mask whose centroid lies that far (x, y) from the middle of a square."""
    rows, columns = np.nonzero(mask)
    canvas = np.zeros((side, side), bool)
    down, right = round(side / 2 + offset[1] - rows.mean()), round(side / 2 + offset[0] - columns.mean())
    canvas[rows + down, columns + right] = True
    return canvas
