"""Features computed elsewhere: joined by every kind of key, refused in one line, and treated like any other block."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusion.data.dataset import load_dataset
from fusion.features._own_feature_files import is_no_feature
from fusion.features.own_features import OwnFeaturesError, join, read_own_features
from fusion.plugins import registry
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, write_image


@pytest.fixture
def dataset(class_folders):
    return load_dataset(class_folders)


def table(dataset, by="path", width=3):
    """A row a cell in another order than the data set's, whose first number says which cell it is."""
    samples = list(dataset.samples)
    keys = {
        "path": [dataset.name_of(sample) for sample in samples],
        "name": [f"C:\\data\\{sample.path.name}" for sample in samples],
        "sha256": [hashlib.sha256(sample.path.read_bytes()).hexdigest() for sample in samples],
        "key": [sample.key for sample in samples],
    }[by]
    X = np.arange(len(samples))[:, None] * 10.0 + np.arange(width)
    frame = pd.DataFrame(X, columns=[f"Intensity_Mean{at}" for at in range(width)])
    frame.insert(0, "image", keys)
    return frame.iloc[::-1].reset_index(drop=True)


def written(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".npz":
        columns = np.array(frame.columns[1:], dtype=str)
        np.savez(path, X=frame.iloc[:, 1:].to_numpy(), keys=frame.iloc[:, 0].to_numpy(dtype=str), columns=columns)
    else:
        write_h5ad(path, list(frame["image"]), list(frame.columns[1:]), frame.iloc[:, 1:].to_numpy())
    return path


def write_h5ad(path, cells, features, X):
    """By the format's description: which AnnData writes which pandas is another matter."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("anndata")
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        file.create_dataset("X", data=X).attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for group, names in (("obs", cells), ("var", features)):
            table = file.create_group(group)
            table.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            table.attrs.create("column-order", [], dtype=text)
            index = table.create_dataset("_index", data=names, dtype=text)
            index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".npz", ".h5ad"])
@pytest.mark.parametrize("by", ["path", "name", "sha256", "key"])
def test_rows_find_their_cells_by_every_key_in_every_format(dataset, tmp_path, ending, by):
    own = read_own_features(written(table(dataset, by), tmp_path / f"own{ending}"))
    assert own.names == ("Intensity_Mean0", "Intensity_Mean1", "Intensity_Mean2")
    np.testing.assert_array_equal(join(own, dataset).X[:, 0], np.arange(len(dataset)) * 10)


def test_labels_and_numbers_that_count_are_no_features(dataset, tmp_path):
    """CellProfiler's ImageNumber follows the folders, which are the classes."""
    frame = table(dataset)
    counting = ["ImageNumber", "ObjectNumber", "Metadata_Plate", "Image_Metadata_Well", "Cells_Parent_Nuclei"]
    counting += ["Nuclei_Number_Object_Number", "Image_Group_Index", "Group_Number", "label", "label_code", "Klasse"]
    counting += ["cell_type", "dx", "y", "subject", "Patient ID", "slide_no", "fold", "site"]
    counting += ["cell_id", "CellNumber", "image index", "nucleusID", "row_idx"]
    for name in counting:
        frame[name] = np.arange(len(frame))
    frame["PathName_Blood"] = "/data"
    for ending in (".csv", ".parquet"):
        own = read_own_features(written(frame, tmp_path / f"own{ending}"))
        assert own.names == ("Intensity_Mean0", "Intensity_Mean1", "Intensity_Mean2")
        assert own.numbering == tuple(counting)


def test_what_measures_is_a_feature_whatever_its_name():
    families = [registry.build_extractor(name) for name in ("morphology", "texture", "colour")]
    ours = [name for family in families for name in family.feature_names()]
    cellprofiler = ["AreaShape_Area", "Texture_Contrast_Blood_3_00_256", "RadialDistribution_FracAtD_Blood_1of4"]
    cellprofiler += ["Cells_AreaShape_Zernike_2_0", "Nuclei_Intensity_MADIntensity_H", "Granularity_1_Blood"]
    cellprofiler += ["Neighbors_NumberOfNeighbors_Adjacent", "Children_Granules_Count", "shape_index", "lobe_number"]
    assert not [name for name in [*ours, *cellprofiler, "f0001", "embedding_0767", "PC1"] if is_no_feature(name)]


def test_a_column_of_lists_is_an_embedding(dataset, tmp_path):
    frame = table(dataset).iloc[:, :1].assign(embedding=[np.array([at, 1.5], np.float32) for at in range(6)])
    own = read_own_features(written(frame, tmp_path / "own.parquet"))
    assert own.names == ("embedding_0000", "embedding_0001")
    np.testing.assert_array_equal(own.X[:, 0], np.arange(6))
    frame["embedding"] = [*frame["embedding"][:-1], np.ones(3, np.float32)]
    with pytest.raises(OwnFeaturesError, match="lists of different lengths"):
        read_own_features(written(frame, tmp_path / "own.parquet"))


def test_names_that_are_the_index_of_a_frame_are_keys(dataset, tmp_path):
    table(dataset).set_index("image").rename_axis(None).to_parquet(tmp_path / "own.parquet")
    own = read_own_features(tmp_path / "own.parquet")
    np.testing.assert_array_equal(join(own, dataset).X[:, 0], np.arange(6) * 10)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_european_spreadsheet_is_read_as_it_is_meant(dataset, tmp_path, encoding):
    frame = table(dataset).rename(columns={"Intensity_Mean0": "Fläche"})
    frame["Intensity_Mean1"] += 0.25
    frame.to_csv(tmp_path / "own.csv", index=False, sep=";", decimal=",", encoding=encoding)
    own = read_own_features(tmp_path / "own.csv")
    assert own.names[0] == "Fläche"
    np.testing.assert_array_equal(join(own, dataset).X[:, 1], np.arange(6) * 10 + 1.25)


def _twice(frame):
    other = frame.iloc[[0]].copy()
    other.iloc[0, 1] += 1
    return pd.concat([frame, other])


def _with(frame, value):
    changed = frame.copy()
    changed.iloc[2, 2] = value
    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.iloc[1:], "has no row for 1 of 6 cells"),
        (_twice, "two different rows for one cell"),
        (lambda f: _with(f, np.inf), "no finite number"),
        (lambda f: _with(f, 1e300), "no finite number"),
        (lambda f: f.rename(columns={"Intensity_Mean1": "Intensity_Mean0"}), "are called 'Intensity_Mean0'"),
        (lambda f: f.assign(image="elsewhere.png"), "are of none of these cells"),
        (lambda f: f.assign(image=f["image"].str.upper()), "in upper and lower case"),
        (lambda f: f.assign(image=[Path(name).stem for name in f["image"]]), "lack the ending of the files"),
        (lambda f: f.assign(image=[Path(name).stem + ".tif" for name in f["image"]]), "another ending"),
        (lambda f: f.assign(image=["d41d8cd98f00b204e9800998ecf8427e"] * len(f)), "holds MD5"),
        (lambda f: f.drop(columns="image").assign(ImageNumber=range(6)), "are of none of these cells"),
        (lambda f: f.assign(mask=f["image"].to_numpy()[::-1]), "and say different things"),
        (lambda f: _with(f.astype(object), "1.2.3"), "'1.2.3' in line 4"),
        (lambda f: _with(f.astype(object), "1,5"), "'1,5' in line 4"),
        (lambda f: _with(f.astype(object), "1_5"), "'1_5' in line 4"),
        (lambda f: pd.concat([f, f.assign(ObjectNumber=2, Intensity_Mean0=-1.0)]), "Of several objects in an image"),
        (lambda f: f[["image"]], "holds no features"),
        (lambda f: f.assign(Intensity_Mean0=np.nan), "column without a value"),
        (lambda f: f.iloc[:0], "has no rows"),
    ],
)
def test_each_wrong_file_is_one_clear_line(class_folders, dataset, tmp_path, change, said):
    file = written(change(table(dataset)), tmp_path / "own.csv")
    result = fusion(
        "extract", class_folders, "--features", "colour", "--own", f"mine={file}", "--store", tmp_path / "s"
    )
    assert_refused(result, 1, said, "own.csv")
    assert "found:" in result.stderr or "no rows" in result.stderr


