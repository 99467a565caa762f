"""Late fusion: weights learnt from cells held out by group, the same numbers however fits are shared, no leak."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import grouped_folds
from fusion.leakage.protocols import make_plan
from fusion.learning import fused_model
from fusion.learning.cross_validation import cross_validate, prepare_fits
from fusion.learning.decision.late_fusion import centred_logs, stack_scores
from fusion.learning.fits import Fits
from fusion.learning.fused_model import fuse
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.settings.commands import AblateConfig, TrainConfig
from fusion.settings.learning import HarmoniseSettings

BLOCKS = {"one": slice(0, 4), "two": slice(4, 7), "idle": slice(7, 12)}


def cells(classes=2, n=120, seed=0):
    """float32 (n, 12) of which two blocks tell the classes, labels, groups of three cells."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) // 3 % classes
    X = rng.normal(size=(n, 12))
    X[:, 0] += 2.0 * codes
    X[:, 4] -= 1.5 * codes
    X[rng.random(X.shape) < 0.02] = np.nan
    return X.astype(np.float32), np.array(["a", "b", "c"])[codes], np.arange(n) // 3


def test_the_weights_are_those_of_a_penalised_logistic_regression():
    rng = np.random.default_rng(1)
    codes = np.arange(90) % 2
    odds = (2 * codes - 1)[:, None] * [1.0, 0.5] + rng.normal(size=(90, 2))
    scores = np.stack([-odds / 2, odds / 2], axis=2)
    weights, intercepts = stack_scores(scores, codes)
    # At the optimum the gradient of likelihood and penalty is 0.
    proba = 1 / (1 + np.exp(-(odds @ weights + intercepts[1] - intercepts[0])))
    assert_allclose(odds.T @ (proba - codes) + (weights - 0.5), 0, atol=1e-5)
    assert abs((proba - codes).sum()) < 1e-5
    unpenalised = LogisticRegression(C=np.inf).fit(odds, codes)
    assert (np.sign(weights - 0.5) == np.sign(unpenalised.coef_[0] - 0.5)).all()


def test_centred_logs_of_a_softmax_are_its_centred_margins():
    margins = np.random.default_rng(0).normal(size=(5, 3))
    proba = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    assert_allclose(centred_logs(proba), margins - margins.mean(axis=1, keepdims=True))


def test_a_block_that_says_the_opposite_counts_nothing():
    codes = np.arange(60) % 2
    right = np.where(codes[:, None] == [0, 1], 1.0, -1.0) + np.random.default_rng(0).normal(size=(60, 2)) / 4
    weights, _ = stack_scores(np.stack([right, -right], axis=1), codes)
    assert weights[1] == 0
    assert weights[0] > 1


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["svm", "xgb", "logreg"])
def test_it_finds_what_two_blocks_tell_together(name, classes):
    X, y, groups = cells(classes, 240)
    train = groups < 40
    params = {"n_estimators": 20} if name == "xgb" else {}
    late = fuse(X[train], y[train], groups[train], BLOCKS, name, fuse="late", params=params)
    proba = late.predict_proba(X[~train])
    assert_allclose(proba.sum(axis=1), 1)
    right = (np.array(late.classes)[proba.argmax(axis=1)] == y[~train]).mean()
    alone = [
        fuse(X[train][:, part], y[train], groups[train], {block: slice(0, part.stop - part.start)}, name, params=params)
        .predict_proba(X[~train][:, part])
        .argmax(axis=1)
        for block, part in BLOCKS.items()
    ]
    assert right > max((np.array(late.classes)[found] == y[~train]).mean() for found in alone) - 0.05
    weights = late.classifier.chosen_
    assert weights["weight.one"] > weights["weight.idle"]


