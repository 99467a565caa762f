"""The page of features: made from the code, and with something to say about every feature."""

from pathlib import Path

import pytest

from extractors.catalogue import FAMILIES, page
from extractors.colour.extractor import Colour
from extractors.feature_descriptions import Description, described
from extractors.morphology.extractor import Morphology
from extractors.texture.extractor import Texture
from fusion.plugins.registry import build_extractor

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m extractors.catalogue > docs/features.md"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_feature_is_defined_in_the_order_of_its_name(family):
    extractor = build_extractor(family)
    descriptions = extractor.describe()
    assert [each.name for each in descriptions] == extractor.feature_names()
    text = page()
    for each in descriptions:
        assert len(each.definition.split()) >= 3, each
        assert f"`{each.name}`" in text


def test_every_feature_of_colour_names_its_unit_and_source():
    for each in Colour().describe():
        assert each.unit, each.name
        assert each.source, each.name


def test_a_docstring_is_taken_apart():
    def kurtosis():
        """m4 / m2**2 - 3, 0 for a normal distribution.  Unit: none.  Range: -2 up.  NaN for a constant region.

        What pandas gives is another estimate. NaN also for one value, see above.
        Source: IBSI IPH6; Joanes and Gill (1998), The Statistician 47(1):183-189.
        """

    assert described(kurtosis, "cell_kurtosis") == Description(
        "cell_kurtosis",
        "m4 / m2**2 - 3, 0 for a normal distribution. NaN for a constant region. NaN also for one value, see above.",
        "none",
        "-2 up",
        "IBSI IPH6; Joanes and Gill (1998), The Statistician 47(1):183-189",
    )


def test_features_without_words_of_their_own_are_described_by_the_function_in_their_name():
    of = {each.name: each for extractor in (Morphology(), Texture()) for each in extractor.describe()}
    assert of["nucleus_convex_area"].source.startswith("Pick (1899)")  # not that of area
    assert of["cell_glcm_sum_entropy_d1_mean"].source == "Haralick f8; IBSI P6QZ"  # not that of entropy
    assert of["cell_glcm_sum_entropy_d1_mean"].unit == "bits"


def test_a_feature_that_no_function_is_named_after_is_an_error():
    class Nameless(Morphology):
        def feature_names(self):
            return ["cell_area", "cell_wit"]

    Nameless.__module__ = Morphology.__module__
    with pytest.raises(LookupError, match="cell_wit"):
        Nameless().describe()
