"""Blocks: named instances of extractors, several of one family in a run, and parts of them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from extractors.cnn.extractor import Embedding
from extractors.morphology.extractor import Morphology
from extractors.texture.extractor import METHODS, Texture
from fusion.bundles.bundle_files import BundleError
from fusion.bundles.model_bundle import MANIFEST, load_model
from fusion.data.dataset import load_dataset
from fusion.errors import ConfigError, UsageError
from fusion.features.blocks import Block, agreed_columns, blocks_of, build_blocks, extract_blocks, instances, measure
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.provenance import trained_on
from fusion.learning.study import Study
from fusion.settings.commands import AblateConfig, ExtractConfig, TrainConfig
from fusion.settings.loading import build_config
from fusion.workflows.ablate import ablate
from fusion.workflows.train import train
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import ROOT, write_image

TEXTURE = Texture().feature_names()

#: Two textures by other parameters, and their features when they stand alone.
COARSE, FINE = {"methods": ["lbp"]}, {"methods": ["lbp", "glcm"]}


def test_what_agrees_with_people_is_known_of_a_family_of_its_parts_and_of_no_network():
    """docs/agreement.md names them; a part counts its own columns."""
    built = {"texture": Texture(), "morphology": Morphology(), "cnn": Embedding(weights="random")}
    blocks = blocks_of(["texture", "texture.chromatin", "morphology", "morphology.zernike", "cnn"], built)
    found = agreed_columns(blocks, [block.name for block in blocks])
    named = {block.name: [block.features[at] for at in found.get(block.name, ())] for block in blocks}
    dense = ["nucleus_chromatin_density", "nucleus_chromatin_density_of_palest_half"]
    assert named["texture"] == named["texture.chromatin"] == dense
    assert named["morphology"] == ["nucleus_cell_area_ratio"]
    assert not named["morphology.zernike"]
    assert not named["cnn"]
    assert agreed_columns(blocks, ["texture"]) == {"texture": found["texture"]}


def parts(name):
    """Features of a block of this name, out of texture."""
    (block,) = blocks_of([name], {"texture": Texture()})
    return block.features


def built(features, **settings):
    return build_blocks(ExtractConfig(data="cells", features=features, extractors=settings))


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_a_family_is_measured_once_for_all_its_parts():
    blocks = built(["texture.glcm", "colour", "texture.lbp"])
    assert [block.name for block in blocks] == ["texture.glcm", "colour", "texture.lbp"]
    assert list(instances(blocks)) == ["texture", "colour"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_part_and_has_what_the_method_gives(method):
    assert parts(f"texture.{method}") == Texture(methods=(method,)).feature_names()


def test_a_region_is_a_part_and_a_region_with_a_method():
    nucleus = parts("texture.nucleus")
    assert nucleus == [feature for feature in TEXTURE if feature.startswith("nucleus_")]
    assert set(parts("texture.nucleus_glcm")) == set(nucleus) & set(parts("texture.glcm"))
    assert len(Block("morphology.zernike", Morphology(), ("zernike",)).features) == 2 * 23


def test_words_count_whole():
    assert parts("texture.tam") == []
    assert parts("texture") == TEXTURE
    with pytest.raises(UsageError, match="block 'text' is measured by nothing"):
        parts("text")


def test_a_table_has_the_chosen_blocks_in_their_order(synthetic, synthetic_store):
    dataset, store = load_dataset(synthetic).select(folds=["0"]), FeatureStore(synthetic_store)
    names = ["texture.lbp", "morphology", "texture.glcm"]
    found = measure(dataset, built(names), store, jobs=1).table
    assert list(found.blocks) == names
    whole = measure(dataset, built(["morphology", "texture"]), store, jobs=1).table
    at = {column: number for number, column in enumerate(whole.columns)}
    sources = [f"{name.partition('.')[0]}.{name.rpartition('.')[2]}" for name in found.columns]
    assert_array_equal(found.X, whole.X[:, [at[source] for source in sources]])


def test_without_blocks_a_table_tells_who_the_cells_are(class_folders, tmp_path):
    dataset = load_dataset(class_folders)
    found = measure(dataset, [], FeatureStore(tmp_path))
    assert found.table.X.shape == (6, 0)
    assert found.table.names == tuple(dataset.names)
    assert_array_equal(found.complete, np.arange(6))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["texture.wavelet"], "block 'texture.wavelet' has no features"),
        (["texture.glcm", "texture.nucleus"], "blocks 'texture.glcm' and 'texture.nucleus' share 132 features"),
        (["texture", "texture.glcm"], "share 264 features"),
        (["cnn.b3"], "block 'cnn.b3' has no features"),
    ],
)
def test_parts_without_features_or_with_shared_ones_are_refused(blocks, message):
    with pytest.raises(UsageError, match=message):
        built(blocks)


def test_a_model_of_parts_is_trained_stored_and_asked(synthetic, tmp_path):
    model = tmp_path / "model"
    words = ("--features", "texture.glcm,morphology.nucleus", "--classifier", "logreg", "-o", model)
    trained = fusion("train", synthetic, *words)
    assert trained.exit_code == 0, trained.stderr
    manifest = json.loads((model / MANIFEST).read_text())
    assert {column.rpartition(".")[0] for column in manifest["columns"]} == {"texture.glcm", "morphology.nucleus"}
    image = next(synthetic.rglob("*.bmp"))
    asked = fusion("predict", model, image, "--json")
    assert asked.exit_code == 0, asked.stderr
    (row,) = json.loads(asked.stdout)["predictions"]
    assert abs(sum(row["probability"].values()) - 1) < 1e-9


def test_parts_are_compared(synthetic, tmp_path):
    out = tmp_path / "result"
    words = ("--features", "texture.lbp,texture.glcm,morphology", "--classifiers", "logreg", "--subsets", "alone")
    assert fusion("ablate", synthetic, *words, "-o", out).exit_code == 0
    found = json.loads((out / "result.json").read_text())
    assert {tuple(entry["features"]) for entry in found["results"]} == {
        ("texture.lbp",),
        ("texture.glcm",),
        ("morphology",),
    }


def test_parts_are_not_extracted_by_themselves(synthetic):
    assert_refused(fusion("extract", synthetic, "--features", "texture.glcm"), 2, "texture.glcm", "whole")


def test_a_part_that_is_none_is_wrong_use(synthetic, tmp_path):
    words = ("--features", "texture.wavelet", "-o", tmp_path / "r")
    assert_refused(fusion("ablate", synthetic, *words), 2, "texture.wavelet")


# ---- instances: what may be asked for --------------------------------------------------------------------------------


def test_a_family_stands_beside_instances_of_it_and_parts_of_both():
    settings = {"texture.coarse": COARSE, "texture.fine": FINE}
    blocks = built(["texture.glcm", "texture.coarse", "texture.fine.glcm", "texture.fine.lbp"], **settings)
    assert [block.instance for block in blocks] == ["texture", "texture.coarse", "texture.fine", "texture.fine"]
    whole, coarse, glcm, lbp = blocks
    assert whole.features == glcm.features == Texture(methods=("glcm",)).feature_names()
    assert coarse.features == lbp.features == Texture(methods=("lbp",)).feature_names()
    assert glcm.columns[0] == f"texture.fine.glcm.{glcm.features[0]}"
    assert blocks[2].extractor == Texture(methods=("lbp", "glcm"))


def test_input_reaches_every_network_that_has_a_name():
    given = {"data": "d", "output": "o", "input": "field", "features": "cnn.a,cnn.b"}
    settings = ["extractors.cnn.a.backbone=test_efficientnet", "extractors.cnn.b.weights=random"]
    config = build_config(TrainConfig, settings=settings, options=given)
    assert config.extractors == {"cnn.a": {"backbone": "test_efficientnet"}, "cnn.b": {"weights": "random"}}
    assert [block.extractor.input for block in build_blocks(config)] == ["field", "field"]
    with pytest.raises(ConfigError, match=r"--input and extractors\.cnn\.a\.input disagree"):
        build_blocks(build_config(TrainConfig, settings=[*settings, "extractors.cnn.a.input=cell"], options=given))


def test_weights_and_backbone_reach_every_block_with_a_network():
    given = {"data": "d", "features": ["texture", "cnn", "cnn.a"], "extractors": {"cnn.a": {"seed": 1}}}
    config = ExtractConfig(**given, weights="random", backbone="test_efficientnet")
    _, one, other = (block.extractor for block in build_blocks(config))
    assert (one.weights, one.backbone) == (other.weights, other.backbone) == ("random", "test_efficientnet")
    with pytest.raises(ConfigError, match=r"--weights and extractors\.cnn\.a\.weights disagree"):
        build_blocks(ExtractConfig(**(given | {"extractors": {"cnn.a": {"weights": "pretrained"}}}), weights="random"))
    with pytest.raises(UsageError, match="--backbone is of a network"):
        build_blocks(ExtractConfig(data="d", features=["texture"], backbone="test_efficientnet"))


def test_weights_add_the_blocks_that_have_them_to_the_usual_ones():
    assert ExtractConfig(data="d", weights="random").blocks == ["morphology", "texture", "colour", "cnn"]


def test_networks_that_have_settings_are_among_the_features_by_default():
    config = ExtractConfig(data="d", extractors={"cnn.a": {}, "cnn.b": {"weights": "random"}})
    assert config.blocks == ["morphology", "texture", "colour", "cnn.a", "cnn.b"]


@pytest.mark.parametrize(
    ("features", "settings", "message"),
    [
        (["texture"], {"texture.fine": FINE}, "settings for texture.fine, which is not among the features"),
        (["texture.a b"], {"texture.a b": FINE}, "a block's own name has a sign that it cannot have"),
        (["texture.a.b"], {"texture.a.b": FINE}, "a block's own name has a sign that it cannot have"),
        (["texture.glcm"], {"texture.glcm": FINE}, "'texture.glcm' cannot name a block of its own"),
        (["texture.chromatin"], {"texture.chromatin": COARSE}, "'texture.chromatin' cannot name a block of its own"),
        (
            ["texture.one", "texture.two"],
            {"texture.one": COARSE, "texture.two": COARSE},
            "blocks 'texture.one' and 'texture.two' are the same",
        ),
        (["texture", "texture.one"], {"texture.one": {}}, "blocks 'texture' and 'texture.one' are the same"),
        (["texture.one", "texture.One"], {"texture.one": COARSE, "texture.One": FINE}, "differ in case alone"),
        (["texture.one"], {"texture.one": {"method": "lbp"}}, "unknown parameter .* as block 'texture.one' has it"),
        (["texture.one.glcm"], {"texture.one": COARSE}, "block 'texture.one.glcm' has no features"),
        (["magic.one"], {"magic.one": {}}, "unknown feature block"),
    ],
)
def test_what_cannot_be_an_instance_is_refused_with_the_reason(features, settings, message):
    with pytest.raises(UsageError, match=message):
        built(features, **settings)


def test_instances_that_cannot_be_are_refused_by_the_command(synthetic, tmp_path):
    words = ("--features", "texture.one,texture.two", "--set", "extractors={texture.one: {}, texture.two: {}}")
    for command in (("extract", synthetic), ("ablate", synthetic, "-o", tmp_path / "r")):
        assert_refused(fusion(*command, *words), 2, "'texture.one' and 'texture.two' are the same")


# ---- instances: measured ---------------------------------------------------------------------------------------------


def test_extract_tells_and_exports_instances_by_name_and_finds_them_again_under_another(synthetic, tmp_path):
    words = ("extract", synthetic, "--json", "--store", tmp_path / "s")
    given = (
        "--features",
        "texture.coarse,morphology,texture.fine",
        "--set",
        "extractors={texture.coarse: {methods: [lbp]}, texture.fine: {methods: [lbp, glcm]}}",
    )
    done = fusion(*words, *given, "--export", tmp_path / "t.parquet")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    coarse, fine = Texture(methods=("lbp",)).feature_names(), Texture(methods=("lbp", "glcm")).feature_names()
    assert said["blocks"] == {"texture.coarse": len(coarse), "morphology": 155, "texture.fine": len(fine)}
    assert said["computed"] == {"texture.coarse": 60, "morphology": 60, "texture.fine": 60}
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert [name for name in table.columns if name.startswith("texture.coarse.")] == [
        f"texture.coarse.{name}" for name in coarse
    ]
    for name in coarse:  # the same method of both
        assert_array_equal(table[f"texture.coarse.{name}"], table[f"texture.fine.{name}"])
    again = fusion(*words, "--features", "texture.other", "--set", "extractors.texture.other.methods=[lbp]")
    assert json.loads(again.stdout)["computed"] == {"texture.other": 0}
    assert json.loads(again.stdout)["reused"] == {"texture.other": 60}


def test_a_cell_that_one_instance_cannot_measure_is_a_fault_and_no_row(class_folders, tmp_path, monkeypatch):
    write_image(class_folders / "blast" / "black.png", np.zeros((64, 64, 3), np.uint8))
    measure_by = Texture.extract

    def fails(self, cells):
        if self.methods == ("lbp",) and cells[0].mask.sum() > 1000:
            raise ValueError("too large for it")
        return measure_by(self, cells)

    monkeypatch.setattr(Texture, "extract", fails)
    blocks = built(["texture.fine", "texture.coarse"], **{"texture.coarse": COARSE, "texture.fine": FINE})
    dataset = load_dataset(class_folders)
    found = extract_blocks(dataset, blocks, FeatureStore(tmp_path / "s"), jobs=1)
    assert found.computed == {"texture.fine": 6, "texture.coarse": 3}
    assert [dataset.samples[at].label for at in found.complete] == ["normal"] * 3
    reasons = {fault.path.name: fault.reason for fault in found.faults}
    assert len(found.faults) == len(reasons) == 4
    assert "black.png" in reasons
    assert sum("too large for it" in reason for reason in reasons.values()) == 3
    by_block = {block.name: measure(dataset, [block], FeatureStore(tmp_path / "s"), jobs=1) for block in blocks}
    table = measure(dataset, blocks, FeatureStore(tmp_path / "s"), jobs=1).table
    for name, part in table.blocks.items():
        names = [by_block[name].table.names.index(one) for one in table.names]
        assert_array_equal(table.X[:, part], by_block[name].table.X[names])


# ---- instances: judged -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two small networks of the same shape and other weights, as files of the same name."""
    from extractors.cnn.backbone import load_backbone, save_backbone

    paths = []
    for seed in (1, 2):
        path = tmp_path_factory.mktemp("weights") / "small.safetensors"
        save_backbone(load_backbone("test_efficientnet", "random", size=32, seed=seed), path)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def two_networks(weights, population, synthetic_store, tmp_path_factory):
    """A model of two networks, and of two parts of a third instance, in a folder."""
    folder = tmp_path_factory.mktemp("models") / "m"
    config = settings(weights, population, synthetic_store, folder)
    return train(TrainConfig(**config, classifier="logreg", folds=["0", "1"])), folder


