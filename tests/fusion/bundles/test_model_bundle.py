"""A model folder comes back the same, can be moved, and is refused as soon as one byte of it is another."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.bundles.bundle_files import BundleError
from fusion.bundles.model_bundle import ModelBundle
from fusion.learning.study import Study
from fusion.plugins import registry
from fusion.settings.commands import TrainConfig
from fusion.workflows.train import train

KINDS = ["svm", "xgb", "logreg"]


@pytest.fixture(scope="module")
def models(synthetic, tmp_path_factory):
    """A trained model of every built-in classifier, and the folder it lies in."""
    root, store = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("store")
    settings = {"data": synthetic, "store": store, "features": ["colour"], "splits": 2}
    return {name: (train(TrainConfig(output=root / name, classifier=name, **settings)), root / name) for name in KINDS}


@pytest.fixture(params=KINDS)
def trained(request, models):
    return models[request.param][0]


@pytest.fixture
def folder(trained, models, tmp_path):
    """A copy of that model in another place, to be read or harmed."""
    original = next(where for other, where in models.values() if other is trained)
    return Path(shutil.copytree(original, tmp_path / "moved" / "model"))


def reseal(folder):
    """Make the manifest fit the files again, as a forger would."""
    from fusion.io.files import sha256

    manifest = json.loads((folder / "model.json").read_text())
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != "model.json"]
    manifest["files"] = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in names}
    (folder / "model.json").write_text(json.dumps(manifest))


def edit(folder, **changes):
    manifest = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, **changes}))


def test_a_moved_model_gives_the_same_probabilities(trained, folder):
    again = ModelBundle.load(folder)
    table = trained.result.cells
    cells = Study(table)
    assert_array_equal(again.predict_proba(cells), trained.bundle.predict_proba(cells))
    assert (again.classes, again.columns, again.positive) == (["all", "hem"], table.columns, "all")
    assert all(again.provenance.has_image(key) for key in table.image_keys)
    assert len(again.provenance.pixels) == len(set(table.image_keys))
    assert len(again.provenance.subjects) == len(set(table.subjects))


def test_there_is_no_pickle_and_no_subject_id_in_a_model(trained, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.suffix in {".json", ".safetensors"} or path.name == "config.yaml"
            assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
    manifest = json.loads((folder / "model.json").read_text())
    assert all(len(subject) == 16 for subject in manifest["provenance"]["subjects"])


def test_any_changed_byte_is_refused(trained, folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "model.json":
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(BundleError, match="changed"):
                ModelBundle.load(folder)
            path.write_bytes(content)
    ModelBundle.load(folder)


def test_extra_and_missing_files_are_refused(folder):
    (folder / "extra.pkl").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"unlisted: extra.pkl"):
        ModelBundle.load(folder)
    (folder / "extra.pkl").unlink()
    next(path for path in (folder / "classifier").iterdir()).unlink()
    with pytest.raises(BundleError, match="missing"):
        ModelBundle.load(folder)


def test_a_manifest_cannot_lead_outside_its_folder(folder):
    manifest = json.loads((folder / "model.json").read_text())
    edit(folder, files={**manifest["files"], "../../secret": "0" * 64})
    with pytest.raises(BundleError, match="outside"):
        ModelBundle.load(folder)


@pytest.mark.skipif(os.name == "nt", reason="no links and pipes")
def test_links_and_pipes_in_a_model_are_refused_unopened(folder, tmp_path):
    path = next(path for path in (folder / "classifier").iterdir())
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="a link or a device"):
        ModelBundle.load(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="a link or a device"):
        ModelBundle.load(folder)


def test_a_model_whose_columns_its_extractors_do_not_give_is_refused(folder):
    manifest = json.loads((folder / "model.json").read_text())
    edit(folder, columns=["colour.of_magic", *manifest["columns"][1:]])
    with pytest.raises(BundleError, match=r"without colour.of_magic"):
        ModelBundle.load(folder)


def test_a_manifest_nested_without_end_is_refused(folder):
    (folder / "model.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="damaged"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"format": 2}, "Train it again with this version"),
        ({"novelty": {}}, "not a model that this version can read"),
        ({"files": None}, "format"),
        ({"classes": ["hem", "all"]}, "disagree"),
        ({"extractors": [{"name": "colour"}]}, "KeyError"),
        ({"columns": None}, "TypeError"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(changes, message, folder):
    edit(folder, **changes)
    with pytest.raises(BundleError, match=message):
        ModelBundle.load(folder)


def test_another_version_of_an_extractor_is_refused(folder, monkeypatch):
    from extractors.colour.extractor import Colour

    monkeypatch.setattr(Colour, "version", "another")
    with pytest.raises(BundleError, match="not the one the model was trained with"):
        ModelBundle.load(folder)


def test_a_table_with_other_columns_is_refused(trained):
    from dataclasses import replace

    table = trained.result.cells
    with pytest.raises(BundleError, match="not those"):
        trained.bundle.predict_proba(Study(replace(table, X=table.X[:, 1:], columns=table.columns[1:])))


@pytest.mark.parametrize("name", ["svm", "logreg"])
@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("intercept", lambda values: values[:0]),
        ("weights", lambda values: values[:, :0]),
        ("weights", lambda values: values.astype(np.float32)),
        ("intercept", lambda values: values * np.nan),
        ("weights", lambda values: np.where(values == values, 1e200, values)),
    ],
)
def test_arrays_of_other_shapes_kinds_or_numbers_are_refused(models, tmp_path, name, array, change):
    from safetensors.numpy import load, save

    folder = Path(shutil.copytree(models[name][1], tmp_path / "forged"))
    path = folder / "classifier" / f"{name}.safetensors"
    arrays = load(path.read_bytes())
    path.write_bytes(save({**arrays, array: np.ascontiguousarray(change(arrays[array]))}))
    reseal(folder)
    with pytest.raises(BundleError, match=r"holds no such model|cannot be read"):
        ModelBundle.load(folder)


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("name", ["svm", "logreg"])
def test_arrays_that_do_not_fit_are_refused_before_they_take_memory(models, tmp_path, name, owned):
    """A file of gigabytes that lies on no disk: bytes of no array, or of one that no such model has."""
    folder = Path(shutil.copytree(models[name][1], tmp_path / "forged"))
    path = folder / "classifier" / f"{name}.safetensors"
    content, size = path.read_bytes(), 1 << 30
    if owned:
        header = {"weights": {"dtype": "F64", "shape": [size // 8, 1], "data_offsets": [0, size]}}
        content = json.dumps(header).encode()
        content = len(content).to_bytes(8, "little") + content
        size += len(content)
    path.write_bytes(content)
    os.truncate(path, size)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"other arrays than expected|bytes that belong to none"):
            registry.classifier_class(name).load(folder / "classifier")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("file", ["layer.safetensors", "novelty.safetensors", "reference.safetensors"])
def test_arrays_beside_the_classifier_are_no_larger_than_columns_can_make_them(models, tmp_path, file):
    folder = Path(shutil.copytree(models["svm"][1], tmp_path / "forged"))
    os.truncate(folder / file, 1 << 30)
    with pytest.raises(BundleError, match="too large"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["all", "all"]},
        {"classes": ["hem", "all"]},
        {"classes": "all"},
        {"columns": -1},
        {"columns": 10**9},
        {"params": {"C": [1.0]}},
        {"params": {"search": 1}},
        {"params": {"unheard_of": 1}},
        {"chosen": {"C": "1"}},
        {"more": 1},
    ],
)
@pytest.mark.parametrize("name", ["svm", "logreg"])
def test_plain_values_that_a_classifier_never_has_are_refused(models, tmp_path, name, changes):
    folder = Path(shutil.copytree(models[name][1], tmp_path / "forged"))
    path = folder / "classifier" / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    reseal(folder)
    with pytest.raises(BundleError):
        ModelBundle.load(folder)


def test_a_model_of_before_a_parameter_was_there_has_its_default(models, tmp_path):
    trained, folder = models["svm"][0], Path(shutil.copytree(models["svm"][1], tmp_path / "old"))
    path = folder / "classifier" / "classifier.json"
    facts = json.loads(path.read_text())
    del facts["params"]["trials"]
    path.write_text(json.dumps(facts))
    reseal(folder)
    found = ModelBundle.load(folder)
    assert found.model.classifier.trials == 0
    cells = Study(trained.result.cells)
    assert_array_equal(found.predict_proba(cells), trained.bundle.predict_proba(cells))


@pytest.mark.parametrize("name", ["svm", "logreg"])
def test_rubbish_in_place_of_a_classifier_is_one_clear_error(models, tmp_path, name):
    folder = Path(shutil.copytree(models[name][1], tmp_path / "forged"))
    for content in (b"", b"PK\x03\x04rubbish", b"\x80\x04cos\nsystem\n", b"\x00" * 64, b"\xff" * 64):
        (folder / "classifier" / f"{name}.safetensors").write_bytes(content)
        reseal(folder)
        with pytest.raises(BundleError, match="cannot be read"):
            ModelBundle.load(folder)


def test_a_file_that_no_such_classifier_has_is_refused(models, tmp_path):
    folder = Path(shutil.copytree(models["svm"][1], tmp_path / "forged"))
    (folder / "classifier" / "more.json").write_text("{}")
    reseal(folder)
    with pytest.raises(BundleError, match=r"more.json"):
        ModelBundle.load(folder)


def test_a_folder_that_is_no_model_is_neither_read_nor_replaced(synthetic, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("irreplaceable")
    with pytest.raises(BundleError, match="is not a model"):
        ModelBundle.load(tmp_path / "thesis")
    with pytest.raises(BundleError, match="exists and is not a model"):
        train(TrainConfig(data=synthetic, output=tmp_path / "thesis"))
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "irreplaceable"


def test_training_again_replaces_the_model_whole(models, folder):
    model, original = models["xgb"]
    model.bundle.save(folder)
    names = lambda where: sorted(p.relative_to(where).as_posix() for p in where.rglob("*"))  # noqa: E731
    assert names(folder) == names(original)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
