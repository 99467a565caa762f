"""Files of features as laboratories have them: each is read as it is meant, or refused in one line that names it."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from fusion.data.dataset import load_dataset
from fusion.features.own_features import OwnFeaturesError, join, read_own_features
from tests.builders.command_line import fusion
from tests.builders.images import paint, write_image

NAMES = [f"{('blast', 'normal')[at % 2]}/{at}.png" for at in range(6)]
FILES = [name.partition("/")[2] for name in NAMES]
VALUES = np.arange(6) * 10.0


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    root = tmp_path_factory.mktemp("laboratory") / "cells"
    for at, name in enumerate(NAMES):
        write_image(root / name, paint(at, radius=22 - 6 * (at % 2)))
    return load_dataset(root)


@pytest.fixture(scope="module")
def sha256s(cells):
    """Of the cells' files, in the order of ``NAMES``."""
    of = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in cells.each("path")}
    return [of[name] for name in FILES]


def frame(**more):
    return pd.DataFrame({"image": FILES, "area": VALUES, **more})


def written(table, path):
    if isinstance(table, dict):
        np.savez(path, **table)
    elif isinstance(table, (str, bytes)):
        path.write_bytes(table.encode() if isinstance(table, str) else table)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def told(cells):
    """The values by the names of ``FILES``, which a data set has in an order of its own."""
    return [VALUES[FILES.index(path.name)] for path in cells.each("path")]


MATRIX = {"X": VALUES[:, None], "keys": np.array(FILES)}
OBJECTS = np.array([{"a": 1}], object)


@pytest.mark.parametrize(
    ("name", "table", "features", "left"),
    [
        ("csv", frame(border=[True, False] * 3), ["area", "border"], []),
        ("csv", frame(border=["TRUE", "false", ""] * 2), ["area", "border"], []),
        ("csv", frame(border=["yes", "no"] * 3), ["area"], []),
        ("csv", frame(acquired="2026-01-01", cell=["112_3"] * 6), ["area"], []),
        ("csv", frame(Slice=range(6), Label=FILES), ["area"], ["Slice"]),
        ("csv", pd.concat([frame(), frame(area=7.0).assign(image=["x.png"] * 5 + [None])]), ["area"], []),
        ("csv", frame().assign(image=[f"D:\\run 7\\{n}".replace("/", "\\") for n in NAMES]), ["area"], []),
        ("csv", frame().assign(image=[f"  {name}" for name in FILES]), ["area"], []),
        ("parquet", frame(border=[True, False] * 3), ["area", "border"], []),
        ("parquet", frame(border=pd.array([True, None] * 3, "boolean")), ["area", "border"], []),
        ("parquet", frame(count=pd.array([1, None, 3] * 2, "Int64")), ["area", "count"], []),
        ("parquet", frame(shape=pd.Categorical(["round", "oval"] * 3), day=pd.Timestamp("2026-01-01")), ["area"], []),
        ("parquet", frame().assign(image=[name.encode() for name in FILES]), ["area"], []),
        ("parquet", frame(z=range(6)).set_index(["image", "z"]), ["area"], ["z"]),
        ("npz", {**MATRIX, "meta": OBJECTS, "y": np.arange(6)}, ["f0000"], ["y"]),
        (
            "npz",
            {"X": np.c_[VALUES, VALUES], "files": MATRIX["keys"], "feature_names": np.array(["a", "b"])},
            ["a", "b"],
            [],
        ),
        ("npz", {**MATRIX, "keys": np.array(FILES, "S")}, ["f0000"], []),
    ],
)
def test_it_is_read_as_it_is_meant(cells, tmp_path, name, table, features, left):
    own = read_own_features(written(table, tmp_path / f"own.{name}"))
    assert list(own.names) == features
    assert list(own.numbering) == left
    np.testing.assert_array_equal(join(own, cells).X[:, 0], told(cells))


