"""Contact sheets show what would be measured, evenly, and stop for nothing."""

import json
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusion.data.dataset import load_dataset
from fusion.images.cell import make_cell
from fusion.reports.contact_sheets import (
    CELL_COLOUR,
    DOWN,
    NUCLEUS_COLOUR,
    SIDE,
    OverlayError,
    Tile,
    brightening,
    draw_dataset,
    even_spread,
    sheet,
    with_contours,
    write_sheets,
)
from tests.builders.command_line import fusion
from tests.builders.images import paint, real_data, write_image


def read(path):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def of_colour(image, colour, within=60):
    return np.abs(image.astype(int) - colour).sum(axis=-1) < within


def distance_from_middle(where):
    return np.hypot(*(np.argwhere(where) - (SIDE - 1) / 2).T)


def test_contours_lie_where_cell_and_nucleus_end():
    rgb = paint(side=128, radius=40)
    tile = with_contours(rgb, make_cell(rgb))
    assert tile.shape == (SIDE, SIDE, 3)
    # The tile shows one and a half times the cell's width, rounded up to whole pixels: 2 x 60 + 1.
    scale = SIDE / 121
    for colour, radius in ((CELL_COLOUR, 40), (NUCLEUS_COLOUR, 30)):
        found = distance_from_middle(of_colour(tile, colour))
        assert np.median(found) == pytest.approx(radius * scale, abs=1.5 * scale)
        assert len(found) > np.pi * radius * scale, "at least half of the circle has the pure colour"


def test_the_contour_is_one_pixel_wide_whatever_the_size_of_the_image():
    for side in (32, 128, 900):
        rgb = paint(side=side, radius=0.35 * side)
        drawn = of_colour(with_contours(rgb, make_cell(rgb)), CELL_COLOUR, within=120)
        around = 2 * np.pi * 0.35 * side * SIDE / (2 * 0.75 * 0.7 * side)
        assert drawn.sum() < 2 * around


def test_lines_of_a_cell_and_of_a_nucleus_that_fills_it_are_both_seen():
    rgb = paint(side=128, radius=40)
    found = make_cell(rgb)
    tile = with_contours(rgb, replace(found, nucleus=found.mask))
    edges = [distance_from_middle(of_colour(tile, colour, within=120)) for colour in (CELL_COLOUR, NUCLEUS_COLOUR)]
    assert all(len(edge) > np.pi * 40 for edge in edges)
    assert 1 < np.median(edges[0]) - np.median(edges[1]) < 5


