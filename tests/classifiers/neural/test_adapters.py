"""Fine-tuning a part of a backbone: what learns, what stays, and that the same bits come out after an interruption."""

import numpy as np
import pytest
import torch

from classifiers.neural._adapters import LowRank, add_adapters, count_trained, freeze, merge_adapters
from classifiers.neural._network_files import CHECKPOINT
from classifiers.neural.estimator import NeuralClassifier
from extractors.cnn.backbone import load_backbone
from extractors.cnn.extractor import Embedding
from tests.classifiers.neural import processes_job

pytestmark = pytest.mark.usefixtures("one_thread")

VIT = {
    "backbone": "test_vit",
    "weights": "random",
    "size": 32,
    "dropout": 0.0,
    "drop_path": 0.0,
    "head": [],
    "head_dropout": [0.0],
}
QUICK = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "patience": 0, "loss": "cross_entropy"}


def classifier(tune, network=None, **training):
    return NeuralClassifier(network={**VIT, **(network or {})}, training={**QUICK, "tune": tune, **training})


@pytest.fixture(scope="module")
def cells():
    return processes_job.cells()


def start(network=None):
    return {n: t.clone() for n, t in load_backbone("test_vit", "random", size=32).state_dict().items()}


def test_an_untrained_adapter_changes_nothing_and_a_trained_one_is_merged_exactly():
    network = load_backbone("test_vit", "random", size=32)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        assert add_adapters(network.backbone, 4, 8.0) == 12  # qkv and proj of six blocks
        torch.testing.assert_close(network(x), before, rtol=0, atol=0)
        for layer in network.modules():
            if isinstance(layer, LowRank):
                layer.up.normal_(std=0.1)
        changed = network(x)
        assert (changed - before).abs().max() > 1e-3
        merge_adapters(network.backbone)
        torch.testing.assert_close(network(x), changed, rtol=1e-4, atol=1e-5)
    assert set(network.state_dict()) == set(load_backbone("test_vit", "random", size=32).state_dict())


@pytest.mark.parametrize("tune", ["all", "last", "lora", "none"])
def test_only_what_is_named_learns(cells, tune):
    inputs, labels, groups = cells
    model = classifier(tune, last_blocks=1).fit(inputs, labels, groups)
    before, after = start(), model.network_.backbone.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    expected = {
        "all": lambda name: True,
        "last": lambda name: name.startswith(("backbone.blocks.5.", "backbone.norm.")),
        "lora": lambda name: name.endswith((".attn.qkv.weight", ".attn.proj.weight")),
        "none": lambda name: False,
    }[tune]
    assert moved <= {name for name in before if expected(name)}
    assert bool(moved) == (tune != "none")
    if tune == "lora":
        assert len(moved) == 12
    assert (f"trained (tune: {tune})" in model.describe()) == (tune != "all")


@pytest.mark.parametrize("tune", ["last", "lora", "none"])
def test_a_fine_tuning_teaches_what_is_named_alone(cells, tune):
    inputs, labels, groups = cells
    model = classifier(tune, last_blocks=1).fit(inputs, labels, groups)
    tuned = model.fine_tuned(inputs, labels).network_.backbone.state_dict()
    before = model.network_.backbone.state_dict()
    assert tuned.keys() == before.keys()  # adapters are merged again
    moved = {name for name, tensor in tuned.items() if not torch.equal(tensor, before[name])}
    expected = {"last": ("blocks.5.", "norm."), "lora": (".attn.qkv.weight", ".attn.proj.weight"), "none": ()}[tune]
    assert all(any(part in name for part in expected) for name in moved)
    assert bool(moved) == (tune != "none")


def test_parameters_are_counted_as_they_learn():
    network = load_backbone("test_vit", "random", size=32).backbone
    whole = count_trained(network)
    add_adapters(network, 4, 8.0)
    freeze(network, "lora", 0)
    width = 64
    assert count_trained(network) == 6 * 4 * ((width + 3 * width) + (width + width))
    freeze(network, "all", 0)
    assert count_trained(network) > whole


def test_adapters_on_a_convolutional_network_are_refused(cells):
    inputs, labels, groups = cells
    with pytest.raises(ValueError, match="no attention layers"):
        classifier("lora", {"backbone": "test_efficientnet"}).fit(inputs, labels, groups)
    with pytest.raises(ValueError, match="tune must be all or last"):
        classifier("some").fit(inputs, labels, groups)


def test_the_last_stage_of_a_convolutional_network_learns_alone(cells):
    inputs, labels, groups = cells
    model = classifier("last", {"backbone": "test_efficientnet"}, last_blocks=1).fit(inputs, labels, groups)
    before = load_backbone("test_efficientnet", "random", size=32).state_dict()
    after = model.network_.backbone.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    frozen = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.", "backbone.blocks.3.")
    assert moved
    assert not [name for name in moved if name.startswith(frozen)]  # batch norms of frozen stages do not drift either


@pytest.mark.parametrize(("tune", "precision"), [("lora", "float32"), ("lora", "bfloat16"), ("last", "float32")])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(cells, tmp_path, tune, precision):
    inputs, labels, groups = cells
    whole = classifier(tune, precision=precision).fit(inputs, labels, groups)

    class Stopped(Exception):
        pass

    def keep_going(epoch, epochs, step, steps):
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        classifier(tune, precision=precision).fit(inputs, labels, groups, checkpoint=tmp_path, watch=keep_going)
    assert (tmp_path / CHECKPOINT).exists()
    again = classifier(tune, precision=precision)
    resumed = again.fit(inputs, labels, groups, checkpoint=tmp_path, resume=True)
    for name, tensor in whole.network_.state_dict().items():
        assert torch.equal(tensor, resumed.network_.state_dict()[name]), name


def test_adapters_learn_in_bfloat16_nearly_what_they_learn_in_float32(cells):
    inputs, labels, groups = cells
    of = {name: classifier("lora", precision=name).fit(inputs, labels, groups) for name in ("float32", "bfloat16")}
    changed = [
        torch.cat([(after - before[name]).flatten() for name, after in model.network_.backbone.state_dict().items()])
        for before in [start()]
        for model in of.values()
    ]
    assert not torch.equal(*changed)
    assert torch.nn.functional.cosine_similarity(*changed, dim=0) > 0.8
    for tensor in of["bfloat16"].network_.state_dict().values():
        assert tensor.dtype != torch.bfloat16


def test_a_tuned_transformer_is_saved_loaded_and_serves_as_a_block(cells, tmp_path):
    inputs, labels, groups = cells
    model = classifier("lora", {"pool": "cls+mean"}).fit(inputs, labels, groups)
    model.save(tmp_path)
    back = NeuralClassifier.load(tmp_path)
    np.testing.assert_array_equal(back.predict_proba(inputs), model.predict_proba(inputs))
    assert back.trained_parameters_ == model.trained_parameters_
    params = model.write_backbone(tmp_path / "block.safetensors")
    block = Embedding(**params, device="cpu", engine="torch")
    images = inputs.images(np.arange(4))
    np.testing.assert_array_equal(block.network.embed(images), model.network_.backbone.embed(images))
