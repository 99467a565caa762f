"""Texture of the cell and of its nucleus.

One module a kind of measure: co-occurrence, runs and zones, local patterns, coarseness, chromatin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.texture.extractor import Texture as Texture

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "extractor": ["Texture"],
    },
)
