"""What sharing saves where models are linear: logistic regressions of all sets of blocks, in three ways.

    OMP_NUM_THREADS=1 python -m benchmarks.linear --cells 2000

The loop fits the fusion layer and the regression for every set. Ours scales each block once in a fold. From Gram
matrices, products of rows are computed once a block and summed for every set, and the regression is fitted to
coordinates that have these products: by their eigenvectors where there are more columns than cells, else in the dual.
Processor seconds of one fold of three, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.ablation import BLOCKS, matrix
from fusion.analysis.block_subsets import block_subsets
from fusion.feature_transforms.fusion_layer import FusionLayer, block_weights
from fusion.leakage.grouped_splits import Split, grouped_folds
from fusion.learning.scaled_blocks import ScaledBlocks, scale_block

#: As ``classifiers.linear`` has it.
C = 0.3

_Floats = NDArray[np.float64]


def regression() -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=5000)


def by_loop(X: NDArray[np.float32], y: NDArray[np.intp], blocks: dict[str, slice], split: Split) -> list[_Floats]:
    """Probabilities of the second class in the test part, one array a set of blocks; a layer for every set."""
    found = []
    for names in block_subsets(list(blocks)):
        columns = {name: list(range(blocks[name].start, blocks[name].stop)) for name in names}
        layer = FusionLayer(blocks=columns)
        model = regression().fit(layer.fit_transform(X[split.train]), y[split.train])
        found.append(model.predict_proba(layer.transform(X[split.test]))[:, 1])
    return found


def on_scaled_blocks(
    X: NDArray[np.float32], y: NDArray[np.intp], blocks: dict[str, slice], split: Split
) -> list[_Floats]:
    """The same from blocks that are scaled once."""
    scaled = ScaledBlocks(X, blocks, split.train, split.test, {})
    found = []
    for names in block_subsets(list(blocks)):
        train, test = scaled.of(names)
        found.append(regression().fit(train, y[split.train]).predict_proba(test)[:, 1])
    return found


def on_grams(X: NDArray[np.float32], y: NDArray[np.intp], blocks: dict[str, slice], split: Split) -> list[_Floats]:
    """The same from products between rows."""
    scaled = {name: scale_block(X[:, part], name, split.train, split.test, {}) for name, part in blocks.items()}
    within = {name: block.train @ block.train.T for name, block in scaled.items()}
    across = {name: block.test @ block.train.T for name, block in scaled.items()}
    found = []
    for names in block_subsets(list(blocks)):
        weights = block_weights("equal", names, [scaled[name].variances for name in names])
        train = sum(weight**2 * within[name] for weight, name in zip(weights, names, strict=True))
        test = sum(weight**2 * across[name] for weight, name in zip(weights, names, strict=True))
        width = sum(len(scaled[name].variances) for name in names)
        found.append((_by_eigenvectors if width > len(train) else _in_the_dual)(train, test, y[split.train]))
    return found


def _by_eigenvectors(train: _Floats, test: _Floats, y: NDArray[np.intp]) -> _Floats:
    values, vectors = np.linalg.eigh(train)
    kept = values > values[-1] * 1e-12
    values, vectors = np.sqrt(values[kept]), vectors[:, kept]
    model = regression().fit(vectors * values, y)
    return model.predict_proba(test @ vectors / values)[:, 1]


def _in_the_dual(train: _Floats, test: _Floats, y: NDArray[np.intp]) -> _Floats:
    sign = 2.0 * y - 1

    def loss(point: _Floats) -> tuple[float, _Floats]:
        products = train @ point[:-1]
        margin = sign * (products + point[-1])
        slope = -C * sign * expit(-margin)
        value = C * np.logaddexp(0, -margin).sum() + 0.5 * point[:-1] @ products
        return value, np.append(products + train @ slope, slope.sum())

    point = minimize(loss, np.zeros(len(y) + 1), jac=True, method="L-BFGS-B").x
    return expit(test @ point[:-1] + point[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=2000)
    cells = parser.parse_args().cells
    X, y, subjects = matrix(cells)
    edges = np.cumsum([0, *BLOCKS.values()])
    blocks = {name: slice(int(edges[at]), int(edges[at + 1])) for at, name in enumerate(BLOCKS)}
    split = grouped_folds(y, subjects, 3)[0]
    ways: dict[str, Callable[..., list[_Floats]]] = {
        "loop": by_loop,
        "blocks scaled once": on_scaled_blocks,
        "Gram matrices": on_grams,
    }
    expected: list[_Floats] = []
    with threadpool_limits(1):
        for name, way in ways.items():
            start = time.process_time()
            found = way(X, y, blocks, split)
            seconds = time.process_time() - start
            expected = expected or found
            differ = sum(int(((a > 0.5) != (b > 0.5)).sum()) for a, b in zip(expected, found, strict=True))
            predicted = sum(map(len, found))
            print(
                f"{cells} cells, {len(found)} fits, {name}: {seconds:.2f} s, {differ} of {predicted} predictions differ"
            )


if __name__ == "__main__":
    main()
