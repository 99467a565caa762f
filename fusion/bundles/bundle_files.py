"""The files of a model folder: plain arrays and plain values, each checked before anything is made of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError, UsageError
from fusion.io.files import write_atomically
from fusion.io.strict_json import parse_json

#: What a classifier says of itself.
FACTS = "classifier.json"

#: Bytes of a classifier's plain values: names of ten thousand classes take less.
_MAX_FACTS = 1 << 24

#: Bytes of the header of a file of arrays: ten thousand of them take less.
_MAX_HEADER = 1 << 22

#: Columns and classes that a model may have: far above what anyone measures, far below what exhausts memory.
_MAX_COLUMNS, _MAX_CLASSES = 10_000_000, 100_000

#: Beyond it, sums of products of two such numbers are no numbers any more.
_LARGEST = 1e100

#: Kinds of numbers, as safetensors calls them.
_KINDS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class BundleError(FusionError):
    """The model folder is damaged, incomplete, from another version, or holds something that could run code."""


class NoModelError(BundleError, UsageError):
    """What was named as a model, or as the place of one, is something else: wrong use, not a failure."""


_Described = TypeVar("_Described")


@dataclass(frozen=True)
class Kept:
    """What a file of arrays must hold of one of them.

    Attributes
    ----------
    kind : numpy's scalar type.
    shape : sizes, a letter for one that arrays of the file share.
    """

    kind: type[np.generic]
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Facts:
    """Plain values of a fitted classifier.

    Attributes
    ----------
    classes : labels in the order of the probabilities' columns.
    columns : how many it was fitted on.
    params : by which it is built again.
    chosen : parameters that it has chosen itself.
    """

    classes: NDArray[Any]
    columns: int
    params: Mapping[str, Any]
    chosen: Mapping[str, float]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name as safetensors."""
    from safetensors.numpy import save

    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a safetensors file, read-only; each number finite or NaN, and none larger than 1e100.

    Memory is that of the file: the arrays are views of what was read.

    Raises
    ------
    BundleError : not such a file.
    """
    return _checked_arrays(path, lambda entries: None)


def _checked_arrays(path: Path, check: Callable[[Mapping[str, _Entry]], None]) -> dict[str, NDArray[Any]]:
    """The arrays, after ``check`` has seen what they are said to be: nothing is read of a file that lies about that."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError("no header of a safetensors file")
            header, left = parse_json(file.read(length)), size - 8 - length
            header.pop("__metadata__", None)
            entries = {str(name): _entry(stated, left) for name, stated in header.items()}
            if sum(entry.end - entry.start for entry in entries.values()) != left:
                raise ValueError("arrays that overlap, or bytes that belong to none")
            check(entries)
            body = memoryview(file.read(left))
        arrays = {
            name: np.frombuffer(body[entry.start : entry.end], entry.kind).reshape(entry.shape)
            for name, entry in entries.items()
        }
        for name, array in arrays.items():
            # Without a copy of what may be large; NaN is passed over.
            ends = (np.fmin.reduce(array, axis=None), np.fmax.reduce(array, axis=None)) if array.size else ()
            if array.dtype.kind == "f" and any(abs(float(end)) > _LARGEST for end in ends):
                raise ValueError(f"{name[:40]!r} holds a number that is too large")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read", found=_reason(error)) from error
    return arrays


@dataclass(frozen=True)
class _Entry:
    """What a file's header says of an array: numpy's scalar type, its shape, and where its bytes lie."""

    kind: type[np.generic]
    shape: tuple[int, ...]
    start: int
    end: int


def _entry(stated: Mapping[str, Any], left: int) -> _Entry:
    """What the header states, if it can be of a file that has so many bytes left."""
    kind, shape, (start, end) = _KINDS[stated["dtype"]], stated["shape"], stated["data_offsets"]
    sizes = [start, end, *shape]
    if not all(type(size) is int and 0 <= size <= left for size in sizes) or len(shape) > 8:
        raise ValueError("an array that does not lie within the file")
    if end - start != math.prod(shape) * np.dtype(kind).itemsize:
        raise ValueError("an array of another size than its shape says")
    return _Entry(kind, tuple(shape), start, end)


def read_arrays(path: Path, expected: Mapping[str, Kept], **sizes: int) -> dict[str, NDArray[Any]]:
    """Exactly the arrays that are expected, of their kinds and shapes, every number finite.

    Parameters
    ----------
    expected : what each must be.
    **sizes : of the letters that are known already.

    Raises
    ------
    BundleError : any other array, kind, shape or number.
    """

    def check(entries: Mapping[str, _Entry]) -> None:
        if entries.keys() != expected.keys():
            odd = sorted(entries.keys() ^ expected.keys())
            raise ValueError(f"other arrays than expected: {', '.join(name[:40] for name in odd[:3])}")
        known = dict(sizes)
        for name, kept in expected.items():
            entry = entries[name]
            if entry.kind is not kept.kind or len(entry.shape) != len(kept.shape):
                raise ValueError(f"{name} is {entry.kind.__name__} of {len(entry.shape)} dimensions")
            for size, wanted in zip(entry.shape, kept.shape, strict=True):
                if size != (wanted if isinstance(wanted, int) else known.setdefault(wanted, size)):
                    raise ValueError(f"{name} has the shape {entry.shape}, which does not fit")

    arrays = _checked_arrays(path, check)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"{path} cannot be read", found=f"{name} holds what is no number")
    return arrays


