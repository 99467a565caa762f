"""Classifiers as ONNX graphs: each function adds one to a graph and returns the name of its probabilities.

Written by hand in plain operators and 64 bits: the converters that exist take 32 bits, which moves a probability of a
support vector machine in the fifth digit, and lag behind the libraries whose models they convert.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.rbf_svm import RbfSVM
from fusion.bundles.onnx_graph import ML_DOMAIN, Graph


def logistic(graph: Graph, rows: str, weights: NDArray[np.float64], intercept: NDArray[np.float64]) -> str:
    """float64 (n, K) of a logistic regression: weights (K, d), or (1, d) for two classes."""
    scores = graph.add("Add", graph.add("MatMul", rows, np.ascontiguousarray(weights.T)), intercept)
    return both(graph, graph.add("Sigmoid", scores)) if len(weights) == 1 else graph.add("Softmax", scores, axis=1)


def svm(graph: Graph, rows: str, model: RbfSVM) -> str:
    """float64 (n, K) of an RBF-kernel SVM, calibrated by sigmoids."""
    weighted = graph.add("MatMul", _kernel(graph, rows, model), model.decision.weights)
    scores = graph.add("Add", weighted, model.decision.intercept)
    if model.decision.votes and model.decision.classes > 2:
        scores = _voted(graph, scores, model.decision.classes)
    scaled = graph.add("Add", graph.add("Mul", scores, model.slope), model.offset)
    proba = graph.add("Sigmoid", graph.add("Neg", scaled))
    if len(model.slope) == 1:
        return both(graph, proba)
    return graph.add("Div", proba, graph.add("ReduceSum", proba, np.array([1]), keepdims=1))


def ensemble(graph: Graph, rows: str, model: Mapping[str, Any]) -> str:
    """float64 (n, K) of XGBoost's trees, in its JSON format as ``_tree_checks`` accepts it; rows are float32."""
    learner = model["learner"]
    outputs = max(int(learner["learner_model_param"]["num_class"]), 1)
    parts: dict[str, list[NDArray]] = {}
    trees = learner["gradient_booster"]["model"]["trees"]
    for number, (tree, output) in enumerate(zip(trees, learner["gradient_booster"]["model"]["tree_info"], strict=True)):
        for name, values in _nodes(number, tree, int(output)).items():
            parts.setdefault(name, []).append(values)
    nodes = {name: np.concatenate(values) for name, values in parts.items()}
    modes = np.where(nodes.pop("is_leaf"), "LEAF", "BRANCH_LT").tolist()
    lists = {name: values.tolist() for name, values in nodes.items()}
    margins = graph.add(
        "TreeEnsembleRegressor",
        rows,
        domain=ML_DOMAIN,
        nodes_modes=modes,
        n_targets=outputs,
        aggregate_function="SUM",
        post_transform="NONE",
        **lists,
    )
    base = np.atleast_1d(np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float64))
    # From here on in 32 bits as XGBoost does it, so that a probability of 1 by rounding is one here too: a calibration
    # makes much of what is left to 1.
    if outputs > 1:
        return graph.cast(graph.add("Softmax", graph.add("Add", margins, base.astype(np.float32)), axis=1), np.float64)
    log_odds = graph.add("Add", margins, np.log(base / (1 - base)).astype(np.float32))  # the base is a probability
    one = np.ones(1, np.float32)
    odds_against = graph.add("Exp", graph.add("Neg", log_odds))
    return both(graph, graph.cast(graph.add("Div", one, graph.add("Add", odds_against, one)), np.float64))


def both(graph: Graph, second: str) -> str:
    """(n, 2) from the second class's probability (n, 1)."""
    return graph.add("Concat", graph.add("Sub", np.array(1.0), second), second, axis=1)


def _kernel(graph: Graph, rows: str, model: RbfSVM) -> str:
    """float64 (n, vectors): exp(-gamma |x - v|^2)."""
    vectors = model.vectors
    assert vectors is not None
    squares = graph.add("ReduceSum", graph.add("Mul", rows, rows), np.array([1]), keepdims=1)
    products = graph.add("MatMul", rows, np.ascontiguousarray(-2 * vectors.T))
    distances = graph.add("Add", graph.add("Add", squares, products), (vectors**2).sum(axis=1))
    # Rounding may leave the distance of a vector to itself a little below 0.
    return graph.add("Exp", graph.add("Mul", graph.add("Max", distances, np.array(0.0)), np.array(-model.gamma)))


def _voted(graph: Graph, decisions: str, classes: int) -> str:
    """float64 (n, K) from a score a pair of classes: pairs won, ties broken by how sure each pair is."""
    pairs = list(combinations(range(classes), 2))
    votes, signs = np.zeros((2, len(pairs), classes)), np.zeros((len(pairs), classes))
    for at, (i, j) in enumerate(pairs):
        votes[0, at, i] = votes[1, at, j] = signs[at, i] = 1
        signs[at, j] = -1
    # sklearn.utils.multiclass._ovr_decision_function.
    against = graph.cast(graph.add("Less", decisions, np.array(0.0)), np.float64)
    counted = graph.add("Add", graph.add("MatMul", against, votes[1] - votes[0]), votes[0].sum(axis=0))
    sure = graph.add("MatMul", decisions, signs)
    share = graph.add("Div", sure, graph.add("Mul", graph.add("Add", graph.add("Abs", sure), 1.0), 3.0))
    return graph.add("Add", counted, share)


def _nodes(number: int, tree: Mapping[str, Any], output: int) -> dict[str, NDArray]:
    """One tree's part of the attributes of ``TreeEnsembleRegressor``, and which of its nodes are leaves."""
    left, right = (np.asarray(tree[f"{side}_children"], np.int64) for side in ("left", "right"))
    is_leaf = left == -1
    leaves = np.flatnonzero(is_leaf)
    values = np.asarray(tree["split_conditions"], np.float32)
    return {
        "is_leaf": is_leaf,
        "nodes_treeids": np.full(len(left), number),
        "nodes_nodeids": np.arange(len(left)),
        "nodes_featureids": np.asarray(tree["split_indices"], np.int64),
        "nodes_values": np.where(is_leaf, np.float32(0), values),
        "nodes_truenodeids": np.where(is_leaf, 0, left),
        "nodes_falsenodeids": np.where(is_leaf, 0, right),
        "nodes_missing_value_tracks_true": np.where(is_leaf, 0, np.asarray(tree["default_left"], np.int64)),
        "target_treeids": np.full(len(leaves), number),
        "target_nodeids": leaves,
        "target_ids": np.full(len(leaves), output),
        "target_weights": values[leaves],
    }