def settings(weights, data, store, output):
    return {
        "data": data,
        "store": store,
        "output": output,
        "jobs": 1,
        "splits": 2,
        "features": ["cnn.one", "cnn.two", "texture.fine.lbp"],
        "extractors": {
            "cnn.one": {"weights": str(weights[0])},
            "cnn.two": {"weights": str(weights[1])},
            "texture.fine": FINE,
        },
    }


def test_a_model_keeps_each_of_its_networks_and_the_files_of_each(two_networks, weights, population, tmp_path):
    trained, folder = two_networks
    manifest = json.loads((folder / MANIFEST).read_text())
    assert [(entry["block"], entry["name"]) for entry in manifest["extractors"]] == [
        ("cnn.one", "cnn"),
        ("cnn.two", "cnn"),
        ("texture.fine", "texture"),
    ]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    again = load_model(moved)
    one, two, texture = again.blocks
    assert [block.name for block in again.blocks] == ["cnn.one", "cnn.two", "texture.fine.lbp"]
    for block, path in zip((one, two), weights, strict=True):
        assert isinstance(block.extractor, Embedding)
        assert block.extractor.weights.startswith(str(moved))
        assert block.extractor.identity() == Embedding(weights=str(path)).identity()
    assert texture.extractor == Texture(methods=("lbp", "glcm"))
    dataset = load_dataset(population)
    study = Study.of(dataset, again.blocks, (), FeatureStore(tmp_path / "other"), jobs=1)
    table = study.table
    assert list(table.blocks) == ["cnn.one", "cnn.two", "texture.fine.lbp"]
    assert not np.array_equal(table.X[:, table.blocks["cnn.one"]], table.X[:, table.blocks["cnn.two"]])
    given = Study.of(dataset, trained.bundle.blocks, (), FeatureStore(tmp_path / "other"), jobs=1)
    assert_array_equal(again.predict_proba(study), trained.bundle.predict_proba(given))


