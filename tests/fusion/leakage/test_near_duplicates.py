"""Near-duplicates are found under turns, mirroring and light, and different cells are not taken for one."""

import cv2
import numpy as np
import pytest

from fusion.data.dataset import load_dataset
from fusion.leakage.near_duplicates import image_hash, near_duplicates, near_pairs
from tests.builders.images import paint, real_data, write_image

#: Bits of 256: what the tests and the configuration's text recommend.
THRESHOLD = 24


def bits(first, second):
    found = near_pairs(np.stack([image_hash(first), image_hash(second)]), 256)
    return found[0][2]


COPIES = {
    "turned": lambda rgb: np.rot90(rgb),
    "mirrored": lambda rgb: rgb[:, ::-1],
    "turned and mirrored": lambda rgb: np.rot90(rgb[::-1], 3),
    "in a black margin": lambda rgb: np.pad(rgb, ((30, 5), (9, 50), (0, 0))),
    "darker": lambda rgb: (rgb * 0.8).astype(np.uint8),
    "noisy": lambda rgb: np.clip(rgb + np.random.default_rng(0).normal(0, 3, rgb.shape) * (rgb > 0), 0, 255).astype(
        np.uint8
    ),
    "JPEG of quality 75": lambda rgb: cv2.imdecode(
        cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR
    ),
    "smaller": lambda rgb: cv2.resize(rgb, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize("how", COPIES)
def test_an_altered_copy_is_near(how):
    rgb = paint(3, side=128, radius=50)
    assert bits(rgb, np.ascontiguousarray(COPIES[how](rgb))) <= THRESHOLD


def test_other_cells_are_far():
    hashes = np.stack([image_hash(paint(seed, side=128, radius=50)) for seed in range(40)])
    assert near_pairs(hashes, 2 * THRESHOLD) == []


def test_other_real_cells_are_far():
    folder = real_data("seg-wbc-1") / "images"
    hashes = []
    for file in sorted(folder.iterdir())[:120]:
        hashes.append(image_hash(cv2.imread(str(file))))
    assert near_pairs(np.stack(hashes), THRESHOLD) == []


def test_an_empty_image_has_a_hash_too():
    assert image_hash(np.zeros((20, 30, 3), np.uint8)).shape == (8, 256)


def test_pairs_are_shown_and_sets_are_joined_through_others(tmp_path):
    rgb = paint(3, side=128, radius=50)
    for name, image in (
        ("a.png", rgb),
        ("b.png", rgb[:, ::-1]),
        ("c.png", np.rot90(rgb)),
        ("other.png", paint(9, side=128, radius=50)),
    ):
        write_image(tmp_path / "cells" / name, np.ascontiguousarray(image))
    dataset = load_dataset(tmp_path / "cells")
    joined, notes = near_duplicates(dataset, THRESHOLD)
    of = {sample.path.name: joined.get(sample.image_id) for sample in dataset.samples}
    assert of["a.png"] == of["b.png"] == of["c.png"] is not None
    assert of["other.png"] is None
    assert "3 pairs" in notes[0]
    assert "a.png and b.png" in notes[0]
