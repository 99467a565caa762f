"""From one site to another, the whole way: train, save, load, evaluate and compare with steps that adapt."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusion.bundles.inference import predict_cells
from fusion.bundles.model_bundle import MANIFEST, load_model
from fusion.bundles.onnx_export import ExportError, build
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import normalise
from fusion.image_transforms.normaliser import target_of
from fusion.images.cell import read_cell
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.protocols import make_plan
from fusion.learning.study import Study
from fusion.plugins.registry import build_classifier, build_extractor
from fusion.settings.commands import AblateConfig, EvaluateConfig, ExplainConfig, PredictConfig, TrainConfig
from fusion.settings.learning import NormaliseSettings
from fusion.settings.loading import build_config
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.workflows.ablate import ablate
from fusion.workflows.evaluate import evaluate
from fusion.workflows.explain import explain
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders import networks

STEPS = {
    "normalise": {
        "reinhard": {"mean": [55, 30, -25], "spread": [15, 8, 8]},
        "white_balance": True,
        "scale": "median-size",
        "diameter": 48,
    },
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
    given = {"features": ["morphology", "colour"], "classifier": "logreg", "sources": ["lab_1"], **more}
    config = TrainConfig(**{"data": tree / "truth.csv", **given}, output=folder, splits=2, **common)
    return train(config)


@pytest.fixture(scope="module")
def model(tree, common, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    fit(tree, common, folder, **STEPS)
    return folder


def judged(tree, common, model, folder, data="truth.csv", **more):
    config = EvaluateConfig(model=model, data=tree / data, output=folder, **common, **more)
    return evaluate(config)


def test_the_same_ids_of_another_site_are_no_leak_and_its_own_are(tree, common, model, tmp_path):
    result = judged(tree, common, model, tmp_path / "r", sources=["lab_2", "lab_3"])
    assert len(result.cells) == 48
    with pytest.raises(LeakageError, match="24 of"):
        judged(tree, common, model, tmp_path / "leak", sources=["lab_1", "lab_2"])


def test_a_result_that_used_the_judged_cells_says_so(tree, common, model, tmp_path):
    stamps = judged(tree, common, model, tmp_path / "r", sources=["lab_2"]).stamps
    assert sum(stamp.startswith("transductive: ") for stamp in stamps) == 2
    assert any("pixels" in stamp for stamp in stamps)
    assert any("features" in stamp for stamp in stamps)


def test_the_result_of_a_model_is_a_page_too(tree, common, model, tmp_path):
    result = judged(tree, common, model, tmp_path / "r", sources=["lab_2"])
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Fusion: a model on cells it has not seen" in page
    assert all(stamp in page for stamp in result.stamps)
    assert "optimistic pick" not in page  # of a single entry there is no best
    assert "Selective prediction: performance over coverage" in page
    assert ("data:image" in page) == ("calls 0 of" not in page)  # the cells it was most surely wrong about


def test_labels_of_the_judged_cells_have_no_say(tree, common, model, tmp_path):
    """Planted: the same cells under wrong labels get the same scores to the last bit."""
    honest = judged(tree, common, model, tmp_path / "honest", sources=["lab_2"])
    planted = pd.read_csv(tree / "truth.csv", dtype=str)
    planted["label"] = planted["label"].map({"all": "hem", "hem": "all"})
    planted.to_csv(tree / "planted.csv", index=False)
    lied = judged(tree, common, model, tmp_path / "planted", data="planted.csv", sources=["lab_2"])
    assert lied.cells.y != honest.cells.y
    np.testing.assert_array_equal(lied.scores[0].proba, honest.scores[0].proba)


def test_shares_of_classes_in_a_new_site_are_told_without_labels_or_refused(tree, common, model, tmp_path):
    result = judged(tree, common, model, tmp_path / "r", sources=["lab_2", "lab_3"])
    page = (tmp_path / "r" / "report.html").read_text()
    written = json.loads((tmp_path / "r" / "result.json").read_text())["findings"]["class_shares"]
    assert [each["source"] for each in written] == ["lab_2", "lab_3"]
    lines = [note for note in result.notes if "hares of classes in 'lab_" in note]
    assert len(lines) == 2
    assert all(
        ("cannot be told" in line) == (each["shares"] is None) for line, each in zip(lines, written, strict=True)
    )
    assert "hares of classes in &#39;lab_2&#39;" in page

    images = [tree / "lab_2" / "fold_0"]
    found = predict(PredictConfig(model=model, images=images, source="lab_2", **common))
    assert [each["source"] for each in found.to_json()["class_shares"]] == ["lab_2"]
    assert any("hares of classes in 'lab_2'" in note for note in found.notes)
    known = predict(PredictConfig(model=model, images=images, source="lab_1", **common))
    assert "class_shares" not in known.to_json()  # what the site is like was learnt from it
    few = predict(
        PredictConfig(
            model=model, images=[images[0] / name for name in found.table.names[:3]], source="lab_2", **common
        )
    )
    assert few.shares[0].refusal == "fewer than 10 cells"


def test_a_stored_model_keeps_its_steps(tree, common, model, tmp_path):
    manifest = json.loads((model / MANIFEST).read_text())
    assert manifest["normalise"]["reinhard"] == STEPS["normalise"]["reinhard"]
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
    message = predict_cells(load_model(model), cells, stored.table.names, "north")
    np.testing.assert_allclose(message.proba, stored.proba, atol=1e-12)
    np.testing.assert_allclose(message.distance, stored.distance)
    assert [note for note in message.notes if "transductive" in note] == [
        n for n in stored.notes if "transductive" in n
    ]


def test_another_site_is_out_of_distribution_until_its_cells_are_brought_to_look_alike(tree, common, model, tmp_path):
    fit(tree, common, tmp_path / "plain")
    images = [tree / "lab_3" / "fold_0"]
    far, near = (
        np.median(predict(PredictConfig(model=one, images=images, **common)).distance)
        for one in (tmp_path / "plain", model)
    )
    assert near < far


def test_reasons_add_up_to_the_score_of_the_harmonised_cell(tree, common, model, tmp_path):
    images = [tree / "lab_2" / "fold_0"]
    message = explain(
        ExplainConfig(model=model, images=images, output=tmp_path / "why", data=tree / "truth.csv", **common)
    )
    at = message.predictions.classes.index("all")
    for each, proba in zip(message.shown, message.predictions.proba, strict=True):
        score = each.found.attribution.score * (1 if each.found.predicted == "all" else -1)
        np.testing.assert_allclose(1 / (1 + np.exp(-score)), proba[at], atol=1e-5)
        assert len(each.neighbours) == 5


def test_a_model_that_asks_for_the_site_has_no_onnx_form(model):
    with pytest.raises(ExportError, match="harmonises features"):
        build(load_model(model))


def test_cells_are_seen_alike_in_all_splits_and_a_source_is_described_by_its_own_cells_alone(tree, common):
    store, settings = FeatureStore(common["store"]), NormaliseSettings(**STEPS["normalise"])
    everyone = load_dataset(tree / "truth.csv", store=common["store"]).select(sources=["lab_1", "lab_2"])
    shown = normalise(everyone, settings, store, jobs=1)
    table = extract(shown.dataset, [build_extractor("colour")], store, jobs=1).table
    for source in ("lab_1", "lab_2"):
        alone = normalise(everyone.select(sources=[source]), settings, store, jobs=1)
        rows = np.flatnonzero(np.array(table.sources, object) == source)
        measured = extract(alone.dataset, [build_extractor("colour")], store, jobs=1).table
        np.testing.assert_array_equal(table.X[rows], measured.X)
    left_out, grouped = (
        shown.stamps(table, make_plan(table, kind, 2, 1, 0).rounds[0]) for kind in ("leave-one-source-out", "grouped")
    )
    assert [stamp.rpartition("(")[2] for stamp in left_out] == ["lab_1)", "lab_2)"]
    assert grouped == []
    assert any("held-out ones too" in note for note in shown.notes)


def test_a_reference_image_may_be_gone_once_a_model_is_trained(tree, common, model, tmp_path):
    reference = next((tree / "lab_2").rglob("*.png"), None) or next((tree / "lab_2").rglob("*.bmp"))
    copy = tmp_path / f"reference{reference.suffix}"
    copy.write_bytes(reference.read_bytes())
    trained = fit(tree, common, tmp_path / "m", normalise={"reinhard": copy})
    copy.unlink()
    wanted = target_of(read_cell(reference), white_balance=False)
    assert load_model(tmp_path / "m").normaliser.reinhard == trained.bundle.normaliser.reinhard == wanted
    assert str(copy) not in trained.result.config
    assert len(judged(tree, common, tmp_path / "m", tmp_path / "r", sources=["lab_3"]).cells) == 24


def test_a_comparison_leaves_each_source_out_and_is_stamped(tree, common, tmp_path):
    result = ablate(
        AblateConfig(
            data=tree / "truth.csv",
            output=tmp_path / "a",
            features=["colour"],
            compare=["logreg"],
            split="leave-one-source-out",
            **STEPS,
            **common,
        )
    )
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
    trained = train(
        TrainConfig(
            data=tree / "first.csv",
            output=tmp_path / "m",
            features=["colour"],
            classifier="logreg",
            splits=2,
            **STEPS,
            **common,
        )
    )
    silent = judged(tree, common, tmp_path / "m", tmp_path / "a", data="second.csv")
    named = judged(tree, common, tmp_path / "m", tmp_path / "b", data="second.csv", source="north")
    assert any("no source named" in stamp for stamp in silent.stamps)
    assert any(f"of {len(silent.cells)} cells are out of distribution" in stamp for stamp in silent.stamps)
    assert silent.facts["out_of_distribution"] > named.facts["out_of_distribution"]
    assert any("no source named" in note for note in trained.result.notes)
    assert not any("transductive" in stamp for stamp in silent.stamps)
    assert sum("transductive" in stamp for stamp in named.stamps) == 2
    images = [tree / "second.csv"]
    message = predict(PredictConfig(model=tmp_path / "m", images=images, source="north", **common))
    np.testing.assert_array_equal(message.proba, named.scores[0].proba[0])
    assert any("transductive" in note for note in message.notes)


def test_what_a_random_split_would_claim_is_told_of_normalised_cells_too(tree, common, tmp_path):
    result = ablate(
        AblateConfig(
            data=tree / "truth.csv",
            output=tmp_path / "a",
            features=["colour"],
            compare=["logreg"],
            splits=2,
            sources=["lab_1"],
            show_leak=True,
            normalise=STEPS["normalise"],
            **common,
        )
    )
    assert result.findings["leak"]["rows"]


# ---- networks -------------------------------------------------------------------------------------------------------

NEURAL = {
    "network": networks.NEURAL["network"],
    "training": {**networks.NEURAL["training"], "epochs": 2, "batch_size": 8},
    "threads": 1,
}
PIXELS = {"normalise": STEPS["normalise"]}


@pytest.fixture(scope="module")
def network(tree, common, tmp_path_factory):
    """A network of normalised images of two sites, and what it showed on held-out cells."""
    folder = tmp_path_factory.mktemp("network") / "n"
    more = {
        "features": ["none"],
        "classifier": "neural",
        "classifiers": {"neural": NEURAL},
        "sources": ["lab_1", "lab_3"],
    }
    return folder, fit(tree, common, folder, **more, **PIXELS).result


def test_a_network_is_judged_on_normalised_images(tree, common, network):
    """By hand: a fold's images, normalised, and its network."""
    store, settings = FeatureStore(common["store"]), NormaliseSettings(**STEPS["normalise"])
    both = load_dataset(tree / "truth.csv", store=common["store"]).select(sources=["lab_1", "lab_3"])
    _, result = network
    scores, shown = result.scores[0], normalise(both, settings, store, jobs=1)
    for at in range(scores.fold.max() + 1):
        tested = np.flatnonzero(scores.fold[0] == at)
        learnt = np.flatnonzero(scores.fold[0] != at)
        one = build_classifier("neural", {"random_state": 0, **NEURAL})
        study = Study.of(shown.dataset, [], [one.input_transform()], store, jobs=1)
        inputs = study.inputs(one.input_transform(), (), study.everyone)
        one.fit(inputs.take(learnt), np.array(result.cells.y)[learnt], result.cells.groups[learnt])
        np.testing.assert_array_equal(one.predict_proba(inputs.take(tested)), scores.proba[0, tested])


