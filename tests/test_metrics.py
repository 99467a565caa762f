"""Every figure is scikit-learn's, every interval is the plain loop over resampled subjects, only faster."""

import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn import metrics as oracle

from fusion import metrics
from fusion.metrics import by_subject, default_positive, evaluate, image_metrics

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def sample(seed, k=2, n=200, n_groups=12, pure=True):
    """Labels, scores with many ties (tenths that sum to 1), classes and groups; every class in two groups or more."""
    rng = np.random.default_rng(seed)
    classes = ["all", "hem"] if k == 2 else [f"type {at}" for at in range(k)]
    groups = rng.integers(n_groups, size=n)
    codes = groups % k if pure else rng.integers(k, size=n)
    shares = 1 + 2 * np.eye(k)[codes]
    proba = np.stack([rng.multinomial(10, share / share.sum()) for share in shares]) / 10
    return np.array(classes, object)[codes], proba, classes, groups


def by_scikit_learn(y, proba, classes, positive=None):
    """The same metrics, one call of the peer each."""
    classes = np.array(classes, object)
    y, predicted = y.astype(str), classes[proba.argmax(axis=1)].astype(str)
    found = {
        "accuracy": oracle.accuracy_score(y, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, predicted),
        "f1_weighted": oracle.f1_score(y, predicted, average="weighted"),
        "f1_macro": oracle.f1_score(y, predicted, average="macro"),
    }
    if positive is not None:
        (negative,) = set(classes) - {positive}
        score = proba[:, list(classes).index(positive)]
        return found | {
            "auroc": oracle.roc_auc_score(y == positive, score),
            "sensitivity": oracle.recall_score(y, predicted, pos_label=positive),
            "specificity": oracle.recall_score(y, predicted, pos_label=negative),
        }
    return found | {
        "auroc": oracle.roc_auc_score(y, proba, multi_class="ovr", labels=list(classes)),
        "sensitivity": oracle.recall_score(y, predicted, average="macro"),
        "specificity": np.mean([oracle.recall_score(y != c, predicted != c) for c in classes]),
    }


def assert_same(found, expected):
    assert set(found) == set(expected)
    for metric, value in expected.items():
        assert_allclose(found[metric], value, err_msg=metric, **EXACT)


# ---- the figures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [2, 3, 7])
def test_every_metric_is_scikit_learns(seed, k):
    y, proba, classes, _ = sample(seed, k, pure=False)
    positive = "all" if k == 2 else None
    assert_same(image_metrics(y, proba, classes), by_scikit_learn(y, proba, classes, positive))


def test_continuous_scores_without_ties_too():
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b"], size=500)
    proba = rng.dirichlet([1, 1], size=500)
    assert_same(image_metrics(y, proba, ["a", "b"]), by_scikit_learn(y, proba, ["a", "b"], "b"))


def test_the_positive_class_is_all_or_the_second_or_the_one_asked_for():
    assert default_positive(["all", "hem"]) == default_positive(["hem", "all"]) == "all"
    assert default_positive(["benign", "malignant"]) == "malignant"
    y, proba, classes, _ = sample(0)
    found = image_metrics(y, proba, classes, positive="hem")
    assert_same(found, by_scikit_learn(y, proba, classes, "hem"))
    assert found["sensitivity"] == image_metrics(y, proba, classes)["specificity"]


def test_hand_computed_values():
    y = np.array(["hem", "hem", "all", "all", "all"])
    p_all = np.array([0.2, 0.6, 0.6, 0.4, 0.9])
    found = image_metrics(y, np.column_stack([p_all, 1 - p_all]), ["all", "hem"])
    assert found["sensitivity"] == 2 / 3
    assert found["specificity"] == 1 / 2
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Pairs (positive, negative): .6 beats .2 and ties .6; .4 beats .2; .9 beats both: 4.5 of 6.
    assert found["auroc"] == 4.5 / 6
    assert found["accuracy"] == 3 / 5


