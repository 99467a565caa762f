"""fusion export: the ONNX file says what the model says, for everything that can be put in one."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import cli
from classifiers.neural.estimator import NeuralClassifier
from fusion.bundles import onnx_export
from fusion.bundles.model_bundle import ModelBundle
from fusion.data.classifier_inputs import CellInputs
from fusion.errors import UsageError
from fusion.learning.fused_model import FusedModel, fuse
from fusion.plugins import registry
from tests.builders.images import paint

BLOCKS = {"shape": slice(0, 5), "grey": slice(5, 12)}
COLUMNS = tuple(f"{name}.f{at}" for name, part in BLOCKS.items() for at in range(part.stop - part.start))


def cells(classes, n=150, seed=0):
    """Features that tell the classes a little, on unlike scales, some missing, one constant, one without any value."""
    draw = np.random.default_rng(seed)
    y = np.array(["all", "hem", "reactive"])[np.arange(n) % classes]
    X = draw.normal(size=(n, 12)) + 0.8 * (np.arange(n) % classes)[:, None] * (draw.random(12) < 0.4)
    X = (X * 10.0 ** draw.integers(-3, 4, 12) + 5).astype(np.float32)
    X[draw.random(X.shape) < 0.05] = np.nan
    X[:, 3], X[:, 9] = 7, np.nan
    return X, y, np.arange(n) // 3


def bundle_of(model, name="svm", columns=COLUMNS):
    positive = "all" if len(model.classes) == 2 else None
    return ModelBundle(model, name, (), columns, positive, frozenset(), frozenset(), {})


def run(model, given):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probability", "label"], given)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("name", "params"),
    [("svm", {}), ("svm", {"landmarks": 20}), ("xgb", {"n_estimators": 40}), ("logreg", {})],
    ids=str,
)
@pytest.mark.parametrize("calibrate", ["none", "logistic", "temperature", "isotonic"])
def test_the_graph_gives_the_models_probabilities(name, params, classes, calibrate):
    X, y, groups = cells(classes)
    model = fuse(X, y, groups, BLOCKS, name, params=params, calibrate=calibrate)
    built, _ = onnx_export.build(bundle_of(model, name))
    # A line that rises steeply makes more of a rounding.
    knots = () if model.calibration is None else model.calibration.knots
    steepest = max([1.0, *(float((np.diff(to) / np.diff(at)).max(initial=0)) for at, to in knots)])
    new, _, _ = cells(classes, seed=1)
    for rows in (X, new, new[:1]):
        proba, label = run(built, {"features": rows})
        expected = model.predict_proba(rows)
        np.testing.assert_allclose(proba, expected, rtol=0, atol=3e-7 * steepest)
        assert list(label) == [model.classes[at] for at in expected.argmax(axis=1)]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["svm", "xgb", "logreg"])
def test_a_late_fusion_is_a_graph_of_each_blocks_model(name, classes):
    X, y, groups = cells(classes)
    params = {"n_estimators": 10} if name == "xgb" else {}
    calibrate = "logistic" if name == "logreg" else "none"
    model = fuse(X, y, groups, BLOCKS, name, params=params, fuse="late", calibrate=calibrate)
    built, trial = onnx_export.build(bundle_of(model, name))
    for rows in (X, cells(classes, seed=1)[0], trial.X):
        proba, label = run(built, {"features": rows})
        expected = model.predict_proba(rows)
        np.testing.assert_allclose(proba, expected, rtol=0, atol=2e-6)
        assert list(label) == [model.classes[at] for at in expected.argmax(axis=1)]


@pytest.mark.parametrize(
    "layer",
    [
        {"scale": "robust", "clip": None},
        {"scale": "none", "weights": "none"},
        {"clip": 1.5, "weights": {"grey": 3.0}},
        {"pca": 0.9},
        {"pca": {"shape": 2}},
        {"emphasis": 0.3, "emphasised": {"shape": [0, 2]}},
    ],
)
def test_every_setting_of_the_fusion_layer_is_in_the_graph(layer):
    X, y, groups = cells(2)
    model = fuse(X / X[0, 4], y, groups, BLOCKS, "logreg", layer=layer)
    built, _ = onnx_export.build(bundle_of(model, "logreg"))
    new = cells(2, seed=1)[0] / X[0, 4]
    np.testing.assert_allclose(run(built, {"features": new})[0], model.predict_proba(new), rtol=0, atol=2e-7)


def test_a_threshold_calls_the_cells_as_the_model_does():
    X, y, groups = cells(2)
    model = fuse(X, y, groups, BLOCKS, "logreg", threshold="0.2", positive="all")
    proba, label = run(onnx_export.build(bundle_of(model))[0], {"features": X})
    assert list(label) == ["all" if p >= 0.2 else "hem" for p in model.predict_proba(X)[:, 0]]
    assert set(label) == {"all", "hem"}
    assert list(label) != [model.classes[at] for at in proba.argmax(axis=1)]


def test_trees_are_tried_on_every_side_of_their_splits():
    X, y, groups = cells(2)
    model = fuse(X, y, groups, BLOCKS, "xgb", params={"n_estimators": 40})
    trial = model.classifier.trial_rows(400, np.random.default_rng(0))
    trees = json.loads(bytes(model.classifier.booster_.save_raw("json")))
    first = trees["learner"]["gradient_booster"]["model"]["trees"][0]
    column, split = first["split_indices"][0], np.float32(first["split_conditions"][0])
    assert (trial[:, column] == split).any()
    assert (trial[:, column] == np.nextafter(split, np.float32(-np.inf))).any()
    np.testing.assert_allclose(
        run(onnx_export.build(bundle_of(model))[0], {"features": trial})[0],
        model.predict_proba(trial),
        rtol=0,
        atol=2e-6,
    )


# ---- the network -----------------------------------------------------------------------------------------------------

SMALL = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "size": 32,
    "drop_path": 0.0,
    "head": [16],
    "head_dropout": [0.0, 0.1],
}


def network(fusion="concat", blocks=True, turns=1):
    images = np.stack([paint(at, side=32, radius=13 - 4 * (at % 2)) for at in range(24)])
    X = np.random.default_rng(0).normal(5, 3, size=(24, 12 if blocks else 0)).astype(np.float32)
    X[3] = np.nan
    inputs = CellInputs(X, BLOCKS if blocks else {}, images)
    quick = {"epochs": 1, "batch_size": 8, "learning_rate": 3e-3, "patience": 0, "validation": 0.0}
    model = NeuralClassifier({**SMALL, "fusion": fusion}, quick, turns=turns, device="cpu")
    y = np.array(["all", "hem"])[np.arange(24) % 2]
    return model.fit(inputs, y, np.arange(24) // 4), inputs


@pytest.mark.parametrize(
    ("fusion", "blocks", "turns"),
    [("concat", False, 1), ("concat", True, 4), ("gated", True, 1), ("film", True, 2), ("attention", True, 1)],
)
def test_a_network_gives_its_probabilities_from_images_and_features(fusion, blocks, turns):
    classifier, inputs = network(fusion, blocks, turns)
    bundle = bundle_of(FusedModel(None, classifier), "neural", COLUMNS if blocks else ())
    built, trial = onnx_export.build(bundle)
    assert len(trial) > 2
    for asked in (inputs, trial, inputs.take(np.arange(1))):  # any number of cells, not that of the tracing
        given = {"images": asked.images(np.arange(len(asked)))} | ({"features": asked.X} if blocks else {})
        proba, label = run(built, given)
        expected = classifier.predict_proba(asked)
        np.testing.assert_allclose(proba, expected, rtol=0, atol=1e-5)
        assert list(label) == list(classifier.classes_[expected.argmax(axis=1)])
    message = {entry.key: entry.value for entry in built.metadata_props}
    assert json.loads(message["images"])["size"] == 32
    assert json.loads(message["columns"]) == (list(COLUMNS) if blocks else [])


def test_a_network_that_turns_by_other_angles_is_refused():
    classifier, _ = network(blocks=False, turns=3)
    with pytest.raises(UsageError, match="no ONNX form") as caught:
        onnx_export.build(bundle_of(FusedModel(None, classifier), "neural", ()))
    assert "1, 2 or 4" in str(caught.value)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(synthetic, synthetic_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    words = ("train", synthetic, "--classifier", "logreg", "--features", "colour", "--splits", 2, "--jobs", 1)
    done = fusion(*words, "--calibrate", "temperature", "--store", synthetic_store, "-o", folder)
    assert done.exit_code == 0, done.stderr
    return folder


def fusion(*words):
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


def test_the_command_writes_a_checked_file_and_tells_the_differences(trained, synthetic, synthetic_store, tmp_path):
    words = ("export", trained, "--onnx", tmp_path / "m.onnx", "--store", synthetic_store, "--jobs", 1)
    done = fusion(*words, "--check", synthetic, "--json")
    assert done.exit_code == 0, done.stderr
    message = json.loads(done.stdout)
    assert [(check["rows"], check["labels"]) for check in message["differences"]] == [(512, 0), (60, 0)]
    assert all(0 <= check["probability"] < 1e-6 for check in message["differences"])
    assert set(message["inputs"]) == {"features"}
    model = onnx.load(tmp_path / "m.onnx")
    columns = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "columns"))
    assert columns[0].startswith("colour.")
    shown = fusion(*words)
    assert "differ by up to" in shown.stdout
    assert "in  features: tensor(float)" in shown.stdout


def test_the_file_agrees_with_predict(trained, synthetic, synthetic_store, tmp_path):
    assert fusion("export", trained, "--onnx", tmp_path / "m.onnx").exit_code == 0
    shared = ("--store", synthetic_store, "--jobs", 1)
    fusion("extract", synthetic, "--features", "colour", "--export", tmp_path / "t.parquet", *shared)
    import pandas as pd

    table = pd.read_parquet(tmp_path / "t.parquet")
    model = onnx.load(tmp_path / "m.onnx")
    columns = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "columns"))
    proba, _ = run(model, {"features": table[columns].to_numpy(np.float32)})
    predicted = json.loads(fusion("predict", trained, synthetic, "--json", *shared).stdout)["predictions"]
    expected = {row["name"]: row["probability"]["all"] for row in predicted}
    np.testing.assert_allclose(proba[:, 0], [expected[name] for name in table["name"]], rtol=0, atol=1e-6)


def test_a_file_of_other_numbers_is_not_written(trained, tmp_path, monkeypatch):
    build = onnx_export.build

    def wrong(bundle):
        model, trial = build(bundle)
        for constant in model.graph.initializer:
            if constant.data_type == onnx.TensorProto.DOUBLE and len(constant.dims) == 2:
                constant.CopyFrom(
                    onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(constant), constant.name)
                )
        return model, trial

    monkeypatch.setattr(onnx_export, "build", wrong)
    done = fusion("export", trained, "--onnx", tmp_path / "m.onnx")
    assert done.exit_code == 1
    assert "gives other probabilities" in done.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_a_classifier_without_an_onnx_form_is_refused_by_name():
    class Odd:
        prepares = "raw"
        classes_ = np.array(["a", "b"])

    with pytest.raises(onnx_export.ExportError, match="classifier 'odd' has no ONNX form"):
        onnx_export.build(bundle_of(FusedModel(None, Odd()), "odd"))


def test_without_the_packages_the_extra_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else True)
    done = fusion("export", trained, "--onnx", tmp_path / "m.onnx")
    assert done.exit_code == 2
    assert "fusion-cells[onnx]" in done.stderr


def test_every_built_in_classifier_of_cells_has_an_onnx_form():
    """A model of patients is refused: see tests/fusion/workflows/test_patients.py."""
    for name in registry.names(registry.CLASSIFIERS):
        kind = registry.classifier_class(name)
        if hasattr(kind, "takes_bags"):
            continue
        assert hasattr(kind, "to_onnx") or hasattr(kind, "to_onnx_network"), name
