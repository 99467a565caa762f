"""Classifiers of images and networks as blocks are entries of a comparison like any other, on the same folds."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from fusion.evaluation.scores import entry_name
from fusion.leakage.grouped_splits import Split
from fusion.leakage.protocols import make_plan
from fusion.learning import cross_validation
from fusion.reports import html_report
from fusion.settings.commands import AblateConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.ablation_plan import recipes_of
from fusion.workflows.run_facts import judged_together_stamps
from tests.builders.comparisons import recipe
from tests.builders.images import paint, write_image
from tests.builders.tables import table_of

pytestmark = pytest.mark.usefixtures("one_thread")

#: A network that is trained in a moment.
NETWORK = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "size": 32,
    "drop_path": 0.0,
    "head": [],
    "head_dropout": [0.0],
}
TRAINING = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "patience": 0, "validation": 0.0}
NEURAL = {"network": NETWORK, "training": TRAINING, "threads": 1}

#: Entries of two blocks, as the results of both classifiers are ordered.
SETS = [("colour",), ("morphology",), ("colour", "morphology")]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """24 cells of 8 subjects."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    return synthesize(tmp_path_factory.mktemp("few") / "cells", SyntheticDesign(subjects=8, cells_per_subject=3))


@pytest.fixture(scope="module")
def asked(few, tmp_path_factory):
    """Settings of an ablation of these cells, but for what a test asks."""
    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("results")

    def settings(name, **given):
        return AblateConfig(
            **{
                "data": few,
                "output": folder / name,
                "store": store,
                "jobs": 1,
                "splits": 2,
                "repeats": 1,
                "features": ["colour", "morphology"],
                "compare": ["logreg", "neural"],
                "classifiers": {"neural": NEURAL},
                **given,
            }
        )

    return settings


@pytest.fixture(autouse=True)
def without_page(monkeypatch):
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)  # drawn elsewhere, and slow


def entries(result):
    return {(scores.classifier, scores.features): scores for scores in result.scores}