def test_the_stacker_sees_scores_of_cells_that_their_models_have_not_met(monkeypatch):
    X, y, groups = cells()
    seen = []

    def record(scores, codes):
        seen.append(scores)
        return stack_scores(scores, codes)

    monkeypatch.setattr(fused_model, "stack_scores", record)
    late = fuse(X, y, groups, BLOCKS, "logreg", fuse="late", seed=3)
    (scores,) = seen
    expected = np.full(scores.shape, np.nan)
    for fold in grouped_folds(np.asarray(y, object), groups, 5, 3):
        assert not set(groups[fold.train]) & set(groups[fold.test])
        for at, (name, part) in enumerate(BLOCKS.items()):
            alone = {name: slice(0, part.stop - part.start)}
            of_fold = fuse(X[fold.train][:, part], y[fold.train], groups[fold.train], alone, "logreg", seed=3)
            expected[fold.test, at] = centred_logs(of_fold.predict_proba(X[fold.test][:, part]))
    assert_allclose(scores, expected, atol=1e-9)
    assert not np.allclose(scores, late.classifier.block_scores(X))  # which the models have learnt from


def test_a_block_that_knows_its_cells_by_heart_is_not_believed():
    # Noise in which every subject's cells are alike: trees fit each training subject, and are at chance for a new one.
    rng = np.random.default_rng(0)
    groups = np.arange(160) // 4
    codes = groups % 2
    heart = rng.normal(size=(40, 20))[groups] + 0.01 * rng.normal(size=(160, 20))
    honest = codes[:, None] + rng.normal(size=(160, 3))
    X = np.hstack([heart, honest]).astype(np.float32)
    blocks = {"heart": slice(0, 20), "honest": slice(20, 23)}
    late = fuse(X, np.array(["a", "b"])[codes], groups, blocks, "xgb", fuse="late", params={"n_estimators": 30})
    own = late.classifier.members["heart"].predict_proba(X[:, :20])
    assert (own.argmax(axis=1) == codes).mean() > 0.95
    weights = late.classifier.chosen_
    assert weights["weight.heart"] < 0.3 * weights["weight.honest"]


@pytest.mark.parametrize("name", ["logreg", *(pytest.param(name, marks=pytest.mark.slow) for name in ("svm", "xgb"))])
def test_permuted_labels_are_told_apart_no_better_than_by_chance(name):
    right = []
    for seed in range(6):
        X, _, groups = cells(n=150, seed=seed)
        of_group = np.random.default_rng(seed).permutation(np.arange(50) % 2)
        y = np.array(["a", "b"])[of_group[groups]]
        for fold in grouped_folds(np.asarray(y, object), groups, 3, seed):
            late = fuse(X[fold.train], y[fold.train], groups[fold.train], BLOCKS, name, fuse="late")
            found = np.array(late.classes)[late.predict_proba(X[fold.test]).argmax(axis=1)]
            right.append(np.mean([(found == y[fold.test])[y[fold.test] == label].mean() for label in "ab"]))
    assert abs(np.mean(right) - 0.5) < 3 * np.std(right) / np.sqrt(len(right))


def test_calibration_and_threshold_are_of_late_fusions_learnt_anew_in_every_fold(monkeypatch):
    X, y, groups = cells()
    counts = []

    def record(scores, codes):
        counts.append(len(codes))
        return stack_scores(scores, codes)

    monkeypatch.setattr(fused_model, "stack_scores", record)
    late = fuse(
        X, y, groups, BLOCKS, "logreg", fuse="late", calibrate="logistic", threshold="balanced-accuracy", positive="a"
    )
    assert late.calibration is not None
    assert 0 < late.threshold < 1
    assert counts == [120, 96, 96, 96, 96, 96]


def test_steps_that_see_labels_are_learnt_anew_in_every_fold_inside():
    X, y, groups = cells(n=180)
    sources = [f"site{(at // 3) // 2 % 2}" for at in range(180)]
    X[np.array(sources) == "site1"] += 3
    steps = {"harmonise": HarmoniseSettings(method="standard"), "stability": 0.5}
    late = fuse(X, y, groups, BLOCKS, "svm", fuse="late", sources=sources, **steps)
    assert late.harmoniser is not None
    assert late.selection is not None
    proba = late.predict_proba(X, sources)
    assert (np.array(late.classes)[proba.argmax(axis=1)] == y).mean() > 0.8


