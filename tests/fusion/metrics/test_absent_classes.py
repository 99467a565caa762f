"""What is told of some of the classes alone, and what is not."""

import numpy as np
import pytest

from fusion.metrics.judgement import judge_scores

CLASSES = ["a", "b", "c"]


def scored(y, classes=CLASSES, seed=0):
    """Scores of cells of these labels, two a group, and their figures."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.ones(len(classes)), len(y)) + 0.5 * np.eye(len(classes))[[classes.index(one) for one in y]]
    proba /= proba.sum(axis=1, keepdims=True)
    return proba, judge_scores(y, proba, classes, np.arange(len(y)) // 2).figures


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [["a", "b"], CLASSES])
@pytest.mark.parametrize("own", [0, 1])
def test_of_one_class_recall_is_told_and_what_compares_classes_is_not(classes, own):
    proba, found = scored([classes[own]] * 40, classes)
    hits = proba.argmax(axis=1) == own
    figures = found["image"]
    recall = figures["accuracy"]
    assert recall["value"] == pytest.approx(hits.mean())
    assert recall["low"] < recall["value"] < recall["high"]
    share = "specificity" if len(classes) == 2 and own == 0 else "sensitivity"
    assert figures[share] == recall
    assert figures["log_loss"]["value"] == pytest.approx(-np.log(proba[:, own]).mean())
    left_out = {metric for metric, figure in figures.items() if "one class" in figure["note"]}
    assert {"balanced_accuracy", "auroc", "f1_macro", "f1_weighted", "mcc", "auprc", "ppv", "npv"} <= left_out
    assert {"sensitivity", "specificity"} - left_out == {share}
    for metric in left_out:
        assert np.isnan([figures[metric][part] for part in ("value", "low", "high")]).all()
        assert figures[metric]["note"] == f"all judged are of one class, {classes[own]}"
    assert found["absent"] == [name for name in classes if name != classes[own]]


@pytest.mark.filterwarnings("error")
def test_of_two_of_three_classes_means_are_over_these():
    proba, found = scored(["a", "b"] * 30)
    predicted = np.array(CLASSES)[proba.argmax(axis=1)].reshape(-1, 2)
    figures = found["image"]
    recalls = (predicted == ["a", "b"]).mean(axis=0)
    assert figures["balanced_accuracy"]["value"] == pytest.approx(recalls.mean())
    assert figures["auroc"]["note"] == "over 2 of 3 classes: none judged is of c"
    assert np.isnan(figures["f1_macro"]["value"])
    assert figures["f1_macro"]["note"] == "none judged is of c"
    assert figures["calibration_slope"]["low"] < figures["calibration_slope"]["high"]
    _, whole = scored(["a", "b", "c"] * 20)
    assert (whole["absent"], whole["image"]["auroc"]["note"]) == ([], "")