@pytest.fixture(scope="module")
def both(asked):
    """Images and blocks beside features alone, with what is written of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_report, "write_report", lambda *given: None)
        settings = asked("both")
        return ablate(settings), json.loads((settings.output / "result.json").read_text())


def test_a_classifier_of_images_sees_images_alone_and_beside_every_set_of_blocks(both):
    found = entries(both[0])
    assert list(found) == [
        ("neural", ("image",)),
        *((name, (*image, *blocks)) for blocks in SETS for name, image in (("logreg", ()), ("neural", ("image",)))),
    ]
    folds = next(iter(found.values())).fold
    for scores in found.values():
        assert np.isfinite(scores.proba).all()
        assert_array_equal(scores.fold, folds)


def test_every_epoch_of_every_fold_is_kept(both):
    result, written = both
    trainings = {row["name"]: row["epochs"] for row in written["findings"]["training"]}
    assert set(trainings) == {entry_name(scores) for scores in result.scores if scores.classifier == "neural"}
    for epochs in trainings.values():
        assert {epoch["split"] for epoch in epochs} == {0, 1}
        assert all(np.isfinite(epoch["loss"]) for epoch in epochs)
        assert next(epoch["epoch"] for epoch in epochs if epoch["split"] == 0) == 1


def test_the_others_are_judged_as_without_it_to_the_last_bit(both, asked):
    alone, beside = entries(ablate(asked("alone", compare=["logreg"]))), entries(both[0])
    assert len(alone) == 3
    for name, scores in alone.items():
        assert_array_equal(scores.proba, beside[name].proba)


def test_what_blocks_add_is_counted_from_images_alone(both):
    result, written = both
    told = {(row["classifier"], row["metric"]): row for row in written["findings"]["shapley"]}
    assert {name for name, _ in told} == {"logreg", "neural"}
    value = {
        (s.classifier, s.features): f["image"]["balanced_accuracy"]["value"]
        for s, f in zip(result.scores, result.figures, strict=True)
    }
    for name, image, nothing in (("logreg", (), 0.5), ("neural", ("image",), value["neural", ("image",)])):
        row = told[name, "balanced_accuracy"]
        assert [each["block"] for each in row["blocks"]] == ["colour", "morphology"]
        assert sum(each["shapley"]["value"] for each in row["blocks"]) == pytest.approx(
            value[name, (*image, "colour", "morphology")] - nothing
        )
        for each in row["blocks"]:
            assert each["alone"]["value"] == pytest.approx(value[name, (*image, each["block"])] - nothing)


def test_what_a_model_relies_on_is_asked_of_features_alone_and_the_result_says_so(both):
    result, written = both
    assert [row["classifier"] for row in written["findings"]["importance"]] == ["logreg"]
    assert any("neural: what a model of all blocks relies on" in note for note in written["notes"])
    # All that is returned was written: nothing is appended after.
    assert list(result.notes) == written["notes"]
    assert list(result.stamps) == written["stamps"]
    assert set(result.findings) == set(written["findings"])


def test_a_run_that_was_stopped_goes_on(both, asked, monkeypatch):
    trained, learn = [], cross_validation.learn

    def stopped(study, units, recipe, *given, **more):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(recipe.name)
        return learn(study, units, recipe, *given, **more)

    monkeypatch.setattr(cross_validation, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        ablate(asked("stopped"))
    again = []
    monkeypatch.setattr(
        cross_validation, "learn", lambda *given, **more: again.append(given[2].name) or learn(*given, **more)
    )
    result = ablate(asked("stopped"))
    assert len(again) == 4 * 2 - 3
    for one, other in zip(both[0].scores, result.scores, strict=True):
        assert_array_equal(one.proba, other.proba)
    assert not (asked("stopped").output / "unfinished").exists()


def test_images_alone_need_no_features(both, asked):
    (scores,) = ablate(asked("none", features=["none"], compare=["neural"])).scores
    assert scores.features == ("image",)
    assert_array_equal(scores.proba, entries(both[0])["neural", ("image",)].proba)


def test_named_sets_are_all_there_is(asked):
    result = ablate(asked("named", subsets=["colour+morphology"]))
    assert [scores.features for scores in result.scores] == [
        ("colour", "morphology"),
        ("image", "colour", "morphology"),
    ]
    assert result.findings["shapley"] == []


def test_a_rule_for_sets_has_images_alone_too(asked):
    settings = asked("rule", subsets=["all"])
    sets = [recipe.features for recipe in recipes_of(settings, ["colour", "morphology"], [])]
    assert ("image",) in sets
    assert len(sets) == 7


def test_an_external_test_set_is_judged_by_images_too(asked, tmp_path):
    rows = []
    for at in range(6):
        write_image(tmp_path / "new" / f"{at}.png", paint(200 + at, radius=22 - 6 * (at % 2)))
        rows.append({"path": f"{at}.png", "label": ("all", "hem")[at % 2], "subject": f"new {at}"})
    pd.DataFrame(rows).to_csv(tmp_path / "new" / "cells.csv", index=False)
    result = ablate(asked("external", features=["colour"], test=tmp_path / "new" / "cells.csv"))
    assert [scores.features for scores in result.scores] == [("image",), ("colour",), ("image", "colour")]
    for scores in result.scores:
        judged = np.isfinite(scores.proba).all(axis=(0, 2))
        assert np.array(result.cells.names)[judged].tolist() == [row["path"] for row in rows]


@pytest.mark.parametrize("learnt", [False, True], ids=["as they are", "learnt"])
def test_several_networks_are_blocks_of_one_comparison(asked, learnt):
    own = {"backbone": "test_efficientnet", "weights": "random", "attention": False}
    networks = {"cnn.a": {**own, "size": 32}, "cnn.b": {**own, "size": 48}}
    settings = asked(
        f"networks-{learnt}",
        features=["colour", *networks],
        extractors=networks,
        compare=["logreg"],
        subsets=["alone", "cnn.a+cnn.b"],
        cnn_crossfit=learnt,
        classifiers={"neural": NEURAL} if learnt else {},
    )
    result = ablate(settings)
    found = entries(result)
    assert list(found) == [("logreg", names) for names in (("colour",), ("cnn.a",), ("cnn.b",), ("cnn.a", "cnn.b"))]
    assert all(np.isfinite(scores.proba).all() for scores in found.values())
    assert np.abs(found["logreg", ("cnn.a",)].proba - found["logreg", ("cnn.b",)].proba).max() > 1e-3
    assert [note.split(" is cross-fitted")[0] for note in result.notes if "cross-fitted" in note] == (
        ["Block cnn.a", "Block cnn.b"] if learnt else []
    )


@pytest.mark.parametrize(("judges", "stamps"), [("source", 1), ("training", 0)])
def test_a_network_that_judges_a_new_source_by_all_of_its_cells_is_stamped(judges, stamps):
    table = table_of()
    table = replace(table, sources=tuple(f"lab_{group % 2}" for group in table.groups))
    of = recipe(table, "neural", classifiers={"neural": {**NEURAL, "batch_statistics": judges}})
    inside = make_plan(table, "grouped", 2, 1, 0).rounds[0]
    new = Split(np.flatnonzero(table.groups % 2), np.flatnonzero(table.groups % 2 == 0), table.groups)
    assert judged_together_stamps([of], table, inside) == []
    found = judged_together_stamps([of, recipe(table, "logreg")], table, [*inside, new])
    assert len(found) == stamps
    assert all(stamp.startswith("transductive: neural") for stamp in found)
