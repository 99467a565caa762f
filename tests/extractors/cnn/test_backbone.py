"""The backbone: timm's own numbers, attention by hand, and weights files that are not what they say."""

import json
import logging
import os
import pickle
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from extractors.cnn import _hub
from extractors.cnn._published_models import published_config
from extractors.cnn._weights_file import WeightsError
from extractors.cnn.backbone import SqueezeExcitation, load_backbone, save_backbone
from extractors.cnn.network_config import warn_of_random_weights
from fusion.errors import UsageError
from fusion.io.files import sha256

#: A real EfficientNet of 0.36 M parameters, 256 channels out, that timm keeps for tests.
SMALL = "test_efficientnet"


@pytest.fixture(autouse=True)
def no_hub(tmp_path, monkeypatch):
    """No test meets the network or the user's hub cache; and every test may be warned of random weights."""

    def unreachable(*_args, **_kwargs):
        raise AssertionError("a test asked the hub")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, unreachable)
    warn_of_random_weights.cache_clear()


def timm_model(name=SMALL, seed=1):
    """A timm model with its classifier, as if trained: no weight, bias or running statistic at its initial value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, num_classes=10)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(0.01 * torch.rand_like(tensor))
    return model.eval()


def write(path, tensors, **metadata):
    safetensors.torch.save_file({k: v.clone().contiguous() for k, v in tensors.items()}, path, metadata or None)
    return path


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "small.safetensors", timm_model().state_dict(), architecture=SMALL)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def oracle(model, images):
    """timm's feature map, averaged: transforms as in timm's documentation, nothing of ours."""
    config = timm.data.resolve_model_data_config(model, use_test_size=True)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        return model.forward_features((x - mean) / std).mean((2, 3)).numpy()


# ---- attention -------------------------------------------------------------------------------------------------------


def test_attention_is_the_formula_of_hu_et_al():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 32, 5, 4)).astype(np.float32)
    w1, b1, w2, b2 = (rng.normal(size=s).astype(np.float32) for s in ((2, 32), (2,), (32, 2), (32,)))
    layer = SqueezeExcitation(32)
    state = {"squeeze.weight": w1, "squeeze.bias": b1, "excite.weight": w2, "excite.bias": b2}
    layer.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    z = x.mean(axis=(2, 3))
    s = 1 / (1 + np.exp(-(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)))
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), x * s[:, :, None, None], rtol=1e-5)


def test_every_gate_of_an_untrained_attention_is_one_half():
    gates = SqueezeExcitation(48).gates(torch.randn(4, 48, 3, 3))
    assert torch.equal(gates, torch.full((4, 48), 0.5))


def test_an_untrained_attention_can_learn():
    layer = SqueezeExcitation(512)  # 32 hidden units: of 2, a ReLU may well leave none alive
    layer(torch.rand(2, 512, 3, 3)).square().sum().backward()
    assert layer.excite.weight.grad.abs().max() > 0


def test_the_default_is_an_attention_efficientnet_v2_b3_with_reduction_16():
    network = load_backbone(weights="random", size=64)
    assert network.backbone_config.backbone == "tf_efficientnetv2_b3"
    assert network.attention.squeeze.weight.shape == (96, 1536)
    assert network.embed(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, 1536)


# ---- the same numbers as timm ----------------------------------------------------------------------------------------


def test_without_attention_a_file_gives_exactly_what_timm_gives(weights, images):
    network = load_backbone(weights=str(weights), attention=False, size=64)
    np.testing.assert_array_equal(network.embed(images), oracle(timm_model(), images))


def test_untrained_attention_halves_what_timm_gives(weights, images):
    network = load_backbone(weights=str(weights), size=64)
    np.testing.assert_allclose(network.embed(images), 0.5 * oracle(timm_model(), images), rtol=1e-6, atol=1e-7)


def test_the_embedding_is_the_mean_of_the_feature_map(weights, images):
    network = load_backbone(weights=str(weights), size=64)
    with torch.inference_mode():
        features = network.feature_map(network.prepare(images))
    assert features.shape == (3, 256, 2, 2)
    np.testing.assert_allclose(network.embed(images), features.mean((2, 3)).numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "mobilenetv3_small_050"])
def test_other_convolutional_backbones_give_their_feature_map(tmp_path, images, name):
    model = timm_model(name)
    file = write(tmp_path / "other.safetensors", model.state_dict(), architecture=name)
    network = load_backbone(weights=str(file), attention=False, size=64)
    np.testing.assert_allclose(network.embed(images), oracle(model, images), rtol=1e-5, atol=1e-6)


def test_a_feature_map_with_channels_last_is_turned(images):
    network = load_backbone("test_mambaout", "random", size=64)
    with torch.inference_mode():
        x = network.prepare(images)
        features = network.backbone.forward_features(x)
        assert features.shape[-1] == network.width
        np.testing.assert_allclose(network(x), 0.5 * features.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_tokens_are_pooled_by_the_transformers_own_head_and_take_no_attention(tmp_path):
    model = timm_model("test_vit")
    file = write(tmp_path / "vit.safetensors", model.state_dict(), architecture="test_vit")
    network = load_backbone(weights=str(file), attention=False)
    x = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        wanted = model.forward_head(model.forward_features(x), pre_logits=True)
        np.testing.assert_array_equal(network(x), wanted)
        np.testing.assert_array_equal(load_backbone(weights=str(file), attention=True)(x), wanted)
    with pytest.raises(UsageError, match="no feature map"):
        network.feature_map(x)


def test_a_size_that_cuts_patches_off_says_which_is_usual(weights):
    with pytest.raises(UsageError, match=r"cannot take images of 100 pixels(.|\n)*leave out the last 4(.|\n)*: 224"):
        load_backbone("vit_tiny_patch16_224", str(weights), size=100)


# ---- what the file says, what the caller says ------------------------------------------------------------------------


def test_without_metadata_the_configuration_is_timms(tmp_path):
    file = write(tmp_path / "bare.safetensors", timm_model().state_dict())
    backbone_config = load_backbone(SMALL, str(file)).backbone_config
    config = timm.data.resolve_model_data_config(timm_model(), use_test_size=True)
    assert (backbone_config.mean, backbone_config.std, backbone_config.interpolation) == (
        config["mean"],
        config["std"],
        config["interpolation"],
    )
    assert backbone_config.size == config["input_size"][-1] == 160


def test_the_files_metadata_wins_over_timm_and_the_caller_over_both(tmp_path):
    stated = {"architecture": SMALL, "mean": "0.5", "std": "0.1,0.2,0.3", "pad_type": "same", "size": "96"}
    file = write(tmp_path / "stated.safetensors", timm_model().state_dict(), **stated)
    backbone_config = load_backbone(weights=str(file)).backbone_config
    assert (backbone_config.mean, backbone_config.std, backbone_config.size) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3), 96)
    assert backbone_config.pad_type == "same"
    backbone_config = load_backbone(weights=str(file), mean=(0.25,), size=64, pad_type="").backbone_config
    assert (backbone_config.mean, backbone_config.std, backbone_config.size) == (
        (0.25, 0.25, 0.25),
        (0.1, 0.2, 0.3),
        64,
    )
    assert backbone_config.pad_type == ""


def test_padding_changes_the_network(tmp_path, images):
    file = write(tmp_path / "stated.safetensors", timm_model().state_dict(), architecture=SMALL)
    embeddings = [load_backbone(weights=str(file), size=64, pad_type=pad).embed(images) for pad in ("", "same")]
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3
    with pytest.raises(UsageError, match="takes no pad_type"):
        load_backbone("test_resnet", "random", pad_type="same")


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", "grey"), ("mean", "0.1,0.2"), ("std", "0"), ("size", "-3"), ("size", "9999999"), ("interpolation", "x")],
)
def test_metadata_that_makes_no_sense_is_named(tmp_path, key, value):
    file = write(tmp_path / "odd.safetensors", timm_model().state_dict(), architecture=SMALL, **{key: value})
    with pytest.raises(WeightsError, match=rf"odd\.safetensors has metadata(.|\n)*{key} '{value}'"):
        load_backbone(weights=str(file))


def test_unknown_names_come_with_a_suggestion(weights):
    with pytest.raises(UsageError, match=r"perhaps (.*, )?efficientnet_b3"):
        load_backbone("eficientnet_b3", str(weights))
    with pytest.raises(UsageError, match=rf"{SMALL}\.r160_in1k"):
        load_backbone(f"{SMALL}.nothing", "pretrained")
    with pytest.raises(WeightsError, match=r"local-dir:/anywhere' cannot be read(.|\n)*no such file"):
        load_backbone("local-dir:/anywhere", str(weights))
    with pytest.raises(WeightsError, match="no pretrained weights"):
        load_backbone("mobilenetv2_035", "pretrained")


# ---- files that are not what they say --------------------------------------------------------------------------------


def renamed(state):
    state["stem.weight"] = state.pop("conv_stem.weight")


def missing(state):
    del state["bn1.running_var"]


def extra(state):
    state["conv_stem.bias"] = torch.zeros(8)


def misshaped(state):
    state["conv_head.weight"] = state["conv_head.weight"][:, :-1]


def quantised(state):
    state["conv_head.weight"] = state["conv_head.weight"].to(torch.int8)


def infinite(state):
    state["conv_head.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (renamed, r"missing conv_stem\.weight, unknown stem\.weight"),
        (missing, r"missing bn1\.running_var"),
        (extra, r"unknown conv_stem\.bias"),
        (misshaped, r"conv_head\.weight \(256, \d+, 1, 1\) instead of \(256, \d+, 1, 1\)"),
        (quantised, r"conv_head\.weight torch\.int8 instead of torch\.float32"),
        (infinite, r"conv_head\.weight not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, spoil, named):
    state = timm_model().state_dict()
    spoil(state)
    file = write(tmp_path / "spoilt.safetensors", state, architecture=SMALL)
    with pytest.raises(
        WeightsError, match=rf"spoilt\.safetensors does not hold(.|\n)*found: {named} \(of \d+ tensors\)"
    ):
        load_backbone(weights=str(file))


def test_another_backbones_file_is_one_short_message(weights):
    with pytest.raises(WeightsError, match=r"and \d+ more") as caught:
        load_backbone("test_resnet", str(weights))
    assert len(str(caught.value)) < 500


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_in_disguise_is_refused_and_never_run(tmp_path, save):
    file, traces = tmp_path / "disguised.safetensors", tmp_path / "executed"
    with file.open("wb") as stream:
        save({"conv_stem.weight": Bomb(traces)}, stream)
    with pytest.raises(WeightsError, match=r"disguised\.safetensors is no whole safetensors file(.|\n)*pickle"):
        load_backbone(SMALL, str(file))
    assert not traces.exists()


@pytest.mark.parametrize("kept", [0, 5, 100, 200_000, -1])
def test_a_truncated_file_is_refused(weights, kept):
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        load_backbone(weights=str(weights))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors cannot be read\n  found: no such file"):
        load_backbone(weights=str(tmp_path / "gone.safetensors"))


# ---- saving ----------------------------------------------------------------------------------------------------------


def trained(weights):
    network = load_backbone(weights=str(weights), size=64, mean=(0.4, 0.5, 0.6))
    with torch.no_grad():
        network.attention.excite.weight.normal_(generator=torch.Generator().manual_seed(0))
    return network


def test_a_saved_backbone_is_loaded_with_its_attention_and_recipe(weights, images, tmp_path):
    network = trained(weights).on("cpu")
    save_backbone(network, tmp_path / "own.safetensors", {"groups": ["a", "b"]})
    back = load_backbone(weights=str(tmp_path / "own.safetensors"))
    assert back.backbone_config == network.backbone_config
    np.testing.assert_allclose(back.on("cpu").embed(images), network.embed(images), rtol=0)
    with safetensors.safe_open(tmp_path / "own.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == SMALL
    assert metadata["attention"] == "true"
    assert json.loads(metadata["provenance"]) == {"groups": ["a", "b"]}


def test_its_attention_can_be_left_out(weights, images, tmp_path):
    save_backbone(trained(weights), tmp_path / "own.safetensors")
    back = load_backbone(weights=str(tmp_path / "own.safetensors"), attention=False)
    plain = load_backbone(weights=str(weights), attention=False, size=64, mean=(0.4, 0.5, 0.6))
    np.testing.assert_array_equal(back.embed(images), plain.embed(images))


def test_the_same_backbone_is_saved_as_the_same_bytes(weights, tmp_path):
    network = trained(weights)
    for name in "abcdefgh":
        save_backbone(network, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abcdefgh"}) == 1


def test_an_attention_that_does_not_fit_is_named(weights, tmp_path):
    state = trained(weights).state_dict()
    state["attention.squeeze.weight"] = torch.zeros(8, 256)
    file = write(tmp_path / "own.safetensors", state, architecture=SMALL)
    with pytest.raises(WeightsError, match=r"attention\.squeeze\.weight \(8, 256\) instead of \(16, 256\)"):
        load_backbone(weights=str(file))


# ---- random weights --------------------------------------------------------------------------------------------------


def test_random_weights_follow_their_seed_and_leave_the_global_stream_alone(images):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (load_backbone(SMALL, "random", size=64, seed=s).embed(images) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_random_weights_are_said_aloud_once(caplog):
    with caplog.at_level(logging.WARNING, logger="fusion"):
        for _ in range(2):
            load_backbone(SMALL, "random")
    assert [record.message for record in caplog.records if "random weights (seed 0)" in record.message] == [
        "the network has random weights (seed 0): its embedding tries the machinery, and is not to be reported"
    ]


# ---- pretrained weights ----------------------------------------------------------------------------------------------


def hub_cache(file: Path, folder: Path, blob: str = "") -> Path:
    """Lay a file down as the hub's client does: content under its sha256, a link to it in a snapshot."""
    blob = blob or sha256(file.read_bytes())
    repository = folder / f"models--timm--{SMALL}.r160_in1k"
    for part in ("refs", "blobs", "snapshots/0123456789"):
        (repository / part).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789")
    (repository / "blobs" / blob).write_bytes(file.read_bytes())
    link = repository / "snapshots" / "0123456789" / "model.safetensors"
    link.symlink_to(repository / "blobs" / blob)
    return link


