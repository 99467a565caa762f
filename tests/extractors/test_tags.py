"""Tags of features: measured on other cells than those that gave the tags, and used to choose features."""

import math

import numpy as np
import pytest

from extractors.catalogue import FAMILIES
from extractors.tag_list import TAGS, tags_of
from extractors.tags import concordance, concordances, draw
from fusion.config import TrainConfig
from fusion.parts import Block, build_blocks
from fusion.plugins import build_extractor, tags

#: Fresh cells tell a concordance within some 0.05: a tag must hold to this, and one withheld not be beyond doubt.
HOLDS, BEYOND_DOUBT = 0.8, 0.98


@pytest.fixture(scope="module", params=FAMILIES)
def measured(request):
    extractor = build_extractor(request.param)
    return extractor, concordances(extractor, draw(32, seed=11))


def test_tags_hold_on_cells_that_they_were_not_measured_on(measured):
    extractor, found = measured
    listed = tags_of(extractor.name)
    assert list(listed) == extractor.feature_names()
    for tag in TAGS:
        fails = [
            (name, round(float(value), 2))
            for name, value in zip(extractor.feature_names(), found[tag], strict=True)
            if tag in listed[name] and value < HOLDS  # NaN: does not vary among these cells
        ]
        tagged = sum(tag in each for each in listed.values())
        # Of hundreds of estimates a few are unlucky.
        assert len(fails) <= 0.02 * tagged, (tag, fails)


def test_tags_are_not_withheld_from_what_is_free_beyond_doubt(measured):
    extractor, found = measured
    listed = tags_of(extractor.name)
    for tag in TAGS:
        withheld = [
            name
            for name, value in zip(extractor.feature_names(), found[tag], strict=True)
            if tag not in listed[name] and value >= BEYOND_DOUBT
        ]
        assert len(withheld) <= 0.02 * len(listed), (tag, withheld)


def test_what_is_known_by_definition_is_found_by_measuring():
    morphology, colour = tags_of("morphology"), tags_of("colour")
    assert "scale_free" not in morphology["cell_area"]
    assert morphology["cell_eccentricity"] == set(TAGS)
    assert {"stain_free", "rotation_free"} <= morphology["nucleus_cell_area_ratio"]
    assert "stain_free" not in colour["cell_red_mean"]
    assert {"scale_free", "rotation_free"} <= colour["cell_red_mean"]


def test_concordance_is_as_lin_defines_it():
    a, b = np.array([[1.0], [2.0], [4.0], [7.0]]), np.array([[1.5], [2.0], [5.0], [6.0]])
    cov = np.mean((a - a.mean()) * (b - b.mean()))
    by_hand = 2 * cov / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert concordance(a, b)[0] == pytest.approx(by_hand)
    assert concordance(a, a + 10)[0] < 0.1  # a shift is no agreement, however well it correlates
    assert math.isnan(concordance(np.ones((4, 1)), np.ones((4, 1)))[0])


def test_a_tag_is_a_part_of_a_family_and_narrows_another():
    texture = build_extractor("texture")

    def features(*part):
        return Block("texture", texture, part).features

    free = features("stain_free")
    assert 0 < len(free) < len(features())
    assert features("glcm", "stain_free") == [feature for feature in features("glcm") if feature in set(free)]
    assert set(features("stain_free", "rotation_free")) < set(free)


def test_tags_of_a_configuration_narrow_every_handcrafted_block(tmp_path):
    config = TrainConfig(data=tmp_path, output=tmp_path, features=["morphology", "texture.glcm"], tags=["stain_free"])
    assert config.blocks == ["morphology.stain_free", "texture.glcm.stain_free"]
    for block in build_blocks(config):
        free = tags(block.extractor.name)
        assert all("stain_free" in free[feature] for feature in block.features)


def test_an_extractor_without_tags_has_none():
    assert tags("no such family") == {}
