"""Vacuoles: pale places painted into a cytoplasm are found, and what is pale beside it is not."""

import math

import cv2
import numpy as np
import pytest

from extractors.colour._vacuoles import EDGE, RIM
from extractors.colour.extractor import Colour
from fusion.images.cell import Cell
from tests.builders.cells import measured

COLOUR = Colour()


def painted(vacuoles, tone=(150, 120, 185), paleness=0.2, blur=0.8, noise=6, seed=0, side=220):
    """A round cell with a nucleus and pale discs (y, x, radius), and the share of its inner cytoplasm under them.

    ``paleness`` is the discs' optical density as a part of the cytoplasm's.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    mask, nucleus = np.hypot(y, x) < 0.46 * side, np.hypot(y + 25, x) < 0.22 * side
    holes = np.zeros_like(mask)
    for down, right, radius in vacuoles:
        holes |= np.hypot(y - down, x - right) < radius
    tone = np.array(tone, float)
    rgb = np.where(holes[..., None], 255 * (tone / 255) ** paleness, tone)
    rgb = np.where(nucleus[..., None], (90, 50, 130), rgb)
    rgb = cv2.GaussianBlur(rgb, (0, 0), blur) + np.random.default_rng(seed).normal(0, noise, rgb.shape)
    rgb = np.where(mask[..., None], rgb.clip(1, 255), 0).astype(np.uint8)
    radius = 0.46 * side
    inner = (np.hypot(y, x) < (1 - RIM) * radius) & (np.hypot(y + 25, x) > 0.22 * side + EDGE * radius)
    return Cell(rgb, mask, nucleus), (holes & inner).sum() / inner.sum()


FEW = ((50, 10, 7), (60, -30, 5), (10, 75, 9))
MANY = tuple(
    (70 * math.sin(angle) - 5, 75 * math.cos(angle), 12) for angle in np.radians([-20, 0, 25, 50, 75, 100, 125, 150])
)


@pytest.mark.parametrize("vacuoles", [FEW, MANY, FEW[:1]])
@pytest.mark.parametrize("tone", [(150, 120, 185), (205, 190, 225), (70, 35, 85)])
@pytest.mark.parametrize("noise", [2, 6])
def test_painted_vacuoles_are_found_whatever_the_tone_of_the_cytoplasm(vacuoles, tone, noise):
    cell, share = painted(vacuoles, tone, noise=noise)
    assert measured(COLOUR, cell)["cytoplasm_vacuole_fraction"] == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("noise", [0, 6, 15])
def test_a_cytoplasm_without_holes_has_no_vacuoles(noise):
    for seed in range(5):
        assert measured(COLOUR, painted((), noise=noise, seed=seed)[0])["cytoplasm_vacuole_fraction"] == 0


def test_pale_rims_crescents_and_specks_are_no_vacuoles():
    cell, _ = painted((), noise=2)
    y, x = np.mgrid[:220, :220] - 109.5
    around_nucleus, outer = np.hypot(y + 25, x), np.hypot(y, x)
    specks = (np.random.default_rng(0).random(y.shape) < 0.02)[..., None]
    for region in (
        ((around_nucleus < 56) & (y > 0))[..., None],  # a crescent between nucleus and cytoplasm
        (outer > 96)[..., None],  # a rim at the edge of the cell
        specks,
    ):
        rgb = np.where(region & cell.cytoplasm[..., None], np.uint8([235, 228, 240]), cell.rgb)
        of = measured(COLOUR, Cell(rgb, cell.mask, cell.nucleus))
        assert of["cytoplasm_vacuole_fraction"] == 0


def test_vacuoles_make_the_palest_part_of_the_cytoplasm_paler_by_as_much_as_they_are():
    """The discs have a fifth of the optical density of the cytoplasm around them."""
    even, holes = (measured(COLOUR, painted(where, noise=2)[0]) for where in ((), MANY))
    assert even["cytoplasm_vacuole_paleness"] < 0.1
    assert holes["cytoplasm_vacuole_paleness"] == pytest.approx(0.8, abs=0.06)
