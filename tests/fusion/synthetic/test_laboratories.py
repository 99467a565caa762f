"""Synthetic sites: other stain, camera and people; the truth about each cell stays true."""

import csv

import cv2
import numpy as np
import pytest

from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.synthetic.cells import LABORATORY_COLUMNS, TRUTH_COLUMNS, SyntheticDesign, synthesize
from fusion.synthetic.laboratories import draw_laboratories

DESIGN = SyntheticDesign(subjects=4, cells_per_subject=2, laboratories=3, seed=3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("laboratories") / "out", DESIGN)


@pytest.fixture(scope="module")
def truth(tree):
    with (tree / "truth.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path, flag=cv2.IMREAD_COLOR):
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)


def test_the_truth_is_a_table_with_sources(tree, truth, tmp_path):
    assert list(truth[0]) == [*TRUTH_COLUMNS, *LABORATORY_COLUMNS]
    dataset = load_dataset(tree / "truth.csv", store=tmp_path)
    assert {sample.source for sample in dataset.samples} == {"lab_1", "lab_2", "lab_3"}
    assert not dataset.faults


def test_people_of_two_sites_share_ids_and_nothing_else(tree, tmp_path):
    dataset = load_dataset(tree / "truth.csv", store=tmp_path)
    assert {sample.subject for sample in dataset.samples} == {"1", "2", "H1", "H2"}
    assert len(set(dataset.groups().tolist())) == 12
    assert len({sample.image_key for sample in dataset.samples}) == 24


def test_masks_hold_what_the_truth_counts(tree, truth):
    for row in truth:
        mask = read(tree / row["mask"], cv2.IMREAD_GRAYSCALE)
        assert (mask >= 128).sum() == int(row["cell_area_px"])
        assert (mask == 255).sum() == int(row["nucleus_area_px"])
        assert mask.shape == read(tree / row["path"]).shape[:2]


def test_a_pixel_is_as_large_as_the_table_says(tree, truth):
    # Areas in square micrometres are those of one population, whatever the site's scale.
    areas = {
        name: np.mean([int(r["cell_area_px"]) * float(r["um_per_px"]) ** 2 for r in truth if r["source"] == name])
        for name in ("lab_1", "lab_2", "lab_3")
    }
    assert max(areas.values()) / min(areas.values()) < 1.5
    pixels = {name: [int(r["cell_area_px"]) for r in truth if r["source"] == name] for name in areas}
    assert np.mean(pixels["lab_1"]) > 1.3 * min(np.mean(counts) for counts in pixels.values())


def test_cut_outs_are_black_around_the_cell_and_fields_are_not(tree, truth):
    for row in truth:
        image, mask = read(tree / row["path"]), read(tree / row["mask"], cv2.IMREAD_GRAYSCALE)
        around = cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0
        dark = (image[around].max(axis=1) < 40).mean()
        assert dark < 0.01 if row["laboratory_is_field"] == "1" else dark > 0.99


def test_fields_show_red_cells(tree, truth):
    for row in truth:
        if row["laboratory_is_field"] == "1":
            image, mask = read(tree / row["path"]).astype(int), read(tree / row["mask"], cv2.IMREAD_GRAYSCALE)
            around = image[cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0]
            glass = np.percentile(around, 95, axis=0)
            held_back = np.log(glass / around.clip(1))  # BGR
            assert 0.05 < (held_back[:, 0] > 0.12).mean() < 0.8
            assert held_back[:, 0].mean() > 2 * held_back[:, 2].mean()  # haemoglobin: more blue than red


def test_sites_stain_differently(tree, truth):
    means = {}
    for row in truth:
        image, mask = read(tree / row["path"]), read(tree / row["mask"], cv2.IMREAD_GRAYSCALE)
        means.setdefault(row["source"], []).append(image[mask == 255].mean(axis=0))
    middles = np.array([np.mean(values, axis=0) for values in means.values()])
    spread = np.mean([np.std(values, axis=0) for values in means.values()])
    assert all(np.abs(a - b).max() > 3 * spread for at, a in enumerate(middles) for b in middles[:at])


def test_the_same_design_makes_the_same_bytes(tree, tmp_path):
    again = synthesize(tmp_path / "again", DESIGN, jobs=2)
    files = [path.relative_to(tree) for path in sorted(tree.rglob("*")) if path.is_file()]
    assert len(files) == 49
    assert all((tree / path).read_bytes() == (again / path).read_bytes() for path in files)


def test_a_site_is_the_same_however_many_others_there_are():
    assert draw_laboratories(2, 5) == draw_laboratories(4, 5)[:2]


def test_fewer_sites_than_none_are_refused():
    with pytest.raises(UsageError, match="laboratories"):
        SyntheticDesign(laboratories=-1)
