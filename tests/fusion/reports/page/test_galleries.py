"""Galleries of judged cells: which are shown, and that a page can carry them."""

import base64

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusion.data.dataset import Sample
from fusion.images.cell import Cell
from fusion.reports.page.galleries import IMAGES, divide, galleries, thumbnail
from fusion.reports.page.judged_cells import JudgedCell
from tests.builders.cells import irregular_cell
from tests.builders.images import paint, write_image


def cells(label, predicted, probabilities):
    return [
        JudgedCell(f"{label}{predicted}{at}.png", label, "s", 0, predicted, p) for at, p in enumerate(probabilities)
    ]


def test_the_most_surely_wrong_come_first_and_the_right_ones_are_an_even_choice():
    wrong, right = cells("p", "n", [0.45, 0.05, 0.3]), cells("p", "p", np.linspace(0.5, 1, 1001))
    first, second = galleries([*right, *wrong], {})
    assert [tile.cell.probability for tile in first.tiles] == [0.05, 0.3, 0.45]
    assert [first.is_right, second.is_right] == [False, True]
    assert (first.count, second.count) == (3, 1001)
    shown = [tile.cell.probability for tile in second.tiles]
    assert len(shown) == IMAGES - 3
    assert (shown[0], shown[-1]) == (0.5, 1)
    assert np.ptp(np.diff(shown)) < 0.001


@given(st.dictionaries(st.tuples(st.text(), st.text()), st.integers(1, 500), max_size=20), st.integers(0, 300))
def test_room_is_divided_alike_and_never_exceeded(wanted, room):
    found = divide(wanted, room)
    assert found.keys() == wanted.keys()
    assert all(0 <= found[pair] <= wanted[pair] for pair in wanted)
    assert sum(found.values()) <= room
    if sum(wanted.values()) <= room:
        assert found == wanted
    short = [found[pair] for pair in wanted if found[pair] < wanted[pair]]
    assert not short or max(short) - min(short) <= 1
    assert not short or sum(found.values()) == room


def test_a_thumbnail_is_an_image_of_the_crop():
    for cell in (
        irregular_cell(),
        Cell(*(part[:9, :60] for part in (irregular_cell().rgb, np.ones((96, 96), bool), np.zeros((96, 96), bool)))),
    ):
        head, _, content = thumbnail(cell).partition(",")
        assert head == "data:image/jpeg;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (112, 112, 3)
        assert image.any()


def test_an_image_that_has_gone_leaves_its_place(tmp_path):
    (gallery,) = galleries(
        cells("p", "n", [0.1, 0.2, 0.3]),
        {
            "pn0.png": Sample(write_image(tmp_path / "0.png", paint()), "0", "0"),
            "pn1.png": Sample(tmp_path / "gone.png", "1", "1"),
        },
    )
    assert [bool(tile.image) for tile in gallery.tiles] == [True, False, False]
