"""Colour of the cell, its nucleus and its cytoplasm, and vacuoles.

The colour spaces, the loops over distinct colours, and the search for vacuoles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.colour.extractor import Colour as Colour
    from extractors.colour.extractor import Distributions as Distributions
    from extractors.colour.extractor import Hue as Hue

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "extractor": ["Colour", "Distributions", "Hue"],
    },
)
