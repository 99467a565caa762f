"""Batch norms with the statistics of the site that is judged, instead of those of training.

What another stain, light or scale does to what a layer gives is, to a first order, another mean and spread of each
channel: taken from the new cells themselves, they are taken out. No label is looked at and no weight changes.
Source: Li, Wang, Shi, Hou and Liu (2018), Adaptive batch normalization for practical domain adaptation, Pattern
Recognition 80:109-117.

There a batch norm is taken to have the statistics of its training cells. It has not where they were frozen: they are
those of other images then or, in weights with norms folded in, none at all. And where classes were evened out by
repeating cells, they are those of another mix. So what the training cells themselves gave is measured once, and the new
cells' means and spreads are brought to these: the same as in the source wherever its supposition holds.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from classifiers.neural._sampling import batches
from classifiers.neural._trainer import features
from classifiers.neural.network import Network
from extractors.cnn.backbone import misfits
from fusion.data.classifier_inputs import CellInputs
from fusion.metrics.class_shares import LEAST_CELLS


def new_sources(sources: Sequence[str | None], known: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Source -> its rows, for sources that are not ``known`` from training and have cells enough to be described; ""
    stands for cells without a source."""
    names = np.array(["" if source is None else source for source in sources], object)
    found = {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()) - set(known))}
    return {name: rows for name, rows in found.items() if len(rows) >= LEAST_CELLS}


def moments_of(network: Network, inputs: CellInputs, batch_size: int) -> dict[str, Tensor]:
    """What the network as it is gives its batch norms for these cells, two or more of them, before they change it.

    Returns
    -------
    ``NORM.mean`` and ``NORM.variance``, float32 (channels,), of every batch norm: means over batches, each cell seen
    once, in the order and by the arithmetic of ``statistics_of``.
    """
    norms = _norms(network)
    sums: dict[str, Tensor] = {}

    def add(name: str, given: Tensor) -> None:
        across = tuple(axis for axis in range(given.ndim) if axis != 1)
        for moment, value in (("mean", given.mean(across)), ("variance", given.var(across))):
            sums[f"{name}.{moment}"] = sums.get(f"{name}.{moment}", torch.zeros_like(value)) + value

    hooks = [
        norm.register_forward_pre_hook(lambda _, given, name=name: add(name, given[0])) for name, norm in norms.items()
    ]
    try:
        seen = _look(network, inputs, batch_size)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / seen for name, total in sums.items()}


def check_moments(moments: Mapping[str, Tensor], network: Network) -> None:
    """ValueError where these are not the moments of this network's batch norms."""
    own = {
        f"{name}.{moment}": norm.running_mean
        for name, norm in _norms(network).items()
        for moment in ("mean", "variance")
        if norm.running_mean is not None
    }
    faults = [*misfits(moments, own)]
    faults += [f"{name} below 0" for name, value in moments.items() if name.endswith("variance") and (value < 0).any()]
    if faults:
        raise ValueError(f"statistics of training cells: {', '.join(faults[:3])}")


@contextlib.contextmanager
def statistics_of(
    network: Network, inputs: CellInputs, batch_size: int, moments: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """The network's batch norms have the means and spreads of these cells, and afterwards what they had before.

    A layer's are the mean over batches, each cell seen once, in an order of their own: that in which cells are given
    does not matter. Layers of the backbone, of the blocks' encoders and of the head alike, as in the source.

    Parameters
    ----------
    moments : of the training cells, by ``moments_of``: what a norm gives then has for these cells the mean and spread
        that it has for those. None supposes that the norm's own statistics are theirs.
    """
    norms = _norms(network)
    kept = {
        name: ({n: tensor.clone() for n, tensor in norm.state_dict().items()}, norm.momentum)
        for name, norm in norms.items()
    }
    try:
        for name, norm in norms.items():
            if moments is not None and norm.affine:
                _as_training(norm, moments[f"{name}.mean"], moments[f"{name}.variance"])
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches, not one that forgets
            norm.train()
        _look(network, inputs, batch_size)
        for norm in norms.values():
            norm.eval()
        yield
    finally:
        for name, norm in norms.items():
            tensors, norm.momentum = kept[name]
            norm.eval()
            norm.load_state_dict(tensors)


def _as_training(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """A norm whose input has mean 0 and spread 1 gives what it gave for an input of these moments."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        norm.bias.add_(factor * (mean.to(factor) - norm.running_mean))
        norm.weight.copy_(factor * torch.sqrt(variance.to(factor) + norm.eps))


def _norms(network: Network) -> dict[str, _BatchNorm]:
    return {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, _BatchNorm) and part.track_running_stats
    }


def _look(network: Network, inputs: CellInputs, batch_size: int) -> int:
    """Show the network all cells once, for what its batch norms make of it; how many batches these were."""
    count = 0
    with torch.no_grad():
        for rows in batches(_in_order(inputs), batch_size):
            images = None
            if network.backbone is not None:
                images = network.backbone.normalise(network.backbone.scale(inputs.images(rows)))
            network(features(network, inputs, rows), images)
            count += 1
    return count


def _in_order(inputs: CellInputs) -> NDArray[np.intp]:
    """The rows in an order that depends on what they hold alone."""
    digests = []
    for at in range(len(inputs)):
        digest = hashlib.sha256(np.ascontiguousarray(inputs.X[at]).tobytes())
        if inputs.source is not None:
            digest.update(np.ascontiguousarray(inputs.images(np.array([at]))).tobytes())
        digests.append(digest.digest())
    return np.array(sorted(range(len(inputs)), key=digests.__getitem__), np.intp)
