"""Classifiers of patients as ONNX graphs: from the cells of one bag, however many, to the patient's probabilities.

All of it in 64 bits. What the model computes in 32, components and networks, differs from it by their rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from classifiers.patients._cell_scores import EXPONENTS, SUREST
from classifiers.patients._linear_models import QUANTILES

if TYPE_CHECKING:
    from torch import nn

    from classifiers.patients._cell_scores import CellModels, Components
    from classifiers.patients._linear_models import PooledModel
    from classifiers.patients._pooling import BagNetwork, GatedAttention, SetTransformer, TopCells
    from classifiers.patients.pool import PooledClassifier
    from fusion.bundles.onnx_graph import Graph


def pool(graph: Graph, rows: str, model: PooledClassifier) -> str:
    """float64 (1, K) of ``PooledClassifier``, for the cells float (k, d) called ``rows``."""
    cells = graph.cast(rows, np.float64)
    pooled = _statistics(graph, cells)
    if model.cell_weights_ is not None:
        assert model.cell_intercepts_ is not None  # both or neither
        kinds = graph.add("Add", graph.add("MatMul", cells, model.cell_weights_.T), model.cell_intercepts_)
        pooled = graph.add("Concat", pooled, _mean(graph, graph.add("Softmax", kinds, axis=1)), axis=1)
    scaled = _scaled(graph, pooled, model.centre_, model.scale_)
    margins = graph.add("Add", graph.add("MatMul", scaled, model.coef_.T), model.intercept_)
    return graph.add("Softmax", margins, axis=1)


def mil(graph: Graph, rows: str, parts: tuple[Components, CellModels, PooledModel], networks: list[BagNetwork]) -> str:
    """float64 (1, K) of ``BagClassifier``: models of cells and of columns, and what each network adds to these."""
    components, models, pooled = parts
    columns = graph.cast(rows, np.float64)
    statistics = _scaled(graph, _statistics(graph, columns), pooled.centre, pooled.scale)
    beside = graph.add("Add", graph.add("MatMul", statistics, pooled.weights.T), pooled.intercepts)
    centred = graph.add("Sub", columns, components.mean.astype(np.float64))
    cells = graph.add("MatMul", centred, components.axes.T.astype(np.float64))
    start = _cell_models(graph, cells, models, beside)
    total = ""
    for network in networks:
        proba = graph.add("Softmax", graph.add("Add", start, _network(graph, cells, network)), axis=1)
        total = graph.add("Add", total, proba) if total else proba
    return graph.add("Div", total, np.array(float(len(networks))))


# ---- models of cells and statistics ----------------------------------------------------------------------------------


def _cell_models(graph: Graph, cells: str, models: CellModels, beside: str) -> str:
    """float64 (1, K): the margins of ``CellModels.predict``, where another model says ``beside``."""
    near = _kernel(graph, cells, models.landmarks)
    proba = graph.add("Softmax", graph.add("Add", graph.add("MatMul", near, models.weights), models.intercepts), axis=1)
    against = graph.add("Max", graph.add("Sub", np.array(1.0), proba), np.array(1e-12))
    odds = graph.add("Clip", graph.add("Div", proba, against), np.array(1 / SUREST), np.array(SUREST))
    scores = graph.add("Log", odds)
    said = [_mean(graph, scores)]
    for exponent in EXPONENTS[1:]:
        raised = graph.add("Exp", graph.add("Mul", scores, np.array(exponent)))
        said.append(graph.add("Div", graph.add("Log", _mean(graph, raised)), np.array(exponent)))
    pooled = _scaled(graph, _statistics(graph, cells), models.pooled_centre, models.pooled_scale)
    said.append(graph.add("Add", graph.add("MatMul", pooled, models.pooled_weights.T), models.pooled_intercepts))
    said.append(beside)
    scaled = _scaled(graph, graph.add("Concat", *said, axis=1), models.centre, models.scale)
    return graph.add("Add", graph.add("MatMul", scaled, models.coef.T), models.intercept)


def _kernel(graph: Graph, cells: str, landmarks: np.ndarray) -> str:
    """float64 (k, m): nearness of cells to landmarks, wide and narrow."""
    squares = graph.add("ReduceSum", graph.add("Mul", cells, cells), np.array([1]), keepdims=1)
    near = graph.add("Sub", graph.add("MatMul", cells, 2 * landmarks.T), squares)
    near = graph.add("Sub", near, (landmarks**2).sum(axis=1))
    near = graph.add(
        "Exp", graph.add("Min", graph.add("Div", near, np.array(float(landmarks.shape[1]))), np.array(0.0))
    )
    narrow = graph.add("Mul", graph.add("Mul", near, near), near)
    return graph.add("Div", graph.add("Add", near, narrow), np.array(2.0))


def _statistics(graph: Graph, cells: str) -> str:
    """float64 (1, 5 d): ``pooled_statistics``; NaN for the spread of a single cell."""
    count = _count(graph, cells)
    mean = _mean(graph, cells)
    off = graph.add("Sub", cells, mean)
    squares = graph.add("ReduceSum", graph.add("Mul", off, off), np.array([0]), keepdims=1)
    last = graph.add("Sub", count, np.array([1.0]))
    found = [mean, graph.add("Sqrt", graph.add("Div", squares, last))]
    ordered = graph.top(cells, _whole(graph, count), largest=False)
    for share in QUANTILES:
        # Hyndman and Fan's eighth definition, as numpy's "median_unbiased" has it.
        place = graph.add("Add", graph.add("Mul", count, np.array([share])), np.array([(1 + share) / 3 - 1]))
        place = graph.add("Min", graph.add("Max", place, np.array([0.0])), last)
        below = graph.add("Floor", place)
        above = graph.add("Min", graph.add("Add", below, np.array([1.0])), last)
        low, high = (graph.add("Gather", ordered, _whole(graph, at), axis=0) for at in (below, above))
        beyond = graph.add("Mul", graph.add("Sub", high, low), graph.add("Sub", place, below))
        found.append(graph.add("Add", low, beyond))
    return graph.add("Concat", *found, axis=1)


def _scaled(graph: Graph, values: str, centre: np.ndarray, scale: np.ndarray) -> str:
    """float64 (1, s): as ``(values - centre) * scale``, 0 where nobody knows."""
    known = graph.add("Where", graph.add("IsNaN", values), centre[None], values)
    return graph.add("Mul", graph.add("Sub", known, centre[None]), scale[None])


def _mean(graph: Graph, values: str) -> str:
    return graph.add("ReduceMean", values, axes=[0], keepdims=1)


def _count(graph: Graph, cells: str) -> str:
    """float64 (1,): how many rows there are."""
    return graph.cast(graph.add("Gather", graph.add("Shape", cells), np.array([0])), np.float64)


def _whole(graph: Graph, number: str) -> str:
    return graph.cast(number, np.int64)


# ---- networks --------------------------------------------------------------------------------------------------------


def _network(graph: Graph, cells: str, network: BagNetwork) -> str:
    """float64 (1, K): what a network adds to the margins."""
    from classifiers.patients._pooling import SetTransformer, TopCells

    hidden = graph.add("Relu", _linear(graph, cells, network.encode))
    pooling = network.pool
    if isinstance(pooling, TopCells):
        return _top_cells(graph, hidden, pooling)
    if isinstance(pooling, SetTransformer):
        return _transformer(graph, hidden, pooling)
    return _attention(graph, hidden, pooling)


def _attention(graph: Graph, cells: str, pooling: GatedAttention) -> str:
    value = graph.add("Tanh", _linear(graph, cells, pooling.value))
    gate = graph.add("Sigmoid", _linear(graph, cells, pooling.gate))
    weights = graph.add("Softmax", _linear(graph, graph.add("Mul", value, gate), pooling.score), axis=0)
    pooled = graph.add("MatMul", graph.add("Transpose", weights, perm=[1, 0]), cells)
    return _linear(graph, pooled, pooling.head)


def _top_cells(graph: Graph, cells: str, pooling: TopCells) -> str:
    # Their number is rounded in 32 bits, as the network does it: a half in one is none in the other.
    share = graph.add("Mul", graph.cast(_count(graph, cells), np.float32), np.array([pooling.share], np.float32))
    wanted = graph.add("Max", graph.add("Round", share), np.ones(1, np.float32))
    return _mean(graph, graph.top(_linear(graph, cells, pooling.head), _whole(graph, wanted), largest=True))


def _transformer(graph: Graph, cells: str, pooling: SetTransformer) -> str:
    from classifiers.patients._pooling import HEADS

    width = pooling.summaries.shape[1] // HEADS
    parts = [slice(at * width, (at + 1) * width) for at in range(HEADS)]
    normed = _norm(graph, cells, pooling.first)
    asked = pooling.summaries.detach().numpy().astype(np.float64) / math.sqrt(width)
    summed = []
    for part in parts:
        scores = graph.add("MatMul", _linear(graph, normed, pooling.keys, part), asked[:, part].T)
        weights = graph.add("Transpose", graph.add("Softmax", scores, axis=0), perm=[1, 0])
        summed.append(graph.add("MatMul", weights, _linear(graph, normed, pooling.values, part)))
    summary = graph.add("Concat", *summed, axis=1)
    mixed = []
    for part in parts:
        shown = graph.add("Transpose", _linear(graph, summary, pooling.shown, part), perm=[1, 0])
        scores = graph.add("MatMul", _linear(graph, normed, pooling.asked, part), shown)
        share = graph.add("Softmax", graph.add("Div", scores, np.array(math.sqrt(width))), axis=1)
        mixed.append(graph.add("MatMul", share, _linear(graph, summary, pooling.told, part)))
    together = graph.add("Add", cells, graph.add("Concat", *mixed, axis=1))
    return _attention(graph, _norm(graph, together, pooling.last), pooling.pool)


def _linear(graph: Graph, values: str, layer: nn.Linear, part: slice = slice(None)) -> str:
    """What a linear layer makes of float64 rows, these of its outputs."""
    weights = layer.weight.detach().numpy().astype(np.float64)[part]
    product = graph.add("MatMul", values, np.ascontiguousarray(weights.T))
    if layer.bias is None:
        return product
    return graph.add("Add", product, layer.bias.detach().numpy().astype(np.float64)[part])


def _norm(graph: Graph, values: str, layer: nn.LayerNorm) -> str:
    weight, bias = (each.detach().numpy().astype(np.float64) for each in (layer.weight, layer.bias))
    return graph.add("LayerNormalization", values, weight, bias, axis=-1, epsilon=layer.eps)
