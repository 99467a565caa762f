from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.data.dataset import Dataset, DatasetError, Sample, nameless_notes
from fusion.data.patients.patient_labels import label_by_subject, unit_of
from fusion.data.units import cells_of, units_of
from fusion.errors import FusionError, UsageError
from fusion.settings.commands import TrainConfig

#: Path, label of the cell, subject, label of the subject, source, group.
ROWS = [
    ("1", "blast", "p", "ill", None, None),
    ("2", "normal", "p", None, None, None),
    ("3", "normal", "q", "well", None, None),
    ("4", None, "r", "well", None, None),
    ("5", "normal", None, None, None, None),
    ("6", "normal", "s", None, None, None),
]


def dataset(rows=ROWS, root=Path("cells"), notes=()):
    samples = [
        Sample(Path(name), name, name, label, subject, group, subject_label=own, source=source)
        for name, label, subject, own, source, group in rows
    ]
    return Dataset(root, "table", tuple(samples), notes=notes)


def test_a_cell_has_its_subjects_label_and_keeps_its_own_beside_it():
    found = label_by_subject(dataset())
    assert list(found.each("label")) == ["ill", "ill", "well", "well"]
    assert list(found.each("cell_label")) == ["blast", "normal", "normal", None]
    assert any("1 of 6 cells name no subject" in note for note in found.notes)
    assert any("1 subjects without a label are left out, such as s" in note for note in found.notes)


def test_of_cells_that_are_left_out_nothing_else_is_said():
    """As cells each would count as a subject of its own."""
    told = nameless_notes([row[2] for row in ROWS], [row[5] for row in ROWS])
    assert len(told) == 1
    notes = label_by_subject(dataset(notes=(*told, "another"))).notes
    assert "another" in notes
    assert not any("one of its own" in note for note in notes)


def test_a_table_in_the_folder_that_we_are_in_is_not_called_by_a_dot():
    rows = [("1", "blast", "p", "ill", None, None), ("2", "blast", "p", "well", None, None)]
    with pytest.raises(DatasetError, match=r"^the data has subjects of several classes"):
        label_by_subject(dataset(rows, root=Path()))


def test_without_labels_of_subjects_those_of_their_cells_are_taken_and_say_nothing_more():
    rows = [(name, "ill" if who == "p" else "well", who, None, *rest) for name, _, who, _, *rest in ROWS[:4]]
    found = label_by_subject(dataset(rows))
    assert list(found.each("label")) == ["ill", "ill", "well", "well"]
    assert set(found.each("cell_label")) == {None}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [*ROWS[:2], ("7", "normal", "p", "well", None, None)],
            ["subject p with 1 of 'ill' and 1 of 'well'", "one class"],
        ),
        ([(a, b, c, None, e, f) for a, b, c, _, e, f in ROWS[:3]], ["subject p", "subject_label"]),
        ([(a, b, None, None, e, f) for a, b, _, _, e, f in ROWS], ["whose the cells are"]),
    ],
)
def test_what_has_no_one_class_is_refused(rows, words):
    with pytest.raises(FusionError) as error:
        label_by_subject(dataset(rows))
    assert all(word in str(error.value) for word in words)


def test_units_are_subjects_told_apart_by_their_source_and_grouped_as_their_cells_are():
    rows = [
        ("1", None, "7", "ill", "east", None),
        ("2", None, "7", "well", "west", None),
        ("3", None, "8", "ill", "west", "slide"),
        ("4", None, "9", "well", "west", "slide"),
        ("5", None, "7", "ill", "east", None),
    ]
    found = label_by_subject(dataset(rows))
    units = units_of(found)
    assert units.names == ("7 of east", "7 of west", "8 of west", "9 of west")
    assert units.y == ("ill", "well", "ill", "well")
    assert [rows.tolist() for rows in units.cells] == [[0, 4], [1], [2], [3]]
    assert units.sources == ("east", "west", "west", "west")
    assert_array_equal(np.unique(units.groups, return_inverse=True)[1], [0, 1, 2, 2])
    assert units.are_subjects
    assert not cells_of(found).are_subjects


def table(tmp_path, header):
    (tmp_path / "cells.csv").write_text(f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    return tmp_path / "cells.csv"


@pytest.mark.parametrize(
    ("header", "given", "unit"),
    [
        ("path,subject,subject_label", {}, "subject"),
        ("path,subject,subject_label,label", {}, "cell"),
        ("path,subject,subject_label,label", {"unit": "subject"}, "subject"),
        ("path,subject,label", {}, "cell"),
        ("path,subject,diagnosis", {"columns": {"subject_label": "diagnosis"}}, "subject"),
        ("path,subject,subject_label", {"unit": "cell"}, "cell"),
    ],
)
def test_a_table_with_labels_of_subjects_alone_is_one_of_patients(tmp_path, header, given, unit):
    assert unit_of(TrainConfig(data=table(tmp_path, header), output="model", **given)) == unit


def test_a_folder_is_one_of_cells(tmp_path):
    assert unit_of(TrainConfig(data=tmp_path, output="model")) == "cell"
    with pytest.raises(UsageError):
        label_by_subject(Dataset(Path(), "folder", ()))
