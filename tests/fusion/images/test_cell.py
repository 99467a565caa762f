"""Bytes become pixels or a fault; pixels become a cell that keeps the masks' contract."""

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.images.cell import MARGIN, Cell, CellError, ImageError, decode_image, make_cell, read_cell
from fusion.images.decoding import decode_mask
from fusion.images.masks import read_mask
from tests.builders.images import paint, write_image


def encode(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tiff"])
def test_lossless_formats_give_their_pixels(suffix, tmp_path):
    rgb = paint()
    assert_array_equal(decode_image(write_image(tmp_path / f"cell{suffix}", rgb).read_bytes()), rgb)


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".jpg", ".tiff"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.98])
def test_a_truncated_image_is_never_taken_for_a_whole_one(suffix, kept):
    content = encode(suffix, paint(side=128, radius=40))
    with pytest.raises(ImageError):
        decode_image(content[: int(kept * len(content))])


def test_a_truncated_jpeg_with_a_thumbnail_is_still_truncated():
    thumbnail, image = encode(".jpg", paint(side=16, radius=5)), encode(".jpg", paint(side=128, radius=40))
    with_thumbnail = image[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + image[2:]
    assert decode_image(with_thumbnail).shape == (128, 128, 3)
    with pytest.raises(ImageError, match="cut short"):
        decode_image(with_thumbnail[:-200])


@pytest.mark.parametrize(
    "content", [b"", b"BM", b"hello, I am a text", b"\x89PNG\r\n\x1a\n" + b"IEND", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_told(content):
    with pytest.raises(ImageError):
        decode_image(content)


def test_grey_sixteen_bit_and_alpha_become_eight_bit_rgb():
    grey = paint()[..., 0]
    assert_array_equal(decode_image(encode(".png", grey)), np.stack([grey] * 3, axis=-1))
    assert_array_equal(decode_image(encode(".png", grey.astype(np.uint16) * 256)), np.stack([grey] * 3, axis=-1))
    assert decode_image(encode(".png", np.dstack([paint(), grey]))).shape == (64, 64, 3)


def test_masks_keep_their_values():
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7], mask[3:6, 3:6] = 128, 255
    assert_array_equal(decode_mask(encode(".png", mask)), mask)
    assert_array_equal(decode_mask(encode(".png", np.dstack([mask] * 3))), mask)
    assert_array_equal(decode_mask(encode(".png", (mask // 100).astype(np.uint16))), mask // 100)
    with pytest.raises(ImageError, match="above 255"):
        read_mask(encode(".png", mask.astype(np.uint16) * 200))


def two_level_mask():
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 20:50], mask[20:40, 25:45] = 128, 255
    return mask


def test_a_cell_is_its_bounding_box_with_a_margin():
    cell = make_cell(paint(), two_level_mask(), um_per_px=0.5)
    assert cell.origin == (10 - MARGIN, 20 - MARGIN)
    assert cell.rgb.shape == (40 + 2 * MARGIN, 30 + 2 * MARGIN, 3)
    assert (cell.mask.sum(), cell.nucleus.sum(), cell.cytoplasm.sum()) == (1200, 400, 800)
    assert cell.um_per_px == 0.5
    assert_array_equal(cell.rgb, paint()[2:58, 12:58])


def test_stray_mask_values_go_to_the_nearest_level_and_labels_mean_the_same():
    mask = two_level_mask()
    stray = np.where(mask == 128, 120, mask) + np.where(mask == 0, 9, 0) - np.where(mask == 255, 40, 0)
    for other in (stray.astype(np.uint8), np.searchsorted([0, 128, 255], mask).astype(np.uint8)):
        cell, expected = make_cell(paint(), other), make_cell(paint(), mask)
        assert_array_equal(cell.mask, expected.mask)
        assert_array_equal(cell.nucleus, expected.nucleus)


def test_a_mask_of_one_level_is_the_cell_and_the_nucleus_is_found_in_it():
    rgb = paint(side=128, radius=40)
    cell = make_cell(rgb, (rgb.any(axis=-1) * 255).astype(np.uint8))
    truth = 0.75**2
    assert cell.mask.sum() == rgb.any(axis=-1).sum()
    assert cell.nucleus.sum() / cell.mask.sum() == pytest.approx(truth, rel=0.1)


def test_on_black_the_cell_is_what_is_not_black():
    rgb = paint(side=128, radius=40)
    cell = make_cell(rgb)
    assert cell.mask.sum() == rgb.any(axis=-1).sum()


def test_no_cell_no_features(tmp_path):
    with pytest.raises(CellError, match="fully black"):
        make_cell(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(CellError, match="another size"):
        make_cell(paint(), np.ones((8, 8), np.uint8))
    with pytest.raises(CellError, match="no cell pixel"):
        make_cell(paint(), np.zeros((64, 64), np.uint8))
    with pytest.raises(ImageError, match="cannot be read"):
        read_cell(tmp_path / "gone.png")


def test_the_contract_is_checked_at_the_door():
    rgb, mask = paint(), np.ones((64, 64), bool)
    for wrong in (
        {"rgb": rgb.astype(float)},
        {"mask": mask[1:]},
        {"mask": np.zeros_like(mask)},
        {"mask": mask.astype(np.uint8)},
        {"mask": ~mask | (np.arange(64) < 5), "nucleus": mask},
    ):
        with pytest.raises(ValueError, match="must"):
            Cell(**{"rgb": rgb, "mask": mask, "nucleus": np.zeros_like(mask), **wrong})
