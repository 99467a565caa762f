"""White cells that touch: the one in the middle is taken, and lobes of one nucleus stay in one cell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion.images.segmentation._touching_cells import part_in_the_middle
from fusion.images.segmentation.segment import segment_cell, segment_nucleus
from tests.fusion.images.segmentation.test_segment import CYTOPLASM, NUCLEUS, blurred, dice, disc

SHAPE = (240, 240)


def discs(*cells):
    """bool: the union of discs, each (x, y, radius)."""
    return np.any([disc(SHAPE, (x, y), radius) for x, y, radius in cells], axis=0)


def smear(*cells):
    """White cells on a slide, each (x, y, radius, radius of its nucleus): rgb."""
    rgb = np.full((*SHAPE, 3), 245, np.uint8)
    for x, y, radius, _ in cells:
        rgb[disc(SHAPE, (x, y), radius)] = CYTOPLASM
    for x, y, _, radius in cells:
        rgb[disc(SHAPE, (x, y), radius)] = NUCLEUS
    return blurred(rgb)


@pytest.mark.parametrize("share", [0.55, 0.75, 0.92], ids=["wide cytoplasm", "thin cytoplasm", "hardly any"])
@pytest.mark.parametrize("turn", [0, 40, 90, 200])
def test_of_two_cells_that_touch_the_one_in_the_middle_is_taken(turn, share):
    direction = np.array([np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))])
    x, y = np.round(120 + 60 * direction).astype(int)
    rgb = smear((120, 120, 32, round(32 * share)), (x, y, 32, round(32 * share)))
    found, cell = segment_cell(rgb), disc(SHAPE, (120, 120), 32)
    assert dice(found, cell) > 0.95
    assert dice(segment_nucleus(rgb, found), disc(SHAPE, (120, 120), round(32 * share))) > 0.95


def test_of_a_row_of_cells_the_one_in_the_middle_is_taken():
    rgb = smear(*[(x, 120, 26, 20) for x in (26, 73, 120, 167, 214)])
    # Measured: 0.88, with a little of the slide above and below, where no neighbour is.
    assert dice(segment_cell(rgb), disc(SHAPE, (120, 120), 26)) > 0.85


def test_a_larger_neighbour_is_not_taken_for_the_cell_in_the_middle():
    rgb = smear((112, 120, 24, 18), (173, 120, 40, 30))
    found = segment_cell(rgb)
    # Measured: 0.81. Cytoplasm of a colour that the larger one has too is left out.
    assert dice(found, disc(SHAPE, (112, 120), 24)) > 0.78
    assert not (found & disc(SHAPE, (173, 120), 36)).any()


@pytest.mark.parametrize("waist", [8, 16, 24])
def test_cells_are_parted_at_their_neck(waist):
    apart = 2 * np.sqrt(32**2 - waist**2)
    cells = discs((100, 120, 32), (round(100 + apart), 120, 32))
    part = part_in_the_middle(cells, cells)
    assert dice(part, disc(SHAPE, (100, 120), 32)) > 0.95 - 0.001 * waist


def test_cells_whose_bays_are_filled_are_parted_by_their_nuclei():
    """As where a red cell lies between them: one contour without a bay, and two nuclei too wide for one cell."""
    cell = np.zeros(SHAPE, np.uint8)
    cv2.fillConvexPoly(cell, cv2.convexHull(np.argwhere(discs((100, 120, 32), (160, 120, 32)))[:, ::-1].copy()), [1])
    nuclei = discs((100, 120, 24), (160, 120, 24))
    part = part_in_the_middle(cell > 0, nuclei)
    assert part[disc(SHAPE, (100, 120), 24)].all()
    assert not part[disc(SHAPE, (160, 120), 24)].any()


@pytest.mark.parametrize("lobes", [2, 3, 5])
def test_lobes_of_one_nucleus_are_not_taken_for_cells(lobes):
    angles = 2 * np.pi * np.arange(lobes) / lobes
    # The widest that fit side by side into a disc with a rim of a tenth around them.
    radius = 0.9 * 48 / (1 + 1 / np.sin(np.pi / lobes))
    nucleus = discs(
        *[(round(120 + (43 - radius) * np.cos(a)), round(120 + (43 - radius) * np.sin(a)), int(radius)) for a in angles]
    )
    assert part_in_the_middle(disc(SHAPE, (120, 120), 48), nucleus) is None


def test_a_stretched_cell_whose_nucleus_runs_through_its_waist_stays_whole():
    cell, places = discs((100, 120, 32), (128, 120, 32)), np.linspace(95, 133, 20)
    assert part_in_the_middle(cell, discs(*[(round(x), 120, 18) for x in places])) is None
    # Two nuclei, or halves that are mostly nucleus, are of two cells; so is what a wide nucleus hardly reaches into.
    assert part_in_the_middle(cell, discs((94, 120, 16), (134, 120, 16))) is not None
    assert part_in_the_middle(cell, discs((100, 120, 29), (128, 120, 29))) is not None
    assert part_in_the_middle(cell, disc(SHAPE, (95, 120), 21)) is not None


@pytest.mark.parametrize("cells", [3, 4, 5])
def test_cells_in_a_ring_whose_bays_are_filled_are_parted_by_their_nuclei(cells):
    angles = 2 * np.pi * np.arange(cells) / cells
    ring = 23 / np.sin(np.pi / cells)
    places = [(round(120 + ring * np.cos(angle)), round(120 + ring * np.sin(angle))) for angle in angles]
    contour = np.zeros(SHAPE, np.uint8)
    cv2.fillConvexPoly(contour, cv2.convexHull(np.argwhere(discs(*[(*place, 23) for place in places]))[:, ::-1]), [1])
    part = part_in_the_middle(contour > 0, discs(*[(*place, 21) for place in places]))
    found = [part[disc(SHAPE, place, 18)] for place in places]
    assert [inside.all() for inside in found].count(True) == 1
    assert [inside.any() for inside in found].count(True) == 1


def test_what_has_no_nucleus_is_not_the_cell_in_the_middle():
    cells = discs((120, 120, 32), (180, 120, 32))
    part = part_in_the_middle(cells, disc(SHAPE, (180, 120), 20))
    assert dice(part, disc(SHAPE, (180, 120), 32)) > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (5, 40)])
def test_without_a_cell_there_is_no_part(shape):
    nothing = np.zeros(shape, bool)
    assert part_in_the_middle(nothing, nothing) is None
    assert part_in_the_middle(~nothing, nothing) is None
