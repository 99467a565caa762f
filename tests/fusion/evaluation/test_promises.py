"""Promises about cells and subjects: coverage on new ones, refusals, and what a bundle keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.evaluation.promises.coverage import promise_lines, promise_rows
from fusion.evaluation.promises.held_out import Asked, HeldOut, OwnScores, Promises, check_subjects
from fusion.evaluation.scores import Scores

CLASSES = ("all", "hem")


def drawn(
    subjects: int, cells: int, seed: int, *, apart: float = 1.2, between: float = 1.0, folds: int = 5
) -> tuple[FeatureTable, Scores]:
    """Subjects of two classes, each with an effect of its own on the scores of all its cells."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(subjects), cells)
    is_all = np.arange(subjects) % 2 == 0
    logit = np.where(is_all, apart, -apart)[of] + between * rng.normal(size=subjects)[of] + rng.normal(size=len(of))
    p = 1 / (1 + np.exp(-logit))
    table = FeatureTable.of_cells(np.zeros((len(of), 0), np.float32), [], [f"{at}" for at in range(len(of))])
    table = replace(
        table,
        y=tuple(np.where(is_all, "all", "hem")[of].tolist()),
        subjects=tuple(f"S{at}" for at in of),
        subjects_known=True,
        groups=of,
    )
    return table, Scores(("f",), "c", np.column_stack([p, 1 - p]), of // 2 % folds)


def test_sets_hold_the_class_of_so_many_new_cells_and_subjects_of_every_class():
    """300 calibrations of 24 subjects against one large population: a binomial error of 0.4 points a class."""
    new, scores = drawn(3000, 8, seed=10**6)
    codes, subjects = np.array(new.y) == "hem", np.arange(24_000) // 8
    means = np.array([np.bincount(subjects, column) / 8 for column in scores.proba[0].T]).T
    covered = []
    for seed in range(300):
        table, held = drawn(24, 8, seed)
        own = HeldOut.of(table, held, CLASSES).own_scores(seed)
        row = []
        for kind, proba, is_hem in (("cells", scores.proba[0], codes), ("subjects", means, codes[::8])):
            limits = own.thresholds(kind, 0.9)
            row += [(proba[~is_hem, 0] >= limits[0]).mean(), (proba[is_hem, 1] >= limits[1]).mean()]
        covered.append(row)
    assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.02)


def test_cells_of_one_subject_are_no_independent_witnesses():
    """All cells of 12 subjects pooled, 100 each, would promise 90% and hold less."""
    new, scores = drawn(8000, 1, seed=10**6, between=3.0)
    is_all = np.array(new.y) == "all"
    ours, pooled = [], []
    for seed in range(150):
        table, held = drawn(24, 100, seed, between=3.0)
        own = HeldOut.of(table, held, CLASSES).own_scores(seed)
        ours.append((scores.proba[0][is_all, 0] >= own.thresholds("cells", 0.9)[0]).mean())
        cells = held.proba[0][np.array(table.y) == "all", 0]
        pooled.append((scores.proba[0][is_all, 0] >= np.quantile(cells, 0.1)).mean())
    assert np.mean(pooled) < 0.885
    assert_allclose(np.mean(ours), 0.9, atol=0.025)


def test_a_risk_is_held_in_95_of_100_trainings():
    new, scores = drawn(6000, 1, seed=10**6)
    positives = scores.proba[0][np.array(new.y) == "all", 0]
    asked = Asked(sensitivity=0.95)
    missed = []
    for seed in range(300):
        table, held = drawn(2 * 70, 1, seed)
        own = HeldOut.of(table, held, CLASSES).own_scores(seed)
        missed.append((positives < own.risk_threshold("all", asked)).mean())
    assert np.mean(np.array(missed) <= 0.05) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(missed) > 0.005  # and somebody is ruled out


