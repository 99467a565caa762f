"""Size and shape of the cell and of its nucleus.

One module a kind of measure: contour and its curvature, Zernike moments, fractal dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.morphology.extractor import Morphology as Morphology

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "extractor": ["Morphology"],
    },
)
