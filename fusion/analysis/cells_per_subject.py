"""How many cells of a subject are enough, and how many subjects: what more of either would bring.

A subject is called by the mean of its cells' probabilities. The margin of a cell is by how much the probability of
its subject's class is above the highest of the others: a subject is called right where the mean margin of its cells is
above 0. Between subjects mean margins spread by more than chance (slide, disease, training); within a subject its
cells spread. More cells shrink the second and never the first: the share of subjects called right rises with the cells
to a ceiling, which only a better model, or other subjects, lift.

    share right from m cells = Phi(mean / sqrt(between^2 + within^2 / m)),   ceiling = Phi(mean / between)

Mean margins of subjects are taken as normal (they are means); between^2 is the one-way analysis of variance's estimate
for unequal numbers of cells (Searle, Casella and McCulloch 1992, Variance Components, section 3.6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

#: Cells of a subject, and subjects of each class, for which figures are told.
CELLS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SUBJECTS = (10, 20, 50, 100, 200)

#: What is enough comes so close to the ceiling.
CLOSE = 0.01

#: More cells of a subject than anybody has.
_MOST = 100_000


@dataclass(frozen=True)
class MarginSpread:
    """How the margins of a class's cells spread.

    Attributes
    ----------
    mean : of subjects' mean margins.
    between, within : standard deviations of subjects' true means, and of cells in a subject.
    subjects, cells : what it is known from; none where it is assumed.
    """

    mean: float
    between: float
    within: float
    subjects: int = 0
    cells: int = 0

    def share_right(self, cells: float) -> float:
        """Share of subjects that are called right from so many cells each; ``math.inf`` is the ceiling."""
        from scipy.stats import norm

        spread = math.sqrt(self.between**2 + self.within**2 / cells)
        return float(norm.cdf(self.mean / spread)) if spread else float(self.mean > 0)


def assumed_spread(accuracy: float, within_subject: float) -> MarginSpread:
    """Margins by which ``accuracy`` of the cells are right, and two cells of a subject correlate so.

    >>> spread = assumed_spread(0.85, 0.2)
    >>> round(spread.share_right(1), 3), round(spread.share_right(100), 3)
    (0.85, 0.988)
    """
    from scipy.stats import norm

    return MarginSpread(float(norm.ppf(accuracy)), math.sqrt(within_subject), math.sqrt(1 - within_subject))


def margin_spreads(margins: _Floats, labels: Sequence[str], subjects: NDArray[np.intp]) -> dict[str, MarginSpread]:
    """The spread of each class.

    Parameters
    ----------
    margins : float64 (n,), of cells.
    labels, subjects : of n cells, what their subject is, and its number.

    Returns
    -------
    Classes with two subjects and a subject of several cells; others are left out.
    """
    of, found = np.asarray(labels, object).astype(str), {}
    for name in sorted(set(of.tolist())):
        own = margins[of == name]
        at = np.unique(subjects[of == name], return_inverse=True)[1]
        size = np.bincount(at)
        n, k = len(own), len(size)
        if k < 2 or n == k:
            continue
        means = np.bincount(at, own) / size
        within = float(((own - means[at]) ** 2).sum() / (n - k))
        # What the mean square between subjects is a multiple of: their number of cells, were they equal.
        typical = (n - float((size**2).sum()) / n) / (k - 1)
        square = float((size * (means - own.mean()) ** 2).sum() / (k - 1))
        between = max(0.0, (square - within) / typical)
        found[name] = MarginSpread(float(means.mean()), math.sqrt(between), math.sqrt(within), k, n)
    return found


def cells_enough(spreads: Mapping[str, MarginSpread]) -> dict[str, Any]:
    """What more cells of a subject, and more subjects, bring.

    Returns
    -------
    "ceiling": balanced accuracy of subjects with any number of cells; "enough": the fewest cells that come within
    ``CLOSE`` of it; "rows": by ``CELLS`` the "balanced_accuracy", and "half_width" of its 95% interval by ``SUBJECTS``
    of each class (of the held-out subjects; training on others adds to it); "spreads": what it rests on.

    >>> found = cells_enough({"all": assumed_spread(0.85, 0.2), "hem": assumed_spread(0.85, 0.2)})
    >>> found["enough"], round(found["ceiling"], 3)
    (15, 0.99)
    """
    ceiling = _balanced(spreads, math.inf)
    low, high = 0, 1
    while high < _MOST and ceiling - _balanced(spreads, high) > CLOSE:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ceiling - _balanced(spreads, middle) > CLOSE else (low, middle)
    rows = [
        {
            "cells": cells,
            "balanced_accuracy": _balanced(spreads, cells),
            "half_width": {str(number): _half_width(spreads, cells, number) for number in SUBJECTS},
        }
        for cells in CELLS
    ]
    return {
        "ceiling": ceiling,
        "enough": high,
        "rows": rows,
        "spreads": {
            name: {"mean": each.mean, "between": each.between, "within": each.within, "subjects": each.subjects}
            for name, each in spreads.items()
        },
    }


def _balanced(spreads: Mapping[str, MarginSpread], cells: float) -> float:
    return sum(each.share_right(cells) for each in spreads.values()) / len(spreads)


def _half_width(spreads: Mapping[str, MarginSpread], cells: float, subjects: int) -> float:
    """Of a share r of n subjects, after Agresti and Coull's two of either kind, so that 0 and 1 have a width too."""
    total = 0.0
    for each in spreads.values():
        n = subjects + 4
        share = (each.share_right(cells) * subjects + 2) / n
        total += share * (1 - share) / n
    return 1.96 * math.sqrt(total) / len(spreads)
