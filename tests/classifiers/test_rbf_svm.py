"""SVMs of plain arrays say what scikit-learn's say, and landmarks come close to the exact ones."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from classifiers.class_weights import balanced_weights, inner_folds
from classifiers.rbf_svm import fit_landmarks, kernel_width, rbf_kernel
from classifiers.svm import SupportVectorClassifier
from fusion.bundles.model_bundle import load_model
from tests.builders.command_line import fusion
from tests.builders.comparisons import cells, config, run
from tests.builders.images import ROOT
from tests.builders.tables import rings


def three(n=240, seed=0):
    X, _, groups = rings(n, seed=seed)
    rng = np.random.default_rng(seed)
    y = groups % 3
    return X + np.eye(3, X.shape[1])[y] * 2 + rng.normal(0, 0.1, X.shape), y, groups


def five(n=288, seed=0):
    X, _, groups = rings(n, seed=seed)
    y = np.arange(len(X)) % 5
    return X + np.eye(5, X.shape[1])[y], y, groups


@pytest.mark.parametrize("data", [rings, three, five])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.3])
def test_an_svm_says_what_scikit_learns_says(data, gamma, tmp_path):
    X, y, groups = data()
    kept = (y > 0) | (groups % 2 == 0)  # classes of unequal size, which weights make up for
    X, y, groups = X[kept], y[kept], groups[kept]
    model = SupportVectorClassifier(gamma=gamma).fit(X[:150], y[:150], groups[:150])
    codes = np.unique(y[:150], return_inverse=True)[1]
    folds = inner_folds(codes, groups[:150], 5, 0)
    peer = CalibratedClassifierCV(SVC(C=10.0, gamma=gamma), method="sigmoid", ensemble=False, cv=folds)
    peer.fit(X[:150], codes, sample_weight=balanced_weights(codes))
    expected = peer.predict_proba(X)
    assert_allclose(model.predict_proba(X), expected, atol=1e-10)
    model.save(tmp_path)
    assert_allclose(SupportVectorClassifier.load(tmp_path).predict_proba(X), expected, atol=1e-10)


def test_predicting_loads_neither_libsvm_nor_torch_nor_calibration(tmp_path):
    X, y, groups = three()
    model = SupportVectorClassifier().fit(X, y, groups)
    model.save(tmp_path)
    code = (
        "import sys, numpy as np; from classifiers.svm import SupportVectorClassifier as S;"
        f"print(S.load(__import__('pathlib').Path({str(tmp_path)!r})).predict_proba(np.zeros((1, 6))).shape);"
        "print([m for m in ('sklearn.svm', 'sklearn.calibration', 'torch', 'xgboost') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["(1, 3)", "[]"]


def test_landmarks_part_what_no_plane_parts_nearly_as_well_as_the_exact_svm():
    X, y, _ = rings(800)
    exact = SVC(C=10).fit(X[:400], y[:400])
    gamma = kernel_width("scale", X[:400])
    vectors, decision = fit_landmarks(X[:400], y[:400], None, C=10, gamma=gamma, landmarks=60, seed=0)
    assert vectors.shape == (60, 6)
    few = decision(rbf_kernel(X[400:], vectors, gamma)) > 0
    right = [(predicted == y[400:]).mean() for predicted in (exact.predict(X[400:]), few)]
    assert right[1] > right[0] - 0.03 > 0.85


@pytest.mark.parametrize("data", [rings, three])
def test_with_every_row_a_landmark_it_is_the_linear_svm_on_the_whole_kernel(data):
    X, y, _ = data(120)
    gamma = kernel_width("scale", X)
    vectors, decision = fit_landmarks(X, y, None, C=10, gamma=gamma, landmarks=10_000, seed=0)
    assert len(vectors) == 120
    # The same SVM as a function of the kernel alone: by liblinear on the root of the kernel.
    from scipy.linalg import sqrtm
    from sklearn.svm import LinearSVC

    root = np.real(sqrtm(rbf_kernel(X, X, gamma)))
    expected = LinearSVC(C=10, dual=False, max_iter=5000).fit(root, y).decision_function(root)
    assert_allclose(decision(rbf_kernel(X, vectors, gamma)), expected, atol=0.02)


@pytest.mark.parametrize("data", [rings, three])
def test_a_classifier_by_landmarks_is_stored_and_loaded_and_the_same_by_the_same_seed(data, tmp_path):
    X, y, groups = data()
    model = SupportVectorClassifier(landmarks=50).fit(X, y, groups)
    again = SupportVectorClassifier(landmarks=50).fit(X, y, groups)
    other = SupportVectorClassifier(landmarks=50, random_state=1).fit(X, y, groups)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.abs(other.predict_proba(X) - model.predict_proba(X)).max() > 0
    model.save(tmp_path)
    assert_array_equal(SupportVectorClassifier.load(tmp_path).predict_proba(X), model.predict_proba(X))


def test_a_comparison_of_too_many_cells_goes_by_landmarks_and_is_stamped(tmp_path):
    table = cells()
    exact = run(table, config(tmp_path / "exact"))
    found = run(table, config(tmp_path / "few", exact_up_to=50, classifiers={"svm": {"C": 3.0}}))
    assert not any("approximate" in stamp for stamp in exact.stamps)
    assert [stamp for stamp in found.stamps if "approximate: svm goes by 2000 landmarks" in stamp]
    assert "landmarks: 2000" in found.config
    assert "C: 3.0" in found.config
    asked = run(table, config(tmp_path / "asked", exact_up_to=50, classifiers={"svm": {"landmarks": 0}}))
    assert not any("approximate" in stamp for stamp in asked.stamps)
    for one, other in zip(exact.scores, asked.scores, strict=True):
        assert_array_equal(one.proba, other.proba)


def test_train_goes_by_landmarks_where_an_exact_svm_has_no_room_and_says_so(synthetic, tmp_path):
    words = ("--features", "colour", "--classifier", "svm", "--splits", 2)
    done = fusion("train", synthetic, *words, "--set", "exact_up_to=10", "-o", tmp_path / "few")
    assert done.exit_code == 0, done.stderr
    assert "approximate: svm goes by 2000 landmarks" in done.stderr + done.stdout
    assert load_model(tmp_path / "few").model.classifier.landmarks == 2000
