"""Taking out of features what only tells the source, before blocks are scaled and fused.

Each source gets a map from its features to those of the training cells as a whole: of every feature the mean and
standard deviation (``standard``), or the whole distribution (``quantile``). Maps of training sources come from training
cells alone, each class of which counts alike: a laboratory that sees twice as many neutrophils is not another stain. A
source that was not trained on keeps its features as they are (inductive), or gets a map from the cells that are to be
judged, all together (transductive, stamped on every result). Their labels are never looked at; so they count alike, and
a new source that is mostly one class is taken for a stain by so much, unless its mix of classes is estimated
(``fusion.feature_transforms.class_mix``): then each class that its cells tell of counts alike, and is moved to where it
was learnt, half the way; a source that lacks a class is brought to the training cells of the others.

Rows are brought into an order of their own before anything is summed: the order of cells does not change a bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.feature_transforms.class_mix import ClassMix
from fusion.feature_transforms.fusion_layer import FusionLayer

ScoredRows = NDArray[np.float64]

METHODS = ("standard", "quantile")

#: What is supposed of the mix of classes of a new source.
MIXES = ("equal", "estimated")

#: Cells from which a new source is described: a standard deviation of 10 is right within a quarter.
LEAST_CELLS = 10

#: Quantiles that stand for a distribution: with 33, three per cent of the cells lie between two.
_QUANTILES = np.linspace(0, 1, 33)


@dataclass(frozen=True, eq=False)
class Harmoniser:
    """Maps of training sources to all training cells.

    Attributes
    ----------
    method : one of ``METHODS``.
    transductive : whether a new source is described by its cells.
    whole : what describes all training cells, arrays by name, each with a column a feature.
    maps : by source ("" for none), what describes its cells.
    mix : where the training classes lie, from which a new source's mix of classes is estimated; None where that is not
        asked for, or cannot be learnt.
    without : for each of three and more such classes what describes the training cells of all others.
    classes : the names of ``mix``'s, which are those of cells where patients are judged; () without a mix.
    """

    method: str
    transductive: bool
    whole: Mapping[str, ScoredRows]
    maps: Mapping[str, Mapping[str, ScoredRows]]
    mix: ClassMix | None = None
    without: tuple[Mapping[str, ScoredRows], ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        X: NDArray[Any],
        y: Sequence[Any] | NDArray[Any],
        sources: Sequence[str | None],
        *,
        method: str,
        transductive: bool = False,
        mix: str = "equal",
        layer: FusionLayer | None = None,
    ) -> Self:
        """From training cells and no others.

        Parameters
        ----------
        X : float (n, d), NaN where a feature is undefined.
        y : n labels.
        sources : n names.
        mix : what is supposed of a new source's mix of classes, one of ``MIXES``.
        layer : how features are scaled and weighed afterwards, not fitted, for a mix that is estimated; None for all
            features alike.

        Raises
        ------
        ValueError : an unknown method or mix.
        """
        for name, value, known in (("method", method, METHODS), ("mix", mix, MIXES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        classes, labels = np.unique(np.asarray(y, object).astype(str), return_inverse=True)
        X, order = in_order(X, labels)
        labels = labels[order]
        names = np.array([_named(source) for source in sources], object)[order]
        whole = _described(method, X, class_shares(labels))
        maps = {}
        for name in sorted(set(names.tolist())):
            own = names == name
            maps[name] = _described(method, X[own], class_shares(labels[own]), whole)
        found = cls(method, transductive, whole, maps)
        if mix == "equal" or not transductive:
            return found
        learnt = ClassMix.fit(found.transform(X, names.tolist()), labels, layer or FusionLayer())
        if learnt is None:
            return found
        found = replace(found, mix=learnt, classes=tuple(classes.tolist()))
        if len(learnt.means) < 3:
            return found
        others = [labels != lack for lack in range(len(learnt.means))]
        without = tuple(_described(method, X[rows], class_shares(labels[rows]), whole) for rows in others)
        return replace(found, without=without)

    def only(self, sources: Sequence[str | None]) -> Self:
        """The same maps, of these sources alone."""
        kept = {_named(source) for source in sources}
        return replace(self, maps={name: own for name, own in self.maps.items() if name in kept})

    def with_site(self, name: str, X: NDArray[Any], y: NDArray[Any] | None = None) -> Self:
        """The same maps and one of a further source: by these cells as a new source's, or by labels each class."""
        if y is None:
            own = self._of_new_source(in_order(X)[0])
        else:
            labels = np.unique(np.asarray(y, object).astype(str), return_inverse=True)[1]
            rows, order = in_order(X, labels)
            own = _described(self.method, rows, class_shares(labels[order]), self.whole)
        return replace(self, maps={**self.maps, name: own})

    def unknown(self, sources: Sequence[str | None]) -> list[str]:
        """Sources among these that no training cell is of; "" for cells without a source."""
        return sorted({_named(source) for source in sources} - set(self.maps))

    def transform(self, X: NDArray[Any], sources: Sequence[str | None]) -> ScoredRows:
        """float64 (n, d): every row through its source's map; NaN stays NaN.

        A new source of fewer than ``LEAST_CELLS`` rows is left as it is, transductive or not.
        """
        rows = np.asarray(X, np.float64)
        names = np.array([_named(source) for source in sources], object)
        changed = rows.copy()
        for name in sorted(set(names.tolist())):
            of = np.flatnonzero(names == name)
            own = self.maps.get(name)
            if own is None and self.transductive and len(of) >= LEAST_CELLS:
                own = self._of_new_source(in_order(rows[of])[0])
            if own is not None:
                changed[of] = self._through(rows[of], own)
        return changed

    def _through(self, rows: ScoredRows, own: Mapping[str, ScoredRows]) -> ScoredRows:
        """Rows (n, d) of a source by what describes it."""
        if self.mix is None or "moves" not in own:
            return _mapped(self.method, rows, own, self.whole)
        return self.mix.moved(_mapped(self.method, rows, own, self._learnt(own["present"] > 0)), own)

    def _learnt(self, present: NDArray[np.bool_]) -> Mapping[str, ScoredRows]:
        """What describes the training cells of these classes, of which one at most is not there."""
        return self.whole if present.all() else self.without[int(present.argmin())]

    def _of_new_source(self, rows: ScoredRows) -> Mapping[str, ScoredRows]:
        """What describes the cells (n, d) of a source that was not trained on, in their own order."""
        if self.mix is None:
            return self._plain(rows)
        classes = len(self.mix.means)
        own = self._of_classes(rows, np.ones(classes, bool))
        if self.mix.is_in_doubt(own):
            without = [self._of_classes(rows, present) for present in ~np.eye(classes, dtype=bool)]
            if (lack := self.mix.lacking(own, without)) is not None:
                return without[lack]
        return own

    def _plain(self, rows: ScoredRows) -> dict[str, ScoredRows]:
        """The same of cells that all count alike."""
        return _described(self.method, rows, np.full(len(rows), 1 / len(rows)), self.whole)

    def _of_classes(self, rows: ScoredRows, present: NDArray[np.bool_]) -> Mapping[str, ScoredRows]:
        """The same of cells of these classes, which count alike as far as the cells tell of them."""
        assert self.mix is not None
        own, learnt = self._plain(rows), self._learnt(present)
        # By the first map cells of another mix lie a little off; by what it tells, they are looked at once more.
        for is_first in (True, False):
            mapped = _mapped(self.method, rows, own, learnt)
            found = self.mix.responsibilities(mapped, present=present, is_asked=is_first and bool(present.all()))
            if found is None:
                break
            own = _described(self.method, rows, _shares(found), self.whole)
        return {**own, **self.mix.moves(_mapped(self.method, rows, own, learnt), present)}

    def lacking(self, X: NDArray[Any], sources: Sequence[str | None]) -> dict[str, str]:
        """New sources among these that lack a class as far as their cells (n, d) tell, and which."""
        found: dict[str, str] = {}
        for name in self.unknown(sources) if self.mix is not None else []:
            of = np.array([_named(source) == name for source in sources])
            if of.sum() >= LEAST_CELLS:
                present = self._of_new_source(in_order(np.asarray(X)[of])[0])["present"]
                found |= {} if present.all() else {name: self.classes[int(present.argmin())]}
        return found

    def notes(self, sources: Sequence[str | None]) -> list[str]:
        """Stamps for a result on cells of these sources."""
        new = self.unknown(sources)
        if not new or not self.transductive:
            return []
        names = [_named(source) for source in sources]
        used = [name for name in new if names.count(name) >= LEAST_CELLS]
        few = [name for name in new if name not in used]
        stamps = []
        if used:
            cells = sum(names.count(name) for name in used)
            how = "; their mix of classes is estimated, and each moved towards where it was learnt"
            stamps.append(
                f"transductive: features harmonised by {cells} cells that are judged here, without labels "
                f"({_format_names(used)}){how if self.mix is not None else ''}"
            )
        if few:
            stamps.append(f"not harmonised: fewer than {LEAST_CELLS} cells of {_format_names(few)}")
        return stamps

    def state(self) -> tuple[dict[str, Any], dict[str, ScoredRows]]:
        """Plain values, and arrays by name, from which ``from_state`` makes it again."""
        sources = list(self.maps)
        parts = {"whole": self.whole, **{str(at): self.maps[source] for at, source in enumerate(sources)}}
        about = {
            "method": self.method,
            "transductive": self.transductive,
            "sources": sources,
            "classes": list(self.classes),
        }
        parts |= {} if self.mix is None else {"mix": self.mix.state()}
        parts |= {f"without {at}": others for at, others in enumerate(self.without)}
        return about, {
            f"{owner}.{name}": np.ascontiguousarray(array)
            for owner, arrays in parts.items()
            for name, array in arrays.items()
        }

    @classmethod
    def from_state(cls, about: Mapping[str, Any], arrays: Mapping[str, ScoredRows]) -> Self:
        """The harmoniser written by ``state``.

        Raises
        ------
        ValueError, KeyError : values or arrays that are not those of a harmoniser.
        """
        if about["method"] not in METHODS:
            raise ValueError(f"unknown method of harmonisation {json.dumps(about['method'])[:40]}")
        parts: dict[str, dict[str, ScoredRows]] = {}
        for name, array in arrays.items():
            owner, _, part = name.partition(".")
            parts.setdefault(owner, {})[part] = array
        maps = {str(source): parts[str(at)] for at, source in enumerate(about["sources"])}
        mix = ClassMix.from_state(parts["mix"]) if "mix" in parts else None
        classes = tuple(map(str, about["classes"]))
        if len(classes) != (0 if mix is None else len(mix.means)):
            raise ValueError("a mix of other classes than are named")
        count = 0 if len(classes) < 3 else len(classes)
        without = tuple(parts[f"without {at}"] for at in range(count))
        wanted = {name: array.shape for name, array in parts["whole"].items()}
        for own in (*maps.values(), *without):
            site = {} if mix is None or "moves" not in own else mix.site_shapes()
            if {name: array.shape for name, array in own.items()} != wanted | site:
                raise ValueError("the stored map of a source does not fit the others")
        return cls(about["method"], bool(about["transductive"]), parts["whole"], maps, mix, without, classes)


