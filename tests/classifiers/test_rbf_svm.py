"""SVMs for large tables: landmarks come close to the exact one, Intel's is the exact one, both are stored plain."""

import json
import subprocess
import sys
from functools import wraps
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.svm import SVC

from classifiers import rbf_svm
from classifiers.rbf_svm import FastSVM, LandmarkSVM
from classifiers.svm import SupportVectorClassifier
from tests.builders.comparisons import cells, config, run
from tests.builders.images import ROOT
from tests.builders.tables import rings

needs_fast = pytest.mark.skipif(find_spec("sklearnex") is None, reason="the extra fast is not installed")


def three(n=240, seed=0):
    X, _, groups = rings(n, seed=seed)
    rng = np.random.default_rng(seed)
    y = groups % 3
    return X + np.eye(3, X.shape[1])[y] * 2 + rng.normal(0, 0.1, X.shape), y, groups


def test_landmarks_part_what_no_plane_parts_nearly_as_well_as_the_exact_machine():
    X, y, _ = rings(800)
    exact = SVC(C=10).fit(X[:400], y[:400])
    few = LandmarkSVM(landmarks=60).fit(X[:400], y[:400])
    assert few.support_vectors_.shape == (60, 6)
    right = [(svm_model.predict(X[400:]) == y[400:]).mean() for svm_model in (exact, few)]
    assert right[1] > right[0] - 0.03 > 0.85


@pytest.mark.parametrize("data", [rings, three])
def test_with_every_row_a_landmark_it_is_the_linear_svm_on_the_whole_kernel(data):
    X, y, _ = data(120)
    all_of_them = LandmarkSVM(landmarks=10_000).fit(X, y)
    assert len(all_of_them.support_vectors_) == 120
    # The same SVM as a function of the kernel alone: by liblinear on the root of the kernel.
    from scipy.linalg import sqrtm
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import LinearSVC

    root = np.real(sqrtm(rbf_kernel(X, gamma=1 / (6 * X.var()))))
    expected = LinearSVC(C=10, dual=False, max_iter=5000).fit(root, y).decision_function(root)
    assert_allclose(all_of_them.decision_function(X), expected, atol=0.02)


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


@needs_fast
@pytest.mark.parametrize("data", [rings, three])
def test_intels_svm_is_scikit_learns_and_is_stored_as_that(data, monkeypatch, tmp_path):
    X, y, groups = data()
    kept = (y > 0) | (groups % 2 == 0)  # classes of unequal size, which weights make up for
    X, y, groups = X[kept], y[kept], groups[kept]
    plain = SupportVectorClassifier().fit(X, y, groups)
    monkeypatch.setattr(rbf_svm, "_WORTH_LOADING", 1)
    used = []
    fit = FastSVM.fit

    @wraps(fit)  # scikit-learn asks what a fit takes
    def watched(*given, **named):
        used.append(named["sample_weight"])
        return fit(*given, **named)

    monkeypatch.setattr(FastSVM, "fit", watched)
    quick = SupportVectorClassifier().fit(X, y, groups)
    assert len(used) >= 5  # one a fold of the calibration, and one of all
    assert all(len(np.unique(weights)) > 1 for weights in used)
    # Both stop within 1e-3 of the optimum, which moves a probability by less than this.
    assert_allclose(quick.predict_proba(X), plain.predict_proba(X), atol=2e-3)
    assert_array_equal(quick.predict(X), plain.predict(X))
    assert type(quick.model_.calibrated_classifiers_[0].estimator) is SVC
    quick.save(tmp_path)
    assert_allclose(SupportVectorClassifier.load(tmp_path).predict_proba(X), quick.predict_proba(X), atol=1e-12)


@needs_fast
def test_nothing_of_scikit_learn_is_patched_and_small_tables_never_load_the_library():
    code = (
        "import json, sys, numpy as np; from classifiers.svm import SupportVectorClassifier as M;"
        "r = np.random.default_rng(0); y = np.arange(2000) % 2;"
        "small = M().fit(r.normal(size=(60, 4)), y[:60]); before = 'sklearnex' in sys.modules;"
        "M().fit(r.normal(size=(2000, 500)) + y[:, None], y);"
        "import sklearn.svm; print(json.dumps([before, 'sklearnex' in sys.modules, sklearn.svm.SVC.__module__]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == [False, True, "sklearn.svm._classes"]