def test_a_training_part_of_one_group_a_class_is_refused():
    X, y, _ = cells(n=12)
    with pytest.raises(UsageError, match="cannot be held out from itself, which --fuse late need"):
        fuse(X, y, np.arange(12) // 3 % 2, BLOCKS, "logreg", fuse="late")


def test_one_block_alone_is_no_late_fusion(tmp_path):
    from fusion.workflows.train import train

    with pytest.raises(UsageError, match="late fusion is of two blocks or more"):
        train(TrainConfig(data=tmp_path, output=tmp_path / "model", features=["colour"], fuse="late"))


def test_ways_of_fusing_are_checked():
    assert AblateConfig(data="cells", output="out", fuse="weighted,late").fuse == ["weighted", "late"]
    with pytest.raises(UsageError, match="early"):
        AblateConfig(data="cells", output="out", fuse="early")


def test_an_ablation_holds_the_ways_of_fusing_against_each_other(synthetic, tmp_path):
    from fusion.evaluation.results import Result
    from fusion.workflows.ablate import ablate

    settings = {
        "data": synthetic,
        "features": ["morphology", "colour"],
        "compare": ["logreg"],
        "splits": 2,
        "repeats": 1,
        "jobs": 1,
    }
    result = ablate(AblateConfig(output=tmp_path / "all", fuse="weighted,concatenate,late", **settings))
    names = [(scores.features, scores.classifier) for scores in result.scores]
    both = ("morphology", "colour")
    assert [name for features, name in names if features == both] == ["logreg", "logreg-concatenate", "logreg-late"]
    assert len(names) == 5  # the lone blocks once each
    late = next(scores for scores in result.scores if scores.classifier == "logreg-late")
    assert all({"weight.morphology", "weight.colour"} <= set(chosen) for chosen in late.chosen)
    again = Result.load(tmp_path / "all")
    assert_allclose(next(s for s in again.scores if s.classifier == "logreg-late").proba, late.proba)
    assert again.findings["chosen"] == result.findings["chosen"]


def fits_of(tmp_path, **steps):
    """What late fusions of three sets of blocks have in common, on three folds, and the plan of these."""
    X, y, groups = cells()
    columns = [f"{name}.{at}" for name, part in BLOCKS.items() for at in range(part.stop - part.start)]
    table = FeatureTable.of_cells(X, columns, [f"cell{at}" for at in range(len(X))])
    study = Study(replace(table, y=tuple(y.tolist()), groups=groups))
    sets = [("one", "two"), ("one", "idle"), ("one", "two", "idle")]
    recipes = [Recipe(blocks, "logreg", fuse="late", positive="a", **steps) for blocks in sets]
    plan = make_plan(study.table, "grouped", 3, 1, 0)
    return prepare_fits(study, plan, recipes, Run(tmp_path)), plan


def test_fits_that_share_the_models_of_blocks_are_those_made_alone(monkeypatch, tmp_path):
    shared, plan = fits_of(tmp_path, threshold="0.4")
    assert shared.shared == {"logreg-late": "members"}
    together = cross_validate(shared, plan)
    monkeypatch.setattr(Fits, "shared", {"logreg-late": "nothing"})
    alone = cross_validate(fits_of(tmp_path, threshold="0.4")[0], plan)
    for one, other in zip(together, alone, strict=True):
        assert_allclose(one.proba, other.proba, atol=1e-9)
        assert (one.threshold == 0.4).all()
        for weights, others in zip(one.chosen, other.chosen, strict=True):
            assert weights == pytest.approx(others, abs=1e-6)


@pytest.mark.parametrize(
    "steps", [{"calibrate": "temperature"}, {"threshold": "balanced-accuracy"}, {"stability": 0.5}]
)
def test_steps_that_see_labels_share_nothing_with_late_fusion(tmp_path, steps):
    assert fits_of(tmp_path, **steps)[0].shared == {"logreg-late": "nothing"}


def test_a_calibrated_late_fusion_is_calibrated_in_a_comparison_too(tmp_path):
    fits, plan = fits_of(tmp_path, calibrate="temperature")
    found = cross_validate(fits, plan)
    plain = cross_validate(*fits_of(tmp_path))
    for one, other in zip(found, plain, strict=True):
        assert not np.allclose(one.proba, other.proba)
        order = np.argsort(other.proba[0, :, 0][one.fold[0] == 0])
        assert (np.diff(one.proba[0, :, 0][one.fold[0] == 0][order]) >= 0).all()  # one slope a fold, above 0
