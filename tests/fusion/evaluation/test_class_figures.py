"""Figures of each class against the rest."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support

import fusion
from fusion.evaluation.class_figures import CLASS_METRICS, class_figures
from fusion.evaluation.curves import roc_curve
from fusion.evaluation.results import Result
from fusion.evaluation.scores import Scores
from fusion.reports import html_report
from tests.builders.tables import table_of


def three_classes(repeats=1, folds=4, seed=0) -> Result:
    rng = np.random.default_rng(seed)
    table = table_of(subjects=24, cells=8)
    y = np.array(["a", "b", "c"])[table.groups % 3]
    proba = rng.dirichlet([1, 1, 1], (repeats, len(y))) + np.eye(3)[table.groups % 3] * 0.6
    proba /= proba.sum(axis=2, keepdims=True)
    fold = np.tile(table.groups // 3 % folds, (repeats, 1))
    return Result(
        command="ablate",
        cells=replace(table, y=tuple(y)),
        classes=("a", "b", "c"),
        positive=None,
        scores=(Scores(("a",), "svm", proba, fold),),
        figures=(),
        config="",
    )


def test_figures_are_scikit_learns_one_class_at_a_time():
    result = three_classes()
    found = class_figures(result, 0)
    predicted = np.array(result.classes)[result.scores[0].proba[0].argmax(axis=1)]
    precision, recall, f1, _ = precision_recall_fscore_support(result.cells.y, predicted, labels=result.classes)
    for at, row in enumerate(found):
        assert (row["class"], row["cells"], row["subjects"]) == (result.classes[at], 64, 8)
        for metric, expected in (("sensitivity", recall), ("precision", precision), ("f1", f1)):
            assert row[metric]["value"] == pytest.approx(expected[at])


@pytest.mark.parametrize("repeats", [1, 3])
def test_every_figure_has_an_interval_with_width(repeats):
    for row in class_figures(three_classes(repeats), 0):
        for metric in CLASS_METRICS:
            assert row[metric]["low"] < row[metric]["value"] < row[metric]["high"], metric


def test_of_one_model_intervals_are_narrower_than_of_the_procedure():
    trained, fixed = (class_figures(three_classes(folds=folds), 0) for folds in (4, 1))
    for one, other in zip(trained, fixed, strict=True):
        width = [row["sensitivity"]["high"] - row["sensitivity"]["low"] for row in (one, other)]
        assert width[0] > width[1]


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_area_under_the_curve_of_a_class_is_its_auroc(repeats):
    result = three_classes(repeats)
    for row in class_figures(result, 0):
        curve = roc_curve(result, 0, row["class"])
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(row["auroc"]["value"], abs=0.01)
    with pytest.raises(ValueError, match="more than two classes"):
        roc_curve(result, 0)


def test_scores_of_three_classes_are_judged_class_by_class():
    shown = three_classes()
    proba = shown.scores[0].proba[0]
    columns = {"subject": shown.cells.groups, "label": shown.cells.y, "fold": shown.scores[0].fold[0]}
    frame = pd.DataFrame({**columns, **{f"p_{name}": proba[:, at] for at, name in enumerate(shown.classes)}})
    judged = fusion.judge(frame)
    assert judged.findings["classes"] == class_figures(judged, 0)
    page = html_report.page(judged, html_report.draw(judged))
    assert "Class by class" in page
    assert all(f"{name} against the rest" in page for name in shown.classes)


def test_of_two_classes_there_is_the_same_table():
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(20), 5)
    y = np.array(["all", "hem"])[subjects % 2]
    score = np.clip(rng.normal(0.5, 0.2, len(y)) + 0.2 * (y == "all"), 0, 1)
    judged = fusion.judge(pd.DataFrame({"subject": subjects, "label": y, "score": score}), positive="all")
    rows = {row["class"]: row for row in judged.findings["classes"]}
    predicted = np.where(score >= 0.5, "all", "hem")
    found = precision_recall_fscore_support(y, predicted, labels=["all", "hem"])[:3]
    for at, name in enumerate(("all", "hem")):
        measured = [rows[name][metric]["value"] for metric in ("precision", "sensitivity", "f1")]
        assert measured == pytest.approx([part[at] for part in found])
    assert rows["all"]["auroc"] == rows["hem"]["auroc"]
    figures = judged.figures[0]["image"]
    for metric in ("sensitivity", "specificity", "auroc", "calibration_slope"):
        assert rows["all"][metric]["value"] == pytest.approx(figures[metric]["value"])
        assert rows["all"][metric]["low"] == pytest.approx(figures[metric]["low"])
    page = html_report.page(judged, html_report.draw(judged))
    assert "Class by class" in page
    assert "<td>hem</td>" in page
