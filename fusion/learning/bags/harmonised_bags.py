"""Patients of several sites: every cell through the map of its source, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import HarmonisedCells
from fusion.metrics.class_shares import LEAST_CELLS

if TYPE_CHECKING:
    from fusion.feature_transforms.harmonisation import Harmoniser

#: Cells by which a new source is described, as many of every patient as go: as many as maps of training cells are
#: learnt from.
CELLS_OF_SOURCE = 20_000

#: Patients by which a new source is described. What describes a single one is what the patient has, and is taken out
#: with the stain: an AUROC of 1.00 fell to .75 with one patient, .98 with three, not with five (docs/patients.md).
LEAST_PATIENTS = 5


def harmonise_bags(
    harmoniser: Harmoniser | None, X: Bags, sources: Sequence[str | None] = (), dtype: Any = np.float64
) -> Bags:
    """Bags of the same cells, harmonised whenever some are asked for; those of a new source by all that are here.

    Parameters
    ----------
    harmoniser : None for none: the bags themselves.
    sources : of the bags, None where unknown; () is unknown of all.
    dtype : of the cells that are given.
    """
    if harmoniser is None or not len(X):
        return X
    known = list(sources) or [None] * len(X)
    of_cells = np.full(len(X.cells), None, object)
    for own, source in zip(X.rows, known, strict=True):
        of_cells[own] = source
    # What is not described by all that are here is by no batch of them either.
    described = replace(describe_bags(harmoniser, X, known), transductive=False)
    columns = np.arange(X.shape[1])
    return replace(X, cells=HarmonisedCells(X.cells, described, of_cells, columns, dtype))


def describe_bags(harmoniser: Harmoniser, X: Bags, sources: Sequence[str | None]) -> Harmoniser:
    """The harmoniser with what describes the new sources among bags that are judged, as ``Harmoniser.describing``;
    sources that are described already stay so."""
    if not harmoniser.transductive:
        return harmoniser
    names = np.array([source or "" for source in sources], object)
    of_few = sources_of_few_patients(harmoniser, sources, range(len(X)))
    for name in sorted(set(harmoniser.unknown(sources)) - {*harmoniser.judged, *of_few}):
        own = X[names == name]
        if own.sizes.sum() >= LEAST_CELLS:
            cells = cells_of_source(own)
            harmoniser = harmoniser.describing(cells, [name] * len(cells))
    return harmoniser


def cells_of_source(X: Bags) -> NDArray[Any]:
    """float (k, d): the cells by which these patients' source is described."""
    return np.asarray(X.cells[X.drawn(CELLS_OF_SOURCE, 0)])


def sources_of_few_patients(
    harmoniser: Harmoniser, sources: Sequence[str | None], patients: Sequence[int] | range
) -> list[str]:
    """New sources of too few patients to be described by them: their cells are left as they are.

    Parameters
    ----------
    sources, patients : n names and numbers of patients, of cells or of the patients themselves.
    """
    names = harmoniser.unknown(sources) if harmoniser.transductive else []
    found: dict[str, set[int]] = {name: set() for name in names}
    for source, patient in zip(sources, patients, strict=True):
        if (name := source or "") in found:
            found[name].add(patient)
    return [name for name, own in found.items() if len(own) < LEAST_PATIENTS]
