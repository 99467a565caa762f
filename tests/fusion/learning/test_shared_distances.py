"""SVMs on shared distances are the SVMs on the features, to the rounding of a sum."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from fusion.learning.shared_distances import SharedDistances, memory_needed
from fusion.plugins.registry import build_classifier
from tests.builders.blocks import BLOCKS, LAYERS, cells, fused


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("names", [("a",), ("a", "c"), ("a", "b", "c")], ids="+".join)
def test_distances_are_those_of_the_fused_rows(layer, names):
    X, _, _ = cells()
    train, test = np.arange(0, 120), np.arange(120, 160)
    train_rows, held = fused(X, names, train, test, layer)
    distances = SharedDistances(X, BLOCKS, train, test, layer).of(names)
    everyone = np.arange(120)
    assert distances.n_features == train_rows.shape[1]
    gamma = distances.gamma("scale", everyone)
    assert_allclose(gamma, 1 / (train_rows.shape[1] * train_rows.var()), rtol=1e-10)
    assert_allclose(
        distances.gamma("scale", everyone[::3]), 1 / (train_rows.shape[1] * train_rows[::3].var()), rtol=1e-10
    )
    assert distances.gamma(0.25, everyone) == 0.25
    assert distances.gamma("auto", everyone) == 1 / train_rows.shape[1]
    for rows, matrix in ((everyone, train_rows), (np.arange(120, 160), held)):
        for columns in (everyone, everyone[5:90:2]):
            expected = np.exp(-gamma * cdist(matrix, train_rows[columns], "sqeuclidean"))
            assert_allclose(distances.kernel(gamma, rows, columns), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("gamma", ["scale", 0.02])
@pytest.mark.parametrize("layer", [{}, {"pca": {"b": 4}}], ids=str)
def test_calibrated_probabilities_are_the_same_whichever_way_they_are_fitted(k, gamma, layer):
    X, y, groups = cells(240, k)
    train, test = np.arange(0, 168), np.arange(168, 240)
    shared = SharedDistances(X, BLOCKS, train, test, layer)
    for names in (("b",), ("a", "b", "c")):
        train_rows, held = fused(X, names, train, test, layer)
        plain = build_classifier("svm", {"gamma": gamma}).fit(train_rows, y[train], groups[train]).predict_proba(held)
        quick = build_classifier("svm", {"gamma": gamma}).fit_distances(shared.of(names), y[train], groups[train])
        found = quick.predict_proba_distances(shared.test_rows)
        # libsvm stops within 1e-3 of the optimum and caches kernels in float32; beyond that they are one machine.
        assert_allclose(found, plain, atol=2e-3)
        assert_array_equal(found.argmax(axis=1), plain.argmax(axis=1))
        assert_array_equal(quick.classes_, np.unique(y))


def test_the_svm_is_scikit_learns():
    X, y, _ = cells()
    train, test = np.arange(0, 120), np.arange(120, 160)
    train_rows, held = fused(X, ("a", "b"), train, test, {})
    distances = SharedDistances(X, BLOCKS, train, test, {}).of(("a", "b"))
    everyone, rest = np.arange(120), np.arange(120, 160)
    gamma = distances.gamma("scale", everyone)
    quick = SVC(C=10, kernel="precomputed").fit(distances.kernel(gamma, everyone, everyone), y[train])
    plain = SVC(C=10, gamma="scale").fit(train_rows, y[train])
    assert_allclose(
        quick.decision_function(distances.kernel(gamma, rest, everyone)), plain.decision_function(held), atol=2e-3
    )


def test_a_row_may_be_put_together_of_blocks_of_other_rows():
    X, _, _ = cells()
    train, test, everyone = np.arange(0, 120), np.arange(120, 160), np.arange(120)
    strangers = np.random.default_rng(0).integers(120, size=40)
    mixed = X.copy()
    mixed[120:, BLOCKS["b"]] = X[strangers, BLOCKS["b"]]
    rows = np.column_stack([test, strangers, test])
    for names, chosen in ((("a", "b", "c"), rows), (("b", "a"), rows[:, [1, 0]])):
        found = SharedDistances(X, BLOCKS, train, test, {}).of(names).kernel(0.05, chosen, everyone)
        expected = SharedDistances(mixed, BLOCKS, train, test, {}).of(names).kernel(0.05, test, everyone)
        assert_allclose(found, expected, rtol=1e-12)


def test_a_test_row_changes_no_distance_between_training_rows():
    X, _, _ = cells()
    train, test = np.arange(0, 120), np.arange(120, 160)
    changed = X.copy()
    changed[test] = 1e6
    first, second = (SharedDistances(data, BLOCKS, train, test, {}).of(("a", "b")) for data in (X, changed))
    everyone = np.arange(120)
    assert_array_equal(first.kernel(0.1, everyone, everyone), second.kernel(0.1, everyone, everyone))


def test_a_copy_of_distances_costs_no_memory():
    X, _, _ = cells()
    distances = SharedDistances(X, BLOCKS, np.arange(120), np.arange(120, 160), {}).of(("a",))
    assert copy.deepcopy(distances) is distances


def test_the_memory_told_is_what_the_matrices_hold():
    X, _, _ = cells()
    shared = SharedDistances(X, BLOCKS, np.arange(120), np.arange(120, 160), {})
    held = sum(part.nbytes for part in shared.of(tuple(BLOCKS)).parts) + 120 * 120 * 8
    assert held <= memory_needed(120, 40, 3) <= 2.5 * held
