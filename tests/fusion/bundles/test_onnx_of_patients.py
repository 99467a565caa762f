"""fusion export of models of patients: from one patient's cells, however many, to what the model says of them."""

import numpy as np
import onnxruntime
import pytest
import torch

from fusion.bundles import onnx_export
from fusion.bundles.model_bundle import ModelBundle
from fusion.data.patients.bags import Bags, split_rows
from fusion.leakage.provenance import Provenance
from fusion.learning._training_rows import TrainingRows
from fusion.learning.fused_model import InnerFolds, fit_rows
from fusion.learning.recipe import Recipe

BLOCKS = {"shape": slice(0, 4), "grey": slice(4, 9)}
COLUMNS = tuple(f"{name}.f{at}" for name, part in BLOCKS.items() for at in range(part.stop - part.start))

#: Patients of one cell and of many.
SIZES = np.array([1, 2, 3, 4, 5, 7, 10, 15, 25, 99, 250, 500])

#: Networks that are trained in a moment.
QUICK = {"members": 3, "steps": 40, "hidden": 8, "components": 5, "learning_rate": 0.02}


def bags(sizes, classes, seed, *, labelled=False):
    """Patients whose cells differ a little by class, on unlike scales, some values missing, one constant."""
    draw = np.random.default_rng(seed)
    y = np.array(["all", "hem", "reactive"])[np.arange(len(sizes)) % classes]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    is_witness = (draw.random(len(owner)) < 0.3) & (owner % classes > 0)
    X = draw.normal(size=(len(owner), 9)) + 2.0 * (is_witness * (owner % classes))[:, None] * (np.arange(9) % 2)
    X = (X * 10.0 ** np.array([-2, 0, 1, 0, 2, -1, 0, 1, -2]) + 5).astype(np.float32)
    X[draw.random(X.shape) < 0.03] = np.nan
    X[:, 3] = 7
    labels = np.where(is_witness, "blast", "normal").astype(object) if labelled else None
    return Bags(X, split_rows(np.asarray(sizes)), labels), y


def fitted(classifier, classes=2, *, labelled=False, **steps):
    X, y = bags(np.full(24, 12), classes, 0, labelled=labelled)
    rows = TrainingRows.of_arrays(X, y, np.arange(24))
    recipe = Recipe(tuple(BLOCKS), classifier, unit="subject", **steps)
    model = fit_rows(rows, BLOCKS, recipe, InnerFolds(rows))
    if classifier == "mil":
        before = model.predict_proba(X)
        speak(model.classifier._networks)
        assert np.abs(model.predict_proba(X) - before).max() > 0.1
    return model


def speak(networks):
    """Have networks say something: so briefly trained, they may have stopped where they say nothing of any bag."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter += 1.0 * torch.randn(parameter.shape, generator=draw)


def bundle_of(model, name):
    positive = "all" if len(model.classes) == 2 else None
    return ModelBundle(model, name, (), COLUMNS, positive, Provenance.from_json({}), {}, unit="subject")


def run(model, X):
    """The file's probabilities and classes, patient by patient."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    told = [session.run(["probability", "label"], {"features": X.cells[own]}) for own in X.rows]
    assert {proba.shape[0] for proba, _ in told} == {1}
    return np.concatenate([proba for proba, _ in told]), [str(label[0]) for _, label in told]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("svm", {}),
        ("xgb", {"params": {"n_estimators": 20}}),
        ("logreg", {"calibrate": "logistic"}),
        ("logreg", {"fuse": "late"}),
        ("pool", {}),
        ("pool", {"labelled": True, "calibrate": "isotonic"}),
        ("pool", {"fuse": "late"}),
        ("mil", {"params": {**QUICK, "pooling": "attention"}}),
        ("mil", {"params": {**QUICK, "pooling": "top-k"}, "labelled": True}),
        ("mil", {"params": {**QUICK, "pooling": "transformer"}}),
    ],
    ids=str,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_graph_says_of_patients_of_1_to_500_cells_what_the_model_says(name, steps, classes):
    model = fitted(name, classes, **steps)
    built, trial = onnx_export.build(bundle_of(model, name))
    assert {1, 500} <= set(trial.sizes.tolist())
    knots = () if model.calibration is None else model.calibration.knots
    steepest = max([1.0, *(float((np.diff(to) / np.diff(at)).max(initial=0)) for at, to in knots)])
    for X in (trial, bags(SIZES, classes, 1)[0]):
        expected = model.predict_proba(X)
        proba, label = run(built, X)
        np.testing.assert_allclose(proba, expected, rtol=0, atol=1e-5 * steepest)
        assert label == [model.classes[at] for at in expected.argmax(axis=1)]
    assert np.ptp(expected[:, 0]) > 0.05  # patients are told apart, so that a constant would be noticed


def test_the_threshold_and_the_order_of_cells():
    model = fitted("pool", threshold="0.2", positive="all")
    built, _ = onnx_export.build(bundle_of(model, "pool"))
    X, _ = bags(SIZES, 2, 1)
    proba, label = run(built, X)
    assert label == ["all" if p >= 0.2 else "hem" for p in model.predict_proba(X)[:, 0]]
    turned = Bags(X.cells, tuple(own[::-1] for own in X.rows))
    np.testing.assert_allclose(run(built, turned)[0], proba, rtol=0, atol=1e-6)
