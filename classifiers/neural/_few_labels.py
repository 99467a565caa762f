"""A trained network by a few labelled cells of another site: a new head on what it sees, and some epochs more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.linear import LogisticClassifier
from classifiers.neural._trainer import Training, predict
from classifiers.neural.network import Design, Network
from fusion.data.classifier_inputs import CellInputs

#: Epochs of the fine-tuning, and the share of its own learning rates at which a network is fine-tuned. Chosen on cells
#: that no figure is of; docs/laboratories.md says what other choices had.
EPOCHS, SHARE_OF_RATES = 10, 0.3


def head_inputs(
    network: Network, inputs: CellInputs, batch_size: int, turns: int, is_black: bool
) -> NDArray[np.float32]:
    """float32 (n, turns, w): what the head is given of each cell, in each of the turns that a prediction is the mean
    over; one where there is no image to turn."""
    passes: list[NDArray[np.float32]] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        passes.append(given[0].float().cpu().numpy())

    hook = network.head.register_forward_pre_hook(keep)
    try:
        predict(network, inputs, batch_size, turns, is_black)
    finally:
        hook.remove()
    each = turns if network.backbone is not None else 1
    return np.concatenate([np.stack(passes[at : at + each], axis=1) for at in range(0, len(passes), each)])


def judge_head_inputs(network: Network, given: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 (n, classes): the mean probability over turns, as ``predict`` has it, of what ``head_inputs`` gave."""
    n, turns, width = given.shape
    device = next(network.head.parameters()).device
    with torch.inference_mode():
        rows = torch.from_numpy(given.reshape(-1, width)).to(device)
        return network.head(rows).double().softmax(1).reshape(n, turns, -1).mean(1).cpu().numpy()


def without_hidden_layers(design: Design) -> Design:
    """The design with a head of one layer, with the dropout that comes before its first."""
    return replace(design, head=(), head_dropout=design.head_dropout[:1])


def with_refitted_head(
    network: Network,
    design: Design,
    blocks: Mapping[str, int],
    given: NDArray[np.float32],
    codes: NDArray[np.intp],
) -> Network:
    """The network with a head of one layer by logistic regression; all before it is shared, not copied.

    The penalty is that of ``LogisticClassifier`` on inputs that have all been divided by one number, their spread over
    these cells and columns: to divide each column by its own, of a few cells, is worse (docs/laboratories.md).

    Parameters
    ----------
    design : of the network that is returned, ``without_hidden_layers``.
    blocks : block name -> number of columns.
    given : float32 (n, turns, w), see ``head_inputs``.
    codes : intp (n,), every class among them.
    """
    turns, width = given.shape[1:]
    rows = given.reshape(-1, width).astype(np.float64)
    spread = float(np.sqrt(rows.var(axis=0).mean())) or 1.0
    plain = LogisticClassifier()
    fitted = LogisticClassifier(C=plain.C / turns).fit(rows / spread, np.repeat(codes, turns))
    weights, intercept = fitted.coef_ / spread, fitted.intercept_
    if len(weights) == 1:  # of two classes the second one's odds
        weights, intercept = np.vstack([0 * weights, weights]), np.append(0.0, intercept)
    with torch.random.fork_rng(devices=[]):
        twin = Network(design, network.backbone, blocks, len(weights))
    twin.fuse, twin.auxiliary = network.fuse, network.auxiliary
    last = twin.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weights))
        last.bias.copy_(torch.from_numpy(intercept))
    return twin.to(next(network.parameters()).device).eval()


def fine_tuning(how: Training) -> Training:
    """How a network that was trained so learns from a few labelled cells: by its own loss and augmentation, what learns
    of it (``tune``) being the same, for a fixed number of epochs at a share of its rates.

    No cell is kept back to stop by: of five of a class one would be left to say when. Batch norms of the backbone keep
    their statistics: a few dozen cells have none.
    """
    rates = how.learning_rate if isinstance(how.learning_rate, tuple) else (how.learning_rate,) * 3
    return replace(
        how,
        epochs=EPOCHS,
        learning_rate=tuple(SHARE_OF_RATES * value for value in rates),
        accumulate=1,
        freeze_epochs=0,
        freeze_norm=True,
        validation=0.0,
        patience=0,
    )
