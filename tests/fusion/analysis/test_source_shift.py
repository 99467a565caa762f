"""The shift between sources: none where there is none, and where there is one, found and named."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.stats import ks_2samp

from fusion.analysis.source_shift import NAMED, lines, shifts
from fusion.data.dataset import load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.reports.sources_side_by_side import draw_sources
from tests.builders.command_line import fusion
from tests.builders.images import paint, write_image


def table(seed=0, moved=(), by=2.0, sources=("east", "west"), subjects=12, cells=6):
    """Cells of two blocks of 12 features; ``moved`` columns of the last source are shifted."""
    rng = np.random.default_rng(seed)
    n = len(sources) * subjects * cells
    X = rng.normal(size=(n, 24)) + np.repeat(rng.normal(0, 0.5, (len(sources) * subjects, 24)), cells, axis=0)
    of = np.repeat(np.array(sources, object), subjects * cells)
    for column in moved:
        X[of == sources[-1], column] += by
    X[rng.random(X.shape) < 0.01] = np.nan
    names = tuple(str(at) for at in range(n))
    columns = tuple(f"{block}.f{at}" for block in ("one", "two") for at in range(12))
    return FeatureTable(
        X=X.astype(np.float32),
        columns=columns,
        names=names,
        keys=names,
        image_keys=names,
        y=("all",) * n,
        subjects=(None,) * n,
        folds=(None,) * n,
        groups=np.repeat(np.arange(len(sources) * subjects), cells),
        subjects_known=True,
        sources=tuple(of),
    )


def test_sources_that_are_alike_are_not_told_apart():
    for shift in shifts(table()):
        assert shift.low < 0.5  # held out from so few groups, chance lies a little below a half
        assert abs(shift.mmd) < 0.05


def test_a_shifted_block_is_found_and_its_features_are_named_first():
    found = {(shift.source, shift.block): shift for shift in shifts(table(moved=(13, 17)))}
    moved, still = found["west", "two"], found["west", "one"]
    assert moved.low > 0.8
    assert moved.mmd > still.mmd + 0.05
    assert {name for name, _ in moved.features[:2]} == {"two.f1", "two.f5"}
    assert len(moved.features) == NAMED
    assert still.low < 0.5


def test_distances_are_those_of_scipy():
    cells = table(moved=(3,))
    own = np.array(cells.sources) == "west"
    shift = next(s for s in shifts(cells) if (s.source, s.block) == ("west", "one"))
    for name, distance in shift.features:
        column = cells.X[:, cells.columns.index(name)]
        expected = ks_2samp(column[own & ~np.isnan(column)], column[~own & ~np.isnan(column)]).statistic
        assert distance == pytest.approx(expected)


def test_subjects_alone_are_no_shift():
    """Cells of one subject are alike; a test that let a subject stand on both sides would know sources by subjects."""
    cells = table(seed=3, subjects=5, cells=30)
    assert all(shift.low < 0.65 for shift in shifts(cells))


def test_a_source_of_one_group_has_no_auroc_and_still_a_distance():
    found = shifts(table(subjects=1, cells=20))
    assert all(np.isnan(shift.auroc) and np.isfinite(shift.mmd) for shift in found)
    assert "undefined" in lines(found)[0]


def test_a_block_in_which_nothing_varies_tells_nothing():
    cells = table()
    X = cells.X.copy()
    X[:, :12] = 3
    for shift in shifts(replace(cells, X=X)):
        assert np.isnan(shift.auroc) == (shift.block == "one")
        assert shift.block == "two" or shift.mmd == 0


def test_a_single_source_has_nothing_to_be_shifted_from():
    with pytest.raises(UsageError, match="no shift"):
        shifts(table(sources=("east",)))


def test_inspect_tells_the_shift_of_synthetic_sites(tmp_path):
    """From the command line: sites that stain differently are distinguished by colour, and the JSON says so."""
    out = tmp_path / "laboratories"
    fusion("synthesize", out, "--laboratories", 2, "--subjects", 4, "--cells", 3, "--jobs", 1)
    said = fusion("inspect", out / "truth.csv", "--shift", "--jobs", 1, "--store", tmp_path / "store", "--json")
    found = {(shift["source"], shift["block"]): shift for shift in json.loads(said.stdout)["shifts"]}
    assert set(found) == {(lab, block) for lab in ("lab_1", "lab_2") for block in ("morphology", "texture", "colour")}
    assert found["lab_2", "colour"]["auroc"] > 0.95
    assert found["lab_2", "colour"]["features"][0][1] > 0.9


# ---- side by side ---------------------------------------------------------------------------------------------------


def laboratories(folder, of, radius=lambda source: 20):
    """A table of discs: source -> cells of each of two classes."""
    rows = ["path,label,subject,source"]
    for source, count in of.items():
        for label in ("blast", "normal"):
            for at in range(count):
                name = f"{source}-{label}-{at}.png"
                write_image(folder / name, paint(at, side=128, radius=radius(source)))
                rows.append(f"{name},{label},{label}{at},{source}")
    (folder / "cells.csv").write_text("\n".join(rows) + "\n")
    return load_dataset(folder / "cells.csv")


def columns(path, count):
    """The sheet's columns of tiles, one a source: what stands under the names."""
    sheet = cv2.imread(str(path))
    wide = 2 * (128 + 4) + 18
    left = sheet.shape[1] - count * wide
    return [sheet[40:, left + at * wide : left + (at + 1) * wide] for at in range(count)]


def test_sources_with_the_same_cells_look_the_same(tmp_path):
    path = draw_sources(laboratories(tmp_path, {"east": 4, "west": 4}), tmp_path / "out")
    east, west = columns(path, 2)
    np.testing.assert_array_equal(east, west)
    assert (east < 200).mean() > 0.3  # cells, not paper


def test_a_cell_of_half_the_size_looks_half_as_large(tmp_path):
    sizes = {"east": 40, "west": 20}
    path = draw_sources(laboratories(tmp_path, {"east": 4, "west": 4}, sizes.__getitem__), tmp_path / "out")
    large, small = (((part > 0) & (part < 230)).all(axis=2).sum() for part in columns(path, 2))
    assert large / small == pytest.approx(4, rel=0.15)


def test_the_same_rows_hold_the_same_class_and_an_image_without_a_cell_is_told(tmp_path):
    dataset = laboratories(tmp_path, {"east": 4, "west": 1})
    (tmp_path / "west-normal-0.png").write_bytes(
        write_image(tmp_path / "b.png", np.zeros((64, 64, 3), np.uint8)).read_bytes()
    )
    path = draw_sources(dataset, tmp_path / "out")
    east, west = columns(path, 2)
    assert east.shape == west.shape
    half = len(east) // 2
    assert (west[:128, :128] < 230).mean() > 0.5  # one blast
    assert 0 < (west[half:] < 230).mean() < 0.05  # and some words
    assert draw_sources(dataset, tmp_path / "again").read_bytes() == path.read_bytes()


def test_inspect_draws_the_sources_and_asks_for_shift_first(tmp_path):
    laboratories(tmp_path, {"east": 6, "west": 6})
    common = (tmp_path / "cells.csv", "-o", tmp_path / "out", "--jobs", 1, "--store", tmp_path / "store")
    refused = fusion("inspect", *common)
    assert (refused.exit_code, "Add --shift" in refused.stderr) == (2, True)
    message = fusion("inspect", *common, "--shift", "--json")
    assert json.loads(message.stdout)["sources_drawn"] == str(tmp_path / "out" / "sources.png")
    assert (tmp_path / "out" / "sources.png").is_file()
    assert "sources side by side in" in fusion("inspect", *common, "--shift").output