def test_a_dark_cell_is_brightened_and_a_light_one_is_not():
    rgb = paint(side=128, radius=40)
    light = np.where(rgb.any(axis=-1, keepdims=True), np.clip(rgb * 1.6 + 60, 0, 255), 0).astype(np.uint8)
    assert brightening(make_cell(light)) == 1
    # As dark as C-NMC's cells, whose mean is about 60: the middle of the tile, where no line is.
    dark = make_cell((rgb * (60 / rgb[rgb.any(axis=-1)].mean())).astype(np.uint8))
    middle = slice(SIDE // 2 - 20, SIDE // 2 + 20)
    shown = with_contours(dark.rgb, replace(dark, origin=(0, 0)))[middle, middle].mean()
    assert shown > 1.7 * dark.rgb[dark.nucleus].mean()
    assert 1 < brightening(dark) <= 4


def test_a_cell_in_a_corner_is_shown_as_far_as_the_image_goes():
    rgb = np.roll(paint(side=128, radius=30), (-40, -40), axis=(0, 1))
    rgb[70:], rgb[:, 70:] = 0, 0
    assert with_contours(rgb, make_cell(rgb)).shape == (SIDE, SIDE, 3)


def test_a_given_mask_is_what_is_drawn(tmp_path):
    rgb = paint(side=128, radius=40)
    mask = np.zeros((128, 128), np.uint8)
    mask[24:104, 24:104], mask[44:84, 44:84] = 128, 255
    write_image(tmp_path / "a.png", rgb)
    (tmp_path / "mask.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    (tmp_path / "cells.csv").write_text("path,label,mask\na.png,blast,mask.png\n")
    drawn = draw_dataset(load_dataset(tmp_path / "cells.csv"), tmp_path / "out")
    assert (drawn.drawn, drawn.images, len(drawn.sheets)) == (1, 1, 1)
    tile = with_contours(rgb, make_cell(rgb, mask))
    straight = of_colour(tile, CELL_COLOUR).sum(axis=1).max()
    assert straight > 0.6 * SIDE, "the square's edge, not the round cell's"
    page = read(drawn.sheets[0])
    at = np.argwhere((page[:, :, None] == tile[SIDE // 2, 0]).all(axis=-1))
    assert any((page[y - SIDE // 2 :][:SIDE, x : x + SIDE] == tile).all() for y, x, _ in at if y >= SIDE // 2)


@pytest.fixture
def unequal(tmp_path):
    """Ninety cells of subject 1, six of subject 2 and two of 3 in one class; four of subject 4 in the other."""
    rows = ["path,label,subject"]
    for at, (label, subject) in enumerate(
        [("all", "1")] * 90 + [("all", "2")] * 6 + [("all", "3")] * 2 + [("hem", "4")] * 4
    ):
        write_image(tmp_path / f"{at}.png", paint(at, side=24, radius=8))
        rows.append(f"{at}.png,{label},{subject}")
    (tmp_path / "cells.csv").write_text("\n".join(rows))
    return load_dataset(tmp_path / "cells.csv")


def subjects(dataset, chosen):
    return sorted(dataset.samples[at].subject for at in chosen)


def test_a_few_cells_are_spread_evenly_over_classes_and_subjects(unequal):
    for seed in range(5):
        chosen = subjects(unequal, even_spread(unequal, 20, seed))
        assert {name: chosen.count(name) for name in "1234"} == {"1": 8, "2": 6, "3": 2, "4": 4}
        assert set(subjects(unequal, even_spread(unequal, 6, seed))) == {"1", "2", "3", "4"}


def test_the_spread_depends_on_the_seed_alone(unequal):
    first = even_spread(unequal, 20, 0)
    assert first == even_spread(unequal, 20, 0)
    assert first != even_spread(unequal, 20, 1)
    assert sorted(even_spread(unequal, 0, 0)) == list(range(102)), "0 is all"
    assert sorted(even_spread(unequal, 1000, 0)) == list(range(102))


def test_an_image_without_a_cell_is_an_empty_tile_and_a_fault(class_folders, tmp_path):
    write_image(class_folders / "blast" / "black.png", np.zeros((64, 64, 3), np.uint8))
    message = []
    drawn = draw_dataset(load_dataset(class_folders), tmp_path / "out", progress=lambda *news: message.append(news))
    (fault,) = drawn.faults
    assert (fault.path.name, fault.stage) == ("black.png", "cell")
    assert "fully black" in fault.reason
    assert message[-1] == (7, 7, 1)
    assert drawn.drawn == 7


def test_the_same_data_give_the_same_sheets(class_folders, tmp_path):
    first, again = (draw_dataset(load_dataset(class_folders), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first.sheets] == [path.read_bytes() for path in again.sheets]


def test_sheets_of_an_earlier_run_are_replaced_and_nothing_else(tmp_path):
    tiles = [Tile(None, "nothing", "a")] * 50
    assert [path.name for path in write_sheets(tmp_path, tiles, 50)] == [f"overlays-00{k}.png" for k in (1, 2, 3)]
    (tmp_path / "overlays-notes.png").write_text("mine")
    write_sheets(tmp_path, tiles[:3], 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlays-001.png", "overlays-notes.png"]


def test_a_short_sheet_has_no_empty_rows(tmp_path):
    heights = [len(sheet([Tile(None, "nothing", "a")] * count, "")) for count in (1, 6, 7, 6 * DOWN)]
    assert heights[0] == heights[1] < heights[2] < heights[3]


@pytest.mark.parametrize("name", ["x" * 300, "Zelle-Ü-细胞", "", " "])
def test_any_name_fits_under_its_tile(name):
    tile = np.full((SIDE, SIDE, 3), 90, np.uint8)
    alone, beside = (
        sheet(tiles, "") for tiles in ([Tile(tile, name, name)], [Tile(tile, name, name), Tile(tile, "", "")])
    )
    right = slice(6 + SIDE, None)
    assert (alone[60 + SIDE :, right] == 255).all(), "nothing runs into the next tile's place"
    assert alone.shape == beside.shape


@pytest.mark.skipif(os.name == "nt", reason="a file in the way is told differently")
def test_a_folder_that_cannot_be_written_is_told(class_folders, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OverlayError, match="cannot write contact sheets"):
        draw_dataset(load_dataset(class_folders), tmp_path / "taken")


# ---- the command


def test_inspect_writes_sheets_and_says_where(class_folders, tmp_path):
    done = fusion("inspect", class_folders, "--overlays", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert f"contours of 6 of 6 images on 1 sheet in {tmp_path / 'out'}" in done.stdout
    assert (tmp_path / "out" / "overlays-001.png").exists()
    assert "overlays" in fusion("inspect", "--help").output
    bounded = fusion("inspect", class_folders, "--overlays", tmp_path / "few", "--set", "overlay_cells=2")
    assert "2 of 6 images" in bounded.stdout
    assert "all of them with --set overlay_cells=0" in bounded.stdout


def test_bad_images_do_not_stop_the_sheets(class_folders, tmp_path):
    (class_folders / "blast" / "broken.png").write_bytes(b"\x89PNG no")
    write_image(class_folders / "normal" / "black.png", np.zeros((64, 64, 3), np.uint8))
    done = fusion("inspect", class_folders, "--overlays", tmp_path / "out", "--json")
    assert done.exit_code == 3
    found = json.loads(done.stdout)
    assert [row["path"] for row in found["unreadable"]] == ["blast/broken.png"]
    assert found["overlays"]["drawn"] == 7
    assert [row["path"] for row in found["overlays"]["without_cell"]] == ["normal/black.png"]
    assert "broken.png" in done.stderr
    assert "black.png" in done.stderr


def test_without_the_option_nothing_is_drawn(class_folders, tmp_path):
    assert json.loads(fusion("inspect", class_folders, "--json").stdout)["overlays"] is None


def test_real_fields_are_drawn(tmp_path):
    data = real_data("all-aria") / "labels.csv"
    drawn = draw_dataset(load_dataset(data), tmp_path, limit=48)
    assert len(drawn.sheets) == 2
    # One in four of one class is pale among grey red cells; nearly all are found.
    assert len(drawn.faults) <= 2
