"""How long a network will be adapted, told before the time is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from fusion.analysis.adaptation.curve import ROUNDS, draw_labelled
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.analysis.adaptation.steps import FOLDS
from fusion.learning.fused_model import FusedModel
from fusion.plugins.networks import AdaptsToSites
from fusion.progress import Forecast

#: Cells of the trial, a batch of most recipes; and of one before it, which is not timed.
_TRIAL, _LEAST = 16, 2

#: Seconds below which nothing is said.
_SOON = 10.0


def forecast_adapting(
    model: FusedModel,
    cells: SiteCells,
    counts: Sequence[int],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Forecast | None:
    """What the fine-tunings will take that the curve and the choice are made of; None where that is soon over.

    Some labelled cells are fine-tuned on, and what that took is carried on in proportion to cells.

    Parameters
    ----------
    counts : labelled cells of each class that the curve is asked for.
    clock : seconds.
    """
    network = model.classifier
    if cells.given is None or not isinstance(network, AdaptsToSites):
        return None
    labelled = np.flatnonzero(cells.codes >= 0)
    classes = len(model.classes)
    draws = [ROUNDS * classes * k for k in counts if draw_labelled(cells.codes, cells.groups, k, 0) is not None]
    # The folds' training parts are of FOLDS - 1 times as many cells together, and the last one is of all of them.
    work = FOLDS * (sum(draws) + len(labelled))
    some = np.random.default_rng(0).permutation(labelled)[:_TRIAL]
    labels = np.array(model.classes, object)[cells.codes[some]]
    network.fine_tuned(cells.rows(some[:_LEAST]), labels[:_LEAST])  # the first one loads what all others find loaded
    begun = clock()
    network.fine_tuned(cells.rows(some), labels)
    seconds = (clock() - begun) / len(some) * work
    if seconds < _SOON:
        return None
    times = (FOLDS + 1) * (ROUNDS * len(draws) + 1)
    return Forecast("adapting", f"fine-tuning {times} networks", seconds, 1, f"one of {len(some)} cells timed")
