"""Steps that bring a fitted model to a new site by a few labelled cells of it, or patients, the cheapest first.

Nothing of the cells that the model was trained on is needed. Which step is taken is asked of the labelled cells
themselves, held out by group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.network_steps import NETWORK_STEPS, adapt_network, predict_network
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.data.classifier_inputs import CellInputs
from fusion.data.patients.bags import Bags
from fusion.leakage.grouped_splits import SplitError, affordable_splits, grouped_folds
from fusion.learning.bags.harmonised_bags import cells_of_source
from fusion.learning.decision.calibration import fit_calibration
from fusion.learning.fused_model import FusedModel, fuse
from fusion.plugins.networks import AdaptsToSites, TakesImages
from fusion.plugins.registry import build_classifier
from fusion.settings.data import Unit

_Floats = NDArray[np.float64]
_Rows = NDArray[np.intp]

#: The cheapest first. "described": the site's map of features by labelled cells, whose classes weigh alike, where the
#: model harmonises. "refitted": a new classifier on the model's own fused features. Of networks: ``NETWORK_STEPS``.
STEPS = ("as it is", "recalibrated", "described", "refitted", "fine-tuned")

#: The classifier of a refitted head: a few dozen cells bear a line, and no finer boundary. Of patients that line is by
#: statistics of their cells: from ten of a class on it had .82 to .83 where the mean of cells had .73 to .75.
_HEADS: Mapping[Unit, str] = {"cell": "logreg", "subject": "pool"}

#: Folds of the labelled cells by which steps are compared.
FOLDS = 5

#: Probabilities are taken no closer to 0 before logarithms: one sure mistake must not decide between steps.
_LEAST = 0.02


def adapt(model: FusedModel, blocks: Mapping[str, slice], cells: SiteCells, labelled: _Rows, step: str) -> FusedModel:
    """The model after one of ``STEPS``, by the labels of these cells and no others.

    The new site's map of features is kept in the model, without labels by all cells of the site where the model makes
    such maps of cells it is asked about: what it says of a cell no longer depends on those that are judged together.

    Raises
    ------
    ValueError : an unknown step.
    """
    if step not in STEPS:
        raise ValueError(f"step must be one of {', '.join(STEPS)}, not {step!r}")
    if isinstance(cells.X, CellInputs):
        return adapt_network(model, cells, labelled, step)
    if step == STEPS[0]:
        return with_new_sites(model, cells) if model.harmoniser is not None and model.harmoniser.transductive else model
    labels = np.array(model.classes, object)[cells.codes[labelled]]
    is_described = step != "recalibrated" and cells.unit == "cell"
    at_home = _with_labelled_sites(model, cells, labelled, labels) if is_described else with_new_sites(model, cells)
    X, sources = cells.X[labelled], [cells.sources[row] for row in labelled]
    if step == "refitted":
        return _refitted(at_home, blocks, cells.unit, X, sources, labels, cells.groups[labelled])
    if step == "described":
        return at_home
    plain = replace(at_home, calibration=None)
    return replace(
        at_home, calibration=fit_calibration("logistic", plain.predict_proba(X, sources), cells.codes[labelled])
    )


def steps_of(model: FusedModel, unit: Unit = "cell") -> tuple[str, ...]:
    """The steps that a model has a place for: one that judges images and is no network of ours is recalibrated alone.

    A site of patients is described by the cells of all of them, which many tell better than the labels of few.
    """
    if isinstance(model.classifier, AdaptsToSites):
        return NETWORK_STEPS
    if isinstance(model.classifier, TakesImages):
        return NETWORK_STEPS[:2]
    return STEPS[:4] if model.harmoniser is not None and unit == "cell" else (*STEPS[:2], STEPS[3])


def head_of(unit: Unit) -> str:
    """The classifier of a model whose head was refitted."""
    return _HEADS[unit]


def new_sites(model: FusedModel, cells: SiteCells) -> dict[str, _Rows]:
    """Rows of each site that the model has no map of and could make one of without labels; none where it makes none."""
    if model.harmoniser is None:
        return {}
    return cells.describable_sites(model.harmoniser.unknown(cells.sources))


def with_new_sites(model: FusedModel, cells: SiteCells) -> FusedModel:
    """The model with a map of each new site by all of its cells, whose labels are not looked at."""
    harmoniser = model.harmoniser
    for name, rows in new_sites(model, cells).items():
        assert harmoniser is not None
        own = cells.X[rows]
        harmoniser = harmoniser.with_site(name, cells_of_source(own) if isinstance(own, Bags) else own)
    return replace(model, harmoniser=harmoniser)


def _with_labelled_sites(model: FusedModel, cells: SiteCells, labelled: _Rows, labels: NDArray[Any]) -> FusedModel:
    """The model with a map of each new site by its labelled cells."""
    harmoniser = model.harmoniser
    if harmoniser is None:
        return model
    for name in harmoniser.unknown(cells.sources):
        own = np.array([(cells.sources[row] or "") == name for row in labelled])
        if own.any():
            harmoniser = harmoniser.with_site(name, cells.X[labelled[own]], labels[own])
    return replace(model, harmoniser=harmoniser)


def _refitted(
    model: FusedModel,
    blocks: Mapping[str, slice],
    unit: Unit,
    X: Any,
    sources: Sequence[str | None],
    labels: NDArray[Any],
    groups: _Rows,
) -> FusedModel:
    """The model with a classifier of its own for the new site, on the features as its fusion layer scales them; a model
    whose classifier took raw columns gets a layer."""
    # A threshold was the other classifier's, and so was the calibration.
    bare = replace(model, calibration=None, threshold=None)
    fused = _fused(bare, X, sources)
    if model.layer is not None:
        return replace(bare, classifier=build_classifier(_HEADS[unit]).fit(fused, labels, groups))
    rows = fused if unit == "subject" else np.asarray(fused, np.float32)
    own = fuse(rows, labels, groups, blocks, _HEADS[unit], unit=unit)
    return replace(bare, layer=own.layer, classifier=own.classifier)


def fused_features(model: FusedModel, cells: SiteCells) -> Any:
    """What the model's classifier gets of cells, float (n, d), of patients bags of theirs; of a network what its head
    gets, and of a model of images that tells nothing of itself what it says of them."""
    if cells.given is not None:
        return cells.given.rows.mean(axis=1)
    return predict(model, cells) if isinstance(cells.X, CellInputs) else _fused(model, cells.X, cells.sources)


def _fused(model: FusedModel, X: Any, sources: Sequence[str | None]) -> Any:
    return model.fused_bags(X, sources) if isinstance(X, Bags) else model.fused(model.harmonised(X, sources))


def choose_step(
    model: FusedModel, blocks: Mapping[str, slice], cells: SiteCells, labelled: _Rows, seed: int = 0
) -> tuple[str, dict[str, float]]:
    """The cheapest step that helps, and for each step the mean surprise on labelled cells that it has not met.

    Steps are compared by the log loss of held-out cells, classes weighing alike: of a few dozen cells it tells more
    than which class was predicted. A dearer step is taken where it is ahead by more than a standard error of the paired
    differences; of patients where it is ahead at all, since among so few a standard error hides what helps. Where a
    class has a single labelled group nothing can be held out, and the model stays as it is.
    """
    codes, groups = cells.codes[labelled], cells.groups[labelled]
    if set(codes.tolist()) != set(range(len(model.classes))):
        return STEPS[0], {}
    try:
        folds = grouped_folds(codes, groups, affordable_splits(codes, groups, FOLDS), seed)
    except SplitError:
        return STEPS[0], {}
    surprise: dict[str, _Floats] = {}
    for step in steps_of(model, cells.unit):
        found = np.empty(len(labelled))
        for fold in folds:
            own = adapt(model, blocks, cells, labelled[fold.train], step)
            rows = predict(own, cells, labelled[fold.test])
            found[fold.test] = -np.log(np.clip(rows[np.arange(len(fold.test)), codes[fold.test]], _LEAST, None))
        surprise[step] = found
    shares = 1 / (np.bincount(codes)[codes] * len(model.classes))
    chosen = STEPS[0]
    for step, found in surprise.items():
        gain = surprise[chosen] - found
        mean = float(shares @ gain)
        if mean > (np.sqrt(shares**2 @ (gain - mean) ** 2) if cells.unit == "cell" else 0):
            chosen = step
    return chosen, {step: float(shares @ found) for step, found in surprise.items()}


def predict(model: FusedModel, cells: SiteCells, rows: _Rows | None = None) -> _Floats:
    """float64 (m, classes) of these cells, of all without ``rows``: a model without a map of the site makes one of all
    cells that it is shown."""
    at = np.arange(len(cells.X)) if rows is None else rows
    if isinstance(cells.X, CellInputs):
        return predict_network(model, cells, at)
    return model.predict_proba(cells.X[at], [cells.sources[row] for row in at])


def choose_cells(proba: _Floats, fused: NDArray[Any], count: int, candidates: _Rows | None = None) -> _Rows:
    """Cells to label, or patients: the model least sure of them, and none like another.

    Of the least sure half (by the difference of the two highest probabilities; Scheffer, Decomain and Wrobel 2001, IDA,
    309-318) one after the other the cell that is furthest from all that are chosen (Gonzalez 1985, Theor. Comput. Sci.
    38:293-306; as core sets: Sener and Savarese 2018, ICLR), beginning with the least sure.

    Parameters
    ----------
    proba, fused : float64 (n, classes) and float (n, d), what the model says and sees of the cells; of patients the
        mean over their cells.
    candidates : positions to choose from; all by default.
    """
    at = np.arange(len(proba)) if candidates is None else candidates
    highest = np.sort(proba[at], axis=1)
    margin = highest[:, -1] - highest[:, -2]
    unsure = at[np.argsort(margin, kind="stable")][: max(count, len(at) // 2)]
    rows = np.nan_to_num(np.asarray(fused, np.float64)[unsure])
    chosen = [0]
    nearest = np.linalg.norm(rows - rows[0], axis=1)
    while len(chosen) < min(count, len(unsure)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
        nearest[chosen] = -1
    return unsure[chosen]