def _named(source: str | None) -> str:
    return "" if source is None else source


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(name or "cells without a source" for name in names)


def in_order(X: NDArray[Any], *also: NDArray[Any]) -> tuple[ScoredRows, NDArray[np.intp]]:
    """The rows in an order that depends on what they hold alone, and where they came from."""
    rows = np.asarray(X, np.float64)
    keys = [np.unique(column, return_inverse=True)[1] for column in also]
    order = np.lexsort([*keys, *rows.T[::-1]]) if rows.shape[1] or keys else np.arange(len(rows))
    return np.ascontiguousarray(rows[order]), order


def class_shares(labels: NDArray[np.intp]) -> ScoredRows:
    """float64 (n,), of sum 1: what each cell counts for, so that classes of ``LEAST_CELLS`` cells or more count alike.

    A smaller class counts for so much less: one odd cell must not stand for a class.
    """
    return _shares(np.eye(labels.max() + 1)[labels])


def _shares(responsibilities: ScoredRows) -> ScoredRows:
    """The same of float64 (n, classes), how far each cell is of each class."""
    counts = responsibilities.sum(axis=0)
    shares = responsibilities @ (np.minimum(counts, LEAST_CELLS) / np.maximum(counts, 1e-9))
    return np.asarray(shares / shares.sum(), np.float64)


