"""A data set knows its content: keys, faults, groups; and does not read the same file twice."""

import os

import numpy as np
import pytest

from fusion.data._file_index import FileIndex
from fusion.data.dataset import DatasetError, load_dataset
from fusion.errors import UsageError
from fusion.io.content_hash import hash_content
from tests.builders.images import paint, write_image


@pytest.fixture
def settled(monkeypatch):
    """Files that were made just now are remembered; nobody can set ctime back. See ``_file_index._SETTLED_NS``."""
    monkeypatch.setattr("fusion.data._file_index._SETTLED_NS", -(10**9))


def test_keys_are_content(class_folders):
    dataset = load_dataset(class_folders)
    assert len(dataset) == 6
    assert dataset.classes == ["blast", "normal"]
    for sample in dataset.samples:
        assert sample.key == sample.image_key == hash_content(sample.path.read_bytes())


def test_a_mask_is_part_of_the_key_but_not_of_the_image(tmp_path):
    write_image(tmp_path / "a.png", paint())
    for name, level in (("m1.png", 128), ("m2.png", 255)):
        write_image(tmp_path / name, np.full((64, 64, 3), level, np.uint8))
    write_image(tmp_path / "b.png", paint())
    (tmp_path / "cells.csv").write_text("path,label,mask\na.png,x,m1.png\nb.png,y,m2.png\n")
    first, second = load_dataset(tmp_path / "cells.csv").samples
    assert first.image_key == second.image_key
    assert len({first.key, second.key, first.image_key}) == 3


def test_bad_files_become_faults_and_the_rest_stays(class_folders, tmp_path):
    (class_folders / "blast" / "text.png").write_text("not an image")
    (class_folders / "blast" / "cut.png").write_bytes((class_folders / "blast" / "0.png").read_bytes()[:200])
    (class_folders / "blast" / "empty.png").touch()
    dataset = load_dataset(class_folders)
    assert len(dataset) == 6
    reasons = {fault.path.name: fault.reason for fault in dataset.faults}
    assert set(reasons) == {"text.png", "cut.png", "empty.png"}
    assert "not an image" in reasons["text.png"]
    assert "cut short" in reasons["cut.png"]
    assert "empty" in reasons["empty.png"]
    assert {fault.stage for fault in dataset.faults} == {"read"}


def test_a_missing_image_or_mask_is_a_fault(tmp_path):
    write_image(tmp_path / "a.png", paint())
    (tmp_path / "cells.csv").write_text("path,label,mask\na.png,x,gone.png\nb.png,y,\n")
    dataset = load_dataset(tmp_path / "cells.csv")
    assert len(dataset) == 0
    assert ["no such file" in fault.reason for fault in dataset.faults] == [True, True]


def test_subjects_that_share_an_image_are_one_group(tmp_path):
    for name, seed in (
        ("fold_0/all/UID_1_1_1_all.bmp", 1),
        ("fold_1/all/UID_2_1_1_all.bmp", 1),
        ("fold_1/all/UID_3_1_1_all.bmp", 2),
        ("fold_0/hem/UID_h3_1_1_hem.bmp", 3),
        ("fold_1/hem/UID_H3_1_1_hem.bmp", 4),
    ):
        write_image(tmp_path / name, paint(seed))
    dataset = load_dataset(tmp_path)
    groups = dict(zip((sample.subject for sample in dataset.samples), dataset.groups(), strict=True))
    assert groups["1"] == groups["2"]
    assert len({groups["1"], groups["3"], groups["h3"], groups["H3"]}) == 4
    assert dataset.subjects_known


def test_a_table_that_lies_beside_class_folders_is_pointed_out(class_folders, tmp_path):
    (class_folders / "labels.csv").write_text("path,label\nblast/0.png,blast\n")
    (note,) = load_dataset(class_folders, store=tmp_path / "store").notes
    assert "labels.csv" in note
    assert load_dataset(class_folders / "labels.csv", store=tmp_path / "store").notes == ()


def test_where_no_subject_is_named_each_image_stands_alone(class_folders):
    write_image(class_folders / "blast" / "copy.png", paint(0, radius=22))
    dataset = load_dataset(class_folders)
    assert not dataset.subjects_known
    assert len(set(dataset.groups())) == 6
    assert len(dataset) == 7


