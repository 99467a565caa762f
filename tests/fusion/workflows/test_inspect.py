"""What a user sees of a data set before anything is trained."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from fusion.data.dataset import load_dataset
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.plugins.registry import build_extractor
from fusion.settings.commands import InspectConfig
from fusion.workflows.inspect import inspect
from tests.builders.images import paint, write_image


@pytest.fixture
def masked(tmp_path):
    """One image with two cells, a mask each; one whose mask is inverted; one without a mask."""
    left, right = paint(1, side=64, radius=20), paint(2, side=64, radius=24)
    write_image(tmp_path / "two.png", np.hstack([left, right]))
    for name, at in (("left", 0), ("right", 64)):
        mask = np.zeros((64, 128), np.uint8)
        mask[:, at : at + 64] = 255 * (left if at == 0 else right).any(axis=2)
        (tmp_path / f"{name}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    write_image(tmp_path / "one.bmp", paint(3, side=70, radius=20))
    inverted = 255 * (~paint(3, side=70, radius=20).any(axis=2)).astype(np.uint8)
    (tmp_path / "inverted.png").write_bytes(cv2.imencode(".png", inverted)[1].tobytes())
    write_image(tmp_path / "bare.bmp", paint(4, side=70, radius=20))
    rows = ["two.png,a,1,left.png", "two.png,b,1,right.png", "one.bmp,b,2,inverted.png", "bare.bmp,a,3,"]
    (tmp_path / "cells.csv").write_text("path,label,subject,mask\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_files_and_masks_are_counted_by_kind(masked):
    found = inspect(InspectConfig(data=masked / "cells.csv", store=masked / "store"))
    told = found.to_json()
    assert told["files"]["formats"] == {"PNG, RGB, 8 bits": 2, "BMP, RGB, 8 bits": 2}
    assert told["files"]["sizes"] == {"128x64": 2, "70x70": 2}
    assert told["files"]["masks"] == {"cell only, 0/255": 2}
    assert told["files"]["several_cells"] == {"images": 1, "cells": 2}
    assert [row["path"] for row in told["refused_masks"]] == ["one.bmp"]
    assert [fault.path.name for fault in found.faults] == ["one.bmp"]
    assert told["columns"] == ["label", "subject", "mask"]
    assert told["classes_from"] == "the table"
    json.dumps(told)
    lines = "\n".join(found.lines())
    for words in (
        "files: PNG, RGB, 8 bits (2); BMP, RGB, 8 bits (2)",
        "masks: cell only, 0/255 (2); refused (1)",
        "1 image shows 2 cells",
        "classes are read from the table",
        "columns read: path, label, subject, mask",
        "3 groups that no split takes apart",
        "no identical images",
    ):
        assert words in lines, lines


def test_a_mask_of_another_size_or_over_nothing_is_found_before_anything_is_measured(tmp_path):
    rgb = paint(5, side=64, radius=20)[:, :60]
    cell = 255 * rgb.any(axis=2).astype(np.uint8)
    write_image(tmp_path / "black.png", np.zeros_like(rgb))
    write_image(tmp_path / "right.bmp", rgb)
    write_image(tmp_path / "other.bmp", rgb)
    # Turned by a quarter as its EXIF tells: shown, it has the mask's size in the one case, and not in the other.
    for name, pixels in (("turned", np.rot90(rgb)), ("wrongly", rgb)):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}.png", exif=exif)
    masks = {"black": cell, "right": cell, "other": cell[:, :50], "turned": cell, "wrongly": cell}
    for name, mask in masks.items():
        (tmp_path / f"{name}-m.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    names = sorted(path.name for path in tmp_path.iterdir() if "-m" not in path.name)
    (tmp_path / "cells.csv").write_text(
        "path,mask\n" + "".join(f"{name},{name.partition('.')[0]}-m.png\n" for name in names)
    )
    found = inspect(InspectConfig(data=tmp_path / "cells.csv", store=tmp_path / "store"))
    reasons = {fault.path.name: fault.reason for fault in found.faults}
    assert sorted(reasons) == ["black.png", "other.bmp", "wrongly.png"]
    assert reasons["other.bmp"] == "the mask has another size than its image (mask 50x64, image 60x64)"
    assert reasons["wrongly.png"] == "the mask has another size than its image (mask 60x64, image 64x60)"
    assert "fully black inside the mask" in reasons["black.png"]
    store = FeatureStore(tmp_path / "store")
    measured = extract(
        load_dataset(tmp_path / "cells.csv", store=store.root), [build_extractor("colour")], store, jobs=1
    )
    assert {fault.path.name: fault.reason for fault in measured.faults} == reasons


def test_what_the_levels_are_said_to_mean_is_used(masked):
    found = inspect(
        InspectConfig(data=masked / "cells.csv", store=masked / "store", mask_levels="background=255,cell=0")
    )
    assert found.files.masks["cell only, background=255,cell=0"] >= 1


def test_an_image_with_a_mask_in_each_of_several_rows_is_as_many_cells(masked):
    store = FeatureStore(masked / "store")
    dataset = load_dataset(masked / "cells.csv", store=masked / "store")
    assert dataset.names[:2] == ["two.png (left.png)", "two.png (right.png)"]
    assert len({sample.key for sample in dataset.samples}) == 4
    groups = dataset.groups()
    assert groups[0] == groups[1]
    found = extract(dataset, [build_extractor("morphology")], store, jobs=1)
    area = found.table.X[:, found.table.columns.index("morphology.cell_area")]
    by_name = dict(zip(found.table.names, area, strict=True))
    for name, radius_image in (("left", paint(1, side=64, radius=20)), ("right", paint(2, side=64, radius=24))):
        assert by_name[f"two.png ({name}.png)"] == radius_image.any(axis=2).sum()
    assert [fault.path.name for fault in found.faults] == ["one.bmp"]


def test_masks_said_to_mean_something_else_are_other_cells(masked):
    plain = load_dataset(masked / "cells.csv", store=masked / "store")
    said = load_dataset(masked / "cells.csv", mask_levels="background=255,cell=0", store=masked / "store")
    assert plain.samples[2].key != said.samples[2].key
    assert plain.samples[3].key == said.samples[3].key
    assert said.samples[2].read_mask().cell.any()


def test_a_hundred_subjects_are_one_line_of_counts(tmp_path):
    rows = []
    for at in range(30):
        write_image(tmp_path / f"{at}.bmp", paint(at, side=32, radius=10))
        rows.append(f"{at}.bmp,{'ab'[at % 2]},s{at // 2}")
    (tmp_path / "cells.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")
    found = inspect(InspectConfig(data=tmp_path / "cells.csv", store=tmp_path / "store"))
    (line,) = [line for line in found.lines() if line.startswith("by subject")]
    assert line == "by subject: 15 of 2 images, half of them of 2 or more; all with --json"
    assert len(found.to_json()["subjects"]) == 15
