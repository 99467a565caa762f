"""A classifier of images that scikit-learn can clone, cross-validate and score."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import fusion
from fusion.errors import UsageError
from fusion.learning.predictions import PredictionError


@pytest.fixture(scope="module")
def cells(synthetic):
    files = sorted(synthetic.rglob("UID_*.bmp"))
    parts = [file.stem.split("_") for file in files]
    return np.array([str(f) for f in files]), np.array([p[-1] for p in parts]), np.array([p[1] for p in parts])


@pytest.fixture
def model(synthetic_store):
    return fusion.FusionClassifier("logreg", ["morphology"], {"jobs": 1, "store": str(synthetic_store)})


def test_cross_validation_by_scikit_learn_is_ours_to_the_last_bit(model, cells, synthetic, synthetic_store):
    paths, y, groups = cells
    proba = cross_val_predict(model, paths, y, groups=groups, cv=GroupKFold(3), method="predict_proba")
    table = fusion.extract(synthetic, features=["morphology"], jobs=1, store=synthetic_store).table
    rows = np.array([table.names.index(path.removeprefix(f"{synthetic}/")) for path in paths])
    for train, test in GroupKFold(3).split(paths, y, groups):
        subjects = np.unique(groups[train], return_inverse=True)[1]
        fitted = fusion.fuse(table.X[rows[train]], y[train], subjects, table.blocks, "logreg")
        np.testing.assert_array_equal(proba[test], fitted.predict_proba(table.X[rows[test]]))


def test_it_is_cloned_fitted_and_saved_as_any_model_is(model, cells, tmp_path):
    paths, y, groups = cells
    fitted = clone(model).fit(paths, y, groups)
    assert list(fitted.classes_) == ["all", "hem"]
    assert fitted.score(paths, y) > 0.5
    fitted.bundle_.save(tmp_path / "model")
    again = fusion.predict(tmp_path / "model", list(paths[:4]), store=model.settings["store"])
    np.testing.assert_array_equal(again.proba, fitted.predict_proba(paths[:4]))


def test_an_image_that_cannot_be_used_is_named_and_the_others_are_predicted(model, cells, tmp_path, caplog):
    paths, y, groups = cells
    (tmp_path / "broken.png").write_bytes(b"no image")
    fitted = model.fit([*paths, tmp_path / "broken.png"], [*y, "all"], [*groups, "99"])
    assert fitted.n_cells_ == len(paths)
    assert "broken.png" in caplog.text
    proba = fitted.predict_proba([tmp_path / "broken.png", *paths[:2]])
    assert np.isnan(proba[0]).all()
    assert not np.isnan(proba[1:]).any()
    with pytest.raises(PredictionError, match=r"broken\.png"):
        fitted.predict([tmp_path / "broken.png"])


def test_lengths_that_differ_are_refused(model, cells):
    paths, y, _ = cells
    with pytest.raises(UsageError, match="not of one length"):
        model.fit(paths, y[:-1])


def test_it_goes_into_a_search_and_into_a_pipeline(model, cells):
    paths, labels, subjects = cells
    grid = {"classifier": ["logreg", "svm"]}
    search = GridSearchCV(model, grid, cv=GroupKFold(2), error_score="raise").fit(paths, labels, groups=subjects)
    assert search.best_params_["classifier"] in grid["classifier"]
    line = make_pipeline(FunctionTransformer(), model).fit(paths, labels, fusionclassifier__groups=subjects)
    assert (line.predict(paths[:4]) == model.fit(paths, labels, subjects).predict(paths[:4])).all()
