"""Classifiers of patients: what they find, what they must not go by, and what is read back."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from classifiers.patients._linear_models import QUANTILES, quantiles_of_columns
from classifiers.patients.mil import BagClassifier
from classifiers.patients.pool import PooledClassifier
from fusion.bundles.bundle_files import FACTS, BundleError, load_arrays, write_arrays
from fusion.data.patients.bags import Bags, split_rows
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.traits import draw_traits
from tests.builders.patients import patients

#: Networks that are trained in a moment.
QUICK = {"members": 2, "steps": 60, "hidden": 16, "learning_rate": 0.01}
ONE_STEP = {"members": 2, "steps": 1}
POOLINGS = ["attention", "top-k", "transformer"]


def mixed(count, each=60, share=0.1, seed=0, columns=8):
    """Patients of three kinds of normal cells in shares of their own; the ill have some cells of a fourth kind, whose
    every single value a normal cell has, too."""
    rng = np.random.default_rng(seed)
    centres = np.array([[3.5, 0], [0, 3.5], [0, 0], [3.5, 3.5]])
    y = np.arange(count) % 2
    kinds = np.concatenate([rng.choice(3, each, p=rng.dirichlet([4, 4, 6])) for _ in y]).reshape(count, each)
    kinds[y == 1, : max(1, round(share * each))] = 3
    X = rng.normal(size=(count, each, columns)) + 0.3 * rng.normal(size=(count, 1, columns))
    X[:, :, :2] = 0.6 * X[:, :, :2] + centres[kinds]
    return Bags(X.reshape(-1, columns).astype(np.float32), split_rows(np.full(count, each))), y, kinds.ravel()


def auroc(classifier, X, y):
    return roc_auc_score(y, classifier.predict_proba(X)[:, 1])


@pytest.fixture(scope="module")
def learnt():
    """The witness patients, and a network of each pooling that has learnt from them."""
    X, y, _ = mixed(60)
    given = {"members": 2, "steps": 240, "hidden": 16, "learning_rate": 0.005}
    return {name: BagClassifier(pooling=name, **given).fit(X, y, np.arange(60)) for name in POOLINGS}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_networks_find_witnesses_that_no_statistic_of_a_column_shows(learnt, pooling):
    X, y, _ = mixed(60, seed=7)
    Z, z, _ = mixed(60)
    pool = PooledClassifier().fit(Z, z)
    assert auroc(learnt[pooling], X, y) > max(0.85, auroc(pool, X, y) + 0.1)


def test_where_all_cells_carry_the_label_networks_are_no_worse_than_the_pool_that_they_start_from():
    """By the components of its cells alone a patient is told .03 less well there."""
    behind = []
    for seed in range(2):
        drawn = draw_traits(SyntheticDesign(subjects=160, cells_per_subject=20, class_effect=0.4, seed=seed), noise=11)
        X = Bags(drawn.X / drawn.X.std(axis=0), split_rows(np.full(160, 20)))
        y = (drawn.subject_labels[::20] == "all").astype(int)
        order = np.random.default_rng(seed).permutation(160)
        learnt, held = order[:60], order[60:]
        made = [each.fit(X[learnt], y[learnt], learnt) for each in (PooledClassifier(), BagClassifier(**ONE_STEP))]
        first, second = (auroc(each, X[held], y[held]) for each in made)
        behind.append(first - second)
    assert np.mean(behind) < 0.015


def test_attention_is_on_the_witnesses_and_sums_to_one(learnt):
    X, y, kinds = mixed(40, seed=8)
    weights = learnt["attention"].attention(X)
    assert_allclose([own.sum() for own in weights], 1, atol=1e-6)
    shares = [own[kinds[rows] == 3].sum() for own, rows, ill in zip(weights, X.rows, y, strict=True) if ill]
    assert np.mean(shares) > 0.3  # of 6 cells in 60


def test_a_pool_of_all_columns_is_logistic_regression_of_its_statistics():
    X, y, _ = mixed(30, columns=3)
    found = PooledClassifier(C=0.5).fit(X, y)
    cells = [X.cells[rows].astype(np.float64) for rows in X.rows]
    quantiles = [np.quantile(own, (0.1, 0.5, 0.9), axis=0, method="median_unbiased").ravel() for own in cells]
    table = np.hstack([[own.mean(0) for own in cells], [own.std(0, ddof=1) for own in cells], quantiles])
    Z = (table - table.mean(0)) / table.std(0)
    expected = LogisticRegression(C=0.5, max_iter=5000).fit(Z, y).predict_proba(Z)
    assert_allclose(found.predict_proba(X), expected, atol=2e-3)


def test_cells_that_are_labelled_tell_a_pool_which_of_them_are_witnesses():
    X, y, kinds = mixed(60, share=0.05)
    T, t, _ = mixed(60, share=0.05, seed=9)
    labels = np.array(["blast" if kind == 3 else "normal" for kind in kinds], object)
    labels[::3] = None  # of some nobody has said anything
    told = PooledClassifier().fit(Bags(X.cells, X.rows, labels), y, np.arange(60))
    assert told.cell_weights_ is not None
    assert auroc(told, T, t) > auroc(PooledClassifier().fit(X, y), T, t) + 0.05
    assert PooledClassifier(cell_labels=False).fit(Bags(X.cells, X.rows, labels), y).cell_weights_ is None


@pytest.mark.parametrize("made", [PooledClassifier(), BagClassifier(**QUICK)])
def test_how_many_cells_a_patient_has_tells_nothing(made):
    """The ill have four times as many cells, and no other difference."""
    sizes = np.where(np.arange(60) % 2 == 0, 80, 20)
    X = patients(patients=60, sizes=sizes, effect=0.0, seed=3).X
    T = patients(patients=60, sizes=sizes, effect=0.0, seed=4).X
    y = np.arange(60) % 2
    assert 0.25 < auroc(made.fit(X, y, np.arange(60)), T, y) < 0.75


@pytest.mark.parametrize("made", [PooledClassifier(), BagClassifier(**QUICK)])
def test_a_patient_of_10000_cells_beside_patients_of_3(made):
    sizes = np.array([10_000, *[3] * 29])
    X, T = (patients(patients=30, sizes=sizes, effect=4.0, seed=seed).X for seed in (3, 4))
    proba = made.fit(X, np.arange(30) % 2, np.arange(30)).predict_proba(T)
    assert np.isfinite(proba).all()
    assert roc_auc_score(np.arange(30) % 2, proba[:, 1]) > 0.8


@pytest.mark.parametrize("made", [PooledClassifier(), *(BagClassifier(pooling=name, **QUICK) for name in POOLINGS)])
def test_the_same_seed_gives_the_same_bits_and_so_does_what_is_read_back(made, tmp_path):
    X, y, _ = mixed(20, each=12)
    first = made.fit(X, y, np.arange(20)).predict_proba(X)
    made.save(tmp_path)
    assert_array_equal(first, type(made).load(tmp_path).predict_proba(X))
    again = type(made)(**made.get_params()).fit(X, y, np.arange(20)).predict_proba(X)
    assert_array_equal(first, again)
    assert_allclose(first.sum(axis=1), 1, atol=1e-12)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]


@pytest.mark.parametrize("made", [PooledClassifier(), *(BagClassifier(pooling=name, **QUICK) for name in POOLINGS)])
def test_the_order_and_company_of_cells_do_not_matter(made):
    X, y, _ = mixed(20, each=12)
    made.fit(X, y, np.arange(20))
    turned = Bags(X.cells, tuple(rows[::-1] for rows in X.rows))
    assert_allclose(made.predict_proba(turned), made.predict_proba(X), atol=1e-6)
    assert_allclose(made.predict_proba(X[[3]]), made.predict_proba(X)[[3]], atol=1e-6)


@pytest.mark.parametrize("made", [PooledClassifier(), BagClassifier(**QUICK)])
def test_patients_of_one_cell_and_three_classes(made):
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 12)
    sizes = rng.integers(1, 5, 36)
    cells = rng.normal(size=(sizes.sum(), 4)) + 3 * np.repeat(np.searchsorted(list("abc"), y), sizes)[:, None]
    X = Bags(cells.astype(np.float32), split_rows(sizes))
    proba = made.fit(X, y, np.arange(36)).predict_proba(X)
    assert np.isfinite(proba).all()
    assert np.mean(made.classes_[proba.argmax(1)] == y) > 0.6


@pytest.mark.parametrize("made", [PooledClassifier(), BagClassifier(**QUICK)])
@pytest.mark.parametrize("change", ["wider", "fewer", "other kind", "no number", "one more"])
def test_arrays_of_another_model_are_refused(made, change, tmp_path):
    X, y, _ = mixed(20, each=12)
    made.fit(X, y, np.arange(20)).save(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    arrays = {name: array.copy() for name, array in load_arrays(file).items()}
    name = sorted(arrays)[0] if made.__class__ is BagClassifier else "weights"
    if change == "wider":
        arrays[name] = np.concatenate([arrays[name], arrays[name]], axis=-1)
    elif change == "fewer":
        del arrays[name]
    elif change == "other kind":
        arrays[name] = arrays[name].astype(np.float16)
    elif change == "no number":
        arrays[name].flat[0] = np.nan
    else:
        arrays["more"] = np.zeros(1)
    write_arrays(file, arrays)
    with pytest.raises(BundleError):
        type(made).load(tmp_path)


@pytest.mark.parametrize(
    ("made", "params"),
    [
        (BagClassifier(**QUICK), {"pooling": "eval"}),
        (BagClassifier(**QUICK), {"hidden": 10_000_000}),
        (BagClassifier(**QUICK), {"hidden": 18}),
        (BagClassifier(**QUICK), {"hidden": "16"}),
        (BagClassifier(**QUICK), {"members": 0}),
        (PooledClassifier(), {"C": {"a": 1}}),
        (PooledClassifier(), {"more": 1}),
    ],
)
def test_values_that_such_a_classifier_never_has_are_refused(made, params, tmp_path):
    X, y, _ = mixed(20, each=12)
    made.fit(X, y, np.arange(20)).save(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    facts["params"].update(params)
    (tmp_path / FACTS).write_text(json.dumps(facts))
    with pytest.raises(BundleError):
        type(made).load(tmp_path)


@pytest.mark.parametrize("made", [PooledClassifier(), BagClassifier(**QUICK)])
def test_a_single_class_is_refused(made):
    X, _, _ = mixed(10, each=5)
    with pytest.raises(ValueError, match="two classes"):
        made.fit(X, np.zeros(10), np.arange(10))


@pytest.mark.parametrize(
    "wrong", [{"pooling": "mean"}, {"hidden": 7}, {"members": 0}, {"share": 0.0}, {"dropout": 1.0}]
)
def test_parameters_that_make_no_sense_are_refused(wrong):
    X, y, _ = mixed(10, each=5)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BagClassifier(**wrong).fit(X, y, np.arange(10))


@pytest.mark.parametrize("cells", [1, 2, 3, 10, 59, 200])
def test_quantiles_of_a_bag_are_those_of_numpy_to_the_bit(cells):
    X = np.random.default_rng(cells).normal(size=(cells, 30))
    X[:, 1], X[:, 2], X[-1, 3] = np.round(X[:, 1]), 0, np.nan
    expected = np.quantile(X, QUANTILES, axis=0, method="median_unbiased")
    assert_array_equal(quantiles_of_columns(X), expected)
