"""What a segmenter promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Segmenter(Protocol):
    """Finds the white cells of an image, by rules or by a network; ``fusion segment`` writes them down as masks.

    A frozen dataclass whose fields are its parameters.
    """

    #: The name it is registered under.
    name: ClassVar[str]
    #: Raised whenever a mask could change for the same parameters.
    version: ClassVar[str]

    def segment(self, rgb: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
        """Of an image uint8 (H, W, 3) a mask uint8 (H, W) for each cell, the one to measure first: 0 background, 128
        cytoplasm, 255 nucleus, or 0 and 255 where it finds whole cells only. None for an image without a cell."""
        ...