def test_such_a_model_predicts_is_evaluated_explained_and_exported(two_networks, population, tmp_path):
    _, folder = two_networks
    image = next((population / "fold_2").rglob("*.bmp"))
    predicted = fusion("predict", folder, image, "--json", "--jobs", 1)
    assert predicted.exit_code == 0, predicted.stderr
    judged = fusion("evaluate", folder, population, "--folds", 2, "-o", tmp_path / "r", "--jobs", 1)
    assert judged.exit_code == 0, judged.stderr
    (entry,) = json.loads((tmp_path / "r" / "result.json").read_text())["results"]
    assert entry["features"] == ["cnn.one", "cnn.two", "texture.fine.lbp"]
    explained = fusion("explain", folder, image, "-o", tmp_path / "e", "--json", "--jobs", 1)
    assert explained.exit_code == 0, explained.stderr
    (message,) = json.loads(explained.stdout)["explanations"]
    assert set(message["blocks"]) == {"cnn.one", "cnn.two", "texture.fine.lbp"}
    exported = fusion("export", folder, "--onnx", tmp_path / "m.onnx", "--check", image)
    assert exported.exit_code == 0, exported.stderr


def test_instances_are_compared_in_one_run(weights, population, synthetic_store, tmp_path):
    config = settings(weights, population, synthetic_store, tmp_path / "r")
    result = ablate(AblateConfig(**config, compare=["logreg"], subsets=["alone", "cnn.one+cnn.two"]))
    assert [scores.features for scores in result.scores] == [
        ("cnn.one",),
        ("cnn.two",),
        ("texture.fine.lbp",),
        ("cnn.one", "cnn.two"),
        ("control.random",),
    ]
    one, two = (scores.proba for scores in result.scores[:2])
    assert not np.array_equal(one, two)