@pytest.mark.parametrize(
    ("name", "content"), [("own.csv", b"\x00\xff\x00"), ("own.parquet", b"PAR1"), ("own.npz", b"PK")]
)
def test_damaged_files_are_named(class_folders, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    result = fusion("extract", class_folders, "--features", "colour", "--own", f"mine={tmp_path / name}")
    assert_refused(result, 1, name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"image,a\n", "has no rows"),
        (b"image,a,b\n1.png,1,2\n2.png,3\n", "cut short"),
        (b"image,a\n1.png,1,2\n", "more fields than the header"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PK\x03\x04", "an Excel or zip file"),
        (b'image,a\n"1.png,1\n', "unexpected end"),
    ],
)
def test_texts_that_are_no_table_are_told_as_tables_of_cells_are(tmp_path, content, said):
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(OwnFeaturesError, match=said):
        read_own_features(tmp_path / "own.csv")


@pytest.mark.parametrize("X", [np.ones((6, 2)) * 1j, np.ones((6, 2), bool), np.ones((6, 2, 2)), np.full((6, 2), "a")])
def test_arrays_that_are_no_numbers_are_refused(tmp_path, X):
    np.savez(tmp_path / "own.npz", X=X, keys=np.array([f"{at}.png" for at in range(6)]))
    with pytest.raises(OwnFeaturesError, match=r"own\.npz (holds no numbers|cannot be understood)"):
        read_own_features(tmp_path / "own.npz")


