"""Transformers at their working size, tokens pooled by name, and networks out of folders and repositories."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from extractors.cnn import _published_models
from extractors.cnn._weights_file import WeightsError
from extractors.cnn.backbone import embedding_width, load_backbone, save_backbone
from extractors.cnn.extractor import Embedding
from fusion.errors import FusionError, UsageError
from fusion.images.cell import PREPARATION
from fusion.plugins import registry

#: Transformers of a few thousand parameters that timm keeps for tests: class token, and one register beside it.
SMALL = "test_vit"

#: DINOv2's own architectures, made for 518 pixels; DinoBloom's are the first two at 224.
DINOBLOOM_S, DINOBLOOM_B, REGISTERS = (
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
)


@pytest.fixture(autouse=True)
def no_hub(tmp_path, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise AssertionError("a test asked the hub")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, unreachable)
    _published_models._published.cache_clear()


def timm_model(name=SMALL, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(name, num_classes=0, **options)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(0.02 * torch.randn_like(tensor))
    return model.eval()


def write(path: Path, model, **metadata) -> Path:
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata or None)
    return path


def hub_folder(folder: Path, model, name=SMALL, **config) -> Path:
    """A folder as timm's ``push_to_hf_hub`` lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "model.safetensors", model)
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear", "input_size": [3, 96, 96]}
    stated = {"architecture": name, "num_classes": 0, "global_pool": "token", "pretrained_cfg": own, **config}
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


def oracle(model, images, pool="cls", prefix=1, mean=0.5, std=0.5):
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        tokens = model.forward_features(x)
        parts = {"cls": tokens[:, 0], "mean": tokens[:, prefix:].mean(1)}
        return torch.cat([parts[name] for name in pool.split("+")], 1).numpy()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_weights_of_the_working_size_give_timms_tokens_pooled_by_name(tmp_path, images, pool):
    model = timm_model(img_size=96)
    file = write(tmp_path / "small.safetensors", model)
    network = load_backbone(SMALL, str(file), mean=[0.5], std=[0.5], pool=pool)
    assert network.backbone_config.size == 96  # of the file's own position embeddings
    np.testing.assert_allclose(network.embed(images), oracle(model, images, pool), rtol=1e-5, atol=1e-6)
    assert network.width == embedding_width(network.backbone_config) == len(oracle(model, images, pool)[0])


def test_position_embeddings_of_another_size_are_resampled_as_timm_does(tmp_path, images):
    published = timm_model()
    file = write(tmp_path / "small.safetensors", published)
    wanted = timm.create_model(SMALL, num_classes=0, img_size=96, checkpoint_path="").eval()
    from timm.models.vision_transformer import checkpoint_filter_fn

    wanted.load_state_dict(checkpoint_filter_fn(dict(published.state_dict()), wanted))
    network = load_backbone(SMALL, str(file), size=96, mean=[0.5], std=[0.5])
    np.testing.assert_allclose(network.embed(images), oracle(wanted, images), rtol=1e-5, atol=1e-6)


def test_the_pool_is_part_of_the_fingerprint_and_attention_is_not(tmp_path):
    file = str(write(tmp_path / "small.safetensors", timm_model(img_size=96)))
    made = [Embedding(backbone=SMALL, weights=file, pool=pool) for pool in (None, "cls", "mean", "cls+mean")]
    prints = [registry.fingerprint(each, PREPARATION) for each in made]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert made[0].identity()["pool"] == "cls"
    assert registry.fingerprint(Embedding(backbone=SMALL, weights=file, attention=False), PREPARATION) == prints[0]
    assert len(made[3].feature_names()) == 2 * len(made[0].feature_names())


def test_pools_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(UsageError, match="gives a feature map, which is averaged"):
        load_backbone("test_efficientnet", "random", size=64, pool="cls")
    with pytest.raises(UsageError, match="without a class token"):
        load_backbone("test_vit2", "random", pool="cls")
    with pytest.raises(ValueError, match="pool must be cls, mean"):
        Embedding(pool="max")


# ---- folders and repositories ---------------------------------------------------------------------------------------


