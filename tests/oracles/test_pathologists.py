"""Named features rank cells as pathologists do: attributes of WBCAtt (Tsutsui et al., NeurIPS 2023)."""

import numpy as np
import pytest

from benchmarks.pathologists import ASKED, attributes_of, auroc, features_of, within_types
from tests.builders.images import real_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cells():
    """Attributes and features of the half that was not looked at while features were built."""
    table = real_data("pbc-barcelona") / "labels.csv"
    rows = attributes_of(table, other_half=True)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}, features_of(table, rows)


#: Attribute, what it is against what, the feature, and an AUROC below the lower end of what docs/agreement.md says.
HELD = [
    ("nucleus_shape", "segmented-multilobed", "unsegmented-round", "nucleus_lobe_clefts", 0.96),
    ("nucleus_shape", "segmented-multilobed", "unsegmented-round", "nucleus_lobes", 0.84),
    ("nucleus_shape", "segmented-multilobed", "unsegmented-round", "nucleus_lobe_constriction", 0.90),
    ("cytoplasm_vacuole", "yes", "no", "cytoplasm_vacuole_paleness", 0.80),
    ("cytoplasm_vacuole", "yes", "no", "cytoplasm_vacuole_fraction", 0.83),
    ("granularity", "yes", "no", "cytoplasm_granule_share", 0.95),
    ("nuclear_cytoplasmic_ratio", "high", "low", "nucleus_cell_area_ratio", 0.88),
    ("chromatin_density", "densely", "loosely", "nucleus_chromatin_density", 0.88),
    ("chromatin_density", "densely", "loosely", "nucleus_chromatin_density_of_palest_half", 0.87),
    ("granule_type", "round", "small", "cytoplasm_granule_redness", 0.95),
    ("granule_type", "round", "coarse", "cytoplasm_granule_redness", 0.95),
]


SHAPES = ("unsegmented-round", "unsegmented-indented", "segmented-bilobed", "segmented-multilobed")


@pytest.mark.parametrize(
    ("attribute", "high", "low", "feature", "least"), HELD, ids=[f"{line[3]}-{line[2]}" for line in HELD]
)
def test_a_named_feature_ranks_cells_as_pathologists_do(cells, attribute, high, low, feature, least):
    attributes, values = cells
    known = np.isin(attributes[attribute], (high, low)) & ~np.isnan(values[feature])
    assert auroc(attributes[attribute][known] == high, values[feature][known]) > least


def test_the_share_of_the_nucleus_is_told_within_types_too(cells):
    attributes, values = cells
    value, found = within_types(
        attributes["nuclear_cytoplasmic_ratio"] == "high", values["nucleus_cell_area_ratio"], attributes["label"]
    )
    assert set(found) == {"lymphocyte", "monocyte"}
    assert value > 0.8


def test_the_number_of_lobes_is_one_of_round_nuclei_and_more_of_lobed_ones(cells):
    attributes, values = cells
    lobes = [values["nucleus_lobes"][attributes["nucleus_shape"] == shape] for shape in SHAPES]
    one, few, two, three = (float(number.mean()) for number in lobes)
    assert one < 1.15
    assert few < 1.5
    assert 1.8 < two < 2.7
    assert 2.5 < three < 4


def test_every_attribute_has_a_line():
    """Of the columns of attributes that pathologists filled."""
    table = real_data("pbc-barcelona") / "labels.csv"
    (*_, row) = attributes_of(table, other_half=True)
    assert {asked.attribute for asked in ASKED} == set(row) - {"path", "label", "source", "code"}
