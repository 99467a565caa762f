"""A network at a site where cells are twice as large: what a few labelled cells bring, and what it does afterwards."""

from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.testing import assert_allclose, assert_array_equal

from fusion.bundles.model_bundle import load_model
from fusion.bundles.onnx_export import export_onnx
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import LeakageError
from fusion.progress import Forecast
from fusion.serve.app import create_app
from fusion.settings.commands import (
    AdaptConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    PredictConfig,
    TrainConfig,
)
from fusion.workflows.evaluate import evaluate
from fusion.workflows.explain import explain
from fusion.workflows.new_site.adaptation import adapt_model
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.requests import HOME, sent
from tests.builders.sites import site

#: Cells are seen at their own size, which is what the classes differ by.
NETWORK = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "view": 110,
        "dropout": 0.0,
        "drop_path": 0.0,
        "head": [8],
        "head_dropout": [0.0, 0.0],
        "fusion": "gated",
    },
    "training": {
        "epochs": 6,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "loss": "cross_entropy",
        "patience": 0,
        "validation": 0.0,
    },
    "augmentation": {"flip_horizontal": True, "rotation": 0, "brightness": 0.1, "contrast": 0.1},
    "turns": 2,
    "threads": 1,
}


def learn_home(folder, name, features=("none",), **changes):
    """A network of the site where cells are small."""
    train(
        TrainConfig(
            data=site(folder, 40, 1, 1.0),
            features=list(features),
            classifier="neural",
            classifiers={"neural": {**NETWORK, **changes}},
            splits=2,
            output=folder / name,
            store=folder / "store",
            jobs=1,
        )
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A network of one site, and the folder where all lies."""
    folder = tmp_path_factory.mktemp("sites")
    learn_home(folder, "model")
    return folder


def common(home):
    return {"store": home / "store", "jobs": 1}


@pytest.fixture(scope="module")
def adapted(home):
    """What labelled cells of the site with large ones bring, and the table of these."""
    data = site(home, 32, 2, 1.8)
    (home / "broken.png").write_bytes(b"no image")
    data.write_text(data.read_text() + "../broken.png,a,s2-x,new\n".replace("../", ""))
    config = AdaptConfig(model=home / "model", data=data, k=[4, 100], output=home / "adapted", **common(home))
    return adapt_model(config), data


def test_a_few_labels_mend_a_network_and_labelled_cells_are_not_judged(home, adapted):
    found, data = adapted
    (four,) = found.curve
    assert list(four["balanced_accuracy"]) == ["as it is", "recalibrated", "refitted", "fine-tuned", "chosen"]
    assert four["balanced_accuracy"]["as it is"]["value"] < 0.7
    assert four["balanced_accuracy"]["refitted"]["value"] > 0.9
    assert four["balanced_accuracy"]["chosen"]["value"] > 0.85
    assert four["judged"] <= 32 - 8
    assert "Too few labelled cells to show 100 of each class" in " ".join(found.notes)
    assert found.step in ("refitted", "fine-tuned")
    assert [fault.path.name for fault in found.faults] == ["broken.png"]
    judged = evaluate(
        EvaluateConfig(model=home / "adapted", data=site(home, 24, 3, 1.8), output=home / "result", **common(home))
    )
    assert judged.figures[0]["image"]["balanced_accuracy"]["value"] > 0.9
    assert load_model(home / "adapted").facts["adapted"]["step"] == found.step
    with pytest.raises(LeakageError):
        evaluate(EvaluateConfig(model=home / "adapted", data=data, output=home / "no", **common(home)))


def test_the_same_seed_adapts_to_the_same_bits(home, adapted):
    found, data = adapted
    again = adapt_model(AdaptConfig(model=home / "model", data=data, k=[100], **common(home)))
    assert (again.step, again.surprise) == (found.step, found.surprise)


def test_an_adapted_network_predicts_explains_and_is_exported_as_it_is_kept(home, adapted, tmp_path):
    few = site(home, 4, 6, 1.8)
    found = predict(PredictConfig(model=home / "adapted", images=[few], **common(home)))
    assert found.predicted == list("abab")
    explain(ExplainConfig(model=home / "adapted", images=[few], output=tmp_path / "why", **common(home)))
    assert (tmp_path / "why" / "explanations.html").exists()
    with TestClient(create_app(load_model(home / "adapted")), base_url=HOME) as client:
        image = (home / "6-001.png").read_bytes()
        (row,) = client.post("/api/predict", files=sent(image)).json()["predictions"]
    assert row["class"] == "b"
    pytest.importorskip("onnxruntime")
    written = export_onnx(ExportConfig(model=home / "adapted", onnx=tmp_path / "adapted.onnx"))
    assert all(check.labels == 0 for check in written.differences)


@pytest.mark.parametrize("step", ["recalibrated", "refitted", "fine-tuned"])
def test_every_step_is_kept_as_it_was_judged(home, adapted, tmp_path, step, monkeypatch):
    _, data = adapted
    monkeypatch.setattr("fusion.workflows.new_site.adaptation.choose_step", lambda *_: (step, {}))
    config = AdaptConfig(model=home / "model", data=data, k=[100], output=tmp_path / step, **common(home))
    in_memory = adapt_model(config).bundle
    stored = load_model(tmp_path / step)
    assert (stored.model.calibration is not None) == (step == "recalibrated")
    asked = PredictConfig(model=tmp_path / step, images=[site(home, 8, 7, 1.8)], **common(home))
    proba = predict(asked).proba
    monkeypatch.setattr("fusion.workflows.predict.load_model", lambda _: in_memory)
    assert_allclose(predict(asked).proba, proba, atol=1e-6)
    before = load_model(home / "model").model.classifier.network_.state_dict()
    after = stored.model.classifier.network_.state_dict()
    trunk = [name for name in before if name.startswith("backbone.")]
    is_same = all(np.array_equal(before[name], after[name]) for name in trunk)
    assert is_same == (step != "fine-tuned")
    met = set(stored.provenance.images) - set(load_model(home / "model").provenance.images)
    assert len(met) == 32


def test_of_unlabelled_cells_a_network_says_which_to_label(home):
    data = site(home, 30, 4, 1.8, labelled=0)
    asked = AdaptConfig(model=home / "model", data=data, k=[3], **common(home))
    found = adapt_model(asked.model_copy(update={"to_label": home / "to-label.csv"}))
    assert len(set(found.to_label)) == 6
    with pytest.raises(UsageError, match=r"no cell of .* is labelled"):  # of an image alone nothing tells what is usual
        adapt_model(asked.model_copy(update={"output": home / "none"}))


def test_a_network_beside_features_keeps_how_far_a_sites_cells_lie(home):
    learn_home(home, "joined", features=("colour",))
    data = site(home, 30, 5, 1.8, labelled=0, is_green=True)
    found = adapt_model(AdaptConfig(model=home / "joined", data=data, output=home / "usual", **common(home)))
    assert found.usual == {"new": 30}
    assert any("only what is out of distribution" in note for note in found.notes)
    both = [predict(PredictConfig(model=home / name, images=[data], **common(home))) for name in ("joined", "usual")]
    assert_array_equal(both[0].proba, both[1].proba)
    assert both[0].distance.max() > 1
    assert both[1].distance.max() <= 1
    labelled = adapt_model(AdaptConfig(model=home / "joined", data=site(home, 24, 9, 1.8), k=[100], **common(home)))
    assert labelled.surprise["refitted"] < 0.5 * labelled.surprise["as it is"]


def test_a_network_of_batch_statistics_is_at_home_without_labels(home):
    learn_home(home, "adaptive", batch_statistics="source")
    data, few = site(home, 40, 10, 1.8, labelled=0), site(home, 4, 11, 1.8)
    found = adapt_model(AdaptConfig(model=home / "adaptive", data=data, output=home / "at-home", **common(home)))
    assert (found.norms, found.step) == ({"new": 40}, "")
    together = predict(PredictConfig(model=home / "adaptive", images=[data], **common(home)))
    one_by_one = predict(PredictConfig(model=home / "at-home", images=[data], **common(home)))
    assert any(note.startswith("transductive") for note in together.notes)
    assert any("batch norms by the 40 cells of new" in note for note in one_by_one.notes)
    assert_allclose(one_by_one.proba, together.proba, atol=1e-5)
    kept = predict(PredictConfig(model=home / "at-home", images=[few], **common(home)))
    lost = predict(PredictConfig(model=home / "adaptive", images=[few], **common(home)))
    assert not np.allclose(kept.proba, lost.proba, atol=1e-3)
    labelled = site(home, 40, 12, 1.8)
    found = adapt_model(
        AdaptConfig(model=home / "adaptive", data=labelled, k=[4], output=home / "both", **common(home))
    )
    assert found.norms == {"new": 40}
    assert load_model(home / "both").model.classifier.notes(["new"] * 20) == []
    mixed = home / "mixed.csv"
    rows = data.read_text().splitlines()
    mixed.write_text("\n".join([*rows[:21], *(row.replace(",new", ",other") for row in rows[21:])]) + "\n")
    with pytest.raises(UsageError, match="one site at a time"):
        adapt_model(AdaptConfig(model=home / "adaptive", data=mixed, output=home / "two", **common(home)))


def test_a_long_fine_tuning_is_told_of_before_it_is_spent(home, adapted):
    from fusion.analysis.adaptation.expected_time import forecast_adapting
    from fusion.analysis.adaptation.network_steps import with_head_inputs
    from fusion.workflows.new_site import adaptation

    _, data = adapted
    bundle = load_model(home / "model")
    config = AdaptConfig(model=home / "model", data=data, k=[4], **common(home))
    dataset = adaptation._load(config, bundle, None)
    study, _ = adaptation._measure(config, bundle, dataset, None)
    cells = with_head_inputs(bundle.model, adaptation._cells(bundle, study))
    ticks = iter([0.0, 16.0, 0.0, 0.1])
    told = forecast_adapting(bundle.model, cells, [4, 100], clock=lambda: next(ticks))
    # Five draws of eight cells and all 32, each five times over: a second a cell.
    assert isinstance(told, Forecast)
    assert told.seconds == 5 * (5 * 2 * 4 + 32)
    assert forecast_adapting(bundle.model, cells, [4], clock=lambda: next(ticks)) is None
    assert forecast_adapting(bundle.model, replace(cells, given=None), [4]) is None
