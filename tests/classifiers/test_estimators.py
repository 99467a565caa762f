"""Every built-in classifier keeps scikit-learn's contract to the letter, and comes back from disk the same."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.boosting import BoostedTreesClassifier
from classifiers.linear import LogisticClassifier
from classifiers.svm import SupportVectorClassifier

KINDS = [SupportVectorClassifier, BoostedTreesClassifier, LogisticClassifier]


@parametrize_with_checks([SupportVectorClassifier(), BoostedTreesClassifier(n_estimators=20), LogisticClassifier()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def samples(classes=2, n=160, seed=0, names=("all", "hem", "mix")):
    X, y = make_classification(
        n,
        n_features=12,
        n_informative=6,
        n_classes=classes,
        weights=[0.6, 0.2, 0.2][:classes],
        class_sep=1.5,
        random_state=seed,
    )
    return X.astype(np.float32), np.array(names, dtype=object)[y], np.arange(n) // 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_learns_and_comes_back_from_disk_bit_for_bit(kind, classes, tmp_path):
    X, y, groups = samples(classes)
    model = kind().fit(X[:120], y[:120], groups[:120])
    assert balanced_accuracy_score(y[120:].astype(str), model.predict(X[120:]).astype(str)) > 0.7
    model.save(tmp_path)
    again = kind.load(tmp_path)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert list(again.classes_) == list(model.classes_)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_probabilities(kind):
    X, y, groups = samples()
    first, second = (kind().fit(X, y, groups).predict_proba(X) for _ in range(2))
    assert_array_equal(first, second)


@pytest.mark.parametrize(
    "model",
    # Stumps: deep trees learn noise by heart, and with it the class shares, whatever the weights.
    [SupportVectorClassifier(), BoostedTreesClassifier(n_estimators=40, max_depth=1), LogisticClassifier()],
)
def test_class_shares_of_the_training_part_do_not_tip_the_scale(model):
    """Two classes with the same distribution, one four times as common: neither is favoured."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = np.array(["all"] * 320 + ["hem"] * 80)
    proba = model.fit(X, y, np.arange(400)).predict_proba(rng.normal(size=(2000, 3)))
    assert_allclose(proba.mean(axis=0), 0.5, atol=0.08)


def test_calibration_folds_keep_groups_whole():
    from classifiers.class_weights import inner_folds

    y, groups = np.tile([0, 1], 30), np.arange(60) // 6
    for train, test in inner_folds(y, groups, 5, 0):
        assert not set(groups[train]) & set(groups[test])


def test_a_class_of_one_group_is_split_by_row():
    from classifiers.class_weights import inner_folds

    y = np.array([0] * 20 + [1] * 10)
    folds = inner_folds(y, np.array([*range(20), *[99] * 10]), 5, 0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(30))


def test_trees_take_nan_where_a_feature_is_undefined():
    X, y, groups = samples()
    X[::3, 0] = np.nan
    proba = BoostedTreesClassifier().fit(X, y, groups).predict_proba(X)
    assert np.isfinite(proba).all()
