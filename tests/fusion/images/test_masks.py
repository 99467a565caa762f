"""A mask is read as it was meant, or refused with what was found in it: never guessed at."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from fusion.images.decoding import CellError, ImageError
from fusion.images.masks import MaskError, given_mask, read_mask
from fusion.settings.mask_levels import MaskLevels

SIDE = 120
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2


def blob(radius, seed=0, shift=(0, 0)):
    """bool (SIDE, SIDE): something like a cell's outline."""
    y, x = Y - shift[0], X - shift[1]
    angle = np.arctan2(y, x)
    return np.hypot(y, x) < radius * (1 + 0.08 * np.sin(3 * angle + seed))


CELL, NUCLEUS = blob(40), blob(22, 1)


def levels(background, cell, nucleus=None):
    out = np.full((SIDE, SIDE), background, np.uint8)
    out[CELL] = cell
    if nucleus is not None:
        out[NUCLEUS] = nucleus
    return out


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def palette(colours, kind="PNG"):
    image = Image.frombytes("P", (SIDE, SIDE), levels(0, 1, 2).tobytes())
    image.putpalette(colours + [0] * (768 - len(colours)))
    return saved(image, kind)


def painted(*colours):
    out = np.empty((SIDE, SIDE, len(colours[0])), np.uint8)
    for part, colour in zip((np.ones_like(CELL), CELL, NUCLEUS), colours, strict=False):
        out[part] = colour
    return out


def assert_is(mask, cell=CELL, nucleus=NUCLEUS, off=0.0):
    """Cell and nucleus are these, but for a share of their pixels."""
    assert (mask.cell != cell).sum() <= off * cell.sum()
    if nucleus is None:
        assert mask.nucleus is None
    else:
        assert (mask.nucleus != nucleus).sum() <= off * nucleus.sum()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 128), (0, 127), (0, 128, 255), (0, 127, 254), (0, 1, 2)])
def test_the_usual_levels_are_what_they_are_in_every_lossless_format(values, kind):
    mask = read_mask(saved(levels(*values), kind))
    assert_is(mask, nucleus=NUCLEUS if len(values) == 3 else None)
    assert ("nucleus" in mask.kind) == (len(values) == 3)


def test_one_bit_a_grey_palette_and_grey_in_three_channels_are_grey():
    one_bit = Image.fromarray(levels(0, 255)).convert("1")
    for kind in ("PNG", "BMP", "TIFF"):
        assert_is(read_mask(saved(one_bit, kind)), nucleus=None)
    assert_is(read_mask(saved(painted((0, 0, 0, 255), (128, 128, 128, 255), (255, 255, 255, 255)))))
    assert_is(read_mask(saved(painted((0, 255), (128, 255), (255, 255)))))
    greys = [0, 0, 0, 128, 128, 128, 255, 255, 255]
    for kind in ("PNG", "BMP"):
        assert_is(read_mask(palette(greys, kind)))
    assert_is(read_mask(saved(np.dstack([levels(0, 128, 255)] * 3))))
    assert_is(read_mask(saved(np.dstack([levels(0, 128, 255)] * 3), "JPEG", quality=92)), off=0.1)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_palette_of_colours_is_read_by_index(kind, bits):
    image = Image.frombytes("P", (SIDE, SIDE), levels(0, 1, 2).tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] if bits == 4 else [0, 0, 0, 128, 0, 0, 0, 128, 0] + [9] * 759)
    content = saved(image, kind, **({"bits": bits} if kind == "PNG" else {}))
    assert_is(read_mask(content))
    assert_is(read_mask(content, "background=#000000,cell=#800000,nucleus=#008000"))
    assert_is(read_mask(content, "background=0,cell=1+2"), nucleus=None)


