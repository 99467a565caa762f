"""The embedding by ONNX Runtime: torch's numbers, exported once, and torch itself wherever that cannot be had."""

import json
import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from extractors.cnn import onnx_backend
from extractors.cnn.backbone import load_backbone
from extractors.cnn.extractor import Embedding
from fusion.errors import UsageError
from fusion.images.cell import make_cell
from tests.builders.images import paint

SMALL = "test_efficientnet"


@pytest.fixture(scope="module")
def cells():
    return [make_cell(paint(seed, side=40 + 8 * (seed % 5), radius=12 + 2 * (seed % 5))) for seed in range(20)]


@pytest.fixture
def network():
    return load_backbone(SMALL, "random", size=64, seed=1).on("cpu")


def embedding(engine):
    return Embedding(backbone=SMALL, weights="random", size=64, engine=engine)


@pytest.mark.parametrize("backbone", [SMALL, "mobilenetv2_050", "convnext_atto"])
def test_it_gives_torchs_numbers(backbone, cells, caplog):
    by = {
        engine: Embedding(backbone=backbone, weights="random", size=64, engine=engine) for engine in ("onnx", "torch")
    }
    with caplog.at_level(logging.WARNING, logger="fusion"):
        found, expected = (extractor.extract(cells) for extractor in by.values())
    assert "embedding by torch" not in caplog.text
    assert by["onnx"].embed != by["torch"].network.embed
    assert np.abs(found - expected).max() < onnx_backend.TOLERANCE
    assert np.ptp(expected, axis=0).max() > 0
    assert found.dtype == np.float32


class Clock:
    """Seconds that pass while an engine embeds, each its own."""

    def __init__(self, monkeypatch, **seconds):
        self.now, self.trials = 0.0, 0
        embed = onnx_backend._embed

        def by_onnx(network, session):
            plain = embed(network, session)
            return lambda images: self.passed(seconds["onnx"]) or plain(images)

        plain = onnx_backend._seconds
        monkeypatch.setattr(onnx_backend, "_embed", by_onnx)

        def tried(engines, images, clock):
            self.trials += 1
            by_torch = engines["torch"]
            return plain(
                {**engines, "torch": lambda images: self.passed(seconds["torch"]) or by_torch(images)}, images, self
            )

        monkeypatch.setattr(onnx_backend, "_seconds", tried)

    def passed(self, seconds):
        self.now += seconds

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("torch", "is_onnx"), [(1.0, True), (0.97, True), (0.9, False)])
def test_the_faster_engine_is_taken_and_remembered(network, tmp_path, monkeypatch, torch, is_onnx):
    clock = Clock(monkeypatch, torch=torch, onnx=1.0)
    for _ in range(2):
        assert (onnx_backend.faster(network, tmp_path) is not None) == is_onnx
    assert clock.trials == 1
    (note,) = (tmp_path / onnx_backend.EXPORTED).glob("*.json")
    assert list(json.loads(note.read_text())["trials"].values()) == [pytest.approx({"torch": torch, "onnx": 1.0})]
    monkeypatch.setattr(onnx_backend, "processor_name", lambda: "another")
    onnx_backend.faster(network, tmp_path)
    assert clock.trials == 2


def test_an_engine_that_is_named_is_not_tried(cells, monkeypatch):
    monkeypatch.setattr(onnx_backend, "_seconds", lambda *_: pytest.fail("a trial"))
    embedding("onnx").extract(cells[:2])
    embedding("torch").extract(cells[:2])


def test_it_is_taken_by_itself_and_changes_no_fingerprint(cells, monkeypatch):
    from fusion.plugins.registry import fingerprint

    monkeypatch.setattr(onnx_backend, "_seconds", lambda *_: {"torch": 1.0, "onnx": 0.9})
    auto = embedding("auto")
    assert auto.embed.__module__ == onnx_backend.__name__
    assert_array_equal(auto.extract(cells), embedding("onnx").extract(cells))
    assert fingerprint(auto, "") == fingerprint(embedding("torch"), "")


def test_it_is_exported_once(network, tmp_path, monkeypatch):
    assert onnx_backend.embedder(network, tmp_path) is not None
    monkeypatch.setattr(onnx_backend, "_export", lambda *_: pytest.fail("exported again"))
    assert onnx_backend.embedder(network, tmp_path) is not None


def test_other_weights_are_another_export(network, tmp_path):
    other = load_backbone(SMALL, "random", size=64, seed=2).on("cpu")
    for each in (network, other, load_backbone(SMALL, "random", size=48, seed=1).on("cpu")):
        onnx_backend.embedder(each, tmp_path)
    assert len(list((tmp_path / onnx_backend.EXPORTED).glob("*.onnx"))) == 3


def test_a_damaged_export_is_made_again(network, tmp_path):
    images = np.stack([paint(seed) for seed in range(3)])
    expected = onnx_backend.embedder(network, tmp_path)(images)
    (path,) = (tmp_path / onnx_backend.EXPORTED).glob("*.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_array_equal(onnx_backend.embedder(network, tmp_path)(images), expected)
    assert path.read_bytes() == content


def test_where_it_differs_too_much_torch_does_it_and_says_so(network, tmp_path, caplog, monkeypatch):
    """A tolerance that nothing meets stands for a network that ONNX Runtime computes otherwise."""
    monkeypatch.setattr(onnx_backend, "TOLERANCE", 1e-12)
    with caplog.at_level(logging.WARNING, logger="fusion"):
        assert onnx_backend.embedder(network, tmp_path) is None
    assert "differs by up to" in caplog.text
    (note,) = (tmp_path / onnx_backend.EXPORTED).glob("*.json")
    assert 0 < json.loads(note.read_text())["difference"] < 1e-4


def test_where_it_cannot_be_exported_torch_does_it_and_says_so(network, tmp_path, caplog, monkeypatch):
    import torch

    def refuse(*_args, **_kwargs):
        raise RuntimeError("Exporting the operator 'aten::odd' is not supported")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with caplog.at_level(logging.WARNING, logger="fusion"):
        assert onnx_backend.embedder(network, tmp_path) is None
    assert "aten::odd" in caplog.text


def test_without_the_extra_torch_does_it_unless_asked_otherwise(cells, monkeypatch):
    monkeypatch.setattr(onnx_backend, "_PACKAGES", ("onnx", "no_such_runtime"))
    auto = embedding("auto")
    assert_allclose(auto.extract(cells[:2]), embedding("torch").extract(cells[:2]), rtol=0)
    with pytest.raises(UsageError, match="not installed"):
        embedding("onnx").extract(cells[:2])
    with pytest.raises(ValueError, match="engine must be"):
        embedding("tensorrt")
