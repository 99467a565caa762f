"""Controls of an ablation: entries of their own, which no set of blocks and no share of a score counts."""

import json

import pytest

from extractors.cnn.backbone import load_backbone, save_backbone
from extractors.cnn.extractor import Embedding
from extractors.control.extractor import Control
from fusion.errors import ConfigError
from fusion.images.cell import read_cell
from fusion.settings.commands import AblateConfig
from tests.builders.command_line import fusion
from tests.builders.images import paint, write_image


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "trained.safetensors"
    save_backbone(load_backbone("test_efficientnet", "random", size=32, seed=7), path)
    return path


def config(**given):
    return AblateConfig(data="cells", output="result", **given)


def test_an_untrained_network_stands_beside_every_pretrained_one(weights):
    blocks = config(features=["colour", "cnn"], weights=str(weights)).blocks
    assert blocks == ["colour", "cnn", "control.random"]
    assert config(features=["colour", "cnn"], weights="random").blocks == ["colour", "cnn"]
    assert config(features=["colour"]).blocks == ["colour"]
    assert config(features=["colour", "cnn"], weights=str(weights), control=["none"]).blocks == ["colour", "cnn"]
    both = config(features=["colour"], control=["colour", "size"]).blocks
    assert both == ["colour", "control.colour", "control.size"]


def test_controls_that_cannot_be_are_refused():
    with pytest.raises((ValueError, ConfigError), match="random, colour, size or none"):
        config(control=["luck"])
    with pytest.raises((ValueError, ConfigError), match="there is none"):
        config(features=["colour"], control=["random"])


def test_the_untrained_network_is_the_same_in_all_but_its_weights(weights, tmp_path):
    write_image(tmp_path / "1.png", paint(1))
    cell = read_cell(tmp_path / "1.png")
    params = {"weights": str(weights), "view": 48}
    own, control = Embedding(**params), Control("random", json.dumps(params))
    assert control.feature_names() == own.feature_names()
    assert control._untrained.input_transform == own.input_transform
    assert control._untrained.backbone_config == own.backbone_config
    assert control.identity()["weights"] == "random:0"
    assert abs(control.extract([cell]) - own.extract([cell])).max() > 1e-3
    assert Control("size").extract([cell]) == cell.mask.sum()
    assert Control("colour").extract([cell])[0] == pytest.approx(cell.rgb[cell.mask].mean(axis=0), rel=1e-6)


def test_controls_are_entries_and_no_parts_of_others(synthetic, synthetic_store, weights, tmp_path):
    made = fusion(
        "ablate",
        synthetic,
        "--features",
        "colour,cnn",
        "--weights",
        weights,
        "--control",
        "random,size",
        "--classifiers",
        "logreg,xgb",
        "--store",
        synthetic_store,
        "--set",
        "splits=2",
        "-o",
        tmp_path / "r",
    )
    assert made.exit_code == 0, made.output
    found = json.loads((tmp_path / "r" / "result.json").read_text())
    text = json.dumps(found["findings"]["importance"]) + json.dumps(found["findings"]["shapley"])
    assert "control" not in text
    assert "cnn" in text
    table = (tmp_path / "r" / "table.csv").read_text()
    assert "control.random" in table
    assert "control.size" in table
    assert "control.random+" not in table
