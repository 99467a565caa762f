"""Training on features that stay in the store gives what training in memory gives."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import roc_auc_score

from classifiers.boosting import BoostedTreesClassifier
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features import stored_matrix
from fusion.features.blocks import blocks_of, regrouped
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.learning.study import Study
from fusion.plugins.registry import build_extractor
from fusion.settings.commands import TrainConfig
from fusion.workflows.train import train


@pytest.fixture(scope="module")
def problem():
    """Cells of two classes that overlap, some values missing; and as many others."""
    draws = np.random.default_rng(0)
    y = draws.integers(0, 2, 6000)
    X = draws.normal(size=(6000, 30)).astype(np.float32)
    X[:, :5] += 0.5 * y[:, None]
    X[draws.random(X.shape) < 0.02] = np.nan
    return X[:3000], y[:3000], X[3000:], y[3000:]


class Pieces:
    def __init__(self, X, size):
        self.X, self.size, self.shape = X, size, X.shape

    def batches(self):
        return (self.X[at : at + self.size] for at in range(0, len(self.X), self.size))


def test_of_one_batch_external_memory_grows_the_very_same_trees(problem):
    X, y, new, _ = problem
    inside = BoostedTreesClassifier(n_estimators=30).fit(X, y)
    outside = BoostedTreesClassifier(n_estimators=30, external_memory=True).fit(Pieces(X, 3000), y)
    assert_array_equal(outside.predict_proba(new), inside.predict_proba(new))
    given_a_matrix = BoostedTreesClassifier(n_estimators=30, external_memory=True).fit(X, y)
    assert_array_equal(given_a_matrix.predict_proba(new), inside.predict_proba(new))


def test_of_many_batches_external_memory_judges_new_cells_alike(problem):
    X, y, new, true = problem
    inside = BoostedTreesClassifier(n_estimators=100).fit(X, y).predict_proba(new)[:, 1]
    outside = BoostedTreesClassifier(n_estimators=100, external_memory=True).fit(Pieces(X, 400), y)
    found = outside.predict_proba(new)[:, 1]
    assert np.abs(found - inside).mean() < 1e-3  # another seed differs by 0.04
    assert roc_auc_score(true, found) == pytest.approx(roc_auc_score(true, inside), abs=0.01)


def test_external_memory_refuses_what_in_memory_is_refused(problem):
    X, y, _, _ = problem
    model = BoostedTreesClassifier(n_estimators=2, external_memory=True)
    with pytest.raises(ValueError, match="one class"):
        model.fit(Pieces(X, 400), np.zeros(len(X)))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(Pieces(np.where(np.isnan(X), np.inf, X), 400), y)
    with pytest.raises(ValueError, match="search"):
        BoostedTreesClassifier(search=True, external_memory=True).fit(X, y)


def test_rows_in_the_store_are_those_of_the_table(class_folders, monkeypatch):
    monkeypatch.setattr(stored_matrix, "BATCH", 3)
    found = extract(
        load_dataset(class_folders), [build_extractor("morphology"), build_extractor("colour")], FeatureStore(), jobs=1
    )
    table, stored = found.table, found.stored
    assert stored_matrix.is_stored(stored.X)
    assert not stored_matrix.is_stored(table.X)
    assert stored.X.shape == table.X.shape
    assert_array_equal(np.concatenate(list(stored.X.batches())), table.X)
    rows = np.array([3, 0, 1])
    assert_array_equal(stored.X.take(rows)[:], table.X[rows])
    assert_array_equal(stored.take(rows).X, table.take(rows).X)
    built = {name: build_extractor(name) for name in ("morphology", "colour")}
    blocks = blocks_of(["colour", "morphology.cell"], built)
    assert_array_equal(regrouped(stored, blocks).X[:], regrouped(table, blocks).X)


@pytest.mark.parametrize("normalise", [{}, {"background": "grey"}], ids=["as they are", "normalised"])
def test_training_on_the_store_gives_the_figures_and_the_model_of_training_in_memory(
    synthetic, synthetic_store, tmp_path, normalise
):
    def trained(name, **params):
        given = {"n_estimators": 20, **params}
        return train(
            TrainConfig(
                data=synthetic,
                store=synthetic_store,
                features=["morphology", "colour"],
                classifier="xgb",
                classifiers={"xgb": given},
                output=tmp_path / name,
                jobs=1,
                normalise=normalise,
            )
        )

    inside, outside = trained("inside"), trained("outside", external_memory=True)
    assert_array_equal(outside.result.scores[0].proba, inside.result.scores[0].proba)
    assert repr(outside.result.figures) == repr(inside.result.figures)  # NaN where there are too few cells, too
    study = Study.of(load_dataset(synthetic), inside.bundle.blocks, (), FeatureStore(synthetic_store), jobs=1)
    assert_array_equal(outside.bundle.predict_proba(study), inside.bundle.predict_proba(study))


@pytest.mark.parametrize(
    "asked",
    [{"search": True}, {"calibrate": "isotonic"}, {"harmonise": {"method": "standard"}}],
    ids=lambda asked: next(iter(asked)),
)
def test_what_needs_all_features_in_memory_is_refused_before_anything_is_measured(asked, synthetic, tmp_path):
    config = TrainConfig(
        data=synthetic,
        features=["morphology"],
        classifier="xgb",
        output=tmp_path / "model",
        classifiers={"xgb": {"external_memory": True}},
        **asked,
    )
    with pytest.raises(UsageError, match="external_memory"):
        train(config)