def test_a_class_that_does_not_occur_is_left_out_of_means_and_undefined_where_it_is_asked_for():
    y, proba, classes, _ = sample(1, 3, pure=False)
    kept = y != "type 2"
    found = image_metrics(y[kept], proba[kept], classes)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert_allclose(
            found["balanced_accuracy"],
            oracle.balanced_accuracy_score(y[kept].astype(str), np.array(classes)[proba[kept].argmax(axis=1)]),
            **EXACT,
        )
    predicted = np.array(classes)[proba[kept].argmax(axis=1)]
    assert "type 2" in predicted
    for average in ("macro", "weighted"):
        expected = oracle.f1_score(y[kept].astype(str), predicted, average=average)
        assert_allclose(found[f"f1_{average}"], expected, **EXACT)
    curves = [oracle.roc_auc_score(y[kept] == c, proba[kept, at]) for at, c in enumerate(classes[:2])]
    assert_allclose(found["auroc"], np.mean(curves), **EXACT)
    only = image_metrics(["all"] * 3, [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], ["all", "hem"])
    assert only["sensitivity"] == only["balanced_accuracy"] == pytest.approx(2 / 3)
    assert np.isnan(only["auroc"])
    assert np.isnan(only["specificity"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": ["a", "c"]}, r"labels \['c'\]"),
        ({"y": ["a"]}, "disagree"),
        ({"proba": [[0.5, 0.5], [np.nan, 1]]}, "finite"),
        ({"proba": [[1.0], [1.0]]}, "disagree"),
        ({"classes": ["a", "a"]}, "different classes"),
        ({"positive": "c"}, "cannot be the positive class"),
        ({"y": [], "proba": np.empty((0, 2))}, "disagree"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, message):
    fair = {"y": ["a", "b"], "proba": [[0.5, 0.5], [0.2, 0.8]], "classes": ["a", "b"]}
    with pytest.raises(ValueError, match=message):
        image_metrics(**(fair | change))


# ---- subjects -------------------------------------------------------------------------------------------------------


def test_a_subject_is_the_mean_of_its_cells():
    y = ["hem", "all", "hem", "all", "all"]
    proba = np.array([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.6, 0.4]])
    labels, means, groups = by_subject(y, proba, [7, 3, 7, 5, 5])
    assert_array_equal(labels, ["all", "all", "hem"])
    assert_array_equal(groups, [3, 5, 7])
    assert_allclose(means, [[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]], **EXACT)


def test_a_subject_with_several_cell_types_is_a_row_for_each():
    labels, means, groups = by_subject(["a", "b", "a"], np.array([[1.0, 0], [0, 1], [0.5, 0.5]]), [4, 4, 4])
    assert_array_equal(labels, ["a", "b"])
    assert_array_equal(groups, [4, 4])
    assert_allclose(means, [[0.75, 0.25], [0, 1]], **EXACT)


@pytest.mark.parametrize(("k", "pure"), [(2, True), (2, False), (4, False)])
def test_subject_figures_are_the_metrics_of_the_means(k, pure):
    y, proba, classes, groups = sample(3, k, pure=pure)
    labels, means, _ = by_subject(y, proba, groups)
    found = evaluate(y, proba, classes, groups, n_boot=100)["subject"]
    assert_same(
        {metric: figure["value"] for metric, figure in found.items()},
        by_scikit_learn(labels, means, classes, "all" if k == 2 else None),
    )


# ---- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few_groups", [True, False])
@pytest.mark.parametrize(("k", "pure"), [(2, True), (2, False), (3, True), (3, False)])
def test_the_bootstrap_is_the_slow_loop(k, pure, few_groups, monkeypatch):
    if not few_groups:
        # A chunk of 40 replicates exactly, but no table of pairs: the road for as many groups as cells.
        monkeypatch.setattr(metrics, "_CHUNK", 200 * 40)
        n_groups = 60
    else:
        n_groups = 12
    y, proba, classes, groups = sample(5, k, n=200, n_groups=n_groups, pure=pure)
    assert (n_groups * 200 > metrics._CHUNK) is not few_groups
    positive = "all" if k == 2 else None
    found = evaluate(y, proba, classes, groups, positive=positive, n_boot=40, seed=11)
    numbers, rank = np.unique(groups, return_inverse=True)
    holds = np.array([[np.any(y[groups == number] == c) for c in classes] for number in numbers])
    weights = metrics._draw(holds, 40, np.random.default_rng(11)).astype(int)
    labels, means, group_of = by_subject(y, proba, groups)
    for level, rows in (("image", (y, proba, rank)), ("subject", (labels, means, np.searchsorted(numbers, group_of)))):
        replicates = []
        for weight in weights.T:
            again = np.repeat(np.arange(len(rows[0])), weight[rows[2]])
            replicates.append(by_scikit_learn(rows[0][again], rows[1][again], classes, positive))
        for metric, figure in found[level].items():
            low, high = np.quantile([replicate[metric] for replicate in replicates], (0.025, 0.975))
            assert_allclose([figure["low"], figure["high"]], [low, high], err_msg=f"{level} {metric}", **EXACT)


@pytest.mark.parametrize("pure", [True, False])
def test_whole_groups_are_drawn_and_no_class_is_lost(pure):
    # Class 2 in two groups of thirty: an unguarded draw loses it once in seven times.
    holds = np.zeros((30, 3), bool)
    holds[np.arange(30), np.where(np.arange(30) < 2, 2, np.arange(30) % 2)] = True
    holds[3, :2] = not pure
    holds[3, 1] = True
    weights = metrics._draw(holds, 500, np.random.default_rng(0))
    assert (weights.sum(axis=0) == 30).all()
    assert ((holds.T.astype(float) @ weights) > 0).all()
    assert_allclose(weights.mean(axis=1), 1, atol=0.35)
    if pure:
        assert (holds.T.astype(float) @ weights == holds.sum(axis=0)[:, None]).all()


@pytest.mark.parametrize(("k", "pure"), [(2, True), (5, False)])
def test_intervals_hold_the_value_and_follow_the_seed(k, pure):
    y, proba, classes, groups = sample(2, k, n=600, n_groups=30, pure=pure)
    first, again, other = (evaluate(y, proba, classes, groups, n_boot=500, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["image"] != other["image"]
    for figure in first["image"].values():
        assert figure["low"] < figure["value"] < figure["high"]
    for figure in first["subject"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_the_result_says_what_was_judged():
    y, proba, classes, groups = sample(4)
    found = evaluate(y, proba, classes, groups, n_boot=100)
    assert (found["n_images"], found["n_subjects"]) == (200, len(set(groups)))
    assert (found["classes"], found["positive"]) == (["all", "hem"], "all")
    predicted = np.array(classes)[proba.argmax(axis=1)]
    assert_array_equal(found["confusion"], oracle.confusion_matrix(y.astype(str), predicted, labels=classes))
    assert evaluate(*sample(4, 3), n_boot=100)["positive"] is None
    relabelled = evaluate(y, proba, np.array(classes, object), groups * 9 + 4, n_boot=100)
    assert relabelled == found


def test_one_subject_in_a_class_gives_no_interval():
    y, proba, classes, groups = sample(0)
    one = np.where(y == "hem", 1, groups)
    found = evaluate(y, proba, classes, one, n_boot=100)
    assert found["image"]["auroc"]["value"] == image_metrics(y, proba, classes)["auroc"]
    for level in ("image", "subject"):
        for figure in found[level].values():
            assert np.isnan([figure["low"], figure["high"]]).all()


@pytest.mark.filterwarnings("error")
def test_cells_of_one_class_only_are_judged_as_far_as_they_go():
    y, proba, classes, groups = sample(0)
    kept = y == "all"
    found = evaluate(y[kept], proba[kept], classes, groups[kept], n_boot=200)["image"]
    assert found["sensitivity"]["low"] < found["sensitivity"]["value"] < found["sensitivity"]["high"]
    assert np.isnan(list(found["auroc"].values())).all()


def test_intervals_by_subject_cover_the_truth_and_intervals_by_cell_do_not():
    # score = +-d + subject effect + noise; a cell is called positive above 0. The truth is known in closed form.
    d, between, within = 0.8, 1.0, 1.0
    accuracy = norm.cdf(d / np.hypot(between, within))
    auroc = norm.cdf(2 * d / np.sqrt(2 * (between**2 + within**2)))
    subjects, cells, runs = 60, 12, 120
    groups = np.repeat(np.arange(subjects), cells)
    sign = np.where(groups % 2, 1, -1)
    y = np.where(sign > 0, "b", "a")
    covered = {"by subject": np.zeros(2), "by cell": np.zeros(2)}
    for run in range(runs):
        rng = np.random.default_rng(run)
        score = sign * d + rng.normal(0, between, subjects)[groups] + rng.normal(0, within, len(groups))
        proba = np.column_stack([1 - norm.cdf(score), norm.cdf(score)])
        for unit, ids in (("by subject", groups), ("by cell", np.arange(len(groups)))):
            found = evaluate(y, proba, ["a", "b"], ids, n_boot=300, seed=run)["image"]
            for at, (metric, truth) in enumerate((("balanced_accuracy", accuracy), ("auroc", auroc))):
                covered[unit][at] += found[metric]["low"] <= truth <= found[metric]["high"]
    assert (covered["by subject"] >= 0.90 * runs).all(), covered
    assert (covered["by subject"] <= 0.99 * runs).all(), covered
    assert (covered["by cell"] < 0.75 * runs).all(), covered


@pytest.mark.slow
@pytest.mark.parametrize(("n_groups", "seconds"), [(73, 1.5), (10_000, 8)])
def test_ten_thousand_cells_and_two_thousand_replicates_take_seconds(n_groups, seconds):
    rng = np.random.default_rng(0)
    groups = np.arange(10_000) % n_groups
    y = np.where(groups % 2, "hem", "all")
    start = time.perf_counter()
    evaluate(y, rng.dirichlet([1, 1], 10_000), ["all", "hem"], groups)
    assert time.perf_counter() - start < seconds