def test_a_stored_network_normalises_what_it_is_shown(tree, common, network, tmp_path):
    folder, _ = network
    result = judged(tree, common, folder, tmp_path / "r", sources=["lab_2"])
    assert [stamp.partition(" normalised")[0] for stamp in result.stamps] == ["transductive: pixels"]
    paths = [tree / name for name in result.cells.names]
    message = predict_cells(load_model(folder), [read_cell(path) for path in paths], result.cells.names, "lab_2")
    assert len(message) == len(result.cells)
    images = [tree / "lab_2" / "fold_0"]
    stored = predict(PredictConfig(model=folder, images=images, source="north", **common))
    cells = [read_cell(images[0] / name) for name in stored.table.names]
    again = predict_cells(load_model(folder), cells, stored.table.names, "north")
    np.testing.assert_allclose(again.proba, stored.proba, atol=1e-6)


def test_the_robust_network_of_the_box_adapts_pixels_and_norms_to_a_new_source_without_labels(tree, common, tmp_path):
    """The file as it is, but for a small backbone and one epoch; planted wrong labels change no bit."""
    small = {"backbone": "test_efficientnet", "weights": "random", "size": 32, "mean": [0.5], "std": [0.5]}
    changed = {"neural": {"network": small, "training": {"epochs": 1}, "threads": 1}}
    options = {
        "data": tree / "truth.csv",
        "output": tmp_path / "m",
        "classifier": "neural",
        "classifiers": changed,
        "sources": ["lab_1"],
        "splits": 2,
        **common,
    }
    config = build_config(
        TrainConfig, file=Path(__file__).parents[3] / "configs" / "robust-network.yaml", options=options
    )
    assert train(config).result.stamps == ()
    rows = pd.read_csv(tree / "truth.csv")
    rows["label"] = rows["label"].map({"all": "hem", "hem": "all"})
    rows.to_csv(tree / "swapped.csv", index=False)
    honest, swapped = (
        judged(tree, common, tmp_path / "m", tmp_path / data, data=data, sources=["lab_2"])
        for data in ("truth.csv", "swapped.csv")
    )
    assert [stamp.partition(" by ")[0] for stamp in honest.stamps] == [
        "transductive: pixels normalised",
        "transductive: batch norms",
    ]
    assert honest.scores[0].proba.tobytes() == swapped.scores[0].proba.tobytes()


