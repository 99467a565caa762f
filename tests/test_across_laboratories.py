"""From one laboratory to another, the whole way: train, save, load, evaluate and compare with steps that adapt."""

import json

import numpy as np
import pandas as pd
import pytest

from fusion.ablation import ablate
from fusion.bundle import MANIFEST
from fusion.cells import read_cell
from fusion.config import AblateConfig, EvaluateConfig, ExplainConfig, NormaliseSettings, PredictConfig, TrainConfig
from fusion.datasets import load_dataset
from fusion.errors import UsageError
from fusion.explaining import explain
from fusion.export import ExportError, build
from fusion.extraction import extract
from fusion.normalising import describe, split_by_split
from fusion.pictured import load_model
from fusion.plans import make_plan
from fusion.plugins import build_extractor
from fusion.prediction import evaluate, predict, predict_cells
from fusion.splits import LeakageError
from fusion.store import FeatureStore
from fusion.synthetic import SyntheticDesign, synthesize
from fusion.training import train

STEPS = {
    "normalise": {"colour": "reinhard", "white_balance": True, "scale": "median-size", "diameter": 48},
    "harmonise": {"method": "standard", "transductive": True},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    design = SyntheticDesign(subjects=6, cells_per_subject=4, laboratories=3, seed=2)
    return synthesize(tmp_path_factory.mktemp("laboratories") / "out", design, jobs=1)


@pytest.fixture(scope="module")
def common(tree, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return {"store": store, "jobs": 1}


def fit(tree, common, folder, **more):
    config = TrainConfig(
        data=tree / "truth.csv", output=folder, features=["morphology", "colour"], classifier="logreg",
        splits=2, bootstrap=100, **common, **{"sources": ["lab_1"], **more},
    )  # fmt: skip
    return train(config)


@pytest.fixture(scope="module")
def model(tree, common, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    fit(tree, common, folder, **STEPS)
    return folder


def judged(tree, common, model, folder, data="truth.csv", **more):
    config = EvaluateConfig(model=model, data=tree / data, output=folder, bootstrap=100, **common, **more)
    return evaluate(config)


def test_the_same_ids_of_another_laboratory_are_no_leak_and_its_own_are(tree, common, model, tmp_path):
    result = judged(tree, common, model, tmp_path / "r", sources=["lab_2", "lab_3"])
    assert len(result.cells) == 48
    with pytest.raises(LeakageError, match="24 of"):
        judged(tree, common, model, tmp_path / "leak", sources=["lab_1", "lab_2"])


def test_a_result_that_used_the_judged_cells_says_so(tree, common, model, tmp_path):
    stamps = judged(tree, common, model, tmp_path / "r", sources=["lab_2"]).stamps
    assert sum(stamp.startswith("transductive: ") for stamp in stamps) == 2
    assert any("pixels" in stamp for stamp in stamps)
    assert any("features" in stamp for stamp in stamps)


def test_labels_of_the_judged_cells_have_no_say(tree, common, model, tmp_path):
    """Planted: the same cells under wrong labels get the same scores to the last bit."""
    honest = judged(tree, common, model, tmp_path / "honest", sources=["lab_2"])
    planted = pd.read_csv(tree / "truth.csv", dtype=str)
    planted["label"] = planted["label"].map({"all": "hem", "hem": "all"})
    planted.to_csv(tree / "planted.csv", index=False)
    lied = judged(tree, common, model, tmp_path / "planted", data="planted.csv", sources=["lab_2"])
    assert lied.cells.y != honest.cells.y
    np.testing.assert_array_equal(lied.scores[0].proba, honest.scores[0].proba)


def test_a_stored_model_keeps_its_steps(tree, common, model, tmp_path):
    manifest = json.loads((model / MANIFEST).read_text())
    assert manifest["normalise"]["colour"] == "reinhard"
    assert manifest["harmonise"]["method"] == "standard"
    bundle = load_model(model)
    bundle.save(tmp_path / "moved")
    images = [tree / "lab_2" / "fold_0"]
    both = [
        predict(PredictConfig(model=folder, images=images, **common)).proba for folder in (model, tmp_path / "moved")
    ]
    np.testing.assert_array_equal(*both)


def test_cells_in_memory_get_the_answers_of_files(tree, common, model):
    images = [tree / "lab_2" / "fold_0"]
    stored = predict(PredictConfig(model=model, images=images, source="north", **common))
    cells = [read_cell(images[0] / name) for name in stored.table.names]
    told = predict_cells(load_model(model), cells, stored.table.names, "north")
    np.testing.assert_allclose(told.proba, stored.proba, atol=1e-12)
    np.testing.assert_allclose(told.distance, stored.distance)
    assert [note for note in told.notes if "transductive" in note] == [n for n in stored.notes if "transductive" in n]


def test_another_laboratory_is_unlike_the_training_cells_until_its_cells_are_brought_to_look_alike(
    tree, common, model, tmp_path
):
    fit(tree, common, tmp_path / "plain")
    images = [tree / "lab_3" / "fold_0"]
    far, near = (
        np.median(predict(PredictConfig(model=one, images=images, **common)).distance)
        for one in (tmp_path / "plain", model)
    )
    assert near < far


def test_reasons_add_up_to_the_score_of_the_harmonised_cell(tree, common, model, tmp_path):
    images = [tree / "lab_2" / "fold_0"]
    told = explain(
        ExplainConfig(model=model, images=images, output=tmp_path / "why", data=tree / "truth.csv", **common)
    )
    at = told.predictions.classes.index("all")
    for each, proba in zip(told.shown, told.predictions.proba, strict=True):
        score = each.found.attribution.score * (1 if each.found.called == "all" else -1)
        np.testing.assert_allclose(1 / (1 + np.exp(-score)), proba[at], atol=1e-5)
        assert len(each.neighbours) == 5


def test_a_model_that_asks_for_the_laboratory_has_no_onnx_form(model):
    with pytest.raises(ExportError, match="harmonises features"):
        build(load_model(model))


def test_a_training_part_is_normalised_as_if_there_were_no_test_part(tree, common):
    store, settings = FeatureStore(common["store"]), NormaliseSettings(colour="macenko", scale="median-size")
    extractors = [build_extractor("colour")]
    everyone = load_dataset(tree / "truth.csv", store=common["store"]).select(sources=["lab_1", "lab_2"])

    def measure(which):
        return extract(which, extractors, store, jobs=1).table

    table = measure(everyone)
    splits = make_plan(table, "leave-one-source-out", 2, 1, 0).rounds[0]
    described = describe(everyone, store, jobs=1)
    parts, stamps = split_by_split(described, settings, table, splits, measure)
    for split, X, source in zip(splits, parts, ("lab_2", "lab_1"), strict=True):
        alone = describe(everyone.select(sources=[source]), store, jobs=1)
        np.testing.assert_array_equal(X[split.train], measure(alone.adjusted(alone.fit(settings))).X)
    assert not np.array_equal(parts[0], parts[1], equal_nan=True)
    assert [stamp.rpartition("(")[2] for stamp in stamps] == ["lab_1)", "lab_2)"]


def test_a_comparison_leaves_each_source_out_and_is_stamped(tree, common, tmp_path):
    result = ablate(
        AblateConfig(
            data=tree / "truth.csv", output=tmp_path / "a", features=["colour"], compare=["logreg"], bootstrap=100,
            split="leave-one-source-out", **STEPS, **common,
        )
    )  # fmt: skip
    kinds = {stamp.partition(" normalised")[0].partition(" of new")[0] for stamp in result.stamps}
    assert kinds == {"transductive: pixels", "transductive: features"}
    scores = pd.read_parquet(tmp_path / "a" / "scores.parquet")
    assert (scores.groupby("fold")["source"].nunique() == 1).all()
    assert set(scores["source"]) == {"lab_1", "lab_2", "lab_3"}


def test_cells_that_name_no_source_pass_for_those_of_training_and_it_is_said(tree, common, tmp_path):
    nameless = pd.read_csv(tree / "truth.csv", dtype=str)
    nameless[nameless["source"] == "lab_1"].drop(columns="source").to_csv(tree / "first.csv", index=False)
    second = nameless[nameless["source"] == "lab_2"].drop(columns="source")
    second.assign(subject="other " + second["subject"]).to_csv(tree / "second.csv", index=False)
    train(
        TrainConfig(
            data=tree / "first.csv", output=tmp_path / "m", features=["colour"], classifier="logreg", splits=2,
            bootstrap=100, **STEPS, **common,
        )
    )  # fmt: skip
    silent = judged(tree, common, tmp_path / "m", tmp_path / "a", data="second.csv")
    named = judged(tree, common, tmp_path / "m", tmp_path / "b", data="second.csv", source="north")
    assert any("no source named" in stamp for stamp in silent.stamps)
    assert not any("transductive" in stamp for stamp in silent.stamps)
    assert sum("transductive" in stamp for stamp in named.stamps) == 2
    images = [tree / "second.csv"]
    told = predict(PredictConfig(model=tmp_path / "m", images=images, source="north", **common))
    np.testing.assert_array_equal(told.proba, named.scores[0].proba[0])
    assert any("transductive" in note for note in told.notes)


def test_networks_that_learn_from_pictures_refuse_steps_for_features(tree, common, tmp_path):
    with pytest.raises(UsageError, match="normalise and harmonise"):
        train(
            TrainConfig(
                data=tree / "truth.csv", output=tmp_path / "n", classifier="neural", features=["none"],
                classifiers={"neural": {"network": {"backbone": "resnet10t", "weights": "random", "size": 32}}},
                **STEPS, **common,
            )
        )  # fmt: skip