def test_a_file_name_of_two_images_says_nothing(tmp_path):
    for at, label in enumerate(("blast", "normal")):
        write_image(tmp_path / "cells" / label / "1.png", paint(at))
    dataset = load_dataset(tmp_path / "cells")
    own = read_own_features(written(table(dataset, "name"), tmp_path / "own.csv"))
    with pytest.raises(OwnFeaturesError, match=r"cannot be joined by file name(.|\n)*two images are called 1\.png"):
        join(own, dataset)


def test_an_export_comes_back_as_a_block(class_folders, tmp_path):
    exported = tmp_path / "table.parquet"
    assert fusion("extract", class_folders, "--features", "colour", "--export", exported).exit_code == 0
    result = fusion(
        "extract",
        class_folders,
        "--features",
        "colour",
        "--own",
        f"again={exported}",
        "--json",
        "--export",
        tmp_path / "both.parquet",
    )
    assert result.exit_code == 0, result.output
    both = pd.read_parquet(tmp_path / "both.parquet")
    first = [name for name in both.columns if name.startswith("colour.")]
    again = [name for name in both.columns if name.startswith("own.again.")]
    assert len(first) == len(again) > 100
    np.testing.assert_array_equal(both[first].to_numpy(), both[again].to_numpy())


def test_it_is_extracted_alone(class_folders, dataset, tmp_path):
    file = written(table(dataset).assign(ImageNumber=range(6)), tmp_path / "own.csv")
    words = ("--own", f"mine={file}", "--store", tmp_path / "s", "--export", tmp_path / "t.csv")
    result = fusion("extract", class_folders, "--features", "none", *words)
    assert result.exit_code == 0, result.output
    assert "own.csv: by their names no features, and left out: ImageNumber" in result.stderr
    assert [name for name in pd.read_csv(tmp_path / "t.csv").columns if "." in name] == [
        f"own.mine.Intensity_Mean{at}" for at in range(3)
    ]


