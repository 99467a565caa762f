"""A stored tree model that is no tree is refused before XGBoost, which would crash on it, sees it."""

import copy
import json

import numpy as np
import pytest

from classifiers._tree_checks import MAX_DEPTH, checked_trees
from classifiers.boosting import BoostedTreesClassifier
from fusion.bundles.bundle_files import BundleError


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


def forget_the_parents(model):
    trees(model)[0]["parents"] = [10**6] * len(trees(model)[0]["parents"])


def equal_numbers(model):
    trees(model)[1]["id"] = 0


def vector_leaves(model):
    trees(model)[0]["tree_param"]["size_leaf_vector"] = "3"


def categories(model):
    trees(model)[0]["categories"] = [1]


def categorical_split(model):
    trees(model)[0]["split_type"][0] = 1


def squared_error(model):
    model["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}


def two_targets(model):
    model["learner"]["learner_model_param"]["num_target"] = "2"


def improbable_base(model):
    model["learner"]["learner_model_param"]["base_score"] = "[1.5E0]"


def enormous_leaf(model):
    tree = trees(model)[0]
    tree["split_conditions"][tree["left_children"].index(-1)] = 1e30


def number_as_text(model):
    trees(model)[0]["left_children"][0] = "1"


def number_as_truth(model):
    trees(model)[0]["left_children"][0] = True


def number_beyond_64_bits(model):
    trees(model)[0]["left_children"][0] = 10**30


def unknown_key(model):
    trees(model)[0]["leaf_child_counts"] = []


def chain_without_end(model):
    tree, depth = trees(model)[0], MAX_DEPTH + 1
    nodes = 2 * depth + 1
    left, right = [-1] * nodes, [-1] * nodes
    parents = [2**31 - 1] + [0] * (nodes - 1)
    for at in range(depth):
        own = 0 if at == 0 else 2 * at
        left[own], right[own] = 2 * at + 1, 2 * at + 2
        parents[2 * at + 1] = parents[2 * at + 2] = own
    for name, value in tree.items():
        if isinstance(value, list) and value:
            tree[name] = [0] * nodes
    tree |= {"left_children": left, "right_children": right, "parents": parents}
    tree["tree_param"]["num_nodes"] = str(nodes)


DAMAGE = [
    forget_the_parents,
    equal_numbers,
    vector_leaves,
    categories,
    categorical_split,
    squared_error,
    two_targets,
    improbable_base,
    enormous_leaf,
    number_as_text,
    number_as_truth,
    number_beyond_64_bits,
    unknown_key,
    chain_without_end,
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
    assert checked_trees(model, n_features=5, n_classes=2) == model


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_given_to_xgboost_predicts_the_same_bits(classes, tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    fitted = BoostedTreesClassifier(n_estimators=30).fit(X, np.arange(200) % classes)
    fitted.save(tmp_path)
    again = BoostedTreesClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(again.contributions(X), fitted.contributions(X))


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_refused(damage, model, stored, tmp_path):
    damaged = copy.deepcopy(model)
    damage(damaged)
    (tmp_path / "xgboost.json").write_text(json.dumps(damaged))
    (tmp_path / "classifier.json").write_bytes((stored / "classifier.json").read_bytes())
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)


def test_missing_and_unreadable_files_are_refused(stored, tmp_path):
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)
    (tmp_path / "classifier.json").write_bytes((stored / "classifier.json").read_bytes())
    (tmp_path / "xgboost.json").write_bytes(b"{}"[:1])
    with pytest.raises(BundleError):
        BoostedTreesClassifier.load(tmp_path)


#: What Python's parser reads in one way and XGBoost's in another.
DIFFERENTIALS = {
    "a key spelt with an escape": lambda text: text.replace('"left_children"', '"left\\u005fchildren"', 1),
    "twice, once with an escape": lambda text: text.replace(
        '"left_children"', '"left_children":[1000000000,-1,-1],"left\\u005fchildren"', 1
    ),
    "a key twice": lambda text: text.replace(
        '"left_children"', '"left_children":[1000000000,-1,-1],"left_children"', 1
    ),
    "NaN": lambda text: text.replace('"sum_hessian":[', '"sum_hessian":[NaN,', 1),
    "Infinity": lambda text: text.replace('"base_weights":[', '"base_weights":[Infinity,', 1),
    "a number beyond 64 bits": lambda text: text.replace('"id":0', '"id":' + "9" * 40, 1),
    "a number of no end": lambda text: text.replace('"id":0', '"id":' + "9" * 5000, 1),
    "a comment": lambda text: text.replace("{", "{/**/", 1),
    "a comma too many": lambda text: text.replace("}", ",}", 1),
    "a byte order mark": lambda text: "\ufeff" + text,
    "a NUL behind": lambda text: text + "\0",
    "two documents": lambda text: text + text,
    "nested without end": lambda text: "[" * 100_000 + text,
    "another encoding": lambda text: text.encode("utf-16").decode("latin-1"),
}


@pytest.mark.parametrize("name", DIFFERENTIALS)
def test_what_two_parsers_read_differently_is_refused_or_harmless(name, stored, tmp_path):
    text = (stored / "xgboost.json").read_text()
    changed = DIFFERENTIALS[name](text)
    assert changed != text
    (tmp_path / "xgboost.json").write_text(changed, encoding="utf-8")
    (tmp_path / "classifier.json").write_bytes((stored / "classifier.json").read_bytes())
    X = np.random.default_rng(2).normal(size=(20, 5)).astype(np.float32)
    try:
        found = BoostedTreesClassifier.load(tmp_path).predict_proba(X)
    except BundleError:
        return
    assert name == "a key spelt with an escape"  # which means what it says, to whoever decodes it
    np.testing.assert_array_equal(found, BoostedTreesClassifier.load(stored).predict_proba(X))
