"""The three protocols and how their implementations are found.

An extractor, a classifier or a segmenter is any class registered under the entry-point group ``fusion.extractors``,
``fusion.classifiers`` or ``fusion.segmenters``. The built-in ones are registered in ``setup.cfg`` exactly as a
stranger's would be.
Extractors are frozen dataclasses, so that their fields are their parameters: checked, hashed and written down.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.dependencies import NETWORK_PACKAGES, missing_package
from fusion.errors import FusionError, UsageError, did_you_mean

if TYPE_CHECKING:
    from fusion.bundles.onnx_graph import Graph
    from fusion.data.classifier_inputs import CellInputs
    from fusion.data.dataset import Dataset
    from fusion.data.patients.bags import Bags
    from fusion.features.image_cache import InputTransform
    from fusion.images.cell import Cell
    from fusion.learning.shared_distances import Distances, DistancesOfRows


class PluginError(FusionError):
    """A registered plug-in does not load or does not keep the protocol."""


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

    def doubts(self) -> str:
        """What must be read with figures of it; "" where nothing is in doubt."""
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
class Classifier(Protocol):
    """A scikit-learn classifier that also knows its groups and can be stored without pickle."""

    #: How the fusion layer prepares its input: "standard" (scaled, imputed, equal block weights) or "raw".
    prepares: ClassVar[str]
    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on (n, d) floats and n labels; whatever is held out inside respects ``groups``."""
        ...

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes), rows summing to 1, columns as in ``classes_``."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted classifier into an existing folder, without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; refuses anything that is not on its list."""
        ...


# ---- what a classifier may do beyond that: the core asks by these, and by nothing else -------------------------------


@runtime_checkable
class HoldsOut(Protocol):
    """A classifier that scores held-out cells while it is fitted, as an SVM does for its sigmoid."""

    def fit_held_out(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike, parts: Parts) -> Self:
        """Fit as ``fit`` does, with what ``parts`` gives for every fold that is held out."""
        ...


