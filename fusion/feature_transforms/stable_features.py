"""Leaving out features that tell the sites apart, before blocks are scaled and fused.

A feature is stable if cells of one class have the same values in every training source. What its values vary by within
a class is split into what lies between sources and what lies between cells of one source, and the share of the former
is the intraclass correlation of a cell with others of its class and source, ICC(1): 0 where the source says nothing, 1
where it says all. Stability is 1 less that share; labels keep a source's mix of classes from being taken for its stain.

Where models learn from augmented cells of cells too (``fusion.learning.augmented_cells``), a feature must also say the
same of a cell and of its augmented versions: their intraclass correlation among cells of a class is its repeatability,
and asked to be as high.

Source: Shrout and Fleiss (1979), Psychological Bulletin 86(2):420-428, case 1; for unequal groups Donner (1986),
International Statistical Review 54(1):67-82.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.feature_transforms.harmonisation import in_order

_Floats = NDArray[np.float64]

#: Spread over size below which a column is constant: float32 tells no more apart.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Selection:
    """Which features a model learns from.

    Attributes
    ----------
    least : stability from which a feature is kept.
    stability : float64 (d,), at most 1; NaN where it cannot be determined, which leaves a feature out of nothing.
    sources : of the training cells, "" for cells without one.
    repeatability : float64 (d,) likewise, between cells and their augmented versions; None where there are no augmented
        cells.
    """

    least: float
    stability: _Floats
    sources: tuple[str, ...]
    repeatability: _Floats | None = None

    @classmethod
    def fit(
        cls,
        X: NDArray[Any],
        y: Sequence[Any] | NDArray[Any],
        sources: Sequence[str | None],
        least: float,
        cells: NDArray[np.intp] | None = None,
    ) -> Self:
        """From training cells and no others; their order changes no bit.

        Parameters
        ----------
        X : float (n, d), NaN where a feature is undefined.
        y : n labels.
        sources : n names, None where unknown.
        cells : intp (n,), for every row the row of the cell that it shows, its own unless it is an augmented cell; None
            for no augmented cells. What sources differ by is asked of the cells themselves.
        """
        own = np.arange(len(X)) if cells is None else np.flatnonzero(cells == np.arange(len(X)))
        names = ["" if sources[row] is None else str(sources[row]) for row in own.tolist()]
        repeated = None if cells is None or len(own) == len(X) else repeatability(X, y, cells)
        return cls(least, stability(X[own], np.asarray(y, object)[own], names), tuple(sorted(set(names))), repeated)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool (d,): the features that are learnt from."""
        kept: NDArray[np.bool_] = ~(self.stability < self.least)
        return kept if self.repeatability is None else kept & ~(self.repeatability < self.least)

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """An augmented cell of float (n, d) in which features that are left out are NaN, as where they cannot be
        measured: the fusion layer makes them 0, and no tree asks for them."""
        changed = np.array(X)
        changed[:, ~self.kept] = np.nan
        return changed

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` makes it again from."""
        values = {"least": self.least, "stability": _plain(self.stability), "sources": list(self.sources)}
        return values if self.repeatability is None else {**values, "repeatability": _plain(self.repeatability)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The selection written by ``to_json``."""
        repeated = values.get("repeatability")
        return cls(
            float(values["least"]),
            _floats(values["stability"]),
            tuple(map(str, values["sources"])),
            None if repeated is None else _floats(repeated),
        )


def _plain(values: _Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _floats(values: Sequence[float | None]) -> _Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def stability(X: NDArray[Any], y: Sequence[Any] | NDArray[Any], sources: Sequence[str]) -> _Floats:
    """float64 (d,), at most 1: the share of a feature's variance within classes that does not lie between sources.

    NaN where that cannot be determined: a single source, no class that two sources have, or a feature that does not
    vary.

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
    return 1 - _intraclass(rows, (between, classes_apart), (within, cells_apart), size)


def repeatability(X: NDArray[Any], y: Sequence[Any] | NDArray[Any], cells: NDArray[np.intp]) -> _Floats:
    """float64 (d,) from 0 to 1: the share of a feature's variance within classes that lies between cells, and not
    between a cell and its augmented versions.

    NaN where that cannot be determined: no cell with two values, no class of two cells, or a feature that does not
    vary.

    Parameters
    ----------
    X : float (n, d), NaN where a feature is undefined.
    y : n labels; augmented cells have those of their cells.
    cells : intp (n,), the same number for a cell and its augmented versions.
    """
    labels = np.unique(np.asarray(y, object).astype(str), return_inverse=True)[1]
    rows, order = in_order(X, labels)
    # Cells are numbered as they come in the order of what they hold, and rows laid side by side by cell.
    first, of = np.unique(np.asarray(cells)[order], return_index=True, return_inverse=True)[1:]
    of = np.argsort(np.argsort(first))[of]
    beside = np.argsort(of, kind="stable")
    rows, of, labels = rows[beside], of[beside], labels[order][beside]
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    known = ~np.isnan(rows)
    filled = np.where(known, rows, 0.0)
    counts = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    means = np.add.reduceat(filled, starts, axis=0) / np.maximum(counts, 1)
    within = np.where(known, (filled - means[of]) ** 2, 0.0).sum(axis=0)
    within_apart = np.maximum(counts - 1, 0).sum(axis=0)
    between, between_apart, size = (np.zeros(rows.shape[1]) for _ in range(3))
    for label in np.unique(labels):
        weights, centres = (part[labels[starts] == label] for part in (counts, means))
        total = weights.sum(axis=0)
        centre = (weights * centres).sum(axis=0) / np.maximum(total, 1)
        between += (weights * (centres - centre) ** 2).sum(axis=0)
        between_apart += np.maximum((weights > 0).sum(axis=0) - 1, 0)
        size += total - (weights**2).sum(axis=0) / np.maximum(total, 1)
    return _intraclass(rows, (between, between_apart), (within, within_apart), size)


def _intraclass(
    rows: _Floats, between: tuple[_Floats, _Floats], within: tuple[_Floats, _Floats], size: _Floats
) -> _Floats:
    """float64 (d,): ICC(1), never below 0, from sums of squares and their degrees of freedom; NaN where there is none
    to be had. ``size`` over the first degrees of freedom is how many rows a part has, were all alike."""
    usable = (between[1] > 0) & (within[1] > 0)
    mean_between, mean_within = (part[0] / np.maximum(part[1], 1) for part in (between, within))
    alike = np.maximum(size / np.maximum(between[1], 1), 1.0)
    whole = mean_between + (alike - 1) * mean_within
    scale = np.abs(np.where(np.isnan(rows), 0.0, rows)).max(axis=0, initial=0.0)
    usable &= np.sqrt(np.maximum(mean_between, mean_within)) > _ROUNDING * scale
    shared = np.maximum(mean_between - mean_within, 0.0) / np.where(usable, whole, 1.0)
    return np.where(usable, shared, np.nan)


def _moments(rows: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Number of values, mean, and sum of squares around it, of every column."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0).astype(np.float64)
    mean = np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1)
    return count, mean, np.where(known, (np.where(known, rows, 0.0) - mean) ** 2, 0.0).sum(axis=0)


def selection_notes(selections: Sequence[Selection], columns: Sequence[str]) -> list[str]:
    """What was left out by these training parts, for the notes of a result."""
    if not selections:
        return []
    able = [selection for selection in selections if not np.isnan(selection.stability).all()]
    augmented_table = [selection for selection in selections if selection.repeatability is not None]
    notes = []
    if len(able) < len(selections):
        where = "the cells" if not able else f"{len(selections) - len(able)} of {len(selections)} training parts"
        notes.append(
            f"stability: {where} are of one source, or of sources that share no class, which tells nothing of other "
            f"sources: {'only augmented cells have a say' if augmented_table else 'no feature is left out'}."
        )
    if able:
        why = "within a class they tell the training sources apart"
        notes.append(_left_out([selection.stability for selection in able], able[0].least, columns, why))
    if augmented_table:
        why = "they differ between a cell and its augmented versions"
        values = [selection.repeatability for selection in augmented_table if selection.repeatability is not None]
        notes.append(_left_out(values, augmented_table[0].least, columns, why))
    return notes


def _left_out(values: Sequence[_Floats], least: float, columns: Sequence[str], why: str) -> str:
    counts = sorted({int((each < least).sum()) for each in values})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    mean = np.mean([np.nan_to_num(each, nan=1.0) for each in values], axis=0)
    worst = ", ".join(columns[at] for at in np.argsort(mean, kind="stable")[:3] if mean[at] < least)
    return (
        f"stability: {number} of {len(columns)} features left out, since {why}{f' (most: {worst})' if worst else ''}."
    )
