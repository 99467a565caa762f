"""Parts of families as blocks of their own."""

import json

import pytest
from numpy.testing import assert_array_equal

from extractors.morphology import Morphology
from extractors.texture import METHODS, Texture
from fusion.bundle import MANIFEST
from fusion.datasets import load_dataset
from fusion.errors import UsageError
from fusion.extraction import extract
from fusion.parts import columns_of, families, regrouped, source
from fusion.store import FeatureStore
from tests.builders import assert_refused, fusion


@pytest.fixture(scope="module")
def table(synthetic, tmp_path_factory):
    dataset = load_dataset(synthetic).select(folds=["0"])
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    return extract(dataset, [Morphology(), Texture()], store, jobs=1).table


TEXTURE = [f"texture.{name}" for name in Texture().feature_names()]


def test_families_of_parts_are_named_once():
    assert families(["texture.glcm", "colour", "texture.lbp"]) == ["texture", "colour"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_part_and_has_what_the_method_gives(method):
    assert columns_of(f"texture.{method}", TEXTURE) == [
        f"texture.{name}" for name in Texture(methods=(method,)).feature_names()
    ]


def test_a_region_is_a_part_and_a_region_with_a_method():
    nucleus = columns_of("texture.nucleus", TEXTURE)
    assert nucleus == [column for column in TEXTURE if column.startswith("texture.nucleus_")]
    assert set(columns_of("texture.nucleus_glcm", TEXTURE)) == set(nucleus) & set(columns_of("texture.glcm", TEXTURE))
    morphology = [f"morphology.{name}" for name in Morphology().feature_names()]
    assert len(columns_of("morphology.zernike", morphology)) == 2 * 23


def test_words_count_whole():
    assert columns_of("texture.tam", TEXTURE) == []
    assert columns_of("text", TEXTURE) == []
    assert columns_of("texture", TEXTURE) == TEXTURE


def test_a_table_is_regrouped_and_its_columns_know_where_they_come_from(table):
    blocks = ["texture.lbp", "morphology", "texture.glcm"]
    found = regrouped(table, blocks)
    assert list(found.blocks) == blocks
    at = {column: number for number, column in enumerate(table.columns)}
    assert_array_equal(found.X, table.X[:, [at[source(column)] for column in found.columns]])
    assert regrouped(table, list(table.blocks)) is table
    assert regrouped(table, []) is table


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        (["texture.wavelet"], "block 'texture.wavelet' has no features"),
        (["texture.glcm", "texture.nucleus"], "blocks 'texture.glcm' and 'texture.nucleus' share 132 features"),
        (["texture", "texture.glcm"], "share 264 features"),
    ],
)
def test_parts_without_features_or_with_shared_ones_are_refused(table, blocks, told):
    with pytest.raises(UsageError, match=told):
        regrouped(table, blocks)


def test_a_model_of_parts_is_trained_stored_and_asked(synthetic, tmp_path):
    model = tmp_path / "model"
    words = ("--features", "texture.glcm,morphology.nucleus", "--classifier", "logreg", "-o", model)
    trained = fusion("train", synthetic, *words)
    assert trained.exit_code == 0, trained.stderr
    manifest = json.loads((model / MANIFEST).read_text())
    assert {column.rpartition(".")[0] for column in manifest["columns"]} == {"texture.glcm", "morphology.nucleus"}
    picture = next(synthetic.rglob("*.bmp"))
    asked = fusion("predict", model, picture, "--json")
    assert asked.exit_code == 0, asked.stderr
    (row,) = json.loads(asked.stdout)["predictions"]
    assert abs(sum(row["probability"].values()) - 1) < 1e-9


def test_parts_are_compared(synthetic, tmp_path):
    out = tmp_path / "result"
    words = ("--features", "texture.lbp,texture.glcm,morphology", "--classifiers", "logreg", "--subsets", "alone")
    assert fusion("ablate", synthetic, *words, "--set", "bootstrap=100", "-o", out).exit_code == 0
    found = json.loads((out / "result.json").read_text())
    assert {tuple(entry["features"]) for entry in found["results"]} == {
        ("texture.lbp",), ("texture.glcm",), ("morphology",)
    }  # fmt: skip


def test_parts_are_not_extracted_by_themselves(synthetic):
    assert_refused(fusion("extract", synthetic, "--features", "texture.glcm"), 2, "texture.glcm", "whole")


def test_a_part_that_is_none_is_wrong_use(synthetic, tmp_path):
    words = ("--features", "texture.wavelet", "-o", tmp_path / "r")
    assert_refused(fusion("ablate", synthetic, *words), 2, "texture.wavelet")
