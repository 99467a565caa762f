"""``fusion segment``: cells found by Fusion's rules, or by anybody's plug-in, become masks that every command takes."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_array_equal

from fusion import cli
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features.blocks import build_blocks, extract_blocks
from fusion.features.store import FeatureStore
from fusion.settings.commands import ExtractConfig, SegmentConfig
from fusion.workflows.segment import segment_data
from tests.builders.images import paint, write_image

#: A package as anyone may install it: a pixel classifier, whose weights were learnt elsewhere, and segmenters that err.
PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
import cv2, numpy as np

@dataclass(frozen=True)
class Pixels:
    """Every region of pixels that a logistic regression calls cell, as a cell of its own.

    Parameters
    ----------
    weights : of red, green, blue, and the intercept.
    """
    weights: tuple[float, float, float, float] = (0.02, 0.05, 0.01, -1.0)
    name: ClassVar[str] = "pixels"
    version: ClassVar[str] = "1"

    def segment(self, rgb):
        is_cell = rgb @ np.array(self.weights[:3]) + self.weights[3] > 0
        count, labels, stats, _ = cv2.connectedComponentsWithStats(is_cell.view(np.uint8))
        return [np.where(labels == at, np.uint8(255), np.uint8(0)) for at in range(1, count) if stats[at, 4] > 200]

@dataclass(frozen=True)
class Wrong:
    kind: str = "shape"
    name: ClassVar[str] = "wrong"
    version: ClassVar[str] = "1"

    def segment(self, rgb):
        if self.kind == "raises":
            raise RuntimeError("no\\nmemory")
        found = np.zeros(rgb.shape[:2], np.uint8)
        return {"shape": [found[1:]], "float": [found.astype(float)], "empty": [found], "values": [found + 7],
                "list": [[1, 2]]}[self.kind]

class Careless:
    pass
'''
POINTS = """[fusion.segmenters]
pixels = strange_plugin:Pixels
wrong = strange_plugin:Wrong
none = strange_plugin:Careless
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    about = tmp_path / "site" / "strange_plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    (tmp_path / "site" / "strange_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.fixture
def cells(tmp_path):
    """Three painted cells with labels, and an empty image."""
    for at in range(3):
        write_image(tmp_path / "cells" / f"{at}.png", paint(at, side=90, radius=24))
    write_image(tmp_path / "cells" / "3.png", np.full((90, 90, 3), 235, np.uint8))
    rows = [f"{at}.png,{'ab'[at % 2]},s{at}" for at in range(4)]
    (tmp_path / "cells" / "cells.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")
    return tmp_path / "cells" / "cells.csv"


def measured(data, folder):
    """float32 (n, d) of morphology and colour."""
    config = ExtractConfig(data=data, features=["morphology", "colour"], jobs=1)
    return extract_blocks(load_dataset(data), build_blocks(config), FeatureStore(folder), jobs=1).table.X


def test_masks_written_by_the_rules_are_what_is_measured_without(cells, tmp_path):
    found = segment_data(SegmentConfig(data=cells, output=tmp_path / "out"))
    assert (found.cells, len(found.faults)) == (3, 1)
    assert_array_equal(measured(found.table, tmp_path / "a"), measured(cells, tmp_path / "b"))
    with found.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["subject"]) for row in rows] == [("a", "s0"), ("b", "s1"), ("a", "s2")]


def test_labels_of_subjects_and_columns_of_ones_own_go_on(cells, tmp_path):
    header, *lines = cells.read_text().splitlines()
    longer = [f"{line},{'xy'[at % 2]},{40 + at}" for at, line in enumerate(lines)]
    cells.write_text("\n".join([f"{header},subject_label,age", *longer]) + "\n")
    found = segment_data(SegmentConfig(data=cells, output=tmp_path / "out"))
    with found.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["subject_label"], row["age"]) for row in rows] == [("x", "40"), ("y", "41"), ("x", "42")]


def test_masks_that_may_have_been_corrected_are_not_written_over(cells, tmp_path):
    found = segment_data(SegmentConfig(data=cells, output=tmp_path / "out"))
    mask = next((tmp_path / "out" / "masks").rglob("*.png"))
    mask.write_bytes(b"corrected")
    with pytest.raises(UsageError, match="corrected by hand"):
        segment_data(SegmentConfig(data=cells, output=tmp_path / "out"))
    assert mask.read_bytes() == b"corrected"
    assert found.table.is_file()


def test_a_plug_in_finds_several_cells_of_an_image_and_a_given_mask_stays(plugin, cells, tmp_path):
    both = np.hstack([paint(7, side=90, radius=24), paint(8, side=90, radius=20)])
    write_image(cells.parent / "4.png", both)
    first = segment_data(SegmentConfig(data=cells, output=tmp_path / "first"))
    write_image(cells.parent / "5.png", paint(9, side=90, radius=24))
    table = first.table.read_text().splitlines()
    columns = table[0].split(",")
    further = {"path": "../cells/5.png", "label": "b", "subject": "s5"}
    first.table.write_text("\n".join([*table, ",".join(further.get(name, "") for name in columns)]) + "\n")
    found = segment_data(SegmentConfig(data=first.table, output=tmp_path / "second", segmenter="pixels"))
    assert (found.cells, found.kept, found.segmenter) == (first.cells + 1, first.cells, "pixels 1")
    alone = segment_data(SegmentConfig(data=cells.parent / "4.png", output=tmp_path / "third", segmenter="pixels"))
    assert alone.cells == 2
    assert len(set(measured(alone.table, tmp_path / "store")[:, 0])) == 2


@pytest.mark.parametrize("kind", ["raises", "shape", "float", "empty", "values", "list"])
def test_a_segmenter_that_errs_is_named_in_one_line(plugin, cells, tmp_path, kind):
    asked = ["segment", str(cells), "--segmenter", "wrong", "--set", f"segmenters.wrong.kind={kind}"]
    ran = CliRunner().invoke(cli.fusion, [*asked, "-o", str(tmp_path / "out")])
    assert ran.exit_code == 1
    assert "segmenter 'wrong'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "0.png" in ran.stderr


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--segmenter", "none"], "does not keep the protocol"),
        (["--segmenter", "rule"], "unknown segmenter 'rule'"),
        (["--segmenter", "pixels", "--set", "segmenters.pixels.sigma=2"], "unknown parameter of segmenter 'pixels'"),
        (["--set", "segmenters.pixels.weights=[1,2,3,4]"], "finds no cell here"),
    ],
)
def test_what_is_no_segmenter_or_parameter_of_it_is_refused(plugin, cells, tmp_path, asked, told):
    ran = CliRunner().invoke(cli.fusion, ["segment", str(cells), *asked, "-o", str(tmp_path / "out")])
    assert ran.exit_code in (1, 2)
    assert told in ran.stderr
    assert not (tmp_path / "out").exists()
