"""Features that tell the training sources apart are left out, by training cells alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.data.feature_table import FeatureTable
from fusion.feature_transforms.stable_features import Selection, selection_notes, stability
from fusion.leakage.grouped_splits import Split
from fusion.learning.fit_batches import score
from fusion.learning.fits import Fit, Fits
from fusion.learning.fused_model import fuse
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study

rng = np.random.default_rng(8)
CELLS = 600
LABELS = np.array(["all", "hem"])[np.arange(CELLS) % 2]
SOURCES = np.array(["north", "south", "west"])[np.arange(CELLS) // 200]
KIND, PLACE = (LABELS == "all").astype(float), np.arange(CELLS) // 200 - 1.0

#: Informative and stable; reveals the source; both at once; noise. Then one that never varies, and one never defined.
X = np.column_stack(
    [
        2 * KIND + rng.normal(size=CELLS),
        3 * PLACE + rng.normal(size=CELLS),
        2 * KIND + 3 * PLACE + rng.normal(size=CELLS),
        rng.normal(size=CELLS),
        np.full(CELLS, 7.0),
        np.full(CELLS, np.nan),
    ]
).astype(np.float32)


def by_hand(column: np.ndarray) -> float:
    """1 - ICC(1) of the cells of one class, from the mean squares of a one-way analysis of variance."""
    groups = [column[name == SOURCES] for name in np.unique(SOURCES)]
    size = len(groups[0])
    between = size * np.var([group.mean() for group in groups], ddof=1)
    within = np.mean([group.var(ddof=1) for group in groups])
    return float(1 - (between - within) / (between + (size - 1) * within))


def test_stability_is_one_less_the_intraclass_correlation():
    one_class = np.full(CELLS, "all")
    found = stability(X[:, 1:3], one_class, SOURCES)
    assert found == pytest.approx([by_hand(X[:, 1].astype(float)), by_hand(X[:, 2].astype(float))], rel=1e-6)


def test_what_tells_the_source_is_left_out_and_what_tells_the_class_is_kept():
    found = stability(X, LABELS, SOURCES)
    assert found[0] > 0.95
    assert found[1] < 0.2
    assert found[2] < 0.2
    assert found[3] > 0.95
    assert np.isnan(found[4:]).all()
    assert Selection.fit(X, LABELS, SOURCES, 0.7).kept.tolist() == [True, False, False, True, True, True]


def test_a_mix_of_classes_is_not_taken_for_a_source():
    """South has nine in ten of one class: the feature of the class differs there in the mean, not within the class."""
    some = np.concatenate([np.flatnonzero(SOURCES != "south"), np.flatnonzero((SOURCES == "south") & (KIND == 1))])
    rows, names = X[some, 0], SOURCES[some]
    assert rows[names == "south"].mean() - rows[names == "north"].mean() > 0.8
    assert stability(X[some], LABELS[some], names)[0] > 0.95


def test_the_order_of_cells_changes_no_bit():
    order = rng.permutation(CELLS)
    one, two = stability(X, LABELS, SOURCES), stability(X[order], LABELS[order], SOURCES[order])
    assert one.tobytes() == two.tobytes()


def test_undefined_values_are_left_out_of_the_sums():
    some = rng.permutation(CELLS)[:150]
    holed = X.copy()
    holed[some, :4] = np.nan
    rest = np.setdiff1d(np.arange(CELLS), some)
    assert stability(holed, LABELS, SOURCES)[:4] == pytest.approx(
        stability(X[rest], LABELS[rest], SOURCES[rest])[:4], rel=1e-9
    )


@pytest.mark.parametrize(
    ("labels", "sources"),
    [(LABELS, np.full(CELLS, "north")), (SOURCES, SOURCES)],
    ids=["one source", "no shared class"],
)
def test_where_nothing_can_be_told_nothing_is_left_out_and_that_is_said(labels, sources):
    selection = Selection.fit(X, labels, sources, 0.9)
    assert selection.kept.all()
    (note,) = selection_notes([selection], "abcdef")
    assert "no feature is left out" in note


def test_a_note_says_how_many_and_names_the_worst():
    (note,) = selection_notes(
        [Selection.fit(X, LABELS, SOURCES, 0.7)], ["mass", "stain", "both", "noise", "flat", "none"]
    )
    assert "2 of 6 features left out" in note
    assert "most: stain, both" in note or "most: both, stain" in note


@pytest.mark.parametrize("classifier", ["logreg", "xgb"])
def test_a_model_does_not_learn_from_what_was_left_out(classifier):
    """The source that is judged has the planted features ten times as far out, which a plain model falls for."""
    groups = np.arange(CELLS)
    y = np.where(PLACE > 0, "all", LABELS)  # so that the source tells something of the class
    plain, chosen = (
        fuse(X, y, groups, {"block": slice(0, 6)}, classifier, sources=list(SOURCES), stability=least)
        for least in (None, 0.7)
    )
    moved = X.copy()
    moved[:, 1:3] += 30
    assert_array_equal(chosen.predict_proba(moved), chosen.predict_proba(X))
    assert np.abs(plain.predict_proba(moved) - plain.predict_proba(X)).max() > 0.1


def test_a_selection_is_what_it_was_when_it_is_read_again():
    one = Selection.fit(X, LABELS, SOURCES, 0.7)
    two = Selection.from_json(json.loads(json.dumps(one.to_json())))
    assert one.stability.tobytes() == two.stability.tobytes()
    assert (one.least, one.sources) == (two.least, two.sources)
    assert_array_equal(one.transform(X), two.transform(X))


def test_the_judged_source_has_no_say_in_what_is_left_out(tmp_path):
    """Planted: other labels in the judged source, and other cells beside the first one, leave its score as it is."""
    train, test = np.flatnonzero(SOURCES != "west"), np.flatnonzero(SOURCES == "west")
    split = Split(train, test, np.arange(CELLS))

    def scores(features, labels):
        names = tuple(map(str, range(CELLS)))
        columns = [f"block.x{at}" for at in range(6)]
        table = replace(
            FeatureTable.of_cells(features, columns, names),
            y=tuple(labels),
            subjects=names,
            subjects_known=True,
            sources=tuple(SOURCES),
        )
        recipe = Recipe(("block",), "logreg", stability=0.7)
        return score(Fit(0, 0), Fits(Study(table), (split,), (recipe,), Run(tmp_path))).proba

    changed, wrong = X.copy(), LABELS.copy()
    changed[test[1:], :4] = rng.normal(size=(len(test) - 1, 4)) * 100
    wrong[test] = wrong[test[::-1]]
    assert scores(changed, wrong)[0].tobytes() == scores(X, LABELS)[0].tobytes()
