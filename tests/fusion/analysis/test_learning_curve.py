"""The learning curve: smaller training parts of whole subjects, the same cells judged."""

import numpy as np
import pytest

from fusion.analysis.learning_curve import smaller_split
from fusion.leakage.protocols import make_plan
from tests.builders.comparisons import cells, config, run


def test_a_smaller_training_part_is_of_whole_subjects_of_each_class_alike():
    table = cells(subjects=40)
    split = make_plan(table, "grouped", 5, 1, 0).rounds[0][0]
    y = np.array(table.y, object)
    held = []
    for share in (0.25, 0.5, 0.75):
        less = smaller_split(split, y, share, 0)
        groups = set(table.groups[less.train].tolist())
        assert (less.test == split.test).all()
        assert len(less.train) == 6 * len(groups)
        for label in ("all", "hem"):
            assert len({g for g in groups if (y[table.groups == g] == label).all()}) == round(share * 16)
        held.append(groups)
    assert held[0] < held[1] < held[2]


def test_too_few_subjects_have_no_point():
    table = cells(subjects=6)
    split = make_plan(table, "grouped", 3, 1, 0).rounds[0][0]
    assert smaller_split(split, np.array(table.y, object), 0.25, 0) is None


def test_more_subjects_bring_more_and_the_last_point_is_the_result(tmp_path):
    table = cells(subjects=48, class_effect=0.7, subject_effect=0.5)
    result = run(table, config(tmp_path, repeats=1, compare=["logreg"], learning_curve=True))
    curve = result.findings["learning_curve"]
    assert [point["share"] for point in curve["points"]] == [0.25, 0.5, 0.75, 1]
    subjects = [point["subjects"] for point in curve["points"]]
    assert subjects == pytest.approx([9.6, 19.2, 28.8, 38.4], abs=1.5)
    best = result.figures[result.ranked()[0]]["image"]["balanced_accuracy"]
    values = [point["balanced_accuracy"] for point in curve["points"]]
    assert values[-1]["value"] == best["value"] > values[0]["value"]
    assert all(one["low"] < one["value"] < one["high"] for one in values)
