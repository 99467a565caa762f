"""What a jitter does to a cell, and that it is drawn from nothing but seed, copy, and source or image."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fusion.errors import ConfigError
from fusion.image_transforms.augmentation import AugmentedAdjustment, CellAugmentation, draw
from fusion.image_transforms.normaliser import Adjustment
from fusion.images.cell import Cell, CellError, make_cell
from fusion.settings.commands import TrainConfig
from fusion.settings.learning import AugmentSettings
from fusion.settings.loading import build_config
from tests.builders.images import paint
from tests.builders.stained_cells import cell

HOW = AugmentSettings(per_cell=1).model_dump()
STRONG = CellAugmentation((1.3, 0.8, 1.1), 1.1, 1.2, 1.0, 4.0, 7, 60, 0.08, -0.05)


def test_a_augmentation_of_nothing_leaves_a_cell_as_it_is():
    for one in (cell(um=0.1), cell(cut_out=True)):
        same = CellAugmentation().apply(one)
        assert_array_equal(same.rgb, one.rgb)
        assert_array_equal(same.mask, one.mask)
        assert_array_equal(same.nucleus, one.nucleus)
        assert same.um_per_px == one.um_per_px


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(0.3, 2)] * 3),
    st.floats(0.5, 1.5),
    st.floats(0.3, 2),
    st.floats(0, 3),
    st.floats(0, 20),
    st.integers(0, 100),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.booleans(),
    st.integers(2, 18),
)
def test_whatever_is_drawn_a_cell_stays_a_cell(stain, light, zoom, blur, noise, jpeg, contour, nucleus, cut, radius):
    one = cell(radius=radius, side=44, cut_out=cut)
    augmented = CellAugmentation(stain, light, zoom, blur, noise, 3, jpeg, contour, nucleus).apply(
        one
    )  # which Cell checks
    assert augmented.mask.any()
    assert augmented.rgb.flags.c_contiguous
    if cut:
        assert not augmented.rgb[~augmented.mask].any()
        assert augmented.mask.sum() <= Adjustment(zoom).apply(one).mask.sum()


def test_optical_density_is_multiplied_channel_by_channel():
    one = cell()
    augmented = CellAugmentation(stain=(1.2, 0.9, 1.0)).apply(one)
    before, after = (-np.log((each.rgb[each.mask].astype(float) + 1) / 256) for each in (one, augmented))
    # A grey level is rounded, which is 0.02 of the density of the darkest pixels here.
    assert_allclose(after, before * [1.2, 0.9, 1.0], atol=0.02)


def test_brighter_is_a_factor_on_grey_levels():
    one = cell(glass=(180, 170, 150))
    assert_allclose(CellAugmentation(light=1.2).apply(one).rgb, one.rgb * 1.2, atol=0.51)


def test_a_zoomed_cell_knows_its_size_and_that_of_its_red_cells():
    one = replace(cell(um=0.12), red_cells=(30.0, 33.0))
    augmented = CellAugmentation(zoom=1.25).apply(one)
    assert augmented.um_per_px == pytest.approx(0.12 / 1.25)
    assert augmented.red_cells == pytest.approx((37.5, 41.25))
    assert augmented.mask.sum() == pytest.approx(one.mask.sum() * 1.25**2, rel=0.03)


def test_contours_move_by_a_share_of_the_radius():
    one = cell(radius=20, side=64)
    for share in (-0.2, -0.1, 0.1, 0.2):
        augmented = CellAugmentation(contour=share, nucleus=share / 2).apply(one)
        assert np.sqrt(augmented.mask.sum() / np.pi) == pytest.approx(20 * (1 + share), abs=0.5)
        # A nucleus of radius 14, moved by a share of the cell's radius.
        assert np.sqrt(augmented.nucleus.sum() / np.pi) == pytest.approx(14 + 20 * share / 2, abs=0.5)
        assert_array_equal(augmented.rgb, one.rgb)


def test_what_a_shrunk_contour_gives_away_is_cut_off_where_the_rest_was():
    augmented = CellAugmentation(contour=-0.2).apply(cell(cut_out=True))
    assert not augmented.rgb[~augmented.mask].any()
    beside = CellAugmentation(contour=-0.2).apply(cell())
    assert beside.rgb[~beside.mask].all()


def test_black_does_not_bleed_into_a_cell_that_was_cut_out():
    """Blurred, enlarged and compressed, an even grey cell stays even up to its contour."""
    mask = cell().mask
    grey = np.where(mask[..., None], 150, 0).astype(np.uint8).repeat(3, axis=2)
    for augmentation in (
        CellAugmentation(blur=3.0),
        CellAugmentation(zoom=1.4),
        CellAugmentation(zoom=0.6),
        CellAugmentation(jpeg=30),
    ):
        augmented = augmentation.apply(Cell(grey, mask, np.zeros_like(mask)))
        assert np.ptp(augmented.rgb[augmented.mask]) == 0
        assert int(augmented.rgb[augmented.mask][0, 0]) == pytest.approx(
            150, abs=3
        )  # which JPEG may round all of them by
        assert not augmented.rgb[~augmented.mask].any()


def field(seed=0):
    """uint8 RGB: a painted cell on glass, with room around."""
    rgb = paint(seed, side=120, radius=24)
    rgb[rgb.max(axis=2) == 0] = (235, 230, 215)
    return rgb


@pytest.mark.parametrize("image", [paint(3), field(3)], ids=["cut out", "field"])
def test_without_a_mask_a_cell_is_looked_for_in_the_varied_image(image):
    plain, same = make_cell(image, None, 0.2), CellAugmentation().find(image, 0.2)
    for name in ("rgb", "mask", "nucleus"):
        assert_array_equal(getattr(same, name), getattr(plain, name))
    larger = CellAugmentation(zoom=1.5).find(image, 0.2)
    assert larger.mask.sum() == pytest.approx(plain.mask.sum() * 1.5**2, rel=0.06)
    assert larger.um_per_px == pytest.approx(0.2 / 1.5)
    # What is segmented is the varied image: its cell is what ``make_cell`` finds there, and not the old one zoomed.
    augmented = CellAugmentation(stain=(0.6, 0.8, 1.2), blur=2.5).find(image, None)
    assert augmented.mask.shape != plain.mask.shape or (augmented.nucleus != plain.nucleus).any()
    grown, shrunk = (CellAugmentation(contour=share).find(image, None).mask.sum() for share in (0.1, -0.1))
    assert shrunk < plain.mask.sum() <= grown
    assert (grown > plain.mask.sum()) == (image[0, 0].any())  # on black there is nothing to take in
    grey = AugmentedAdjustment(CellAugmentation(zoom=1.5), Adjustment(background="grey")).find(image, None)
    assert (grey.rgb[~grey.mask] == 128).all()
    with pytest.raises(CellError, match="fully black"):
        STRONG.find(np.zeros_like(image), None)


def test_a_nucleus_that_nothing_would_be_left_of_stays():
    one = cell(radius=18)
    small = np.zeros_like(one.mask)
    small[29:31, 29:31] = True
    augmented = CellAugmentation(nucleus=-0.5).apply(replace(one, nucleus=small))
    assert_array_equal(augmented.nucleus, small)


def test_noise_is_as_strong_as_asked_for_and_its_own_for_every_grain():
    grey = np.full((80, 80, 3), 120, np.uint8)
    one = Cell(grey, np.ones((80, 80), bool), np.zeros((80, 80), bool))
    first, again, other = (CellAugmentation(noise=5.0, grain=grain).apply(one).rgb.astype(float) for grain in (1, 1, 2))
    assert first.std() == pytest.approx(5, rel=0.05)
    assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


def test_every_change_has_a_fingerprint_of_its_own():
    augmented = [CellAugmentation(), STRONG]
    for name in vars(STRONG):
        augmented.append(replace(CellAugmentation(), **{name: getattr(STRONG, name)}))
    changes = [*augmented, Adjustment(), *(AugmentedAdjustment(STRONG, Adjustment(zoom)) for zoom in (1.0, 2.0))]
    changes.append(AugmentedAdjustment(CellAugmentation(), Adjustment(2.0)))
    assert len({change.fingerprint for change in changes}) == len(changes)


def test_a_varied_cell_is_normalised_after_that():
    one, grey = cell(um=0.2), Adjustment(zoom=0.5, background="grey")
    both = AugmentedAdjustment(STRONG, grey)
    assert_array_equal(both.apply(one).rgb, grey.apply(STRONG.apply(one)).rgb)
    assert both.apply(one).um_per_px == pytest.approx(0.2 / both.zoom)


def test_a_draw_is_of_seed_and_copy_and_source_or_of_the_image():
    quiet = {**HOW, "noise": 0}
    base = draw(quiet, 0, 1, "north", "key")
    assert draw(quiet, 0, 1, "north", "other") == base
    others = [draw(quiet, 1, 1, "north", "key"), draw(quiet, 0, 2, "north", "key"), draw(quiet, 0, 1, "south", "key")]
    assert len({base, *others, draw(quiet, 0, 1, None, "key")}) == 5
    each = {**quiet, "per": "cell"}
    assert draw(each, 0, 1, "north", "key") == draw(each, 0, 1, "south", "key") != draw(each, 0, 1, "north", "other")
    one, two = draw(HOW, 0, 1, "north", "key"), draw(HOW, 0, 1, "north", "other")
    assert one.grain != two.grain  # cells of one site differ by the grain of its sensor
    assert replace(one, grain=0) == replace(two, grain=0)


def test_another_process_draws_the_same():
    code = (
        f"from fusion.image_transforms.augmentation import draw; print(draw({HOW!r}, 3, 2, 'north', 'key').fingerprint)"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert message == draw(HOW, 3, 2, "north", "key").fingerprint


def test_draws_go_as_far_as_asked_and_no_further():
    drawn = [draw({**HOW, "per": "cell"}, 0, 1, None, str(at)) for at in range(2000)]

    def of(name):
        return np.array([getattr(augmentation, name) for augmentation in drawn])

    density = of("stain")
    assert density.std(axis=0) == pytest.approx(HOW["stain"] * np.sqrt(2), rel=0.1)
    assert np.corrcoef(density[:, 0], density[:, 1])[0, 1] == pytest.approx(0.5, abs=0.06)
    for name, far in (("light", HOW["brightness"]), ("zoom", HOW["scale"]), ("contour", HOW["contour"])):
        changed = of(name) - (name != "contour")
        assert far * 0.98 < np.abs(changed).max() <= far
        assert abs(changed.mean()) < far * 0.05
    for name, most in (("blur", HOW["blur"]), ("noise", HOW["noise"])):
        assert 0 <= of(name).min() < of(name).max() <= most
    assert set(of("jpeg").tolist()) == set(range(HOW["jpeg"], 101))
    assert {
        augmentation.jpeg for augmentation in (draw({**HOW, "jpeg": off}, 0, 1, None, "x") for off in (0, 100))
    } == {0}


def test_augmented_cells_that_nothing_would_vary_are_refused():
    still = dict.fromkeys(("stain", "brightness", "scale", "blur", "noise", "jpeg", "contour"), 0)
    with pytest.raises(ConfigError, match="wrong setting 'augment'"):
        build_config(TrainConfig, options={"data": "x", "output": "o", "augment": {"per_cell": 1, **still}})
    assert AugmentSettings(**still).per_cell == 0
