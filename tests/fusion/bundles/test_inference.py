"""Asking a trained model: images, folders and tables in one call, subjects as a whole, files, and exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose

import cli
from fusion.bundles.inference import collect, predict_cells
from fusion.bundles.model_bundle import load_model
from fusion.data.feature_table import FeatureTable
from fusion.images.cell import read_cell
from fusion.learning.predictions import Predictions
from fusion.settings.commands import PredictConfig, TrainConfig
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.images import paint, write_image


def fusion(*words):
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(synthetic, tmp_path_factory):
    """Boosted trees on colours of the synthetic tree."""
    root = tmp_path_factory.mktemp("model")
    settings = {"data": synthetic, "store": root / "store", "features": ["colour"], "splits": 2}
    train(TrainConfig(output=root / "m", classifier="xgb", **settings))
    return root / "m"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Eight cells of four subjects that no model here has seen."""
    design = SyntheticDesign(subjects=4, cells_per_subject=2, seed=77)
    return synthesize(tmp_path_factory.mktemp("fresh") / "cells", design)


def predictions(proba, subjects, *, threshold=None):
    """Predictions of classes 'a' and 'b' for cells of these subjects; 'b' is the positive class."""
    n = len(proba)
    names = tuple(f"{at}.png" for at in range(n))
    table = replace(FeatureTable.of_cells(np.empty((n, 0), np.float32), (), names), subjects=tuple(subjects))
    proba = np.column_stack([1 - np.array(proba), proba])
    return Predictions(
        table, ("a", "b"), proba, (), Path(), "b", threshold, calibrated=False, trained_on=np.zeros(n, bool)
    )


def test_images_folders_trees_and_tables_are_judged_in_one_call(model, fresh, synthetic, tmp_path):
    loose = write_image(tmp_path / "loose" / "a.png", paint(1))
    write_image(tmp_path / "folder" / "b.png", paint(2))
    write_image(tmp_path / "table" / "c.png", paint(3))
    table = tmp_path / "table" / "cells.csv"
    table.write_text("path,subject\nc.png,P1\n")
    done = fusion("predict", model, loose, tmp_path / "folder", fresh, table, "--json")
    assert done.exit_code == 0, done.stderr
    message = json.loads(done.stdout)
    assert len(message["predictions"]) == 1 + 1 + 8 + 1
    assert message["predictions"][0]["name"] == str(loose)
    assert [row["cells"] for row in message["subjects"]] == [2, 2, 2, 2, 1]
    assert message["subjects"][-1]["subject"] == "P1"


def test_the_same_image_gets_the_same_answer_alone_in_a_folder_and_in_memory(model, fresh):
    images = sorted(fresh.rglob("*.bmp"))
    whole = predict(PredictConfig(model=model, images=[fresh]))
    alone = predict(PredictConfig(model=model, images=images))
    assert_allclose(alone.proba, whole.proba, rtol=0)
    assert alone.table.subjects == whole.table.subjects
    held = predict_cells(load_model(model), [read_cell(path) for path in images], [path.name for path in images])
    assert_allclose(held.proba, whole.proba, rtol=0)
    assert held.predicted == whole.predicted
    assert held.by_subject == ()


def test_a_cell_in_memory_that_cannot_be_measured_stops_no_other(model, fresh, monkeypatch):
    from extractors.colour.extractor import Colour

    cells = [read_cell(path) for path in sorted(fresh.rglob("*.bmp"))[:3]]
    measure = Colour.extract

    def choosy(self, asked):
        if asked[0] is cells[1]:
            raise ValueError("not this one")
        return measure(self, asked)

    monkeypatch.setattr(Colour, "extract", choosy)
    found = predict_cells(load_model(model), cells, ["x", "y", "z"])
    assert found.table.names == ("x", "z")
    assert [str(fault) for fault in found.faults] == ["y: ValueError: not this one"]


def test_a_subject_is_called_by_its_mean_probability_and_by_most_of_its_cells():
    # Two cells barely 'a' and one surely 'b': the mean says b, the majority says a.
    found = predictions([0.45, 0.45, 0.95, 0.2], ["1", "1", "1", None])
    (call,) = found.by_subject
    assert call.subject == "1"
    assert call.probability == pytest.approx((1 - 1.85 / 3, 1.85 / 3))
    assert (call.predicted, call.majority, call.votes) == ("b", "a", (2, 1))


def test_a_tie_of_votes_goes_to_the_higher_mean_probability():
    (call,) = predictions([0.1, 0.6], ["1", "1"]).by_subject
    assert (call.votes, call.majority) == ((1, 1), "a")


