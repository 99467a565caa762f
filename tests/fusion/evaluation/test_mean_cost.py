"""What mistakes cost on average: the plain mean, with an interval by subject that never lacks width."""

import numpy as np
import pandas as pd
import pytest

import fusion as package
from fusion.evaluation.curves import roc_curve
from tests.builders.results import result

COSTS = {"a": {"b": 4.0}}


def scored(right, subjects=12, cells=3, folds=False):
    """Cells of two classes, ``right`` of which are scored on the side of theirs."""
    draw = np.random.default_rng(1)
    count = subjects * cells
    group = np.arange(count) // cells
    label = np.where(group % 2, "b", "a")
    is_right = draw.random(count) < right
    p = np.where((label == "b") == is_right, 0.9, 0.1)
    frame = pd.DataFrame({"subject": [f"P{at}" for at in group], "label": label, "score": p})
    return frame.assign(fold=group % 3) if folds else frame


@pytest.mark.parametrize("folds", [False, True])
def test_the_mean_cost_is_that_of_the_cells_and_its_interval_is_over_subjects(folds):
    frame = scored(0.7, folds=folds)
    (row,) = package.judge(frame, positive="b", costs=COSTS).findings["costs"]["rows"]
    threshold = 4 / 5  # where b costs 1 to miss and 4 to name wrongly
    predicted = np.where(frame["score"] >= threshold, "b", "a")
    paid = np.where(predicted == frame["label"], 0, np.where(frame["label"] == "a", 4, 1))
    assert row["value"] == pytest.approx(paid.mean())
    by_subject = [paid[(frame["subject"] == who).to_numpy()].mean() for who in frame["subject"].unique()]
    of = frame.drop_duplicates("subject")["label"].to_numpy()
    error = np.sqrt(sum(np.var([m for m, k in zip(by_subject, of, strict=True) if k == c], ddof=1) for c in "ab") / 24)
    assert row["low"] < row["value"] < row["high"]
    if not folds:
        assert row["high"] - row["low"] == pytest.approx(2 * 2.2 * error, rel=0.25)
    assert row["kind"] == ("procedure" if folds else "models")


def test_nobody_is_free_of_mistakes_beyond_doubt():
    (row,) = package.judge(scored(1.0), positive="b", costs=COSTS).findings["costs"]["rows"]
    assert (row["value"], row["low"]) == (0.0, 0.0)
    assert row["high"] == pytest.approx(4 * (1 - 0.025 ** (1 / 6)))  # Clopper and Pearson, none of 6 subjects


def test_the_band_of_a_roc_curve_never_falls():
    curve = roc_curve(result(), 0)
    for part in (curve.y, curve.low, curve.high):
        assert (np.diff(part[~np.isnan(part)]) >= -1e-12).all()
