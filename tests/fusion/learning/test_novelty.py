"""Cells of another stain or scale, and what is no cell, are told; fresh cells like those trained on mostly pass."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.covariance import LedoitWolf

import cli
from fusion.bundles.inference import predict_cells
from fusion.bundles.model_bundle import load_model
from fusion.images.cell import decode_image, make_cell, read_bytes
from fusion.learning.novelty import RATE, learn_novelty, spread_of
from fusion.settings.commands import PredictConfig
from fusion.workflows.predict import predict
from tests.builders.images import write_image


def changed(fresh, change, count=12):
    """Cells from fresh images after ``change``; black stays black."""
    cells = []
    for path in sorted(fresh.rglob("*.bmp"))[:count]:
        rgb = decode_image(read_bytes(path))
        other = change(rgb)
        if other.shape == rgb.shape:
            other[~rgb.any(axis=2)] = 0
        cells.append(make_cell(other))
    return cells


def turned(degrees):
    """Another stain: every hue turned."""

    def turn(rgb):
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + degrees // 2) % 180  # OpenCV counts hue in steps of two degrees
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    return turn


def debris(rgb):
    """A rectangle of noise where the cell was."""
    shape = np.zeros(rgb.shape, np.uint8)
    cv2.rectangle(shape, (150, 150), (300, 280), (1, 1, 1), -1)
    return np.random.default_rng(int(rgb.sum()) % 1000).integers(1, 255, rgb.shape, np.uint8) * shape


OUTSIDE = {
    "another stain": turned(40),
    "half the scale": lambda rgb: cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "out of focus": lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 3),
    "no cell": debris,
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_is_out_of_distribution_is_flagged(trees, fresh, kind):
    cells = changed(fresh, OUTSIDE[kind])
    found = predict_cells(load_model(trees), cells, [str(at) for at in range(len(cells))])
    assert sum(found.out_of_distribution) >= 0.9 * len(cells)
    assert "out of distribution" in " ".join(found.notes)


def test_fresh_cells_of_the_same_population_are_flagged_about_as_often_as_said(trees, fresh, synthetic_store):
    found = predict(PredictConfig(model=trees, images=[fresh], store=synthetic_store))
    assert len(found) == 200
    # 1 in 100 is expected; with 240 cells to set the threshold by, up to 4 more are no surprise.
    assert sum(found.out_of_distribution) / len(found) <= RATE + 0.04


def test_the_threshold_comes_from_subjects_held_out():
    """Cells of one subject are near copies: judged beside their like, all of them would seem usual."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    X = (rng.normal(size=(20, 60))[groups] + 0.01 * rng.normal(size=(200, 60))).astype(np.float32)
    y = np.array(["a", "b"])[groups % 2]
    by_subject = learn_novelty(X, y, groups, {"block": slice(0, 60)})
    by_cell = learn_novelty(X, y, np.arange(200), {"block": slice(0, 60)})
    strangers = rng.normal(size=(200, 60)).astype(np.float32)
    assert np.mean(by_subject.distance(strangers) > 1) < 0.35
    assert np.mean(by_cell.distance(strangers) > 1) > 0.95


@pytest.mark.parametrize(("n", "d"), [(40, 100), (300, 20)])
def test_the_distance_is_mahalanobis_under_ledoit_and_wolfs_covariance(n, d):
    rng = np.random.default_rng(n)
    Z = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    strangers = rng.normal(size=(9, d)) * 20
    expected = np.sqrt(LedoitWolf().fit(Z).mahalanobis(strangers))
    assert_allclose(spread_of(Z).distance(strangers), expected, rtol=5e-3)


def test_features_that_never_vary_tell_nothing():
    X = np.ones((20, 3), np.float32)
    X[:, 1] = np.nan
    assert learn_novelty(X, np.array(["a", "b"] * 10), np.arange(20), {"block": slice(0, 3)}) is None
    assert learn_novelty(X, np.array(["a", "b"] * 10), np.arange(20), {}) is None


def test_missing_and_absurd_values_give_a_distance_all_the_same():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 5)).astype(np.float32)
    known = learn_novelty(X, np.array(["a", "b"] * 30), np.arange(60), {"block": slice(0, 5)})
    missing, absurd = known.distance(np.array([[np.nan] * 5, [1e30] * 5], np.float32))
    assert missing < 1 < absurd < np.inf


def test_the_distance_survives_saving_to_the_bit(trees, fresh):
    first, again = load_model(trees), load_model(trees)
    X = predict(PredictConfig(model=trees, images=[next(fresh.rglob("*.bmp"))])).table.X
    assert_array_equal(first.novelty.distance(X), again.novelty.distance(X))
    assert {path.name for path in trees.iterdir()} >= {"novelty.safetensors", "model.json"}


def test_every_output_tells_the_strange_cell(trees, fresh, tmp_path):
    import pandas as pd

    usual = sorted(fresh.rglob("*.bmp"))[0]
    rgb = decode_image(read_bytes(usual))
    outside = write_image(tmp_path / "strange.png", debris(rgb))
    words = ["predict", str(trees), str(usual), str(outside)]
    shown = CliRunner().invoke(cli.fusion, words)
    assert shown.exit_code == 0, shown.stderr
    lines = [line for line in shown.stdout.splitlines() if "times the usual" in line]
    assert len(lines) == 1
    assert "strange.png" in lines[0]
    assert "1 is out of distribution" in shown.stderr
    message = json.loads(CliRunner().invoke(cli.fusion, [*words, "--json"]).stdout)["predictions"]
    assert [row["out_of_distribution"] for row in message] == [False, True]
    assert message[0]["distance"] < 1 < message[1]["distance"]
    CliRunner().invoke(cli.fusion, [*words, "--csv", str(tmp_path / "p.csv")])
    assert pd.read_csv(tmp_path / "p.csv")["out_of_distribution"].tolist() == [False, True]


def test_a_site_of_its_own_has_a_threshold_of_its_own():
    """One in a hundred of the site's cells lies further away than is usual there; nowhere else does anything change."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)).astype(np.float32)
    known = learn_novelty(X, np.repeat(["a", "b"], 150), np.arange(300), {"f": slice(0, 5)})
    there = (3 * rng.normal(size=(1000, 5))).astype(np.float32)
    assert (known.distance(there) > 1).mean() > 0.3
    adapted = known.with_site("there", known.distance(there))
    assert (adapted.distance(there, ["there"] * 1000) > 1).sum() in range(1, 11)
    assert_array_equal(adapted.distance(there), known.distance(there))
    assert_array_equal(adapted.distance(X, ["here", None] * 150), known.distance(X))
    both = adapted.distance(there[:2], ["there", "here"])
    assert both[0] < known.distance(there[:1])[0]
    # A site that lies near is no reason to call cells strange that are not so elsewhere.
    near = known.with_site("near", known.distance(0 * X))
    assert_array_equal(near.distance(X, ["near"] * 300), known.distance(X))
    again = type(known).from_state(*adapted.state())
    assert_allclose(again.distance(there, ["there"] * 1000), adapted.distance(there, ["there"] * 1000))
    values, arrays = adapted.state()
    with pytest.raises(ValueError, match="does not fit"):
        type(known).from_state({**values, "sites": {"there": -1.0}}, arrays)
