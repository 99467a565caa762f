"""Taking out of features what only tells the source, before blocks are scaled and fused.

Each source gets a map from its features to those of the training cells as a whole: of every feature the mean and
standard deviation (``standard``), or the whole distribution (``quantile``). Maps of training sources come from training
cells alone, each class of which counts alike: a laboratory that sees twice as many neutrophils is not another stain. A
source that was not trained on keeps its features as they are (inductive), or gets a map from the cells that are to be
judged, all together (transductive, stamped on every result). Their labels are never looked at; so they count alike, and
a new source that is mostly one class is taken for a stain by so much, unless its mix of classes is estimated
(``fusion.feature_transforms.class_mix``): then each class that its cells tell of counts alike, and is moved to where it
was learnt, half the way; a source that lacks classes, as its cells tell of one or as is stated of any number, is
brought to the training cells of the others.

Rows are brought into an order of their own before anything is summed: the order of cells does not change a bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.feature_transforms.class_mix import ENOUGH, ClassMix
from fusion.feature_transforms.fusion_layer import FusionLayer
from fusion.feature_transforms.source_maps import (
    ScoredRows,
    class_shares,
    complete,
    describe,
    describe_raw,
    map_rows,
    pool,
    shares_of,
)
from fusion.metrics.class_shares import LEAST_CELLS

METHODS = ("standard", "quantile")

#: What is supposed of the mix of classes of a new source.
MIXES = ("equal", "estimated")

#: Displacement from which cells are hardly those of the source whose name they bear. In real laboratories fresh cells
#: of the same one had 0.84 at most, also where they were of one class, cells of another 1.73 at least
#: (docs/laboratories.md).
FAR = 1.2

#: Standard deviation, in that of the training cells, below which a feature is alike in all cells of a site. CIELAB's a
#: and b of grey images have 0.00004, what is rounded to the nearest of ten steps 0.1.
SILENT = 1e-3

#: Columns by which rows are brought into an order, unless some are alike in all of these: sorting by a thousand takes
#: as long as all else.
_TELLING = 16


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
    classes : the names of ``mix``'s, which are those of cells where patients are judged; () without a mix.
    of_classes : with a mix, for each class what describes its training cells, as ``describe_raw`` has it.
    stated : by source, bool (classes,): the classes that it is said to have, where not its cells are to tell it.
    judged : by source that was not trained on, what describes the cells of it that are judged; see ``describing``.
    """

    method: str
    transductive: bool
    whole: Mapping[str, ScoredRows]
    maps: Mapping[str, Mapping[str, ScoredRows]]
    mix: ClassMix | None = None
    classes: tuple[str, ...] = ()
    of_classes: tuple[Mapping[str, ScoredRows], ...] = ()
    stated: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    judged: Mapping[str, Mapping[str, ScoredRows]] = field(default_factory=dict)

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
        whole = describe(method, X, class_shares(labels))
        maps = {}
        for name in sorted(set(names.tolist())):
            own = names == name
            maps[name] = describe(method, X[own], class_shares(labels[own]), whole)
        found = cls(method, transductive, whole, maps)
        if mix == "equal" or not transductive:
            return found
        mapped = found.transform(X, names.tolist())
        learnt = ClassMix.fit(mapped, labels, layer or FusionLayer())
        if learnt is None:
            return found
        of_classes = []
        # Of cells as they are learnt from: of those as they are, a class would be as wide as sites lie apart.
        for code, count in enumerate(np.bincount(labels)):
            own = describe_raw(method, mapped[labels == code], np.full(count, 1 / count))
            of_classes.append({**own, "known": own["known"] * min(count, LEAST_CELLS)})
        return replace(found, mix=learnt, classes=tuple(classes.tolist()), of_classes=tuple(of_classes))

    def only(self, sources: Sequence[str | None]) -> Self:
        """The same maps, of these sources alone."""
        kept = {_named(source) for source in sources}
        return replace(self, maps={name: own for name, own in self.maps.items() if name in kept})

    def stating(self, present: Mapping[str, NDArray[np.bool_]]) -> Self:
        """The same, by which new sources are described as having these classes, bool (classes,), and no others."""
        return replace(self, stated={**self.stated, **present}, judged={})

    def describing(self, X: NDArray[Any], sources: Sequence[str | None]) -> Self:
        """The same, with what describes the new sources among all cells (n, d) that are judged.

        Whatever is asked afterwards of cells of these sources is asked by it, however few of them: they are described
        once, not at each question.
        """
        names, found = np.array([_named(source) for source in sources], object), dict(self.judged)
        for name in self.unknown(sources) if self.transductive else []:
            of = np.flatnonzero(names == name)
            if len(of) >= LEAST_CELLS:
                found[name] = self._of_new_source(name, in_order(np.asarray(X)[of])[0])
        return replace(self, judged=found)

    def with_site(self, name: str, X: NDArray[Any], y: NDArray[Any] | None = None) -> Self:
        """The same maps and one of a further source: by these cells as a new source's, or by labels each class."""
        if y is None:
            own = self._of_new_source(name, in_order(X)[0])
        else:
            labels = np.unique(np.asarray(y, object).astype(str), return_inverse=True)[1]
            rows, order = in_order(X, labels)
            own = describe(self.method, rows, class_shares(labels[order]), self.whole)
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
            own = self.site(name)
            if own is None and self.transductive and len(of) >= LEAST_CELLS:
                own = self._of_new_source(name, in_order(rows[of])[0])
            if own is not None:
                changed[of] = self._through(rows[of], own)
        return changed

    def site(self, name: str) -> Mapping[str, ScoredRows] | None:
        """What describes the cells of a source: its map, or that of its cells that are judged."""
        return self.maps.get(name, self.judged.get(name))

    def displacement(self, X: NDArray[Any], name: str) -> float:
        """How far cells (n, d) that pass for those of a known source lie from all training cells, harmonised.

        In standard deviations of a feature: the root mean square over features of the distance of their mean. Cells of
        the source, be they of one class, lie near; see ``FAR``.
        """
        mapped = self.transform(X, [name] * len(X))
        centre, spread = self._place()
        known = ~np.isnan(mapped).all(axis=0) & (spread > 0)
        off = (np.nanmean(mapped[:, known], axis=0) - centre[known]) / spread[known]
        # A feature that hardly varies in training tells no more than one that lies ten standard deviations off.
        return float(np.sqrt((np.clip(off, -10, 10) ** 2).sum() / max(known.sum(), 1)))

    def silent(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """bool (d,): features in which training cells differ, and these cells (n, d) do not, or that none of them has.

        They are brought to the training cells all the same: what is left of them is rounding.
        """
        rows, (_, spread) = np.asarray(X, np.float64), self._place()
        known = ~np.isnan(rows)
        count = np.maximum(known.sum(axis=0), 1)
        deviation = np.where(known, rows - np.where(known, rows, 0.0).sum(axis=0) / count, 0.0)
        return np.asarray(np.sqrt((deviation**2).sum(axis=0) / count) < SILENT * spread, bool)

    def _place(self) -> tuple[ScoredRows, ScoredRows]:
        """Mean and standard deviation of each feature over the training cells."""
        if self.method == "quantile":
            return self.whole["quantiles"].mean(axis=0), self.whole["quantiles"].std(axis=0)
        return self.whole["centre"], self.whole["spread"]

    def _through(self, rows: ScoredRows, own: Mapping[str, ScoredRows]) -> ScoredRows:
        """Rows (n, d) of a source by what describes it."""
        if self.mix is None or "moves" not in own:
            return map_rows(self.method, rows, own, self.whole)
        return self.mix.moved(map_rows(self.method, rows, own, self._learnt(own["present"] > 0)), own)

    def _learnt(self, present: NDArray[np.bool_]) -> Mapping[str, ScoredRows]:
        """What describes the training cells of these classes."""
        if present.all():
            return self.whole
        own = [part for part, is_there in zip(self.of_classes, present, strict=True) if is_there]
        return complete(pool(self.method, own), self.whole)

    def _of_new_source(self, name: str, rows: ScoredRows) -> Mapping[str, ScoredRows]:
        """What describes the cells (n, d) of a source that was not trained on, in their own order."""
        if self.mix is None:
            return self._plain(rows)
        plain, some = self._plain(rows), rows[:: -(-len(rows) // ENOUGH)]
        parted = self.mix.parted(map_rows(self.method, some, plain, self.whole))
        stated = self.stated.get(name)
        own = self._of_told_classes(rows, plain) if stated is None else self._of_classes(rows, plain, stated)
        return {**own, "parted": np.array([parted])}

    def _of_told_classes(self, rows: ScoredRows, plain: dict[str, ScoredRows]) -> Mapping[str, ScoredRows]:
        """The same by the classes that its cells tell of: all, or all but one."""
        assert self.mix is not None
        classes = len(self.mix.means)
        own = self._of_classes(rows, plain, np.ones(classes, bool))
        if self.mix.is_in_doubt(own):
            without = [self._of_classes(rows, plain, present) for present in ~np.eye(classes, dtype=bool)]
            if (lack := self.mix.lacking(own, without)) is not None:
                return without[lack]
        return own

    def _plain(self, rows: ScoredRows) -> dict[str, ScoredRows]:
        """The same as if all cells counted alike."""
        return describe(self.method, rows, np.full(len(rows), 1 / len(rows)), self.whole)

    def _of_classes(
        self, rows: ScoredRows, plain: dict[str, ScoredRows], present: NDArray[np.bool_]
    ) -> Mapping[str, ScoredRows]:
        """The same of cells of these classes, which count alike as far as the cells tell of them."""
        assert self.mix is not None
        own, learnt = plain, self._learnt(present)
        # By the first map cells of another mix lie a little off; by what it tells, they are looked at once more.
        for is_first in (True, False):
            mapped = map_rows(self.method, rows, own, learnt)
            found = self.mix.responsibilities(mapped, present=present, is_asked=is_first and bool(present.all()))
            if found is None:
                break
            own = describe(self.method, rows, shares_of(found), self.whole)
        return {**own, **self.mix.moves(map_rows(self.method, rows, own, learnt), present)}

    def notes(self, sources: Sequence[str | None]) -> list[str]:
        """Stamps for a result on cells of these sources."""
        new = self.unknown(sources)
        if not new or not self.transductive:
            return []
        names = [_named(source) for source in sources]
        used = [name for name in new if names.count(name) >= LEAST_CELLS]
        few = [name for name in new if name not in used]
        by_way: dict[str, list[str]] = {}
        for name in used:
            by_way.setdefault(self._way(name), []).append(name)
        stamps = [
            f"transductive: features harmonised by {sum(map(names.count, own))} cells that are judged here, without "
            f"labels ({_format_names(own)}){way}"
            for way, own in by_way.items()
        ]
        if few:
            stamps.append(f"not harmonised: fewer than {LEAST_CELLS} cells of {_format_names(few)}")
        return stamps

    def _way(self, name: str) -> str:
        """By which classes a new source is described, to be put behind its name."""
        if self.mix is None:
            return ""
        if (present := self.stated.get(name)) is None:
            return "; their mix of classes is estimated, and each moved towards where it was learnt"
        if present.sum() == 1:
            return "; they pass for cells of the one class that is stated, and are moved towards where it was learnt"
        return "; the mix of the classes that are stated is estimated, and each moved towards where it was learnt"

    def state(self) -> tuple[dict[str, Any], dict[str, ScoredRows]]:
        """Plain values, and arrays by name, from which ``from_state`` makes it again."""
        sources = list(self.maps)
        parts = {"whole": self.whole, **{str(at): self.maps[source] for at, source in enumerate(sources)}}
        stated = {name: present.tolist() for name, present in self.stated.items() if name in self.maps}
        about = {
            "method": self.method,
            "transductive": self.transductive,
            "sources": sources,
            "classes": list(self.classes),
            "stated": stated,
        }
        parts |= {} if self.mix is None else {"mix": self.mix.state()}
        parts |= {f"class {at}": own for at, own in enumerate(self.of_classes)}
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
        of_classes = tuple(parts[f"class {at}"] for at in range(len(classes)))
        wanted = {name: array.shape for name, array in parts["whole"].items()}
        of_class = wanted | {"known": next(iter(wanted.values()))[-1:]}
        described = [(own, of_class) for own in of_classes]
        for own in maps.values():
            described.append((own, wanted if mix is None or "moves" not in own else wanted | mix.site_shapes()))
        if any({name: array.shape for name, array in own.items()} != shapes for own, shapes in described):
            raise ValueError("the stored map of a source does not fit the others")
        stated = {str(name): np.array(present, bool) for name, present in about["stated"].items()}
        if any(name not in maps or present.shape != (len(classes),) for name, present in stated.items()):
            raise ValueError("the stored classes of a source do not fit its map")
        return cls(about["method"], bool(about["transductive"]), parts["whole"], maps, mix, classes, of_classes, stated)


def _named(source: str | None) -> str:
    return "" if source is None else source


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(name or "cells without a source" for name in names)


def in_order(X: NDArray[Any], *also: NDArray[Any]) -> tuple[ScoredRows, NDArray[np.intp]]:
    """The rows in an order that depends on what they hold alone, and where they came from."""
    rows = np.asarray(X, np.float64)
    keys = [np.unique(column, return_inverse=True)[1] for column in also]
    first = rows[:, :_TELLING]
    order = np.lexsort(first.T[::-1]) if first.shape[1] else np.arange(len(rows))
    beside = first[order]
    is_same = (beside[1:] == beside[:-1]) | (np.isnan(beside[1:]) & np.isnan(beside[:-1]))
    # Rows that differ in their first columns are in their places, whatever the others hold.
    if is_same.all(axis=1).any() and (keys or rows.shape[1]):
        order = np.lexsort([*keys, *rows.T[::-1]])
    return np.ascontiguousarray(rows[order]), order