def _described(
    method: str, X: ScoredRows, shares: ScoredRows, whole: Mapping[str, ScoredRows] | None = None
) -> dict[str, ScoredRows]:
    """What a method needs of rows in their own order; where a column has no value, what it has in ``whole``."""
    return _moments(X, shares, whole) if method == "standard" else _quantiles(X, shares, whole)


def _mapped(method: str, X: ScoredRows, own: Mapping[str, ScoredRows], whole: Mapping[str, ScoredRows]) -> ScoredRows:
    if method == "standard":
        return (X - own["centre"]) / own["spread"] * whole["spread"] + whole["centre"]
    return _matched(X, own["quantiles"], whole["quantiles"])


def _moments(X: ScoredRows, shares: ScoredRows, otherwise: Mapping[str, ScoredRows] | None) -> dict[str, ScoredRows]:
    """Mean and standard deviation of every column over its values."""
    known: ScoredRows = ~np.isnan(X) * shares[:, None]
    total = known.sum(axis=0)
    divisor = np.where(total > 0, total, 1.0)
    filled = np.where(np.isnan(X), 0.0, X)
    centre = (known * filled).sum(axis=0) / divisor
    spread = np.sqrt((known * (filled - centre) ** 2).sum(axis=0) / divisor)
    # What does not vary is moved, not stretched.
    flat = spread <= 1e-6 * np.maximum(np.abs(centre), 1e-30)
    stretch = np.where(flat, 1.0 if otherwise is None else otherwise["spread"], spread)
    if otherwise is not None:
        centre = np.where(total == 0, otherwise["centre"], centre)
    return {"centre": centre, "spread": stretch}


