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
from fusion.evaluation.promises.model_scales import LearntScores, on_one_scale
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


def test_scores_of_folds_cover_what_is_asked_once_they_are_on_the_scale_of_the_kept_model():
    """A model of the middle of each class in ten columns, learnt from ten subjects of each in five folds."""
    is_all, fold, table = np.arange(20) % 2 == 0, np.arange(20) // 2 % 5, drawn(20, 1, 0)[0]

    def ask(learnt: np.ndarray, of: np.ndarray, cells: np.ndarray) -> np.ndarray:
        first, second = learnt[of].mean(axis=0), learnt[~of].mean(axis=0)
        p = 1 / (1 + np.exp(-(cells - (first + second) / 2) @ (first - second)))
        return np.column_stack([p, 1 - p])

    covered: list[list[float]] = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(20, 10)) + np.where(is_all, 0.3, -0.3)[:, None], rng.normal(size=(400, 10)) + 0.3
        folds, proba = {}, np.empty((20, 2))
        for at in range(5):
            own = fold != at
            folds[at] = ask(X[own], is_all[own], X)
            proba[~own], folds[at][~own] = folds[at][~own], np.nan
        held = HeldOut.of(table, Scores(("f",), "c", proba, fold), CLASSES)
        scaled = on_one_scale(held, table, LearntScores(folds, ask(X, is_all, X)))
        said = ask(X, is_all, new)[:, 0]
        limits = [each.own_scores(seed).thresholds("subjects", 0.9)[0] for each in (held, scaled)]
        covered.append([float((said >= limit).mean()) for limit in limits])
    as_they_are, on_scale = np.mean(covered, axis=0)
    assert as_they_are > 0.912
    assert_allclose(on_scale, 0.9, atol=0.01)


@pytest.mark.parametrize(("surer", "is_scaled"), [(0.3, True), (1.5, True), (3.0, False)])
def test_scores_of_models_that_know_their_subjects_by_heart_stay_as_the_folds_gave_them(surer, is_scaled):
    """Learnt subjects so many standard deviations above held-out ones, and the kept model surer still."""
    table, scores = drawn(40, 3, seed=2)
    held = HeldOut.of(table, scores, CLASSES)
    own = np.log(scores.proba[0] / (1 - scores.proba[0]))
    deviation = np.sqrt(2)  # of cells of a class, by their subject and their own
    shift = surer * deviation * np.where(np.array(table.y) == "all", 1, -1)[:, None] * [[1, -1]]
    folds = {}
    for part in np.unique(scores.fold[0]):
        folds[part] = 1 / (1 + np.exp(-(own + shift)))
        folds[part][scores.fold[0] == part] = np.nan
    scaled = on_one_scale(held, table, LearntScores(folds, 1 / (1 + np.exp(-1.2 * (own + shift)))))
    for before, after in ((held.proba, scaled.proba), (held.means, scaled.means)):
        assert (np.abs(before - after).max() > 0.01) == is_scaled


@pytest.mark.parametrize("folds", [2, 5])
def test_the_kept_model_flatters_its_subjects_by_as_much_less_as_it_has_learnt_from_more(folds):
    """Of folds whose models say the same of learnt subjects as the kept one, held-out scores rise by a fold's share."""
    table, scores = drawn(20, 1, seed=4, folds=folds)
    held, own = HeldOut.of(table, scores, CLASSES), np.log(scores.proba[0] / (1 - scores.proba[0]))
    learnt = 1 / (1 + np.exp(-(own + 0.7 * np.where(np.array(table.y) == "all", 1, -1)[:, None] * [[1, -1]])))
    parts = {part: np.where((scores.fold[0] == part)[:, None], np.nan, learnt) for part in range(folds)}
    scaled = on_one_scale(held, table, LearntScores(parts, learnt))
    for code in range(2):
        rows = held.subject_codes == code
        before, after = (np.log(each.means[rows, code] / (1 - each.means[rows, code])) for each in (held, scaled))
        assert_allclose(after - before, 0.7 / folds)


def test_folds_whose_models_are_more_or_less_sure_than_the_kept_one_come_to_its_scale():
    """Each says of everybody what the kept one says, in log odds a fifth to twice as much: scaled, nobody is moved."""
    table, scores = drawn(40, 3, seed=6)
    own = np.log(scores.proba[0] / (1 - scores.proba[0]))
    factors = np.array([0.6, 0.8, 1.0, 1.3, 1.7])
    parts = {part: 1 / (1 + np.exp(-factor * own)) for part, factor in enumerate(factors)}
    proba = 1 / (1 + np.exp(-factors[scores.fold[0]][:, None] * own))
    for part, said in parts.items():
        said[scores.fold[0] == part] = np.nan
    truth = HeldOut.of(table, scores, CLASSES)
    held = HeldOut.of(table, Scores(("f",), "c", proba, scores.fold[0]), CLASSES)
    scaled = on_one_scale(held, table, LearntScores(parts, scores.proba[0]))
    rows = np.arange(len(own))
    moved = [np.abs(np.log(each.proba / (1 - each.proba)) - own)[rows, truth.codes] for each in (held, scaled)]
    assert np.mean(moved[0]) > 0.3
    assert np.mean(moved[1]) < 0.1


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


@pytest.mark.parametrize("own", CLASSES)
def test_of_subjects_of_one_class_a_promise_tells_what_they_can_tell(own):
    table, scores = drawn(40, 3, seed=3, apart=9)
    kept = np.flatnonzero(np.array(table.y) == own)
    of_class = HeldOut.of(table.take(kept), scores.take(kept), CLASSES)
    given = HeldOut.of(table, scores, CLASSES).own_scores(0)
    found = promise_rows(of_class, Asked(0.9, 0.8, 0.0), "all", 0, given)
    told = " ".join(promise_lines(found))
    assert "nan" not in told
    assert f"'{own}' (20 subjects);" in told
    assert ("of 20 are found" in told, "of the others" in told) == (own == "all", own == "hem")
    # Where no subject varies the interval is the exact one of so many subjects, and not without width.
    rows = {row["class"]: row for row in found["sets"]["cells"]["classes"]}
    assert rows[own]["low"] < rows[own]["coverage"] <= rows[own]["high"]


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
        {"unscaled": [[0.5], [0.5]]},
        {"unscaled": []},
    ):
        with pytest.raises((ValueError, TypeError, KeyError)):
            Promises.from_json({**promises.to_json(), **wrong}, CLASSES, "all")


def test_sets_rest_on_scores_of_the_models_scale_and_a_risk_on_those_that_the_folds_gave():
    low, high = (tuple(at / 100 + by for at in range(20)) for by in (0.0, 0.5))
    own = OwnScores(CLASSES, (low, low), (high, high), ((0.0, 0.0), (0.0, 0.0)), (low, low))
    assert own.thresholds("subjects", 0.9) == (high[2], high[2])
    assert own.risk_threshold("all", Asked(sensitivity=0.9, confidence=0.0)) == low[1]


def test_a_set_may_hold_no_class_or_all():
    subjects = ((0.3,) * 9, (0.3,) * 9)
    own = OwnScores(CLASSES, ((0.6,) * 9, (0.6,) * 9), subjects, ((0.0, 0.0), (0.0, 0.0)), subjects)
    promises = Promises(Asked(0.9), own, "all")
    assert promises.sets("cells", np.array([[0.5, 0.5], [0.7, 0.3]])) == [(), ("all",)]
    assert promises.sets("subjects", np.array([[0.5, 0.5], [0.8, 0.2]])) == [("all", "hem"), ("all",)]
    assert promises.ruled_out(np.array([[0.5, 0.5]])) is None