@given(
    st.sampled_from([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, "gauss", "jpeg"]),
    st.floats(0.5, 2.0),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_soft_rim_moves_no_contour(how, strength, both):
    """Resized, smoothed or compressed: what it means, within a pixel of the contour, or refused; never another cell."""
    drawn = levels(0, 128, 255) if both else levels(0, 255)
    if how == "gauss":
        content = saved(cv2.GaussianBlur(drawn, (0, 0), strength))
    elif how == "jpeg":
        content = saved(drawn, "JPEG", quality=int(45 * strength))
    else:
        small = Image.fromarray(drawn).resize((int(SIDE / (1 + strength)),) * 2, Image.Resampling.NEAREST)
        content = saved(small.resize((SIDE, SIDE), how))
    try:
        mask = read_mask(content)
    except MaskError:
        assume(False)
    assert (mask.nucleus is not None) == both
    assert mask.cell.sum() == pytest.approx(CELL.sum(), rel=0.06)
    if both:
        assert mask.nucleus.sum() == pytest.approx(NUCLEUS.sum(), rel=0.1)


@given(st.floats(0.5, 12), st.integers(24, SIDE))
@example(0.75, 24)
@settings(max_examples=60, deadline=None)
def test_a_blurred_mask_keeps_its_share_of_nucleus_or_is_refused(strength, side):
    drawn = cv2.resize(levels(0, 128, 255), (side, side), interpolation=cv2.INTER_NEAREST)
    share = (drawn == 255).sum() / (drawn > 0).sum()
    try:
        mask = given_mask(cv2.GaussianBlur(drawn, (0, 0), strength))
    except ImageError:
        return
    assert mask.nucleus is not None
    assert mask.nucleus.sum() / mask.cell.sum() == pytest.approx(share, rel=0.08)


@pytest.mark.parametrize("both", [True, False])
def test_edges_as_wide_as_what_they_part_are_refused(both):
    drawn = levels(0, 128, 255) if both else levels(0, 255)
    given_mask(cv2.GaussianBlur(drawn, (0, 0), 1))
    with pytest.raises(MaskError, match=r"its edges are soft|which of its values"):
        given_mask(cv2.GaussianBlur(drawn, (0, 0), SIDE / 14))


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_jpeg_and_smoothing_are_not_refused(quality):
    for drawn, nucleus in ((levels(0, 255), None), (levels(0, 128, 255), NUCLEUS)):
        assert_is(read_mask(saved(drawn, "JPEG", quality=quality)), nucleus=nucleus, off=0.08)
        assert_is(read_mask(saved(cv2.GaussianBlur(drawn, (0, 0), 0.7))), nucleus=nucleus, off=0.08)


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2)])
@pytest.mark.parametrize("quality", [30, 60, 95, 100])
def test_numbers_that_jpeg_has_changed_are_refused(values, quality):
    content = cv2.imencode(".jpg", levels(*values), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    with pytest.raises(ImageError, match="JPEG has changed"):
        read_mask(content)


def test_single_stray_pixels_make_no_level():
    one = levels(0, 255)
    one[60, 60], one[30, 60] = 128, 120
    assert_is(read_mask(saved(one)), nucleus=None, off=0.001)
    two = levels(0, 128, 255)
    two[5, 5:8], two[60, 60] = (9, 40, 20), 230
    assert_is(read_mask(saved(two)))


def void_rim(values):
    drawn = levels(*values)
    drawn[cv2.morphologyEx(CELL.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0] = 255
    return drawn


def beside(mine, other, side=20):
    drawn = levels(0, mine)
    drawn[:side, :side] = other
    return drawn


def halves(one, other):
    """Two cells that touch."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    drawn[blob(25, shift=(0, -24))], drawn[blob(25, shift=(0, 24))] = one, other
    return drawn


UNCLEAR = {
    "four levels": (levels(0, 85, 170), "not clear"),
    "a hundred": (levels(0, 100, 200), "not clear"),
    "sixty": (levels(0, 60), "no cell pixel"),
    "nucleus only": (levels(0, 2), "not clear"),
    "VOC's border of one": (void_rim((0, 1)), "not clear"),
    "VOC's border of two": (void_rim((0, 1, 2)), "not clear"),
    "a border round 128": (void_rim((0, 128)), "rim"),
    "a border of half-way": (np.where(CELL & ~blob(38), 128, levels(0, 255)).astype(np.uint8), "rim"),
    "ids 70 and 230": (beside(70, 230), "not clear"),
    "ids 2 and 1": (beside(2, 1), "not inside"),
    "ids 1 and 2": (beside(1, 2), "not inside"),
    "ids 128 and 255": (beside(128, 255, 40), "not inside"),
    "ids that touch": (halves(1, 2), "not inside"),
    "seven ids": (levels(0, 7), "no cell pixel"),
    "swapped": (levels(0, 2, 1), "not inside"),
    "inverted": (levels(255, 0), "frame"),
    "inverted with both": (levels(255, 128, 0), "frame"),
    "without background": (np.full((SIDE, SIDE), 255, np.uint8), "frame"),
    "two cells": (halves(0, 255) | np.roll(halves(0, 255), -60, axis=1), "several cells"),
    "probabilities": (np.clip(300 - 5 * np.hypot(Y, X), 0, 255).astype(np.uint8), "not clear"),
    "an outline": (np.where(blob(34), 0, levels(0, 255)).astype(np.uint8), "large hole"),
    "the nucleus left out": (levels(0, 1, 0), "large hole"),
    "nothing": (np.zeros((SIDE, SIDE), np.uint8), "no cell pixel"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_mask_that_is_not_clear_is_refused_with_its_values(name):
    drawn, words = UNCLEAR[name]
    with pytest.raises(CellError, match=words) as caught:
        read_mask(saved(drawn), name="m.png")
    if not isinstance(caught.value, MaskError):
        return
    assert "m.png" in caught.value.what
    assert "--mask-levels" in caught.value.what
    assert "%" in caught.value.found


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (
            saved(painted((0, 0, 0), (0, 255, 0), (255, 0, 0))),
            "in colours",
            "background=#000000,cell=#00ff00,nucleus=#ff0000",
        ),
        (
            saved(painted((0, 0, 255), (0, 255, 0), (255, 0, 0))),
            "in colours",
            "background=#0000FF,cell=#00FF00,nucleus=#FF0000",
        ),
        (
            saved(painted((255, 255, 255, 0), (255, 255, 255, 128), (255, 255, 255, 255))),
            "transparent",
            "channel=alpha,background=0,cell=128,nucleus=255",
        ),
        (saved(painted((0, 0), (0, 100), (0, 200))), "transparent", "channel=alpha,background=0,cell=100,nucleus=200"),
        (
            saved(painted((0, 0, 0), (200, 0, 0), (250, 0, 0))),
            "in colours",
            "channel=red,background=0,cell=200,nucleus=250",
        ),
        (saved(levels(255, 128, 0)), "frame", "background=255,cell=128,nucleus=0"),
        (saved(levels(0, 85, 170)), "not clear", "background=0,cell=85,nucleus=170"),
        (saved(levels(0, 2, 1)), "not inside", "background=0,cell=2,nucleus=1"),
        (saved(levels(0, 170, 85), "TIFF"), "not clear", {"background": 0, "cell": [170], "nucleus": 85}),
        (saved(levels(0, 1, 2).astype(np.uint16) * 300), "above 255", "background=0,cell=300,nucleus=600"),
    ],
)
def test_what_is_refused_is_used_as_a_user_says(content, words, said):
    from fusion.settings.commands import InspectConfig

    with pytest.raises(ImageError, match=words):
        read_mask(content)
    text = InspectConfig.model_validate({"data": "x", "mask_levels": said}).mask_levels
    assert_is(read_mask(content, text))


def test_one_of_several_instances_is_used_where_it_is_asked_for():
    drawn = beside(7, 3).astype(np.uint16)
    drawn[-9:, -9:] = 1000
    assert_is(read_mask(saved(drawn), "instance=7"), nucleus=None)
    assert read_mask(saved(drawn), "instance=1000").cell.sum() == 81
    with pytest.raises(MaskError, match="instance 8"):
        read_mask(saved(drawn), "instance=8")


def test_a_value_that_was_not_named_is_refused_unless_it_is_a_soft_rim():
    soft = cv2.GaussianBlur(levels(0, 255), (0, 0), 0.7)
    assert_is(read_mask(saved(soft), "background=0,cell=255"), nucleus=None, off=0.02)
    assert_is(read_mask(saved(soft, "JPEG"), "background=0,cell=255"), nucleus=None, off=0.02)
    for drawn, said in (
        (void_rim((0, 1)), "background=0,cell=1"),
        (levels(0, 1, 2), "background=0,cell=1"),
        (levels(0, 85, 170), "background=0,cell=170"),
        (beside(1, 2), "background=0,cell=1"),
    ):
        with pytest.raises(MaskError, match="does not name"):
            read_mask(saved(drawn), said)
    colours = painted((0, 0, 0), (0, 255, 0), (9, 9, 200))
    with pytest.raises(MaskError, match="#0909c8"):
        read_mask(saved(colours), "background=#000000,cell=#00ff00")
    assert_is(read_mask(saved(void_rim((0, 1))), "background=0+255,cell=1"), cell=void_rim((0, 1)) == 1, nucleus=None)


@pytest.mark.parametrize(
    "said",
    [
        "cell=1",
        "background=0",
        "background=0,cell=0",
        "instance=1,cell=1",
        "instance=1+2",
        "background=0,cell=x",
        "background=0,cell=#00ff00",
        "channel=grey,background=0,cell=1",
        "cell",
        "background=0,cell=1,nucleolus=2",
        "background=0,background=1,cell=2",
        "background=0,cell=70000",
        "",
    ],
)
def test_levels_that_say_nothing_clear_are_refused(said):
    with pytest.raises(ValueError, match=r"\w"):
        MaskLevels.parse(said)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_levels_are_kept_in_one_spelling(data):
    numbers = data.draw(st.lists(st.integers(0, 65535), min_size=3, max_size=6, unique=True))
    said = f" nucleus={numbers[0]}, cell={'+'.join(map(str, numbers[2:]))},background={numbers[1]}"
    text = str(MaskLevels.parse(said))
    assert MaskLevels.parse(text) == MaskLevels.parse(said)
    assert text == str(MaskLevels.parse(text))


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_whatever_three_values_are_drawn_the_cell_is_the_cell(background, cell, nucleus):
    """Any three values in the places of background, cytoplasm and nucleus: as they were meant, or refused."""
    assume(background != cell)
    drawn = levels(background, cell, nucleus)
    try:
        mask = given_mask(drawn)
    except CellError:
        return
    assert_array_equal(mask.cell, CELL)
    if mask.nucleus is not None:
        assert_array_equal(mask.nucleus, NUCLEUS)
    else:
        assert cell == nucleus
