"""The same image and the same name are two findings, in a model as in the table of an external test."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.data.dataset import Dataset, Sample, load_dataset
from fusion.data.subjects import canonical, check_spelling
from fusion.data.units import units_of
from fusion.errors import UsageError
from fusion.evaluation.results import subject_stamps
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.near_duplicates import hash_images, near_known
from fusion.leakage.protocols import external_plan, leaking_subjects
from fusion.leakage.provenance import Cohort, Provenance, cohort_notes, find_overlap, refusal
from fusion.settings.commands import InspectConfig
from fusion.workflows.inspect import inspect
from tests.builders.images import paint, write_image


def cohort(letter, subjects, sources=None, groups=None):
    """Cells with images of their own, of these subjects, by turns of two classes."""
    n = len(subjects)
    samples = [
        Sample(
            Path(f"{letter}{at}.png"),
            f"{letter}{at}",
            f"{letter}{at}",
            "ab"[at % 2],
            subjects[at],
            group=groups and groups[at],
            source=sources and sources[at],
            pixel_key=f"pixels of {letter}{at}",
        )
        for at in range(n)
    ]
    return Dataset(Path(), "table", samples)


def test_equal_names_without_a_source_are_told_as_names():
    known = Provenance.of(cohort("a", ["1", "2"]).samples)
    other = cohort("b", ["1", "3"])
    overlap = find_overlap(known, other)
    assert (overlap.images, overlap.names, overlap.rows) == ((), (0,), (0,))
    message = str(refusal("model", overlap, other))
    assert "no image is the same" in message
    assert "--other-cohort" in message
    assert "--source NAME" in message


def test_the_same_image_is_told_as_one_whoever_it_is_said_to_be():
    known = Provenance.of(cohort("a", ["1", "2"]).samples)
    again = cohort("a", ["8", "9"])
    for said in (Cohort(), Cohort(is_other=True), Cohort(declared="west")):
        overlap = find_overlap(known, again, said)
        assert (overlap.images, overlap.names) == ((0, 1), ())
    assert "2 are the same image" in str(refusal("model", overlap, again))


def test_pixels_are_known_again_in_another_container():
    known = Provenance.of(cohort("a", ["1", "2"]).samples)
    resaved = [replace(sample, image_key="other bytes") for sample in cohort("a", ["8", "9"]).samples]
    assert find_overlap(known, Dataset(Path(), "table", resaved)).images == (0, 1)


@pytest.mark.parametrize(
    ("learnt", "judged", "said", "is_known"),
    [
        (None, None, Cohort(), True),
        (None, None, Cohort(is_other=True), False),
        ("east", "west", Cohort(), False),
        ("east", "east", Cohort(), True),
        (None, "west", Cohort(), True),
        (None, "west", Cohort(declared="west"), False),
        ("east", "east", Cohort(declared="east"), True),
    ],
)
def test_who_is_the_same_person(learnt, judged, said, is_known):
    for role in ("subjects", "groups"):
        names = {"subjects": ["1"]} if role == "subjects" else {"subjects": [None], "groups": ["1"]}
        known = Provenance.of(cohort("a", sources=[learnt], **names).samples)
        other = cohort("b", sources=[judged], **names)
        assert bool(find_overlap(known, other, said).rows) is is_known
        was_believed = bool(cohort_notes(known, other, said))
        assert was_believed is (not is_known and learnt is None)


def test_a_model_knows_its_subjects_however_they_are_spelt():
    known = Provenance.of(cohort("a", ["1", "P1"]).samples)
    assert find_overlap(known, cohort("b", ["01", "p 1", "1.0", "2"])).names == (0, 1, 2)


def test_what_an_earlier_version_has_kept_is_read():
    sample = cohort("a", ["1"]).samples[0]
    kept = {"images": [sample.image_key], "subjects": [], "groups": []}
    assert Provenance.from_json(kept).has_image(sample.image_key)
    assert Provenance.from_json(Provenance.of([sample]).to_json()) == Provenance.of([sample])


@pytest.mark.parametrize("names", [{"subjects": ["1", "2"]}, {"subjects": [None] * 2, "groups": ["1", "2"]}])
def test_an_external_test_shares_neither_subjects_nor_groups(names):
    train, test = units_of(cohort("a", **names)), units_of(cohort("b", **names))
    with pytest.raises(LeakageError, match=r"2 (subjects|group ids) on both sides"):
        external_plan(train, test)
    _, groups = external_plan(train, test, other_cohort=True)
    assert len(set(groups.tolist())) == 4
    sources = [units_of(cohort(letter, sources=[letter] * 2, **names)) for letter in "ab"]
    assert len(set(external_plan(*sources)[1].tolist())) == 4
    assert leaking_subjects(external_plan(*sources)[0]) == 0
    # Said to be wanted: they stay one on both sides, and are counted for the stamp.
    plan, groups = external_plan(train, test, allow_leakage=True)
    assert leaking_subjects(plan) == len(set(groups.tolist())) == 2


def test_an_external_test_is_asked_about_spellings_and_near_duplicates():
    train = units_of(cohort("a", ["P1", "P2"]))
    with pytest.raises(UsageError, match=r"'P1' and 'p1'"):
        external_plan(train, units_of(cohort("b", ["p1", "p3"])))
    near = {"pixels of a0": 7, "pixels of b1": 7}
    with pytest.raises(LeakageError, match="1 sets of near-duplicates on both sides"):
        external_plan(train, units_of(cohort("b", ["P3", "P4"])), near=near)


@pytest.mark.parametrize("names", [["1", "01"], ["1", "1.0"], [" 1", "1"], ["P1", "p1"], ["p 1", "P1"], ["7", "007.0"]])
def test_one_name_spelt_twice_is_asked_about(names):
    assert len({canonical(name) for name in names}) == 1
    with pytest.raises(UsageError, match="spelt in several ways"):
        check_spelling("subject", names, [None, None], "t.csv")
    with pytest.raises(UsageError, match="spelt in several ways"):
        check_spelling("subject", names, ["east", None], "t.csv")
    check_spelling("subject", names, ["east", "west"], "t.csv")  # two people


@pytest.mark.parametrize("names", [["1", "11"], ["P1", "P01"], ["1e3", "1000"], ["H6", "6"], ["1.0", "1.1"]])
def test_other_names_are_other_people(names):
    check_spelling("subject", names, [None, None], "t.csv")


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("1", "01", "spelt"),
        ("1", '" 1"', "spelt"),
        ("P1", "p1", "spelt"),
        ("1.0", "1", 1),
        ("1.0", "2.0", 2),
        ("1.0", "1.1", 2),
        (" 1", " 1", 1),
        ("P1", "P2", 2),
    ],
)
def test_a_table_of_two_spellings(first, second, outcome, tmp_path):
    for at in range(2):
        write_image(tmp_path / f"{at}.png", paint(at))
    (tmp_path / "t.csv").write_text(f"path,label,subject\n0.png,a,{first}\n1.png,b,{second}\n")
    if outcome == "spelt":
        with pytest.raises(UsageError, match="spelt in several ways"):
            load_dataset(tmp_path / "t.csv")
    else:
        assert len(set(load_dataset(tmp_path / "t.csv").groups().tolist())) == outcome


def test_the_same_pixels_are_one_image_in_any_container(tmp_path):
    for at, ending in enumerate(("bmp", "png", "tiff")):
        write_image(tmp_path / f"{at}.{ending}", paint())
    (tmp_path / "t.csv").write_text("path,label,subject\n0.bmp,a,1\n1.png,b,2\n2.tiff,b,3\n")
    dataset = load_dataset(tmp_path / "t.csv")
    assert len({sample.key for sample in dataset.samples}) == 3
    assert dataset.groups().tolist() == [0, 0, 0]
    found = inspect(InspectConfig(data=tmp_path / "t.csv"))
    assert found.identical == [["0.bmp", "1.png", "2.tiff"]]


def test_cells_without_a_subject_count_as_one_each(tmp_path):
    for at in range(24):
        write_image(tmp_path / f"{at}.png", paint(at))
    rows = [f"{at}.png,{'ab'[at % 2]},{'' if at == 5 else at % 4}" for at in range(24)]
    (tmp_path / "t.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")
    dataset = load_dataset(tmp_path / "t.csv")
    assert "1 cell names no subject and counts as one of its own." in dataset.notes
    units = units_of(dataset)
    assert (units.unit, units.nameless, len(np.unique(units.groups))) == ("subject", 1, 5)
    assert subject_stamps(units) == []


def test_groups_without_subjects_are_called_groups():
    units = units_of(cohort("a", [None] * 4, groups=["x", "x", "y", "y"]))
    assert units.unit == "group"
    assert subject_stamps(units) == ["subjects unknown: groups are taken as independent"]
    mixed = units_of(cohort("a", ["1", None, None, None]))
    assert mixed.unit == "subject"
    assert "3 of 4 cells name none" in subject_stamps(mixed)[0]
    assert subject_stamps(units_of(cohort("a", [None] * 2))) == ["subjects unknown: cells are taken as independent"]


def test_near_duplicates_are_known_again_by_what_a_model_keeps(tmp_path):
    for at in range(6):
        write_image(tmp_path / "train" / f"{at}.png", paint(at, radius=18 + at))
    turned = cv2.convertScaleAbs(np.rot90(paint(3, radius=21)).copy(), alpha=0.9)
    write_image(tmp_path / "test" / "turned.png", turned)
    write_image(tmp_path / "test" / "other.png", paint(40, radius=15))
    known = hash_images([load_dataset(tmp_path / "train")]).digits
    assert len(known[0]) == 64
    hashed = hash_images([load_dataset(tmp_path / "test")])
    near = near_known(hashed.hashes, known, 16)
    assert dict(zip(hashed.names, near.tolist(), strict=True)) == {"other.png": False, "turned.png": True}