def test_a_network_that_has_learnt_from_the_cells_is_named_by_its_block(weights, population, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    dataset = load_dataset(population)
    with safe_open(weights[1], "np") as file:
        said = file.metadata()
    path = tmp_path / "met.safetensors"
    save_file(load_file(weights[1]), path, {**said, "provenance": json.dumps(trained_on(dataset.samples[:10]))})
    config = settings([weights[0], path], population, None, tmp_path / "r")
    with pytest.raises(LeakageError, match=r"the network behind 'cnn\.two' was trained on cells of this data set"):
        ablate(AblateConfig(**config, compare=["logreg"]))


def test_a_model_whose_blocks_have_no_extractor_is_refused(two_networks, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(two_networks[1], folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["extractors"] = manifest["extractors"][1:]
    for name in [name for name in manifest["files"] if "cnn.one" in name]:
        del manifest["files"][name]
        (folder / name).unlink()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"without cnn\.one\.e0000"):
        load_model(folder)


# ---- the recipe ------------------------------------------------------------------------------------------------------


def test_the_four_backbones_are_one_comparison(tmp_path):
    from extractors.cnn._published_models import published_weights

    config = build_config(
        AblateConfig, file=ROOT / "configs" / "backbones.yaml", options={"data": "cells", "output": tmp_path / "r"}
    )
    *blocks, control = build_blocks(config)
    assert [block.name for block in blocks] == ["cnn.vgg16", "cnn.vgg19", "cnn.xception", "cnn.b3"]
    assert control.name == "control.random"  # the first of them, untrained
    assert [len(block.features) for block in blocks] == [512, 512, 2048, 1536]
    assert [block.extractor.backbone_config.attention for block in blocks] == [False, False, False, True]
    assert all(block.extractor.weights == "pretrained" for block in blocks)
    assert all(published_weights(block.extractor.backbone_config.backbone) for block in blocks)
    assert config.subsets == ["alone"]


def test_the_comparison_of_backbones_runs_as_it_is_shipped(synthetic, tmp_path):
    """The recipe with small networks in the places of those whose weights are fetched."""
    small = {"backbone": "test_efficientnet", "weights": "random", "size": 32}
    names = ("vgg16", "vgg19", "xception", "b3")
    given = [f"extractors.cnn.{name}.{key}={value}" for name in names for key, value in small.items()]
    given += [f"extractors.cnn.{name}.seed={seed}" for seed, name in enumerate(names)]
    words = [word for one in [*given, "part=null"] for word in ("--set", one)]
    recipe = ("--config", ROOT / "configs" / "backbones.yaml", "--splits", 2, "--jobs", 1)
    done = fusion("ablate", synthetic, *recipe, *words, "-o", tmp_path / "r")
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "r" / "result.json").read_text())
    assert {tuple(entry["features"]) for entry in found["results"]} == {(f"cnn.{name}",) for name in names}


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("glcm", "'texture.glcm'"),
        ("zernikes", "'morphology.zernike'"),
        ("texture.glmc", "'texture.glcm'"),
        ("txture", "'texture'"),
    ],
)
def test_a_part_without_its_family_or_a_misspelt_one_leads_to_the_block(asked, meant):
    with pytest.raises(UsageError) as refused:
        build_blocks(ExtractConfig(data="cells", features=[asked]))
    assert refused.value.do.startswith(f"Did you mean {meant}")