def _quantiles(X: ScoredRows, shares: ScoredRows, otherwise: Mapping[str, ScoredRows] | None) -> dict[str, ScoredRows]:
    found = np.zeros((len(_QUANTILES), X.shape[1]))
    for at, column in enumerate(X.T):
        known = np.flatnonzero(~np.isnan(column))
        if len(known):
            order = known[np.argsort(column[known], kind="stable")]
            # Linear between the cells, the first at 0 and the last at 1: definition 7 where all count alike.
            below = np.cumsum(shares[order]) - shares[order]
            places = below / below[-1] if below[-1] > 0 else below
            found[:, at] = np.interp(_QUANTILES, places, column[order])
        elif otherwise is not None:
            found[:, at] = otherwise["quantiles"][:, at]
    return {"quantiles": found}


def _matched(X: ScoredRows, own: ScoredRows, whole: ScoredRows) -> ScoredRows:
    """Each value at the same quantile of the whole distribution; beyond the ends, as far beyond the whole's ends."""
    changed = np.full_like(X, np.nan)
    for at, column in enumerate(X.T):
        known = ~np.isnan(column)
        # Of several quantiles with one value the middle one: a value that half the cells share has no other place.
        levels, first = np.unique(own[:, at], return_index=True)
        last = len(own) - 1 - np.unique(own[::-1, at], return_index=True)[1]
        places = (_QUANTILES[first] + _QUANTILES[last]) / 2
        values = np.interp(np.interp(column[known], levels, places), _QUANTILES, whole[:, at])
        values += np.minimum(column[known] - levels[0], 0) + np.maximum(column[known] - levels[-1], 0)
        changed[known, at] = values
    return changed
