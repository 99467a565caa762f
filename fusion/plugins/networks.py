"""What a classifier of images promises: a network, which is given cells' images beside their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from fusion.data.classifier_inputs import CellInputs
    from fusion.features.image_cache import InputTransform
    from fusion.images.cell import Cell


@runtime_checkable
class ExplainsImages(Protocol):
    """A classifier of images that says what it looks at in one cell."""

    def attention_map(
        self, cell: Cell, target: object = None, method: str = ..., features: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """float32 (H, W) in [0, 1] over ``cell.rgb``: where it looks for a class."""
        ...

    def predict_proba_variants(self, image: NDArray[np.uint8], X: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 (n, classes) for n rows of features of the cell in one image, uint8 (S, S, 3)."""
        ...


@runtime_checkable
class NetworkToOnnx(Protocol):
    """A classifier of images that is exported whole."""

    def to_onnx_network(self, columns: int) -> tuple[bytes, CellInputs]:
        """The network as an ONNX file, and made-up cells to try it on."""
        ...


class TrainingLog(Protocol):
    """Told of every epoch of a training."""

    def __call__(self, epoch: int, values: Mapping[str, float], /) -> None:
        """Number and values of an epoch."""
        ...


class Watch(Protocol):
    """Told of every step of a training."""

    def __call__(self, epoch: int, epochs: int, step: int, steps: int, /) -> None:
        """Where the training is."""
        ...


@runtime_checkable
class TakesImages(Protocol):
    """A classifier that is given cells' images beside their blocks, and fuses both by itself."""

    #: Where it is trained: "auto", "cpu", "cuda", ...
    device: str

    def input_transform(self) -> InputTransform:
        """How a cell becomes the image that it is given; checks all settings on the way."""
        ...

    def fit(
        self,
        X: CellInputs,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        watch: Watch | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        log: TrainingLog | None = None,
    ) -> Self:
        """Train; every epoch is kept in the folder ``checkpoint``, from which ``resume`` goes on."""
        ...

    def predict_proba(self, X: CellInputs) -> NDArray[np.float64]:
        """float64 (n, classes)."""
        ...

    def describe(self) -> str:
        """A sentence for the notes of a result."""
        ...

    def has_map(self) -> bool:
        """Whether it can show where it looks; needs no weights."""
        ...

    def show_batch(self, inputs: CellInputs, labels: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 RGB: cells as it is given them, and augmented as in training."""
        ...

    def show_attention(self, inputs: CellInputs, labels: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 RGB: some cells, and where it looks in them."""
        ...


@runtime_checkable
class AdaptsToSites(TakesImages, Protocol):
    """A classifier of images that a few labelled cells of another site bring there; it is itself left as it is."""

    def head_inputs(self, X: CellInputs) -> NDArray[np.float32]:
        """float32 (n, turns, w): what its head is given of each cell, in each way that the cell is looked at."""
        ...

    def judge_head_inputs(self, given: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 (n, classes), as ``predict_proba`` has it, of what ``head_inputs`` gave."""
        ...

    def sees_as(self, other: object) -> bool:
        """Whether the other's ``head_inputs`` are its own."""
        ...

    def with_refitted_head(self, given: NDArray[np.float32], y: ArrayLike) -> Self:
        """The same with a head of its own for what ``head_inputs`` gave of labelled cells, every class among them."""
        ...

    def fine_tuned(self, X: CellInputs, y: ArrayLike) -> Self:
        """The same after a few epochs more, on labelled cells."""
        ...

    def new_sites(self, sources: Sequence[str | None]) -> dict[str, NDArray[np.intp]]:
        """Rows of each site that it could keep what it looks like of, and has not; none where it keeps nothing."""
        ...

    def at_site(self, X: CellInputs) -> Self:
        """The same at home where these cells are from: what it says of one no longer depends on others."""
        ...


@runtime_checkable
class HasHistory(Protocol):
    """A fitted network that says how its training went."""

    #: Of every epoch "loss", the mean over its batches, and "score", macro F1 on cells kept back, None without any.
    history_: list[dict[str, float | None]]


@runtime_checkable
class LearnsBlock(TakesImages, Protocol):
    """A classifier of images whose network can serve as a block of features: see ``Extractor.learnt_by``."""

    @classmethod
    def params_for_block(cls, block: str, own: Mapping[str, Any], extractor: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a network behind ``block``, from its own and those of the block's extractor.

        Raises
        ------
        UsageError : a parameter that such a network cannot have.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """Plain values that a training depends on beside its cells and seed."""
        ...

    def embed(self, inputs: CellInputs) -> NDArray[np.float32]:
        """float32 (n, channels): what the block is."""
        ...

    def remember(self, provenance: Mapping[str, Sequence[str]]) -> None:
        """Keep hashes of what was trained on; they travel with the weights."""
        ...

    def write_backbone(self, path: Path) -> dict[str, Any]:
        """Write the weights, and return the parameters of the block's extractor that sees by them."""
        ...