@pytest.mark.parametrize(
    ("name", "table", "said"),
    [
        ("csv", frame(share=[f"{at} %" for at in range(6)]), r"'share' that cannot be read(.|\n)*'0 %' in line 2"),
        ("csv", frame(share=[f"1,{at}50.5" for at in range(6)]), "'1,050.5' in line 2, and 5 more"),
        ("csv", frame(share=[f"{at},5" for at in range(6)]), "'0,5' in line 2, and 5 more"),
        ("csv", frame(embedding="[0.1, 0.2]"), "a column a number"),
        ("csv", "blast/0.png,1.5\nnormal/1.png,2.5\n", r"has no header(.|\n)*names an image: blast/0\.png"),
        ("csv", frame().rename(columns={"area": "x.y"}).assign(**{"x y": 1.0}), "'x.y' and 'x y'"),
        ("csv", "<!DOCTYPE html>\n<html><body>404</body></html>\n", "a web page"),
        ("csv", "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n", "git lfs pull"),
        ("parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n", "git lfs pull"),
        ("parquet", frame(e=[[1.0, 2.0]] * 5 + [None]), "rows without a list in column 'e'"),
        ("parquet", frame(e=[[]] * 6), "empty lists in column 'e'"),
        ("parquet", frame(e=[["x", "y"]] * 6), "lists in column 'e' that hold what is no number"),
        ("parquet", frame(e=[[[1.0], [2.0]]] * 6), "lists in column 'e' that hold what is no number"),
        ("parquet", frame(other=FILES).set_index("other").rename_axis("image"), "are called|names a column twice"),
        ("npz", {**MATRIX, "keys": np.array(FILES, object)}, "keys of Python objects, which are not loaded"),
        ("npz", {**MATRIX, "X": np.array(VALUES[:, None], object)}, "X holds Python objects, which are not loaded"),
        ("npz", {**MATRIX, "keys": np.arange(6)}, "has no keys"),
        ("npz", {"X": MATRIX["X"].T, "keys": MATRIX["keys"]}, "an array of 1 texts"),
        ("npz", {}, "0 two-dimensional arrays among none"),
    ],
)
def test_it_is_refused_in_one_line(tmp_path, name, table, said):
    with pytest.raises(OwnFeaturesError, match=said) as refused:
        read_own_features(written(table, tmp_path / f"own.{name}"))
    assert "own." in refused.value.what
    assert "\n" not in refused.value.what


def test_an_array_that_was_saved_as_npy_is_named(tmp_path):
    np.save(tmp_path / "own.npy", VALUES[:, None])
    (tmp_path / "own.npy").rename(tmp_path / "own.npz")
    with pytest.raises(OwnFeaturesError, match="is a single array"):
        read_own_features(tmp_path / "own.npz")


def test_an_anndata_without_a_matrix_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("anndata")
    with h5py.File(tmp_path / "own.h5ad", "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        table = file.create_group("obs")
        table.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
        table.attrs.create("column-order", [], dtype=h5py.string_dtype())
        index = table.create_dataset("_index", data=FILES, dtype=h5py.string_dtype())
        index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    with pytest.raises(OwnFeaturesError, match="has no matrix X"):
        read_own_features(tmp_path / "own.h5ad")


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_paths_of_another_machine_tell_files_of_one_name_apart(tmp_path):
    for at, label in enumerate(("blast", "normal")):
        write_image(tmp_path / "cells" / label / "1.png", paint(at))
    dataset = load_dataset(tmp_path / "cells")
    table = pd.DataFrame({"image": [f"D:\\data\\{name}".replace("/", "\\") for name in dataset.names], "a": [1.0, 2.0]})
    own = read_own_features(written(table.iloc[::-1], tmp_path / "own.csv"))
    np.testing.assert_array_equal(join(own, dataset).X[:, 0], [1, 2])


def test_names_and_hashes_that_disagree_are_asked_about(cells, sha256s, tmp_path):
    agreed = read_own_features(written(frame(sha256=sha256s), tmp_path / "own.csv"))
    np.testing.assert_array_equal(join(agreed, cells).X[:, 0], told(cells))
    turned = read_own_features(written(frame(sha256=sha256s[::-1]), tmp_path / "own.csv"))
    with pytest.raises(OwnFeaturesError, match=r"say different things(.|\n)*row 1: (.|\n)*'sha256'(.|\n)*'image'"):
        join(turned, cells)


def test_two_kinds_of_key_in_a_column_are_told(cells, sha256s, tmp_path):
    own = read_own_features(written(frame().assign(image=[*sha256s[:3], *FILES[3:]]), tmp_path / "own.csv"))
    with pytest.raises(OwnFeaturesError, match="which it has by file name: one kind of key in a column"):
        join(own, cells)


def test_what_is_left_out_is_named(class_folders, tmp_path):
    file = written(frame(border=["yes", "no"] * 3, Metadata_Well="A1", ImageNumber=range(6)), tmp_path / "own.csv")
    result = fusion("extract", class_folders, "--features", "none", "--own", f"mine={file}", "--store", tmp_path / "s")
    assert result.exit_code == 0, result.output
    assert "own.csv: by their names no features, and left out: ImageNumber\n" in result.stderr
    assert "own.csv: no numbers, and left out: border\n" in result.stderr


def test_the_label_by_another_name_is_stamped(synthetic, tmp_path):
    dataset = load_dataset(synthetic)
    code = [float(label == "all") for label in dataset.each("label")]
    table = pd.DataFrame({"path": dataset.names, "a": np.random.default_rng(0).normal(size=len(code)), "blasts": code})
    words = ["train", synthetic, "--features", "none", "--classifier", "logreg", "--set", "splits=2", "--set"]
    words += ["extractors.own.mine.learnt_from=nothing", "--json", "-o"]
    for name, column in (("leaky", code), ("honest", [code[0], *(1 - value for value in code[1:])])):
        file = written(table.assign(blasts=column), tmp_path / f"{name}.csv")
        result = fusion(*words, tmp_path / name, "--own", f"mine={file}")
        assert result.exit_code == 0, result.output
        is_stamped = "leaky: blasts says the label of every cell" in result.stdout
        assert is_stamped == (name == "leaky")
