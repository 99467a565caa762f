"""What a model relies on: the block that tells, the feature that tells, and nothing where nothing does."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis.block_importance import BlockImportance, importance
from fusion.leakage.protocols import make_plan
from fusion.learning import fits, shared_distances
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit
from tests.builders.comparisons import cells, config, fits_of, recipe, run


def asked(table, classifiers, kind="grouped", memory=0.0, **settings):
    splits = [split for _, split in make_plan(table, kind, 4, 1, 0).splits]
    given = {"classifiers": {"xgb": {"n_estimators": 60}}, "positive": "all", **settings}
    whole = [recipe(table, name, **given) for name in classifiers]
    # Of several sets of blocks fits share distances; those of all blocks are asked.
    every = [replace(each, blocks=blocks) for each in whole for blocks in (("a",), each.blocks)]
    load = replace(fits_of(table, splits, every, memory), examination=BlockImportance())
    fits_made = [Fit(number, at) for number in range(len(every)) for at in range(len(splits))]
    return importance(load, {found.fit: found.answers for found in run_fits(fits_made, load) if found.answers})


def one_that_tells(effect=1.5, subjects=24):
    """Block ``a`` tells by its second column alone, ``b`` not at all."""
    table = cells(subjects=subjects, each=6, class_effect=0, subject_effect=0.3)
    X = table.X.copy()
    X[:, 1] += effect * np.where(np.array(table.y) == "hem", 1, -1)
    return replace(table, X=X)


@pytest.mark.parametrize("kind", ["grouped", "leave-one-subject-out"])
def test_the_block_that_tells_is_missed_and_the_other_is_not(kind):
    for row in asked(one_that_tells(), ["logreg", "xgb"], kind):
        message, other = row["blocks"]
        assert (message["block"], other["block"]) == ("a", "b")
        # Strangers' values leave a coin toss: nearly all that is above chance is lost.
        assert 0.25 < message["value"] < 0.55
        assert message["low"] > (0.2 if kind == "grouped" else 0.1)  # of ten subjects less is known
        assert other["low"] <= 0.03
        assert abs(other["value"]) < 0.06
        assert row["cells"] == (144 if kind == "grouped" else 60)  # ten subjects of 24, or all of four folds


def test_trees_tell_which_feature_they_go_by_and_other_classifiers_do_not():
    logreg, xgb = asked(one_that_tells(), ["logreg", "xgb"])
    assert "features" not in logreg
    assert xgb["features"]["a"][0]["feature"] == "a.1"
    shares = sorted(top["share"] for block in xgb["features"].values() for top in block)
    assert shares[-1] == xgb["features"]["a"][0]["share"] > 2 * shares[-2]
    assert sum(shares) == pytest.approx(1, abs=0.01)  # all seven columns are among the first five of their blocks


def test_nothing_is_lost_where_nothing_tells():
    (row,) = asked(one_that_tells(effect=0.0), ["logreg"])
    assert all(block["low"] <= 0.02 and block["value"] < 0.1 for block in row["blocks"])


def test_the_cells_that_are_asked_have_a_say_by_their_own_threshold():
    # From a probability of nearly 1 on nothing is called positive, with or without a block: nothing can be lost.
    (row,) = asked(one_that_tells(), ["logreg"], threshold="0.999999")
    assert [block["value"] for block in row["blocks"]] == [0, 0]


def test_the_same_seed_gives_the_same_figures():
    first, again = (asked(one_that_tells(subjects=12), ["xgb"]) for _ in range(2))
    assert first == again


def test_shared_distances_tell_what_columns_tell(monkeypatch):
    table = one_that_tells(effect=0.6)
    plain = asked(table, ["svm"])
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    measured = []
    shared = shared_distances.SharedDistances.__init__

    def watched(self, *arguments):
        measured.append(shared(self, *arguments))

    monkeypatch.setattr(shared_distances.SharedDistances, "__init__", watched)
    assert asked(table, ["svm"], memory=1e9) == plain
    assert len(measured) == 4


@pytest.mark.parametrize("classifier", ["logreg", "xgb", "svm"])
def test_importance_fits_nothing(tmp_path, monkeypatch, classifier):
    """As many fits as there are sets and splits, and one more for every fold of a calibration: importance has none."""
    from fusion.plugins import registry

    made = type(registry.build_classifier(classifier))
    fitted = []

    def counted(name):
        fit = getattr(made, name)

        def watched(self, X, y, *others):
            fitted.append(len(y))
            return fit(self, X, y, *others)

        monkeypatch.setattr(made, name, watched)

    counted("fit")
    if hasattr(made, "fit_distances"):
        counted("fit_distances")
        monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    table = one_that_tells(subjects=12)
    few = {"xgb": {"n_estimators": 10}} if classifier == "xgb" else {}
    result = run(table, config(tmp_path, compare=[classifier], splits=3, classifiers=few))
    assert result.findings["importance"][0]["classifier"] == classifier
    assert len(fitted) == 3 * 3  # sets of two blocks, folds


def test_an_ablation_that_goes_on_has_the_importance_of_one_that_was_not_stopped(tmp_path, monkeypatch):
    """Answers are kept beside the scores; a fit whose answers are lost is made again."""
    table, settings = one_that_tells(subjects=12), config(tmp_path, compare=["logreg"], splits=3)
    whole = run(table, settings).findings["importance"]
    kept = sorted((tmp_path / "out").rglob("*.lost.npy"))
    assert len(kept) == 3  # of the set of both blocks
    assert run(table, settings).findings["importance"] == whole
    kept[1].unlink()
    assert run(table, settings).findings["importance"] == whole
    assert kept[1].exists()
