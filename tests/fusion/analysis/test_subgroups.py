"""Subgroups: their figures, and the worst by name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis.subgroups import subgroup_names, subgroups
from fusion.metrics.classification import image_metrics
from tests.builders.command_line import assert_refused, fusion
from tests.builders.results import result


def test_the_worst_subgroup_is_named_with_its_own_figures():
    shown = result()
    shown = replace(shown, scores=shown.scores[:1], figures=shown.figures[:1])
    proba = shown.scores[0].proba.copy()
    is_b = np.arange(48) % 3 == 0
    proba[:, is_b] = 1 - proba[:, is_b]  # wrong where it was right
    shown = replace(shown, scores=(replace(shown.scores[0], proba=proba),))
    sexes = np.where(is_b, "f", "m").tolist()
    (found,) = subgroups(shown, {"sex": sexes})
    assert found["by"] == "sex"
    assert found["worst"] == "f" == found["rows"][0]["subgroup"]
    worst = found["rows"][0]
    assert (worst["cells"], worst["subjects"]) == (16, 16)
    expected = image_metrics(np.array(shown.cells.y)[is_b], proba[0, is_b], ["all", "hem"])
    for metric in ("balanced_accuracy", "sensitivity", "specificity"):
        assert worst[metric]["value"] == pytest.approx(expected[metric])
        assert worst[metric]["low"] < worst[metric]["high"]


def test_a_subgroup_of_one_class_is_no_worst():
    shown = result()
    (found,) = subgroups(shown, {"stage": [None if label == "hem" else "late" for label in shown.cells.y]})
    assert found["worst"] is None
    assert {row["subgroup"] for row in found["rows"]} == {"late", "unknown"}
    assert not any(row["is_whole"] for row in found["rows"])


def test_many_numbers_are_thirds():
    names = subgroup_names([str(age) for age in range(20, 80)] + [None])
    assert sorted(set(names)) == ["20 to 39", "40 to 59", "60 to 79", "unknown"]
    assert set(subgroup_names(["1", "2", "1"])) == {"1", "2"}


def test_a_column_of_the_table_makes_subgroups_in_train_and_evaluate(synthetic, tmp_path):
    images = sorted(synthetic.rglob("*.bmp"))
    rows = [f"{path},{path.parent.name},{path.stem.split('_')[1]},{'ab'[at % 2]}" for at, path in enumerate(images)]
    table = tmp_path / "cells.csv"
    table.write_text("path,label,subject,scanner\n" + "\n".join(rows) + "\n")
    words = ("--features", "morphology", "--classifier", "logreg", "--by", "scanner", "--null", 2, "-o", tmp_path / "m")
    done = fusion("train", table, *words)
    assert done.exit_code == 0, done.stderr
    assert "Worst by scanner" in done.stdout
    assert "permuted by subject (2 times)" in done.stdout
    judged = ("--allow-leakage", "--by", "scanner", "--set", "prevalence=0.1", "-o", tmp_path / "r")
    again = fusion("evaluate", tmp_path / "m", table, *judged)
    assert again.exit_code == 0, again.stderr
    found = json.loads((tmp_path / "r" / "result.json").read_text())
    assert {row["subgroup"] for row in found["findings"]["subgroups"][0]["rows"]} == {"a", "b"}
    image = found["results"][0]["image"]
    sensitivity, specificity = (image[name]["value"] for name in ("sensitivity", "specificity"))
    ppv = 0.1 * sensitivity / (0.1 * sensitivity + 0.9 * (1 - specificity))
    assert image["ppv"]["value"] == pytest.approx(ppv)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Subgroups by scanner" in page
    wrong = fusion("train", table, "--features", "morphology", "--by", "scaner", "-o", tmp_path / "n")
    assert_refused(wrong, 2, "scaner", "scanner")


def test_a_folder_has_no_columns(synthetic, tmp_path):
    done = fusion("train", synthetic, "--features", "morphology", "--by", "sex", "-o", tmp_path / "n")
    assert_refused(done, 2, "--by sex", "CSV or Parquet")
