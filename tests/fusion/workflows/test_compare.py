"""fusion compare: the figures of results on the same cells are those that the results have themselves."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from fusion.evaluation.score_frames import cells_of, entries_of, score_frame
from fusion.settings.commands import CompareConfig
from fusion.workflows.compare import compare_results
from tests.builders import comparisons


def saved(tmp_path, name, **given):
    settings = comparisons.config(tmp_path, compare=["logreg"], subsets=["a"], splits=4, **given)
    found = comparisons.run(comparisons.cells(), settings)
    found.save(tmp_path / name, tmp_path)
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, saved(folder, "usual"), saved(folder, "kind", threshold="sensitivity:0.95")


def test_predicted_classes_follow_the_thresholds_of_each_result(results):
    folder, usual, kind = results
    own = [one.figures[0]["image"]["balanced_accuracy"]["value"] for one in (usual, kind)]
    assert abs(own[0] - own[1]) > 0.02  # the thresholds matter here
    (row,) = compare_results(CompareConfig(results=[folder / "usual", folder / "kind"])).rows
    assert row["balanced_accuracy"]["value"] == pytest.approx(own[0] - own[1], abs=1e-12)
    assert row["auroc"]["value"] == pytest.approx(0, abs=1e-12)


def test_scores_that_are_written_and_read_again_are_the_same(results):
    _, _, kind = results
    frame = score_frame(kind.cells, kind.classes, kind.positive, kind.scores, ("leaky: twice", "approximate"))
    assert set(frame["stamp"]) == {"leaky: twice; approximate"}
    cells = cells_of(frame)
    order = kind.cells.in_order[0]
    assert cells.names == tuple(sorted(kind.cells.names))
    assert (cells.y, cells.subjects) == tuple(
        tuple(of[at] for at in order) for of in (kind.cells.y, kind.cells.subjects)
    )
    assert_array_equal(cells.in_order[1], kind.cells.in_order[1])
    (again,) = entries_of(frame, cells, kind.classes)
    for part in ("proba", "fold", "threshold"):
        assert_array_equal(getattr(again, part), getattr(kind.scores[0], part)[:, order])
    assert (again.features, again.classifier) == (kind.scores[0].features, kind.scores[0].classifier)
    shuffled = frame.sample(frac=1, random_state=0)
    (other,) = entries_of(shuffled, cells, kind.classes)
    assert_array_equal(other.proba, again.proba)


def test_sources_tell_subjects_of_one_name_apart():
    table = pd.DataFrame(
        {
            "name": list("abcd"),
            "key": list("abcd"),
            "subject": ["7", "7", None, "8"],
            "source": ["east", "west", "west", "west"],
            "group": np.arange(4),
            "label": list("xyxy"),
        }
    )
    found = cells_of(table)
    assert len(set(found.groups)) == 4
    assert found.subject_names == ["7 of east", "7 of west", None, "8 of west"]
    assert len(set(cells_of(table.drop(columns="source")).groups)) == 3
