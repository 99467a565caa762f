"""Where a deep block has what it adds: it adds up to the block, and lies where the truth was planted."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from fusion.bundles.model_bundle import load_model
from fusion.explanation._attribution import attribute
from fusion.explanation._spatial_attribution import attribute_to_pixels
from fusion.explanation.explanation import explain_cell
from fusion.features.blocks import Block
from fusion.images.cell import Cell, read_cell
from fusion.learning.fused_model import fuse
from fusion.learning.training_quantiles import learn_reference
from fusion.reports.explanation_figure import explanation_figure, map_overlay
from fusion.reports.result_figures import render
from fusion.settings.commands import TrainConfig
from fusion.workflows.train import train
from tests.builders.images import ROOT, paint, real_data

SIDE, TILES = 64, 8

PLAIN = [("xgb", None), ("logreg", None), ("svm", None)]


@dataclass(frozen=True)
class Tiles:
    """Means over tiles of the image: of what is very red, of green and of blue."""

    name: ClassVar[str] = "tiles"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = True

    def feature_names(self):
        return ["very_red", "green", "blue"]

    def feature_map(self, cell):
        rgb = cell.rgb.astype(np.float32)
        channels = np.stack([np.maximum(rgb[..., 0] - 220, 0), rgb[..., 1], rgb[..., 2]])
        return channels.reshape(3, TILES, SIDE // TILES, TILES, SIDE // TILES).mean(axis=(2, 4))

    def resample_to_cell(self, places, cell):
        return cv2.resize(places, cell.rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)

    def extract(self, cells):
        return np.stack([self.feature_map(cell).mean(axis=(1, 2)) for cell in cells])


def planted(seed):
    """A cell and bool (8, 8), the tiles on which a red patch lies; every other cell has none.

    Light differs from cell to cell, so that no model has to make much of a channel that knows nothing: of one that
    hardly varies between cells it would, and its map would rightly show the difference between cell and background.
    """
    rgb = paint(seed, side=SIDE, radius=26)
    mask = rgb.any(axis=2)
    light = np.random.default_rng(1000 + seed).integers(0, 100, 2)
    rgb[..., 1:] = np.minimum(rgb[..., 1:] + light, 255)
    patch = np.zeros((TILES, TILES), bool)
    if seed % 2:
        y, x = np.random.default_rng(seed).integers(2, 5, 2)
        patch[y : y + 2, x : x + 2] = True
        rgb[np.kron(patch, np.ones((SIDE // TILES, SIDE // TILES))).astype(bool), 0] = (
            255  # green and blue know nothing of it
        )
    return Cell(rgb, mask, np.zeros_like(mask)), patch


def model_of(name, pca=None, n=80):
    """A model of tiles and of a block without a map, its blocks and training cells in short."""
    cells = [planted(seed)[0] for seed in range(n)]
    other = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    other[:, 0] += np.arange(n) % 2
    X = np.hstack([Tiles().extract(cells), other]).astype(np.float32)
    y = np.where(np.arange(n) % 2, "patch", "plain")
    blocks = {"tiles": slice(0, 3), "other": slice(3, 7)}
    model = fuse(X, y, np.arange(n), blocks, name, layer={"pca": {"tiles": pca}} if pca else {})
    return model, blocks, learn_reference(X, y, model.classes)


def asked(made, seed, target="patch"):
    model, blocks, known = made
    cell, patch = planted(seed)
    other = np.random.default_rng(seed).normal(size=(1, 4))
    features = np.hstack([Tiles().extract([cell]), other]).astype(np.float32)[0]
    found = attribute(model, blocks, features, known.typical, target)
    return attribute_to_pixels(model, [Block("tiles", Tiles())], blocks, cell, features, known, found), found, patch


@pytest.mark.parametrize(("name", "pca"), [*PLAIN, ("logreg", 2), ("svm", 2)])
def test_the_map_adds_up_to_the_blocks_contribution(name, pca):
    made = model_of(name, pca)
    for seed in range(200, 208):
        for target in ("patch", "plain"):
            spatial, found, _ = asked(made, seed, target)
            assert spatial.block == "tiles"
            assert spatial.values.shape == (TILES, TILES)
            assert abs(spatial.values.sum() - found.blocks["tiles"]) < 1e-5
            assert spatial.over_cell.shape == (SIDE, SIDE)


# Three components are the channels turned; two would mix the patch with the light, and so would the model.
@pytest.mark.parametrize(("name", "pca"), [*PLAIN, ("logreg", 3), ("svm", 3)])
def test_what_speaks_for_the_patch_lies_on_the_patch(name, pca):
    made = model_of(name, pca)
    for seed in range(201, 221, 2):
        spatial, found, patch = asked(made, seed)
        assert found.blocks["tiles"] > 0
        speaks_for = spatial.values.clip(0)
        # 4 of 64 tiles: by chance they would have 6%.
        assert speaks_for[patch].sum() > 0.85 * speaks_for.sum()
        assert spatial.values[patch].min() > spatial.values[~patch].max()


def test_of_a_linear_model_it_is_the_class_activation_map():
    made = model_of("logreg")
    model, _, known = made
    spatial, _, _ = asked(made, 203)
    seen = Tiles().feature_map(planted(203)[0]).astype(np.float64)
    (block,) = [each for each in model.layer._blocks if each.name == "tiles"]
    weights = model.classifier.linear_weights()[0][model.classes.index("patch")][:3] * block.weight / block.spread
    expected = np.tensordot(weights, seen - known.typical[:3, None, None], 1) / TILES**2
    clipped = np.abs((seen.mean(axis=(1, 2)) - block.centre) / block.spread) > 10
    assert not clipped.any()
    assert_allclose(spatial.values, expected, atol=1e-5)


def test_a_feature_at_its_median_is_spread_evenly():
    from fusion.explanation._spatial_attribution import _by_column

    places = np.random.default_rng(0).normal(size=(6, 1))
    assert_allclose(_by_column(np.array([0.6]), places, places.mean(axis=0)), 0.1)
    near = _by_column(np.array([0.6]), places, places.mean(axis=0) + 1e-13)
    assert near.sum() == pytest.approx(0.6)
    assert near.min() >= 0  # nothing is divided by the 1e-13


def test_a_model_without_a_block_with_a_map_has_none():
    model, blocks, known = model_of("logreg")
    cell, _ = planted(201)
    features = known.typical
    found = attribute(model, blocks, features, known.typical, "patch")
    assert attribute_to_pixels(model, [], blocks, cell, features, known, found) is None
    only = replace(found, blocks={"other": found.blocks["other"]})
    assert (
        attribute_to_pixels(model, [Block("tiles", Tiles())], {"other": slice(3, 7)}, cell, features, known, only)
        is None
    )


# ---- a real network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_means_of_a_networks_map_are_its_embedding(engine):
    from extractors.cnn.extractor import Embedding

    cell, _ = planted(3)
    network = Embedding(backbone="test_efficientnet", weights="random", size=64, engine=engine)
    seen = network.feature_map(cell)
    assert seen.shape[0] == len(network.feature_names())
    assert seen.shape[1:] == (2, 2)
    assert_allclose(seen.mean(axis=(1, 2)), network.extract([cell])[0], atol=1e-4)
    bright = np.zeros(seen.shape[1:], np.float32)
    bright[0, 0] = 1
    laid = network.resample_to_cell(bright, cell)
    assert laid.shape == cell.rgb.shape[:2]
    assert laid[:32, :32].sum() > 0.7 * laid.sum()  # a place of 2 x 2, enlarged bilinearly


# ---- features that are no means over places --------------------------------------------------------------------------


@dataclass(frozen=True)
class Brightest(Tiles):
    """The brightest tile of each channel: no mean, as a class token is none."""

    name: ClassVar[str] = "tiles"

    def feature_map(self, cell):
        return None

    def _of(self, rgb):
        channels = Tiles().feature_map(Cell(rgb, rgb.any(axis=2), np.zeros(rgb.shape[:2], bool)))
        return channels.max(axis=(1, 2)) + channels.mean(axis=(1, 2))

    def _edges(self, k):
        return np.searchsorted(np.linspace(0, SIDE, k + 1).round(), np.arange(SIDE), side="right") - 1

    def features_of_regions(self, cell, shown):
        at = self._edges(shown.shape[1])
        return np.stack([self._of(np.where(one[at][:, at][..., None], cell.rgb, 0)) for one in shown])

    def empty_regions(self, cell, regions):
        at = self._edges(regions)
        return np.array([[not cell.rgb[at == y][:, at == x].any() for x in range(regions)] for y in range(regions)])

    def extract(self, cells):
        return np.stack([self._of(cell.rgb) for cell in cells])


@pytest.mark.parametrize(("name", "pca"), [*PLAIN, ("logreg", 2)])
def test_a_map_of_regions_adds_up_and_lies_on_the_patch(name, pca):
    cells = [planted(seed)[0] for seed in range(80)]
    X = Brightest().extract(cells).astype(np.float32)
    other = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    y = np.where(np.arange(80) % 2, "patch", "plain")
    blocks = {"tiles": slice(0, 3), "other": slice(3, 7)}
    model = fuse(np.hstack([X, other]), y, np.arange(80), blocks, name, layer={"pca": {"tiles": pca}} if pca else {})
    known = learn_reference(np.hstack([X, other]), y, model.classes)
    shares = []
    for seed in range(201, 211, 2):
        cell, patch = planted(seed)
        features = np.hstack([Brightest().extract([cell])[0], other[0]]).astype(np.float32)
        found = attribute(model, blocks, features, known.typical, "patch")
        spatial = attribute_to_pixels(model, [Block("tiles", Brightest())], blocks, cell, features, known, found)
        assert abs(spatial.values.sum() - found.blocks["tiles"]) < 1e-5
        assert not spatial.values[Brightest().empty_regions(cell, len(spatial.values))].any()
        touched = np.kron(patch, np.ones((SIDE // TILES, SIDE // TILES))).astype(bool)
        speaks_for = spatial.over_cell.clip(0)
        shares.append(speaks_for[cv2.dilate(touched.astype(np.uint8), np.ones((13, 13))) > 0].sum() / speaks_for.sum())
    assert np.mean(shares) > 0.5  # a fifth of the image, by chance


def token_model(seed=0, pool="cls"):
    """A model of a small transformer's class token on cells of two sizes, and a cell to ask about."""
    from extractors.cnn.extractor import Embedding

    block = Embedding(backbone="test_vit", weights="random", size=32, seed=seed, pool=pool, engine="torch")
    cells = [planted(at)[0] for at in range(24)]
    X = block.extract(cells)
    y = np.where(np.arange(24) % 2, "patch", "plain")
    blocks = {"cnn": slice(0, X.shape[1])}
    model = fuse(X, y, np.arange(24), blocks, "logreg")
    return block, model, blocks, learn_reference(X, y, model.classes), cells[3], X[3]


