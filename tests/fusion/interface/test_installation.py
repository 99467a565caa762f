"""What fusion doctor says is what is there."""

import json

from click.testing import CliRunner

import cli
from fusion.interface.installation import check_installation


def found(name):
    return next(check for check in check_installation() if check.name == name)


def test_it_names_the_store_and_what_is_wrong_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "store"))
    assert str(tmp_path / "store") in found("feature store").found
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "FUSION_CACHE" in found("feature store").remedy


def test_weights_that_are_at_hand_are_counted(tmp_path, monkeypatch):
    (tmp_path / "hub" / "models--timm--resnet18").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert found("weights").facts["weights"] == ["timm/resnet18"]


def test_an_extra_that_is_missing_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr("fusion.interface.installation.is_installed", lambda package: package != "onnxruntime")
    assert "fusion-cells[onnx]" in found("extra onnx").found


def test_it_speaks_json():
    ran = CliRunner().invoke(cli.fusion, ["doctor", "--json"])
    assert ran.exit_code == 0
    assert {row["name"] for row in json.loads(ran.stdout)} >= {"versions", "networks", "GPU", "feature store"}
