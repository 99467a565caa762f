"""Is this XGBoost model made of trees? XGBoost does not ask, and crashes or reads past its arrays when it is not.

XGBoost is never given a file's bytes, but what is built here: a document of values that were checked one by one, with
the keys that are listed here and no others. Two parsers cannot disagree about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Far above what anyone trains, far below what exhausts memory; a deep tree's SHAP values are found by recursion.
_MAX_TREES, _MAX_NODES, MAX_DEPTH = 1_000_000, 1 << 24, 256

#: XGBoost's number for the parent of a root.
_NO_PARENT = 2**31 - 1

#: The largest number of 32 bits, and a leaf that no learning rate leads to.
_LARGEST, _LARGEST_LEAF = 3.4e38, 1e6

_WHOLE = ("left_children", "right_children", "parents", "split_indices", "default_left", "split_type")
_REAL = ("split_conditions", "base_weights", "loss_changes", "sum_hessian")
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_TREE_PARAM = {"num_deleted", "num_feature", "num_nodes", "size_leaf_vector"}
_SHAPE = {"base_score", "boost_from_average", "num_class", "num_feature", "num_target"}
_NO_CATEGORIES: dict[str, list[Any]] = {"enc": [], "feature_segments": [], "sorted_idx": []}


def checked_trees(model: Any, *, n_features: int, n_classes: int) -> dict[str, Any]:
    """The model to give to XGBoost, of a document in its JSON format, only if every tree is one.

    Every node array has one entry a node; every node but the root is the child of exactly one other, which is its
    parent; a leaf has no child and any other node two; every split looks at a column that exists; trees are numbered
    and belong to the classes in turn; the objective gives probabilities.

    Raises
    ------
    ValueError : says what is wrong, with the tree's number.
    """
    outputs = 1 if n_classes == 2 else n_classes
    _keys(model, {"learner", "version"}, "the model")
    version, learner = model["version"], model["learner"]
    if not _are(version, int) or len(version) != 3 or not 2 <= version[0] <= 9 or max(version) > 1000:
        raise ValueError("an unknown version of XGBoost's format")
    names = {"attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param", "objective"}
    _keys(learner, names, "the learner")
    if learner["attributes"] != {} or learner["feature_names"] != [] or learner["feature_types"] != []:
        raise ValueError("attributes or names, which this model never has")
    booster = learner["gradient_booster"]
    _keys(booster, {"model", "name"}, "the booster")
    if booster["name"] != "gbtree":
        raise ValueError(f"booster {str(booster['name'])[:40]!r} instead of 'gbtree'")
    return {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {"model": _forest(booster["model"], n_features, outputs), "name": "gbtree"},
            "learner_model_param": _shape(learner["learner_model_param"], n_features, outputs),
            "objective": _objective(learner["objective"], outputs),
        },
        "version": version,
    }


def _shape(shape: Any, n_features: int, outputs: int) -> dict[str, str]:
    _keys(shape, _SHAPE, "learner_model_param")
    if shape["num_feature"] != str(n_features):
        raise ValueError(f"the model has {str(shape['num_feature'])[:20]} columns, its bundle {n_features}")
    if shape["num_class"] != str(0 if outputs == 1 else outputs) or shape["num_target"] != "1":
        raise ValueError(f"the model has {str(shape['num_class'])[:20]} classes, or other targets than its bundle")
    if shape["boost_from_average"] not in ("0", "1") or not isinstance(shape["base_score"], str):
        raise ValueError("learner_model_param does not fit")
    text = shape["base_score"]
    if len(text) > 40 * (outputs + 1) or not set(text) <= set("[]0123456789.,+-eE"):
        raise ValueError("a base score that is no number")
    base = json.loads(text)
    scores = base if isinstance(base, list) else [base]
    if len(scores) not in (1, outputs) or not all(type(score) in (int, float) for score in scores):
        raise ValueError("a base score that is no number")
    is_sane = all(0 < score < 1 for score in scores) if outputs == 1 else all(abs(score) <= 100 for score in scores)
    if not is_sane:
        raise ValueError("a base score that is no probability")
    return {name: str(shape[name]) for name in sorted(_SHAPE)}


def _objective(objective: Any, outputs: int) -> dict[str, Any]:
    if outputs == 1:
        expected = {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}
    else:
        expected = {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(outputs)}}
    if objective != expected:
        found = str(objective.get("name") if isinstance(objective, dict) else objective)[:40]
        raise ValueError(f"objective {found!r} instead of {expected['name']!r} with its usual parameters")
    return expected


def _forest(forest: Any, n_features: int, outputs: int) -> dict[str, Any]:
    _keys(forest, {"gbtree_model_param", "iteration_indptr", "tree_info", "trees"}, "the trees", optional={"cats"})
    trees, param = forest["trees"], forest["gbtree_model_param"]
    if not isinstance(trees, list) or not 1 <= len(trees) <= _MAX_TREES or len(trees) % outputs:
        raise ValueError("no trees, too many, or another number for one class than for another")
    if param != {"num_parallel_tree": "1", "num_trees": str(len(trees))}:
        raise ValueError(f"{len(trees)} trees, but another number is declared")
    if forest.get("cats", _NO_CATEGORIES) != _NO_CATEGORIES:
        raise ValueError("categories, which this model never has")
    info, indptr = [at % outputs for at in range(len(trees))], list(range(0, len(trees) + 1, outputs))
    if forest["tree_info"] != info or not _are(forest["tree_info"], int):
        raise ValueError("tree_info does not fit the trees")
    if forest["iteration_indptr"] != indptr or not _are(forest["iteration_indptr"], int):
        raise ValueError("iteration_indptr does not fit the trees")
    return {
        "gbtree_model_param": param,
        "iteration_indptr": indptr,
        "tree_info": info,
        "trees": [_tree(tree, number, n_features) for number, tree in enumerate(trees)],
        **({"cats": _NO_CATEGORIES} if "cats" in forest else {}),
    }


def _tree(tree: Any, number: int, n_features: int) -> dict[str, Any]:
    _keys(tree, {"id", "tree_param", *_WHOLE, *_REAL, *_CATEGORIES}, f"tree {number}")
    if type(tree["id"]) is not int or tree["id"] != number:
        raise ValueError(f"tree {number}: calls itself {str(tree['id'])[:20]}")
    if any(tree[name] != [] for name in _CATEGORIES):
        raise ValueError(f"tree {number}: categorical splits, which this model never has")
    nodes = len(tree["left_children"]) if isinstance(tree["left_children"], list) else 0
    param = {"num_deleted": "0", "num_feature": str(n_features), "num_nodes": str(nodes), "size_leaf_vector": "1"}
    _keys(tree["tree_param"], _TREE_PARAM, f"tree {number}: tree_param")
    if tree["tree_param"] != param:
        raise ValueError(f"tree {number}: vector leaves, deleted nodes, or another number of nodes or columns")
    if not 1 <= nodes <= _MAX_NODES or any(len(tree[name]) != nodes for name in (*_WHOLE, *_REAL)):
        raise ValueError(f"tree {number}: arrays of other lengths than its {nodes} nodes")
    if not all(_are(tree[name], int) for name in _WHOLE) or not all(_are(tree[name], int, float) for name in _REAL):
        raise ValueError(f"tree {number}: nodes that are no numbers")
    try:
        whole = {name: np.array(tree[name], np.int64) for name in _WHOLE}
        real = {name: np.array(tree[name], np.float64) for name in _REAL}
    except OverflowError as error:
        raise ValueError(f"tree {number}: a number that is too large") from error
    if any(not (np.abs(array) <= _LARGEST).all() for array in real.values()):
        raise ValueError(f"tree {number}: a threshold or leaf that is no number")
    _check_nodes(whole, real["split_conditions"], number, n_features)
    return {
        "id": number,
        "tree_param": param,
        **{name: [] for name in _CATEGORIES},
        **{name: array.tolist() for name, array in (whole | real).items()},
    }


def _check_nodes(
    whole: Mapping[str, NDArray[np.int64]], values: NDArray[np.float64], number: int, columns: int
) -> None:
    left, right = whole["left_children"], whole["right_children"]
    leaf, nodes = left == -1, len(left)
    if np.any(leaf != (right == -1)):
        raise ValueError(f"tree {number}: a node with one child")
    children = np.concatenate([left[~leaf], right[~leaf]])
    if not np.array_equal(np.sort(children), np.arange(1, nodes)):
        raise ValueError(f"tree {number}: its nodes do not form a tree")
    # Each node has one parent: those that a walk from the root does not meet would be circles.
    parents = np.full(nodes, _NO_PARENT)
    parents[left[~leaf]] = parents[right[~leaf]] = np.flatnonzero(~leaf)
    level, met, depth = np.zeros(1, np.int64), 1, 0
    while len(level := np.concatenate([left[level], right[level]])[np.tile(~leaf[level], 2)]):
        met, depth = met + len(level), depth + 1
        if met > nodes or depth > MAX_DEPTH:
            raise ValueError(f"tree {number}: its nodes do not form a tree, or one that is too deep")
    if met != nodes:
        raise ValueError(f"tree {number}: its nodes do not form a tree")
    if not np.array_equal(whole["parents"], parents):
        raise ValueError(f"tree {number}: a node that does not know its parent")
    if np.any((whole["split_indices"] < 0) | (whole["split_indices"] >= max(columns, 1))):
        raise ValueError(f"tree {number}: a split on a column that does not exist")
    if np.any((whole["default_left"] | 1) != 1) or whole["split_type"].any():
        raise ValueError(f"tree {number}: a split of a kind that this model never has")
    if np.any(np.abs(values[leaf]) > _LARGEST_LEAF):
        raise ValueError(f"tree {number}: a leaf of {np.abs(values[leaf]).max():.3g}")


def _keys(found: Any, expected: set[str], where: str, optional: frozenset[str] | set[str] = frozenset()) -> None:
    """ValueError unless ``found`` is a mapping with exactly these keys."""
    if not isinstance(found, dict):
        raise ValueError(f"{where} is no mapping")
    if odd := sorted((found.keys() ^ expected) - optional):
        state = "without" if odd[0] in expected else "with an unknown"
        raise ValueError(f"{where} is {state} {odd[0][:40]!r}")


def _are(values: Any, *kinds: type) -> bool:
    """Whether this is a list of numbers of these types; True and False are none."""
    return isinstance(values, list) and all(type(value) in kinds for value in values)
