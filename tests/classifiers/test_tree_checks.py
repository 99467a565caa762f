"""A stored tree model that is no tree is refused before XGBoost, which would crash on it, sees it."""

import copy
import json

import numpy as np
import pytest

from classifiers._tree_checks import check_trees
from classifiers.boosting import BoostedTreesClassifier
from fusion.bundles.model_bundle import BundleError


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 5)).astype(np.float32)
    folder = tmp_path_factory.mktemp("trees")
    BoostedTreesClassifier(n_estimators=5).fit(X, np.where(X[:, 0] > 0, "all", "hem")).save(folder)
    return folder


@pytest.fixture
def model(stored):
    return json.loads((stored / "xgboost.json").read_bytes())


def trees(model):
    return model["learner"]["gradient_booster"]["model"]["trees"]


def grow_a_cycle(model):
    tree = trees(model)[0]
    inner = next(at for at, child in enumerate(tree["left_children"]) if child != -1 and at > 0)
    tree["left_children"][inner] = 0


def point_outside(model):
    trees(model)[0]["left_children"][0] = 10_000_000


def point_before_the_array(model):
    trees(model)[0]["right_children"][0] = -7


def split_on_a_missing_column(model):
    trees(model)[0]["split_indices"][0] = 99


def cut_an_array(model):
    trees(model)[0]["split_conditions"].pop()


def drop_a_tree(model):
    trees(model).pop()


def lie_about_the_columns(model):
    model["learner"]["learner_model_param"]["num_feature"] = "400"


def answer_for_another_class(model):
    model["learner"]["gradient_booster"]["model"]["tree_info"][0] = 5


def leaf_without_a_number(model):
    trees(model)[0]["split_conditions"][0] = float("nan")


def one_child_only(model):
    tree = trees(model)[0]
    tree["right_children"][tree["left_children"].index(-1)] = 1


def share_a_child(model):
    tree = trees(model)[0]
    tree["right_children"][0] = tree["left_children"][0]


def remove_the_learner(model):
    del model["learner"]["gradient_booster"]


def another_booster(model):
    model["learner"]["gradient_booster"]["name"] = "dart"


DAMAGE = [
    grow_a_cycle,
    point_outside,
    point_before_the_array,
    split_on_a_missing_column,
    cut_an_array,
    drop_a_tree,
    lie_about_the_columns,
    answer_for_another_class,
    leaf_without_a_number,
    one_child_only,
    share_a_child,
    remove_the_learner,
    another_booster,
]


def test_what_xgboost_writes_is_accepted(model):
    check_trees(model, n_features=5, n_classes=2)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_refused(damage, model, stored, tmp_path):
    damaged = copy.deepcopy(model)
    damage(damaged)
    (tmp_path / "xgboost.json").write_text(json.dumps(damaged))
    (tmp_path / "classes.json").write_bytes((stored / "classes.json").read_bytes())
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)


def test_missing_and_unreadable_files_are_refused(stored, tmp_path):
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)
    (tmp_path / "classes.json").write_bytes((stored / "classes.json").read_bytes())
    (tmp_path / "xgboost.json").write_bytes(b"{}"[:1])
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)
