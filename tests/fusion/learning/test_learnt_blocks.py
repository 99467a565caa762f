"""Networks learnt anew in every split: nobody is judged by one that has met its subject, and no label gets through."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from extractors.cnn.extractor import Embedding
from fusion.crossfit import CROSSFITTED, crossfit_of, stacked
from fusion.data.classifier_inputs import CellInputs
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features.blocks import Block
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.protocols import make_plan
from fusion.leakage.provenance import training_overlap
from fusion.pictured import measure_inputs
from fusion.settings.commands import AblateConfig, EvaluateConfig, TrainConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train
from tests.builders.images import paint, write_image

NEURAL = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "head": [],
        "head_dropout": [0.0],
    },
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "patience": 0, "validation": 0.0},
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def settings(data, output, store, **more):
    given = {"features": ["colour", "cnn"], "splits": 2, "bootstrap": 100, "classifiers": {"neural": NEURAL}}
    return {"data": data, "output": output, "store": store, "jobs": 1, "cnn_crossfit": True, **given, **more}


@pytest.fixture(scope="module")
def view(synthetic, store):
    """Cells, their images, the networks and the folds of one comparison."""
    config = AblateConfig(**settings(synthetic, synthetic.parent / "nowhere", store))
    dataset, crossfit = load_dataset(synthetic, store=store), crossfit_of(config, config)
    found = measure_inputs(dataset, [], crossfit.classifier, FeatureStore(store), jobs=1, progress=None)
    (folds,) = make_plan(found.table, "grouped", 2, 1, 0).rounds
    return found, crossfit, folds, dataset


def test_no_label_of_a_test_part_has_a_say_in_what_its_fits_are_given(view, tmp_path):
    """Labels of the first test part turned round: its split's embedding keeps every bit, the other split's does not."""
    found, crossfit, folds, _ = view
    one, other = crossfit.embed(found.table, found.inputs, folds, tmp_path / "a")
    turned = np.array(found.table.y, object)
    turned[folds[0].test] = np.where(turned[folds[0].test] == "all", "hem", "all")
    lied = replace(found.table, y=tuple(turned))
    one_again, other_again = crossfit.embed(lied, found.inputs, folds, tmp_path / "b")
    assert_array_equal(one, one_again)
    assert np.abs(other - other_again).max() > 1e-3


def test_no_network_has_met_a_subject_that_it_is_judged_by(view, tmp_path):
    """Said by the cells that reach its training, not by the plan."""
    found, crossfit, folds, _ = view
    given = []

    class Listening(type(crossfit.classifier)):
        def fit(self, X, y, groups, **more):
            given.append(X.rows)
            return super().fit(X, y, groups, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusion.crossfit.build_seeded", lambda name, params, seed: Listening(**params, random_state=seed))
        crossfit.embed(found.table, found.inputs, folds, tmp_path)
    subjects = np.array(found.table.subjects)
    for rows, fold in zip(given, folds, strict=True):
        assert_array_equal(rows, found.inputs.rows[fold.train])
        assert not set(subjects[fold.test]) & {found.table.subjects[at] for at in fold.train}


def test_a_comparison_has_the_block_in_every_subset_and_goes_on_where_it_was_stopped(synthetic, store, tmp_path):
    given = settings(synthetic, tmp_path / "r", store, compare=["logreg"])
    message = []

    def stop(stage, done, total, faults):
        message.append(stage)
        if stage == "network 2" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(AblateConfig(**given), stop)
    assert "network 1" in message
    message.clear()
    result = ablate(AblateConfig(**given), lambda stage, *_: message.append(stage))
    assert "network 1" not in message
    assert [entry.features for entry in result.scores] == [("colour",), ("cnn",), ("colour", "cnn")]
    assert all(np.isfinite(entry.proba).all() for entry in result.scores)
    assert CROSSFITTED in result.notes
    assert not result.stamps
    assert not (tmp_path / "r" / "unfinished").exists()
    straight = ablate(AblateConfig(**{**given, "output": tmp_path / "s"}))
    for one, other in zip(result.scores, straight.scores, strict=True):
        assert_array_equal(one.proba, other.proba)


def test_the_other_blocks_are_judged_as_without_it(synthetic, store, tmp_path):
    given = settings(synthetic, tmp_path / "r", store, compare=["logreg"])
    with_cnn = ablate(AblateConfig(**given))
    alone = {**given, "features": ["colour"], "cnn_crossfit": False, "output": tmp_path / "s"}
    assert_array_equal(with_cnn.scores[0].proba, ablate(AblateConfig(**alone)).scores[0].proba)


def test_an_external_test_set_is_seen_by_the_network_of_the_training_set(synthetic, store, tmp_path):
    rows = []
    for at in range(8):
        write_image(tmp_path / "new" / f"{at}.png", paint(200 + at, radius=22 - 6 * (at % 2)))
        rows.append({"path": f"{at}.png", "label": ("all", "hem")[at % 2], "subject": f"new {at}"})
    pd.DataFrame(rows).to_csv(tmp_path / "new" / "cells.csv", index=False)
    given = settings(synthetic, tmp_path / "r", store, compare=["logreg"], test=tmp_path / "new" / "cells.csv")
    result = ablate(AblateConfig(**given))
    judged = np.isfinite(result.scores[1].proba).all(axis=(0, 2))
    assert [name for name, is_judged in zip(result.cells.names, judged, strict=True) if is_judged] == [
        row["path"] for row in rows
    ]


def test_a_model_keeps_its_network_and_asks_it(synthetic, store, tmp_path):
    """Trained on all cells for use; judged by networks of the folds; and it refuses the cells it knows."""
    trained = train(TrainConfig(**settings(synthetic, tmp_path / "m", store, classifier="logreg")))
    assert trained.result.scores[0].features == ("colour", "cnn")
    assert CROSSFITTED in trained.result.notes
    assert not (tmp_path / "m.unfinished").exists()
    network = trained.bundle.blocks[-1].extractor
    assert isinstance(network, Embedding)
    dataset = load_dataset(synthetic, store=store)
    assert len(training_overlap(network.provenance(), dataset)) == len(dataset)
    asked = measure_inputs(
        dataset, trained.bundle.blocks, trained.bundle.model.classifier, FeatureStore(store), jobs=1, progress=None
    )
    assert asked.table.columns == trained.bundle.columns
    assert np.isfinite(trained.bundle.judge(asked)).all()
    given = {"model": tmp_path / "m", "data": synthetic, "output": tmp_path / "r", "store": store, "bootstrap": 100}
    with pytest.raises(LeakageError):
        evaluate(EvaluateConfig(**given))
    stamped = evaluate(EvaluateConfig(**given, allow_leakage=True))
    assert len([stamp for stamp in stamped.stamps if stamp.startswith("leaky")]) == 2
    assert json.loads((tmp_path / "r" / "result.json").read_text())["stamps"]


def test_every_fold_chooses_its_own_threshold_and_parameters(synthetic, store, tmp_path):
    given = settings(synthetic, tmp_path / "m", store, classifier="logreg", threshold="balanced-accuracy", search=True)
    (scores,) = train(TrainConfig(**given)).result.scores
    thresholds = [np.unique(scores.threshold[scores.fold == at]) for at in range(scores.fold.max() + 1)]
    assert all(len(of_fold) == 1 and 0 < of_fold[0] < 1 for of_fold in thresholds)
    assert len({float(of_fold[0]) for of_fold in thresholds}) > 1
    assert [values["fold"] for values in scores.chosen] == [at + 1 for at in range(len(thresholds))]


def test_a_comparison_refuses_a_network_that_knows_its_cells(synthetic, store, tmp_path):
    """An embedding that was fine-tuned on the same cells would be judged on what it has learnt by heart."""
    model = train(TrainConfig(**settings(synthetic, tmp_path / "m", store, classifier="logreg"))).bundle
    weights = model.blocks[-1].extractor.weights
    given = settings(synthetic, tmp_path / "r", store, compare=["logreg"], cnn_crossfit=False, classifiers={})
    given["extractors"] = {"cnn": {"weights": weights}}
    with pytest.raises(LeakageError, match="behind 'cnn'"):
        ablate(AblateConfig(**given))
    result = ablate(AblateConfig(**given, allow_leakage=True))
    assert result.stamps[0].startswith("leaky: the network behind 'cnn'")


def test_embedding_by_a_classifier_is_the_extractors(view, tmp_path):
    found, crossfit, _, dataset = view
    network = crossfit.fit(found.table, found.inputs, np.arange(len(found.table)), tmp_path / "n", None)
    block = Block("cnn", Embedding(**network.write_backbone(tmp_path / "cnn.safetensors")))
    by_path = measure_inputs(dataset, [block], crossfit.classifier, FeatureStore(tmp_path / "s"), jobs=1, progress=None)
    assert_allclose(network.embed(found.inputs), by_path.table.X, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"features": ["colour"]}, "not among the features"),
        ({"classifier": "neural"}, "sees the images itself"),
        ({"classifiers": {"neural": {"training": {"loss": "hinge"}}}}, "focal or cross_entropy"),
    ],
)
def test_wrong_use_is_told(synthetic, store, tmp_path, more, message):
    given = {**settings(synthetic, tmp_path / "m", store, classifier="logreg"), **more}
    with pytest.raises(UsageError, match=message):
        train(TrainConfig(**given))


def test_images_of_two_data_sets_are_stacked_in_order():
    source = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)
    one = CellInputs(np.empty((2, 0), np.float32), {}, source, np.array([3, 1]))
    other = CellInputs(np.empty((1, 0), np.float32), {}, source, np.array([0]))
    both = stacked(one, other)
    assert_array_equal(both.images(np.arange(3)), source[[3, 1, 0]])
