"""Synthetic patients: rare leukaemic cells, several classes, age; and patients put together of real cells."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.data.readers import read_listing
from fusion.errors import UsageError
from fusion.settings.commands import SynthesizeConfig
from fusion.synthetic.cells import CLASS_MEANS, POPULATION, SyntheticDesign, draw_label, draw_subjects, synthesize
from fusion.synthetic.constructed_patients import construct_patients
from fusion.synthetic.traits import draw_traits
from fusion.workflows.synthesize import make_data_set

RARE = SyntheticDesign(subjects=200, cells_per_subject=300, witness_rate=0.05)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- people ---------------------------------------------------------------------------------------------------------


def test_only_the_ill_have_leukaemic_cells_in_about_the_share_asked_for():
    drawn = draw_traits(RARE)
    leukaemic = drawn.labels == "all"
    ill = drawn.subject_labels == "all"
    assert not leukaemic[~ill].any()
    assert_allclose(leukaemic[ill].mean(), 0.055, atol=0.012)  # the median is 0.05, the mean a little more
    shares = [leukaemic[drawn.subjects == name].mean() for name in sorted(set(drawn.subjects[ill]))]
    assert 0.015 < np.quantile(shares, 0.05) < 0.04
    assert 0.08 < np.quantile(shares, 0.95) < 0.16


def test_without_a_spread_every_patient_has_the_same_share():
    rates = {one.witness_rate for one in draw_subjects(replace(RARE, witness_spread=0.0))}
    assert_allclose(sorted(rates), [0.0, 0.05])


def test_blasts_of_one_percent_may_be_none_of_a_patients_cells():
    rare = SyntheticDesign(subjects=100, cells_per_subject=100, witness_rate=0.01, witness_spread=0.0)
    found = [
        sum(draw_label(rare, subject, number) == "all" for number in range(100))
        for subject in draw_subjects(rare)
        if subject.label == "all"
    ]
    assert 0 in found
    assert_allclose(np.mean(found), 1.0, atol=0.45)  # three standard errors of a mean of 50 Poisson numbers


def test_where_all_cells_carry_the_label_subjects_are_of_one_class():
    drawn = draw_traits(SyntheticDesign(subjects=12, cells_per_subject=5))
    assert (drawn.labels == drawn.subject_labels).all()
    assert Counter(drawn.labels) == {"all": 30, "hem": 30}


def test_four_classes_have_as_many_subjects_each_and_cells_of_their_own_kind():
    drawn = draw_traits(SyntheticDesign(subjects=42, cells_per_subject=40, classes=4))
    people = dict(zip(drawn.subjects, drawn.subject_labels, strict=True))
    assert Counter(people.values()) == {"all": 11, "aml": 11, "cll": 10, "hem": 10}
    assert set(drawn.folds.tolist()) == {0, 1, 2}
    means = {label: drawn.X[drawn.labels == label].mean(axis=0) for label in set(drawn.labels)}
    at = {name: number for number, name in enumerate(drawn.columns)}
    assert means["cll"][at["traits.area"]] < means["hem"][at["traits.area"]] < means["aml"][at["traits.area"]]
    assert means["aml"][at["traits.nucleus_ratio"]] < means["hem"][at["traits.nucleus_ratio"]]


def test_the_numbers_of_cells_spread_as_far_as_asked():
    design = SyntheticDesign(subjects=400, cells_per_subject=200, cells_spread=0.5)
    logs = np.log([one.cells for one in draw_subjects(design)])
    assert_allclose([logs.mean(), logs.std()], [np.log(200), 0.5], atol=0.06)
    assert len(draw_traits(design)) == sum(one.cells for one in draw_subjects(design))


def test_age_moves_cells_and_goes_with_the_class_only_where_it_is_asked_to():
    plain, old = (draw_subjects(replace(RARE, age_gap=gap, age_effect=effect)) for gap, effect in ((0, 0), (20, 1)))
    for subjects, gap in ((plain, 0), (old, 20)):
        ages = {label: np.mean([s.age for s in subjects if s.label == label]) for label in ("all", "hem")}
        assert_allclose(ages["all"] - ages["hem"], gap, atol=5)
    for before, after in zip(plain, old, strict=True):
        for trait, spread in POPULATION.items():
            moved = after.shifts[trait] - before.shifts[trait]
            expected = (after.age - 40) / 15 * spread.between_subjects * np.sign(spread.between_classes)
            assert_allclose(moved, expected, atol=1e-12)


def test_traits_lie_where_painted_cells_are_drawn_from():
    drawn = draw_traits(SyntheticDesign(subjects=60, cells_per_subject=400, subject_effect=0.0), noise=3)
    assert drawn.X.shape == (24_000, 12)
    for at, (trait, spread) in enumerate(POPULATION.items()):
        scale = spread.between_cells or 1.0
        for label in ("all", "hem"):
            expected = CLASS_MEANS[label][trait] * spread.between_classes / scale
            assert_allclose(drawn.X[drawn.labels == label, at].mean(), expected, atol=0.04)
    assert_allclose(drawn.X.std(axis=0)[-3:], 1, atol=0.03)
    assert list(drawn.to_frame().columns[:5]) == ["label", "subject", "subject_label", "subject_age", "fold"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 1),
        ("classes", 5),
        ("witness_rate", 0.0),
        ("witness_rate", 1.1),
        ("witness_rate", float("nan")),
        ("witness_spread", -1.0),
        ("cells_spread", float("inf")),
        ("age_effect", -0.1),
        ("age_gap", float("nan")),
    ],
)
def test_impossible_patients_are_refused(name, value):
    with pytest.raises(UsageError, match=name):
        replace(RARE, **{name: value})


# ---- painted --------------------------------------------------------------------------------------------------------


def test_a_tree_of_mixed_subjects_is_read_by_its_table(tmp_path):
    design = SyntheticDesign(subjects=6, cells_per_subject=6, classes=3, witness_rate=0.4)
    tree = synthesize(tmp_path / "tree", design)
    truth = rows_of(tree / "truth.csv")
    listing = read_listing(tree)
    assert listing.layout == "table"
    read = {(entry.path.name, entry.label, entry.subject, entry.fold) for entry in listing.entries}
    assert read == {(Path(row["path"]).name, row["label"], row["subject"], row["fold"]) for row in truth}
    for row in truth:
        assert row["label"] in {"hem", row["subject_label"]}
        assert row["path"].startswith(f"fold_{row['fold']}/{row['label']}/")
    expected = {
        (subject.name, number): draw_label(design, subject, number)
        for subject in draw_subjects(design)
        for number in range(6)
    }
    assert Counter(expected.values()) == Counter(row["label"] for row in truth)
    assert len(set(expected.values())) == 3


# ---- real cells -----------------------------------------------------------------------------------------------------

REAL = SyntheticDesign(subjects=20, cells_per_subject=30, witness_rate=0.1, cells_spread=0.2)
LABELS = ["ig"] * 80 + ["neutrophil"] * 500 + ["lymphocyte"] * 200


def test_no_cell_and_no_group_is_of_two_patients():
    groups = np.arange(len(LABELS)) // 3
    found = construct_patients(LABELS, groups, ["ig"], REAL)
    assert len(set(found.cells.tolist())) == len(found.cells)
    owners = defaultdict(set)
    for cell, patient in zip(found.cells.tolist(), found.patients.tolist(), strict=True):
        owners[groups[cell]].add(patient)
    assert all(len(each) == 1 for each in owners.values())
    sizes = Counter(found.patients.tolist())
    assert [sizes[at] for at in range(20)] == [one.cells for one in found.subjects]


def test_only_ill_patients_have_witnesses_and_shares_of_the_others_vary():
    found = construct_patients(LABELS, np.arange(len(LABELS)), ["ig"], REAL)
    of = np.array(LABELS)[found.cells]
    label = np.array([one.label for one in found.subjects])[found.patients]
    assert not (of[label == "healthy"] == "ig").any()
    assert_allclose((of[label == "ig"] == "ig").mean(), 0.1, atol=0.06)
    shares = [(of[found.patients == at] == "neutrophil").mean() for at in range(20)]
    assert np.std(shares) > 0.07


def test_the_same_cells_and_seed_make_the_same_patients():
    one, same, other = (
        construct_patients(LABELS, np.arange(len(LABELS)), ["ig"], replace(REAL, seed=seed)) for seed in (0, 0, 1)
    )
    assert one.cells.tolist() == same.cells.tolist()
    assert one.cells.tolist() != other.cells.tolist()


@pytest.mark.parametrize(
    ("witnesses", "normal", "said"),
    [
        ([], [], "classes of witnesses"),
        (["igg"], [], "no cells of class 'igg'"),
        (["ig"], ["ig"], "at once"),
        (["ig", "neutrophil", "lymphocyte"], [], "ordinary cells"),
    ],
)
def test_witnesses_that_cannot_be_are_refused(witnesses, normal, said):
    with pytest.raises(UsageError, match=said):
        construct_patients(LABELS, np.arange(len(LABELS)), witnesses, REAL, normal=normal)


def test_too_few_cells_are_refused_with_their_numbers():
    with pytest.raises(UsageError, match="too few cells") as refusal:
        construct_patients(LABELS, np.arange(len(LABELS)), ["ig"], replace(REAL, cells_per_subject=200))
    assert "neutrophil" in refusal.value.found


def test_the_table_of_real_cells_is_one_that_fusion_reads(tmp_path):
    cells = synthesize(tmp_path / "cells", SyntheticDesign(subjects=8, cells_per_subject=6, classes=2))
    made = make_data_set(
        SynthesizeConfig(
            output=tmp_path / "patients",
            real_cells=cells,
            witnesses=["all"],
            subjects=4,
            cells=3,
            folds=2,
            witness_rate=0.5,
        )
    )
    rows = rows_of(made.path)
    assert (made.cells, made.subjects, len(rows)) == (12, 4, 12)
    assert made.witnesses == sum(row["label"] == "all" for row in rows)
    assert all((made.path.parent / row["path"]).is_file() for row in rows)
    assert not list(made.path.parent.glob("*.bmp"))
    assert {row["subject_label"] for row in rows} == {"all", "healthy"}
    assert {entry.subject for entry in read_listing(made.path).entries} == {"1", "2", "H1", "H2"}
    # who gave the cells stays on one side
    assert all(row["group"] for row in rows)


def test_settings_of_painted_and_of_real_cells_do_not_mix(tmp_path):
    with pytest.raises(UsageError, match="age_effect is for painted"):
        make_data_set(SynthesizeConfig(output=tmp_path / "o", real_cells=tmp_path, witnesses=["all"], age_effect=1.0))
    with pytest.raises(UsageError, match="real cells"):
        make_data_set(SynthesizeConfig(output=tmp_path / "o", witnesses=["all"]))
