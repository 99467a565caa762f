"""Weights files: safetensors whose header says which network they are for. Nothing in them is ever executed."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extractors.cnn.input_transform import BACKGROUNDS
from fusion.errors import FusionError
from fusion.io.files import printable

#: Sides that are surely a slip of the pen: below, no network keeps a feature map; above, one cell fills the memory.
SMALLEST_SIDE, LARGEST_SIDE = 16, 8192

#: What the names of networks begin with that are not timm's own: a repository of the hub, a folder like one.
HUB, FOLDER = "hf-hub:", "local-dir:"


class WeightsError(FusionError):
    """The weights of a network cannot be had, or are not those of this network."""


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file whose header has been read, not its tensors: their names and shapes alone."""

    path: Path
    sha256: str
    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The content, whatever the file is called."""
        return f"sha256:{self.sha256}"


def read_weights_file(path: Path) -> WeightsFile:
    """Hash a weights file and read its metadata.

    Raises
    ------
    WeightsError : missing, unreadable, cut short, or not safetensors. Nothing in it is ever executed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            start = stream.read(23)
    except OSError as error:
        raise WeightsError(
            f"weights file {printable(path)} cannot be read", found=(error.strerror or str(error)).lower()
        ) from error
    try:
        with safe_open(path, framework="numpy") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in list(tensors.keys())}
            return WeightsFile(path, digest, dict(tensors.metadata() or {}), _without_prefix(shapes))
    except (SafetensorError, OSError, ValueError) as error:
        # Protocol 2 and later of pickle start with 0x80, torch's checkpoints are zip archives around one.
        found, remedy = str(error), "Copy or download it again."
        if start[:1] == b"\x80" or start[:2] == b"PK":
            found = "a pickle or torch checkpoint, which could run code when opened"
            remedy = "Have its maker save it as safetensors."
        elif start == b"version https://git-lfs":
            found, remedy = "a pointer of Git LFS", "Fetch the file itself: git lfs pull."
        raise WeightsError(f"{printable(path)} is no whole safetensors file", found=found, do=remedy) from error


def _without_prefix(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """By timm's own names, whoever saved the file."""
    return {name.removeprefix("backbone."): shape for name, shape in shapes.items()}


def read_metadata(file: WeightsFile) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    for key, (name, parse) in _METADATA.items():
        if key in file.metadata:
            try:
                stated[name] = parse(file.metadata[key])
            except ValueError as error:
                raise WeightsError(
                    f"{printable(file.path)} has metadata that cannot be understood",
                    found=f"{key} {file.metadata[key][:100]!r}",
                    expected=str(error),
                ) from error
    return stated


def _parsed_size(text: str) -> int:
    if not text.isdecimal() or not SMALLEST_SIDE <= int(text) <= LARGEST_SIDE:
        raise ValueError(f"{SMALLEST_SIDE} to {LARGEST_SIDE} pixels")
    return int(text)


def _parsed_view(text: str) -> int | None:
    return None if text == "cell" else _parsed_size(text)


def _parsed_background(text: str) -> str:
    if text not in BACKGROUNDS:
        raise ValueError(" or ".join(BACKGROUNDS))
    return text


def _parsed_numbers(text: str, *, positive: bool = False) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not is_per_channel(values, positive=positive):
        raise ValueError("one number, or three with commas between")
    return values


def _parsed_pool(text: str) -> str:
    if text not in ("map", "cls", "mean", "cls+mean", "head"):
        raise ValueError("map, cls, mean, cls+mean or head")
    return text


def _parsed_arguments(text: str) -> str:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("a JSON object")
    return json.dumps(values, sort_keys=True)


def _parsed_interpolation(text: str) -> str:
    if text not in ("bicubic", "bilinear"):
        raise ValueError("bicubic or bilinear")
    return text


#: Keys of a weights file's metadata, all of them optional: (what we call it, how its text is read).
_METADATA: dict[str, tuple[str, Callable[[str], Any]]] = {
    "architecture": ("backbone", str),
    "size": ("size", _parsed_size),
    "mean": ("mean", _parsed_numbers),
    "std": ("std", functools.partial(_parsed_numbers, positive=True)),
    "interpolation": ("interpolation", _parsed_interpolation),
    "pad_type": ("pad_type", str),
    "pool": ("pool", _parsed_pool),
    "model_args": ("model_args", _parsed_arguments),
    "view": ("view", _parsed_view),
    "background": ("background", _parsed_background),
}


def is_per_channel(values: Sequence[float], *, positive: bool) -> bool:
    return len(values) in (1, 3) and all(math.isfinite(v) and (v > 0 or not positive) for v in values)
