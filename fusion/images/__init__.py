"""From the bytes of an image to a cell.

What an image file says before it is decoded, decoding that refuses what cannot be trusted, and the cell that
extractors measure: pixels, mask, nucleus. Where there is no mask, ``fusion.images.segmentation`` finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.images.cell import Cell as Cell
    from fusion.images.cell import make_cell as make_cell
    from fusion.images.cell import read_cell as read_cell
    from fusion.images.cell_transform import Change as Change
    from fusion.images.decoding import CellError as CellError
    from fusion.images.decoding import decode_image as decode_image
    from fusion.images.decoding import decode_mask as decode_mask
    from fusion.images.decoding import pixel_key as pixel_key
    from fusion.images.decoding import read_bytes as read_bytes
    from fusion.images.decoding import too_large as too_large
    from fusion.images.file_headers import read_header as read_header
    from fusion.images.masks import GivenMask as GivenMask
    from fusion.images.masks import read_mask as read_mask

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "cell": ["Cell", "make_cell", "read_cell"],
        "cell_transform": ["Change"],
        "decoding": [
            "CellError",
            "decode_image",
            "decode_mask",
            "pixel_key",
            "read_bytes",
            "too_large",
        ],
        "file_headers": ["read_header"],
        "masks": ["GivenMask", "read_mask"],
    },
)
