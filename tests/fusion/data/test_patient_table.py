"""A table of patients beside the images: who is joined to whom, and what is refused or told."""

import pytest

from fusion.data.dataset import DatasetError, load_dataset
from fusion.data.patients.patient_labels import label_by_subject, unit_of
from fusion.settings.commands import TrainConfig
from fusion.settings.data import ReadingSettings
from tests.builders.images import paint, write_image


def write_cohort(folder, patients, table, layout="{subject}/{at}.png"):
    """Two images of each of these (subject, class) in folders of their own, and a table of them."""
    for number, (subject, label) in enumerate(patients):
        for at in range(2):
            file = folder / "images" / layout.format(subject=subject, label=label, at=at)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_image(file, paint(10 * number + at))
    (folder / "patients.csv").write_text(table)
    return folder / "images"


def read(folder, store, folders="subject", **said):
    reading = ReadingSettings(patients=folder.parent / "patients.csv", folders=folders, **said)
    return load_dataset(folder, reading=reading, store=store)


def labels(dataset):
    return dict(zip(dataset.each("subject"), dataset.each("subject_label"), strict=True))


def test_patients_have_what_their_table_says_however_their_ids_are_spelt(tmp_path):
    table = "pat_id,sex,age,diagnosis,hospital\n7,f,31,AML,east\n0012,m,60,healthy,east\n13,m,61,healthy,west\n"
    images = write_cohort(tmp_path, [("0007", ""), ("0012", ""), ("X1", "")], table)
    named = {"subject": "pat_id", "label": "diagnosis", "source": "hospital"}
    dataset = read(images, tmp_path / "store", patient_columns=named)
    assert labels(dataset) == {"0007": "AML", "0012": "healthy", "X1": None}
    assert list(dataset.each("source")) == ["east"] * 4 + [None] * 2
    told = " ".join(dataset.notes)
    assert "1 of 3 patients of the images are not in patients.csv: X1." in told
    assert "1 of 3 patients of patients.csv have no image: 13." in told
    assert "1 patients are spelt otherwise in patients.csv, and taken for the same: 7 for 0007." in told
    assert "columns not used: sex, age" in told


@pytest.mark.parametrize(
    ("table", "said", "words"),
    [
        ("pat_id,bag_label\na,ill\n", {}, ["no column 'subject'", "--patient-columns subject=pat_id,label=bag_label"]),
        ("subject,bag_label\na,ill\n", {}, ["'bag_label', which looks like 'label'", "label=bag_label"]),
        ("subject,clinic\na,east\n", {}, ["'clinic', which looks like 'source'"]),
        ("subject,label\na,ill\na,well\n", {}, ["line 3", "subject a with label ill and well"]),
        ("subject,label\na,ill\nA,ill\n", {}, ["may be one subject spelt in several ways"]),
        ("subject,label\nq,ill\n", {}, ["no patient of the images is in", "a, b beside q"]),
        ("subject,source,label\na,east,ill\na,west,well\n", {}, ["a of east and of west", "--set source=NAME"]),
        ("subject,label\na,ill\n", {"folders": "none"}, ["no image names its own", "--folders subject"]),
        ("subject,fold\na,1\n", {"folders": "fold/subject"}, ["contradicts the images about subject a", "fold 1"]),
        ("subject,label\na,ill\n", {"patient_columns": {"age": "a"}}, ["--patient-columns has no 'age'"]),
    ],
)
def test_what_is_not_certain_of_patients_is_refused_in_one_line(table, said, words, tmp_path):
    layout = "2/{subject}/{at}.png" if "fold/" in said.get("folders", "") else "{subject}/{at}.png"
    images = write_cohort(tmp_path, [("a", ""), ("b", "")], table, layout)
    with pytest.raises(DatasetError if "several ways" not in words[0] else Exception) as caught:
        read(images, tmp_path / "store", **said)
    for word in words:
        assert word in str(caught.value)


def test_a_row_without_a_source_is_of_no_two_people(tmp_path):
    layout = "{label}/{subject}/{at}.png"
    images = write_cohort(tmp_path, [("1", "east"), ("1", "west")], "subject,label\n1,ill\n", layout)
    with pytest.raises(DatasetError, match="subjects of that id in east and west"):
        read(images, tmp_path / "store", folders="source/subject")


def test_a_patient_of_another_class_in_its_folder_is_told(tmp_path):
    layout = "{label}/{subject}/{at}.png"
    table = "subject,label\n1,ill\n2,well\n3,well\n"
    images = write_cohort(tmp_path, [("1", "ill"), ("2", "well"), ("3", "ill")], table, layout)
    dataset = label_by_subject(read(images, tmp_path / "store", folders="label/subject"))
    assert dict(zip(dataset.each("subject"), dataset.each("label"), strict=True)) == {
        "1": "ill",
        "2": "well",
        "3": "well",
    }
    assert "1 subjects have another class" in dataset.notes[-1]
    assert "3 (ill, well)" in dataset.notes[-1]


def test_a_table_of_patients_that_nobody_named_is_told(tmp_path):
    images = write_cohort(tmp_path, [("a", ""), ("b", "")], "patient_id,diagnosis\na,ill\n")
    found = load_dataset(images, reading=ReadingSettings(folders="subject"), store=tmp_path / "store")
    assert f"--patients {tmp_path / 'patients.csv'} joins it" in " ".join(found.notes)


def test_folders_of_people_below_classes_are_offered_as_what_they_are(tmp_path):
    patients = [("0007", "APL"), ("0012", "APL"), ("0031", "control"), ("0040", "control")]
    images = write_cohort(tmp_path, patients, "", "{label}/{subject}/{at}.tif")
    with pytest.raises(DatasetError, match=r"--folders label/subject \(classes APL, control; 4 subjects\)"):
        load_dataset(images, store=tmp_path / "store")


def test_an_id_in_two_class_folders_is_asked_about(tmp_path):
    images = write_cohort(tmp_path, [("1", "APL"), ("1", "control")], "", "{label}/{subject}/{at}.png")
    dataset = load_dataset(images, reading=ReadingSettings(folders="label/subject"), store=tmp_path / "store")
    with pytest.raises(DatasetError) as caught:
        label_by_subject(dataset)
    assert "subject 1 with 2 of 'APL' and 2 of 'control' cells in the class folders" in str(caught.value)
    assert "give each an id of its own" in str(caught.value)


def test_columns_under_other_names_are_asked_about_at_once(tmp_path):
    (tmp_path / "cells.csv").write_text("PATH,Label,SUBJECT\na.png,ill,1\n")
    with pytest.raises(DatasetError, match=r"Say --columns path=PATH,label=Label,subject=SUBJECT\."):
        load_dataset(tmp_path / "cells.csv", store=tmp_path / "store")


@pytest.mark.parametrize(
    ("said", "table", "unit"),
    [
        ({"folders": "subject"}, "subject,label\n1,ill\n", "subject"),
        ({"folders": "label/subject"}, "subject,label\n1,ill\n", "cell"),  # which says what cells are
        ({"folders": "subject"}, "subject,source\n1,east\n", "cell"),
        ({"folders": "subject", "unit": "cell"}, "subject,label\n1,ill\n", "cell"),
    ],
)
def test_patients_are_learnt_from_where_nobody_labels_cells(said, table, unit, tmp_path):
    (tmp_path / "patients.csv").write_text(table)
    given = {"data": tmp_path, "output": tmp_path / "out", "patients": tmp_path / "patients.csv", **said}
    assert unit_of(TrainConfig(**given)) == unit