def test_networks_that_join_features_by_themselves_refuse_to_have_them_harmonised(tree, common, tmp_path):
    with pytest.raises(UsageError, match="harmonise is for features"):
        fit(
            tree,
            common,
            tmp_path / "n",
            classifier="neural",
            features=["colour"],
            classifiers={"neural": NEURAL},
            harmonise=STEPS["harmonise"],
        )


@pytest.mark.slow
def test_networks_of_every_split_see_normalised_images_and_their_block_is_harmonised(tree, common, tmp_path):
    def compared(folder, **steps):
        return ablate(
            AblateConfig(
                data=tree / "truth.csv",
                output=tmp_path / folder,
                features=["colour", "cnn"],
                compare=["logreg"],
                split="leave-one-source-out",
                subsets=["cnn", "colour"],
                cnn_crossfit=True,
                classifiers={"neural": NEURAL},
                sources=["lab_1", "lab_3"],
                **steps,
                **common,
            )
        )

    pixels, both = compared("a", **PIXELS), compared("b", **STEPS)
    kinds = {stamp.partition(" normalised")[0].partition(" of new")[0] for stamp in both.stamps}
    assert kinds == {"transductive: pixels", "transductive: features"}
    assert not any(np.allclose(one.proba, other.proba) for one, other in zip(both.scores, pixels.scores, strict=True))
    model = tmp_path / "m"
    fit(
        tree,
        common,
        model,
        features=["colour", "cnn"],
        cnn_crossfit=True,
        classifiers={"neural": NEURAL},
        sources=["lab_1", "lab_3"],
        **STEPS,
    )
    result = judged(tree, common, model, tmp_path / "r", sources=["lab_2"])
    assert sum(stamp.startswith("transductive: ") for stamp in result.stamps) == 2


