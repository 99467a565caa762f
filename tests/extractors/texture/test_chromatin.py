"""Chromatin: of nuclei painted by hand, and of synthetic cells whose nucleoli and grain are known."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from extractors.texture._chromatin import STATISTICS, chromatin_statistics
from fusion.synthetic.cells import SyntheticDesign, draw_cell, draw_subjects
from fusion.synthetic.rendering import paint_cell

NAMES = [statistic.__name__ for statistic in STATISTICS]
SIDE = 141


def disc(radius, middle=(SIDE // 2, SIDE // 2), side=SIDE):
    y, x = np.mgrid[:side, :side]
    return np.hypot(y - middle[0], x - middle[1]) <= radius


def of(density, nucleus):
    """Name to value, for a nucleus of this optical density."""
    green = np.rint(255 * np.exp(-np.broadcast_to(density, nucleus.shape))).astype(np.uint8)
    rgb = np.where(nucleus[..., None], np.repeat(green[..., None], 3, axis=2), np.uint8(0))
    return dict(zip(NAMES, chromatin_statistics(rgb, nucleus), strict=True))


NUCLEUS = disc(60)
KEPT = disc(57.5)  # about what is left without the rim


def test_an_even_nucleus_has_density_and_nothing_else():
    found = of(1.0, NUCLEUS)
    assert found["density"] == found["density_of_palest_half"] == pytest.approx(1, abs=0.01)
    assert found["integrated_density"] == pytest.approx(KEPT.sum(), rel=0.03)
    assert found["heterogeneity"] == found["displacement"] == 0
    assert found["margination"] == pytest.approx(0, abs=1e-12)
    assert found["condensed_share"] == found["clump_count"] == found["spot_count"] == found["spot_area"] == 0
    assert found["spot_contrast"] == pytest.approx(0, abs=1e-12)
    for name in ("skewness", "condensed_contrast", "clump_area", "depth_correlation", "correlation_length"):
        assert math.isnan(found[name]), name


def test_two_tones_are_told_apart():
    dense = disc(20, (50, 70)) | disc(15, (95, 70))
    found = of(np.where(dense, 1.5, 1.0), NUCLEUS)
    share = dense.sum() / KEPT.sum()
    assert found["condensed_share"] == pytest.approx(share, rel=0.03)
    mean = 1 + 0.5 * share
    assert found["density"] == pytest.approx(mean, rel=0.01)
    assert found["density_of_palest_half"] == pytest.approx(1, abs=0.01)  # less than half is dense
    assert found["condensed_contrast"] == pytest.approx(0.5 / mean, rel=0.02)
    assert found["heterogeneity"] == pytest.approx(0.5 * math.sqrt(share * (1 - share)) / mean, rel=0.02)
    assert found["skewness"] == pytest.approx((1 - 2 * share) / math.sqrt(share * (1 - share)), rel=0.03)
    assert found["condensed_separability"] == pytest.approx(1)
    assert found["clump_count"] == 2
    assert found["clump_area"] == pytest.approx(share / 2, rel=0.1)


def test_the_palest_half_is_half_of_the_pixels():
    """Three quarters are dense: half of what is palest is dense too."""
    pale = np.arange(SIDE) % 4 == 0
    found = of(np.where(pale, 0.5, 1.5)[None, :].repeat(SIDE, axis=0), NUCLEUS)
    assert found["density_of_palest_half"] == pytest.approx(1.0, abs=0.02)


def test_dark_chromatin_at_the_rim_is_margination_and_in_the_middle_its_opposite():
    rim, core = NUCLEUS & ~disc(50), disc(20)
    at_rim, in_core = of(np.where(rim, 1.3, 1.0), NUCLEUS), of(np.where(core, 1.3, 1.0), NUCLEUS)
    assert at_rim["margination"] > 0.15
    assert in_core["margination"] < -0.1
    assert at_rim["condensed_at_rim"] > 2
    assert in_core["condensed_at_rim"] == 0
    assert at_rim["depth_correlation"] < -0.6
    assert in_core["depth_correlation"] > 0.6


def test_stain_on_one_side_moves_its_centre():
    """Density 1 + a x / R over a disc of radius R has its centre of mass at a R / 4."""
    x = (np.arange(SIDE) - SIDE // 2) / 57.5
    assert of(1 + 0.4 * x, NUCLEUS)["displacement"] == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("number", range(5))
def test_pale_spots_are_counted(number):
    density = np.ones(NUCLEUS.shape)
    for at in range(number):
        turn = 2 * np.pi * at / max(number, 1)
        density[disc(8, (SIDE // 2 + 30 * math.sin(turn), SIDE // 2 + 30 * math.cos(turn)))] = 0.7
    found = of(density, NUCLEUS)
    assert found["spot_count"] == number
    assert (found["spot_area"] > 0) == (number > 0)
    if number:
        assert found["spot_contrast"] == pytest.approx(1 - 0.7 / found["density"], abs=0.02)


def test_faint_and_dark_spots_and_stain_do_not_matter_to_the_count():
    pale, dark = disc(8, (50, 70)), disc(8, (90, 70))
    density = np.where(pale, 0.75, np.where(dark, 1.3, 1.0))
    assert of(density, NUCLEUS)["spot_count"] == of(1.8 * density, NUCLEUS)["spot_count"] == 1
    assert of(np.where(pale, 0.95, 1.0), NUCLEUS)["spot_count"] == 0


def test_a_nucleus_of_nothing_but_rim_has_no_chromatin():
    for nucleus in (np.zeros((20, 20), bool), disc(1.5, (10, 10), 20)):
        assert all(math.isnan(value) for value in of(1.0, nucleus).values())


# ---- synthetic cells, with the nucleus that was painted -------------------------------------------------------------


@pytest.fixture(scope="module")
def painted():
    """Traits, what was painted, and what is measured of 60 cells."""
    design = SyntheticDesign(subjects=6, cells_per_subject=10, seed=7)
    rngs = (
        (subject, np.random.default_rng([subject.index, at])) for subject in draw_subjects(design) for at in range(10)
    )
    traits = [(draw_cell(design, subject, rng), rng) for subject, rng in rngs]
    cells = [paint_cell(each, rng) for each, rng in traits]
    values = np.array([chromatin_statistics(cell.rgb, cell.nucleus) for cell in cells])
    return [each for each, _ in traits], cells, dict(zip(NAMES, values.T, strict=True))


def test_the_grain_is_recovered_from_the_pixels(painted):
    _, cells, found = painted
    truth = np.array([cell.texture_scale_px for cell in cells])
    assert np.median(np.abs(found["correlation_length"] / truth - 1)) < 0.02
    assert np.corrcoef(found["correlation_length"], truth)[0, 1] > 0.98


def test_the_count_of_pale_spots_follows_the_nucleoli(painted):
    traits, _, found = painted
    truth = [each.nucleoli for each in traits]
    assert len(set(truth)) >= 4
    assert spearmanr(found["spot_count"], truth).statistic > 0.6
    assert spearmanr(found["spot_contrast"], truth).statistic > 0.6
    assert abs(found["spot_count"].mean() - np.mean(truth)) < 0.25


def test_heterogeneity_follows_the_contrast_of_the_chromatin(painted):
    traits, _, found = painted
    without = np.array([each.nucleoli == 0 for each in traits])  # they make it uneven too
    contrast = np.array([each.chromatin_contrast for each in traits])
    assert spearmanr(found["heterogeneity"][without], contrast[without]).statistic > 0.9
