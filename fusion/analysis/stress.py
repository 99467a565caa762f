"""Stress: what a model says, and what its blocks measure, of the same cells, or of patients by the same cells, as worse
images would show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.repeatability import (
    REPEATABLE,
    agreement_of_features,
    correlation,
    repeated_over_patients,
    share_over_patients,
    sums_of_pairs,
    sums_of_patients,
)
from fusion.bundles.model_bundle import ModelBundle
from fusion.data.dataset import Dataset, as_columns
from fusion.data.subjects import identities
from fusion.features.store import FeatureStore
from fusion.image_transforms.augmentation import CellAugmentation
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.learning.study import Study, are_many
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

#: Cells of which pictures are shown, one of each class.
_PICTURED = 6

#: Cells that are stressed unless more are asked for. A patient is judged by many: of fifty they leave forty each, which
#: is what docs/patients.md has its figures from.
USUAL = {"cell": 200, "subject": 2000}


def stress_report(
    bundle: ModelBundle,
    dataset: Dataset,
    limit: int | None,
    seed: int,
    store: FeatureStore,
    jobs: int = 0,
    progress: Progress | None = None,
    metric: str = "balanced_accuracy",
) -> dict[str, Any]:
    """Balanced accuracy (or another metric), and repeatability of every block, under each of ``STRESSES``.

    Every image is changed before the cell is looked for in it (a mask that was given is changed with it), measured and
    judged anew, or its patient is. Where a model harmonises, cells of one stress are harmonised together, as a site
    that looks so would be.

    Parameters
    ----------
    dataset : labelled cells, in the view of the model's units; of more than ``limit``, so many are drawn, as even over
        classes as they allow; of a model of patients as even over these, and without stress they are judged by these
        cells, too.
    limit : 0 for all, None for ``USUAL``.
    metric : that is told; of cells of one class it is "accuracy".

    Returns
    -------
    Plain values. "unit"; "cells", and of patients "patients", and "all_cells" from which these were drawn; "pictured",
    names of a cell of each class; "rows", for each stress, the first being none: "stress", "cells" that could be
    measured under it and without (and "patients"), the metric {"value", "low", "high"}, "agreement" (share of these
    cells or patients that are predicted as without stress), and "blocks" {name: {"median" (of the features' intraclass
    correlations with what is measured without stress), "repeatable" (share of them above ``REPEATABLE``)}}. Of patients
    "agreement" and "median" are {"value", "low", "high"} too, and so is "score", the intraclass correlation of their
    probabilities.
    """
    if limit is None:
        limit = USUAL[bundle.unit]
    drawn = replace(dataset, samples=as_columns([dataset.samples[at] for at in _drawn(dataset, limit, seed)]))
    plain = _study(bundle, drawn, None, store, jobs, progress)
    reference = bundle.predict_proba(plain)
    row = _row if plain.cells is None else _row_of_patients
    rows = [row(bundle, "none", plain, reference, plain, reference, metric)]
    for name, change in STRESSES.items():
        changed = _study(bundle, drawn, change, store, jobs, _named(progress, name))
        if len(changed):
            rows.append(row(bundle, name, changed, bundle.predict_proba(changed), plain, reference, metric))
    cells = plain.cells or plain.table
    firsts: dict[str, str] = {}
    for name, label in zip(cells.names, cells.y, strict=True):
        firsts.setdefault(str(label), name)
    return {
        "unit": bundle.unit,
        "cells": len(cells),
        **({} if plain.cells is None else {"patients": len(plain), "all_cells": len(dataset)}),
        "pictured": list(firsts.values())[:_PICTURED],
        "rows": rows,
    }


def _named(progress: Progress | None, stress: str) -> Progress | None:
    """Progress that calls measuring by the stress that it is under: a dozen alike stages tell nobody how far it is."""
    if progress is None:
        return None

    def tell(stage: str, done: int, total: int, faults: int) -> None:
        progress(stress if stage == "measuring" else stage, done, total, faults)

    return tell


def _drawn(dataset: Dataset, limit: int, seed: int) -> list[int]:
    """Positions, ascending, of so many cells, of every class, or of every patient, as many as the others allow."""
    if dataset.unit == "subject":
        of: list[Any] = identities(list(dataset.each("subject")), list(dataset.each("source")))
    else:
        of = list(dataset.each("label"))
    part = np.unique([str(each) for each in of], return_inverse=True)[1]
    rank = np.random.default_rng(seed).permutation(len(part))
    turn = np.zeros(len(part), np.intp)
    order = np.lexsort((rank, part))
    starts = np.concatenate([[0], np.cumsum(np.bincount(part))[:-1]]).astype(np.intp)
    turn[order] = np.arange(len(part)) - starts[part[order]]
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
    stored = are_many(dataset, bundle.blocks, bundle.unit)
    found = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=jobs, progress=progress, stored=stored)
    return found.by_subject() if bundle.unit == "subject" else found


def _row(
    bundle: ModelBundle, name: str, changed: Study, proba: _Floats, plain: Study, reference: _Floats, metric: str
) -> dict[str, Any]:
    """One row of the report, over cells that both have."""
    own, other = _places_of_both(changed.table.names, plain.table.names)
    return {
        "stress": name,
        "cells": len(own),
        metric: _figure(bundle, changed, own, proba, metric),
        "agreement": float((proba[own].argmax(axis=1) == reference[other].argmax(axis=1)).mean()),
        "blocks": {
            block: _repeatability(
                agreement_of_features(
                    changed.table.X[own][:, part].astype(np.float64), plain.table.X[other][:, part].astype(np.float64)
                )
            )
            for block, part in plain.table.blocks.items()
        },
    }


def _row_of_patients(
    bundle: ModelBundle, name: str, changed: Study, proba: _Floats, plain: Study, reference: _Floats, metric: str
) -> dict[str, Any]:
    """The same over patients that both have, with intervals over them; features by those of their cells that both have.

    Cells are read patient by patient: of each patient five sums of every feature are held, whatever cells there are.
    """
    assert changed.cells is not None
    assert plain.cells is not None
    own, other = _places_of_both(changed.table.names, plain.table.names)
    labels = [str(changed.table.y[at]) for at in own]
    pairs = []
    for mine, its in zip(own, other, strict=True):
        rows, rows_plain = changed.table.cells[mine], plain.table.cells[its]
        here, there = _places_of_both(
            [changed.cells.names[row] for row in rows], [plain.cells.names[row] for row in rows_plain]
        )
        pairs.append((rows[here], rows_plain[there]))
    sums = np.stack(list(sums_of_patients(pairs, changed.table.X.cells, plain.table.X.cells)))
    origin = np.zeros(proba.shape[1])
    scores = np.stack(
        [sums_of_pairs(proba[[mine]], reference[[its]], origin) for mine, its in zip(own, other, strict=True)]
    )
    return {
        "stress": name,
        "patients": len(own),
        "cells": sum(len(rows) for rows, _ in pairs),
        metric: _figure(bundle, changed, own, proba, metric),
        "agreement": share_over_patients(proba[own].argmax(axis=1) == reference[other].argmax(axis=1), labels),
        "score": repeated_over_patients(scores, labels, _mean),
        "blocks": {
            block: {
                "median": repeated_over_patients(sums[:, :, part], labels, _median),
                "repeatable": _repeatability(correlation(sums[:, :, part].sum(axis=0)))["repeatable"],
            }
            for block, part in plain.table.blocks.items()
        },
    }


def _places_of_both(names: Sequence[str], others: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the names that both have, in the order of the first: among the first, and among the others."""
    places = {each: at for at, each in enumerate(others)}
    own = np.array([at for at, each in enumerate(names) if each in places], np.intp)
    return own, np.array([places[names[at]] for at in own], np.intp)


def _figure(
    bundle: ModelBundle, changed: Study, own: NDArray[np.intp], proba: _Floats, metric: str
) -> dict[str, float]:
    """The metric of these units."""
    labels = np.array([str(label) for label in changed.table.y], object)[own]
    judged = judge_scores(labels, proba[own], bundle.classes, changed.table.groups[own], positive=bundle.positive)
    return {part: float(judged.figures["image"][metric][part]) for part in ("value", "low", "high")}


def _repeatability(agreed: _Floats) -> dict[str, float]:
    known = agreed[~np.isnan(agreed)]
    if not len(known):
        return {"median": float("nan"), "repeatable": float("nan")}
    return {"median": float(np.median(known)), "repeatable": float((known >= REPEATABLE).mean())}


def _median(agreed: _Floats) -> float:
    return _repeatability(agreed)["median"]


def _mean(agreed: _Floats) -> float:
    known = agreed[~np.isnan(agreed)]
    return float(known.mean()) if len(known) else float("nan")