def test_the_map_of_a_class_token_adds_up_and_changes_with_the_weights():
    maps = []
    for seed in (0, 1):
        block, model, blocks, known, cell, features = token_model(seed)
        assert block.feature_map(cell) is None
        found = attribute(model, blocks, features, known.typical, "patch")
        spatial = attribute_to_pixels(model, [Block("cnn", block)], blocks, cell, features, known, found)
        assert abs(spatial.values.sum() - found.blocks["cnn"]) < 1e-5
        maps.append(spatial.values.ravel())
    assert np.corrcoef(maps)[0, 1] < 0.9  # Adebayo et al. (2018): a map that random weights leave as it is shows edges


def test_the_mean_of_patches_has_a_map_of_tokens():
    block, model, blocks, known, cell, features = token_model(pool="mean")
    seen = block.feature_map(cell)
    assert seen.shape == (64, 2, 2)
    assert_allclose(seen.mean(axis=(1, 2)), features, atol=1e-4)
    found = attribute(model, blocks, features, known.typical, "patch")
    spatial = attribute_to_pixels(model, [Block("cnn", block)], blocks, cell, features, known, found)
    assert spatial.values.shape == (2, 2)
    assert abs(spatial.values.sum() - found.blocks["cnn"]) < 1e-4


def test_attention_rollout_is_what_the_attention_of_every_block_says():
    import torch

    from extractors.cnn.extractor import Embedding

    block = Embedding(backbone="test_vit", weights="random", size=48, engine="torch")
    cell, _ = planted(3)
    rolled = block.rollout(cell)
    assert rolled.shape == (3, 3)
    assert rolled.max() == 1
    network, kept = block.network.backbone, []
    for each in network.blocks:
        each.attn.fused_attn = False
        each.attn.attn_drop.register_forward_hook(lambda _m, _i, out: kept.append(out.mean(1)))
    with torch.inference_mode():
        network.forward_features(block.network.prepare(block.images([cell])))
    flow = torch.eye(10)
    for weights in kept:
        flow = (0.5 * weights[0] + 0.5 * torch.eye(10)) @ flow
    assert_allclose(rolled, (flow[0, 1:] / flow[0, 1:].max()).reshape(3, 3), atol=1e-5)
    other = Embedding(backbone="test_vit", weights="random", size=48, seed=1, engine="torch").rollout(cell)
    assert np.corrcoef(rolled.ravel(), other.ravel())[0, 1] < 0.9


