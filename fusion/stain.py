"""Colour maps between stains: Reinhard in Lab, Macenko and Vahadane in optical density, white balance by empty glass.

Each map is fitted on a sample of pixels of the cells it is to change and a sample of those it is to make them like.
Samples are sorted before anything is summed, so that the order of cells does not matter to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float64]
Picture = NDArray[np.uint8]

#: Grey level of empty glass after white balance, and where none is seen before it.
WHITE = 245.0

#: OD under which a pixel holds too little stain to tell its colour. Source: Macenko et al. (2009) take 0.15.
_STAINED = 0.15

#: Percentiles of angles and concentrations that stand for their extremes, as in Macenko et al. (2009).
_LOW, _HIGH = 1.0, 99.0

#: Weight of the sum of a pixel's amounts in OD, as in Vahadane et al. (2016); pixels learnt from, turns, and the change
#: of a stain at which learning stops.
_SPARSITY, _LEARNT, _TURNS, _SETTLED = 0.1, 20_000, 200, 1e-6

#: A concentration is never stretched further than this: what has no stain has none to stretch.
_MOST_STRETCH = 10.0


@dataclass(frozen=True)
class Reinhard:
    """Mean and spread of each channel of CIE Lab are those of the target.

    Source: Reinhard et al. (2001), IEEE Computer Graphics and Applications 21(5):34-41, in CIE Lab (D65) instead of
    their l-alpha-beta.

    Attributes
    ----------
    mean, spread : of the channels, L from 0 to 100.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def fit(cls, rgb: Pixels) -> Self:
        """From float (n, 3) sampled pixels, 0 to 255."""
        lab = np.sort(_lab(rgb), axis=0)
        return cls(_plain(lab.mean(axis=0)), _plain(np.maximum(lab.std(axis=0), 0.5)))

    def apply(self, rgb: Pixels, target: Reinhard) -> Pixels:
        """float (n, 3) pixels, 0 to 255, as the target would show them."""
        lab = (_lab(rgb) - self.mean) * (np.array(target.spread) / self.spread) + target.mean
        lab[:, 0] = np.clip(lab[:, 0], 0, 100)
        back = cv2.cvtColor(lab.astype(np.float32)[None], cv2.COLOR_Lab2RGB)[0]
        return back.astype(np.float64) * 255


@dataclass(frozen=True)
class Macenko:
    """Two stains are found in optical density, and each pixel's amounts of them are shown in the target's stains.

    Source: Macenko et al. (2009), IEEE ISBI, 1107-1110.

    Attributes
    ----------
    stains : two unit vectors in OD (R, G, B), that with more red held back first, one after the other.
    most : amount of each that 99 of 100 pixels do not exceed.
    """

    stains: tuple[float, ...]
    most: tuple[float, ...]

    @classmethod
    def fit(cls, rgb: Pixels) -> Self:
        """From float (n, 3) sampled pixels, 0 to 255."""
        od, stained = _stained(rgb)
        plane = np.linalg.eigh(stained.T @ stained)[1][:, :0:-1]  # through empty glass, where there is no stain
        plane *= np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
        angle = np.arctan2(stained @ plane[:, 1], stained @ plane[:, 0])
        ends = np.percentile(angle, (_LOW, _HIGH))
        # A single stain has no angle between its ends: a tenth of a radian keeps the amounts apart.
        ends = np.where(np.ptp(ends) < 0.1, ends.mean() + np.array([-0.05, 0.05]), ends)
        stains = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
        stains = stains[np.argsort(-stains[:, 0] / np.linalg.norm(stains, axis=1))]
        most = np.percentile(_amounts(od, stains), _HIGH, axis=0)
        return cls(_plain(stains.ravel()), _plain(np.maximum(most, 0.05)))

    def apply(self, rgb: Pixels, target: Macenko) -> Pixels:
        """float (n, 3) pixels, 0 to 255, as the target would show them."""
        amounts = _amounts(_density(rgb), np.reshape(self.stains, (2, 3)))
        amounts *= np.minimum(np.array(target.most) / self.most, _MOST_STRETCH)
        return WHITE * np.exp(-np.maximum(amounts, 0) @ np.reshape(target.stains, (2, 3)))


