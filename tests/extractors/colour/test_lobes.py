"""Lobes of a nucleus: told by its mask, and by red light where granules cover it."""

import itertools
import math

import cv2
import numpy as np
import pytest

from extractors.colour.extractor import Colour
from fusion.images.cell import Cell
from tests.builders.cells import measured, solid_cell

COLOUR = Colour()


def painted_nucleus(lobes, granules, side=160):
    """A cell whose nucleus is discs (y, x, radius) of chromatin on a bed of granules, which let red light pass.

    The mask of the nucleus is what a person would draw who cannot tell the two: all that is dark.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask, bed = np.hypot(y, x) < 0.46 * side, np.hypot(y, x) < 0.36 * side
    chromatin = np.any([np.hypot(y - down, x - right) < radius for down, right, radius in lobes], axis=0)
    rgb = np.full((side, side, 3), (215, 200, 225), float)
    rgb[bed] = granules
    rgb[chromatin] = (70, 40, 120)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 1) + np.random.default_rng(0).normal(0, 4, rgb.shape)
    return Cell(np.where(mask[..., None], rgb.clip(1, 255), 0).astype(np.uint8), mask, bed)


ONE = ((0, 0, 62),)
THREE = ((-28, -20, 26), (-24, 28, 24), (30, 0, 26))


def test_lobes_are_told_apart_under_granules_that_let_red_light_pass():
    one, three = (painted_nucleus(lobes, granules=(160, 40, 120)) for lobes in (ONE, THREE))
    assert measured(COLOUR, one)["nucleus_lobe_clefts"] == 0
    drawn = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 0.85 * 0.36 * 160  # all but the rim
    y, x = np.mgrid[:160, :160] - 79.5
    gaps = drawn & ~np.any([np.hypot(y - down, x - right) < radius for down, right, radius in THREE], axis=0)
    assert measured(COLOUR, three)["nucleus_lobe_clefts"] == pytest.approx(gaps.sum() / drawn.sum(), rel=0.2)


def test_clefts_need_no_more_than_tones():
    """A nucleus that takes red light evenly has none, however deep its stain; nor has one of three pixels."""
    for tone in ((70, 40, 120), (30, 20, 90), (140, 90, 170)):
        assert measured(COLOUR, painted_nucleus((), granules=tone))["nucleus_lobe_clefts"] == 0
    assert measured(COLOUR, solid_cell(np.ones((3, 3)), np.eye(3)))["nucleus_lobe_clefts"] == 0


# ---- the number of lobes


def nucleus_of(mask):
    """The features of a nucleus in a cell that is larger all round and of one tone: the mask alone parts lobes."""
    return measured(COLOUR, solid_cell(np.ones(np.add(mask.shape, 8), bool), np.pad(mask, 4)))


def discs(centres, radius, bridge=0, side=160):
    """Discs in a row of centres (x, y), joined by bridges so wide."""
    drawn_discs = np.zeros((side, side), np.uint8)
    for centre in centres:
        cv2.circle(drawn_discs, centre, radius, 1, -1)
    for start, end in itertools.pairwise(centres):
        if bridge:
            cv2.line(drawn_discs, start, end, 1, bridge)
    return drawn_discs > 0


@pytest.mark.parametrize("bridge", [0, 5, 15])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_segments_are_lobes_apart_or_on_bridges(number, bridge):
    centres = [(30, 30), (90, 30), (130, 80), (90, 130)][:number]
    of = nucleus_of(discs(centres, 20, bridge))
    assert of["nucleus_lobes"] == number
    assert of["nucleus_lobe_constriction"] == pytest.approx((number - 1) * (1 - bridge / 41), abs=0.1 * number)


def test_round_oval_and_indented_nuclei_have_one_lobe():
    y, x = np.mgrid[:160, :160] - 79.5
    disc, oval = np.hypot(x, y) < 50, np.hypot(x, 1.8 * y) < 60
    indented = disc & (np.hypot(x - 60, y) > 30)
    for mask in (disc, oval, indented):
        assert nucleus_of(mask)["nucleus_lobes"] == 1


def test_bays_of_grains_make_no_lobes():
    y, x = np.mgrid[:160, :160] - 79.5
    ragged = np.hypot(x, y) < 50 + 6 * (np.cos(40 * np.arctan2(y, x)) > 0)
    assert nucleus_of(ragged)["nucleus_lobes"] == 1


def test_lobes_under_granules_are_counted_where_the_mask_shows_one_disc():
    one, three = (measured(COLOUR, painted_nucleus(lobes, granules=(160, 40, 120))) for lobes in (ONE, THREE))
    assert one["nucleus_lobes"] == 1
    assert three["nucleus_lobes"] == 3
    assert three["nucleus_lobe_constriction"] > 1.2


def test_an_empty_nucleus_has_no_lobes():
    of = measured(COLOUR, solid_cell(np.ones((9, 9))))
    assert of["nucleus_lobes"] == 0
    assert math.isnan(of["nucleus_lobe_constriction"])
    assert math.isnan(of["nucleus_lobe_clefts"])
