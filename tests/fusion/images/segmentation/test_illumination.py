"""Fields whose light falls off are evened before a cell is looked for; all others stay as they are, to the byte."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.images.decoding import decode_image
from fusion.images.segmentation._black_background import without_bars
from fusion.images.segmentation._illumination import evened
from fusion.images.segmentation.segment import segment_cell, segment_nucleus
from tests.fusion.images.segmentation.test_segment import dice, field

REAL = Path(os.environ.get("FUSION_REAL_DATA", Path(__file__).parents[5] / "shared" / "data"))


def vignetted(rgb, at_corner=0.5):
    """The field through a lens that lets its corners have so much light."""
    y, x = (np.linspace(-1, 1, side) for side in rgb.shape[:2])
    return (rgb * (1 - (1 - at_corner) * (y[:, None] ** 2 + x**2) / 2)[..., None]).astype(np.uint8)


def tilted(rgb, least=0.6):
    """The same under a lamp that stands to the left."""
    return (rgb * np.linspace(1, least, rgb.shape[1])[None, :, None]).astype(np.uint8)


def spread(pixels):
    """How much darker the darkest of nine tenths of the pixels are than the lightest."""
    low, high = np.percentile(pixels[:, 1], [5, 95])
    return 1 - low / high


@pytest.mark.parametrize("uneven", [vignetted, tilted])
def test_uneven_light_is_evened_and_masks_are_those_of_even_light(uneven):
    rgb, cell, nucleus = field(side=240, centre=(120, 120), red_cells=((40, 120), (200, 40), (180, 200)))
    shown = uneven(rgb)
    slide = cv2.erode((rgb[..., 1] > 225).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert spread(shown[slide]) > 0.3
    assert spread(evened(shown)[slide]) < 0.1
    found = segment_cell(shown)
    assert dice(found, cell) > 0.96
    assert dice(segment_nucleus(shown, found), nucleus) > 0.95


def test_even_light_dark_cells_and_small_images_are_left_alone():
    rgb, *_ = field()
    assert evened(rgb) is rgb
    large = field(radius=76, nucleus_radius=50, red_cells=())[0]  # darker in the middle than at the corners
    assert evened(large) is large
    at_one_side = field(centre=(120, 80), radius=70, nucleus_radius=30, red_cells=())[0]
    assert evened(at_one_side) is at_one_side
    assert evened(rgb[:20]).shape == (20, 160, 3)
    plain = np.zeros((64, 64, 3), np.uint8)
    assert evened(plain) is plain


def test_bars_beside_a_vignetted_field_are_no_darkness_of_it():
    rgb, cell, _ = field(side=240, centre=(120, 120), red_cells=((40, 120), (200, 40), (180, 200)))
    padded = cv2.copyMakeBorder(vignetted(rgb), 0, 0, 60, 60, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    assert dice(segment_cell(padded)[:, 60:-60], cell) > 0.96


def _real(table, step):
    with (REAL / table).open() as file:
        rows = list(csv.DictReader(file))
    return [decode_image((REAL / table).parent.joinpath(row["path"]).read_bytes()) for row in rows[::step]]


@pytest.mark.skipif(not (REAL / "four-types.csv").exists(), reason="no real images: $FUSION_REAL_DATA")
def test_cells_of_four_real_laboratories_are_looked_at_as_they_are():
    images = _real("four-types.csv", 12)
    assert len(images) > 50
    for rgb in images:
        shown = rgb[without_bars(rgb)]
        assert evened(shown) is shown


@pytest.mark.skipif(not (REAL / "pbc-barcelona" / "labels.csv").exists(), reason="no real images: $FUSION_REAL_DATA")
def test_real_cells_through_a_poor_lens_keep_their_contours():
    images = _real("pbc-barcelona/labels.csv", 120)
    found = [dice(segment_cell(vignetted(rgb)), segment_cell(rgb)) for rgb in images]
    assert np.mean(found) > 0.95
    assert np.mean([each > 0.9 for each in found]) > 0.9