# ---- features that tell the sites apart -----------------------------------------------------------------------


def test_a_stored_model_keeps_what_it_has_left_out_and_explains_nothing_by_it(tree, common, tmp_path):
    trained = fit(tree, common, tmp_path / "m", sources=["lab_1", "lab_2"], stability=0.7)
    left_out = {name for name, kept in zip(trained.bundle.columns, _kept(trained), strict=True) if not kept}
    assert 0 < len(left_out) < len(trained.bundle.columns)
    assert f"stability: {len(left_out)} of {len(trained.bundle.columns)} features left out" in " ".join(
        trained.result.notes
    )
    loaded = load_model(tmp_path / "m")
    cells = Study(trained.result.cells)
    assert loaded.predict_proba(cells).tobytes() == trained.bundle.predict_proba(cells).tobytes()
    (shown,) = explain(ExplainConfig(model=tmp_path / "m", images=[_cell(tree)], output=tmp_path / "e", **common)).shown
    shares = dict(zip(trained.bundle.columns, shown.found.attribution.columns, strict=True))
    assert not any(shares[name] for name in left_out)
    assert any(shares.values())


def _cell(tree):
    return sorted((tree / "lab_3" / "fold_0" / "all").iterdir())[0]


def _kept(trained):
    return trained.bundle.model.selection.kept


