"""Layouts are recognised, names are taken as written, and contradictions are told."""

import os

import pandas as pd
import pytest

from fusion.data.readers import DatasetError, read_listing
from fusion.images.decoding import ImageError, read_bytes
from tests.builders.images import paint, write_image


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened by a reader")


def facts(listed, root):
    return {entry.path.relative_to(root).as_posix(): (entry.label, entry.subject, entry.fold) for entry in listed}


def test_training_folds_of_c_nmc(tmp_path):
    touch(tmp_path, "fold_0/all/UID_11_5_2_all.bmp", "fold_1/hem/UID_H6_10_1_hem.bmp", "fold_2/hem/UID_h3_1_1_hem.bmp")
    layout, listed, _ = read_listing(tmp_path)
    assert layout == "cnmc"
    assert facts(listed, tmp_path) == {
        "fold_0/all/UID_11_5_2_all.bmp": ("all", "11", "0"),
        "fold_1/hem/UID_H6_10_1_hem.bmp": ("hem", "H6", "1"),
        "fold_2/hem/UID_h3_1_1_hem.bmp": ("hem", "h3", "2"),
    }


PRELIMINARY = "Patient_ID,new_names,labels\nUID_57_29_1_all.bmp,1.bmp,1\nUID_H49_29_1_hem.bmp,2.bmp,0\n"


@pytest.fixture
def release(tmp_path):
    """All three parts, unpacked the way the release's archives unpack."""
    touch(tmp_path, "C-NMC_training_data/fold_0/all/UID_1_1_1_all.bmp")
    touch(tmp_path, "validation/C-NMC_test_prelim_phase_data/1.bmp", "validation/C-NMC_test_prelim_phase_data/2.bmp")
    touch(tmp_path, "testing/C-NMC_test_final_phase_data/1.bmp")
    (tmp_path / "validation/C-NMC_test_prelim_phase_data_labels.csv").write_text(PRELIMINARY)
    return tmp_path


def test_the_final_test_does_not_borrow_labels_of_the_preliminary_one(release):
    listed = {entry.path.relative_to(release).parts[0]: entry for entry in read_listing(release)[1]}
    assert (listed["testing"].label, listed["testing"].part) == (None, "final")
    preliminary = [e for e in read_listing(release)[1] if e.part == "preliminary"]
    assert [(e.path.name, e.label, e.subject) for e in preliminary] == [("1.bmp", "all", "57"), ("2.bmp", "hem", "H49")]


def test_the_preliminary_folder_alone_finds_the_csv_beside_it(release):
    folder = release / "validation/C-NMC_test_prelim_phase_data"
    layout, listed, _ = read_listing(folder)
    assert layout == "cnmc"
    assert [(e.label, e.subject) for e in listed] == [("all", "57"), ("hem", "H49")]


def test_an_image_named_in_the_csv_but_not_there_is_listed_to_be_missed(release):
    (release / "validation/C-NMC_test_prelim_phase_data/2.bmp").unlink()
    names = [e.path.name for e in read_listing(release / "validation")[1]]
    assert names == ["1.bmp", "2.bmp"]


def test_a_csv_that_contradicts_its_names(release):
    (release / "validation/C-NMC_test_prelim_phase_data_labels.csv").write_text(
        PRELIMINARY.replace("1.bmp,1", "1.bmp,0")
    )
    with pytest.raises(DatasetError, match="line 2"):
        read_listing(release)


def test_a_name_that_contradicts_its_folder(tmp_path):
    touch(tmp_path, "fold_0/hem/UID_11_5_2_all.bmp")
    with pytest.raises(DatasetError, match="disagree"):
        read_listing(tmp_path)


def test_class_folders_and_what_an_operating_system_leaves_behind(tmp_path):
    touch(tmp_path, "blast/a.PNG", "blast/deep/b.jpg", "normal/c.tiff", "normal/._c.tiff", "normal/Thumbs.db")
    layout, listed, _ = read_listing(tmp_path)
    assert layout == "class folders"
    assert [(e.path.name, e.label) for e in listed] == [("a.PNG", "blast"), ("b.jpg", "blast"), ("c.tiff", "normal")]


def test_loose_images_beside_class_folders(tmp_path):
    touch(tmp_path, "blast/a.png", "b.png")
    with pytest.raises(DatasetError, match="loose"):
        read_listing(tmp_path)


def test_a_loop_of_links_ends(tmp_path):
    touch(tmp_path, "blast/a.png", "normal/b.png")
    (tmp_path / "normal" / "again").symlink_to(tmp_path)
    assert len(read_listing(tmp_path)[1]) == 2


def test_a_folder_that_cannot_be_listed_is_listed_itself(tmp_path, monkeypatch):
    touch(tmp_path, "blast/a.png", "normal/b.png", "normal/secret/c.png")
    scandir = os.scandir

    def guarded(folder):
        if str(folder).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("os.scandir", guarded)
    listed = read_listing(tmp_path)[1]
    assert [entry.path.name for entry in listed] == ["a.png", "b.png", "secret"]
    (_, _, fault) = [entry.path for entry in listed]
    with pytest.raises(ImageError, match="is a folder that cannot be listed"):
        read_bytes(fault)


