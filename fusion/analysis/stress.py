"""Stress: what a model says, and what its blocks measure, of the same cells as worse images would show them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.dataset import Dataset, as_columns
from fusion.features.store import FeatureStore
from fusion.image_transforms.augmentation import CellAugmentation
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.learning.study import Study
from fusion.metrics.judgement import judge_scores
from fusion.progress import Progress

_Floats = NDArray[np.float64]

#: What is done to every image, in words, and as a change: what one meets between well kept laboratories, and once as
#: much. Optical densities by 15% are two batches of stain; JPEG 50 is what a mail program makes.
STRESSES: dict[str, CellAugmentation] = {
    "blur, sigma 1 pixel": CellAugmentation(blur=1.0),
    "blur, sigma 2 pixels": CellAugmentation(blur=2.0),
    "noise, 5 grey levels": CellAugmentation(noise=5.0),
    "noise, 12 grey levels": CellAugmentation(noise=12.0),
    "light, 10% less": CellAugmentation(light=0.9),
    "light, 10% more": CellAugmentation(light=1.1),
    "stain, green 15% denser": CellAugmentation(stain=(1.0, 1.15, 1.0)),
    "stain, red and blue 15% denser": CellAugmentation(stain=(1.15, 1.0, 1.15)),
    "JPEG, quality 75": CellAugmentation(jpeg=75),
    "JPEG, quality 50": CellAugmentation(jpeg=50),
    "scale, 20% smaller": CellAugmentation(zoom=0.8),
    "scale, 25% larger": CellAugmentation(zoom=1.25),
}

#: Agreement above which a feature is repeatable: "good" in Koo and Li (2016), J. Chiropr. Med. 15:155-163.
REPEATABLE = 0.75

#: Cells of which pictures are shown, one of each class.
_PICTURED = 6


def stress_report(
    bundle: ModelBundle,
    dataset: Dataset,
    limit: int,
    seed: int,
    store: FeatureStore,
    jobs: int = 0,
    progress: Progress | None = None,
    metric: str = "balanced_accuracy",
) -> dict[str, Any]:
    """Balanced accuracy (or another metric), and repeatability of every block, under each of ``STRESSES``.

    Every image is changed before the cell is looked for in it (a mask that was given is changed with it), measured and
    judged anew. Where a model harmonises, cells of one stress are harmonised together, as a site that looks so would
    be.

    Parameters
    ----------
    dataset : labelled cells; of more than ``limit``, so many are drawn, as even over classes as they allow.
    metric : that is told; of cells of one class it is "accuracy".

    Returns
    -------
    Plain values. "cells"; "pictured", names of a cell of each class; "rows", for each stress, the first being none:
    "stress", "cells" that could be measured under it and without, the metric {"value", "low", "high"},
    "agreement" (share of these cells that are predicted as without stress), and "blocks" {name: {"median" (of the
    features' intraclass correlations with what is measured without stress), "repeatable" (share of them above
    ``REPEATABLE``)}}.
    """
    drawn = replace(dataset, samples=as_columns([dataset.samples[at] for at in _drawn(dataset, limit, seed)]))
    plain = _study(bundle, drawn, None, store, jobs, progress)
    reference = bundle.predict_proba(plain)
    rows = [_row(bundle, "none", plain, reference, plain, reference, metric)]
    for name, change in STRESSES.items():
        changed = _study(bundle, drawn, change, store, jobs, _named(progress, name))
        if len(changed):
            rows.append(_row(bundle, name, changed, bundle.predict_proba(changed), plain, reference, metric))
    firsts: dict[str, str] = {}
    for name, label in zip(plain.table.names, plain.table.y, strict=True):
        firsts.setdefault(str(label), name)
    return {"cells": len(plain), "pictured": list(firsts.values())[:_PICTURED], "rows": rows}


def _named(progress: Progress | None, stress: str) -> Progress | None:
    """Progress that calls measuring by the stress that it is under: a dozen alike stages tell nobody how far it is."""
    if progress is None:
        return None

    def tell(stage: str, done: int, total: int, faults: int) -> None:
        progress(stress if stage == "measuring" else stage, done, total, faults)

    return tell


def _drawn(dataset: Dataset, limit: int, seed: int) -> list[int]:
    """Positions, ascending, of so many cells, of every class as many as the others allow."""
    labels = np.array([str(label) for label in dataset.each("label")], object)
    rank = np.random.default_rng(seed).permutation(len(labels))
    turn = np.zeros(len(labels), np.intp)
    for label in sorted(set(labels.tolist())):
        own = np.flatnonzero(labels == label)
        turn[own[np.argsort(rank[own])]] = np.arange(len(own))
    found: list[int] = np.sort(np.lexsort((rank, turn))[: limit or None]).tolist()
    return found


def _study(
    bundle: ModelBundle,
    dataset: Dataset,
    change: CellAugmentation | None,
    store: FeatureStore,
    jobs: int,
    progress: Progress | None,
) -> Study:
    if change is not None:
        # Each cell has noise of its own.
        samples = [replace(each, adjustment=replace(change, grain=at)) for at, each in enumerate(dataset.samples)]
        dataset = replace(dataset, samples=as_columns(samples))
    shown, _ = as_trained(bundle.normaliser, dataset, store, jobs=jobs, progress=progress)
    return Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=jobs, progress=progress)


def _row(
    bundle: ModelBundle, name: str, changed: Study, proba: _Floats, plain: Study, reference: _Floats, metric: str
) -> dict[str, Any]:
    """One row of the report, over cells that both have."""
    places = {each: at for at, each in enumerate(plain.table.names)}
    own = np.array([at for at, each in enumerate(changed.table.names) if each in places], np.intp)
    other = np.array([places[changed.table.names[at]] for at in own], np.intp)
    labels = np.array([str(label) for label in changed.table.y], object)[own]
    judged = judge_scores(labels, proba[own], bundle.classes, changed.table.groups[own], positive=bundle.positive)
    figure = judged.figures["image"][metric]
    return {
        "stress": name,
        "cells": len(own),
        metric: {part: float(figure[part]) for part in ("value", "low", "high")},
        "agreement": float((proba[own].argmax(axis=1) == reference[other].argmax(axis=1)).mean()),
        "blocks": {
            block: _repeatability(changed.table.X[own][:, part], plain.table.X[other][:, part])
            for block, part in plain.table.blocks.items()
        },
    }


def _repeatability(changed: NDArray[np.float32], plain: NDArray[np.float32]) -> dict[str, float]:
    agreed = agreement_of_features(changed.astype(np.float64), plain.astype(np.float64))
    known = agreed[~np.isnan(agreed)]
    if not len(known):
        return {"median": float("nan"), "repeatable": float("nan")}
    return {"median": float(np.median(known)), "repeatable": float((known >= REPEATABLE).mean())}


def agreement_of_features(first: _Floats, second: _Floats) -> _Floats:
    """float64 (d,): intraclass correlation of two measurements (n, d) of the same cells, for absolute agreement.

    ICC(A,1) of McGraw and Wong (1996), Psychol. Methods 1:30-46: 1 where both are the same, lower where values move,
    with or without their order. NaN where fewer than three cells have both values, or nothing varies.

    >>> x = np.arange(10.0)[:, None]
    >>> agreement_of_features(x, x).round(2).tolist(), agreement_of_features(x, x + 3).round(2).tolist()
    ([1.0], [0.67])
    """
    both = ~(np.isnan(first) | np.isnan(second))
    n = both.sum(axis=0)
    a, b = (np.where(both, part, 0.0) for part in (first, second))
    size = np.maximum(n, 3)
    grand = (a.sum(axis=0) + b.sum(axis=0)) / (2 * size)
    of_cell = np.where(both, (a + b) / 2 - grand, 0)
    of_time = np.stack([part.sum(axis=0) / size - grand for part in (a, b)])
    between = 2 * (of_cell**2).sum(axis=0) / (size - 1)
    times = size * (of_time**2).sum(axis=0)
    rest = [np.where(both, part - grand - of_cell - shift, 0) for part, shift in zip((a, b), of_time, strict=True)]
    error = sum((part**2).sum(axis=0) for part in rest) / (size - 1)
    total = between + error + 2 * (times - error) / size
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where((n >= 3) & (total > 0), (between - error) / total, np.nan)
    return np.asarray(found, np.float64)