class Parts(Protocol):
    """Features of both sides of a fold inside the training part, where a slice of the training rows will not do."""

    def __call__(
        self, train: NDArray[np.intp], test: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float (train, d) to learn from and float (test, d) to score, of these training rows."""
        ...


@runtime_checkable
class Searches(Protocol):
    """A fitted classifier that may have chosen parameters by folds inside its training part."""

    #: What was chosen; empty without a search.
    chosen_: Mapping[str, float]


@runtime_checkable
class FitsDistances(Protocol):
    """A classifier that can be fitted on squared distances between cells, which sets of blocks share."""

    @property
    def fits_distances(self) -> bool:
        """Whether it can with the parameters that it has."""
        ...

    def fit_distances(
        self,
        distances: Distances | DistancesOfRows,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        X: ArrayLike | None = None,
    ) -> Self:
        """Fit on the training rows of ``distances`` and n labels.

        ``X`` are these rows, for a model that is stored and asked of any row; None for one that is not.
        """
        ...

    def predict_proba_distances(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (n, classes) for these rows of the distances that were fitted."""
        ...


@runtime_checkable
class GrowsFaster(Protocol):
    """A classifier whose fits take longer than in proportion to the cells: what is told beforehand goes by it."""

    @property
    def growth(self) -> float:
        """The power of the number of cells in which the time of a fit grows."""
        ...


@runtime_checkable
class ReadsBatches(Protocol):
    """A classifier that can be fitted on rows which are read batch by batch and never all in memory."""

    def batches_by(self) -> str:
        """The parameter by which it does so, "" where it does not.

        Raises
        ------
        UsageError : the parameter's value cannot be: an address that is none, for example.
        """
        ...


@runtime_checkable
class TakesBags(Protocol):
    """A classifier of patients: it is fitted on n ``Bags`` of cells and n labels, and asked of bags, where others are
    given a row each."""

    #: True; what tells such a class from one of rows.
    takes_bags: ClassVar[bool]


@runtime_checkable
class Attends(Protocol):
    """A classifier of patients that says how much it looks at each cell."""

    def attention(self, X: Bags) -> list[NDArray[np.float64]]:
        """For each of n bags float64 (k,), a weight for each of its cells, 1 in sum."""
        ...


@runtime_checkable
class Contributes(Protocol):
    """A classifier that says what each column adds to each class's margin: trees, by tree SHAP."""

    def contributions(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes, d + 1); last, what all cells begin with."""
        ...


@runtime_checkable
class Linear(Protocol):
    """A classifier whose margins are weighted sums."""

    def linear_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64 (classes, d) and (classes,): each class's margin is ``weights @ x + intercept``."""
        ...


@runtime_checkable
class ToOnnx(Protocol):
    """A classifier that can be exported as part of an ONNX graph."""

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add it to a graph; the name of float64 (n, classes) for the float (n, d) called ``rows``."""
        ...


@runtime_checkable
class HasTrialRows(Protocol):
    """A classifier that knows on which rows two forms of it would differ first."""

    def trial_rows(self, n: int, draw: np.random.Generator) -> NDArray[np.float32]:
        """float32 (n, d)."""
        ...


@runtime_checkable
class HasProvenance(Protocol):
    """An extractor or classifier whose weights have learnt from cells before."""

    def provenance(self) -> Mapping[str, Sequence[str]] | None:
        """Hashes of what it has learnt from; None where nothing is known."""
        ...


@runtime_checkable
class MindsSources(Protocol):
    """A classifier that may judge cells of a new source by all of them together."""

    @property
    def judges_together(self) -> bool:
        """Whether it does, with the parameters that it has."""
        ...

    def notes(self, sources: Sequence[str | None]) -> list[str]:
        """Stamps for a result on cells of these sources."""
        ...


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
class HasSearch(Protocol):
    """A classifier that can choose its parameters by folds inside its training part: ``--search``."""

    #: Whether it does; and by how many trials, 0 being by a grid.
    search: bool
    trials: int


@runtime_checkable
class HasLandmarks(Protocol):
    """A classifier that can approximate its kernel by some of many training cells."""

    #: How many; 0 is exact.
    landmarks: int


@runtime_checkable
class HasScheduler(Protocol):
    """A classifier that the workers of a Dask scheduler can fit: ``--scheduler``."""

    #: Address of the scheduler; None fits it here.
    scheduler: str | None


@runtime_checkable
class HasParameterGroups(Protocol):
    """A plug-in of which some parameters are mappings with keys of their own. Optional: fusion settings lists them."""

    #: Parameter -> the dataclass that its keys are fields of.
    parameter_groups: ClassVar[Mapping[str, type]]


EXTRACTORS, CLASSIFIERS, SEGMENTERS = "fusion.extractors", "fusion.classifiers", "fusion.segmenters"


def names(group: str) -> list[str]:
    """Names registered under an entry-point group, each once: the built-in ones first."""
    return list(dict.fromkeys(point.name for point in points(group)))


def registered(group: str) -> list[tuple[str, str, str]]:
    """(name, class, distribution and version) of everything registered under ``group``, for ``fusion plugins``."""
    return [
        (point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "unknown")
        for point in points(group)
    ]


def points(group: str) -> tuple[EntryPoint, ...]:
    """Everything registered under ``group``, the built-in first; looked for once, until ``sys.path`` changes."""
    return _points(tuple(sys.path)).get(group, ())


@functools.cache
def _points(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """By group, from one look at every installed distribution."""
    everything = entry_points()
    return {
        group: tuple(sorted(everything.select(group=group), key=_built_in_first))
        for group in (EXTRACTORS, CLASSIFIERS, SEGMENTERS)
    }


def kind_of(group: str) -> str:
    """What is registered under a group: "extractor"."""
    return group.rpartition(".")[2].removesuffix("s")


def build_extractor(name: str, params: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor registered as ``name`` with these parameters.

    Raises
    ------
    UsageError : unknown name, unknown parameter, or a value that the extractor refuses.
    PluginError : the plug-in does not import or does not keep the protocol.

    Examples
    --------
    >>> len(extractor("texture").feature_names())  # doctest: +SKIP
    605
    """
    extractor = _build(EXTRACTORS, name, params or {})
    if not isinstance(extractor, Extractor) or not dataclasses.is_dataclass(extractor):
        wanted = "a frozen dataclass with name, version, in_main_process, feature_names, extract"
        raise PluginError(f"extractor '{name}' does not keep the protocol", expected=wanted)
    if extractor.name != name:
        raise PluginError(f"extractor '{name}' calls itself '{extractor.name}'", do="Register it under its own name.")
    return extractor


def build_classifier(name: str, params: Mapping[str, Any] | None = None) -> Classifier:
    """An unfitted classifier registered as ``name``; raises as ``build_extractor`` does.

    Examples
    --------
    >>> classifier("logreg").prepares  # doctest: +SKIP
    'standard'
    """
    classifier: Classifier = _build(CLASSIFIERS, name, params or {})
    missing = [part for part in ("prepares", "fit", "predict_proba", "save", "load") if not hasattr(classifier, part)]
    if missing:
        raise PluginError(f"classifier '{name}' does not keep the protocol", found=f"no {', '.join(missing)}")
    return classifier


def build_segmenter(name: str, params: Mapping[str, Any] | None = None) -> Segmenter:
    """The segmenter registered as ``name`` with these parameters; raises as ``build_extractor`` does.

    Examples
    --------
    >>> build_segmenter("rules").name
    'rules'
    """
    segmenter = _build(SEGMENTERS, name, params or {})
    if not isinstance(segmenter, Segmenter) or not dataclasses.is_dataclass(segmenter):
        wanted = "a frozen dataclass with name, version, segment"
        raise PluginError(f"segmenter '{name}' does not keep the protocol", expected=wanted)
    return segmenter


def learner_of(extractor: str) -> str | None:
    """The registered classifier whose networks can learn an extractor's block, as its ``learnt_by`` says; or None.

    Raises
    ------
    UsageError : an unknown extractor.
    """
    kind = _load(EXTRACTORS, extractor)
    return kind.learnt_by if issubclass(kind, Learnable) else None


def classifier_class(name: str) -> type[Classifier]:
    """The class registered as ``name``, to load a stored classifier with."""
    found: type[Classifier] = _load(CLASSIFIERS, name)
    return found


def identity(extractor: Extractor) -> dict[str, Any]:
    """The plain values that define an extractor's numbers: its own ``identity()``, else its non-cosmetic fields."""
    if isinstance(extractor, HasIdentity):
        return dict(extractor.identity())
    fields = dataclasses.fields(extractor)  # type: ignore[arg-type]  # the protocol says dataclass; types cannot
    return {field.name: getattr(extractor, field.name) for field in fields if not field.metadata.get("cosmetic")}


def stored_as(extractor: Extractor) -> type[np.floating[Any]]:
    """What the store keeps an extractor's numbers as: float16 where it promises nothing finer, else float32."""
    return np.float16 if isinstance(extractor, StoredAsHalf) and extractor.half else np.float32


def fingerprint(extractor: Extractor, preparation: str) -> str:
    """32 hex digits that change whenever the extractor's numbers could.

    Made of name, version, identity and ``preparation``, the version of what turns an image into a cell: another
    segmentation is another feature.
    """
    content = [extractor.name, extractor.version, preparation, identity(extractor)]
    # sha256 cut to 128 bits: no two fingerprints of one store will ever meet, and paths stay readable.
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()[:32]


def _build(group: str, name: str, params: Mapping[str, Any]) -> Any:
    kind = _load(group, name)
    word = kind_of(group)
    known = sorted(_parameters(kind))
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise UsageError(
            f"unknown parameter of {word} '{name}'",
            found=", ".join(unknown),
            expected=", ".join(known) or "none",
            do=did_you_mean(unknown[0], known),
        )
    try:
        if dataclasses.is_dataclass(kind):
            from pydantic import TypeAdapter, ValidationError

            try:
                return TypeAdapter(kind).validate_python(dict(params))
            except ValidationError as error:
                raise ValueError("; ".join(_readable(e) for e in error.errors())) from error
        return kind(**params)
    except (ValueError, TypeError) as error:
        raise UsageError(f"wrong parameter of {word} '{name}'", found=str(error)) from error


def _readable(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def plugin_class(group: str, name: str) -> type:
    """The class registered as ``name``; raises as ``build_extractor`` does."""
    found: type = _load(group, name)
    return found


def parameters(group: str, name: str) -> set[str]:
    """Names of the parameters that a registered plug-in takes."""
    return _parameters(_load(group, name))


def _parameters(kind: Any) -> set[str]:
    if dataclasses.is_dataclass(kind):
        return {f.name for f in dataclasses.fields(kind) if f.init}
    return set(kind().get_params()) if hasattr(kind, "get_params") else set()


def _one_of_several(word: str, name: str) -> str:
    """What to do where several were given in place of one."""
    if word == "classifier" and "," in name:
        return "One classifier is trained; fusion ablate --classifiers compares several."
    return ""


def _load(group: str, name: str) -> Any:
    found = [point for point in points(group) if point.name == name]
    if not found:
        word = kind_of(group)
        known = names(group)
        raise UsageError(
            f"unknown {word} '{name}'",
            expected=", ".join(known),
            do=_one_of_several(word, name) or did_you_mean(name, known),
        )
    if len({point.value for point in found}) > 1:
        raise PluginError(f"two plug-ins are registered as '{name}'", found=", ".join(p.value for p in found))
    try:
        return found[0].load()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in NETWORK_PACKAGES:
            raise missing_package(error) from error
        raise _broken(found[0], error) from error
    except Exception as error:  # a stranger's module can fail in any way; its name must be in the message
        raise _broken(found[0], error) from error


def _broken(point: EntryPoint, error: Exception) -> PluginError:
    return PluginError(
        f"plug-in '{point.name}' does not import", found=f"{type(error).__name__}: {error}", do=f"See {point.value}."
    )


def _built_in_first(point: EntryPoint) -> tuple[bool, str]:
    own = point.dist is not None and _name_of(point.dist) == "fusion-cells"
    return (not own, "" if own else point.name)


@functools.cache
def _name_of(distribution: Distribution) -> str:
    """Its name, for which its whole description is parsed: once for all that it registers."""
    return str(distribution.name)
