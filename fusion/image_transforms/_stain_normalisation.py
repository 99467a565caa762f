"""Stain normalisation by Reinhard's statistics in Lab, and white balance by empty glass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float64]

#: Grey level of empty glass after white balance, and where none is seen before it.
WHITE = 245.0


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
        """From float (n, 3) sampled pixels, 0 to 255; their order does not matter to the last bit."""
        lab = np.sort(_lab(rgb), axis=0)
        return cls(_plain(lab.mean(axis=0)), _plain(np.maximum(lab.std(axis=0), 0.5)))

    def apply(self, rgb: Pixels, target: Reinhard) -> Pixels:
        """float (n, 3) pixels, 0 to 255, as the target would show them."""
        lab = (_lab(rgb) - self.mean) * (np.array(target.spread) / self.spread) + target.mean
        lab[:, 0] = np.clip(lab[:, 0], 0, 100)
        back = cv2.cvtColor(lab.astype(np.float32)[None], cv2.COLOR_Lab2RGB)[0]
        return back.astype(np.float64) * 255


def white_balanced(rgb: Pixels, glass: Sequence[float] | NDArray[np.float64]) -> Pixels:
    """float (n, 3): every channel multiplied so that empty glass is ``WHITE``; ``glass`` is its level before."""
    return rgb * (WHITE / np.maximum(glass, 1.0))


def _lab(rgb: Pixels) -> Pixels:
    scaled = np.clip(rgb / 255, 0, 1).astype(np.float32)
    return cv2.cvtColor(scaled[None], cv2.COLOR_RGB2Lab)[0].astype(np.float64)


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Plain numbers of 9 digits: what JSON holds is what is computed with."""
    return tuple(float(f"{value:.9g}") for value in values)
