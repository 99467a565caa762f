"""Maps of where the network looks: equal to what can be computed by hand, and about the weights and the cell."""

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from classifiers.neural._attention import METHODS, attention_maps
from classifiers.neural._training_sheets import attention_sheet, overlay
from classifiers.neural.estimator import NeuralClassifier
from classifiers.neural.network import Design, Network
from extractors.cnn.backbone import untrained_backbone
from extractors.cnn.input_transform import InputTransform
from extractors.cnn.network_config import resolve_backbone_config
from fusion.images.cell import Cell
from tests.builders.images import paint

pytestmark = pytest.mark.usefixtures("one_thread")


def plain_network(seed=0):
    """A backbone and one linear layer: the network for which a class activation map can be written down."""
    backbone_config = resolve_backbone_config(None, backbone="test_efficientnet", size=64)
    design = Design(backbone="test_efficientnet", weights="random", size=64, head=(), head_dropout=(0.0,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(design, untrained_backbone(backbone_config, seed), {}, 2).eval()


def images(n=3, side=64):
    return np.stack([paint(seed, side=side, radius=0.3 * side) for seed in range(n)])


NOTHING = torch.empty(3, 0)


def test_grad_cam_of_a_linear_head_is_the_class_activation_map():
    """Zhou et al. (2016): the map is the sum of the channels weighed by the class's row of the last layer."""
    network = plain_network()
    with torch.no_grad():
        maps = network.backbone.feature_map(network.backbone.prepare(images()))
        found = network.judge_map(NOTHING, maps).logits.argmax(1)
        rows = network.head[-1].weight[found]
        expected = (rows[:, :, None, None] * maps).sum(1).relu().numpy()
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    enlarged = np.stack([cv2.resize(m, (64, 64), interpolation=cv2.INTER_LINEAR) for m in expected])
    assert_allclose(attention_maps(network, images(), NOTHING, "grad-cam"), enlarged, atol=1e-5)


def test_layer_cam_of_a_linear_head_counts_positive_weights_alone():
    network = plain_network()
    with torch.no_grad():
        maps = network.backbone.feature_map(network.backbone.prepare(images()))
        found = network.judge_map(NOTHING, maps).logits.argmax(1)
        rows = network.head[-1].weight[found].relu()
        expected = (rows[:, :, None, None] * maps).sum(1).relu().numpy()
    expected /= expected.max(axis=(1, 2), keepdims=True)
    enlarged = np.stack([cv2.resize(m, (64, 64), interpolation=cv2.INTER_LINEAR) for m in expected])
    assert_allclose(attention_maps(network, images(), NOTHING, "layer-cam"), enlarged, atol=1e-5)


def test_grad_cam_through_a_whole_head_is_captums():
    """Captum differentiates the network itself, head and all; ours starts at the feature map."""
    from captum.attr import LayerAttribution, LayerGradCam

    backbone_config = resolve_backbone_config(None, backbone="test_efficientnet", size=64)
    design = Design(backbone="test_efficientnet", weights="random", size=64, head=(16, 8), head_dropout=(0.0,) * 3)
    network = Network(design, untrained_backbone(backbone_config, 0), {}, 3).eval()
    x = network.backbone.prepare(images())
    explainer = LayerGradCam(lambda seen: network(NOTHING, seen).logits, network.backbone.attention)
    for target in range(3):
        places = explainer.attribute(x, target=target, relu_attributions=True)
        expected = LayerAttribution.interpolate(places, (64, 64), "bilinear").detach().numpy()[:, 0]
        found = attention_maps(network, images(), NOTHING, "grad-cam", target)
        largest = places.detach().numpy().max(axis=(1, 2, 3))[:, None, None]
        assert_allclose(found * largest, expected, atol=1e-5 * largest.max())


@pytest.mark.parametrize("method", METHODS)
def test_maps_change_when_the_weights_are_randomised(method):
    """The sanity check of Adebayo et al. (2018): a map that survives it would show the image, not the network."""
    one, other = (attention_maps(plain_network(seed), images(), NOTHING, method) for seed in (0, 1))
    assert one.shape == (3, 64, 64)
    assert one.min() >= 0
    assert one.max() <= 1
    assert np.abs(one - other).mean() > 0.02


def test_an_unknown_method_is_told():
    with pytest.raises(ValueError, match="grad-cam"):
        attention_maps(plain_network(), images(), NOTHING, "guess")


@pytest.fixture(scope="module")
def bright_and_dark():
    """A network that tells bright cells from dark ones, anywhere in an image; the odd images are bright."""
    rng = np.random.default_rng(0)
    seen = np.zeros((48, 96, 96, 3), np.uint8)
    for at in range(48):
        y, x = rng.integers(0, 60, 2)
        cell = paint(at, side=36, radius=14)
        seen[at, y : y + 36, x : x + 36] = cell if at % 2 else cell // 2
    model = NeuralClassifier(
        network={
            "backbone": "test_efficientnet",
            "weights": "random",
            "size": 96,
            "drop_path": 0.0,
            "dropout": 0.0,
            "head": [],
            "head_dropout": [0.0],
        },
        training={"epochs": 30, "batch_size": 16, "learning_rate": 3e-3, "loss": "cross_entropy", "validation": 0.0},
        augmentation={"brightness": 0.0, "contrast": 0.0},
    ).fit(seen, np.arange(48) % 2)
    return model, seen


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
def test_what_a_trained_network_looks_at_lies_on_the_cell(bright_and_dark, method):
    """What speaks for a bright cell is on it, not on the black around it.

    What speaks for a dark one is that nothing bright is there, which is so everywhere: of its maps nothing is asked.
    """
    model, seen = bright_and_dark
    assert (model.predict(seen) == np.arange(48) % 2).mean() > 0.9
    bright = seen[1::2]
    maps = model.attention_maps(bright, method, target=1)
    # A place of the last feature map is 32 pixels wide: the cell is widened by half of one.
    around = np.stack([cv2.dilate((p.max(axis=2) > 0).astype(np.uint8), np.ones((33, 33))) for p in bright]) > 0
    total = maps.sum(axis=(1, 2))
    assert (total > 0).all()
    on_cell = (maps * around).sum(axis=(1, 2)) / total
    assert np.median(on_cell - around.mean(axis=(1, 2))) > 0.05


def test_a_map_of_a_cell_lies_over_its_crop():
    """Whatever square the network saw, the map comes back in the pixels of the cell's own crop."""
    rgb = np.zeros((60, 100, 3), np.uint8)
    rgb[10:46, 50:86] = paint(0, side=36, radius=14)
    mask = rgb.max(axis=2) > 0
    cell = Cell(rgb, mask, np.zeros_like(mask), (0, 0))
    settings = {"backbone": "test_efficientnet", "weights": "random", "size": 64, "drop_path": 0.0}
    model = NeuralClassifier(network={**settings, "view": 30}, training={"epochs": 1, "validation": 0.0}).fit(
        images(8), np.array(["all", "hem"] * 4)
    )
    for label in ("all", "hem"):
        found = model.attention_map(cell, label, "channels")
        assert found.shape == (60, 100)
        assert found.dtype == np.float32
        y, x = np.nonzero(found)
        top, left = 28 - 15, 68 - 15  # 30 pixels around the middle of the cell
        assert top - 1 <= y.min() < y.max() <= top + 31
        assert left - 1 <= x.min() < x.max() <= left + 31
    with pytest.raises(ValueError, match="knows no class 'blast'"):
        model.attention_map(cell, "blast")


def test_what_is_laid_back_is_where_it_was_seen():
    """A bright spot in the crop is bright in the image; laid back, the image's light is on the spot again."""
    rgb = np.full((80, 60, 3), 40, np.uint8)
    rgb[50:56, 20:26] = 250
    mask = np.zeros((80, 60), bool)
    mask[40:70, 10:50] = True
    cell = Cell(rgb, mask, np.zeros_like(mask), (0, 0))
    for view in (None, 24, 200):
        input_transform = InputTransform(96, view, "black", "bilinear")
        laid = input_transform.resample_to_cell((input_transform([cell])[0, :, :, 0] > 200).astype(np.float32), cell)
        y, x = np.nonzero(laid > 0.5)
        assert abs(y.mean() - 52.5) < 1
        assert abs(x.mean() - 22.5) < 1


def test_an_overlay_leaves_an_image_grey_where_nothing_is():
    image = images(1)[0]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert_array_equal(overlay(image, np.zeros((64, 64), np.float32)), np.stack([grey] * 3, axis=-1))
    coloured = overlay(image, np.ones((64, 64), np.float32))
    assert (coloured[..., 0] != coloured[..., 2]).any()


def test_a_sheet_has_a_colour_bar_from_black_to_bright():
    maps = {"grad-cam": np.zeros((2, 64, 64), np.float32)}
    sheet = attention_sheet(images(2), maps, ["all", "hem"])
    bar = sheet[24:-24, -48].astype(int).sum(axis=1)
    assert bar[0] > bar[len(bar) // 2] > bar[-1]
