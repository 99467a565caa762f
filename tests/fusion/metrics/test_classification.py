"""Every figure is scikit-learn's, cell by cell and subject by subject."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as oracle

from fusion.metrics import scored_rows
from fusion.metrics.classification import default_positive, image_metrics, pooled
from fusion.metrics.judgement import judge_scores
from fusion.metrics.subject_level import label_of_subjects, pool_subjects
from tests.builders.scores import sample

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def evaluate(*given, **more):
    return judge_scores(*given, **more).figures


def by_scikit_learn(y, proba, classes, positive=None):
    """The same metrics, one call of the peer each."""
    classes = np.array(classes, object)
    y, predicted = y.astype(str), classes[proba.argmax(axis=1)].astype(str)
    found = {
        "accuracy": oracle.accuracy_score(y, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, predicted),
        "f1_weighted": oracle.f1_score(y, predicted, average="weighted"),
        "f1_macro": oracle.f1_score(y, predicted, average="macro"),
        "mcc": oracle.matthews_corrcoef(y, predicted),
        "brier": oracle.brier_score_loss(
            y,
            proba if len(classes) > 2 else proba[:, 1],
            labels=list(classes),
            **({} if len(classes) > 2 else {"pos_label": classes[1]}),
        ),
        "log_loss": oracle.log_loss(y, proba, labels=list(classes)),
    }
    if positive is not None:
        (negative,) = set(classes) - {positive}
        score = proba[:, list(classes).index(positive)]
        return found | {
            "auroc": oracle.roc_auc_score(y == positive, score),
            "sensitivity": oracle.recall_score(y, predicted, pos_label=positive),
            "specificity": oracle.recall_score(y, predicted, pos_label=negative),
            "auprc": oracle.average_precision_score(y == positive, score),
        }
    return found | {
        "auroc": oracle.roc_auc_score(y, proba, multi_class="ovr", labels=list(classes)),
        "sensitivity": oracle.recall_score(y, predicted, average="macro"),
        "specificity": np.mean([oracle.recall_score(y != c, predicted != c) for c in classes]),
        "auprc": np.mean([oracle.average_precision_score(y == c, proba[:, at]) for at, c in enumerate(classes)]),
    }


#: Figures that scikit-learn does not have; they are tested one by one.
OWN = {"ppv", "npv", "ece", "calibration_intercept", "calibration_slope"}


def assert_same(found, expected):
    assert set(found) - OWN == set(expected)
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


def test_predictive_values_are_bayes_rule_at_the_stated_prevalence():
    y = np.array(["b"] * 10 + ["a"] * 20)
    p = np.array([0.9] * 8 + [0.1] * 2 + [0.9] * 2 + [0.1] * 18)
    scores = np.column_stack([1 - p, p])
    found = image_metrics(y, scores, ["a", "b"], prevalence=1 / 3)
    # At the sample's own prevalence they are the shares in the sample: 8 of 10 called 'b' are, 18 of 20 called 'a'.
    assert found["ppv"] == pytest.approx(8 / 10)
    assert found["npv"] == pytest.approx(18 / 20)
    rare = image_metrics(y, scores, ["a", "b"], prevalence=0.01)
    assert rare["ppv"] == pytest.approx(0.8 * 0.01 / (0.8 * 0.01 + 0.1 * 0.99))


def test_a_calibrated_score_has_a_smaller_error_than_a_boastful_one():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=5000)
    y = np.where(rng.random(5000) < p, "b", "a")
    boastful = np.where(p > 0.5, 0.5 + 0.5 * np.sqrt(2 * p - 1, where=p > 0.5, out=np.zeros(5000)), p / 4)
    fair, loud = (image_metrics(y, np.column_stack([1 - s, s]), ["a", "b"]) for s in (p, boastful))
    assert fair["ece"] < 0.02 < 0.05 < loud["ece"]
    assert fair["brier"] < loud["brier"]
    assert fair["log_loss"] < loud["log_loss"]


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


def pool(y, proba, subjects):
    return pool_subjects(y, np.asarray(proba, float), subjects, np.asarray(proba).argmax(axis=1))


def test_a_subject_is_the_mean_of_its_cells():
    y = ["hem", "all", "hem", "all", "all"]
    rows = pool(y, [[0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.6, 0.4]], [7, 3, 7, 5, 5])
    assert_array_equal(rows.labels, ["all", "all", "hem"])
    assert_array_equal(rows.first, [1, 3, 0])
    assert_allclose(rows.means, [[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]], **EXACT)


def leukaemia_whose_subjects_hold_both_classes():
    """Six of eight subjects have blasts among healthy cells; scores that tell cells apart well, subjects not at all."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 20)
    y = np.where((groups < 6) & (np.arange(160) % 2 == 0), "all", "hem")
    p = np.clip((y == "all") * 0.5 + rng.uniform(0.1, 0.4, 160), 0, 1)
    return y.astype(object), np.column_stack([p, 1 - p]), ["all", "hem"], groups


