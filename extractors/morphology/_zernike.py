"""Zernike magnitudes of a region: what it is made of in waves round its centre and from its centre outwards."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.morphology._region import DEGREE, Region

Values = NDArray[np.float64]

#: (degree, repetition). The first two of all are left out: from the centroid they are 1 / pi and 0 for every region.
ZERNIKE_ORDERS = tuple((n, m) for n in range(2, DEGREE + 1) for m in range(n % 2, n + 1, 2))


def zernike(region: Region) -> Values:
    """abs((n + 1) / pi sum(V_nm) / A), V_nm = R_nm(r) exp(i m phi) of each of the A pixels, seen from the centroid.

    The unit of r is the distance from the centroid to the farthest pixel plus a half, so that all of the region counts
    and its size does not. n is the degree, up to 8, and m the repetition. Unit: none.  Range: 0, as for a wide disc, to
    (n + 1) / pi. The same as ``mahotas.features.zernike_moments`` with that radius.
    Source: Teague (1980), J. Opt. Soc. Am. 70(8):920-930.
    """
    # Exact, without a polynomial at every pixel: a Zernike polynomial is a sum of powers, and so their mean over the
    # region is a sum of moments.
    real, imaginary = (_FROM_MOMENTS @ region.moments.ravel() / region.area).reshape(2, -1)
    return np.hypot(real, imaginary)


def _polynomial(degree: int, repetition: int) -> NDArray[np.complex128]:
    """complex128 (DEGREE + 1, DEGREE + 1), the factor of y**q x**p in (n + 1) / pi V_nm at [q, p]."""
    factors = np.zeros((DEGREE + 1, DEGREE + 1), np.complex128)
    for s in range((degree - repetition) // 2 + 1):
        radial = (-1) ** s * math.factorial(degree - s) / math.factorial(s)
        radial /= math.factorial((degree + repetition) // 2 - s) * math.factorial((degree - repetition) // 2 - s)
        # r**(n - 2 s) exp(i m phi) = (x + i y)**m (x**2 + y**2)**squares
        squares = (degree - repetition) // 2 - s
        for j in range(repetition + 1):
            for k in range(squares + 1):
                q = j + 2 * k
                times = math.comb(repetition, j) * math.comb(squares, k)
                factors[q, degree - 2 * s - q] += radial * times * 1j**j
    return factors * (degree + 1) / math.pi


_POLYNOMIALS = np.stack([_polynomial(*order).ravel() for order in ZERNIKE_ORDERS])
_FROM_MOMENTS = np.concatenate([_POLYNOMIALS.real, _POLYNOMIALS.imag])
