"""Cells of a new site, or its patients, as a model is given them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.classifier_inputs import CellInputs
from fusion.data.patients.bags import Bags
from fusion.learning.bags.harmonised_bags import LEAST_PATIENTS
from fusion.metrics.class_shares import LEAST_CELLS
from fusion.plugins.networks import AdaptsToSites
from fusion.settings.data import Unit

_Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class HeadInputs:
    """What the head of a network is given of each cell: once, for all heads that are tried on it.

    Attributes
    ----------
    network : whose head.
    rows : float32 (n, turns, w).
    """

    network: AdaptsToSites
    rows: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SiteCells:
    """Measured cells of the new site, or its patients, where the model is of these.

    Attributes
    ----------
    X : float32 (n, d), raw features, columns as the model has them; of patients the bags of their cells; of a model
        that judges images ``CellInputs``.
    codes : intp (n,), the classes of labelled ones by their place in the model's, -1 for unlabelled ones.
    groups : intp (n,).
    sources : n names.
    given : of a network that can be adapted.
    """

    X: Any
    codes: _Rows
    groups: _Rows
    sources: tuple[str | None, ...]
    given: HeadInputs | None = None

    @property
    def unit(self) -> Unit:
        """What is labelled and judged."""
        return "subject" if isinstance(self.X, Bags) else "cell"

    def rows(self, at: _Rows) -> Any:
        """``X`` of some of them."""
        return self.X.take(at) if isinstance(self.X, CellInputs) else self.X[at]

    def features(self, at: _Rows) -> Any:
        """Measured features of some of them, whatever else the model is given."""
        return self.X.X[at] if isinstance(self.X, CellInputs) else self.X[at]

    def describable_sites(self, names: Iterable[str]) -> dict[str, _Rows]:
        """Rows of each of these sites, in the order of their names, that has cells, or patients, enough to tell what it
        looks like; "" stands for no name."""
        own = np.array([source or "" for source in self.sources], object)
        found = {name: np.flatnonzero(own == name) for name in sorted(names)}
        if self.unit == "cell":
            return {name: rows for name, rows in found.items() if len(rows) >= LEAST_CELLS}
        return {
            name: rows
            for name, rows in found.items()
            if len(rows) >= LEAST_PATIENTS and self.X.sizes[rows].sum() >= LEAST_CELLS
        }