def test_figures_of_held_out_subjects_come_from_thresholds_of_the_others():
    table, scores = drawn(40, 6, seed=3)
    found = promise_rows(HeldOut.of(table, scores, CLASSES), Asked(0.9, 0.8, 0.0), "all", seed=0)
    for kind in ("cells", "subjects"):
        sets = found["sets"][kind]
        assert [row["class"] for row in sets["classes"]] == list(CLASSES)
        assert [row["subjects"] for row in sets["classes"]] == [20, 20]
        assert_allclose(sets["one"] + sets["several"] + sets["none"], 1)
        for row in sets["classes"]:
            assert 0.7 <= row["coverage"] <= 1
            assert row["low"] <= row["coverage"] <= row["high"]
    assert found["risk"]["positives"] == 20
    assert found["risk"]["found"]["coverage"] >= 0.7
    assert len(promise_lines(found)) == 3


def test_of_one_model_each_subject_is_left_out_in_turn():
    table, scores = drawn(40, 2, seed=3, folds=1)
    found = promise_rows(HeldOut.of(table, scores, CLASSES), Asked(0.9), "all", seed=0)
    for kind in ("cells", "subjects"):
        assert_allclose([row["coverage"] for row in found["sets"][kind]["classes"]], 0.9, atol=0.051)


@pytest.mark.parametrize(
    ("subjects", "asked", "said"),
    [
        (16, Asked(0.9), "9 at least"),
        (40, Asked(0.96), "24 at least"),
        (36, Asked(sensitivity=0.95, confidence=0.0), "19 at least"),
        (100, Asked(sensitivity=0.95), "59 at least"),
    ],
)
def test_too_few_subjects_are_refused_with_the_number_that_would_do(subjects, asked, said):
    table, _ = drawn(subjects, 2, seed=0)
    with pytest.raises(UsageError, match="too few subjects of 'all'") as refusal:
        check_subjects(table, CLASSES, asked, "all")
    assert said in refusal.value.expected
    assert str(subjects // 2) in refusal.value.found


def test_a_risk_needs_subjects_that_are_one_thing():
    table, _ = drawn(60, 2, seed=0)
    mixed = replace(table, y=("hem", *table.y[1:]))
    with pytest.raises(UsageError, match="positive or not"):
        check_subjects(mixed, CLASSES, Asked(sensitivity=0.9, confidence=0.0), "all")
    check_subjects(mixed, CLASSES, Asked(0.9), "all")  # of cells sets can be promised


def test_subjects_with_labels_of_their_own_are_judged_by_them():
    table, scores = drawn(40, 4, seed=1)
    rare = replace(
        table, subject_labels=table.y, y=tuple("hem" if at % 4 else label for at, label in enumerate(table.y))
    )
    held = HeldOut.of(rare, scores, CLASSES)
    assert np.bincount(held.subject_codes).tolist() == [20, 20]
    assert [len(own) for own in held.own_scores(0).cells] == [20, 40]


def test_what_a_model_keeps_comes_back_and_nonsense_does_not():
    table, scores = drawn(40, 2, seed=1)
    own = HeldOut.of(table, scores, CLASSES).own_scores(0)
    promises = Promises(Asked(0.9, 0.9, 0.0), own, "all")
    assert Promises.from_json(promises.to_json(), CLASSES, "all") == promises
    with pytest.raises(UsageError, match="too few"):
        promises.with_asked(Asked(0.99))
    for wrong in (
        {"cells": [[0.5]]},
        {"cells": [[0.5], [1.5]]},
        {"draws": [[0.1, 0.2], [0.3, 1.0]]},
        {"asked": {"level": 1.2, "confidence": 0.9}},
        {"subjects": [[0.5], [float("nan")]]},
    ):
        with pytest.raises((ValueError, TypeError, KeyError)):
            Promises.from_json({**promises.to_json(), **wrong}, CLASSES, "all")


def test_a_set_may_hold_no_class_or_all():
    own = OwnScores(CLASSES, ((0.6,) * 9, (0.6,) * 9), ((0.3,) * 9, (0.3,) * 9), ((0.0, 0.0), (0.0, 0.0)))
    promises = Promises(Asked(0.9), own, "all")
    assert promises.sets("cells", np.array([[0.5, 0.5], [0.7, 0.3]])) == [(), ("all",)]
    assert promises.sets("subjects", np.array([[0.5, 0.5], [0.8, 0.2]])) == [("all", "hem"), ("all",)]
    assert promises.ruled_out(np.array([[0.5, 0.5]])) is None
