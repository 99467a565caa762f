"""A late fusion from training to the ONNX file: saved, moved, asked, explained, judged elsewhere."""

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.bundles.bundle_files import BundleError
from fusion.bundles.model_bundle import ModelBundle
from fusion.bundles.onnx_export import export_onnx
from fusion.learning.study import Study
from fusion.settings.commands import EvaluateConfig, ExplainConfig, ExportConfig, PredictConfig, TrainConfig
from fusion.workflows.evaluate import evaluate
from fusion.workflows.explain import explain
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.fusion.bundles.test_model_bundle import edit, reseal


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    root = tmp_path_factory.mktemp("late")
    config = TrainConfig(
        data=synthetic,
        output=root / "model",
        store=root / "store",
        features=["morphology", "colour"],
        classifier="logreg",
        fuse="late",
        splits=2,
        jobs=1,
    )
    return train(config), root


def test_it_is_named_and_says_how_much_each_block_counts(trained):
    result = trained[0].result
    assert result.scores[0].classifier == "logreg-late"
    assert {"weight.morphology", "weight.colour"} <= set(result.findings["chosen"][0])
    assert any("weight.morphology" in note for note in result.notes)


def test_a_moved_model_gives_the_same_probabilities(trained, tmp_path):
    trained, root = trained
    moved = shutil.copytree(root / "model", tmp_path / "moved")
    again = ModelBundle.load(moved)
    cells = Study(trained.result.cells)
    assert_array_equal(again.predict_proba(cells), trained.bundle.predict_proba(cells))
    assert again.label == "logreg-late"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": [1.0, -1.0]}, "do not fit together"),
        ({"weights": [1.0, float("inf")]}, "cannot|damaged|not a model|do not fit"),
        ({"weights": [1.0]}, "other blocks"),
        ({"blocks": ["colour", "morphology"]}, "other blocks"),
        ({"intercepts": [0.0]}, "do not fit together"),
    ],
)
def test_a_forged_pool_is_refused(trained, tmp_path, change, said):
    moved = shutil.copytree(trained[1] / "model", tmp_path / "moved")
    late = json.loads((moved / "model.json").read_text())["late"]
    edit(moved, late={**late, **change})
    reseal(moved)
    with pytest.raises(BundleError, match=said):
        ModelBundle.load(moved)


@pytest.mark.parametrize("name", ["classifier/classifier.json", "block-0/notes.txt", "block-x/layer.safetensors"])
def test_a_file_that_no_late_fusion_has_is_refused(trained, tmp_path, name):
    moved = shutil.copytree(trained[1] / "model", tmp_path / "moved")
    (moved / name).parent.mkdir(exist_ok=True)
    (moved / name).write_text("{}")
    reseal(moved)
    with pytest.raises(BundleError, match="holds what no model has"):
        ModelBundle.load(moved)


def test_it_predicts_explains_and_is_judged(trained, synthetic, tmp_path):
    trained, root = trained
    images = sorted(synthetic.rglob("*.bmp"))[:3]
    found = predict(PredictConfig(model=root / "model", images=images, store=root / "store", jobs=1))
    known = dict(zip(trained.result.cells.keys, trained.bundle.predict_proba(Study(trained.result.cells)), strict=True))
    assert_allclose(found.proba, np.stack([known[key] for key in found.table.keys]), rtol=1e-9)  # of another batch
    explained = explain(
        ExplainConfig(model=root / "model", images=images, output=tmp_path / "why", store=root / "store", jobs=1)
    )
    (first, *_) = (shown.found for shown in explained.shown)
    assert set(first.attribution.blocks) == {"morphology", "colour"}
    total = first.attribution.base + sum(first.attribution.blocks.values())
    assert total == pytest.approx(first.attribution.score)
    assert len(first.speaks_for) > 0
    result = evaluate(
        EvaluateConfig(
            model=root / "model",
            data=synthetic,
            output=tmp_path / "judged",
            store=root / "store",
            allow_leakage=True,
            jobs=1,
        )
    )
    assert result.scores[0].classifier == "logreg-late"


def test_it_is_exported(trained, synthetic, tmp_path):
    root = trained[1]
    config = ExportConfig(
        model=root / "model", onnx=tmp_path / "late.onnx", check=synthetic, store=root / "store", jobs=1
    )
    written = export_onnx(config)
    assert all(difference.is_within and not difference.labels for difference in written.differences)
