"""Which classes a new site has how many cells of, and where, told from where these lie, without labels.

Along the few directions that separate the training classes, cells of a new site lie in clusters about where the
training classes do. A mixture of normal distributions is fitted to them: the classes' shares are free, all classes may
lie elsewhere together and each a little by itself, and they may be wider or narrower. Shares that a likelihood ratio
cannot distinguish from equal ones at 5% are equal: a small site, or one whose classes overlap, is told nothing of.

A map of a site as a whole leaves each class a little beside where it was learnt. By the same mixture every class is
moved half the way there, less where few cells are of it, and not at all where what is taken for it lies as near to
another class.

So it does where the site lacks a class, whose place others fill. Then the site is looked at once more without each
class in turn, and where the farthest of the others lies much nearer to where it was learnt, the site lacks that class;
it lacks one, too, of which less than a cell is found.

Of a site of one or two classes the same cannot be told: any cells are as good as those of all classes once they are
scaled to vary as much. Only, cells of several classes lie in clusters, and such a site's may not: where the mixture is
hardly likelier than a single normal distribution, it may have one or two classes alone.

What the classifier says of the cells plays no part, so that all classifiers are given the same features.

Sources: Fisher (1936), Annals of Eugenics 7:179-188 (directions); Ledoit and Wolf (2004), J. Multivariate Analysis
88:365-411 (their covariance); Dempster, Laird and Rubin (1977), J. R. Statist. Soc. B 39:1-38 (EM); Saerens, Latinne
and Decaestecker (2002), Neural Computation 14:21-41 (shares of classes by EM, where classes stay where they are);
Wilks (1938), Annals of Mathematical Statistics 9:60-62 (likelihood ratio). To move classes by labels that are told
themselves: Long et al. (2013), ICCV, 2200-2207 (joint distribution adaptation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.feature_transforms.fusion_layer import FusionLayer

_Floats = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Flags = NDArray[np.bool_]

#: Cells that directions are found from, and a mixture, at most: of hundreds of a class more do not move them.
ENOUGH = 2000

#: Principal components in which they are looked for, at most, and cells that a component needs.
_COMPONENTS, _CELLS_EACH = 60, 4

#: Standard deviations of a feature beyond which a value is a blunder, as in the fusion layer.
_CLIP = 10.0

#: Standard deviation, in those of the cells of a class, of how far a class lies by itself from where it was learnt.
_APART = 1.0

#: Variance of a class along a direction, in that of the training cells: half to twice their standard deviation.
_VARIANCE = (0.25, 4.0)

#: Steps of EM at most, and the change of the log likelihood below which it has arrived.
_STEPS, _ARRIVED = 200, 1e-3

#: Of the likelihood ratio.
_LEVEL = 0.05

#: How far a class is moved to where it was learnt, by as many cells as outweigh these.
_PART, _OUTWEIGHED = 0.5, 10

#: Distance of a class from where it was learnt, in that to the nearest other class, up to which it is moved by all of
#: that, and from which on it may be another one.
_SURE, _ANOTHER = 0.4, 0.5

#: How much nearer the farthest class has to lie without a class that the site lacks, in the same distance.
_NEARER = 0.3

#: By how much more the logarithm of a cell's density is to be by the mixture than by a single normal distribution, for
#: each direction. Of real sites of all classes one in 25 has less, of sites of one class two in three have:
#: docs/laboratories.md.
_PARTED = 0.025

#: The share of a class that a site lacks: a logarithm there has to be.
_NONE = 1e-300


@dataclass(frozen=True, eq=False)
class ClassMix:
    """Where the training classes lie along the directions that separate them.

    Attributes
    ----------
    centre, spread : float64 (d,), of every feature over the training cells.
    axes : float64 (d, k), what a standard deviation of a feature adds along each direction, in standard deviations of
        the cells of a class.
    means : float64 (classes, k), where the classes lie.
    features : float64 (classes, d), mean features of the classes; NaN where none of a class is defined.
    """

    centre: _Floats
    spread: _Floats
    axes: _Floats
    means: _Floats
    features: _Floats

    @classmethod
    def fit(cls, X: _Floats, codes: _Codes, layer: FusionLayer) -> Self | None:
        """From harmonised training cells; None where there are too few of a class.

        Parameters
        ----------
        X : float64 (n, d), NaN where a feature is undefined.
        codes : n class numbers.
        layer : not fitted; how features are scaled and weighed.
        """
        if len(np.unique(codes)) < 2 or np.bincount(codes).min() < 2:
            return None
        features = _class_means(X, np.eye(codes.max() + 1)[codes])
        few = slice(None, None, -(-len(X) // ENOUGH))
        X, codes = X[few], codes[few]
        if np.bincount(codes).min() < 2 or not (L := layer.fit(X).transform(X)).var(axis=0).any():
            return None
        directions = _discriminants(L, codes)
        known = ~np.isnan(X).all(axis=0)
        centre, spread = np.zeros(X.shape[1]), np.ones(X.shape[1])
        centre[known] = np.nanmean(X[:, known], axis=0)
        deviation = np.nanstd(X[:, known], axis=0)
        spread[known] = np.where(deviation > 0, deviation, 1.0)
        # The layer is linear between its clips: what a standard deviation of a feature more adds to the outcome.
        low, high = np.where(known, centre, 0.0), np.where(known, centre + spread, 0.0)
        axes = np.stack([np.subtract(*layer.shares(np.stack([high, low]), way)) for way in directions.T], axis=1)
        mix = cls(centre, spread, axes, np.empty((0, axes.shape[1])), features)
        places = mix._places(X)
        return replace(mix, means=np.stack([places[codes == code].mean(axis=0) for code in range(codes.max() + 1)]))

    def responsibilities(self, X: _Floats, *, present: _Flags | None = None, is_asked: bool = True) -> _Floats | None:
        """float64 (n, classes), the probability of each class for each of a site's mapped cells (n, d).

        None where the shares of classes cannot be distinguished from equal ones, unless ``is_asked`` is False.

        Parameters
        ----------
        present : bool (classes,), which the site has; None for all.
        """
        places = self._places(X)
        likelihood, mixture = self._mixture(places, present)
        if is_asked:
            from scipy.stats import chi2

            equal, _ = self._mixture(places, present, are_equal=True)
            if 2 * (likelihood - equal) < chi2.ppf(1 - _LEVEL, len(self.means) - 1):
                return None
        return mixture.responsibilities(places)

    def moves(self, X: _Floats, present: _Flags | None = None) -> dict[str, _Floats]:
        """What ``moved`` needs of a site, arrays by name: its mixture, how far each class is moved, and which it has.

        Parameters
        ----------
        X : float64 (n, d), its mapped cells.
        present : as in ``responsibilities``.

        Returns
        -------
        "moves" float64 (classes, d); "counts", "apart", "present" float64 (classes,): cells of each class, how far it
        lies from where it was learnt, in its distance to the nearest other class, 0 for a class that the site lacks,
        and 1 for one that it has; and the arrays of ``Mixture.state``.
        """
        has = np.ones(len(self.means), bool) if present is None else present
        places = self._places(X)
        _, mixture = self._mixture(places, present)
        found = mixture.responsibilities(places)
        counts = found.sum(axis=0)
        own = found.T @ places / np.maximum(counts, 1e-9)[:, None]
        between = np.linalg.norm(self.means[:, None] - self.means, axis=2)
        np.fill_diagonal(between, np.inf)
        apart = has * np.linalg.norm(own - self.means, axis=1) / np.maximum(between.min(axis=1), 1e-9)
        part = np.clip((_ANOTHER - apart) / (_ANOTHER - _SURE), 0, 1) * _PART * counts / (counts + _OUTWEIGHED)
        moves = np.nan_to_num((part * has)[:, None] * (self.features - _class_means(X, found)))
        return {"moves": moves, "counts": counts, "apart": apart, "present": has.astype(float), **mixture.state()}

    def lacking(self, site: Mapping[str, _Floats], without: Sequence[Mapping[str, _Floats]]) -> int | None:
        """The class that a site lacks; None where its cells do not tell that it lacks one.

        Parameters
        ----------
        site : what ``moves`` gave of it as if it had all classes.
        without : the same as if it had all but one, in the order of classes.
        """
        farthest = np.array([own["apart"].max() for own in without])
        if site["apart"].max() - farthest.min() > _NEARER:
            return int(farthest.argmin())
        return int(site["counts"].argmin()) if site["counts"].min() < 1 else None

    def is_in_doubt(self, site: Mapping[str, _Floats]) -> bool:
        """Whether the site may lack one of more than two classes, by what ``moves`` gave of it as if it had all."""
        return len(self.means) > 2 and bool(site["apart"].max() > _ANOTHER or site["counts"].min() < 1)

    def parted(self, X: _Floats) -> float:
        """How much likelier a site's cells (n, d) are in clusters about where classes were learnt than in a single one.

        The logarithm of the ratio of likelihoods, of a cell, by the mixture of all classes and by a normal distribution
        of any covariance.

        Parameters
        ----------
        X : float64 (n, d), mapped as if all cells counted alike.
        """
        places = self._places(X)[:: -(-len(X) // ENOUGH)]
        n, k = places.shape
        covariance = np.atleast_2d(np.cov(places.T, bias=True)) + 1e-9 * np.eye(k)
        likelihood, _ = self._mixture(places, None)
        return float(likelihood / n + (np.linalg.slogdet(covariance)[1] + k) / 2)

    def may_have_few_classes(self, site: Mapping[str, _Floats]) -> bool:
        """Whether a site may have one or two classes alone, as far as its cells lie in no clusters."""
        return bool(site["parted"][0] < _PARTED * self.means.shape[1])

    def moved(self, X: _Floats, site: Mapping[str, _Floats]) -> _Floats:
        """Mapped cells (n, d) of a site, each moved as its classes are, in the shares of its probabilities; NaN stays.

        Parameters
        ----------
        site : what ``moves`` gave of it.
        """
        found = Mixture.from_state(site).responsibilities(self._places(X))
        changed = X.copy()
        for share, move in zip(found.T, site["moves"], strict=True):
            changed += share[:, None] * move
        return changed

    def site_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what ``moves`` gives of a site, by name, and of how far it is ``parted``."""
        each = self.means[:, 0]
        site = {"moves": self.features, "counts": each, "apart": each, "present": each, "parted": each[:1]}
        return {name: array.shape for name, array in (site | Mixture.learnt(self.means).state()).items()}

    def _mixture(self, places: _Floats, present: _Flags | None, *, are_equal: bool = False) -> tuple[float, Mixture]:
        """The log likelihood of the mixture of the classes ``present`` that is fitted to cells (n, k), and it, with all
        classes."""
        # Rows come in an order of their own: every so many of them are cells of all kinds.
        some = places[:: -(-len(places) // ENOUGH)]
        if present is None or present.all():
            return _fitted(some, self.means, are_equal=are_equal)
        likelihood, of = _fitted(some, self.means[present], are_equal=are_equal)
        shares, where = np.full(len(self.means), _NONE), self.means.copy()
        shares[present], where[present] = of.shares, of.places
        return likelihood, Mixture(shares, where, of.variance)

    def _places(self, X: _Floats) -> _Floats:
        """float64 (n, k): where cells lie along the directions."""
        z = np.clip((X - self.centre) / self.spread, -_CLIP, _CLIP)
        z = np.where(np.isnan(z), 0.0, z)
        # A product of matrices would round a cell in one way alone and in another among many.
        return np.stack([(z * axis).sum(axis=1) for axis in self.axes.T], axis=1)

    def state(self) -> dict[str, _Floats]:
        """Arrays by name."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, arrays: Mapping[str, _Floats]) -> Self:
        """What ``state`` came from.

        Raises
        ------
        ValueError, KeyError, TypeError : arrays that are not those of a mix of classes.
        """
        mix = cls(**arrays)
        (d, k), classes = mix.axes.shape, len(mix.means)
        fits = mix.centre.shape == mix.spread.shape == (d,) and mix.features.shape == (classes, d)
        if not fits or mix.means.shape != (classes, k) or classes < 2:
            raise ValueError("the stored arrays of a mix of classes do not fit together")
        return mix


def _discriminants(L: _Floats, codes: _Codes) -> _Floats:
    """float64 (d, classes - 1): Fisher's directions, classes weighing alike, along which a class has variance 1."""
    from sklearn.covariance import ledoit_wolf

    centred = L - L.mean(axis=0)
    # Of fewer cells than columns: components by the matrix of all pairs.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    count = min(_COMPONENTS, max(8, len(L) // _CELLS_EACH), int((values > 1e-10 * values[-1]).sum()))
    components = centred.T @ (vectors[:, -count:] / np.sqrt(values[-count:]))
    scores = centred @ components
    means = np.stack([scores[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    shares = 1 / np.bincount(codes)[codes]
    within = (scores - means[codes]) * np.sqrt(shares / shares.mean())[:, None]
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    white = axes / np.sqrt(np.maximum(variances, 1e-12 * variances[-1]))
    between = means @ white
    ways = np.linalg.svd(between - between.mean(axis=0), full_matrices=False)[2]
    return np.asarray(components @ white @ ways[: len(means) - 1].T, np.float64)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Normal distributions, one a class, along the directions that separate them.

    Attributes
    ----------
    shares : float64 (classes,), of sum 1.
    places : float64 (classes, k), where the classes lie.
    variance : float64 (k,), of every class along each direction.
    """

    shares: _Floats
    places: _Floats
    variance: _Floats

    @classmethod
    def learnt(cls, means: _Floats) -> Self:
        """That of a site whose classes, at ``means``, have as many cells each, and lie where they were learnt."""
        classes, k = means.shape
        return cls(np.full(classes, 1 / classes), means, np.ones(k))

    def joint(self, places: _Floats) -> _Floats:
        """float64 (n, classes): log density of cells (n, k) and classes, but for a constant."""
        squares = (places[:, None] - self.places) ** 2
        return np.log(self.shares) - 0.5 * (squares / self.variance + np.log(self.variance)).sum(axis=2)

    def responsibilities(self, places: _Floats) -> _Floats:
        """float64 (n, classes): the probability of each class for each cell (n, k)."""
        joint = self.joint(places)
        odds = np.exp(joint - joint.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)

    def state(self) -> dict[str, _Floats]:
        """Arrays by name."""
        return {"mixture_shares": self.shares, "mixture_places": self.places, "mixture_variance": self.variance}

    @classmethod
    def from_state(cls, arrays: Mapping[str, _Floats]) -> Self:
        """What ``state`` came from, among other arrays."""
        return cls(arrays["mixture_shares"], arrays["mixture_places"], arrays["mixture_variance"])


def _fitted(places: _Floats, means: _Floats, *, are_equal: bool) -> tuple[float, Mixture]:
    """The log likelihood of the fitted mixture, that of how far classes lie apart added, and the mixture."""
    n, k = len(places), len(means)
    mixture = Mixture.learnt(means)
    likelihood = -np.inf
    moved = np.zeros_like(means)
    for _ in range(_STEPS):
        joint = mixture.joint(places)
        most = joint.max(axis=1, keepdims=True)
        odds = np.exp(joint - most)
        sums = odds.sum(axis=1, keepdims=True)
        found, counts = odds / sums, (odds / sums).sum(axis=0)
        before, likelihood = likelihood, float((np.log(sums) + most).sum() - 0.5 * (moved**2).sum() / _APART**2)
        if abs(likelihood - before) < _ARRIVED:
            break
        # One cell of each class beforehand: no class is ever impossible.
        shares = mixture.shares if are_equal else (counts + 1) / (n + k)
        # Classes lie together where most cells say, and each by itself as far as its own cells outweigh the prior.
        own = found.T @ places / np.maximum(counts, 1e-9)[:, None]
        trust = (counts * _APART**2 / (counts * _APART**2 + mixture.variance.mean()))[:, None]
        shift = (trust * (own - means)).sum(axis=0) / trust.sum()
        moved = trust * (own - means - shift)
        centres = means + shift + moved
        variance = np.einsum("nk,nkd->d", found, (places[:, None] - centres) ** 2) / n
        mixture = Mixture(shares, centres, np.clip(variance, *_VARIANCE))
    return likelihood, mixture


def _class_means(X: _Floats, responsibilities: _Floats) -> _Floats:
    """float64 (classes, d): means of the values there are, cells weighing as far as they are of a class; NaN where
    there are none."""
    known = ~np.isnan(X)
    weights = responsibilities.T @ known.astype(float)
    sums = responsibilities.T @ np.where(known, X, 0.0)
    return np.asarray(np.where(weights > 1e-9, sums / np.maximum(weights, 1e-9), np.nan), np.float64)
