"""Fusion's own segmentation as a segmenter among others: the white cell in the middle, found by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.images.masks import CYTOPLASM_VALUE, NUCLEUS_VALUE
from fusion.images.segmentation.segment import VERSION, segment_cell, segment_nucleus


@dataclass(frozen=True)
class Rules:
    """What every command finds by itself where no mask is given.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:64, :64] - 31.5
    >>> Rules().segment(np.where((np.hypot(y, x) < 20)[..., None], np.uint8([90, 40, 120]), np.uint8(0)))[0].max()
    np.uint8(255)
    """

    name: ClassVar[str] = "rules"
    version: ClassVar[str] = VERSION

    def segment(self, rgb: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
        """One mask uint8 (H, W), 0 background, 128 cytoplasm, 255 nucleus; none where no cell is found."""
        cell = segment_cell(rgb)
        if not cell.any():
            return []
        mask = np.where(cell, np.uint8(CYTOPLASM_VALUE), np.uint8(0))
        mask[segment_nucleus(rgb, cell)] = NUCLEUS_VALUE
        return [mask]