def test_one_site_tells_of_no_other_and_a_note_says_so(tree, common, tmp_path):
    trained = fit(tree, common, tmp_path / "m", stability=0.7)
    assert _kept(trained).all()
    assert any("no feature is left out" in note for note in trained.result.notes)


def test_a_comparison_leaves_features_out_in_every_split(tree, common, tmp_path):
    config = AblateConfig(
        data=tree / "truth.csv",
        output=tmp_path / "a",
        compare=["logreg", "xgb"],
        features=["colour"],
        split="leave-one-source-out",
        stability=0.7,
        **common,
    )
    (note,) = [note for note in ablate(config).notes if note.startswith("stability")]
    assert "since within a class they tell the training sources apart" in note


# ---- a scale by red cells --------------------------------------------------------------------------------------------


def test_sites_are_brought_to_one_scale_by_their_red_cells(tree, common, tmp_path):
    """Only lab_2 shows fields: it is scaled by what is around its cells; lab_1 and lab_3 by what their table says."""
    trained = fit(tree, common, tmp_path / "m", sources=["lab_1", "lab_2"], normalise={"scale": "red-cells"})
    table = pd.read_csv(tree / "truth.csv").groupby("source")["um_per_px"].first()
    image_statistics = trained.bundle.normaliser.sources
    assert image_statistics["lab_1"] is None
    assert image_statistics["lab_2"] == pytest.approx(table["lab_2"], rel=0.15)  # 7.5 for 7.4, and the smaller ones
    result = judged(tree, common, tmp_path / "m", tmp_path / "r", sources=["lab_3"])
    assert any(stamp.startswith("scale by red cells: 2 or more are whole around 0 of 24") for stamp in result.stamps)
    assert load_model(tmp_path / "m").normaliser == trained.bundle.normaliser


@pytest.mark.parametrize("scale", ["red-cells", "um_per_px"])
def test_a_size_of_pixels_that_only_another_table_has_told_is_not_remembered(tree, common, tmp_path, scale):
    """The same images have been measured under truth.csv, which has the column; this table has not."""
    rows = pd.read_csv(tree / "truth.csv").query("source == 'lab_3'")
    dataset = load_dataset(tree / "truth.csv", store=common["store"]).select(sources=["lab_3"])
    normalise(dataset, NormaliseSettings(scale=scale), FeatureStore(common["store"]), jobs=1)
    rows[["path", "label", "subject", "source", "mask"]].to_csv(tree / "bare.csv", index=False)
    with pytest.raises(UsageError, match="um_per_px"):
        fit(tree, common, tmp_path / "m", data=tree / "bare.csv", sources=[], normalise={"scale": scale})