def test_a_folder_laid_out_as_the_hub_does_brings_its_own_preparation(tmp_path, images):
    model = timm_model(img_size=96)
    folder = hub_folder(tmp_path / "encoder", model, model_args={"img_size": 96})
    block = Embedding(backbone=f"local-dir:{folder}")
    config = block.backbone_config
    assert (config.size, config.mean, config.interpolation, config.pool) == (96, (0.5, 0.4, 0.3), "bilinear", "cls")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
    np.testing.assert_allclose(block.network.embed(images), oracle(model, images, mean=mean, std=std), rtol=1e-5)


def test_a_block_out_of_a_folder_is_the_same_wherever_the_folder_lies(tmp_path):
    model = timm_model(img_size=96)
    folders = [hub_folder(tmp_path / name, model) for name in ("one", "two")]
    blocks = [Embedding(backbone=f"local-dir:{folder}") for folder in folders]
    assert len({registry.fingerprint(block, PREPARATION) for block in blocks}) == 1
    assert blocks[0].backbone == SMALL  # the folder's words are the block's own parameters: a model may travel


def test_a_repository_in_the_hubs_cache_needs_no_network(tmp_path, images):
    model = timm_model(img_size=96)
    laid = hub_folder(tmp_path / "hub" / "models--someone--cells" / "snapshots" / "abc", model)
    (laid.parents[1] / "refs").mkdir()
    (laid.parents[1] / "refs" / "main").write_text("abc")
    block = Embedding(backbone="hf-hub:someone/cells")
    assert block.identity()["weights"].startswith("sha256:")
    other = Embedding(backbone=f"local-dir:{laid}")
    assert registry.fingerprint(block, PREPARATION) == registry.fingerprint(other, PREPARATION)
    np.testing.assert_array_equal(block.network.embed(images), other.network.embed(images))


#: What the hub's own errors are told of an answer, whatever library brought it.
ANSWER = SimpleNamespace(headers={}, request=None, status_code=403)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda e: e.GatedRepoError("gated", response=ANSWER), "is gated"),
        (lambda e: e.RepositoryNotFoundError("no", response=ANSWER), "no repository someone/cells"),
        (lambda e: e.RemoteEntryNotFoundError("no", response=ANSWER), r"someone/cells has no config\.json"),
        (lambda e: OSError(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(monkeypatch, error, said):
    def refuse(*_args, **_kwargs):
        raise error(huggingface_hub.errors)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    with pytest.raises(WeightsError, match=said) as caught:
        Embedding(backbone="hf-hub:someone/cells").identity()
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize("name", ["", "cells", "a/b/c", "../cells", "https://huggingface.co/someone/cells", " a/b"])
def test_what_is_no_name_of_a_repository_is_not_asked_for(monkeypatch, name):
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_args, **_kwargs: pytest.fail("asked"))
    with pytest.raises(WeightsError, match=r"no name of a repository(.|\n)*OWNER/NAME"):
        Embedding(backbone=f"hf-hub:{name}").identity()


def test_folders_that_hold_no_timm_model_are_named(tmp_path):
    def refused(match, kind=UsageError):
        with pytest.raises(kind, match=match):
            Embedding(backbone=f"local-dir:{tmp_path}")
        _published_models._published.cache_clear()

    refused("cannot be read", WeightsError)
    (tmp_path / "config.json").write_text("{")
    refused("no JSON", WeightsError)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2", "architectures": ["Dinov2Model"]}))
    refused(r"a dinov2 of transformers(.|\n)*hf-hub:timm/NAME")
    (tmp_path / "config.json").write_text("[]")
    refused("holds no model of timm")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": SMALL}))
    refused("cannot be told", WeightsError)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pretrained_cfg": {"mean": [0.5, 0.5]}}, r"mean \[0\.5, 0\.5\](.|\n)*three numbers"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, r"std \[0, 0, 0\](.|\n)*above 0"),
        ({"pretrained_cfg": {"input_size": [1, 96, 96]}}, r"input_size \[1, 96, 96\]"),
        ({"pretrained_cfg": {"input_size": [3, 96, 48]}}, r"input_size \[3, 96, 48\]"),
        ({"pretrained_cfg": "timm"}, "pretrained_cfg 'timm'"),
        ({"model_args": [96]}, r"model_args \[96\]"),
        ({"model_args": {"depth_of_field": 3}}, "takes no depth_of_field"),
        ({"model_args": {"depth": 10**6}}, r"model_args \{'depth': 1000000\}(.|\n)*of a network that exists"),
        ({"model_args": {"img_size": 10**9}}, r"model_args \{'img_size': 1000000000\}"),
        ({"model_args": {"img_size": 100}}, r"cannot take images of 100 pixels(.|\n)*leave out the last 4"),
        ({"architecture": "test_efficientnet"}, r"'test_efficientnet' cannot be made(.|\n)*Invalid pool type: token"),
        ({"architecture": "vit_colossal"}, "architecture 'vit_colossal'"),
    ],
)
def test_a_config_that_says_what_cannot_be_is_one_line(tmp_path, config, said):
    folder = hub_folder(tmp_path / "encoder", timm_model(img_size=96), **config)
    with pytest.raises(FusionError, match=said) as caught:
        Embedding(backbone=f"local-dir:{folder}").network  # noqa: B018
    assert len(str(caught.value).splitlines()) <= 4


