"""The two protocols and how their implementations are found.

An extractor or a classifier is any class registered under the entry-point group ``fusion.extractors`` or
``fusion.classifiers``. The built-in ones are registered in ``setup.cfg`` exactly as a stranger's would be.
Extractors are frozen dataclasses, so that their fields are their parameters: checked, hashed and written down.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import FusionError, UsageError, did_you_mean

if TYPE_CHECKING:
    from fusion.cells import Cell


class PluginError(FusionError):
    """A registered plug-in does not load or does not keep the protocol."""


@runtime_checkable
class Extractor(Protocol):
    """Measures cells. Never sees a path, a label or a subject.

    A frozen dataclass whose fields are plain values; every one of them changes the fingerprint, so what does not
    change the numbers (a device, a batch size) is kept out of them with ``field(metadata={"cosmetic": True})``.

    A field ``half`` is optional: where it is true, every number that ``extract`` returns is a float16 one, and the
    store keeps it as such.
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


@dataclasses.dataclass(frozen=True)
class Description:
    """One feature in words.

    Attributes
    ----------
    name : without the block's name.
    definition : sentences.
    unit, range, source : "" where there is none; no unit means a pure number, no source our own definition.
    """

    name: str
    definition: str
    unit: str = ""
    range: str = ""
    source: str = ""


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
class Placing(Protocol):
    """An extractor whose features are means over places of the picture. Optional: explanations then show where."""

    name: ClassVar[str]

    def feature_names(self) -> list[str]:
        """As ``Extractor`` has them."""
        ...

    def feature_map(self, cell: Cell) -> NDArray[np.float32] | None:
        """float32 (d, h, w), whose means over the last two axes are the features; None where there is none."""
        ...

    def laid_back(self, places: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb``, from a value for each of the (h, w) places."""
        ...


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


@runtime_checkable
class HasParameterGroups(Protocol):
    """A plug-in of which some parameters are mappings with keys of their own. Optional: fusion settings lists them."""

    #: Parameter -> the dataclass that its keys are fields of.
    parameter_groups: ClassVar[Mapping[str, type]]


EXTRACTORS, CLASSIFIERS = "fusion.extractors", "fusion.classifiers"


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
    return _points(group, tuple(sys.path))


@functools.cache
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=_built_in_first))


def build_extractor(name: str, params: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor registered as ``name`` with these parameters.

    Raises
    ------
    UsageError : unknown name, unknown parameter, or a value that the extractor refuses.
    PluginError : the plug-in does not import or does not keep the protocol.
    """
    extractor = _build(EXTRACTORS, name, params or {})
    if not isinstance(extractor, Extractor) or not dataclasses.is_dataclass(extractor):
        wanted = "a frozen dataclass with name, version, in_main_process, feature_names, extract"
        raise PluginError(f"extractor '{name}' does not keep the protocol", expected=wanted)
    if extractor.name != name:
        raise PluginError(f"extractor '{name}' calls itself '{extractor.name}'", do="Register it under its own name.")
    return extractor


def build_classifier(name: str, params: Mapping[str, Any] | None = None) -> Classifier:
    """An unfitted classifier registered as ``name``; raises as ``build_extractor`` does."""
    classifier = _build(CLASSIFIERS, name, params or {})
    missing = [part for part in ("prepares", "fit", "predict_proba", "save", "load") if not hasattr(classifier, part)]
    if missing:
        raise PluginError(f"classifier '{name}' does not keep the protocol", found=f"no {', '.join(missing)}")
    return classifier


def classifier_class(name: str) -> type[Classifier]:
    """The class registered as ``name``, to load a stored classifier with."""
    return _load(CLASSIFIERS, name)


def identity(extractor: Extractor) -> dict[str, Any]:
    """The plain values that define an extractor's numbers: its own ``identity()``, else its non-cosmetic fields."""
    own = getattr(extractor, "identity", None)
    if own is not None:
        return dict(own())
    fields = dataclasses.fields(extractor)  # type: ignore[arg-type]  # the protocol says dataclass; types cannot
    return {field.name: getattr(extractor, field.name) for field in fields if not field.metadata.get("cosmetic")}


def stored_as(extractor: Extractor) -> type[np.floating[Any]]:
    """What the store keeps an extractor's numbers as: float16 where it promises nothing finer, else float32."""
    return np.float16 if getattr(extractor, "half", False) else np.float32


def fingerprint(extractor: Extractor, preparation: str) -> str:
    """32 hex digits that change whenever the extractor's numbers could.

    Made of name, version, identity and ``preparation``, the version of what turns a picture into a cell: another
    segmentation is another feature.
    """
    content = [extractor.name, extractor.version, preparation, identity(extractor)]
    # sha256 cut to 128 bits: no two fingerprints of one store will ever meet, and paths stay readable.
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()[:32]


def _build(group: str, name: str, params: Mapping[str, Any]) -> Any:
    kind = _load(group, name)
    word = "extractor" if group == EXTRACTORS else "classifier"
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
    return set(kind().get_params())


def _load(group: str, name: str) -> Any:
    found = [point for point in points(group) if point.name == name]
    if not found:
        word = "extractor" if group == EXTRACTORS else "classifier"
        known = names(group)
        raise UsageError(f"unknown {word} '{name}'", expected=", ".join(known), do=did_you_mean(name, known))
    if len({point.value for point in found}) > 1:
        raise PluginError(f"two plug-ins are registered as '{name}'", found=", ".join(p.value for p in found))
    try:
        return found[0].load()
    except Exception as error:  # a stranger's module can fail in any way; its name must be in the message
        raise PluginError(
            f"plug-in '{name}' does not import", found=f"{type(error).__name__}: {error}", do=f"See {found[0].value}."
        ) from error


def _built_in_first(point: EntryPoint) -> tuple[bool, str]:
    own = point.dist is not None and point.dist.name == "fusion-cells"
    return (not own, "" if own else point.name)
