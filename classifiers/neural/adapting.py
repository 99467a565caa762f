"""Batch norms with the statistics of the laboratory that is judged, instead of those of training.

What another stain, light or scale does to what a layer gives is, to a first order, another mean and spread of each
channel: taken from the new cells themselves, they are taken out. No label is looked at and no weight changes.
Source: Li, Wang, Shi, Hou and Liu (2018), Adaptive batch normalization for practical domain adaptation, Pattern
Recognition 80:109-117.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from classifiers.neural.network import Network
from classifiers.neural.sampling import batches
from classifiers.neural.trainer import features
from fusion.harmonisation import LEAST_CELLS
from fusion.inputs import CellInputs


def new_sources(sources: Sequence[str | None], known: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Source -> its rows, for sources that are not ``known`` from training and have cells enough to be described; ""
    stands for cells without a source."""
    names = np.array(["" if source is None else source for source in sources], object)
    found = {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()) - set(known))}
    return {name: rows for name, rows in found.items() if len(rows) >= LEAST_CELLS}


@contextlib.contextmanager
def statistics_of(network: Network, inputs: CellInputs, batch_size: int) -> Iterator[None]:
    """The network's batch norms have the means and spreads of these cells, and afterwards what they had before.

    A layer's are the mean over batches, each cell seen once, in an order of their own: that in which cells are given
    does not matter. Layers of the trunk, of the blocks' encoders and of the head alike, as in the source.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    kept = [({name: tensor.clone() for name, tensor in norm.named_buffers()}, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches, not one that forgets
            norm.train()
        with torch.no_grad():
            for rows in batches(_in_order(inputs), batch_size):
                pictures = None
                if network.trunk is not None:
                    pictures = network.trunk.normalise(network.trunk.scale(inputs.pictures(rows)))
                network(features(network, inputs, rows), pictures)
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, kept, strict=True):
            norm.eval()
            norm.momentum = momentum
            for name, tensor in buffers.items():
                getattr(norm, name).copy_(tensor)


def _in_order(inputs: CellInputs) -> NDArray[np.intp]:
    """The rows in an order that depends on what they hold alone."""
    digests = []
    for at in range(len(inputs)):
        digest = hashlib.sha256(np.ascontiguousarray(inputs.X[at]).tobytes())
        if inputs.source is not None:
            digest.update(np.ascontiguousarray(inputs.pictures(np.array([at]))).tobytes())
        digests.append(digest.digest())
    return np.array(sorted(range(len(inputs)), key=digests.__getitem__), np.intp)
