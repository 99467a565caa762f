"""From an image to masks of the white cell and of its nucleus.

One module a kind of image (a cell on black, a field of a smear), one for the nucleus, one for the best closed
contour, and the geometry and thresholds that they share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.images.segmentation.segment import segment_cell as segment_cell
    from fusion.images.segmentation.segment import segment_nucleus as segment_nucleus

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "segment": ["segment_cell", "segment_nucleus"],
    },
)