def write_facts(folder: Path, model: Any, **instead: Any) -> None:
    """Write the plain values of a fitted scikit-learn classifier as ``classifier.json``.

    ``instead`` are parameters that are stored as something else than they are.
    """
    classes = model.classes_.tolist()
    facts = {
        "classes": classes,
        "columns": int(model.n_features_in_),
        "params": {**model.get_params(), **instead},
        "chosen": dict(model.chosen_),
    }
    write_atomically(folder / FACTS, json.dumps(facts, indent=1, default=lambda odd: odd.item()).encode())


def read_facts(folder: Path, kind: type) -> Facts:
    """What ``write_facts`` wrote of a classifier of this class.

    Raises
    ------
    BundleError : anything else, or a parameter that the class does not have, or of another type than it takes.
    """
    path = folder / FACTS
    try:
        if path.stat().st_size > _MAX_FACTS:
            raise ValueError(f"{path.stat().st_size >> 20} MB")
        values = parse_json(path.read_bytes())
        if not isinstance(values, dict) or values.keys() != {"classes", "columns", "params", "chosen"}:
            raise ValueError("other values than a classifier has")
        classes, columns, params, chosen = (values[name] for name in ("classes", "columns", "params", "chosen"))
        _check_classes(classes)
        if type(columns) is not int or not 0 <= columns <= _MAX_COLUMNS:
            raise ValueError(f"{str(columns)[:20]} columns")
        _check_params(params, kind().get_params())
        if not isinstance(chosen, dict) or not all(type(value) in (int, float) for value in chosen.values()):
            raise ValueError("chosen parameters that are no numbers")
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path} cannot be read", found=_reason(error)) from error
    return Facts(np.asarray(classes), columns, params, chosen)


def read_described(folder: Path, kind: type[_Described], files: Sequence[str]) -> _Described:
    """A classifier as its folder describes it, with parameters, classes, columns and what was chosen; what it has
    learnt lies in ``files`` and is still to be read.

    Raises
    ------
    BundleError : the folder holds other files, or the description is none.
    """
    refuse_others(folder, (*files, FACTS))
    facts = read_facts(folder, kind)
    described: Any = kind(**facts.params)
    described.classes_, described.n_features_in_, described.chosen_ = facts.classes, facts.columns, dict(facts.chosen)
    fitted: _Described = described
    return fitted


def _check_classes(classes: Any) -> None:
    kinds = (str, bool, int, float)
    if not isinstance(classes, list) or not 2 <= len(classes) <= _MAX_CLASSES:
        raise ValueError("no list of classes")
    if not any(all(type(label) is kind for label in classes) for kind in kinds):
        raise ValueError("classes that are neither names nor numbers")
    if len(set(classes)) != len(classes) or sorted(classes) != classes:
        raise ValueError("classes that are not in order, or are named twice")


def _check_params(params: Any, known: Mapping[str, Any]) -> None:
    """Whether they are of the types that the defaults have; a number may be given for text or nothing, and nothing for
    a number."""
    if not isinstance(params, dict) or params.keys() - known.keys():
        raise ValueError("parameters that this classifier does not have")
    for name, value in params.items():
        if isinstance(known[name], bool) != isinstance(value, bool):
            raise ValueError(f"the parameter {name} is {type(value).__name__}")
        if not (value is None or isinstance(value, (bool, int, float, str))) or len(str(value)) > 200:
            raise ValueError(f"the parameter {name} is no plain value")


def confined(name: object) -> str:
    """``name`` if it is a path inside a model folder, written the one way that it is written here.

    Raises
    ------
    BundleError : it leads elsewhere, or could be read as doing so on some system.
    """
    text = str(name)
    parts = text.split("/")
    is_plain = isinstance(name, str) and 0 < len(text) <= 255 and text.isprintable()
    if not is_plain or any(part in ("", ".", "..") for part in parts) or any(sign in text for sign in '\\:*?"<>|'):
        raise BundleError("a model names a file outside its folder", found=repr(text[:100]), do="Do not use it.")
    return text


def refuse_others(folder: Path, allowed: Sequence[str]) -> None:
    """BundleError where a classifier's folder holds another file than these."""
    odd = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if left := [name for name in odd if name not in allowed]:
        raise BundleError(f"{folder} holds what no such classifier has", found=repr(left[0])[:100], do="Do not use it.")


def _reason(error: Exception) -> str:
    """The error in one line that any terminal takes."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