def test_weights_in_the_hub_cache_need_no_network(weights, images, tmp_path):
    hub_cache(weights, tmp_path / "hub")
    network = load_backbone(SMALL, "pretrained", attention=False, size=64)
    assert network.source == f"timm/{SMALL}.r160_in1k:model.safetensors"
    np.testing.assert_array_equal(network.embed(images), oracle(timm_model(), images))


def test_weights_damaged_in_the_hub_cache_are_refused(weights, tmp_path):
    hub_cache(weights, tmp_path / "hub", blob="0" * 64)
    with pytest.raises(WeightsError, match="damaged after its download"):
        load_backbone(SMALL, "pretrained")


class Said(logging.Handler):
    """Keeps what is logged: the hub's own handler holds on to the terminal it was made with."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def test_offline_pretrained_is_one_quiet_message(monkeypatch, capfd):
    stored, logger = Said(), logging.getLogger("huggingface_hub")

    def offline(*_args, **_kwargs):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        try:
            raise OSError(-2, "Name or service not known")
        except OSError as error:
            raise huggingface_hub.errors.LocalEntryNotFoundError("An error happened") from error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, stored])
    level = logger.level
    with pytest.raises(WeightsError) as caught:
        load_backbone()
    assert str(caught.value).splitlines() == [
        "pretrained weights of tf_efficientnetv2_b3 could not be fetched",
        "  found: Name or service not known",
        "  Go online once, give a file with --weights FILE.safetensors, or try the machinery with --weights random.",
    ]
    assert capfd.readouterr() == ("", "")
    assert stored.messages == []
    assert logger.level == level


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_args, **_kwargs: answer.wait())
    monkeypatch.setattr(_hub, "PATIENCE", 0.05)
    with pytest.raises(WeightsError, match="no answer from"):
        load_backbone(SMALL)
    answer.set()


def test_the_published_size_is_the_one_for_evaluation():
    assert published_config("tf_efficientnetv2_b3")["size"] == 300