@dataclass(frozen=True)
class Vahadane:
    """Two stains, none below 0, whose amounts are as sparse as the pixels allow; shown in the target's stains.

    Minimises the sum of |od - amounts stains|**2 / 2 + ``_SPARSITY`` |amounts| over amounts from 0 and stains from 0 no
    longer than 1, by turns, from Macenko's stains.
    Source: Vahadane et al. (2016), IEEE Trans. Med. Imaging 35(8):1962-1971; a dictionary atom by atom as in Mairal et
    al. (2010), JMLR 11:19-60.

    Attributes
    ----------
    stains, most : as for ``Macenko``.
    """

    stains: tuple[float, ...]
    most: tuple[float, ...]

    @classmethod
    def fit(cls, rgb: Pixels) -> Self:
        """From float (n, 3) sampled pixels, 0 to 255."""
        od, stained = _stained(rgb)
        learnt = stained[np.linspace(0, len(stained) - 1, min(len(stained), _LEARNT)).round().astype(np.intp)]
        stains = np.maximum(np.reshape(Macenko.fit(rgb).stains, (2, 3)), 0)
        stains /= np.linalg.norm(stains, axis=1, keepdims=True)
        for _ in range(_TURNS):
            amounts, before = _sparse_amounts(learnt, stains), stains
            gram, cross = amounts.T @ amounts, amounts.T @ learnt
            stains = stains.copy()
            for at in (0, 1):
                if gram[at, at] > 0:
                    step = np.maximum(stains[at] + (cross[at] - gram[at] @ stains) / gram[at, at], 0)
                    stains[at] = step / max(1.0, float(np.linalg.norm(step)))
            if np.abs(stains - before).max() < _SETTLED:
                break
        # Two stains that are one: a tenth of a radian between them, as in Macenko's.
        lengths = np.linalg.norm(stains, axis=1, keepdims=True)
        stains = stains / np.maximum(lengths, 1e-12)
        if lengths.min() < 1e-6 or stains[0] @ stains[1] > np.cos(0.1):
            stains = np.reshape(Macenko.fit(rgb).stains, (2, 3))
        stains = stains[np.argsort(-stains[:, 0])]
        most = np.percentile(_sparse_amounts(od, stains, 0), _HIGH, axis=0)
        return cls(_plain(stains.ravel()), _plain(np.maximum(most, 0.05)))

    def apply(self, rgb: Pixels, target: Vahadane) -> Pixels:
        """float (n, 3) pixels, 0 to 255, as the target would show them."""
        # Sparse only while stains are learnt: what is shown must not be paler for it.
        amounts = _sparse_amounts(_density(rgb), np.reshape(self.stains, (2, 3)), 0)
        amounts *= np.minimum(np.array(target.most) / self.most, _MOST_STRETCH)
        return WHITE * np.exp(-amounts @ np.reshape(target.stains, (2, 3)))


Stain = Reinhard | Macenko | Vahadane
STAINS: dict[str, Any] = {"reinhard": Reinhard, "macenko": Macenko, "vahadane": Vahadane}


def white_balanced(rgb: Pixels, glass: Sequence[float] | NDArray[np.float64]) -> Pixels:
    """float (n, 3): every channel multiplied so that empty glass is ``WHITE``; ``glass`` is its level before."""
    return rgb * (WHITE / np.maximum(glass, 1.0))


def _stained(rgb: Pixels) -> tuple[Pixels, Pixels]:
    """Optical densities (n, 3) in an order of their own, whatever that of the pixels is; and those with any stain."""
    od = _density(rgb)
    od = od[np.lexsort(od.T)]
    stained = od[(od > _STAINED).any(axis=1)]
    return od, stained if len(stained) >= 3 else od


def _density(rgb: Pixels) -> Pixels:
    """OD against white-balanced glass, (n, 3), from 0."""
    return np.maximum(np.log(WHITE / np.maximum(rgb, 1.0)), 0)


def _amounts(od: Pixels, stains: NDArray[np.float64]) -> Pixels:
    """Least-squares amounts (n, 2) of two stains (2, 3)."""
    return od @ np.linalg.pinv(stains)


def _sparse_amounts(od: Pixels, stains: NDArray[np.float64], sparsity: float = _SPARSITY) -> Pixels:
    """Amounts (n, 2) from 0 that minimise |od - amounts stains|**2 / 2 + ``sparsity`` |amounts|, exactly.

    Of two numbers from 0 the least is where both are above it, where one is, or where none is: the first of these that
    fits is it, since what is minimised is convex.
    """
    gram, pull = stains @ stains.T, od @ stains.T - sparsity
    both = pull @ np.linalg.pinv(gram)
    single = np.maximum(pull / np.maximum(np.diag(gram), 1e-12), 0)
    # Where not both are above 0, the better of either alone.
    gain = single * np.maximum(pull, 0)
    alone = np.where(gain[:, :1] >= gain[:, 1:], single * [1, 0], single * [0, 1])
    return np.where((both > 0).all(axis=1, keepdims=True), both, alone)


def _lab(rgb: Pixels) -> Pixels:
    scaled = np.clip(rgb / 255, 0, 1).astype(np.float32)
    return cv2.cvtColor(scaled[None], cv2.COLOR_RGB2Lab)[0].astype(np.float64)


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Plain numbers of 9 digits: what JSON holds is what is computed with."""
    return tuple(float(f"{value:.9g}") for value in values)
