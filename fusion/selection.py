"""Leaving out features that tell the laboratories apart, before blocks are scaled and fused.

A feature is stable if cells of one class have the same values in every training source. What its values vary by within
a class is split into what lies between sources and what lies between cells of one source, and the share of the former
is the intraclass correlation of a cell with others of its class and source, ICC(1): 0 where the source says nothing, 1
where it says all. Stability is 1 less that share; labels keep a source's mix of classes from being taken for its stain.
Whether a feature bears another stain, scale or orientation of the same cell is another question, measured once on
synthetic cells that are drawn again: those are the tags (docs/features.md).

Source: Shrout and Fleiss (1979), Psychological Bulletin 86(2):420-428, case 1; for unequal groups Donner (1986),
International Statistical Review 54(1):67-82.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.harmonisation import in_order

_Floats = NDArray[np.float64]

#: Spread over size below which a column is constant: float32 tells no more apart.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Selection:
    """Which features a model learns from.

    Attributes
    ----------
    least : stability from which a feature is kept.
    stability : float64 (d,), at most 1; NaN where it cannot be told, which leaves a feature out of nothing.
    sources : of the training cells, "" for cells without one.
    """

    least: float
    stability: _Floats
    sources: tuple[str, ...]

    @classmethod
    def fit(cls, X: NDArray[Any], y: Sequence[Any] | NDArray[Any], sources: Sequence[str | None], least: float) -> Self:
        """From training cells and no others; their order changes no bit.

        Parameters
        ----------
        X : float (n, d), NaN where a feature is undefined.
        y : n labels.
        sources : n names, None where unknown.
        """
        names = ["" if source is None else source for source in sources]
        return cls(least, stability(X, y, names), tuple(sorted(set(names))))

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool (d,): the features that are learnt from."""
        return ~(self.stability < self.least)

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """A copy of float (n, d) in which features that are left out are NaN, as where they cannot be measured: the
        fusion layer makes them 0, and no tree asks for them."""
        changed = np.array(X)
        changed[:, ~self.kept] = np.nan
        return changed

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` makes it again from."""
        values = [None if np.isnan(value) else float(value) for value in self.stability]
        return {"least": self.least, "stability": values, "sources": list(self.sources)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The selection that ``to_json`` told of."""
        found = np.array([np.nan if value is None else value for value in values["stability"]], np.float64)
        return cls(float(values["least"]), found, tuple(map(str, values["sources"])))


def stability(X: NDArray[Any], y: Sequence[Any] | NDArray[Any], sources: Sequence[str]) -> _Floats:
    """float64 (d,), at most 1: the share of a feature's variance within classes that does not lie between sources.

    NaN where that cannot be told: a single source, no class that two sources have, or a feature that does not vary.

    Parameters
    ----------
    X : float (n, d), NaN where a feature is undefined.
    y, sources : n labels and names.
    """
    labels = np.unique(np.asarray(y, object).astype(str), return_inverse=True)[1]
    of = np.unique(np.asarray(sources, object).astype(str), return_inverse=True)[1]
    rows, order = in_order(X, labels, of)
    labels, of = labels[order], of[order]
    d = rows.shape[1]
    between, within, classes_apart, cells_apart, size = (np.zeros(d) for _ in range(5))
    for label in np.unique(labels):
        parts = [_moments(rows[(labels == label) & (of == source)]) for source in np.unique(of[labels == label])]
        counts, means = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
        total = counts.sum(axis=0)
        centre = (counts * means).sum(axis=0) / np.maximum(total, 1)
        between += (counts * (means - centre) ** 2).sum(axis=0)
        within += np.sum([part[2] for part in parts], axis=0)
        classes_apart += np.maximum((counts > 0).sum(axis=0) - 1, 0)
        cells_apart += np.maximum(counts - 1, 0).sum(axis=0)
        size += total - (counts**2).sum(axis=0) / np.maximum(total, 1)
    usable = (classes_apart > 0) & (cells_apart > 0)
    mean_between, mean_within = between / np.maximum(classes_apart, 1), within / np.maximum(cells_apart, 1)
    cells = np.maximum(size / np.maximum(classes_apart, 1), 1.0)  # of a source in a class, were all alike
    whole = mean_between + (cells - 1) * mean_within
    scale = np.abs(np.where(np.isnan(rows), 0.0, rows)).max(axis=0, initial=0.0)
    usable &= np.sqrt(np.maximum(mean_between, mean_within)) > _ROUNDING * scale
    shared = np.maximum(mean_between - mean_within, 0.0) / np.where(usable, whole, 1.0)
    return np.where(usable, 1 - shared, np.nan)


def _moments(rows: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Number of values, mean, and sum of squares around it, of every column."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0).astype(np.float64)
    mean = np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1)
    return count, mean, np.where(known, (np.where(known, rows, 0.0) - mean) ** 2, 0.0).sum(axis=0)


def told(selections: Sequence[Selection], columns: Sequence[str]) -> list[str]:
    """What was left out by these training parts, for the notes of a result."""
    if not selections:
        return []
    able = [selection for selection in selections if not np.isnan(selection.stability).all()]
    notes = []
    if len(able) < len(selections):
        where = "the cells" if not able else f"{len(selections) - len(able)} of {len(selections)} training parts"
        notes.append(
            f"stability: {where} are of one source, or of sources that share no class, which tells nothing of other "
            "sources: no feature is left out."
        )
    if able:
        counts = sorted({int((~selection.kept).sum()) for selection in able})
        number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        mean = np.mean([np.nan_to_num(selection.stability, nan=1.0) for selection in able], axis=0)
        worst = [columns[at] for at in np.argsort(mean, kind="stable")[:3] if mean[at] < able[0].least]
        named = ", ".join(worst)
        notes.append(
            f"stability: {number} of {len(columns)} features left out, since within a class they tell the training "
            f"sources apart{f' (most: {named})' if worst else ''}."
        )
    return notes
