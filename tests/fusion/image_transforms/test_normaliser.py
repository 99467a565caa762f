"""Normalising pixels: what an adjustment does to a cell, what a normaliser learns, and from which cells."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fusion.data.feature_table import FeatureTable
from fusion.errors import ConfigError, UsageError
from fusion.image_transforms._appearance import Appearance, RedCells, glass_of
from fusion.image_transforms._stain_normalisation import WHITE, Reinhard
from fusion.image_transforms.dataset_transforms import stated
from fusion.image_transforms.normaliser import Adjustment, Normaliser, target_of
from fusion.images.cell import Cell, decode_image, make_cell, read_cell
from fusion.images.segmentation.red_blood_cells import whole_red_cells
from fusion.plugins import registry
from fusion.settings.learning import NormaliseSettings
from fusion.synthetic.laboratories import UM_PER_PX, draw_laboratories, photograph, placed_red_cells
from fusion.synthetic.rendering import StainedCell
from tests.builders.images import paint, write_image
from tests.builders.stained_cells import cell

OFF = NormaliseSettings().steps
BY_RED_CELLS = OFF | {"scale": "red-cells", "um_per_px": 0.25}
SIZED = {"scale": "median-size", "diameter": 36.0}


def image_statistics(cells, sources):
    n = len(cells)
    X = Appearance().extract(cells)
    names = tuple(str(at) for at in range(n))
    return FeatureTable(
        X=X,
        columns=tuple(f"appearance.{name}" for name in Appearance().feature_names()),
        names=names,
        keys=names,
        image_keys=names,
        y=(None,) * n,
        subjects=(None,) * n,
        folds=(None,) * n,
        groups=np.arange(n),
        subjects_known=False,
        sources=tuple(sources),
    )


def two_laboratories():
    east = [cell(at) for at in range(6)]
    west = [cell(at, radius=9, side=40, stain=(0.5, 0.9, 0.9), glass=(210, 250, 160)) for at in range(6)]
    return east, west


def mean_colour(cells):
    return np.mean([one.rgb[one.mask].mean(axis=0) for one in cells], axis=0)


def test_nothing_is_changed_by_default():
    assert NormaliseSettings().is_nothing
    one = cell()
    same = Adjustment().apply(one)
    assert_array_equal(same.rgb, one.rgb)
    assert_array_equal(same.mask, one.mask)


def stained_like(one, white_balance=False):
    return dataclasses.asdict(target_of(one, white_balance))


def changed(steps, cells, sources=None, normaliser=None):
    """Cells as these steps, or a normaliser that has met others, show them."""
    table = image_statistics(cells, sources or ["any"] * len(cells))
    normaliser = normaliser or Normaliser.fit(steps, table)
    return [each.apply(one) for each, one in zip(normaliser.adjustments(table), cells, strict=True)]


def test_all_sites_look_like_the_reference():
    east, west = two_laboratories()
    steps = OFF | {"reinhard": stained_like(east[0], white_balance=True), "white_balance": True}
    like, same = changed(steps, west), changed(steps, east)
    balanced = changed(OFF | {"white_balance": True}, east)
    before = np.abs(mean_colour(west) - mean_colour(balanced)).max()
    assert np.abs(mean_colour(like) - mean_colour(balanced)).max() < 0.35 * before
    assert np.abs(mean_colour(same) - mean_colour(balanced)).max() < 6


def test_a_cell_that_is_the_reference_keeps_its_stain():
    east, _ = two_laboratories()
    assert np.abs(mean_colour(changed(OFF | {"reinhard": stained_like(east[0])}, east)) - mean_colour(east)).max() < 6


@pytest.mark.parametrize("steps", [{"white_balance": True}, {"scale": "um_per_px"}, {"scale": "red-cells"}])
def test_a_view_of_a_cell_depends_on_no_other_cell(steps):
    """But for a scale by median size, which is of the source."""
    east, west = two_laboratories()
    steps = OFF | steps | {"reinhard": stained_like(west[0])}
    table = with_red_cells([*east, *west], [*range(20, 32)], ["east"] * 6 + ["west"] * 6, um=0.3)
    every = Normaliser.fit(steps, table)
    for row, adjustment in enumerate(every.adjustments(table)):
        alone = table.take(np.array([row]))
        assert Normaliser.fit(steps, alone).adjustments(alone) == [adjustment]
    assert not every.leans(table).any()


def test_an_image_is_read_as_the_stain_that_is_wanted(tmp_path):
    path = write_image(tmp_path / "reference.png", paint(3, side=120, radius=30))
    wanted = stated(NormaliseSettings(reinhard=path, white_balance=True))
    assert wanted.reinhard.model_dump() == stained_like(read_cell(path), white_balance=True)
    # What is written beside a result needs the image no more.
    assert NormaliseSettings(**json.loads(wanted.model_dump_json())) == wanted
    assert stated(wanted) is wanted
    for odd in (tmp_path / "nowhere.png", write_image(tmp_path / "black.png", np.zeros((64, 64, 3), np.uint8))):
        with pytest.raises(ConfigError, match=r"normalise\.reinhard"):
            stated(NormaliseSettings(reinhard=odd))


def test_a_diameter_goes_with_median_size_and_with_nothing_else():
    for wrong in ({"scale": "median-size"}, {"diameter": 64}, {"scale": "um_per_px", "diameter": 64}):
        with pytest.raises(ConfigError, match="median-size"):
            NormaliseSettings(**wrong)


def test_reinhard_gives_the_mean_and_spread_of_the_target_in_lab():
    rng = np.random.default_rng(0)
    source, target = rng.uniform(60, 160, (400, 3)), rng.uniform(90, 140, (400, 3))
    fitted, goal = Reinhard.fit(source), Reinhard.fit(target)
    again = Reinhard.fit(fitted.apply(source, goal))
    assert_allclose(again.mean, goal.mean, atol=0.3)
    assert_allclose(again.spread, goal.spread, rtol=0.05)


def test_glass_is_white_after_white_balance_and_black_stays_black():
    one = cell(glass=(210, 250, 160))
    assert_allclose(glass_of(one), (210, 250, 160), atol=1)
    normaliser = Normaliser.fit(OFF | {"white_balance": True}, image_statistics([one], ["east"]))
    (adjustment,) = normaliser.adjustments(image_statistics([one], ["east"]))
    assert_allclose(glass_of(adjustment.apply(one)), [WHITE] * 3, atol=2)
    cut = cell(cut_out=True)
    assert np.isnan(glass_of(cut)).all()
    (adjustment,) = normaliser.adjustments(image_statistics([cut], ["east"]))
    assert_array_equal(adjustment.apply(cut).rgb, cut.rgb)


def test_what_is_cut_out_stays_on_exactly_black():
    cells = [cell(at, cut_out=True) for at in range(3)]
    _, west = two_laboratories()
    for other, one in zip(changed(OFF | {"reinhard": stained_like(west[0])}, cells), cells, strict=True):
        assert not other.rgb[~one.mask].any()


def test_the_median_cell_of_every_source_gets_the_wanted_diameter():
    east, west = two_laboratories()
    sizes = [cell(at, radius=r) for at, r in enumerate((10, 14, 22))]
    steps = OFF | {"scale": "median-size", "diameter": 24.0}
    normaliser = Normaliser.fit(steps, image_statistics(east, ["east"] * 6))
    brought = changed(steps, [*west, *sizes], ["west"] * 6 + ["north"] * 3, normaliser)
    diameters = [2 * np.sqrt(one.mask.sum() / np.pi) for one in brought]
    assert np.median(diameters[:6]) == pytest.approx(24, rel=0.03)
    assert np.median(diameters[6:]) == pytest.approx(24, rel=0.03)
    # A large cell stays large beside the others of its source.
    assert diameters[8] / diameters[6] == pytest.approx(2.2, rel=0.05)


def test_the_size_of_a_pixel_is_made_the_same():
    cells = [cell(0, radius=18, um=0.2), cell(1, radius=9, um=0.4)]
    normaliser = Normaliser.fit(OFF | {"scale": "um_per_px", "um_per_px": 0.25}, image_statistics(cells[:1], ["east"]))
    one, other = changed({}, cells, ["east", "west"], normaliser)
    assert one.um_per_px == pytest.approx(0.25, rel=0.02)
    assert one.um_per_px == pytest.approx(other.um_per_px, rel=1e-3)
    assert other.mask.sum() == pytest.approx(one.mask.sum(), rel=0.05)
    with pytest.raises(UsageError, match="size of a pixel"):
        normaliser.adjustments(image_statistics([cell()], ["north"]))


@pytest.mark.parametrize(("background", "level"), [("black", 0), ("grey", 128)])
def test_what_is_around_the_cell_can_be_taken_away(background, level):
    one = Adjustment(background=background).apply(cell())
    assert (one.rgb[~one.mask] == level).all()
    assert_array_equal(one.rgb[one.mask], cell().rgb[one.mask])


@given(zoom=st.floats(1 / 16, 4), radius=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_a_zoomed_cell_is_still_a_cell(zoom, radius):
    small = Adjustment(zoom=zoom).apply(cell(radius=radius))
    assert small.mask.any()
    assert not (small.nucleus & ~small.mask).any()


def test_the_order_of_cells_does_not_change_a_bit():
    east, west = two_laboratories()
    cells, sources = [*east, *west], ["east"] * 6 + ["west"] * 6
    order = np.random.default_rng(0).permutation(12)
    steps = OFF | SIZED | {"reinhard": stained_like(east[0]), "white_balance": True}
    table = image_statistics(cells, sources)
    there, back = Normaliser.fit(steps, table), Normaliser.fit(steps, table.take(order))
    assert there == back
    assert there.adjustments(table.take(order)) == [there.adjustments(table)[at] for at in order]


def test_a_new_source_changes_no_training_cell():
    east, west = two_laboratories()
    normaliser = Normaliser.fit(OFF | SIZED, image_statistics(east, ["east"] * 6))
    alone = normaliser.adjustments(image_statistics(east, ["east"] * 6))
    together = normaliser.adjustments(image_statistics([*east, *west], ["east"] * 6 + ["west"] * 6))
    assert together[:6] == alone
    # Nor is a training source described anew by those of its cells that are judged.
    assert normaliser.adjustments(image_statistics(east[:1], ["east"])) == alone[:1]


def test_a_fingerprint_changes_with_every_part_of_an_adjustment():
    some = Adjustment(1.5, (240.0, 240.0, 240.0), Reinhard((1.0,) * 3, (1.0,) * 3), Reinhard((2.0,) * 3, (1.0,) * 3))
    others = [
        dataclasses.replace(some, zoom=1.6),
        dataclasses.replace(some, glass=None),
        dataclasses.replace(some, background="grey"),
        dataclasses.replace(some, stain=Reinhard((1.0,) * 3, (1.5,) * 3)),
        dataclasses.replace(some, target=Reinhard((2.5,) * 3, (1.0,) * 3)),
    ]
    assert len({one.fingerprint for one in (some, *others)}) == 6


@pytest.mark.parametrize("has_stain", [False, True])
def test_what_is_stored_adjusts_to_the_same_bits(has_stain):
    east, west = two_laboratories()
    reinhard = stained_like(east[0]) if has_stain else None
    normaliser = Normaliser.fit(OFF | SIZED | {"reinhard": reinhard}, image_statistics(east, ["east"] * 6))
    again = Normaliser.from_json(json.loads(json.dumps(normaliser.to_json())))
    assert again == normaliser
    table = image_statistics(west, [None] * 6)
    assert again.adjustments(table) == normaliser.adjustments(table)
    for odd in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a length that is none"):
            Normaliser.from_json({**normaliser.to_json(), "sources": {"east": odd}})


def test_a_jpeg_in_yellow_light_comes_near_its_original():
    """The whole way on real compression: light, half the scale and JPEG undone as far as they can be."""
    plain = [cell(at, glass=(245, 245, 245)) for at in range(8)]
    other = []
    for one in plain:
        rgb = (one.rgb * np.array([0.95, 0.9, 0.6])).astype(np.uint8)
        rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
        other.append(Cell(np.asarray(rgb, np.uint8), one.mask, one.nucleus))
    back = changed(OFF | {"white_balance": True}, other)
    assert np.abs(mean_colour(back) - mean_colour(plain)).max() < 4
    assert np.abs(mean_colour(other) - mean_colour(plain)).max() > 30


# ---- a scale by red cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_red_cells_are_as_wide_as_they_were_drawn(seed):
    """Fields of two synthetic sites: blurred, noisy, stored as JPEG, in uneven light."""
    laboratory = draw_laboratories(2, seed)[1]
    assert laboratory.is_field
    y, x = np.mgrid[:450, :450] - 224.5
    mask, nucleus = np.hypot(y, x) < 85, np.hypot(y, x) < 60
    od = np.where(nucleus, 1.0, np.where(mask, 0.4, 0.0))[..., None] * np.array([0.9, 1.2, 0.6])
    stained = StainedCell(od.astype(np.float32), mask, nucleus, 5.0)
    ratios = []
    for at in range(10):
        _, placed = placed_red_cells(mask, UM_PER_PX, np.random.default_rng(at))
        shot = photograph(stained, laboratory, np.random.default_rng(at))
        found = whole_red_cells(decode_image(shot.encoded), shot.painted.mask)
        drawn = np.array(placed) * laboratory.scale
        for one in found:
            away = np.hypot(*(drawn[:, :2] - one[:2]).T)
            assert away.min() < 0.1 * one[2]  # in the middle of one that was drawn
            ratios.append(one[2] / (2 * drawn[away.argmin(), 2]))
    assert len(ratios) >= 8
    assert np.median(ratios) == pytest.approx(1, abs=0.05)
    assert np.percentile(np.abs(np.array(ratios) - 1), 90) < 0.1


def test_red_cells_that_the_edge_cuts_are_not_measured():
    image = np.full((240, 240, 3), 245, np.uint8)
    for at in ((40, 40), (226, 120), (120, 226), (12, 150)):  # the first one is whole
        cv2.circle(image, at, 20, (215, 150, 160), -1)
    mask = np.zeros((240, 240), np.uint8)
    cv2.circle(mask, (120, 120), 36, 1, -1)
    image[mask > 0] = (120, 70, 130)
    ((y, x, diameter),) = whole_red_cells(cv2.GaussianBlur(image, (0, 0), 1), mask > 0)
    assert (y, x, diameter) == pytest.approx((40, 40, 41), abs=1)


def test_red_cells_are_looked_for_only_where_asked_and_are_none_on_black():
    image = paint(3, side=120, radius=30)
    assert make_cell(image).red_cells is None
    assert make_cell(image, red_cells=True).red_cells == ()
    with pytest.raises(ValueError, match="have not been measured"):
        RedCells().extract([make_cell(image)])


def test_too_few_red_cells_are_no_scale():
    some = [dataclasses.replace(cell(), red_cells=widths) for widths in ((), (20.0,), (20.0, 24.0))]
    rows = RedCells().extract(some)
    assert np.isnan(rows[:2, 0]).all()
    assert rows[2, 0] == 22
    assert rows[:, 1].tolist() == [0, 1, 2]


def with_red_cells(cells, widths, sources, um=None):
    around = [
        dataclasses.replace(one, red_cells=(width, width) if width else (), um_per_px=um)
        for one, width in zip(cells, widths, strict=True)
    ]
    table = image_statistics(around, sources)
    X = np.hstack([table.X, RedCells().extract(around)])
    return dataclasses.replace(table, X=X, columns=(*table.columns, "red_cells.diameter", "red_cells.count"))


def test_each_image_by_its_own_red_cells_and_the_others_by_their_sources():
    """A red cell is 7.5 micrometres: where it is 30 pixels wide, a pixel is as long as is wanted."""
    east, west = two_laboratories()
    normaliser = Normaliser.fit(BY_RED_CELLS, with_red_cells(east, [30.0] * 6, ["east"] * 6))
    judged = with_red_cells(west, [15.0, 10.0, 15.0, 15.0, 0, 0], ["west"] * 6)
    assert [a.zoom for a in normaliser.adjustments(judged)] == pytest.approx([2, 3, 2, 2, 2, 2])
    assert normaliser.describes_sources
    assert normaliser.leans(judged).tolist() == [False] * 4 + [True] * 2
    again = Normaliser.from_json(json.loads(json.dumps(normaliser.to_json())))
    assert again.adjustments(judged) == normaliser.adjustments(judged)
    # A known source stays as it was, whatever is seen around other cells of it now.
    later = with_red_cells(east, [60.0, 60.0, 60.0, 0, 0, 0], ["east"] * 6)
    assert [a.zoom for a in normaliser.adjustments(later)] == pytest.approx([0.5] * 3 + [1.0] * 3)


def test_where_no_red_cell_is_seen_the_table_tells_the_scale_or_it_is_refused():
    east, west = two_laboratories()
    normaliser = Normaliser.fit(BY_RED_CELLS, with_red_cells(east, [0] * 6, ["east"] * 6, um=0.25))
    assert {a.zoom for a in normaliser.adjustments(with_red_cells(west, [15.0] * 6, ["west"] * 6))} == {2.0}
    with pytest.raises(UsageError, match="red-cells needs red cells around the cell"):
        normaliser.adjustments(with_red_cells(west, [0] * 6, ["west"] * 6))
    with pytest.raises(UsageError, match="in source east"):
        Normaliser.fit(BY_RED_CELLS, with_red_cells(east, [0] * 6, ["east"] * 6))


def test_red_cells_are_off_by_default_and_leave_what_was_stored_before_as_it_is():
    assert NormaliseSettings().scale == "none"
    assert registry.fingerprint(Appearance(), "any") == "855c8a963577186d001fe5ce4f563c61"
    assert Adjustment(zoom=0.5).fingerprint == "9e38f39c9d99b78d9f506ef09291bcdb"
