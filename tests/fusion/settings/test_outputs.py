"""Commands refuse what they could not write, or would lose, before they begin."""

import csv
import errno
import os
import shutil
from pathlib import Path

import pytest

from fusion.errors import FusionError
from fusion.io.files import is_partial
from fusion.settings import commands
from fusion.settings._base import Settings
from fusion.settings.outputs import check_outputs
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, write_image


@pytest.fixture
def table(tmp_path):
    """Six cells and a table of them with a column of the user's own."""
    rows = []
    for at in range(6):
        write_image(tmp_path / f"c{at}.png", paint(at, radius=22 - 6 * (at % 2)))
        rows.append((f"c{at}.png", "ab"[at % 2], at, "by hand"))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "subject", "comment"), *rows])
    return tmp_path / "table.csv"


def test_every_output_is_a_setting_and_names_no_url():
    for name in dir(commands):
        kind = getattr(commands, name)
        if isinstance(kind, type) and issubclass(kind, Settings):
            for outputs in (kind.output_files, kind.output_folders):
                assert outputs.keys() <= kind.model_fields.keys(), kind
            paths = {key for key, field in kind.model_fields.items() if "Path" in str(field.annotation)}
            read = {
                "data",
                "model",
                "images",
                "store",
                "test",
                "check",
                "results",
                "result",
                "scores",
                "real_cells",
                "patients",
                "labels",
            }
            assert paths <= read | kind.output_files.keys() | kind.output_folders.keys(), kind


def test_the_table_that_is_read_is_not_written_over(table):
    before = table.read_bytes()
    (table.parent / "link.csv").symlink_to("table.csv")
    for option, why in (("--export", "is read"), ("--faults", "is read"), ("--log", "is no log")):
        for name in (table, table.parent / "link.csv"):
            assert_refused(fusion("extract", table, "--features", "colour", option, name), 2, why)
    result = fusion("ablate", table, "-o", table.parent, "--features", "colour")
    assert_refused(result, 2)
    assert table.read_bytes() == before


def test_settings_that_are_read_are_not_written_over(table, tmp_path):
    result = tmp_path / "result"
    result.mkdir()
    (result / "result.json").write_text('{"command": "ablate", "results": []}')
    (result / "config.yaml").write_text("features: [colour]\n# mine\n")
    refused = fusion("ablate", table, "--config", result / "config.yaml", "-o", result)
    assert_refused(refused, 2, "config.yaml", "is read in this run")
    assert "# mine" in (result / "config.yaml").read_text()


def test_images_that_are_read_are_not_written_over(table, trees):
    before = (table.parent / "c1.png").read_bytes()
    refused = fusion("predict", trees, table.parent / "c1.png", "--csv", table.parent / "c1.png")
    assert_refused(refused, 2)
    folder = table.parent / "cells"
    write_image(folder / "overlays-001.png", paint(1))
    kept = (folder / "overlays-001.png").read_bytes()
    refused = fusion("inspect", folder, "--overlays", folder)
    assert refused.exit_code == 2, refused.output
    assert (folder / "overlays-001.png").read_bytes() == kept
    assert (table.parent / "c1.png").read_bytes() == before


def test_a_model_stays_one(table, trees, tmp_path):
    model = shutil.copytree(trees, tmp_path / "m")
    for words in (("predict", model, table, "--csv", model / "p.csv"), ("evaluate", model, table, "-o", model / "e")):
        assert_refused(fusion(*words), 2, "lies in the folder of the model")
    assert_refused(fusion("explain", model, table, "-o", model), 2, "is read in this run")
    assert fusion("predict", model, table).exit_code == 0


def test_nothing_but_a_model_is_written_where_a_model_will_lie(table, tmp_path):
    model = tmp_path / "new"
    for option, path in (("--report", model), ("--report", model / "page"), ("--show-batch", model / "b.png")):
        assert_refused(fusion("train", table, "-o", model, option, path), 2, option, "lies in the folder of the model")
    assert not model.exists()


def test_one_file_is_named_once(table, trees, tmp_path):
    refused = fusion("extract", table, "--export", tmp_path / "o.csv", "--faults", tmp_path / "." / "o.csv")
    assert_refused(refused, 2, "--export and --faults name the same file")


def test_a_format_is_said_by_the_ending(table, trees, tmp_path):
    for words in (
        ("predict", trees, table, "--csv", tmp_path / "o.xlsx"),
        ("predict", trees, table, "--parquet", tmp_path / "o.csv"),
        ("extract", table, "--faults", tmp_path / "o.txt"),
        ("export", trees, "--onnx", tmp_path / "o.pt"),
    ):
        assert_refused(fusion(*words), 2, "a name that ends in")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".csv"}  # nothing but the table and its images


def test_an_output_that_cannot_be_written_is_told_before_a_cell_is_measured(table, own_store, tmp_path):
    for option, why in (("--export", "not a directory"), ("--faults", "not a directory"), ("--log", "cannot write")):
        refused = fusion("extract", table, "--features", "colour", option, tmp_path / "table.csv/o.csv")
        assert_refused(refused, 2, why)
    assert not own_store.exists()


def test_a_formula_in_a_name_reaches_no_table(trees, tmp_path):
    write_image(tmp_path / "=HYPERLINK(1).png", paint(1))
    (tmp_path / "@bad.png").write_bytes(b"no image")
    done = fusion("predict", trees, tmp_path, "--csv", tmp_path / "o.csv")
    assert done.exit_code == 3, done.output
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("'=HYPERLINK(1).png,")
    fusion("extract", tmp_path, "--features", "colour", "--faults", tmp_path / "f.csv", "--export", tmp_path / "t.csv")
    assert (tmp_path / "f.csv").read_text().splitlines()[1].startswith("'@bad.png,")
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("'=HYPERLINK(1).png,")


@pytest.mark.parametrize(("code", "exit_code"), [(errno.ENOSPC, 1), (errno.EIO, 1), (errno.EACCES, 2)])
def test_a_full_disk_is_no_wrong_use_and_a_folder_that_is_closed_is(code, exit_code, tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(code, os.strerror(code), str(folder))

    monkeypatch.setattr("fusion.io.output_files.create_partial", refuse)
    with pytest.raises(FusionError) as told:
        check_outputs(commands.TrainConfig(data=tmp_path / "cells", output=tmp_path / "model"))
    assert told.value.exit_code == exit_code


def test_a_trial_struck_before_it_is_taken_away_leaves_the_model_that_is_to_be_replaced_whole(tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    # As a kill would: the file that shows that one can write there stays.
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    check_outputs(commands.TrainConfig(data=tmp_path / "cells", output=model))
    assert [path.name for path in model.iterdir()] == ["model.json"]
    assert len([path for path in tmp_path.iterdir() if is_partial(path.name)]) == 1