def test_a_folder_that_vanishes_while_it_is_listed(tmp_path, monkeypatch):
    touch(tmp_path, "blast/a.png", "normal/b.png")
    stat = os.stat

    def gone(path, *more, **options):
        if str(path).endswith("normal"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return stat(path, *more, **options)

    monkeypatch.setattr("fusion.data.readers.os.stat", gone)
    names = [entry.path.name for entry in read_listing(tmp_path)[1]]
    assert names == ["a.png", "normal"]
    (tmp_path / "blast" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"no image.*\n.*cannot list .*normal"):
        read_listing(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_every_name_that_a_file_can_have_is_listed(tmp_path):
    names = [
        "a b.png",
        "line\nbreak.png",
        "\"quoted\" 'twice'.png",
        "\N{MICROSCOPE}.png",
        os.fsdecode(b"c\xe9ll.png"),
        "a,b;c.png",
        "-rf.png",
        "%s$HOME`x`.png",
        "\x1b[31mred.png",
    ]
    touch(tmp_path, *(f"blast/{name}" for name in names), "normal/x.png")
    listed = read_listing(tmp_path)[1]
    assert {entry.path.name for entry in listed if entry.label == "blast"} == set(names)
    assert [entry.path for entry in listed] == sorted(entry.path for entry in listed)


def test_a_folder_is_read_by_its_own_name_and_not_by_a_link_to_it(tmp_path):
    for label in ("a", "b", "c"):
        write_image(tmp_path / "cells" / label / f"{label}.png", paint())
    write_image(tmp_path / "elsewhere" / "d.png", paint())
    # The links come before what they lead to, whatever the order of a folder.
    for name, target in (("a/0", "cells/b"), ("a/zz", "cells/c"), ("c/0", "cells"), ("c/d", "elsewhere")):
        (tmp_path / "cells" / name).symlink_to(tmp_path / target)
    listing = read_listing(tmp_path / "cells")
    assert [(entry.path.name, entry.label) for entry in listing.entries] == [
        ("a.png", "a"),
        ("b.png", "b"),
        ("c.png", "c"),
        ("d.png", "c"),
    ]
    assert "passed over, as links to folders that are read by another name: a/0, a/zz, c/0." in listing.notes


def test_links_to_nothing_and_to_each_other_are_left_to_be_missed(tmp_path):
    touch(tmp_path, "blast/a.png", "normal/b.png")
    (tmp_path / "blast" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "blast" / "one.png").symlink_to(tmp_path / "blast" / "two.png")
    (tmp_path / "blast" / "two.png").symlink_to(tmp_path / "blast" / "one.png")
    listed = [entry.path for entry in read_listing(tmp_path)[1]]
    assert [path.name for path in listed] == ["a.png", "gone.png", "one.png", "two.png", "b.png"]
    for path in listed[1:4]:
        with pytest.raises(ImageError, match=r"no such file|too many levels"):
            read_bytes(path)


def test_a_table_with_everything(tmp_path):
    (tmp_path / "cells.csv").write_text(
        "path,label,subject,group,fold,mask,um_per_px\nimages/a.png,blast,007,slide1,x,masks/a.png,0.25\nb.png,,,,,,\n",
        encoding="utf-8-sig",
    )
    first, second = read_listing(tmp_path / "cells.csv")[1]
    assert (first.path, first.mask_path) == (tmp_path / "images/a.png", tmp_path / "masks/a.png")
    assert (first.label, first.subject, first.group, first.fold, first.um_per_px) == (
        "blast",
        "007",
        "slide1",
        "x",
        0.25,
    )
    assert (second.label, second.subject, second.group, second.fold, second.um_per_px) == (None,) * 5


def test_a_parquet_table_gives_the_same_rows_as_csv(tmp_path):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["x", "y"], "subject": [12, None]})
    frame.to_parquet(tmp_path / "cells.parquet")
    assert [e.subject for e in read_listing(tmp_path / "cells.parquet")[1]] == ["12", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,x\n", "no column 'path'"),
        ("", "no row"),
        ("path,label\n", "no row"),
        ("path,label\n,x\n", "line 2"),
        ("path,label\na.png,x\na.png,y\n", "line 3"),
        ("path,um_per_px\na.png,-1\n", "um_per_px"),
        ('path,label\n"a.png,x\n', "cannot be read"),
    ],
)
def test_tables_that_cannot_be_meant(content, message, tmp_path):
    (tmp_path / "cells.csv").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_listing(tmp_path / "cells.csv")


def test_the_same_row_twice_is_one_image(tmp_path):
    (tmp_path / "cells.csv").write_text("path,label\na.png,x\na.png,x\nb.png,y\n")
    assert len(read_listing(tmp_path / "cells.csv")[1]) == 2


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_listing(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no image"):
        read_listing(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="not a data set"):
        read_listing(tmp_path / "notes.txt")


def test_one_image_is_a_data_set_of_one(tmp_path):
    image = write_image(tmp_path / "one.png", paint())
    assert [entry.path for entry in read_listing(image)[1]] == [image]
