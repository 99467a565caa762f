"""Classes by other names: said by the user, told where they look alike, and never guessed."""

import pytest

from fusion.data.class_names import check_known_classes, rename_classes
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.settings.data import DataSettings
from fusion.workflows.loading import load_labelled
from tests.builders.images import paint, write_image


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    for at, label in enumerate(["SNE", "BNE", "LY", "LY", "basophil"]):
        write_image(folder / label / f"{at}.png", paint(at))
    return load_dataset(folder)


def test_classes_are_called_by_other_names_and_several_become_one(dataset):
    found = rename_classes(dataset, {"neutrophil": ["SNE", "BNE"], "lymphocyte": ["LY"]})
    assert found.classes == ["basophil", "lymphocyte", "neutrophil"]
    assert sorted(found.each("label")) == ["basophil", *["lymphocyte"] * 2, *["neutrophil"] * 2]
    assert list(found.each("key")) == list(dataset.each("key"))
    assert found.notes[-1] == (
        "Classes by other names: SNE is called neutrophil; BNE is called neutrophil; LY is called lymphocyte."
    )
    assert rename_classes(dataset, {}) is dataset
    assert rename_classes(dataset, {"LY": ["LY"]}).notes == dataset.notes


def test_settings_mean_the_new_names(dataset, tmp_path):
    more = {"data": dataset.root, "store": tmp_path, "class_names": "neutrophil=SNE,BNE,lymphocyte=LY"}
    found = load_labelled(DataSettings(**more, classes=["neutrophil", "lymphocyte"]))
    assert sorted(found.each("label")) == ["lymphocyte", "lymphocyte", "neutrophil", "neutrophil"]
    with pytest.raises(UsageError, match="--classes names what the data set does not have"):
        load_labelled(DataSettings(**more, classes=["SNE"]))


def test_names_change_places_without_a_third(dataset):
    found = rename_classes(dataset, {"SNE": ["BNE"], "BNE": ["SNE"]})
    swapped = {"SNE": "BNE", "BNE": "SNE"}
    assert list(found.each("label")) == [swapped.get(label, label) for label in dataset.each("label")]


def test_labels_of_subjects_and_of_their_cells_are_renamed_too(tmp_path):
    for at in range(4):
        write_image(tmp_path / f"{at}.png", paint(at))
    rows = [f"{at}.png,{'ab'[at % 2]},s{at % 2},{('ill', 'well')[at % 2]}" for at in range(4)]
    (tmp_path / "cells.csv").write_text("path,label,subject,subject_label\n" + "\n".join(rows) + "\n")
    found = rename_classes(load_dataset(tmp_path / "cells.csv"), {"hem": ["well"], "A": ["a"]})
    assert set(found.each("subject_label")) == {"hem", "ill"}
    assert set(found.each("label")) == {"A", "b"}


def test_what_cannot_be_renamed_is_refused_unless_it_may_be_missing(dataset):
    with pytest.raises(UsageError, match="names what the data set does not have") as refused:
        rename_classes(dataset, {"neutrophil": ["SNF"]})
    assert "SNE" in refused.value.do
    with pytest.raises(UsageError, match="gives a class two names"):
        rename_classes(dataset, {"a": ["LY"], "b": ["LY"]})
    assert rename_classes(dataset, {"neutrophil": ["SNF", "SNE"]}, is_lenient=True).classes[-1] == "neutrophil"


@pytest.mark.parametrize(
    ("known", "do"),
    [
        (
            ["basophil", "lymphocyte", "sne-bne"],
            "If these are the same classes by other names, say so: --class-names lymphocyte=LY,sne-bne=SNE. "
            "Leave others out with --classes basophil.",
        ),
        (["ill", "well"], "Say which of the model's classes they are with --class-names OURS=THEIRS."),
        (
            ["Basophil", "ly"],
            "If these are the same classes by other names, say so: --class-names ly=LY,Basophil=basophil.",
        ),
        (["BNE", "LY", "SNE", "basophil", "monocyte"], None),
    ],
)
def test_labels_that_a_model_does_not_know_are_refused_with_the_option_that_helps(dataset, known, do):
    if do is None:
        check_known_classes(dataset, known)
        return
    with pytest.raises(UsageError, match="labels that the model was not trained on") as refused:
        check_known_classes(dataset, known)
    assert refused.value.do == do
