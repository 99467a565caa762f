"""--mlflow: what MLflow holds afterwards is what the result's files say."""

import json
import re

import pandas as pd
import pytest
from click.testing import CliRunner

import cli


def fusion(*words):
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that MLflow is told to take."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return (tmp_path / "runs").as_uri()


def runs(place):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=place)
    return client, client.search_runs([client.get_experiment_by_name("fusion").experiment_id])


def test_a_comparison_is_a_run_with_files_and_one_below_it_for_each_entry(synthetic, synthetic_store, tmp_path, place):
    shared = ("--features", "colour,morphology", "--splits", 2, "--jobs", 1, "--store", synthetic_store)
    done = fusion(
        "ablate",
        synthetic,
        "--classifiers",
        "logreg",
        "--split",
        "random",
        *shared,
        "--mlflow",
        place,
        "-o",
        tmp_path / "result",
    )
    assert done.exit_code == 0, done.stderr
    client, found = runs(place)
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    entries = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    table = pd.read_csv(tmp_path / "result" / "table.csv").set_index("features")
    assert {run.data.params["features"].replace(",", "+") for run in entries} == set(table.index)
    for run in entries:
        row = table.loc[run.data.params["features"].replace(",", "+")]
        for metric in ("image_balanced_accuracy", "image_balanced_accuracy_low", "subject_auroc_high"):
            assert run.data.metrics[metric] == pytest.approx(row[metric], nan_ok=True)
        assert run.data.tags["fusion.stamps"].startswith("leaky")
        assert run.info.status == "FINISHED"
    assert parent.data.params["split"] == "random"
    assert parent.data.metrics["image_balanced_accuracy"] == pytest.approx(table["image_balanced_accuracy"].max())
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "result")}
    assert {"result/report.html", "result/scores.parquet", "result/result.json"} <= files


def test_a_training_is_a_run_with_its_model(synthetic, synthetic_store, tmp_path, place):
    words = ("train", synthetic, "--classifier", "xgb", "--features", "colour", "--splits", 2, "--jobs", 1)
    words = (*words, "--store", synthetic_store, "--set", "classifiers.xgb.n_estimators=10")
    done = fusion(*words, "--mlflow", place, "-o", tmp_path / "model", "--json")
    assert done.exit_code == 0, done.stderr
    client, (run,) = runs(place)
    figure = json.loads(done.stdout)["results"][0]["image"]["auroc"]["value"]
    assert run.data.metrics["image_auroc"] == pytest.approx(figure)
    assert run.data.params["classifiers.xgb.n_estimators"] == "10"
    assert "mlflow" not in run.data.params
    assert "model/model.json" in {file.path for file in client.list_artifacts(run.info.run_id, "model")}


def test_the_address_is_not_written_beside_the_result():
    from fusion.settings.commands import AblateConfig
    from fusion.settings.loading import write_config

    config = AblateConfig(data="cells", output="out", mlflow="http://me:secret@host")
    assert config.mlflow == "http://me:secret@host"
    assert "secret" not in write_config(config)


def test_a_place_that_does_not_answer_is_told_before_anything_is_measured(synthetic, tmp_path):
    done = fusion(
        "train", synthetic, "--features", "colour", "--mlflow", "http://127.0.0.1:9", "-o", tmp_path / "model"
    )
    assert done.exit_code == 1
    assert re.match(r"fusion train: cannot log to MLflow at http://127.0.0.1:9", done.stderr)
    assert not (tmp_path / "store" / "features").exists()
    assert not (tmp_path / "model").exists()


def test_without_the_package_the_extra_is_named(synthetic, tmp_path, monkeypatch):
    from fusion.reports import mlflow_tracking

    monkeypatch.setattr(mlflow_tracking.importlib.util, "find_spec", lambda name: None)
    done = fusion("train", synthetic, "--features", "colour", "--mlflow", "x", "-o", tmp_path / "model")
    assert done.exit_code == 2
    assert "fusion-cells[mlflow]" in done.stderr
