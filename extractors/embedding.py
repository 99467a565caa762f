"""The trunk as the extractor ``cnn``, and which network that is: all of it that needs no torch.

Settling what the numbers depend on must be cheap, because every run asks for it before it looks into the store; so this
module imports torch and timm only where pictures meet the network.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.cells import MARGIN, Cell
from fusion.errors import FusionError, UsageError
from fusion.files import printable
from fusion.plugins import Learnable
from fusion.store import local_store

if TYPE_CHECKING:
    from extractors.trunk import Trunk

#: EfficientNetV2-B3: 14 M parameters, 1536 features, and runs on a laptop.
DEFAULT_BACKBONE = "tf_efficientnetv2_b3"

#: Words that stand where a weights file could.
PRETRAINED, RANDOM = "pretrained", "random"

#: What the network is shown, and what then becomes of what lies around the cell.
INPUTS = {"cell": "black", "cell-on-grey": "grey", "field": "kept"}

#: What becomes of what lies around the cell, as weights files say it.
BACKGROUNDS = tuple(INPUTS.values())

#: The grey: the middle of the range, near the mean that networks are trained about.
_GREY = 128

#: What may run the network on a CPU.
ENGINES = ("auto", "onnx", "torch")

#: What a weights file says of its training, as hashes: of pictures, of subject ids, of other group ids.
TRAINED_ON = frozenset({"images", "subjects", "groups"})

#: Sides that are surely a slip of the pen: below, no network keeps a feature map; above, one cell fills the memory.
_SMALLEST, _LARGEST = 16, 8192


@dataclass(frozen=True)
class Embedding(Learnable):
    """What an attention network sees in a cell: e0000, e0001, ..., the mean of its last feature map. No unit.

    Every cell is a square picture, the cell in its middle. Never NaN.

    Attributes
    ----------
    backbone : any timm model; None is the one that the weights file names, else tf_efficientnetv2_b3.
    weights : "pretrained" (through timm, fetched once), "random", or the path of a .safetensors file.
    attention : squeeze and excitation before the mean; untrained, it only halves every feature.
    size : side in pixels of the network's input; None is the size the weights were published with.
    view : side in source pixels of the square that the network sees, centred on the cell. A fixed view keeps the cell's
        size visible: 450 is a whole picture of C-NMC. None is what the weights file says it was trained with; where it
        says nothing, the square that just holds the cell and its margin.
    input : "cell" sets what is outside the cell to 0, "cell-on-grey" to 128, "field" leaves it. None is as the weights
        file says, else "cell".
    background : the older name of ``input``, "black", "grey" or "kept"; it is read, becomes ``input``, and is None.
    mean, std : of the weights' training pictures, scale 0 to 1, one number or one a channel; None is the weights' own.
    pad_type : "same", "valid" or "" where the convolutions pad otherwise than the backbone's default.
    seed : of random weights, and of nothing else.
    half : features rounded to float16 and kept in two bytes each: within 0.05% of their value, or 3e-8 if that is more.
        Another feature than the same in float32. One above 65,504 is a fault.
    batch_size : pictures in one pass.
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
    engine : what runs the network on a CPU: "onnx" (ONNX Runtime, within 1e-4 of torch or not at all), "torch", or
        "auto", the former where the extra ``onnx`` is installed.

    Raises
    ------
    ValueError : a value outside the above.
    """

    name: ClassVar[str] = "cnn"
    learnt_by: ClassVar[str] = "neural"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = True

    backbone: str | None = None
    # "file": the file travels with a model. Its content, not its path, is part of the identity.
    weights: str = field(default=PRETRAINED, metadata={"file": True})
    attention: bool = True
    size: int | None = None
    view: int | None = None
    input: str | None = None
    background: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pad_type: str | None = None
    seed: int = 0
    half: bool = False
    # 16: past it a CPU gains nothing, and a batch of 300-pixel pictures through B3 stays under 1 GB.
    batch_size: int = field(default=16, metadata={"cosmetic": True})
    device: str = field(default="auto", metadata={"cosmetic": True})
    engine: str = field(default="auto", metadata={"cosmetic": True})

    def __post_init__(self) -> None:
        if self.weights not in (PRETRAINED, RANDOM) and Path(self.weights).suffix != ".safetensors":
            raise ValueError(f"weights must be pretrained, random or a .safetensors file, not {self.weights!r}")
        for name in ("size", "view"):
            side = getattr(self, name)
            if side is not None and not _SMALLEST <= side <= _LARGEST:
                raise ValueError(f"{name} must be {_SMALLEST} to {_LARGEST} pixels, not {side}")
        object.__setattr__(self, "input", agreed_input(self.input, self.background))
        object.__setattr__(self, "background", None)
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and not _is_per_channel(values, positive=name == "std"):
                sign = "positive" if name == "std" else "finite"
                raise ValueError(f"{name} must be one or three {sign} numbers, not {values}")
        if self.pad_type not in (None, "", "same", "valid"):
            raise ValueError(f"pad_type must be same, valid or '', not {self.pad_type!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {self.seed}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {self.batch_size}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, not {self.device!r}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be {', '.join(ENGINES)}, not {self.engine!r}")

    def __getstate__(self) -> dict[str, Any]:
        """The parameters alone: another process loads the network itself."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def identity(self) -> dict[str, Any]:
        """The plain values that the numbers depend on.

        A file counts by its content, so a model folder may move. Pretrained weights count by their timm tag: what is
        published under one does not change, and a hash would need the weights at hand where stored features suffice.

        Raises
        ------
        WeightsError : the weights file cannot be read.
        UsageError : timm does not know the backbone, or the tag.
        """
        return {
            **asdict(self.recipe),
            "weights": self._source,
            "view": self.eye.view,
            "background": self.eye.background,
            # Left out where it is off, so that what was stored before there was a choice is found.
            **({"half": True} if self.half else {}),
        }

    def provenance(self) -> dict[str, list[str]] | None:
        """Hashes of the pictures, subjects and groups that a weights file was trained on, None where it says nothing.

        Raises
        ------
        WeightsError : the file cannot be read, or what it says cannot be understood.
        """
        if self._file is None or "provenance" not in self._file.metadata:
            return None
        try:
            said = json.loads(self._file.metadata["provenance"])
            return {name: [str(value) for value in said[name]] for name in TRAINED_ON & said.keys()} or None
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"{printable(self._file.path)} does not say clearly what it was trained on", found=str(error)
            ) from error

    @functools.cached_property
    def eye(self) -> Eye:
        """How a cell becomes the picture that the network sees."""
        stated = {} if self._file is None else _parsed_metadata(self._file)
        view = self.view if self.view is not None else stated.get("view")
        background = stated.get("background", "black") if self.input is None else INPUTS[self.input]
        return Eye(self.recipe.size, view, background, self.recipe.interpolation)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Which network, and how pictures are prepared for it."""
        return resolve_recipe(
            self._file,
            backbone=self.backbone,
            attention=self.attention,
            size=self.size,
            mean=self.mean,
            std=self.std,
            pad_type=self.pad_type,
        )

    @functools.cached_property
    def _file(self) -> WeightsFile | None:
        return None if self.weights in (PRETRAINED, RANDOM) else read_weights_file(Path(self.weights))

    @functools.cached_property
    def _source(self) -> str:
        if self._file is not None:
            return self._file.source
        if self.weights == RANDOM:
            warn_of_random_weights(self.seed)  # also where every feature is stored already
            return f"{RANDOM}:{self.seed}"
        from extractors.trunk import published_weights

        return ":".join(published_weights(self.recipe.backbone))

    @functools.cached_property
    def trunk(self) -> Trunk:
        """The network itself, in evaluation mode on its device.

        Raises
        ------
        WeightsError : the weights cannot be had, do not fit, or changed since ``identity`` was asked.
        UsageError : an unknown backbone, or one that does not take these parameters.
        """
        from extractors.trunk import load_trunk

        recipe = self.recipe
        loaded = load_trunk(
            recipe.backbone,
            self.weights,
            recipe.attention,
            size=recipe.size,
            mean=recipe.mean,
            std=recipe.std,
            pad_type=recipe.pad_type,
            seed=self.seed,
        )
        if loaded.source != self._source:
            raise WeightsError(
                f"{printable(self.weights)} changed while it was in use",
                do="Start again: features of two networks must not share a table.",
            )
        return loaded.on(self.device)

    def feature_names(self) -> list[str]:
        """``e0000``, ``e0001``, ...: as many as the last feature map has channels. Needs no weights."""
        from extractors.trunk import embedding_width

        return [f"e{at:04d}" for at in range(embedding_width(self.recipe))]

    def pictures(self, cells: Sequence[Cell]) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3): what the network sees."""
        return self.eye(cells)

    @functools.cached_property
    def embed(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """float32 (n, d) of uint8 (n, size, size, 3), by the engine that was chosen; raises as ``trunk`` does."""
        from extractors import runtime

        trunk = self.trunk
        on_cpu = next(trunk.parameters()).device.type == "cpu"
        if self.engine == "onnx" and not (on_cpu and runtime.is_installed()):
            raise UsageError(
                "the network cannot run by ONNX Runtime",
                found="it is not installed" if on_cpu else f"device {self.device}",
                do="pip install 'fusion-cells[onnx]', or take engine auto." if on_cpu else "Take device cpu.",
            )
        by_onnx = None
        if self.engine != "torch" and on_cpu and runtime.is_installed():
            by_onnx = runtime.embedder(trunk, local_store())
        return by_onnx or trunk.embed

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one embedding a cell. On a CPU the same cells give the same bytes by the same engine."""
        batches = [self.pictures(cells[at : at + self.batch_size]) for at in range(0, len(cells), self.batch_size)]
        if not batches:
            return np.empty((0, len(self.feature_names())), np.float32)
        rows = np.concatenate([self.embed(batch) for batch in batches])
        return as_half(rows) if self.half else rows

    def feature_map(self, cell: Cell) -> NDArray[np.float32] | None:
        """float32 (d, h, w): what ``extract`` gives the means of, to 1e-4; None of a backbone that has tokens."""
        from extractors.trunk import gives_map

        return self.trunk.maps(self.pictures([cell]))[0] if gives_map(self.recipe) else None

    def laid_back(self, places: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb`` from float (h, w) over the places of the feature map; see ``Eye``."""
        return self.eye.laid_back(places, cell)


def agreed_input(given: str | None, background: str | None) -> str | None:
    """One of ``INPUTS`` from a setting and from its older name; None where neither is given.

    Raises
    ------
    ValueError : a value that is none of them, or two that disagree.
    """
    if given not in (None, *INPUTS):
        raise ValueError(f"input must be {', '.join(INPUTS)}, not {given!r}")
    if background not in (None, *BACKGROUNDS):
        raise ValueError(f"background must be black, grey or kept, not {background!r}")
    older = next((name for name, becomes in INPUTS.items() if becomes == background), None)
    if given is not None and older is not None and given != older:
        raise ValueError(
            f"input: {given} and background: {background} disagree; background is the older name, and {background} "
            f"is input: {older}: leave it out"
        )
    return given or older


def as_half(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest float16 numbers, as float32; inf above 65,504."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Eye:
    """How a cell becomes the square picture that a network sees; plain values, needs no torch.

    Attributes
    ----------
    size : side in pixels of the picture.
    view : side in source pixels of the square, centred on the cell; None is the square that just holds it.
    background : "black", "grey" or "kept".
    interpolation : "bicubic" or "bilinear", where the picture is enlarged.
    """

    size: int
    view: int | None
    background: str
    interpolation: str

    def __call__(self, cells: Sequence[Cell]) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3)."""
        squares = [_resized(square(cell, self.view, self.background), self.size, self.interpolation) for cell in cells]
        return np.stack(squares) if squares else np.empty((0, self.size, self.size, 3), np.uint8)

    def laid_back(self, seen: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb`` from float (S, S) over the cell's picture; 0 where that does not reach."""
        side, top, left = _window(cell, self.view)
        whole = cv2.resize(np.asarray(seen, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        laid = np.zeros(cell.rgb.shape[:2], np.float32)
        rows, columns = _reach(top, side, cell.rgb.shape[0]), _reach(left, side, cell.rgb.shape[1])
        laid[rows, columns] = whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return laid


def square(cell: Cell, view: int | None, background: str) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): the cell's bounding box in the middle of a square of source pixels, beyond the crop black,
    or grey where the background is.

    Both side and middle follow the mask alone, so that background around the cell changes nothing.
    """
    side, top, left = _window(cell, view)
    rows, columns = _reach(top, side, cell.rgb.shape[0]), _reach(left, side, cell.rgb.shape[1])
    crop = cell.rgb[rows, columns]
    level = _GREY if background == "grey" else 0
    if background != "kept":
        crop = np.where(cell.mask[rows, columns, None], crop, np.uint8(level))
    picture = np.full((side, side, 3), level, np.uint8)
    picture[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = crop
    return picture


def _window(cell: Cell, view: int | None) -> tuple[int, int, int]:
    """Side, top and left of the square in source pixels of the crop; it may reach beyond it."""
    x, y, width, height = cv2.boundingRect(cell.mask.view(np.uint8))
    side = view or max(width, height) + 2 * MARGIN
    return side, y + (height - side) // 2, x + (width - side) // 2


def _reach(start: int, side: int, length: int) -> slice:
    """The part of 0 to ``length`` that the square covers; empty where a crop lies outside it."""
    first = max(0, start)
    return slice(first, max(first, min(length, start + side)))


def _resized(picture: NDArray[np.uint8], side: int, interpolation: str) -> NDArray[np.uint8]:
    """Shrunk by averaging areas, enlarged by what the weights were trained with.

    OpenCV's bicubic reads 16 pixels whatever the scale: shrinking with it skips pixels and turns chromatin into noise.
    timm's own evaluation shrinks with an antialiased filter, to which the area average is the nearest in OpenCV. timm's
    crop to 90% or so is left out: it would cut the outline off a cell that already fills the picture.
    """
    if len(picture) == side:
        return picture
    enlarging = cv2.INTER_CUBIC if interpolation == "bicubic" else cv2.INTER_LINEAR
    chosen = cv2.INTER_AREA if len(picture) > side else enlarging
    return np.asarray(cv2.resize(picture, (side, side), interpolation=chosen), np.uint8)


# ---- which network, without loading it -------------------------------------------------------------------------------


class WeightsError(FusionError):
    """The weights of a network cannot be had, or are not those of this network."""


@dataclass(frozen=True)
class Recipe:
    """Which network, and how a picture is prepared for it: ``(rgb / 255 - mean) / std``."""

    backbone: str
    attention: bool
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    pad_type: str | None


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file whose header has been read, not its tensors."""

    path: Path
    sha256: str
    metadata: dict[str, str]

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
            start = stream.read(2)
    except OSError as error:
        raise WeightsError(
            f"weights file {printable(path)} cannot be read", found=(error.strerror or str(error)).lower()
        ) from error
    try:
        with safe_open(path, framework="numpy") as tensors:
            return WeightsFile(path, digest, dict(tensors.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        # Protocol 2 and later of pickle start with 0x80, torch's checkpoints are zip archives around one.
        pickled = start[:1] == b"\x80" or start == b"PK"
        raise WeightsError(
            f"{printable(path)} is no whole safetensors file",
            found="a pickle or torch checkpoint, which could run code when opened" if pickled else str(error),
            do="Have its maker save it as safetensors." if pickled else "Copy or download it again.",
        ) from error


def resolve_recipe(
    file: WeightsFile | None,
    *,
    backbone: str | None = None,
    attention: bool = True,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pad_type: str | None = None,
) -> Recipe:
    """What the caller says, else what the file's metadata says, else what timm says of the backbone.

    Raises
    ------
    WeightsError : the metadata cannot be understood.
    UsageError : timm does not know the backbone.
    """
    stated = {} if file is None else _parsed_metadata(file)
    given = {"backbone": backbone, "size": size, "mean": mean, "std": std, "pad_type": pad_type}
    stated |= {name: value for name, value in given.items() if value is not None}
    stated = {name: value for name, value in stated.items() if name not in ("view", "background")}  # the eye's
    stated.setdefault("backbone", DEFAULT_BACKBONE)
    if not {"size", "mean", "std", "interpolation"} <= stated.keys():
        from extractors.trunk import published_config

        stated = published_config(stated["backbone"]) | stated
    return Recipe(
        backbone=stated["backbone"],
        attention=attention,
        size=stated["size"],
        mean=_three(stated["mean"]),
        std=_three(stated["std"]),
        interpolation=stated["interpolation"],
        pad_type=stated.get("pad_type"),
    )


@functools.cache
def warn_of_random_weights(seed: int) -> None:
    """Say it once a process."""
    logging.getLogger("fusion").warning(
        "the network has random weights (seed %d): its embedding tries the machinery, and is not to be reported", seed
    )


def _parsed_metadata(file: WeightsFile) -> dict[str, Any]:
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
    if not text.isdecimal() or not _SMALLEST <= int(text) <= _LARGEST:
        raise ValueError(f"{_SMALLEST} to {_LARGEST} pixels")
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
    if not _is_per_channel(values, positive=positive):
        raise ValueError("one number, or three with commas between")
    return values


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
    "view": ("view", _parsed_view),
    "background": ("background", _parsed_background),
}


def _is_per_channel(values: Sequence[float], *, positive: bool) -> bool:
    return len(values) in (1, 3) and all(math.isfinite(v) and (v > 0 or not positive) for v in values)


def _three(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in (values if len(values) == 3 else (values[0],) * 3))