def test_subjects_are_called_by_the_models_threshold_too():
    (call,) = predictions([0.3, 0.4], ["1", "1"], threshold=0.25).by_subject
    assert (call.predicted, call.majority) == ("b", "b")


def test_subjects_of_two_inputs_that_are_called_alike_are_kept_apart(tmp_path):
    for name in ("one", "two"):
        write_image(tmp_path / name / "a.png", paint(len(name)))
        write_image(tmp_path / name / "b.png", paint(9))
        (tmp_path / name / "cells.csv").write_text("path,subject\na.png,7\nb.png," + name)
    tables = [tmp_path / name / "cells.csv" for name in ("one", "two")]
    found = collect(tables)
    assert [sample.subject for sample in found.samples] == [f"{tables[0]}: 7", "one", f"{tables[1]}: 7", "two"]
    assert "kept apart" in found.notes[-1]


def test_csv_and_parquet_hold_the_same_figures(model, fresh, tmp_path):
    done = fusion("predict", model, fresh, "--csv", tmp_path / "p.csv", "--parquet", tmp_path / "p.parquet")
    assert done.exit_code == 0, done.stderr
    columns = [
        "name",
        "key",
        "label",
        "subject",
        "source",
        "class",
        "p_all",
        "p_hem",
        "out_of_distribution",
        "distance",
        "in_training",
    ]
    csv, parquet = pd.read_csv(tmp_path / "p.csv", dtype={"subject": str}), pd.read_parquet(tmp_path / "p.parquet")
    assert list(csv) == list(parquet) == columns
    assert_allclose(csv[["p_all", "p_hem"]], parquet[["p_all", "p_hem"]])
    for name in ("name", "key", "label", "subject", "class"):
        assert list(csv[name]) == list(parquet[name])
    assert "image" not in done.stdout
    assert "by mean probability" in done.stdout


def test_a_file_that_cannot_be_written_is_said_so(model, fresh, tmp_path):
    image = next(fresh.rglob("*.bmp"))
    done = fusion("predict", model, image, "--csv", tmp_path)
    assert done.exit_code == 2
    assert f"cannot write {tmp_path}" in done.stderr


def test_what_is_printed_into_a_pipe_is_plain(model, fresh):
    done = fusion("predict", model, fresh)
    assert "\x1b" not in done.stdout
    assert "8 cells: " in done.stderr
    assert len([line for line in done.stdout.splitlines() if ".bmp" in line]) == 8


def test_images_that_the_model_has_learnt_from_are_marked(model, synthetic, fresh):
    known, new = next(synthetic.rglob("*.bmp")), next(fresh.rglob("*.bmp"))
    done = fusion("predict", model, known, new, "--json")
    assert [row["in_training"] for row in json.loads(done.stdout)["predictions"]] == [True, False]
    assert "1 of these images is among those the model learnt from" in done.stderr


def test_bad_images_are_counted_and_named_and_the_rest_is_judged(model, fresh, tmp_path):
    (tmp_path / "text.png").write_text("I am a text")
    write_image(tmp_path / "black.png", np.zeros((64, 64, 3), np.uint8))
    image = next(fresh.rglob("*.bmp"))
    done = fusion("predict", model, tmp_path / "text.png", image, tmp_path / "black.png", "--json")
    assert done.exit_code == 3
    message = json.loads(done.stdout)
    assert len(message["predictions"]) == 1
    assert [row["stage"] for row in message["faults"]] == ["read", "cell"]
    assert "2 images skipped" in done.stderr


def test_where_no_cell_could_be_judged_the_command_has_failed(model, tmp_path):
    (tmp_path / "text.png").write_text("I am a text")
    done = fusion("predict", model, tmp_path / "text.png", "--json")
    assert done.exit_code == 1
    assert "no cell could be judged" in done.stderr
    assert done.stderr.count("not an image") == 2  # in the list of faults, and as the example
    assert json.loads(done.stdout)["faults"][0]["path"] == "text.png"


@pytest.mark.parametrize("wrong", ["nowhere.png", "nowhere", "notes.txt"])
def test_what_is_no_data_is_wrong_use(model, fresh, tmp_path, wrong):
    (tmp_path / "notes.txt").write_text("notes")
    done = fusion("predict", model, next(fresh.rglob("*.bmp")), tmp_path / wrong)
    assert done.exit_code == 2
    assert wrong in done.stderr
    assert done.stdout == ""


def test_many_images_named_one_by_one_share_the_memory_of_their_folder(model, fresh, own_store):
    images = sorted(fresh.rglob("*.bmp"))
    assert fusion("predict", model, *images).exit_code == 0
    assert len(list((own_store / "index").glob("*"))) <= len({path.parent for path in images})
