"""Patients of several sites: every cell through the map of its source, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.data.patients.bags import Bags
from fusion.data.patients.cells_elsewhere import HarmonisedCells
from fusion.metrics.class_shares import LEAST_CELLS

if TYPE_CHECKING:
    from fusion.feature_transforms.harmonisation import Harmoniser

#: Cells by which a new source is described, as many of every patient as go: as many as maps of training cells are
#: learnt from.
CELLS_OF_SOURCE = 20_000


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
    described = describe_bags(harmoniser, X, known)
    columns = np.arange(X.shape[1])
    return replace(X, cells=HarmonisedCells(X.cells, described, of_cells, columns, dtype))


def describe_bags(harmoniser: Harmoniser, X: Bags, sources: Sequence[str | None]) -> Harmoniser:
    """The harmoniser with what describes the new sources among bags that are judged, as ``Harmoniser.describing``;
    sources that are described already stay so."""
    if not harmoniser.transductive:
        return harmoniser
    names = np.array([source or "" for source in sources], object)
    for name in sorted(set(harmoniser.unknown(sources)) - set(harmoniser.judged)):
        own = X[names == name]
        if own.sizes.sum() >= LEAST_CELLS:
            cells = np.asarray(X.cells[own.drawn(CELLS_OF_SOURCE, 0)])
            harmoniser = harmoniser.describing(cells, [name] * len(cells))
    return harmoniser
