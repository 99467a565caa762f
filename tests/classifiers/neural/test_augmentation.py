"""Variations of images: torchvision's own where it has them, and nothing outside the cell ever changes."""

import dataclasses

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as oracle

from classifiers.neural.augmentation import Augmentation, augment, mix, move, turn
from tests.builders.images import paint

NOTHING = Augmentation(flip_horizontal=False, rotation=0, brightness=0, contrast=0)
EVERYTHING = Augmentation(
    flip_vertical=True, quarter_turns=True, rotation=20, translate=0.05, scale=0.1, stain=0.2, blur=1.5
)


def images(n=4, side=48):
    raw = np.stack([paint(seed, side=side, radius=0.3 * side) for seed in range(n)])
    return torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**settings):
    return dataclasses.replace(NOTHING, **settings)


def test_nothing_asked_nothing_changed():
    assert torch.equal(augment(images(), NOTHING, draw(), is_black=True), images())


def test_the_same_draw_gives_the_same_variation_and_another_draw_another():
    first, again, other = (augment(images(), EVERYTHING, draw(s), is_black=True) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flips_and_quarter_turns_give_each_of_the_eight_and_nothing_else():
    (x,) = images(1)
    eight = [torch.rot90(y, k, (1, 2)) for y in (x, x.flip(2)) for k in range(4)]
    many = augment(
        x.expand(200, -1, -1, -1),
        only(flip_horizontal=True, flip_vertical=True, quarter_turns=True),
        draw(),
        is_black=True,
    )
    found = [next(at for at, y in enumerate(eight) if torch.equal(y, got)) for got in many]
    assert set(found) == set(range(8))


@pytest.mark.parametrize(("degrees", "scale", "shift"), [(13.0, 1.0, (0, 0)), (0, 1.2, (0, 0)), (30, 0.9, (5, -3))])
def test_moving_is_torchvisions_affine(degrees, scale, shift):
    x = images(2, side=50)
    expected = oracle.affine(
        x,
        angle=-degrees,
        translate=list(shift),
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=oracle.InterpolationMode.BILINEAR,
    )
    n = len(x)
    share = torch.tensor([shift]).float().expand(n, 2) / 50
    moved = move(x, torch.full((n,), np.deg2rad(degrees)), torch.full((n,), scale), share, is_black=True)
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_turning_by_quarters_only_moves_pixels():
    x = images()
    assert torch.equal(turn(x, 90, is_black=True), torch.rot90(x, 1, (2, 3)))
    torch.testing.assert_close(turn(x, 89.999, is_black=True), torch.rot90(x, 1, (2, 3)), atol=5e-3, rtol=0)


def test_black_stays_black_whatever_the_colours_do():
    x = images()
    outside = (x.amax(1) == 0)[:, None].expand_as(x)
    for how in (only(brightness=0.5, contrast=0.5), only(stain=0.5), only(blur=3.0)):
        y = augment(x, how, draw(), is_black=True)
        assert (y[outside] == 0).all()
        assert not torch.equal(y, x)


def test_blur_does_not_darken_the_contour():
    """A cell of one colour has nothing to blur: it stays that colour up to its last pixel."""
    x = torch.where(images() > 0, 0.5, 0.0)
    y = augment(x, only(blur=4.0), draw(3), is_black=True)
    torch.testing.assert_close(y, x, atol=1e-5, rtol=0)


def test_stain_augmentation_multiplies_optical_density():
    x = images(1)
    y = augment(x, only(stain=0.1), draw(), is_black=True)
    inside = x.amin(1)[0] > 0.02
    density = [-torch.log((255 * z[0][:, inside] + 1) / 256) for z in (x, y)]
    ratio = density[1] / density[0]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), atol=1e-3, rtol=0)
    assert not np.allclose(ratio[:, 0], 1, atol=1e-3)


def test_values_stay_between_black_and_white():
    y = augment(images(16), dataclasses.replace(EVERYTHING, brightness=2, contrast=2), draw(), is_black=True)
    assert y.min() >= 0
    assert y.max() <= 1


def test_a_kept_background_goes_on_where_the_image_is_moved_away():
    x = torch.full((3, 3, 32, 32), 0.7)
    y = augment(x, only(rotation=45, translate=0.2), draw(), is_black=False)
    torch.testing.assert_close(y, x)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_are_mixed_in_the_share_of_the_pixels(kind):
    x = torch.stack([torch.zeros(3, 40, 40), torch.ones(3, 40, 40)])
    shares = torch.eye(2)
    for seed in range(8):
        mixed, targets, partner, own = mix(x, shares, only(**{kind: 1.0}), draw(seed))
        torch.testing.assert_close(targets.sum(1), torch.ones(2))
        # The second image is white and of the second class: its share of light is its share of that class.
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets[:, 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(targets, own * shares + (1 - own) * shares[partner])


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="rotation"):
        Augmentation(rotation=-1)
    with pytest.raises(ValueError, match="exclude"):
        Augmentation(mixup=0.2, cutmix=0.2)
