"""The backbone as the extractor ``cnn``, and which network that is: all of it that needs no torch.

Settling what the numbers depend on must be cheap, because every run asks for it before it looks into the store; so this
module imports torch and timm only where images meet the network.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors.cnn._weights_file import (
    FOLDER,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    WeightsError,
    WeightsFile,
    is_per_channel,
    read_metadata,
    read_weights_file,
)
from extractors.cnn.input_transform import GREY, INPUTS, InputTransform
from extractors.cnn.network_config import (
    PRETRAINED,
    RANDOM,
    BackboneConfig,
    resolve_backbone_config,
    warn_of_random_weights,
    weights_path,
)
from fusion.errors import UsageError
from fusion.images.cell import Cell
from fusion.io.cache_folder import local_store
from fusion.io.files import printable
from fusion.leakage.encoders import encoder, encoder_of, encoders
from fusion.plugins.extractors import Learnable

if TYPE_CHECKING:
    from extractors.cnn.backbone import Backbone


#: What may run the network on a CPU.
ENGINES = ("auto", "onnx", "torch")

#: How a transformer's tokens may be pooled.
POOLS = ("cls", "mean", "cls+mean", "head")

#: What a weights file says of its training, as hashes: of images, of subject ids, of other group ids.
TRAINED_ON = frozenset({"images", "subjects", "groups"})


@dataclass(frozen=True)
class Embedding(Learnable):
    """What a network sees in a cell: e0000, e0001, ..., the mean of its last feature map, or a transformer's tokens.

    Every cell is a square image, the cell in its middle. No unit, never NaN.

    Attributes
    ----------
    backbone : any timm model, ``hf-hub:OWNER/NAME`` (a repository of the hub that holds one), ``local-dir:FOLDER`` (a
        folder laid out like such a repository, config.json beside the weights), or a name of ``fusion encoders``; None
        is the one that the weights file names, else tf_efficientnetv2_b3.
    weights : "pretrained" (fetched once), "random", or the path of a .safetensors file.
    attention : squeeze and excitation before the mean; untrained, it only halves every feature. A transformer has no
        feature map: there it stands aside.
    size : side in pixels of the network's input; None is the size the weights were published with.
    view : side in source pixels of the square that the network sees, centred on the cell. A fixed view keeps the cell's
        size visible: 450 is a whole image of C-NMC. None is what the weights file says it was trained with; where it
        says nothing, the square that just holds the cell and its margin.
    input : "cell" sets what is outside the cell to 0, "cell-on-grey" to 128, "field" leaves it. None is as the weights
        file says, else "cell".
    mean, std : of the weights' training images, scale 0 to 1, one number or one a channel; None is the weights' own.
    pad_type : "same", "valid" or "" where the convolutions pad otherwise than the backbone's default.
    interpolation : "bicubic" or "bilinear", by which an image is enlarged; None is the weights' own.
    pool : how a transformer's tokens become one embedding: "cls", "mean" (of the patches), "cls+mean", both side by
        side, or "head", as its own head has it; None is as its own head has it.
    model_args : parameters of the architecture that the weights were trained with, as JSON; None is the weights' own.
    pretrained : name in ``fusion encoders`` of what the weights in a file are, where their name does not tell: then it
        is stamped where it may have met the cells that are judged.
    seed : of random weights, and of nothing else.
    half : features rounded to float16 and kept in two bytes each: within 0.05% of their value, or 3e-8 if that is more.
        Another feature than the same in float32. One above 65,504 is a fault.
    batch_size : images in one pass, at most: where a GPU's memory has no room for so many they are halved, and stay so.
        None begins with 16 on a CPU, 4 of a transformer, and 256 on a GPU.
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
    engine : what runs the network on a CPU: "onnx" (ONNX Runtime, within 1e-4 of torch or not at all), "torch", or
        "auto", the faster by a trial of seconds that is made once for a network and machine, and remembered in the
        store; torch where the extra ``onnx`` is not installed.

    Raises
    ------
    ValueError : a value outside the above.
    """

    name: ClassVar[str] = "cnn"
    learnt_by: ClassVar[str] = "neural"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = True
    input_parameter: ClassVar[str] = "input"

    backbone: str | None = None
    # "file": the file travels with a model. Its content, not its path, is part of the identity.
    weights: str = field(default=PRETRAINED, metadata={"file": True})
    attention: bool = True
    size: int | None = None
    view: int | None = None
    input: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pad_type: str | None = None
    interpolation: str | None = None
    pool: str | None = None
    model_args: str | None = None
    seed: int = 0
    half: bool = False
    pretrained: str | None = field(default=None, metadata={"cosmetic": True})
    batch_size: int | None = field(default=None, metadata={"cosmetic": True})
    device: str = field(default="auto", metadata={"cosmetic": True})
    engine: str = field(default="auto", metadata={"cosmetic": True})

    def __post_init__(self) -> None:
        if self.weights not in (PRETRAINED, RANDOM) and Path(self.weights).suffix != ".safetensors":
            raise ValueError(f"weights must be pretrained, random or a .safetensors file, not {self.weights!r}")
        for name in ("size", "view"):
            side = getattr(self, name)
            if side is not None and not SMALLEST_SIDE <= side <= LARGEST_SIDE:
                raise ValueError(f"{name} must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, not {side}")
        if self.input not in (None, *INPUTS):
            raise ValueError(f"input must be {', '.join(INPUTS)}, not {self.input!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and not is_per_channel(values, positive=name == "std"):
                sign = "positive" if name == "std" else "finite"
                raise ValueError(f"{name} must be one or three {sign} numbers, not {values}")
        if self.pad_type not in (None, "", "same", "valid"):
            raise ValueError(f"pad_type must be same, valid or '', not {self.pad_type!r}")
        if self.interpolation not in (None, "bicubic", "bilinear"):
            raise ValueError(f"interpolation must be bicubic or bilinear, not {self.interpolation!r}")
        if self.pool not in (None, *POOLS):
            raise ValueError(f"pool must be {', '.join(POOLS)}, not {self.pool!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {self.seed}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {self.batch_size}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, not {self.device!r}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be {', '.join(ENGINES)}, not {self.engine!r}")
        if self.pretrained is not None:
            encoder(self.pretrained)
        if self.backbone is not None and self.backbone in encoders():
            object.__setattr__(self, "pretrained", self.pretrained or self.backbone)
            object.__setattr__(self, "backbone", encoders()[self.backbone].backbone)
        if self.backbone is not None and self.backbone.startswith(FOLDER):
            object.__setattr__(self, "pretrained", self.pretrained or encoder_of(self.backbone))
            # What the folder says, in its own parameters: a model that is saved takes its weights along, and may move.
            from extractors.cnn._published_models import parameters_of_folder

            for name, value in parameters_of_folder(self.backbone, self.weights == PRETRAINED).items():
                if name in ("backbone", "weights") or getattr(self, name) is None:
                    object.__setattr__(self, name, value)

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
        network = asdict(self.backbone_config)
        return {
            # A feature map is always averaged, and few architectures have parameters of their own.
            **{name: value for name, value in network.items() if value or name not in ("pool", "model_args")},
            "weights": self._source,
            "view": self.input_transform.view,
            "background": self.input_transform.background,
            **({"half": True} if self.half else {}),
        }

    def encoder(self) -> str | None:
        """Name of the encoder in ``fusion encoders``; None where it is not known, or the weights are random."""
        if self.weights == RANDOM:
            return None
        by_file = None if self.weights == PRETRAINED else self.weights
        return self.pretrained or encoder_of(self.backbone if by_file is None else None, by_file)

    def provenance(self) -> dict[str, list[str]] | None:
        """Hashes of the images, subjects and groups that a weights file was trained on, None where it says nothing.

        Raises
        ------
        WeightsError : the file cannot be read, or what it says cannot be understood.
        """
        if self._file is None or "provenance" not in self._file.metadata:
            return None
        try:
            stored = json.loads(self._file.metadata["provenance"])
            return {name: [str(value) for value in stored[name]] for name in TRAINED_ON & stored.keys()} or None
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"{printable(self._file.path)} does not say clearly what it was trained on", found=str(error)
            ) from error

    @functools.cached_property
    def input_transform(self) -> InputTransform:
        """How a cell becomes the image that the network sees."""
        stated = {} if self._file is None else read_metadata(self._file)
        view = self.view if self.view is not None else stated.get("view")
        background = stated.get("background", "black") if self.input is None else INPUTS[self.input]
        return InputTransform(self.backbone_config.size, view, background, self.backbone_config.interpolation)

    @functools.cached_property
    def backbone_config(self) -> BackboneConfig:
        """Which network, and how images are prepared for it."""
        return resolve_backbone_config(
            self._file,
            backbone=self.backbone,
            attention=self.attention,
            size=self.size,
            mean=self.mean,
            std=self.std,
            pad_type=self.pad_type,
            interpolation=self.interpolation,
            pool=self.pool,
            model_args=self.model_args,
        )

    @functools.cached_property
    def _file(self) -> WeightsFile | None:
        path = weights_path(self.backbone, self.weights)
        return None if path is None else read_weights_file(path)

    @functools.cached_property
    def _source(self) -> str:
        if self._file is not None:
            return self._file.source
        if self.weights == RANDOM:
            warn_of_random_weights(self.seed)  # also where every feature is stored already
            return f"{RANDOM}:{self.seed}"
        from extractors.cnn._published_models import published_weights

        return ":".join(published_weights(self.backbone_config.backbone))

    @functools.cached_property
    def network(self) -> Backbone:
        """The network itself, in evaluation mode on its device.

        Raises
        ------
        WeightsError : the weights cannot be had, do not fit, or changed since ``identity`` was asked.
        UsageError : an unknown backbone, or one that does not take these parameters.
        """
        loaded = self.load(seed=self.seed)
        if loaded.source != self._source:
            raise WeightsError(
                f"{printable(self.weights)} changed while it was in use",
                do="Start again: features of two networks must not share a table.",
            )
        return loaded.on(self.device)

    def load(self, **options: Any) -> Backbone:
        """The network on the CPU, with ``seed``, ``dropout`` and ``drop_path`` as ``load_backbone`` takes them."""
        from extractors.cnn.backbone import load_backbone

        config = self.backbone_config
        return load_backbone(
            config.backbone,
            self.weights if self._file is None else str(self._file.path),
            config.attention,
            size=config.size,
            mean=config.mean,
            std=config.std,
            pad_type=config.pad_type,
            interpolation=config.interpolation,
            pool=config.pool or None,
            model_args=config.model_args or None,
            **options,
        )

    def feature_names(self) -> list[str]:
        """``e0000``, ``e0001``, ...: as many as the last feature map has channels. Needs no weights."""
        from extractors.cnn.backbone import embedding_width

        return [f"e{at:04d}" for at in range(embedding_width(self.backbone_config))]

    def images(self, cells: Sequence[Cell]) -> NDArray[np.uint8]:
        """uint8 (n, size, size, 3): what the network sees."""
        return self.input_transform(cells)

    @functools.cached_property
    def embed(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """float32 (n, d) of uint8 (n, size, size, 3), by the engine that was chosen; raises as ``network`` does."""
        from extractors.cnn import onnx_backend

        network = self.network
        on_cpu = next(network.parameters()).device.type == "cpu"
        if self.engine == "onnx" and not (on_cpu and onnx_backend.is_installed()):
            raise UsageError(
                "the network cannot run by ONNX Runtime",
                found="it is not installed" if on_cpu else f"device {self.device}",
                do="pip install 'fusion-cells[onnx]', or take engine auto." if on_cpu else "Take device cpu.",
            )
        by_onnx = None
        if self.engine != "torch" and on_cpu and onnx_backend.is_installed():
            by = onnx_backend.faster if self.engine == "auto" else onnx_backend.embedder
            by_onnx = by(network, local_store())
        return by_onnx or network.embed

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """float32 (n, d): one embedding a cell. On a CPU the same cells give the same bytes by the same engine."""
        rows = self._in_batches(len(cells), lambda some: self.images(cells[some]))
        return as_half(rows) if self.half else rows

    def _in_batches(self, count: int, images: Callable[[slice], NDArray[np.uint8]]) -> NDArray[np.float32]:
        """float32 (count, d): the embeddings of ``images(slice)``, as many at a time as there is memory for."""
        from extractors.cnn.backbone import embed_in_batches

        if not count:
            return np.empty((0, len(self.feature_names())), np.float32)
        rows, most = embed_in_batches(self.embed, images, count, self._most)
        object.__setattr__(self, "_most", most)  # for the batches to come
        return rows

    @functools.cached_property
    def _most(self) -> int:
        """Images in a pass, until there is no room for so many."""
        return self.network.images_a_pass if self.batch_size is None else self.batch_size

    def feature_map(self, cell: Cell) -> NDArray[np.float32] | None:
        """float32 (d, h, w): what ``extract`` gives the means of, to 1e-4; None where it gives no means over places, as
        of a class token."""
        return self.network.maps(self.images([cell]))[0] if self.network.has_places else None

    def features_of_regions(self, cell: Cell, shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """float32 (n, d): the embedding of n images of a cell, of each only the regions that are shown, bool (n, k, k);
        the others are as the background."""
        from extractors.cnn.token_maps import hide_regions

        background = GREY if self.input_transform.background == "grey" else 0
        images = hide_regions(self.images([cell])[0], shown, background)
        return self._in_batches(len(images), lambda some: images[some])

    def empty_regions(self, cell: Cell, regions: int) -> NDArray[np.bool_]:
        """bool (k, k): the regions that hold nothing but background, so that hiding them changes nothing."""
        from extractors.cnn.token_maps import hide_regions

        background = GREY if self.input_transform.background == "grey" else 0
        image = self.images([cell])[0]
        alone = np.eye(regions * regions, dtype=bool).reshape(-1, regions, regions)
        blank = np.full_like(image, background)
        return np.array([np.array_equal(one, blank) for one in hide_regions(image, alone, background)]).reshape(
            regions, regions
        )

    def rollout(self, cell: Cell) -> NDArray[np.float32]:
        """float32 (h, w) in [0, 1]: attention rollout over a transformer's patches, see ``token_maps``; raises as it
        does."""
        from extractors.cnn.token_maps import attention_rollout

        return attention_rollout(self.network, self.images([cell]))[0]

    def resample_to_cell(self, places: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
        """float32 (H, W) over ``cell.rgb`` from float (h, w) over the places of the feature map; see
        ``InputTransform``."""
        return self.input_transform.resample_to_cell(places, cell)


def as_half(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest float16 numbers, as float32; inf above 65,504."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float16).astype(np.float32)
