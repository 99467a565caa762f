"""Is this XGBoost model made of trees? XGBoost does not ask, and crashes or reads past its arrays when it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NODE_ARRAYS = ("left_children", "right_children", "split_indices", "split_conditions", "default_left", "parents")

#: Far above what anyone trains, far below what exhausts memory.
_MAX_TREES, _MAX_NODES = 1_000_000, 1 << 24


def check_trees(model: Mapping[str, Any], *, n_features: int, n_classes: int) -> None:
    """Accept a model of XGBoost's JSON format only if every tree is one.

    Every node array has one entry a node; every node but the root is the child of exactly one other; a leaf has no
    child and any other node two; every split looks at a column that exists.

    Raises
    ------
    ValueError : says what is wrong, with the tree's number.
    KeyError : a part of the format is missing.
    """
    learner = model["learner"]
    shape = learner["learner_model_param"]
    if int(shape["num_feature"]) != n_features:
        raise ValueError(f"the model has {shape['num_feature']} columns, its bundle {n_features}")
    outputs = 1 if n_classes == 2 else n_classes
    if max(int(shape["num_class"]), 1) != outputs:
        raise ValueError(f"the model has {shape['num_class']} classes, its bundle {n_classes}")
    booster = learner["gradient_booster"]
    if booster.get("name") != "gbtree":
        raise ValueError(f"booster {booster.get('name')!r} instead of 'gbtree'")
    trees = booster["model"]["trees"]
    if not len(trees) <= _MAX_TREES or int(booster["model"]["gbtree_model_param"]["num_trees"]) != len(trees):
        raise ValueError(f"{len(trees)} trees, but another number is declared")
    tree_info, indptr = booster["model"]["tree_info"], booster["model"]["iteration_indptr"]
    if len(tree_info) != len(trees) or any(not 0 <= int(output) < outputs for output in tree_info):
        raise ValueError("tree_info does not fit the trees")
    if not indptr or indptr[0] != 0 or indptr[-1] != len(trees) or np.any(np.diff(indptr) < 0):
        raise ValueError("iteration_indptr does not fit the trees")
    for number, tree in enumerate(trees):
        _check_tree(tree, number, n_features)


def _check_tree(tree: Mapping[str, Any], number: int, n_features: int) -> None:
    nodes = int(tree["tree_param"]["num_nodes"])
    arrays = {name: np.asarray(tree[name], dtype=np.float64) for name in _NODE_ARRAYS}
    if not 1 <= nodes <= _MAX_NODES or any(array.shape != (nodes,) for array in arrays.values()):
        raise ValueError(f"tree {number}: arrays of other lengths than its {nodes} nodes")
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1 or tree.get("categories_nodes"):
        raise ValueError(f"tree {number}: vector leaves or categorical splits, which this model never has")
    left, right = arrays["left_children"], arrays["right_children"]
    leaf = left == -1
    if np.any(leaf != (right == -1)):
        raise ValueError(f"tree {number}: a node with one child")
    children = np.concatenate([left[~leaf], right[~leaf]])
    if sorted(children) != list(range(1, nodes)) or not _reaches_all(left, right, leaf):
        raise ValueError(f"tree {number}: its nodes do not form a tree")
    columns = arrays["split_indices"][~leaf]
    if np.any((columns < 0) | (columns >= n_features) | (columns != np.floor(columns))):
        raise ValueError(f"tree {number}: a split on a column that does not exist")
    if not np.isfinite(arrays["split_conditions"]).all():
        raise ValueError(f"tree {number}: a threshold or leaf that is no number")


def _reaches_all(left: NDArray[np.float64], right: NDArray[np.float64], leaf: NDArray[np.bool_]) -> bool:
    """Whether every node is reached from the root; with one parent each, that rules out cycles."""
    reached, open_nodes = 0, [0]
    while open_nodes:
        node = open_nodes.pop()
        reached += 1
        if reached > len(leaf):
            return False
        if not leaf[node]:
            open_nodes += [int(left[node]), int(right[node])]
    return reached == len(leaf)
