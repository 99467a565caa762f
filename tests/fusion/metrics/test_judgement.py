"""Every figure without a subject is the plain loop, only faster; and every interval says what it rests on."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as oracle

from fusion.metrics import _ranked_rows
from fusion.metrics.classification import LEVELS, image_metrics
from fusion.metrics.judgement import judge_scores
from fusion.metrics.scored_rows import METRICS, prepare
from tests.builders.scores import sample, subject_scores


def evaluate(*given, **more):
    return judge_scores(*given, **more).figures


# ---- without each subject -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "pure"), [(2, True), (2, False), (3, True), (3, False)])
def test_the_figures_without_each_subject_are_the_slow_loop(k, pure):
    y, proba, classes, groups = sample(5, k, pure=pure)
    rows = prepare(y, proba, classes, groups, None)
    found = rows.left_out()
    expected = np.array(
        [list(image_metrics(y[groups != g], proba[groups != g], classes).values()) for g in np.unique(groups)]
    )
    # Bins of the calibration error are those of all subjects, whoever is left out; the rest of calibration goes by one
    # step (test_calibration_rows).
    exact = [at for at, metric in enumerate(METRICS) if metric != "ece" and not metric.startswith("calibration")]
    assert_allclose(found[:, exact], expected[:, exact], rtol=1e-10)
    assert_allclose(found, rows.figures(1 - np.eye(12)), rtol=1e-10)


def test_the_average_precision_of_many_rows_is_left_out_to_first_order(monkeypatch):
    y, proba, classes, groups = sample(5, n=4000, n_groups=60)
    rows, at = prepare(y, proba, classes, groups, None), METRICS.index("auprc")
    exact = rows.figures(1 - np.eye(60))[:, at]
    monkeypatch.setattr(_ranked_rows, "_SMALL", 0)
    found = rows.left_out()[:, at]
    assert_allclose(found.std(), exact.std(), rtol=0.05)
    assert np.corrcoef(found, exact)[0, 1] > 0.99


def test_an_average_precision_ranks_cells_that_one_model_has_scored():
    y, proba, classes, groups = sample(2, pure=False)
    fold, positive, score = groups % 3, np.asarray(y) == "all", np.asarray(proba)[:, list(classes).index("all")]
    rows, at = prepare(y, proba, classes, groups, "all", parts=fold), METRICS.index("auprc")

    def by_fold(kept):
        parts = [kept & (fold == one) for one in np.unique(fold)]
        found = [oracle.average_precision_score(positive[part], score[part]) for part in parts]
        return np.average(found, weights=[positive[part].sum() for part in parts])

    assert_allclose(rows.figures(np.ones((rows.n_groups, 1)))[0, at], by_fold(np.ones(len(y), bool)), rtol=1e-12)
    without = [by_fold(groups != one) for one in np.unique(groups)]
    assert_allclose(rows.left_out()[:, at], without, rtol=1e-10)
    assert_allclose(rows.figures(1 - np.eye(rows.n_groups))[:, at], without, rtol=1e-10)


@pytest.mark.parametrize("few", [True, False])
def test_an_auroc_counts_pairs_that_one_model_has_scored(few, monkeypatch):
    if not few:
        monkeypatch.setattr(_ranked_rows, "CHUNK", 0)  # the road for as many groups as cells
    y, proba, classes, groups = sample(2, pure=False)
    fold = groups % 3
    rows = prepare(y, proba, classes, groups, "all", parts=fold)
    at = METRICS.index("auroc")

    def by_fold(kept):
        won = pairs = 0
        for one in range(3):
            positive = proba[kept & (fold == one) & (y == "all"), 0]
            negative = proba[kept & (fold == one) & (y == "hem"), 0]
            won += (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
            pairs += len(positive) * len(negative)
        return won / pairs

    everyone = np.ones(200, bool)
    assert_allclose(rows.figures(np.ones((12, 1)))[0, at], by_fold(everyone), rtol=1e-12)
    assert_allclose(rows.left_out()[:, at], [by_fold(groups != g) for g in range(12)], rtol=1e-12)
    assert_allclose(rows.recalls_and_areas(1 - np.eye(12))[:, 1], rows.left_out()[:, at], rtol=1e-12)
    judged = evaluate(y, proba, classes, groups, positive="all", folds=fold)["image"]["auroc"]
    assert_allclose(judged["value"], by_fold(everyone), rtol=1e-12)


def test_scores_of_folds_that_are_on_other_scales_are_not_held_against_each_other():
    # Within a fold chance, but a fold of many positives scores all of its cells high, as a calibrated model may.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    fold = groups % 2
    y = np.where(rng.random(400) < np.where(fold, 0.8, 0.2), "b", "a")
    p = np.clip(0.2 + 0.6 * fold + rng.uniform(-0.1, 0.1, 400), 0, 1)
    proba = np.column_stack([1 - p, p])
    pooled = evaluate(y, proba, ["a", "b"], groups, positive="b")["image"]["auroc"]["value"]
    within = evaluate(y, proba, ["a", "b"], groups, positive="b", folds=fold)["image"]["auroc"]
    assert pooled > 0.75
    assert abs(within["value"] - 0.5) < 0.08
    alone = evaluate(
        *subject_scores(rng, ([5] * 6, [5] * 6))[:2],
        ["a", "b"],
        np.repeat(np.arange(12), 5),
        positive="b",
        folds=np.repeat(np.arange(12), 5),
    )["image"]["auroc"]
    assert "different models" in alone["note"]


# ---- what a figure is about -----------------------------------------------------------------------------------------


def test_a_figure_says_what_it_is_about_and_what_it_rests_on():
    rng = np.random.default_rng(0)
    sizes = ([100, 10, 10, 10], [20] * 12)
    y, proba, groups = subject_scores(rng, sizes)
    figure = evaluate(y, proba, ["a", "b"], groups, positive="b")["image"]["auroc"]
    assert figure["kind"] == "models"
    assert figure["method"] == "jackknife"
    assert figure["subjects"] == {"a": 12, "b": 4}
    assert figure["effective_subjects"] == {"a": 12.0, "b": 130**2 / (100**2 + 3 * 10**2)}
    assert figure["note"] == "few subjects: 4 of b"
    fold = groups % 4
    trained = evaluate(y, proba, ["a", "b"], groups, positive="b", folds=fold)["image"]["sensitivity"]
    assert trained["kind"] == "procedure"
    assert trained["low"] < trained["models"]["low"] < trained["value"] < trained["models"]["high"] < trained["high"]


def test_a_procedure_varies_more_where_its_models_do():
    rng = np.random.default_rng(1)
    y, proba, groups = subject_scores(rng, ([10] * 12, [10] * 12), d=1.0)
    fold = np.stack([(groups * (3 + repeat) + repeat) % 5 for repeat in range(5)])
    steady = evaluate(y, np.stack([proba] * 5), ["a", "b"], groups, positive="b", folds=fold)["image"]
    noisy = np.clip(np.stack([proba] * 5) + rng.normal(0, 0.4, (5, 24))[:, groups, None] * [1, -1], 0, 1)
    shaky = evaluate(y, noisy, ["a", "b"], groups, positive="b", folds=fold)["image"]

    def widening(figure):
        return (figure["high"] - figure["low"]) / (figure["models"]["high"] - figure["models"]["low"])

    for metric in ("balanced_accuracy", "auroc"):
        assert widening(steady[metric]) == pytest.approx(1), metric  # the same models again vary by nothing
        assert 1.1 < widening(shaky[metric]) < 1.5, metric


def test_subjects_of_very_different_sizes_are_also_weighed_alike():
    rng = np.random.default_rng(3)
    y, proba, groups = subject_scores(rng, ([300, 5, 5, 5, 5, 5], [10] * 6))
    figures = evaluate(y, proba, ["a", "b"], groups, positive="b")["image"]
    right = (proba[:, 1] > 0.5) == (y == "b")
    of_each = np.array([right[groups == g].mean() for g in range(12)])
    weighed = figures["sensitivity"]["subject_weighted"]
    assert weighed["value"] == pytest.approx(of_each[:6].mean())
    assert weighed["low"] < weighed["value"] < weighed["high"]
    weights = 1 / np.bincount(groups)[groups]
    area = oracle.roc_auc_score(y == "b", proba[:, 1], sample_weight=weights)
    assert figures["auroc"]["subject_weighted"]["value"] == pytest.approx(area)
    even = evaluate(
        *subject_scores(rng, ([9] * 6, [10] * 6))[:2], ["a", "b"], np.repeat(np.arange(12), [9] * 6 + [10] * 6)
    )
    assert "subject_weighted" not in even["image"]["auroc"]


def test_the_result_says_what_was_judged():
    y, proba, classes, groups = sample(4)
    found = evaluate(y, proba, classes, groups)
    assert (found["n_images"], found["n_subjects"]) == (200, len(set(groups)))
    assert (found["classes"], found["positive"]) == (["all", "hem"], "all")
    predicted = np.array(classes)[proba.argmax(axis=1)]
    assert_array_equal(found["confusion"], oracle.confusion_matrix(y.astype(str), predicted, labels=classes))
    assert evaluate(*sample(4, 3))["positive"] is None
    assert repr(evaluate(y, proba, np.array(classes, object), groups * 9 + 4)) == repr(found)  # NaN equals no NaN


def test_one_subject_in_a_class_gives_no_interval_and_says_so():
    y, proba, classes, groups = sample(0)
    one = np.where(y == "hem", 1, groups)
    found = evaluate(y, proba, classes, one)
    assert found["image"]["auroc"]["value"] == image_metrics(y, proba, classes)["auroc"]
    for level in ("image", "subject"):
        for figure in found[level].values():
            assert np.isnan([figure["low"], figure["high"]]).all()
            assert figure["method"] == "none"
            assert "single subject" in figure["note"]


@pytest.mark.filterwarnings("error")
def test_cells_of_one_class_only_are_judged_as_far_as_they_go():
    y, proba, classes, groups = sample(0)
    kept = y == "all"
    found = evaluate(y[kept], proba[kept], classes, groups[kept])["image"]
    assert found["sensitivity"]["low"] < found["sensitivity"]["value"] < found["sensitivity"]["high"]
    assert np.isnan([found["auroc"][part] for part in ("value", "low", "high")]).all()


# ---- never without width --------------------------------------------------------------------------------------------


def test_a_perfect_score_of_24_subjects_is_no_certainty():
    groups = np.repeat(np.arange(24), 5)
    y = np.where(groups % 2, "b", "a")
    proba = np.column_stack([y == "a", y == "b"]).astype(float)
    found = evaluate(y, proba, ["a", "b"], groups)
    for level in LEVELS:
        for metric in ("balanced_accuracy", "auroc", "sensitivity", "specificity", "accuracy"):
            figure = found[level][metric]
            assert (figure["value"], figure["high"], figure["method"]) == (1.0, 1.0, "exact")
            assert figure["low"] == pytest.approx(0.025 ** (1 / 12))  # Clopper and Pearson, 12 of 12


@pytest.mark.parametrize("prevalence", [0.02, 0.5, 0.9])
def test_where_nothing_varies_ppv_and_npv_are_what_the_bounds_of_sensitivity_and_specificity_leave(prevalence):
    """Of 12 healthy subjects without a false alarm up to a quarter of others may have one: where few are ill most of
    those called ill are well, then."""
    groups = np.repeat(np.arange(24), 5)
    y = np.where(groups % 2, "b", "a")
    proba = np.column_stack([y == "a", y == "b"]).astype(float)
    found = evaluate(y, proba, ["a", "b"], groups, positive="b", prevalence=prevalence)["image"]
    least = 0.025 ** (1 / 12)
    for metric, share in (("ppv", prevalence), ("npv", 1 - prevalence)):
        expected = least * share / (least * share + (1 - least) * (1 - share))
        assert found[metric]["low"] == pytest.approx(expected), metric
        assert (found[metric]["value"], found[metric]["high"], found[metric]["method"]) == (1, 1, "exact")


def test_a_figure_that_hardly_varies_is_known_no_less_than_one_that_does_not():
    """One cell of 24 subjects is wrong by a hair: on the logit scale alone AUPRC read 0 to 1."""
    groups = np.repeat(np.arange(24), 40)
    y = np.where(groups % 2, "b", "a")
    rng = np.random.default_rng(0)
    p = np.where(y == "b", 0.9, 0.1) + rng.uniform(-0.05, 0.05, len(y))
    p[np.flatnonzero(y == "a")[0]] = np.sort(p[y == "b"])[1]
    found = evaluate(y, np.column_stack([1 - p, p]), ["a", "b"], groups, positive="b")["image"]
    for metric in ("auroc", "auprc", "f1_macro", "accuracy", "balanced_accuracy"):
        assert 0.99 < found[metric]["value"] < 1, metric
        assert found[metric]["low"] > 0.025 ** (1 / 12) - 0.03, metric


@given(
    subjects=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    cells=st.integers(1, 5),
    steps=st.integers(1, 4),
    repeats=st.integers(0, 3),
    tilt=st.floats(-1, 1),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_no_interval_is_without_width(subjects, cells, steps, repeats, tilt, seed):
    """Few subjects, few cells, and scores so coarse that often nothing varies at all."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(sum(subjects)), cells)
    is_positive = groups < subjects[0]
    shape = (max(repeats, 1), len(groups))
    p = np.clip(np.round((rng.random(shape) + tilt * np.where(is_positive, 1, -1)) * steps) / steps, 0, 1)
    folds = rng.integers(2, size=(shape[0], sum(subjects)))[:, groups] if repeats else None
    proba = np.stack([1 - p, p], axis=2)
    found = evaluate(np.where(is_positive, "b", "a"), proba, ["a", "b"], groups, positive="b", folds=folds)
    for level in LEVELS:
        for metric, figure in found[level].items():
            if min(subjects) < 2:
                assert np.isnan(figure["low"]), metric
            every = [figure, *(figure[part] for part in ("models", "subject_weighted") if part in figure)]
            for interval in every:
                if np.isnan(interval["low"]):
                    continue
                assert interval["low"] < interval["high"], (level, metric)
                value = interval.get("value", figure["value"])
                assert interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9, (level, metric)
                assert interval["low"] >= (-1 if metric == "mcc" else 0) or metric.startswith("calibration")


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [66, 10_000])
def test_ten_thousand_cells_in_five_repeats_are_judged_at_once(n_groups):
    rng = np.random.default_rng(0)
    groups = np.arange(10_000) % n_groups
    y = np.where(groups % 2, "hem", "all")
    proba, fold = rng.dirichlet([1, 1], (5, 10_000)), rng.integers(5, size=(5, n_groups))[:, groups]
    start = time.process_time()  # of this process: what else the machine does is not the judgement's fault
    evaluate(y, proba, ["all", "hem"], groups, folds=fold)
    assert time.process_time() - start < 4