def test_a_pointer_in_place_of_weights_is_named(tmp_path):
    folder = hub_folder(tmp_path / "encoder", timm_model(img_size=96))
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        Embedding(backbone=f"local-dir:{folder}").network  # noqa: B018


def test_weights_that_are_pickled_are_never_opened(tmp_path):
    """A folder may hold both, as many repositories do."""
    folder = hub_folder(tmp_path / "encoder", timm_model(img_size=96))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert Embedding(backbone=f"local-dir:{folder}").network.backbone_config.size == 96
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no \.safetensors file"):
        Embedding(backbone=f"local-dir:{folder}").network  # noqa: B018
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_folder_that_has_changed_is_read_anew(tmp_path):
    folder = hub_folder(tmp_path / "encoder", timm_model(img_size=96))
    first = Embedding(backbone=f"local-dir:{folder}")
    hub_folder(folder, timm_model(img_size=96), pretrained_cfg={"input_size": [3, 96, 96], "mean": [0.1, 0.1, 0.1]})
    assert first.backbone_config.mean == (0.5, 0.4, 0.3)
    assert Embedding(backbone=f"local-dir:{folder}").backbone_config.mean == (0.1, 0.1, 0.1)


def test_what_makers_leave_in_their_files_is_no_hindrance(tmp_path, images):
    """A published classifier, DINO's mask token, half precision, a wrapper's prefix: the embedding is the same."""
    model = timm_model(img_size=96)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    width = tensors["cls_token"].shape[2]
    forms = {
        "head": {**tensors, "head.weight": torch.ones(10, width), "head.bias": torch.ones(10)},
        "mask token": {**tensors, "mask_token": torch.ones(1, width)},
        "half": {name: tensor.half() for name, tensor in tensors.items()},
        "prefix": {f"backbone.{name}": tensor for name, tensor in tensors.items()},
    }
    for name, form in forms.items():
        safetensors.torch.save_file(form, tmp_path / f"{name}.safetensors")
        network = load_backbone(SMALL, str(tmp_path / f"{name}.safetensors"), mean=[0.5], std=[0.5])
        atol = 0.02 if name == "half" else 1e-6
        np.testing.assert_allclose(network.embed(images), oracle(model, images), rtol=1e-5, atol=atol)


def test_a_saved_transformer_sees_as_before(tmp_path, images):
    folder = hub_folder(tmp_path / "encoder", timm_model(img_size=96))
    network = load_backbone(f"local-dir:{folder}", pool="cls+mean")
    save_backbone(network, tmp_path / "own.safetensors")
    back = load_backbone(weights=str(tmp_path / "own.safetensors"))
    assert back.backbone_config == network.backbone_config
    np.testing.assert_array_equal(back.embed(images), network.embed(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", [DINOBLOOM_S, DINOBLOOM_B, REGISTERS])
def test_files_of_the_exact_shapes_load_at_224(tmp_path, name):
    """What failed: at 518 the position embeddings of 224 did not fit, and at 224 the network wanted 518."""
    model = timm_model(name, img_size=224)
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    file = write(tmp_path / "own.safetensors", model)
    for size in (None, 224):
        network = load_backbone(name, str(file), size=size, mean=[0.5], std=[0.5])
        assert network.backbone_config.size == 224
        np.testing.assert_allclose(network.embed(images), oracle(model, images), rtol=1e-4, atol=1e-5)
    folder = hub_folder(tmp_path / "encoder", model, name, model_args={"img_size": 224})
    assert load_backbone(f"local-dir:{folder}").backbone_config.size == 224
