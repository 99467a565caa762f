"""How extractors, classifiers and segmenters are found, built and told apart.

One is any class registered under the entry-point group ``fusion.extractors``, ``fusion.classifiers`` or
``fusion.segmenters``. The built-in ones are registered in ``setup.cfg`` exactly as a stranger's would be.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import numpy as np

from fusion.dependencies import NETWORK_PACKAGES, missing_package
from fusion.errors import FusionError, UsageError, did_you_mean
from fusion.plugins.classifiers import Classifier
from fusion.plugins.extractors import Extractor, HasIdentity, Learnable, StoredAsHalf
from fusion.plugins.segmenters import Segmenter


class PluginError(FusionError):
    """A registered plug-in does not load or does not keep the protocol."""


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
        _check_numbers(kind, params)
        return kind(**params)
    except (ValueError, TypeError) as error:
        raise UsageError(f"wrong parameter of {word} '{name}'", found=str(error)) from error


def _check_numbers(kind: Any, params: Mapping[str, Any]) -> None:
    """ValueError for a text where the constructor says number; an estimator looks only once it is fitted."""
    hints = inspect.get_annotations(kind.__init__, eval_str=False)
    for name, value in params.items():
        kinds = {each.strip() for each in str(hints.get(name, "")).split("|")}
        if isinstance(value, str) and kinds <= {"int", "float", "bool", "None"}:
            raise ValueError(f"{name} is '{value}', and a number is meant")


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
