"""Networks learnt anew in every split: nobody is judged by one that has met its subject, and no label gets through."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from extractors.cnn.extractor import Embedding
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features.blocks import Block
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.protocols import make_plan
from fusion.leakage.provenance import training_overlap
from fusion.learning.learn import learn
from fusion.learning.learnt_blocks import embed_splits, learnt_blocks
from fusion.learning.recipe import recipe_of
from fusion.learning.run import Run
from fusion.learning.study import Images, Study
from fusion.settings.commands import AblateConfig, EvaluateConfig, TrainConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train
from tests.builders.images import paint, write_image
from tests.builders.networks import NEURAL, crossfit_settings, listen_to_networks

#: What every result with such a block says.
CROSSFITTED = "Block cnn is cross-fitted: in every split a network of its own"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def view(synthetic, store):
    """Cells with their images, the block that is learnt, and the folds of one comparison."""
    (block,) = learnt_blocks(AblateConfig(**crossfit_settings(synthetic, synthetic.parent / "nowhere", store)))
    dataset = load_dataset(synthetic, store=store)
    study = Study.of(dataset, [], [block.network.input_transform()], FeatureStore(store), jobs=1)
    (folds,) = make_plan(study.table, "grouped", 2, 1, 0).rounds
    return study, block, folds, dataset


@pytest.fixture
def heard(monkeypatch):
    return listen_to_networks(monkeypatch)


def test_no_label_of_a_test_part_has_a_say_in_what_its_fits_are_given(view, tmp_path):
    """Labels of the first test part turned round: its split's embedding keeps every bit, the other split's does not."""
    study, block, folds, _ = view
    one, other = embed_splits(block, study, folds, Run(tmp_path / "a"))
    turned = np.array(study.table.y, object)
    turned[folds[0].test] = np.where(turned[folds[0].test] == "all", "hem", "all")
    lied = replace(study, table=replace(study.table, y=tuple(turned)))
    one_again, other_again = embed_splits(block, lied, folds, Run(tmp_path / "b"))
    assert_array_equal(one, one_again)
    assert np.abs(other - other_again).max() > 1e-3


def test_no_network_has_met_a_subject_that_it_is_judged_by(view, heard, tmp_path):
    """Said by the cells that reach its training, not by the plan."""
    study, block, folds, _ = view
    embed_splits(block, study, folds, Run(tmp_path))
    subjects, (images,) = np.array(study.table.subjects), study.images.values()
    for training, fold in zip(heard.trainings, folds, strict=True):
        assert_array_equal(training.images, images.rows[fold.train])
        assert not set(subjects[fold.test]) & set(subjects[np.isin(images.rows, training.images)])


def test_a_transformer_learns_by_adapters_in_every_split(synthetic, store, tmp_path):
    """LoRA behind ``--cnn-crossfit``, from every training part anew, and then as a block that the model keeps."""
    network = {**NEURAL["network"], "backbone": "test_vit", "dropout": 0.0}
    neural = {"network": network, "training": {**NEURAL["training"], "tune": "lora", "lora_rank": 2}}
    given = crossfit_settings(synthetic, tmp_path / "m", store, classifier="logreg", classifiers={"neural": neural})
    trained = train(TrainConfig(**given))
    assert any(note.startswith(CROSSFITTED) for note in trained.result.notes)
    assert any("trained (tune: lora)" in note for note in trained.result.notes)
    (block,) = [block for block in trained.bundle.blocks if block.name == "cnn"]
    assert isinstance(block.extractor, Embedding)
    assert block.extractor.backbone_config.backbone == "test_vit"
    asked = {"repeats": 1, "compare": ["logreg"], "subsets": "colour+cnn", "classifiers": {"neural": neural}}
    late = ablate(
        AblateConfig(**crossfit_settings(synthetic, tmp_path / "r", store, fuse="late", nested=True, **asked))
    )
    assert late.scores[0].classifier == "logreg-late"
    assert np.isfinite(late.scores[0].proba).all()


def test_a_comparison_has_the_block_in_every_subset_and_goes_on_where_it_was_stopped(synthetic, store, tmp_path):
    given = crossfit_settings(synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"])
    message = []

    def stop(stage, done, total, faults):
        message.append(stage)
        if stage == "network 2 of 2" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(AblateConfig(**given), stop)
    assert "network 1 of 2" in message
    message.clear()
    result = ablate(AblateConfig(**given), lambda stage, *_: message.append(stage))
    assert "network 1 of 2" not in message
    assert [entry.features for entry in result.scores] == [("colour",), ("cnn",), ("colour", "cnn")]
    assert all(np.isfinite(entry.proba).all() for entry in result.scores)
    assert any(note.startswith(CROSSFITTED) for note in result.notes)
    assert not result.stamps
    assert not (tmp_path / "r" / "unfinished").exists()
    straight = ablate(AblateConfig(**{**given, "output": tmp_path / "s"}))
    for one, other in zip(result.scores, straight.scores, strict=True):
        assert_array_equal(one.proba, other.proba)
    assert str(result.findings["training"]) == str(straight.findings["training"])  # NaN is not itself


def test_the_page_has_the_training_curves_of_every_split(synthetic, store, tmp_path):
    """Of the block's networks, which no entry of the comparison has; the numbers are the networks' own."""
    given = crossfit_settings(synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"], subsets="cnn")
    result = ablate(AblateConfig(**given))
    (row,) = result.findings["training"]
    assert row["name"] == "block cnn"
    assert [(each["split"], each["epoch"]) for each in row["epochs"]] == [(0, 1), (1, 1)]
    page = (tmp_path / "r" / "report.html").read_text()
    assert "How the networks were trained" in page
    drawn = pd.read_csv(tmp_path / "r" / "figures" / "training.csv")
    assert set(drawn[drawn.columns[0]]) == {"block cnn"}
    losses = [each["loss"] for each in row["epochs"]]
    assert_array_equal(np.sort(drawn.loss.to_numpy()), np.sort(losses))


def test_the_other_blocks_are_judged_as_without_it(synthetic, store, tmp_path):
    given = crossfit_settings(synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"])
    with_cnn = ablate(AblateConfig(**given))
    alone = {**given, "features": ["colour"], "cnn_crossfit": False, "output": tmp_path / "s"}
    assert_array_equal(with_cnn.scores[0].proba, ablate(AblateConfig(**alone)).scores[0].proba)


def test_an_external_test_set_is_seen_by_the_network_of_the_training_set(synthetic, store, tmp_path):
    rows = []
    for at in range(8):
        write_image(tmp_path / "new" / f"{at}.png", paint(200 + at, radius=22 - 6 * (at % 2)))
        rows.append({"path": f"{at}.png", "label": ("all", "hem")[at % 2], "subject": f"new {at}"})
    pd.DataFrame(rows).to_csv(tmp_path / "new" / "cells.csv", index=False)
    given = crossfit_settings(
        synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"], test=tmp_path / "new" / "cells.csv"
    )
    result = ablate(AblateConfig(**given))
    judged = np.isfinite(result.scores[1].proba).all(axis=(0, 2))
    assert [name for name, is_judged in zip(result.cells.names, judged, strict=True) if is_judged] == [
        row["path"] for row in rows
    ]


def test_a_model_keeps_its_network_and_asks_it(synthetic, store, tmp_path):
    """Trained on all cells for use; judged by networks of the folds; and it refuses the cells it knows."""
    trained = train(TrainConfig(**crossfit_settings(synthetic, tmp_path / "m", store, classifier="logreg")))
    assert trained.result.scores[0].features == ("colour", "cnn")
    assert any(note.startswith(CROSSFITTED) for note in trained.result.notes)
    assert not (tmp_path / "m.unfinished").exists()
    network = trained.bundle.blocks[-1].extractor
    assert isinstance(network, Embedding)
    dataset = load_dataset(synthetic, store=store)
    assert len(training_overlap(network.provenance(), dataset)) == len(dataset)
    bundle = trained.bundle
    asked = Study.of(dataset, bundle.blocks, bundle.transforms, FeatureStore(store), jobs=1)
    assert asked.table.columns == bundle.columns
    assert np.isfinite(bundle.predict_proba(asked)).all()
    given = {"model": tmp_path / "m", "data": synthetic, "output": tmp_path / "r", "store": store}
    with pytest.raises(LeakageError):
        evaluate(EvaluateConfig(**given))
    stamped = evaluate(EvaluateConfig(**given, allow_leakage=True))
    assert len([stamp for stamp in stamped.stamps if stamp.startswith("leaky")]) == 2
    assert json.loads((tmp_path / "r" / "result.json").read_text())["stamps"]


# ---- held-out scores inside a training part --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"classifier": "svm"}, "classifier svm needs held-out scores"),
        ({"threshold": "balanced-accuracy"}, "threshold needs held-out scores"),
        ({"costs": {"all": {"hem": 3}}}, "costs needs held-out scores"),
        ({"calibrate": "temperature"}, "calibrate needs held-out scores"),
        ({"calibrate": "logistic"}, "calibrate needs held-out scores"),
        ({"calibrate": "logistic", "threshold": "sensitivity:0.95"}, "calibrate and threshold needs"),
        ({"classifier": "svm", "calibrate": "isotonic"}, "classifier svm and calibrate needs"),
    ],
)
def test_a_step_that_scores_cells_which_the_network_has_met_is_refused(synthetic, store, tmp_path, step, words):
    given = {**crossfit_settings(synthetic, tmp_path / "m", store), **step}
    classifier = given.pop("classifier", "logreg")
    for ask in (
        lambda: train(TrainConfig(**given, classifier=classifier)),
        lambda: ablate(AblateConfig(**{**given, "features": ["cnn"]}, compare=[classifier])),
    ):
        with pytest.raises(UsageError, match=words) as raised:
            ask()
        assert "--set nested=true" in str(raised.value)
    assert not (tmp_path / "m").exists()


def test_a_threshold_that_is_a_number_holds_nothing_out(synthetic, store, tmp_path):
    given = crossfit_settings(synthetic, tmp_path / "m", store, classifier="logreg", threshold="0.4")
    (scores,) = train(TrainConfig(**given)).result.scores
    assert set(scores.threshold.ravel()) == {0.4}


@pytest.mark.parametrize(
    "asked",
    [{}, {"threshold": "balanced-accuracy"}, {"calibrate": "logistic", "threshold": "sensitivity:0.95"}],
    ids=["svm", "svm under a threshold", "svm under calibration and threshold"],
)
def test_inner_networks_have_met_nobody_whom_they_score(view, heard, tmp_path, asked):
    """Told by what reaches the training of every network, and by the embeddings that are scored themselves."""
    study = view[0]
    # Four subjects of each class: two are left of each where the second of two steps holds out.
    folds = make_plan(study.table, "grouped", 5, 1, 0).rounds[0]
    given = {"nested": True, "positive": "all", "features": ["cnn"], **asked}
    config = AblateConfig(**crossfit_settings("cells", tmp_path, tmp_path, **given))
    recipe = replace(recipe_of(config, "svm", ["cnn"], ["cnn"]), positive="all")
    learn(study, folds[0].train, recipe, Run(tmp_path), learnt=learnt_blocks(config))

    (images,) = study.images.values()
    trained = [set(np.flatnonzero(np.isin(images.rows, one.images)).tolist()) for one in heard.trainings]
    assert trained[0] == set(folds[0].train.tolist())  # the model's own network; no held-out score is from it
    assert {frozenset(units) for units, _ in heard.embedded} == set(map(frozenset, trained[1:]))
    assert all(units < trained[0] for units, _ in heard.embedded)
    assert len(heard.parts) == len(heard.embedded) >= (20 if asked else 4)
    groups = study.table.groups
    for inner in heard.inner():
        assert inner.learnt == inner.met
        assert not {groups[cell] for cell in inner.scored} & {groups[cell] for cell in inner.met}


def test_nested_networks_pay_for_what_is_refused_without_them(synthetic, store, tmp_path):
    more = {"nested": True, "threshold": "balanced-accuracy", "features": ["cnn"]}
    (scores,) = ablate(
        AblateConfig(**crossfit_settings(synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"], **more))
    ).scores
    thresholds = [np.unique(scores.threshold[scores.fold == at]) for at in range(scores.fold.max() + 1)]
    assert all(len(of_fold) == 1 and 0 < of_fold[0] < 1 for of_fold in thresholds)
    assert len({float(of_fold[0]) for of_fold in thresholds}) > 1
    assert np.isfinite(scores.proba).all()


def test_a_group_on_both_sides_of_a_fold_inside_is_refused(view, tmp_path):
    """As an SVM divides a class of a single subject: the network would have met whom it is scored by."""
    study = view[0]
    labels, groups = np.array(study.table.y), study.table.groups
    few = np.concatenate([np.flatnonzero(groups == groups[labels == label][0]) for label in ("all", "hem")])
    config = AblateConfig(**crossfit_settings("cells", tmp_path, tmp_path, nested=True, features=["cnn"]))
    with pytest.raises(UsageError, match="two subjects of every class"):
        learn(study, few, recipe_of(config, "svm", ["cnn"], ["cnn"]), Run(tmp_path), learnt=learnt_blocks(config))


def test_a_comparison_refuses_a_network_that_knows_its_cells(synthetic, store, tmp_path):
    """An embedding that was fine-tuned on the same cells would be judged on what it has learnt by heart."""
    model = train(TrainConfig(**crossfit_settings(synthetic, tmp_path / "m", store, classifier="logreg"))).bundle
    weights = model.blocks[-1].extractor.weights
    given = crossfit_settings(
        synthetic, tmp_path / "r", store, repeats=1, compare=["logreg"], cnn_crossfit=False, classifiers={}
    )
    given["extractors"] = {"cnn": {"weights": weights}}
    with pytest.raises(LeakageError, match="behind 'cnn'"):
        ablate(AblateConfig(**given))
    result = ablate(AblateConfig(**given, allow_leakage=True))
    assert result.stamps[0].startswith("leaky: the network behind 'cnn'")


def test_embedding_by_a_classifier_is_the_extractors(view, tmp_path):
    study, learnt, _, dataset = view
    network = learnt.fit(study, study.everyone, Run(tmp_path), "network", tmp_path / "n")
    block = Block("cnn", Embedding(**network.write_backbone(tmp_path / "cnn.safetensors")))
    by_path = Study.of(dataset, [block], [], FeatureStore(tmp_path / "s"), jobs=1)
    assert_allclose(learnt.embed(network, study), by_path.table.X, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"features": ["colour"]}, "none of the features has one"),
        ({"classifier": "neural"}, "sees the images itself"),
        ({"classifiers": {"neural": {"training": {"loss": "hinge"}}}}, "focal or cross_entropy"),
    ],
)
def test_wrong_use_is_told(synthetic, store, tmp_path, more, message):
    given = {**crossfit_settings(synthetic, tmp_path / "m", store, classifier="logreg"), **more}
    with pytest.raises(UsageError, match=message):
        train(TrainConfig(**given))


def test_images_of_two_data_sets_are_stacked_in_order(view):
    study = view[0]
    (by,) = study.images
    source = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)

    def of(rows):
        table = replace(study.table.take(np.arange(len(rows))), augmented=None)
        return Study(table, {by: Images(source, np.array(rows))})

    both = Study.pair(of([3, 1]), of([0]), np.arange(3))
    assert_array_equal(both.inputs(by, (), both.everyone).images(np.arange(3)), source[[3, 1, 0]])
