"""What folders above images mean: taken where they say one thing, asked about where they can mean more."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fusion.data._folder_layouts import find_layout
from fusion.data.dataset import load_dataset
from fusion.data.readers import DatasetError, read_listing
from fusion.errors import UsageError
from fusion.settings.data import ReadingSettings
from fusion.synthetic.cells import SyntheticDesign, synthesize
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, write_image

TWO = [f"{label}/c{at}.png" for label in ("all", "hem") for at in range(3)]


@pytest.fixture
def tree(tmp_path):
    """Makes files that a reader never opens, and lists them."""

    def make(*names, **reading):
        for name in names:
            path = tmp_path / "cells" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return read_listing(tmp_path / "cells", ReadingSettings(**reading))

    return make


def labels(listing):
    return [entry.label for entry in listing.entries]


@pytest.mark.parametrize(
    "tops",
    [
        ["001", "002", "003"],
        ["101", "102"],
        ["7", "9"],
        ["2020-01-02", "2020-02-03"],
        ["20200102", "20200203_b"],
        ["a9f3c1d2", "b7e2d4c1"],
        ["1.2.840.1", "1.2.840.2"],
        ["P001", "P002"],
        ["Patienten 1", "Patienten 2"],
        ["paciente_1", "paciente_2"],
        ["Entrenamiento", "Prueba"],
        ["train_images", "val_images"],
        ["TestA", "TestB"],
        ["all", "hem", "all_augmented"],
        ["all", "hem", "hem - Copy"],
        ["all", "hem", "hem (1)"],
        ["all", "hem", "all_rotated"],
        ["all", "hem", "figures"],
        ["all", "hem", "plots"],
        ["all", "hem", "unlabeled"],
    ],
    ids=lambda tops: "+".join(tops),
)
def test_folders_that_no_classes_are_called_by_are_asked_about(tops, tree):
    with pytest.raises(DatasetError, match="is not certain"):
        tree(*(f"{top}/c{at}.png" for top in tops for at in range(3)))
    assert set(labels(tree(folders="label"))) == set(tops)


@pytest.mark.parametrize(
    "tops",
    [
        ["0", "1"],
        ["1", "2", "3"],
        [str(at) for at in range(10)],
        ["ALL", "HEM"],
        ["L1", "L2", "L3"],
        ["M0", "M1", "M3"],
        ["Early", "Pre", "Pro", "Benign"],
        ["BA", "EO", "ERB", "IG", "LY", "MO", "NEU", "PLATELET"],
        ["NGB", "NGS", "EOS"],
        ["blast", "no blast"],
        ["CD4+", "CD4-"],
        ["B-ALL", "T-ALL"],
        ["20x", "blurred"],
        ["facade", "decade", "beaded"],
        ["01_blast", "02_healthy"],
    ],
    ids=lambda tops: "+".join(tops),
)
def test_folders_that_classes_are_called_by_are_taken_without_a_question(tops, tree):
    listing = tree(*(f"{top}/{top}{at}.png" for top in tops for at in range(3)))
    assert set(labels(listing)) == set(tops)
    assert listing.notes == ()


@pytest.mark.parametrize(
    "tops", [["ALL", "all"], ["Bl\u00e4st", "Bla\u0308st"], ["hem", "hem "], ["pre_b", "pre-B"], ["1", "01"]]
)
def test_one_class_in_two_folders_is_asked_about(tops, tree):
    with pytest.raises(UsageError, match=r"is not certain|may be one label spelt in several ways"):
        tree(*(f"{top}/c{at}.png" for top in tops for at in range(3)))


@pytest.mark.parametrize(
    "name",
    ["c0_aug1", "c0_augmented_2", "c0-flip", "c0_rot90", "c0 (1)", "c0 - Copy", "c0.thumb", "c0_overlay", "c0_resized"],
)
def test_other_versions_of_an_image_beside_it_are_told(name, tree):
    (note,) = tree(*TWO, f"all/{name}.png").notes
    assert f"other versions of images beside them: 1, such as {name}.png of c0" in note
    assert tree(f"hem/{name.replace('c0', 'd0')}.png").notes == (note,)  # there is no d0 beside it


# ---- what is passed over --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    [
        ".ipynb_checkpoints",
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        ".git/x",
        "#recycle",
        "System Volume Information",
        ".Trashes",
        "__MACOSX/all",
        "all/.ipynb_checkpoints",
        "hem/@eaDir/thumbs",
        "lost+found",
        "all/__macosx",
    ],
)
def test_hidden_and_system_folders_are_passed_over_with_a_word(folder, tree):
    listing = tree(*TWO, f"{folder}/c0.png")
    assert labels(listing) == ["all"] * 3 + ["hem"] * 3
    assert "(1 image)" in listing.notes[0]


def test_an_empty_folder_is_told(tmp_path):
    root = tmp_path / "cells"
    for at in range(2):
        write_image(root / "ab"[at] / f"{at}.png", paint(at))
    (root / "other" / "deeper").mkdir(parents=True)
    (root / ".git").mkdir()
    listing = read_listing(root)
    assert labels(listing) == ["a", "b"]
    assert [note for note in listing.notes if "nothing lies" in note] == ["nothing lies in 1 folder: other/deeper."]


@pytest.mark.parametrize("folder", ["thumbnails", "previews", "heatmaps"])
def test_a_folder_of_pictures_of_the_same_cells_is_no_class_in_silence(folder, tree):
    with pytest.raises(DatasetError, match=folder):
        tree(*TWO, f"{folder}/x.png")


def test_the_folder_that_is_given_may_be_hidden_itself(tmp_path):
    write_image(tmp_path / ".cache" / "cells" / "a" / "1.png", paint())
    assert len(read_listing(tmp_path / ".cache" / "cells").entries) == 1


def test_files_of_other_endings_are_counted_and_named(tree):
    listing = tree(*TWO, "all/a.png.tmp", "all/b.tmp", "hem/notes.txt", "hem/noend", "all/._c0.png", "all/.DS_Store")
    assert labels(listing) == ["all"] * 3 + ["hem"] * 3
    said = " ".join(listing.notes)
    assert "2 files ending in .tmp" in said
    assert "1 ending in .txt" in said
    assert "1 without an ending" in said
    assert "1 file whose name begins with a dot" in said


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPE", "jif", "dib", "gif", "webp", "jp2", "heic", "svs", "ppm"])
def test_no_class_goes_because_of_its_files_endings(ending, tree):
    listing = tree("all/1.png", "all/2.png", f"hem/1.{ending}", f"hem/2.{ending}")
    assert labels(listing) == ["all", "all", "hem", "hem"]


def test_what_cannot_be_read_is_named(tmp_path):
    write_image(tmp_path / "cells" / "all" / "1.png", paint())
    (tmp_path / "cells" / "hem").mkdir()
    (tmp_path / "cells" / "hem" / "1.gif").write_bytes(b"GIF89a" + bytes(40))
    (fault,) = load_dataset(tmp_path / "cells").faults
    assert "a GIF file, which is not read" in fault.reason


# ---- C-NMC ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spell", [str.upper, str.lower, str.title, lambda name: name.replace("fold_", "Fold"), lambda name: name]
)
def test_c_nmc_in_any_case(spell, tree):
    names = ["fold_0/all/UID_1_1_1_all.bmp", "fold_1/hem/UID_H2_1_1_hem.bmp"]
    listing = tree(*map(spell, names))
    assert listing.layout == "cnmc"
    assert labels(listing) == ["all", "hem"]
    assert [entry.fold for entry in listing.entries] == ["0", "1"]
    assert [entry.subject.upper() for entry in listing.entries] == ["1", "H2"]


def test_a_copy_under_a_name_of_its_own_is_told(tree):
    listing = tree("fold_0/all/UID_1_1_1_all.bmp", "fold_0/all/UID_1_1_1_all (2).bmp")
    assert "ended otherwise: 1," in " ".join(listing.notes)


# ---- one reading ----------------------------------------------------------------------------------------------------


def test_splits_of_classes_are_folds_and_parts(tree, tmp_path):
    listing = tree(*(f"{part}/{name}" for part in ("train", "Val", "test") for name in TWO))
    assert labels(listing) == (["all"] * 3 + ["hem"] * 3) * 3
    assert {(entry.fold, entry.part) for entry in listing.entries} == {
        ("train", "train"),
        ("Val", "validation"),
        ("test", "test"),
    }
    assert "are read as folds" in listing.notes[0]


def test_the_training_part_is_taken_unless_another_is_asked_for(tmp_path):
    for at, name in enumerate(["train/a", "train/b", "test/a", "test/b"]):
        write_image(tmp_path / "cells" / name / f"{at}.png", paint(at))
    dataset = load_dataset(tmp_path / "cells")
    assert [sample.fold for sample in dataset.samples] == ["train", "train"]
    assert "taking train, not test (2 images)" in dataset.notes[-1]
    assert len(load_dataset(tmp_path / "cells", part="test")) == 2
    assert len(load_dataset(tmp_path / "cells", part="all")) == 4


def test_numbered_folds_of_classes(tree):
    listing = tree(*(f"fold{fold}/{name}" for fold in (1, 2) for name in TWO))
    assert [entry.fold for entry in listing.entries] == ["1"] * 6 + ["2"] * 6


def test_one_folder_around_all_is_looked_into_with_a_word(tree):
    listing = tree(*(f"Data/{name}" for name in TWO))
    assert labels(listing) == ["all"] * 3 + ["hem"] * 3
    assert "Data is the only folder" in listing.notes[0]
    assert labels(tree(folders="label")) == ["Data"] * 6


def test_a_folder_of_all_images_is_no_class(tree):
    listing = tree("images/1.png", "images/2.png")
    assert (listing.layout, labels(listing)) == ("folder", [None, None])
    assert "not for a class" in listing.notes[0]


def test_folders_inside_classes_are_named(tree):
    listing = tree("blast/a.png", "blast/deep/b.png", "normal/c.png")
    assert labels(listing) == ["blast", "blast", "normal"]
    assert "blast/deep" in listing.notes[0]


# ---- more than one reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([f"patient_{n}/{name}" for n in (1, 2, 3) for name in TWO], ["subject/label", "--folders label"]),
        ([f"{label}/P{n}/{n}.png" for label in ("all", "hem") for n in (1, 2)], ["--folders label"]),
        ([f"slide{n}/{n}{k}.png" for n in (1, 2) for k in "ab"], ["--folders group", "--folders label"]),
        (["train/1.png", "train/2.png", "test/1.png"], ["--folders fold", "--folders label"]),
        (["train/all/1.png", "train/hem/1.png", "test/1.png"], ["fold/label", "--folders label"]),
        ([f"{label}/{part}/1.png" for label in ("all", "hem") for part in ("train", "test")], ["label/fold"]),
        (["all/1.png", "hem/1.png", "test/1.png"], ["--folders label"]),
        ([f"Hospital {n}/{name}" for n in (1, 2) for name in TWO], ["source/label"]),
        ([f"P0{n}/{n}{k}.png" for n in (1, 2) for k in "ab"], ["--folders subject", "--folders label"]),
        (["blast/a.png", "normal/b.png", "blast - Copy/c.png"], ["--folders label"]),
        (["blast/a.png", "normal/b.png", "Copy of blast (2)/c.png"], ["--folders label"]),
        (["blast/a.png", "normal/b.png", "unlabeled/c.png"], ["--folders label"]),
        (["images/1.png", "overlays/1.png"], ["--folders none", "--folders label"]),
        ([f"{kind}/{name}" for kind in ("Original", "Segmented") for name in TWO], ["-/label", "--folders label"]),
        ([f"{n}/{k}.png" for n in range(30) for k in range(2)], ["--folders label"]),
        ([f"{one}/BA_{n}7{n}.png" for one in ("day1", "day2") for n in range(4)], ["--folders label"]),
    ],
)
def test_both_readings_are_shown_and_each_can_be_chosen(names, shown, tree):
    with pytest.raises(DatasetError, match="not certain") as refused:
        tree(*names)
    for reading in shown:
        assert f"{reading}" in str(refused.value)
        assert len(tree(folders=reading.removeprefix("--folders ")).entries) == len(names)


def test_what_is_said_of_another_kind_of_data_set_is_refused(tree, tmp_path):
    with pytest.raises(DatasetError, match="columns cannot be used"):
        tree(*TWO, columns={"subject": "who"})
    with pytest.raises(DatasetError, match=r"folders cannot be used(.|\n)*C-NMC"):
        tree("all/UID_1_1_1_all.bmp", folders="label")
    (tmp_path / "cells.csv").write_text("path\na.png\n")
    with pytest.raises(DatasetError, match="masks cannot be used"):
        read_listing(tmp_path / "cells.csv", ReadingSettings(masks="use"))


def test_roles_say_what_folders_are(tree):
    tree(*(f"patient_{n}/{name}" for n in (1, 2) for name in TWO), masks="cells", folders="label")
    listing = tree(folders="subject/label")
    assert {(entry.subject, entry.label) for entry in listing.entries} == {
        (subject, label) for subject in ("patient_1", "patient_2") for label in ("all", "hem")
    }
    assert set(labels(tree(folders="none"))) == {None}
    for wrong in ("patient/label", "label/label", "-/-/label", ""):
        with pytest.raises(DatasetError, match="--folders"):
            tree(folders=wrong)


def test_classes_whose_files_are_numbered_alike_are_two(tree):
    assert set(labels(tree(*TWO))) == {"all", "hem"}


@pytest.mark.parametrize(
    "names",
    [
        ["L1", "L2", "L3"],
        ["M0", "M1", "M2"],
        ["0", "1"],
        ["neutrophil", "neutrophil band"],
        ["Early", "Pre", "Pro"],
        ["old cell", "young cell"],
        ["type 1", "type 2"],
        ["seg", "band"],
        ["unknown", "all"],
    ],
)
def test_ordinary_classes_need_no_question(names, tree):
    listing = tree(*(f"{name}/{at}.png" for name in names for at in range(3)))
    assert set(labels(listing)) == set(names)
    assert listing.notes == ()


def test_images_of_masks_are_known_by_what_they_are(tmp_path):
    for at in range(3):
        write_image(tmp_path / "cells" / "photo" / f"{at}.png", paint(at))
        mask = np.zeros((64, 64, 3), np.uint8)
        mask[20:40, 20:40] = 255
        write_image(tmp_path / "cells" / "outline" / f"{at}.png", mask)
    with pytest.raises(DatasetError, match="file names in common"):
        read_listing(tmp_path / "cells")


def test_predicting_needs_no_labels(tree, tmp_path):
    tree(*(f"patient_{n}/{name}" for n in (1, 2) for name in TWO), folders="none")
    listing = read_listing(tmp_path / "cells", needs_labels=False)
    assert set(labels(listing)) == {None}
    assert "not certain" in listing.notes[0]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["all", "hem", "train", "test", "images", "k1", "patient 2", "x"]), min_size=0, max_size=3)
)
def test_one_level_of_plain_folders_is_classes_and_no_other_is_in_silence(tmp_path_factory, extra):
    root = tmp_path_factory.mktemp("cells")
    plain = {("all",): 2, ("hem",): 2}
    place = tuple(extra)
    assume(place not in plain)
    folders = {**plain, place: 1}
    try:
        layout = find_layout(root, folders, None, None)
    except DatasetError as error:
        shown = str(error)
        assert "--folders" in shown  # an error is one of two right ends
    else:
        assert layout.roles == ("label",)
        assert layout.notes or len(place) == 1
        assert place[0] in {"all", "hem", "k1", "x"}


# ---- masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("all/c0.png", "all/c0_mask.png"),
        ("all/c0.bmp", "all/C0-Mask.png"),
        ("all/c0.png", "all/mask_c0.png"),
        ("all/c0.png", "all/c0_cell_mask.png"),
        ("all/c0.png", "all/c0.seg.png"),
        ("all/c0.png", "all/c0_gt.tif"),
        ("images/all/c0.png", "masks/all/c0.png"),
        ("images/all/c0.png", "Masks/all/c0_mask.png"),
        ("all/c0.png", "all/masks/c0.png"),
        ("all/images/c0.png", "all/masks/c0.png"),
        ("all/c0.png", "masks/all/c0.png"),
        ("images/all/c0.png", "annotations/all/c0.png"),
        ("images/all/c0.png", "ground_truth/all/c0.png"),
        ("JPEGImages/c0.jpg", "SegmentationClass/c0.png"),
    ],
)
def test_masks_among_images_are_asked_about_used_or_left_out(image, mask, tree, tmp_path):
    with pytest.raises(DatasetError, match="called like masks"):
        tree(image, mask)
    (entry,) = tree(masks="use").entries
    assert (entry.path, entry.mask_path) == (tmp_path / "cells" / image, tmp_path / "cells" / mask)
    (entry,) = tree(masks="ignore").entries
    assert (entry.path, entry.mask_path) == (tmp_path / "cells" / image, None)
    assert len(tree(masks="cells", folders="none").entries) == 2


def test_names_that_are_no_masks(tree):
    listing = tree("seg/0.png", "seg/1.png", "band/0.png", "band/1.png", "band/labelled_7.png", "seg/segment_3.png")
    assert set(labels(listing)) == {"seg", "band"}


def test_masks_without_their_image_and_images_with_two(tree):
    with pytest.raises(DatasetError, match="called like masks"):
        tree("all/c0.png", "hem/c1.png", "hem/c9_mask.png")
    with pytest.raises(DatasetError, match=r"no file of .* is called like the mask of an image"):
        tree(masks="use")
    assert "1 masks are of no image" in " ".join(tree("hem/c1_mask.png", masks="use").notes)
    with pytest.raises(DatasetError, match="2 masks of one image"):
        tree("all/c0_nucleus_mask.png", "all/c0_cell_mask.png", masks="use")


def test_masks_in_a_folder_beside_folders_of_images_are_found_by_a_name_that_is_there_once(tree):
    tree("all/c0.png", "hem/c1.png", "masks/c0.png", "masks/c1_mask.png", masks="ignore")
    found = tree(masks="use").entries
    assert [(entry.path.name, entry.mask_path.name) for entry in found] == [
        ("c0.png", "c0.png"),
        ("c1.png", "c1_mask.png"),
    ]
    listing = tree("hem/c0.png", masks="use")  # now there are two of that name
    assert [entry.mask_path is None for entry in listing.entries] == [True, True, False]
    assert any("of no image that is there" in note for note in listing.notes)


def test_to_use_masks_where_there_are_none_is_told(tree):
    assert any("no file is called like a mask" in note for note in tree("all/c0.png", "hem/c1.png", masks="use").notes)


def test_synthetic_sites_are_read_by_the_table_that_came_with_them(tmp_path):
    out = synthesize(tmp_path / "cells", SyntheticDesign(subjects=4, cells_per_subject=1, laboratories=2))
    listing = read_listing(out)
    assert listing.layout == "table"
    assert len({(entry.source, entry.subject) for entry in listing.entries}) == 8
    assert all(entry.mask_path.is_file() for entry in listing.entries)
    assert "truth.csv" in listing.notes[0]
    # Who says what the masks are, or adds an image of his own, is asked what the folders mean, as of any.
    assert read_listing(out, ReadingSettings(masks="ignore")).layout == "cnmc"
    write_image(out / "lab_1" / "fold_0" / "all" / "mine.png", paint())
    with pytest.raises(DatasetError, match="called like masks"):
        read_listing(out)


def test_a_plain_synthetic_tree_is_read_without_a_word(tmp_path):
    out = synthesize(tmp_path / "cells", SyntheticDesign(subjects=4, cells_per_subject=1))
    assert (read_listing(out).layout, read_listing(out).notes) == ("cnmc", ())


@pytest.mark.parametrize(
    ("name", "mask"),
    [("c0", "c0_maske"), ("c0", "c0mask"), ("c0", "masque_c0"), ("c0", "c0.mascara"), ("c0", "c0_cp_masks")],
)
def test_masks_in_other_words(name, mask, tree):
    tree(f"all/{name}.png", f"all/{mask}.png", "hem/c1.png", masks="ignore")
    assert [entry.mask_path and entry.mask_path.stem for entry in tree(masks="use").entries] == [mask, None]


def test_masks_of_c_nmc_images(tree):
    tree("fold_0/all/UID_1_1_1_all.bmp", "fold_0/all/UID_1_1_1_all_mask.png", masks="ignore")
    (entry,) = tree(masks="use").entries
    assert (entry.label, entry.mask_path.name) == ("all", "UID_1_1_1_all_mask.png")


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_in_the_folder_is_pointed_to(class_folders, tmp_path):
    table = class_folders / "labels.csv"
    table.write_text("path,label,subject\nblast/0.png,blast,1\n")
    refused = fusion("train", class_folders, "--features", "colour", "-o", tmp_path / "m")
    assert_refused(refused, 2, "labels.csv", "subject", "as DATA")
    assert fusion("inspect", class_folders, "--folders", "label").exit_code == 0
    for at in (0, 1):
        write_image(tmp_path / "both" / "images" / f"{at}.png", paint(at))
        write_image(tmp_path / "both" / "masks" / f"{at}.png", paint(at))
    (tmp_path / "both" / "labels.csv").write_text("path;label\nimages/0.png;x\n")
    assert_refused(fusion("inspect", tmp_path / "both"), 2, "labels.csv lists images too")
