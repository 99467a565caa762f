"""Cells of some classes alone: a site that has one, a cohort of healthy people."""

import json

import numpy as np
import pandas as pd
import pytest

import fusion as package
from fusion.errors import UsageError
from fusion.evaluation.analysis_lines import analysis_lines
from fusion.evaluation.results import Result
from fusion.settings.commands import EvaluateConfig, TrainConfig
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train
from tests.builders.command_line import fusion
from tests.builders.images import paint, write_image


def scores(labels, entries=("x",)):
    """A table of scores of three classes."""
    rng = np.random.default_rng(0)
    parts = []
    for entry in entries:
        frame = pd.DataFrame(rng.dirichlet([1, 1, 1], len(labels)), columns=["p_a", "p_b", "p_c"])
        parts.append(frame.assign(label=labels, subject=[f"P{at // 2}" for at in range(len(labels))], entry=entry))
    return pd.concat(parts)


def test_judge_tells_of_one_class_what_can_be_told(tmp_path):
    scores(["b"] * 40).to_csv(tmp_path / "scores.csv", index=False)
    done = fusion("judge", tmp_path / "scores.csv", "-o", tmp_path / "result")
    told = " ".join(done.output.split())
    assert "all judged are of one class, b" in told
    assert "Left out, since all judged are of one class, b: balanced accuracy, AUROC," in told
    content = json.loads((tmp_path / "result" / "result.json").read_text())
    figures = content["results"][0]
    assert figures["image"]["balanced_accuracy"]["value"] is None
    assert figures["image"]["balanced_accuracy"]["note"] == "all judged are of one class, b"
    of_b = next(row for row in content["findings"]["classes"] if row["class"] == "b")
    hits = figures["confusion"][1][1]
    assert of_b["sensitivity"]["value"] == hits / 40 == figures["image"]["accuracy"]["value"]
    assert f"b: {hits} of 40 predicted as such" in told
    mean = of_b["mean_probability"]
    assert mean["value"] == pytest.approx(pd.read_csv(tmp_path / "scores.csv")["p_b"].mean())
    assert mean["low"] < mean["value"] < mean["high"]
    assert of_b["precision"]["value"] is None
    page = (tmp_path / "result" / "report.html").read_text()
    assert "Recall of b on held-out cells" in page
    assert not (tmp_path / "result" / "figures" / "roc.svg").exists()
    assert "undefined" not in (tmp_path / "result" / "methods.md").read_text()
    loaded = Result.load(tmp_path / "result")
    assert (loaded.main_metric, loaded.main_label) == ("accuracy", "recall of b")
    assert "recall of b" in repr(loaded)


def test_of_several_entries_on_one_class_none_is_called_the_best():
    assert "best" in package.judge(scores(["a", "b"] * 20, ("x", "y"))).findings
    table = scores(["b"] * 40, ("x", "y"))
    assert not {"best", "paired"} & set(package.judge(table).findings)
    with pytest.raises(UsageError, match="cells of one class"):
        package.judge(table, primary=["x", "y"])


def test_of_two_of_three_classes_the_stamp_says_which_is_absent():
    found = package.judge(scores(["a", "b"] * 20))
    assert "none judged is of c: figures are of the other 2 classes" in found.stamps
    assert found.main_metric == "balanced_accuracy"
    of_c = found.findings["classes"][2]
    assert np.isnan([of_c["precision"]["value"], of_c["f1"]["value"], of_c["auroc"]["value"]]).all()
    assert 0 < of_c["specificity"]["low"] < of_c["specificity"]["value"]


@pytest.mark.parametrize("unit", ["cell", "subject"])
def test_evaluate_takes_a_cohort_of_one_class(tmp_path, unit):
    def table(name, seeds, labels):
        rows = []
        for at, (seed, label) in enumerate(zip(seeds, labels, strict=True)):
            write_image(tmp_path / name / f"{at}.png", paint(seed, radius=20 - 5 * (label == "b")))
            rows.append(f"{at}.png,{label},{name} {at % 8}")
        (tmp_path / name / "t.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")
        return tmp_path / name / "t.csv"

    common = {"store": tmp_path / "store"}
    learnt = {"features": ["colour"], "classifier": "pool" if unit == "subject" else "logreg", "splits": 2}
    data = table("cells", range(16), ["a", "b"] * 8)
    train(TrainConfig(data=data, output=tmp_path / "model", unit=unit, **learnt, **common))
    controls = table("controls", range(50, 62), ["b"] * 12)
    stress = {"stress": True, "stress_cells": 4} if unit == "cell" else {}
    result = evaluate(
        EvaluateConfig(model=tmp_path / "model", data=controls, output=tmp_path / "result", **stress, **common)
    )
    assert (result.judged, result.main_label) == (unit, "recall of b")
    assert result.figures[0]["confusion"][0] == [0, 0]
    assert any(stamp.startswith("all judged are of one class, b") for stamp in result.stamps)
    if stress:
        rows = result.findings["stress"]["rows"]
        assert all("balanced_accuracy" not in row and 0 <= row["accuracy"]["value"] <= 1 for row in rows)
        assert "recall of b falls from" in " ".join(analysis_lines(result))
