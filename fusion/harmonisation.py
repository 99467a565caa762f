"""Taking out of features what only tells the source, before blocks are scaled and fused.

Each source gets a map from its features to those of the training cells as a whole. Maps of training sources come from
training cells alone. A source that was not trained on keeps its features as they are (inductive), or gets a map from
the cells that are to be judged, all together and without labels (transductive, stamped on every result). Labels of
training cells are looked at in two places, both so that a class that one source has more of is not taken for a
difference between sources: ``protect`` of ComBat, and ``mix``. No map is ever applied by label.

With ``mix`` cells weigh as much as brings their source's mix of classes to that of all training cells. What a new
source has of each class is estimated: from what the model says of its cells, by expectation maximisation, in turns with
the map that the model sees them through. Classifiers weigh classes alike, however many cells of each they learn from.
Source: Saerens, Latinne and Decaestecker (2002), Neural Computation 14(1):21-41.

Rows are brought into an order of their own before anything is summed: the order of cells does not change a bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

METHODS = ("standard", "quantile", "combat", "coral")

#: Those whose maps can weigh cells.
MIXED = ("standard", "quantile")

#: Cells from which a new source is described: a standard deviation of 10 is right within a quarter.
LEAST_CELLS = 10

#: Quantiles that stand for a distribution: with 33, three per cent of the cells lie between two.
_QUANTILES = np.linspace(0, 1, 33)

#: Rounds of ComBat's empirical Bayes, and the relative change at which it stops; it needs some ten.
_ROUNDS, _SETTLED = 200, 1e-8

#: Turns of ``mix`` between map and estimate, steps of expectation maximisation within each, and the change of a weight
#: at which turns end.
_TURNS, _STEPS, _SAME = 10, 50, 1e-3

#: Share below which no class is estimated, so that no cell weighs for fifty.
_LEAST_SHARE = 0.02

#: Added to the diagonal of CORAL's correlation matrices, as in Sun et al. (2016).
_RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class Harmoniser:
    """Maps of training sources to all training cells.

    Attributes
    ----------
    method : one of ``METHODS``.
    transductive : whether a new source is described by its cells.
    protect : whether ComBat leaves differences between classes alone.
    arrays : what all maps share, by name; every array has a column a feature.
    maps : by source ("" for none), its arrays.
    shares : of each class among the training cells, in the order of their names; None without ``mix``.
    """

    method: str
    transductive: bool
    protect: bool
    arrays: Mapping[str, Rows]
    maps: Mapping[str, Mapping[str, Rows]]
    shares: Rows | None = None

    @classmethod
    def fit(
        cls,
        X: NDArray[Any],
        sources: Sequence[str | None],
        y: Sequence[Any] | NDArray[Any],
        *,
        method: str,
        transductive: bool = False,
        protect: bool = True,
        mix: bool = False,
    ) -> Self:
        """From training cells and no others.

        Parameters
        ----------
        X : float (n, d), NaN where a feature is undefined.
        sources : n names.
        y : n labels, looked at by ComBat where ``protect`` is on, and for ``mix``.

        Raises
        ------
        ValueError : an unknown method, or ``mix`` with one that is none of ``MIXED``.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        if mix and method not in MIXED:
            raise ValueError(f"harmonise.mix goes with method {' or '.join(MIXED)}, not {method}")
        names = np.array([_named(source) for source in sources], object)
        codes = np.unique(np.asarray(y, object).astype(str), return_inverse=True)[1].astype(np.intp)
        X, order = in_order(X, names, codes)
        names, codes = names[order], codes[order]
        kept = {name: names == name for name in sorted(set(names.tolist()))}
        if method == "combat":
            arrays, maps = _fit_combat(X, kept, codes if protect else np.zeros(len(X), np.intp))
        else:
            arrays = _pooled(X) | (_quantiles(X) if method == "quantile" else {})
            if method == "coral":
                arrays |= {"colouring": _root(_correlation(X, arrays), 0.5)}
            maps = {name: _map(method, X[rows], arrays) for name, rows in kept.items()}
        if not mix:
            return cls(method, transductive, protect, arrays, maps)
        shares = np.bincount(codes) / len(codes)
        maps = {name: _map(method, X[rows], arrays, _weights(np.eye(len(shares))[codes[rows]], shares))
                for name, rows in kept.items()}  # fmt: skip
        return cls(method, transductive, protect, arrays, maps, shares)

    def only(self, sources: Sequence[str | None]) -> Self:
        """The same maps, of these sources alone."""
        kept = {_named(source) for source in sources}
        return replace(self, maps={name: own for name, own in self.maps.items() if name in kept})

    def unknown(self, sources: Sequence[str | None]) -> list[str]:
        """Sources among these that no training cell is of; "" for cells without a source."""
        return sorted({_named(source) for source in sources} - set(self.maps))

    def transform(
        self, X: NDArray[Any], sources: Sequence[str | None], judge: Callable[[Rows], Rows] | None = None
    ) -> Rows:
        """float64 (n, d): every row through its source's map; NaN stays NaN.

        A new source of fewer than ``LEAST_CELLS`` rows is left as it is, transductive or not. ``judge`` gives the
        probabilities float64 (n, classes) of harmonised rows, for ``mix``; None takes a new source's mix for that of
        the training cells.
        """
        rows = np.asarray(X, np.float64)
        names = np.array([_named(source) for source in sources], object)
        changed = rows.copy()
        for name in sorted(set(names.tolist())):
            of = np.flatnonzero(names == name)
            known = self.maps.get(name)
            if known is None and self.transductive and len(of) >= LEAST_CELLS:
                known = self._new_map(in_order(rows[of])[0], judge)
            if known is not None:
                changed[of] = _apply(self.method, rows[of], known, self.arrays)
        return changed

    def _new_map(self, X: Rows, judge: Callable[[Rows], Rows] | None) -> dict[str, Rows]:
        """The map of a new source from its rows in their own order."""
        found = _map(self.method, X, self.arrays)
        if self.shares is None or judge is None:
            return found
        weights, moved = np.ones(len(X)), _pooled(X, self.arrays)
        for _ in range(_TURNS):
            before = weights
            proba = judge(_apply("standard", X, moved, self.arrays))
            weights = _weights(_estimated(proba, self.shares), self.shares)
            moved = _pooled(X, self.arrays, weights)
            if np.abs(weights - before).max() < _SAME:
                break
        return _map(self.method, X, self.arrays, weights)

    def told(self, sources: Sequence[str | None]) -> list[str]:
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
            stamps.append(
                f"transductive: features harmonised by {cells} cells that are judged here, without labels "
                f"({_spoken(used)})"
                + ("" if self.shares is None else ", each weighed by an estimate of their mix of classes")
            )
        if few:
            stamps.append(f"not harmonised: fewer than {LEAST_CELLS} cells of {_spoken(few)}")
        return stamps

    def state(self) -> tuple[dict[str, Any], dict[str, Rows]]:
        """Plain values, and arrays by name, from which ``from_state`` makes it again."""
        arrays = {f"shared.{name}": array for name, array in self.arrays.items()}
        sources = list(self.maps)
        for at, source in enumerate(sources):
            arrays |= {f"{at}.{name}": array for name, array in self.maps[source].items()}
        about = {
            "method": self.method, "transductive": self.transductive, "protect": self.protect, "sources": sources,
            **({} if self.shares is None else {"shares": self.shares.tolist()}),
        }  # fmt: skip
        return about, {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_state(cls, about: Mapping[str, Any], arrays: Mapping[str, Rows]) -> Self:
        """The harmoniser that ``state`` told of.

        Raises
        ------
        ValueError, KeyError : values or arrays that are not those of a harmoniser.
        """
        if about["method"] not in METHODS:
            raise ValueError(f"unknown method of harmonisation {json.dumps(about['method'])[:40]}")
        parts: dict[str, dict[str, Rows]] = {}
        for name, array in arrays.items():
            owner, _, part = name.partition(".")
            parts.setdefault(owner, {})[part] = array
        maps = {str(source): parts[str(at)] for at, source in enumerate(about["sources"])}
        shares = None if "shares" not in about else np.array(about["shares"], np.float64)
        return cls(about["method"], bool(about["transductive"]), bool(about["protect"]), parts["shared"], maps, shares)


def _named(source: str | None) -> str:
    return "" if source is None else source


def _spoken(names: Sequence[str]) -> str:
    return ", ".join(name or "cells without a source" for name in names)


def in_order(X: NDArray[Any], *also: NDArray[Any]) -> tuple[Rows, NDArray[np.intp]]:
    """The rows in an order that depends on what they hold alone, and where they came from."""
    rows = np.asarray(X, np.float64)
    keys = [np.unique(column, return_inverse=True)[1] for column in also]
    order = np.lexsort([*keys, *rows.T[::-1]]) if rows.shape[1] else np.lexsort(keys)
    return np.ascontiguousarray(rows[order]), order


# ---- maps -----------------------------------------------------------------------------------------------------------


def _map(method: str, X: Rows, shared: Mapping[str, Rows], weights: Rows | None = None) -> dict[str, Rows]:
    """The map of one source from its rows, in their own order and without labels; ``weights`` are for ``MIXED``."""
    if method == "standard":
        return _pooled(X, shared, weights)
    if method == "quantile":
        return _quantiles(X, shared, weights)
    if method == "combat":
        standardised = (X - shared["centre"]) / shared["marginal"]
        return _empirical_bayes(standardised) | {"spread": shared["marginal"]}
    own = _pooled(X, shared)
    return own | {"whitening": _root(_correlation(X, own), -0.5)}


def _apply(method: str, X: Rows, own: Mapping[str, Rows], shared: Mapping[str, Rows]) -> Rows:
    if method == "standard":
        return (X - own["centre"]) / own["spread"] * shared["spread"] + shared["centre"]
    if method == "quantile":
        return _matched(X, own["quantiles"], shared["quantiles"])
    if method == "combat":
        standardised = (X - shared["centre"]) / own["spread"]
        return (standardised - own["shift"]) / own["factor"] * own["spread"] + shared["centre"]
    undefined = np.isnan(X)
    standardised = np.where(undefined, 0.0, (X - own["centre"]) / own["spread"])
    # einsum adds up each row by itself: a matrix product's sums depend on how many rows there are beside it.
    white = np.einsum("ij,jk->ik", standardised, own["whitening"] @ shared["colouring"])
    return np.where(undefined, np.nan, white * shared["spread"] + shared["centre"])


def _pooled(X: Rows, otherwise: Mapping[str, Rows] | None = None, weights: Rows | None = None) -> dict[str, Rows]:
    """Mean and standard deviation of every column over its values; where there is none, those of ``otherwise``."""
    known: Rows = (~np.isnan(X)).astype(np.float64)
    known = known if weights is None else known * weights[:, None]
    count = known.sum(axis=0)
    divisor = np.where(count > 0, count, 1.0)
    filled = np.where(np.isnan(X), 0.0, X)
    centre = (known * filled).sum(axis=0) / divisor
    spread = np.sqrt((known * (filled - centre) ** 2).sum(axis=0) / divisor)
    # What does not vary is moved, not stretched.
    flat = spread <= 1e-6 * np.maximum(np.abs(centre), 1e-30)
    stretch = np.where(flat, 1.0 if otherwise is None else otherwise["spread"], spread)
    missing = count == 0
    if otherwise is not None:
        centre = np.where(missing, otherwise["centre"], centre)
    return {"centre": centre, "spread": stretch}


def _estimated(proba: Rows, shares: Rows) -> Rows:
    """float64 (n, classes): probabilities by a model that weighs all classes alike, as they are where classes have the
    shares that these rows themselves tell; ``shares`` are where that begins."""
    own, posterior = shares, proba
    for _ in range(_STEPS):
        posterior = proba * own
        posterior = posterior / np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        own = posterior.mean(axis=0)
    return posterior


def _weights(proba: Rows, shares: Rows) -> Rows:
    """float64 (n,): what each row weighs, so that what there is of each class weighs as ``shares``."""
    return proba @ (shares / np.maximum(proba.mean(axis=0), _LEAST_SHARE))


def _quantiles(X: Rows, otherwise: Mapping[str, Rows] | None = None, weights: Rows | None = None) -> dict[str, Rows]:
    found = np.zeros((len(_QUANTILES), X.shape[1]))
    for at, column in enumerate(X.T):
        known = ~np.isnan(column)
        values = column[known]
        if len(values) > 1 and weights is not None:
            found[:, at] = _weighted_quantiles(values, weights[known])
        elif len(values):
            found[:, at] = np.quantile(values, _QUANTILES)
        elif otherwise is not None:
            found[:, at] = otherwise["quantiles"][:, at]
    return {"quantiles": found}


def _weighted_quantiles(values: Rows, weights: Rows) -> Rows:
    """Each value stands in the middle of its weight, the least at 0 and the greatest at 1, with straight lines between:
    with equal weights those of ``numpy.quantile``."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    places = np.cumsum(weights) - weights / 2
    return np.interp(_QUANTILES, (places - places[0]) / max(places[-1] - places[0], 1e-300), values)


def _matched(X: Rows, own: Rows, shared: Rows) -> Rows:
    """Each value at the same quantile of the shared distribution; beyond the ends, as far beyond the shared ends."""
    changed = np.full_like(X, np.nan)
    for at, column in enumerate(X.T):
        known = ~np.isnan(column)
        # Of several quantiles with one value the middle one: a value that half the cells share has no other place.
        levels, first = np.unique(own[:, at], return_index=True)
        last = len(own) - 1 - np.unique(own[::-1, at], return_index=True)[1]
        places = (_QUANTILES[first] + _QUANTILES[last]) / 2
        values = np.interp(np.interp(column[known], levels, places), _QUANTILES, shared[:, at])
        values += np.minimum(column[known] - levels[0], 0) + np.maximum(column[known] - levels[-1], 0)
        changed[known, at] = values
    return changed


# ---- ComBat ---------------------------------------------------------------------------------------------------------


def _fit_combat(
    X: Rows, kept: Mapping[str, NDArray[np.bool_]], codes: NDArray[np.intp]
) -> tuple[dict[str, Rows], dict[str, dict[str, Rows]]]:
    """Shared arrays and maps of the training sources.

    The model is x = centre + class + spread (shift + factor e), the shifts weighted to sum to 0 over the training
    cells. ``spread`` is what is left beside class and source; ``marginal`` beside the source alone, by which a source
    without labels is standardised.
    Source: Johnson, Li and Rabinovic (2007), Biostatistics 8(1):118-127.
    """
    sources = np.stack(list(kept.values()), axis=1).astype(np.float64)
    classes = np.eye(int(codes.max()) + 1)[codes][:, 1:]  # the first class is the intercept's
    n, d = X.shape
    centre, spread, marginal, by_class = np.zeros(d), np.ones(d), np.ones(d), np.zeros((n, d))
    for at, column in enumerate(X.T):
        known = ~np.isnan(column)
        if not known.any():
            continue
        values = column[known]
        share = sources[known].mean(axis=0)
        design = np.hstack([sources[known], classes[known]])
        beta = np.linalg.lstsq(design, values, rcond=None)[0]
        of_class = classes[known] @ beta[sources.shape[1] :]
        centre[at] = share @ beta[: sources.shape[1]] + of_class.mean()
        by_class[known, at] = of_class - of_class.mean()
        spread[at] = _spread_of(values - design @ beta, values)
        without = np.linalg.lstsq(sources[known], values, rcond=None)[0]
        marginal[at] = _spread_of(values - sources[known] @ without, values)
    standardised = (X - centre - by_class) / spread
    maps = {name: _empirical_bayes(standardised[rows]) | {"spread": spread} for name, rows in kept.items()}
    return {"centre": centre, "spread": spread, "marginal": marginal}, maps


def _spread_of(residual: Rows, values: Rows) -> float:
    spread = float(np.sqrt(np.mean(residual**2)))
    return spread if spread > 1e-6 * float(np.abs(values).max()) else 1.0


def _empirical_bayes(Z: Rows) -> dict[str, Rows]:
    """Shift and factor (on standard deviations) of one source, each feature's drawn towards what all have.

    Shifts have a normal prior, variances an inverse gamma one, both by the moments over the features.
    """
    known = ~np.isnan(Z)
    count = np.maximum(known.sum(axis=0), 1).astype(np.float64)
    filled = np.where(known, Z, 0.0)
    shift = filled.sum(axis=0) / count
    variance = np.where(known, (filled - shift) ** 2, 0.0).sum(axis=0) / np.maximum(count - 1, 1)
    usable = (known.sum(axis=0) >= 2) & (variance > 1e-12)
    if usable.sum() < 2:  # no prior to be had from a single feature
        return {"shift": shift, "factor": np.sqrt(np.where(usable, variance, 1.0))}
    mean, spread = shift[usable].mean(), max(float(shift[usable].var(ddof=1)), 1e-12)
    level, scatter = variance[usable].mean(), max(float(variance[usable].var(ddof=1)), 1e-12)
    a, b = (2 * scatter + level**2) / scatter, (level * scatter + level**3) / scatter
    new_shift, new_variance = shift.copy(), np.where(usable, variance, 1.0)
    for _ in range(_ROUNDS):
        before_shift, before_variance = new_shift, new_variance
        new_shift = (spread * count * shift + before_variance * mean) / (spread * count + before_variance)
        squares = np.where(known, (filled - new_shift) ** 2, 0.0).sum(axis=0)
        new_variance = np.where(usable, (b + squares / 2) / (count / 2 + a - 1), 1.0)
        change = max(
            float(np.abs(new_shift - before_shift).max()), float(np.abs(new_variance / before_variance - 1).max())
        )
        if change < _SETTLED:
            break
    return {"shift": np.where(usable, new_shift, shift), "factor": np.sqrt(new_variance)}


# ---- CORAL ----------------------------------------------------------------------------------------------------------


def _correlation(X: Rows, own: Mapping[str, Rows]) -> Rows:
    """(d, d) correlations, undefined values at the mean, plus a ridge.

    Source: Sun, Feng and Saenko (2016), AAAI, 2058-2065, on standardised columns.
    """
    standardised = np.where(np.isnan(X), 0.0, (X - own["centre"]) / own["spread"])
    return standardised.T @ standardised / len(X) + _RIDGE * np.eye(X.shape[1])


def _root(matrix: Rows, power: float) -> Rows:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T
