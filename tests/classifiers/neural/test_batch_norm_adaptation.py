"""Batch norms of the site that is judged: undone by it is what changes channels, and nothing else changes."""

import numpy as np
import pytest
import safetensors.torch
import torch

from classifiers.neural._batch_norm_adaptation import statistics_of
from classifiers.neural.estimator import NeuralClassifier
from fusion.bundles.bundle_files import BundleError
from fusion.data.classifier_inputs import CellInputs

SETTINGS = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "dropout": 0.0,
        "head": [8],
        "head_dropout": [0.0, 0.0],
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "attention": False,
    },
    "training": {"epochs": 15, "batch_size": 16, "learning_rate": 1e-2, "loss": "cross_entropy", "validation": 0.0},
    "augmentation": {"rotation": 0.0, "brightness": 0.0, "contrast": 0.0},
    "threads": 1,
}


def cells(seed, n=32):
    """Discs with fine or coarse chromatin: uint8 (n, 32, 32, 3) of even values, and labels."""
    rng = np.random.default_rng(seed)
    inside = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 13
    labels = np.arange(n) % 2
    found = np.zeros((n, 32, 32, 3), np.uint8)
    for at, label in enumerate(labels):
        grain = np.kron(rng.integers(20, 120, (32 >> 2 * label,) * 2), np.ones((1 << 2 * label,) * 2, int))
        found[at] = 2 * (inside * grain)[..., None].astype(np.uint8)
    return found, np.array(["fine", "coarse"])[labels]


def given(images, *sources):
    n = len(images)
    names = tuple(sources[at * len(sources) // n] for at in range(n)) if sources else ()
    return CellInputs(np.empty((n, 0), np.float32), {}, images, sources=names)


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    images, y = cells(0, 64)
    return {
        how: NeuralClassifier(**SETTINGS, batch_statistics=how).fit(given(images, "home"), y)
        for how in ("training", "source")
    }


def test_half_the_light_is_undone_by_the_statistics_of_the_cells_that_have_it(trained):
    """A convolution of half the light is half of it, and so are its mean and spread: the outcome is what it was."""
    adapting, plain = trained["source"], trained["training"]
    images, y = cells(1)
    bright, dim = (adapting.predict_proba(given(part, "away")) for part in (images, images // 2))
    np.testing.assert_allclose(dim, bright, atol=0.002)  # but for the small number that keeps a spread above 0
    assert (adapting.predict(given(images // 2, "away")) == y).all()
    assert (plain.predict(given(images, "away")) == y).all()
    assert (plain.predict(given(images // 2, "away")) == y).mean() < 0.8


def test_what_is_learnt_is_the_same_and_training_sources_are_judged_as_ever(trained):
    images, _ = cells(2)
    for source in ("home", None):
        few = source is None
        asked = given(images[:9] if few else images, source)  # nine cells describe no site
        np.testing.assert_array_equal(*(trained[how].predict_proba(asked) for how in ("training", "source")))


def test_a_new_source_does_not_touch_the_others_nor_the_network(trained):
    adapting = trained["source"]
    before = {name: tensor.clone() for name, tensor in adapting.network_.state_dict().items()}
    images, _ = cells(3)
    both = adapting.predict_proba(given(images, "home", "away"))
    np.testing.assert_allclose(both[:16], adapting.predict_proba(given(images[:16], "home")), atol=1e-6)
    np.testing.assert_allclose(both[16:], adapting.predict_proba(given(images[16:], "away")), atol=1e-6)
    assert np.abs(both[16:] - adapting.predict_proba(given(images[16:], "home"))).max() > 1e-3
    for name, tensor in adapting.network_.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(part.training for part in adapting.network_.modules())


def test_statistics_are_put_back_where_judging_fails(trained):
    network = trained["source"].network_
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(RuntimeError, match="stopped"), statistics_of(network, given(cells(4)[0]), 8):
        raise RuntimeError("stopped")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_order_of_cells_does_not_matter(trained):
    images, _ = cells(5, 80)  # two batches
    order = np.random.default_rng(0).permutation(80)
    one, other = (trained["source"].predict_proba(given(part, "away")) for part in (images, images[order]))
    np.testing.assert_allclose(other, one[order], atol=1e-6)


def test_a_layer_has_the_mean_and_spread_of_the_cells(trained):
    """Of the first layer, by hand: its input changes with no other layer."""
    network, images = trained["source"].network_, cells(6, 32)[0]
    norm = next(part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d))
    seen = []
    hook = norm.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with statistics_of(network, given(images), 64):
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    hook.remove()
    torch.testing.assert_close(mean, seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(variance, seen[0].var((0, 2, 3), unbiased=True))


@pytest.fixture(scope="module")
def frozen():
    """A network that starts from weights with norms folded in: their statistics, mean 0 and spread 1, are nobody's."""
    torch.set_num_threads(1)
    images, y = cells(0, 64)
    some = np.r_[0:64:2, 1:24:2]  # three fine ones to a coarse one
    how = {**SETTINGS, "training": {**SETTINGS["training"], "freeze_norm": True}}
    model = NeuralClassifier(**how, batch_statistics="source").fit(given(images[some], "home"), y[some])
    norms = [part for part in model.network_.backbone.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert norms
    assert all((norm.running_mean == 0).all() and (norm.running_var == 1).all() for norm in norms)
    return model, images[some]


def test_cells_like_the_training_cells_are_judged_as_these_whatever_their_source_is_called(frozen):
    model, images = frozen
    own = model.predict_proba(given(images, "home"))
    assert own.max() > 0.9
    for shown in (images, images // 2):
        np.testing.assert_allclose(model.predict_proba(given(shown, "away")), own, atol=0.02)


def test_without_what_training_cells_gave_frozen_norms_would_be_those_of_no_one(frozen):
    """Li et al. to the letter: what the test above rules out."""
    model, images = frozen
    own = model.predict_proba(given(images, "home"))
    with statistics_of(model.network_, given(images), 64):
        plain = model.predict_proba(given(images, "home"))
    with statistics_of(model.network_, given(images), 64, model.moments_):
        mended = model.predict_proba(given(images, "home"))
    assert np.abs(plain - own).max() > 0.2
    assert np.abs(mended - own).max() < 0.02


def test_moments_are_those_of_what_a_layer_is_given(frozen):
    """Of the first layer, by hand."""
    model, images = frozen
    network = model.network_
    name = next(name for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d))
    backbone = network.backbone
    with torch.no_grad():
        seen = backbone.backbone.conv_stem(backbone.normalise(backbone.scale(images)))
    torch.testing.assert_close(model.moments_[f"{name}.mean"], seen.mean((0, 2, 3)))
    torch.testing.assert_close(model.moments_[f"{name}.variance"], seen.var((0, 2, 3)))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda tensors: tensors.pop(next(name for name in tensors if name.startswith("moments."))), "missing"),
        (lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("moments.")], "missing"),
        (lambda tensors: next(t for n, t in tensors.items() if n.endswith(".variance")).fill_(-1.0), "below 0"),
    ],
)
def test_stored_moments_travel_and_harmed_ones_are_refused(frozen, tmp_path, harm, message):
    model, images = frozen
    model.save(tmp_path)
    asked = given(images, "away")
    np.testing.assert_allclose(
        NeuralClassifier.load(tmp_path).predict_proba(asked), model.predict_proba(asked), atol=1e-6
    )
    tensors = safetensors.torch.load_file(tmp_path / "layers.safetensors")
    harm(tensors)
    (tmp_path / "layers.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(BundleError, match=message):
        NeuralClassifier.load(tmp_path)
