"""How far cells of a new site lie from the training cells when they are nothing strange, by all of them, unlabelled."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.data.patients.bags import Bags
from fusion.learning.bags.harmonised_bags import cells_of_source
from fusion.learning.fused_model import FusedModel
from fusion.learning.novelty import Novelty


def with_usual_distances(
    novelty: Novelty, model: FusedModel, cells: SiteCells, known: Collection[str]
) -> tuple[Novelty, dict[str, int]]:
    """The novelty for the new sites among these cells too, and by how many cells it is told of each.

    Features are harmonised alone, each by itself, so that the cells of a new site lie further from the training cells
    than those do from each other: by the threshold of training all cells of a laboratory may be called strange. Some of
    the cells may be; where they are many, few of their kind are found afterwards (docs/laboratories.md).

    Parameters
    ----------
    model : adapted, as it harmonises these cells.
    known : sites that were trained in.
    """
    counts = {}
    for name, rows in sites_to_tell(cells, known).items():
        own = _cells_of(cells, rows)
        shown = np.asarray(model.harmonised(own, [name or None] * len(own)), np.float32)
        novelty = novelty.with_site(name, novelty.distance(shown))
        counts[name] = len(own)
    return novelty, counts


def sites_to_tell(cells: SiteCells, known: Collection[str]) -> dict[str, NDArray[np.intp]]:
    """Rows of each site that is not ``known`` and has cells, or patients, enough to tell how far they usually lie."""
    return cells.describable_sites({source or "" for source in cells.sources} - set(known))


def _cells_of(cells: SiteCells, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """float32 (k, d), cells of these rows; of patients some of each where they have very many."""
    own = cells.features(rows)
    return np.asarray(cells_of_source(own) if isinstance(own, Bags) else own, np.float32)
