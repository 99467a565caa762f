"""The extractor ``control``: an untrained network, the mean colour, the size of the cell."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors.cnn.extractor import Embedding
from fusion.images.cell import Cell

#: What a comparison can be controlled by.
KINDS = ("random", "colour", "size")


class Untrained(Embedding):
    """The network of a block with random weights instead of its own, and all else as it is there."""

    @functools.cached_property
    def _source(self) -> str:
        return f"random:{self.seed}"

    def load(self, **options: Any) -> Any:
        """The network on the CPU with its random weights."""
        from extractors.cnn.backbone import untrained_backbone

        return untrained_backbone(self.backbone_config, self.seed)


@dataclass(frozen=True)
class Control:
    """A handful of values, or an untrained network, that an entry of a comparison is held against.

    Attributes
    ----------
    kind : "random", the embedding of an untrained network: what its architecture and the image's own statistics tell;
        "colour", mean red, green and blue of the cell; "size", its area in pixels.
    network : of "random", parameters of the block ``cnn`` that it is the control of, as JSON.

    Raises
    ------
    ValueError : another kind, or no parameters where they are needed.
    """

    name: ClassVar[str] = "control"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = True

    kind: str
    network: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be {', '.join(KINDS)}, not {self.kind!r}")
        if self.kind == "random" and self.network is None:
            raise ValueError("network must be given: parameters of the block that an untrained network is to control")

    @functools.cached_property
    def _untrained(self) -> Untrained:
        return Untrained(**json.loads(self.network or "{}"))

    def __getstate__(self) -> dict[str, Any]:
        """The parameters alone."""
        return {"kind": self.kind, "network": self.network}

    def identity(self) -> dict[str, Any]:
        """The plain values that the numbers depend on."""
        if self.kind != "random":
            return {"kind": self.kind}
        return {"kind": self.kind, **self._untrained.identity()}

    def feature_names(self) -> list[str]:
        """Names of the values."""
        if self.kind == "random":
            return self._untrained.feature_names()
        return ["red", "green", "blue"] if self.kind == "colour" else ["area"]

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d)."""
        if self.kind == "random":
            return self._untrained.extract(cells)
        if self.kind == "size":
            return np.array([[cell.mask.sum()] for cell in cells], np.float32).reshape(len(cells), 1)
        return np.array([cell.rgb[cell.mask].mean(axis=0) for cell in cells], np.float32).reshape(len(cells), 3)