def test_a_release_with_several_parts_trains_on_the_training_part(tmp_path):
    write_image(tmp_path / "train/fold_0/all/UID_1_1_1_all.bmp", paint(1))
    write_image(tmp_path / "test/1.bmp", paint(2))
    (tmp_path / "test_labels.csv").write_text(
        "Patient_ID,new_names,labels\nUID_9_1_1_hem.bmp,1.bmp,0\n".replace("_9_", "_H9_")
    )
    dataset = load_dataset(tmp_path)
    assert [sample.subject for sample in dataset.samples] == ["1"]
    assert "preliminary (1 images)" in dataset.notes[0]
    assert [sample.subject for sample in load_dataset(tmp_path, part="preliminary").samples] == ["H9"]
    assert len(load_dataset(tmp_path, part="all")) == 2
    with pytest.raises(DatasetError, match="no final part"):
        load_dataset(tmp_path, part="final")


def test_selection_names_what_it_does_not_find(class_folders):
    dataset = load_dataset(class_folders)
    assert {sample.label for sample in dataset.select(classes=["blast"]).samples} == {"blast"}
    with pytest.raises(UsageError, match=r"--classes.*\n.*mystery"):
        dataset.select(classes=["blast", "mystery"])
    with pytest.raises(UsageError, match="--folds"):
        dataset.select(folds=["0"])
    with pytest.raises(DatasetError, match="nothing to compare"):
        dataset.select(classes=["blast"]).labelled()


def test_unchanged_files_are_not_read_again(class_folders, tmp_path, settled):
    images = sorted(class_folders.rglob("*.png"))
    first, second = FileIndex(tmp_path / "index.arrow"), None
    contents = first.look_up(images)
    second = FileIndex(tmp_path / "index.arrow")
    assert second.look_up(images) == contents
    assert (first.files_read, second.files_read) == (6, 0)
    write_image(images[0], paint(99))
    third = FileIndex(tmp_path / "index.arrow")
    assert third.look_up(images)[0].bytes_hash == hash_content(images[0].read_bytes())
    assert third.files_read == 1


def test_a_file_that_may_still_change_is_not_remembered(class_folders, tmp_path):
    images = sorted(class_folders.rglob("*.png"))
    FileIndex(tmp_path / "index.arrow").look_up(images)
    again = FileIndex(tmp_path / "index.arrow")
    again.look_up(images)
    assert again.files_read == 6


def test_an_index_that_cannot_be_written_costs_time_only(class_folders, tmp_path, caplog, settled):
    (tmp_path / "file").write_text("in the way")
    assert len(load_dataset(class_folders, store=tmp_path / "file")) == 6
    assert "cannot remember" in caplog.text


def test_a_damaged_index_is_made_anew(class_folders, tmp_path, settled):
    images = sorted(class_folders.rglob("*.png"))
    contents = FileIndex(tmp_path / "index.arrow").look_up(images)
    stored = bytearray((tmp_path / "index.arrow").read_bytes())
    stored[len(stored) // 2] ^= 1
    (tmp_path / "index.arrow").write_bytes(stored)
    again = FileIndex(tmp_path / "index.arrow")
    assert again.look_up(images) == contents
    assert again.files_read == 6
    (tmp_path / "index.arrow").write_bytes(stored[:20])  # less than its checksum
    assert FileIndex(tmp_path / "index.arrow").look_up(images) == contents


def test_a_fault_of_reading_is_not_remembered(class_folders, tmp_path, monkeypatch, settled):
    images = sorted(class_folders.rglob("*.png"))

    def refused(path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", refused)
        faults = {content.fault for content in FileIndex(tmp_path / "index.arrow").look_up(images)}
    assert faults == {"cannot be read: permission denied"}
    assert not any(content.fault for content in FileIndex(tmp_path / "index.arrow").look_up(images))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_utf8_are_read_and_printed(tmp_path):
    content = write_image(tmp_path / "x.png", paint()).read_bytes()
    (tmp_path / "x.png").unlink()
    (tmp_path / os.fsdecode(b"c\xe9ll \n.png")).write_bytes(content)
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 1
    assert dataset.names == ["c\\xe9ll \\n.png"]