def test_a_changed_file_is_another_block(class_folders, dataset, tmp_path):
    file = written(table(dataset), tmp_path / "own.csv")
    words = ("extract", class_folders, "--features", "colour", "--own", f"mine={file}", "--export", tmp_path / "t.csv")
    fusion(*words)
    frame = table(dataset)
    frame["Intensity_Mean0"] += 1
    written(frame, file)
    fusion(*words)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "t.csv")["own.mine.Intensity_Mean0"], np.arange(6) * 10 + 1)


@pytest.fixture
def own_of(tmp_path):
    """A file of two numbers a cell that tell the classes of a synthetic tree apart."""

    def make(root, name):
        cells = load_dataset(root)
        rng = np.random.default_rng(0)
        is_all = np.array([label == "all" for label in cells.each("label")])
        frame = pd.DataFrame(rng.normal(size=(len(cells), 2)) + 2 * is_all[:, None], columns=["a", "b"])
        frame.insert(0, "path", cells.names)
        return written(frame, tmp_path / name)

    return make


def test_it_is_ablated_stamped_saved_and_asked_like_any_other(synthetic, synthetic_store, own_of, tmp_path):
    file = own_of(synthetic, "own.csv")
    common = ["--features", "colour", "--own", f"mine={file}", "--store", synthetic_store, "--set", "splits=2"]
    result = fusion("ablate", synthetic, *common, "--classifiers", "logreg", "-o", tmp_path / "r", "--json")
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "r" / "result.json").read_text())
    assert any("own.mine" in stamp and "unknown" in stamp for stamp in stored["stamps"])
    assert fusion("train", synthetic, *common, "--classifier", "logreg", "-o", tmp_path / "m").exit_code == 0
    assert not list((tmp_path / "m").glob("*.csv"))  # the table stays where it is
    image = next(synthetic.rglob("*_all.bmp"))
    file.unlink()
    refused = fusion("predict", tmp_path / "m", image, "--store", tmp_path / "elsewhere")
    assert_refused(refused, 1, "has no file", "--own NAME=FILE")
    other = own_of(synthetic, "other.parquet")
    asked = fusion(
        "predict", tmp_path / "m", image, "--own", f"mine={other}", "--store", tmp_path / "elsewhere", "--json"
    )
    assert asked.exit_code == 0, asked.output
    assert_refused(fusion("predict", tmp_path / "m", image, "--own", f"yours={other}"), 2, "no block of this model")


def test_what_it_has_learnt_from_is_refused_on_the_same_images(synthetic, synthetic_store, own_of, tmp_path):
    file = own_of(synthetic, "own.csv")
    cells = load_dataset(synthetic)
    (tmp_path / "learnt.txt").write_text("\n".join(list(cells.each("image_key"))[:3]))
    words = [
        "train",
        synthetic,
        "--features",
        "none",
        "--own",
        f"mine={file}",
        "--classifier",
        "logreg",
        "--store",
        synthetic_store,
        "-o",
        tmp_path / "m",
        "--set",
        "splits=2",
    ]
    learnt = f"extractors.own.mine.learnt_from={tmp_path / 'learnt.txt'}"
    assert_refused(fusion(*words, "--set", learnt), 1, "own.mine")
    clean = fusion(*words, "--set", "extractors.own.mine.learnt_from=nothing")
    assert clean.exit_code == 0, clean.output
    stored = json.loads((tmp_path / "m" / "model.json").read_text())
    assert not [stamp for stamp in stored["facts"]["stamps"] if "own.mine" in stamp]


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_augmented_cells_have_no_features_of_ones_own(synthetic, own_of, tmp_path, command):
    file = own_of(synthetic, "own.csv")
    words = [command, synthetic, "--features", "none", "--own", f"mine={file}", "-o", tmp_path / "out"]
    refused = fusion(*words, "--set", "augment.per_cell=2")
    assert_refused(refused, 2, "not known of augmented cells", "Leave --own or augment out.")
    assert not (tmp_path / "out").exists()
