"""Blocks of numbers, and layers that fuse them."""

from __future__ import annotations

import numpy as np

from fusion.feature_transforms.fusion_layer import FusionLayer

BLOCKS = {"a": slice(0, 5), "b": slice(5, 25), "c": slice(25, 27)}


def cells(n=160, k=2, seed=0):
    """Features with NaN, a constant column and very unequal units; labels; groups of 8."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n // 8), 8)
    y = groups % k
    X = rng.normal(size=(n, 27)) + 0.8 * y[:, None] * (rng.random(27) < 0.3)
    X[:, 5:25] *= 1000
    X[rng.random(X.shape) < 0.02] = np.nan
    X[:, 3] = 7.0
    return X.astype(np.float32), np.array([f"class {at}" for at in y]), groups


def fused(X, names, train, test, layer):
    columns = np.concatenate([np.arange(27)[BLOCKS[name]] for name in names])
    edges = np.cumsum([0, *(BLOCKS[name].stop - BLOCKS[name].start for name in names)])
    blocks = {name: list(range(edges[at], edges[at + 1])) for at, name in enumerate(names)}
    fitted = FusionLayer(blocks=blocks, **layer)
    return fitted.fit_transform(X[np.ix_(train, columns)]), fitted.transform(X[np.ix_(test, columns)])


LAYERS = [
    {},
    {"weights": "none"},
    {"weights": {"b": 2.0}, "scale": "robust"},
    {"pca": {"b": 4}},
    {"pca": 0.9, "clip": None},
]