def test_a_subject_with_cells_of_several_classes_is_not_pooled_by_their_labels():
    y, proba, classes, groups = leukaemia_whose_subjects_hold_both_classes()
    found = evaluate(y, proba, classes, groups)
    assert found["image"]["balanced_accuracy"]["value"] > 0.9
    assert found["left_out"] == "6 of 8 subjects hold cells of several classes"
    for level in ("subject", "vote"):
        assert set(found[level]) == set(scored_rows.METRICS)
        for figure in found[level].values():
            assert np.isnan([figure[part] for part in ("value", "low", "high")]).all()


def test_a_label_of_the_subject_is_what_its_figures_are_about():
    y, proba, classes, groups = leukaemia_whose_subjects_hold_both_classes()
    own = np.where(groups < 6, "all", "hem").tolist()
    found = evaluate(y, proba, classes, groups, subject_labels=own)
    assert found["left_out"] == ""
    means = np.array([proba[groups == g].mean(axis=0) for g in range(8)])
    expected = by_scikit_learn(np.array(["all"] * 6 + ["hem"] * 2, object), means, classes, "all")
    assert_same({metric: figure["value"] for metric, figure in found["subject"].items()}, expected)
    # A subject whose blasts are called positive half the time is no leukaemia at one half: this is what one can reach.
    assert found["subject"]["balanced_accuracy"]["value"] < found["image"]["balanced_accuracy"]["value"]
    torn = evaluate(y, proba, classes, groups, subject_labels=y.tolist())
    assert torn["left_out"] == "6 of 8 subjects have several labels of their own"
    unsaid = evaluate(y, proba, classes, groups, subject_labels=[None] * 20 + own[20:])
    assert unsaid["left_out"] == "1 of 8 subjects has no label of their own"


def test_subjects_of_one_group_are_pooled_apart_and_resampled_together():
    y, proba, classes, subjects = sample(3)
    joined = np.where(subjects == 2, 0, subjects)  # subjects 0 and 2, both of one class, share an image
    found = evaluate(y, proba, classes, joined, subjects=subjects)
    rows = pool(y, proba, subjects)
    expected = image_metrics(rows.labels, rows.means, classes)
    for metric, figure in found["subject"].items():
        assert_allclose(figure["value"], expected[metric], err_msg=metric, **EXACT)
    assert found["n_subjects"] == 11
    assert label_of_subjects(y, subjects)[1] == ""


@pytest.mark.parametrize("k", [2, 4])
def test_subject_figures_are_the_metrics_of_the_means(k):
    y, proba, classes, groups = sample(3, k)
    rows = pool(y, proba, groups)
    labels, means = rows.labels, rows.means
    found = evaluate(y, proba, classes, groups)["subject"]
    assert_same(
        {metric: figure["value"] for metric, figure in found.items()},
        by_scikit_learn(labels, means, classes, "all" if k == 2 else None),
    )


def test_a_subject_votes_by_the_class_of_most_of_its_cells():
    y = ["all"] * 3 + ["hem"] * 4
    proba = np.array([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0], [0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.4, 0.6]])
    rows = pool(y, proba, [1, 1, 1, 2, 2, 2, 2])
    shares = rows.votes
    assert_array_equal(rows.labels, ["all", "hem"])
    assert_allclose(shares, [[2 / 3, 1 / 3], [0.5, 0.5]], atol=1e-8)
    # Subject 1 by its mean would be 'hem' (0.4 to 0.6); by vote it is 'all'. The tie of 2 goes to its mean.
    assert shares[0].argmax() == 0
    assert shares[1].argmax() == 0
    found = evaluate(y, proba, ["all", "hem"], [1, 1, 1, 2, 2, 2, 2])
    assert found["vote"]["sensitivity"]["value"] == 1
    assert found["subject"]["sensitivity"]["value"] == 0


def test_repeats_are_pooled_and_a_cell_that_was_not_tested_plays_no_part():
    y, proba, classes, groups = sample(6)
    other = proba[:, ::-1]
    once = evaluate(y, proba, classes, groups)
    assert repr(evaluate(y, proba[None], classes, groups)) == repr(once)  # NaN equals no NaN
    again = evaluate(y, np.stack([proba, proba]), classes, groups)
    for level in ("image", "subject", "vote"):
        for metric in set(again[level]) - {"ece"}:  # more rows make more bins
            value = again[level][metric]["value"]
            assert_allclose(value, once[level][metric]["value"], err_msg=f"{level} {metric}", atol=1e-6)
    both = evaluate(y, np.stack([proba, other]), classes, groups)
    expected = (image_metrics(y, proba, classes)["accuracy"] + image_metrics(y, other, classes)["accuracy"]) / 2
    assert_allclose(both["image"]["accuracy"]["value"], expected, **EXACT)
    assert (both["n_images"], both["n_subjects"]) == (200, 12)
    half = np.where(groups < 6, np.nan, proba.T).T
    kept = groups >= 6
    assert repr(evaluate(y, half[None], classes, groups)) == repr(evaluate(y[kept], proba[kept], classes, groups[kept]))
    labels, scores, ids, repeat, cell = pooled(y, np.stack([half, proba]), groups)
    assert len(labels) == kept.sum() + 200
    assert_array_equal(scores[repeat == 1], proba)
    assert_array_equal(ids, groups[cell])
