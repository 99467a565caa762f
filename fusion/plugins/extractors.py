"""What an extractor promises, and what more it may say: the core asks by these protocols, and by nothing else.

Extractors are frozen dataclasses, so that their fields are their parameters: checked, hashed and written down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fusion.data.dataset import Dataset
    from fusion.images.cell import Cell


@runtime_checkable
class Extractor(Protocol):
    """Measures cells. Never sees a path, a label or a subject.

    A frozen dataclass whose fields are plain values; every one of them changes the fingerprint, so what does not
    change the numbers (a device, a batch size) is kept out of them with ``field(metadata={"cosmetic": True})``.
    """

    #: The family's name, with which names of its blocks begin: ``texture``.
    name: ClassVar[str]
    #: Raised whenever the numbers could change for the same parameters.
    version: ClassVar[str]
    #: True for code that is best run once, in the main process, over batches (a network); others run in workers.
    in_main_process: ClassVar[bool]

    def feature_names(self) -> list[str]:
        """Names of the d columns, without the block's name, in order."""
        ...

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one row a cell; NaN where a feature is undefined for that cell, never inf."""
        ...


@runtime_checkable
class HasIdentity(Protocol):
    """An extractor that says by itself which plain values define its numbers; by default its fields do."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values, which the fingerprint is made of."""
        ...


@runtime_checkable
class StoredAsHalf(Protocol):
    """An extractor whose numbers may be float16 ones."""

    #: Whether every number that ``extract`` returns is, so that the store keeps it as such.
    half: bool


@runtime_checkable
class NeedsRedCells(Protocol):
    """An extractor that looks at the red blood cells around a cell, which are then looked for."""

    needs_red_cells: ClassVar[bool]


@dataclasses.dataclass(frozen=True)
class Description:
    """One feature in words.

    Attributes
    ----------
    name : without the block's name.
    definition : sentences.
    unit, range, source : "" where there is none; no unit means a pure number, no source our own definition.
    group : what it is filed under where a cell is explained, such as "chromatin"; "" files it under its block.
    words : its name as one says it at a microscope; "" stands for its name with blanks.
    agreement : what people see that it agrees with, and how well; "" where that was not measured.
    is_quoted : whether an explanation may name it alone; else it counts with the others of its group, as where its name
        means nothing on the stain of the cells.
    """

    name: str
    definition: str
    unit: str = ""
    range: str = ""
    source: str = ""
    group: str = ""
    words: str = ""
    agreement: str = ""
    is_quoted: bool = True


@runtime_checkable
class Describing(Protocol):
    """An extractor that says what its features are. Optional: exports and explanations are the richer for it."""

    name: ClassVar[str]
    version: ClassVar[str]

    def feature_names(self) -> list[str]:
        """As ``Extractor`` has them."""
        ...

    def describe(self) -> list[Description]:
        """One for each feature, in the order of ``feature_names``."""
        ...


@runtime_checkable
class SpatialExtractor(Protocol):
    """An extractor whose features are means over places of the image. Optional: explanations then show where."""

    name: ClassVar[str]

    def feature_names(self) -> list[str]:
        """As ``Extractor`` has them."""
        ...

    def feature_map(self, cell: Cell) -> NDArray[np.float32] | None:
        """float32 (d, h, w), whose means over the last two axes are the features; None where there is none."""
        ...

    def resample_to_cell(self, places: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb``, from a value for each of the (h, w) places."""
        ...


@runtime_checkable
class Precomputed(Protocol):
    """An extractor whose numbers were computed elsewhere, and are found by which cell it is, not by its image."""

    def rows_of(self, dataset: Dataset) -> NDArray[np.float32]:
        """float32 (n, d) of all cells of a data set."""
        ...

    def with_file(self, file: str) -> Extractor:
        """The same block for other cells, out of another file."""
        ...


@runtime_checkable
class HasEncoder(Protocol):
    """An extractor or classifier whose network was pretrained by others."""

    def encoder(self) -> str | None:
        """Its name in the register of encoders; None where it is not known, or has learnt nothing."""
        ...


@runtime_checkable
class HasDoubts(Protocol):
    """An extractor of which it is not known what it has learnt from."""

    def doubts(self, dataset: Dataset) -> str:
        """What must be read with figures of it on these cells; "" where nothing is in doubt."""
        ...


@runtime_checkable
class HidesRegions(Protocol):
    """An extractor that can be asked what it gives of a part of the image. Optional: explanations then show where, also
    where features are no means over places."""

    def features_of_regions(self, cell: Cell, shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """float32 (n, d) of n images of a cell, of each only the regions that are shown, bool (n, k, k)."""
        ...

    def empty_regions(self, cell: Cell, regions: int) -> NDArray[np.bool_]:
        """bool (k, k): the regions that hold nothing but background."""
        ...


@runtime_checkable
class RollsOut(Protocol):
    """An extractor that can say how much of its features comes from where, whatever the class: attention rollout."""

    def rollout(self, cell: Cell) -> NDArray[np.float32]:
        """float32 (h, w) in [0, 1]; raises UsageError where it cannot."""
        ...


class Learnable:
    """An extractor whose weights a classifier of images can learn: ``--cnn-crossfit`` trains it anew in every fold."""

    #: Name of the registered classifier, which is a ``LearnsBlock``.
    learnt_by: ClassVar[str]


@runtime_checkable
class HasProvenance(Protocol):
    """An extractor or classifier whose weights have learnt from cells before."""

    def provenance(self) -> Mapping[str, Sequence[str]] | None:
        """Hashes of what it has learnt from; None where nothing is known."""
        ...


@runtime_checkable
class HasInput(Protocol):
    """A class of extractors or classifiers that look at images, of which ``--input`` says what they are shown."""

    #: The parameter that says so, dots leading into mappings: ``network.input``.
    input_parameter: ClassVar[str]


@runtime_checkable
class HasWeights(Protocol):
    """A class of extractors whose network the user chooses by ``--weights`` and ``--backbone``: two of its parameters,
    each with a default."""

    weights: str
    backbone: str | None


@runtime_checkable
class HasParameterGroups(Protocol):
    """A plug-in of which some parameters are mappings with keys of their own. Optional: fusion settings lists them."""

    #: Parameter -> the dataclass that its keys are fields of.
    parameter_groups: ClassVar[Mapping[str, type]]
