"""Training: it learns, repeats itself bit for bit, goes on where it was stopped, and keeps scikit-learn's contract."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.neural._network_files import CHECKPOINT, CheckpointError
from classifiers.neural.estimator import NeuralClassifier
from extractors.cnn.extractor import Embedding
from fusion.bundles.bundle_files import BundleError
from fusion.data.classifier_inputs import CellInputs
from fusion.images.cell import read_cell
from tests.builders.images import paint
from tests.classifiers.neural import processes_job

SMALL = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "size": 32,
    "drop_path": 0.0,
    "head": [16],
    "head_dropout": [0.0, 0.1],
}
QUICK = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "patience": 0}


pytestmark = pytest.mark.usefixtures("one_thread")


def classifier(training=None, **parts):
    network = {**SMALL, **parts.pop("network", {})}
    return NeuralClassifier(network=network, training={**QUICK, **(training or {})}, **parts)


@pytest.fixture(scope="module")
def cells():
    """40 small cells of 10 subjects, large ones and small ones, and a block of features that tells nothing."""
    return processes_job.cells()


def weights(model):
    return model.network_.state_dict()


def assert_same_weights(one, other):
    assert weights(one).keys() == weights(other).keys()
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


# ---- it learns -------------------------------------------------------------------------------------------------------


@parametrize_with_checks([NeuralClassifier(training={"epochs": 30, "batch_size": 32, "learning_rate": 1e-2})])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_the_real_backbone_trains_two_steps(cells):
    """EfficientNetV2-B3 as published, at 64 pixels: one epoch of two batches changes it, and it stays finite."""
    images = np.stack([paint(at, side=64) for at in range(8)])
    y = np.array(["all", "hem"] * 4)
    steps = []
    model = NeuralClassifier(
        network={"weights": "random", "size": 64},
        training={"epochs": 1, "batch_size": 4, "validation": 0.0},
    )
    model.fit(images, y, watch=lambda epoch, epochs, step, total: steps.append((step, total)))
    assert steps == [(1, 2), (2, 2)]
    assert model.describe().startswith("14.04 M")
    untrained = classifier_of_b3()
    moved = [name for name, tensor in weights(model).items() if not torch.equal(tensor, untrained[name])]
    assert len(moved) > 0.9 * len(untrained)
    assert all(tensor.isfinite().all() for tensor in weights(model).values())
    proba = model.predict_proba(images)
    assert_allclose(proba.sum(axis=1), 1)


def classifier_of_b3():
    from classifiers.neural.network import Design, Network
    from extractors.cnn.backbone import untrained_backbone

    design = Design(weights="random", size=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(design, untrained_backbone(design.extractor().backbone_config, 0), {}, 2).state_dict()


def test_a_small_network_tells_cells_of_new_subjects_apart(tmp_path):
    """Synthetic cells, subjects never on both sides: clearly better than guessing, which is 0.5 by construction."""
    from fusion.data.dataset import load_dataset
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=16, cells_per_subject=8, class_effect=2.0)
    data = load_dataset(synthesize(tmp_path / "cells", design), store=tmp_path / "store")
    model = NeuralClassifier(
        network={**SMALL, "size": 64, "view": 450},
        training={"epochs": 12, "batch_size": 16, "learning_rate": 3e-3, "loss": "cross_entropy", "validation": 0.0},
        augmentation={"flip_vertical": True, "quarter_turns": True},
    )
    images = model.input_transform()([read_cell(sample.path) for sample in data.samples])
    y = np.array([sample.label for sample in data.samples])
    groups = data.groups()
    chosen = np.concatenate([np.unique(groups[y == label])[:2] for label in ("all", "hem")])
    test = np.isin(groups, chosen)
    model.fit(images[~test], y[~test], groups[~test])
    assert balanced_accuracy_score(y[test], model.predict(images[test])) > 0.7


@pytest.mark.parametrize("fusion", ["concat", "gated", "film", "attention"])
def test_every_fusion_learns_from_a_block_what_images_do_not_show(fusion):
    rng = np.random.default_rng(1)
    y = np.arange(64) % 2
    X = np.stack([y + 0.2 * rng.normal(size=64), rng.normal(size=64)], axis=1).astype(np.float32)
    images = np.stack([paint(0, side=32, radius=12)] * 64)  # the same for all
    inputs = CellInputs(1000 * X, {"shape": slice(0, 2)}, images)
    model = classifier({"epochs": 12, "learning_rate": 1e-2, "loss": "cross_entropy"}, network={"fusion": fusion})
    model.fit(inputs, y, np.arange(64) // 4)
    assert balanced_accuracy_score(y, model.predict(inputs)) > 0.9


def test_gates_are_told_by_part(cells):
    inputs, y, groups = cells
    model = classifier(network={"fusion": "gated", "auxiliary": 0.2, "block_dropout": 0.2}).fit(inputs, y, groups)
    gates = model.gates(inputs)
    assert {name: gate.shape for name, gate in gates.items()} == dict.fromkeys(["image", "shape", "colour"], (40,))
    assert gates["shape"][3] == gates["colour"][3] == 0
    with pytest.raises(ValueError, match="no gates"):
        classifier().fit(inputs, y, groups).gates(inputs)


# ---- it repeats itself -----------------------------------------------------------------------------------------------


def test_same_seed_same_bits_whatever_was_drawn_before(cells):
    inputs, y, groups = cells
    first = classifier(augmentation={"stain": 0.1, "blur": 1.0}).fit(inputs, y, groups)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    second = clone(first).fit(inputs, y, groups)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_weights(first, second)
    assert_array_equal(first.predict_proba(inputs), second.predict_proba(inputs))
    other = clone(first).set_params(random_state=1).fit(inputs, y, groups)
    assert not np.array_equal(first.predict_proba(inputs), other.predict_proba(inputs))


class Killed(BaseException):
    """Not an Exception: nothing in the training may catch it."""


def killer(step):
    def watch(epoch, epochs, done, total):
        if done == step:
            raise Killed

    return watch


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "training",
    [
        {"epochs": 4, "ema": 0.9, "freeze_epochs": 1},
        {"epochs": 5, "accumulate": 2, "schedule": "cosine", "warmup": 0.2, "patience": 1},
    ],
)
def test_a_training_that_is_interrupted_twice_ends_with_the_same_bits(cells, tmp_path, training, seed):
    inputs, y, groups = cells
    model = classifier(training, network={"fusion": "gated", "auxiliary": 0.2, "dropout": 0.2})
    steps = []
    whole = clone(model).fit(inputs, y, groups, watch=lambda *message: steps.append(message[2]))
    when = np.sort(np.random.default_rng(seed).choice(steps, 2, replace=False))
    broken = clone(model)
    for step in when:
        with pytest.raises(Killed):
            broken.fit(inputs, y, groups, checkpoint=tmp_path, resume=True, watch=killer(step))
    broken.fit(inputs, y, groups, checkpoint=tmp_path, resume=True)
    assert_same_weights(whole, broken)
    assert whole.history_ == broken.history_
    assert_array_equal(whole.predict_proba(inputs), broken.predict_proba(inputs))


def test_a_finished_training_is_not_done_again(cells, tmp_path):
    inputs, y, groups = cells
    first = classifier().fit(inputs, y, groups, checkpoint=tmp_path)
    steps = []
    again = classifier().fit(inputs, y, groups, checkpoint=tmp_path, resume=True, watch=lambda *t: steps.append(t))
    assert not steps
    assert_same_weights(first, again)


def test_without_resume_a_training_starts_afresh(cells, tmp_path):
    inputs, y, groups = cells
    classifier().fit(inputs, y, groups, checkpoint=tmp_path)
    steps = []
    classifier().fit(inputs, y, groups, checkpoint=tmp_path, watch=lambda *message: steps.append(message))
    assert steps


def test_a_checkpoint_serves_no_other_training(cells, tmp_path):
    inputs, y, groups = cells
    classifier().fit(inputs, y, groups, checkpoint=tmp_path)
    others = [
        (classifier({"learning_rate": 1e-3}), inputs, y),
        (classifier(random_state=5), inputs, y),
        (classifier(), inputs, y[::-1]),
        (classifier(), dataclasses.replace(inputs, source=np.maximum(inputs.source, 1)), y),
    ]
    for other, X, labels in others:
        with pytest.raises(CheckpointError, match="another training"):
            other.fit(X, labels, groups, checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("harm", ["cut", "pickle", "optimiser", "nan"])
def test_a_damaged_checkpoint_is_told_in_one_clear_message(cells, tmp_path, harm):
    inputs, y, groups = cells
    classifier().fit(inputs, y, groups, checkpoint=tmp_path)
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    tensors = safetensors.torch.load(content)
    with safetensors.safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    name = next(name for name in tensors if name.startswith("optimiser.exp_avg."))
    if harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif harm == "optimiser":
        safetensors.torch.save_file({n: t for n, t in tensors.items() if n != name}, path, metadata)
    else:
        tensors[name].view(-1)[0] = float("nan")
        safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="cannot be gone on with"):
        classifier().fit(inputs, y, groups, checkpoint=tmp_path, resume=True)
    assert not Bomb.went_off


# ---- how it learns ---------------------------------------------------------------------------------------------------


def test_a_frozen_backbone_stays_as_it_is_and_then_learns(cells):
    inputs, y, groups = cells
    whole = {"validation": 0.0}  # the last epoch is kept, not the best
    start = classifier({**whole, "epochs": 1, "freeze_epochs": 1, "learning_rate": 1e-9}).fit(inputs, y, groups)
    frozen = classifier({**whole, "epochs": 2, "freeze_epochs": 2}).fit(inputs, y, groups)
    free = classifier({**whole, "epochs": 2, "freeze_epochs": 1}).fit(inputs, y, groups)
    for name, tensor in weights(start).items():
        if name.startswith("backbone.backbone."):
            assert torch.equal(weights(frozen)[name], tensor), name
    assert not torch.equal(weights(frozen)["head.1.weight"], weights(start)["head.1.weight"])
    stem = "backbone.backbone.conv_stem.weight"
    assert not torch.equal(weights(free)[stem], weights(start)[stem])


def test_folded_batch_norms_keep_their_statistics(cells):
    inputs, y, groups = cells
    model = classifier({"freeze_norm": True}).fit(inputs, y, groups)
    means = [tensor for name, tensor in weights(model).items() if "backbone" in name and "running_mean" in name]
    assert means
    assert all((mean == 0).all() for mean in means)


def test_rates_by_depth_reach_the_parameters(cells):
    inputs, y, groups = cells
    rates = {"learning_rate": (1e-12, 1e-12, 1e-2), "weight_decay": 0.0, "validation": 0.0}
    start = classifier({**rates, "learning_rate": 1e-12, "epochs": 1}).fit(inputs, y, groups)
    moved = classifier({**rates, "epochs": 1}).fit(inputs, y, groups)
    change = {
        name: float((weights(moved)[name] - weights(start)[name]).abs().max())
        for name, _ in start.network_.named_parameters()
    }
    assert max(value for name, value in change.items() if name.startswith("backbone.backbone.")) < 1e-9
    assert change["head.1.weight"] > 1e-3


def test_it_stops_when_nothing_improves_and_keeps_the_best_epoch(cells):
    inputs, y, groups = cells
    model = classifier({"epochs": 40, "patience": 2, "min_delta": 0.5}).fit(inputs, y, groups)
    scores = [epoch["score"] for epoch in model.history_]
    # A gain of 0.5 can happen once at most after the first epoch.
    assert len(scores) <= 1 + 2 + 2
    assert all(score is not None for score in scores)


def test_accumulated_batches_make_the_gradient_of_a_large_one(cells):
    """Without batch norm or dropout, two half batches are one whole batch."""
    inputs, y, _ = cells
    plain = NeuralClassifier(
        network={"head": [], "head_dropout": [0.0]},
        training={"epochs": 1, "validation": 0.0, "loss": "cross_entropy", "sampling": "natural", "clip": 0.0},
    )
    halves = clone(plain).set_params(training={**plain.training, "batch_size": 10, "accumulate": 2})
    whole = clone(plain).set_params(training={**plain.training, "batch_size": 20})
    one, other = (model.fit(np.nan_to_num(inputs.X), y) for model in (halves, whole))
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(other)[name], tensor, atol=1e-6, rtol=1e-4)


def test_every_epoch_is_told_with_its_loss_score_and_rate(cells):
    message = []
    model = classifier({"validation": 0.25, "schedule": "constant"})
    model.fit(*cells, log=lambda epoch, values: message.append((epoch, values)))
    assert [epoch for epoch, _ in message] == [1, 2, 3]
    for (_, values), kept in zip(message, model.history_, strict=True):
        assert values == {**kept, "learning_rate": 3e-3}


@pytest.mark.parametrize("precision", ["float16"])
def test_half_precision_is_for_a_gpu(cells, precision):
    with pytest.raises(ValueError, match="for a GPU"):
        classifier({"precision": precision}).fit(*cells)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("how", [{"precision": "bfloat16"}, {"precision": "float16"}, {"tf32": True}])
def test_a_gpu_trains_in_the_precision_that_was_asked_for(cells, how):
    model = classifier(how, device="cuda").fit(*cells)
    assert all(tensor.isfinite().all() for tensor in weights(model).values())
    assert all(t.dtype == torch.float32 for t in weights(model).values() if t.is_floating_point())


def test_predictions_are_the_mean_over_rotations(cells):
    inputs, y, groups = cells
    model = classifier().fit(inputs, y, groups)
    views = [
        model.predict_proba(dataclasses.replace(inputs, source=np.rot90(inputs.source, k, (1, 2)))) for k in range(4)
    ]
    turned = model.set_params(turns=4).predict_proba(inputs)
    assert_allclose(turned, np.mean(views, axis=0), atol=1e-6)


# ---- stored and read again -------------------------------------------------------------------------------------------


class Bomb:
    """Goes off when it is unpickled."""

    went_off = False

    def __reduce__(self):
        return (set_off, ())


def set_off():
    Bomb.went_off = True


@pytest.fixture(scope="module")
def stored(cells, tmp_path_factory):
    inputs, y, groups = cells
    model = classifier(network={"fusion": "gated", "view": 300}).fit(inputs, y, groups)
    model.remember({"images": ["ab"], "subjects": ["cd"], "groups": []})
    folder = tmp_path_factory.mktemp("stored")
    model.save(folder)
    return model, folder


def test_a_stored_network_comes_back_bit_for_bit(cells, stored):
    model, folder = stored
    again = NeuralClassifier.load(folder)
    assert_same_weights(model, again)
    assert_array_equal(again.predict_proba(cells[0]), model.predict_proba(cells[0]))
    assert again.get_params() == model.get_params()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_the_backbone_of_a_stored_network_is_a_weights_file_of_the_extractor(cells, stored):
    model, folder = stored
    extractor = Embedding(weights=str(folder / "backbone.safetensors"))
    assert extractor.input_transform == model.input_transform_
    assert extractor.provenance() == {"images": ["ab"], "subjects": ["cd"], "groups": []}
    images = cells[0].images(np.arange(6))
    backbone = model.network_.backbone
    with torch.inference_mode():
        expected = backbone(backbone.prepare(images)).numpy()
    assert_array_equal(extractor.network.embed(images), expected)


def rewrite(path, change):
    tensors = safetensors.torch.load(path.read_bytes())
    with safetensors.safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    change(tensors)
    safetensors.torch.save_file(tensors, path, metadata)


@pytest.mark.parametrize("file", ["layers.safetensors", "backbone.safetensors"])
@pytest.mark.parametrize("harm", ["renamed", "missing", "extra", "shape", "kind", "nan", "pickle", "zip", "cut"])
def test_tensors_that_are_not_this_networks_give_one_clear_line(stored, tmp_path, file, harm):
    _, folder = stored
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / file
    name = "head.1.weight" if file.startswith("layers") else "backbone.conv_stem.weight"
    prefix = "" if file.startswith("layers") else "backbone."
    changes = {
        "renamed": lambda t: t.update({f"{prefix}other.weight": t.pop(name)}),
        "missing": lambda t: t.pop(name),
        "extra": lambda t: t.update({f"{prefix}other.weight": torch.zeros(2)}),
        "shape": lambda t: t.update({name: t[name][:1].clone()}),
        "kind": lambda t: t.update({name: t[name].long()}),
        "nan": lambda t: t[name].view(-1)[:1].fill_(float("nan")),
    }
    if harm in changes:
        rewrite(path, changes[harm])
    elif harm == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif harm == "zip":
        torch.save({"bomb": Bomb()}, path)
    else:
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BundleError) as caught:
        NeuralClassifier.load(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    assert len(max(lines, key=len)) < 400
    expected = {"pickle": "pickle", "zip": "pickle", "cut": "whole safetensors", "renamed": "missing"}
    named = "other.weight" if harm == "extra" else name.removeprefix("backbone.")
    assert expected.get(harm, named) in str(caught.value)
    assert not Bomb.went_off


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": {"shape": 10**9, "colour": 2}},
        {"params": {"network": {"head": [10**12], "head_dropout": [0, 0]}}},
        {"params": {"evil": 1}},
        {"classes": ["all", "hem", "third"]},
        {"input_transform": {"size": 32}},
    ],
)
def test_plain_values_that_do_not_fit_are_refused(stored, tmp_path, change):
    _, folder = stored
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(BundleError):
        NeuralClassifier.load(tmp_path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"network": {"layers": 3}}, "unknown setting of network: layers"),
        ({"training": {"loss": "hinge"}}, "focal or cross_entropy"),
        ({"training": {"batch_size": 1}}, "batch norm"),
        ({"augmentation": {"rotation": "far"}}, "augmentation.rotation"),
        ({"turns": 0}, "turns"),
    ],
)
def test_wrong_settings_are_told_by_name(parts, message):
    with pytest.raises(ValueError, match=message):
        NeuralClassifier(**parts).input_transform()


def test_other_images_or_blocks_than_it_learnt_from_are_refused(cells, stored):
    model, _ = stored
    inputs = cells[0]
    with pytest.raises(ValueError, match="is asked about"):
        model.predict_proba(inputs.images(np.arange(3)))
    with pytest.raises(ValueError, match="images of 32 pixels, not 16"):
        model.predict_proba(dataclasses.replace(inputs, source=inputs.source[:, ::2, ::2]))