@pytest.mark.parametrize("name", ["xgb", pytest.param("svm", marks=pytest.mark.slow)])
def test_real_cells_by_a_real_network(name, tmp_path):
    folder = real_data("seg-wbc-1")
    weights = Path(os.environ.get("FUSION_WEIGHTS", ROOT.parent / "shared" / "weights")) / "mobilenetv2_100.safetensors"
    if not weights.is_file():
        pytest.skip(f"no real weights at {weights}; set FUSION_WEIGHTS to a folder that has them")
    rows = pd.read_csv(folder / "labels.csv")
    rows = pd.concat([rows[rows["label"] == label].iloc[:12] for label in ("lymphocyte", "neutrophil")])
    for column in ("path", "mask"):
        rows[column] = [str(folder / path) for path in rows[column]]
    rows.to_csv(tmp_path / "cells.csv", index=False)
    network = {"weights": str(weights), "backbone": "mobilenetv2_100"}
    train(
        TrainConfig(
            data=tmp_path / "cells.csv",
            output=tmp_path / "m",
            classifier=name,
            features=["morphology", "cnn"],
            extractors={"cnn": network},
            splits=2,
            jobs=1,
        )
    )
    bundle = load_model(tmp_path / "m")
    for row in rows.iloc[::8].itertuples():
        found = explain_cell(bundle, read_cell(Path(row.path), Path(row.mask)), "cell")
        assert found.spatial.values.shape == (7, 7)
        assert abs(found.spatial.values.sum() - found.attribution.blocks["cnn"]) < 1e-5
        assert found.to_json()["map"]["block"] == "cnn"
        assert map_overlay(found).shape == found.cell.rgb.shape
    drawn = render(explanation_figure(found), "svg").decode()
    assert "where cnn speaks for" in drawn
    assert "7 x 7 places" in drawn
