"""The attention network: a timm backbone without its classifier, squeeze and excitation, and where weights come from.

Only safetensors is ever read: a checkpoint that is a pickle runs code when it is opened.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import struct
import textwrap
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from extractors.cnn._published_models import published_config, published_entry, published_weights
from extractors.cnn._weights_file import WeightsError, read_weights_file
from extractors.cnn.input_transform import InputTransform
from extractors.cnn.network_config import (
    PRETRAINED,
    RANDOM,
    BackboneConfig,
    resolve_backbone_config,
    warn_of_random_weights,
)
from fusion.errors import UsageError
from fusion.io.files import printable, sha256, write_atomically

_log = logging.getLogger("fusion")

#: Channels to one hidden unit of the attention: the ratio of Hu et al., table 10, best in accuracy for its size.
REDUCTION = 16

#: Seconds until the hub counts as unreachable. It answers in one or two; a dead name server takes about ten to fail.
PATIENCE = 12.0


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole image shows: s = sigmoid(W2 relu(W1 mean(x) + b1) + b2), then s x.

    Source: Hu, Shen & Sun (2018), Squeeze-and-Excitation Networks, CVPR, equations 2 to 4.

    W2 and b2 start at zero, so that every gate of an untrained attention is exactly 0.5 for every image: random gates
    would scramble pretrained features, a constant factor vanishes when features are standardised. W2 still learns from
    the first step, W1 from the second.
    """

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.excite = nn.Linear(max(1, channels // reduction), channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def gates(self, x: Tensor) -> Tensor:
        """(N, C) in (0, 1) of a feature map (N, C, H, W)."""
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), every channel times its gate."""
        return x * self.gates(x)[:, :, None, None]


class Backbone(nn.Module):
    """A backbone's last feature map, weighed by attention and averaged.

    A backbone of tokens (a vision transformer) has no feature map: it is pooled by its own head, without attention.

    Attributes
    ----------
    backbone_config : which network, and how images are prepared for it.
    source : where the weights come from: ``sha256:...``, ``random:seed`` or ``hub repository:file``.
    dropout : share of the feature map's elements left out in training, before attention: what timm does with its
        ``drop_rate`` where a feature map is asked for.
    drop_path : largest share of cells whose residual branch is left out in training, rising with depth.
    width : number of channels of the embedding.

    Raises
    ------
    UsageError : unknown backbone, one without feature map where attention is wanted, a size or padding it cannot take.
    """

    backbone: Any  # timm's models have no type in common
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone_config: BackboneConfig, source: str = "", *, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        layout = _layout(backbone_config.backbone, backbone_config.size, backbone_config.pad_type)
        if backbone_config.attention and not layout.is_map:
            raise UsageError(
                f"backbone '{backbone_config.backbone}' has no feature map for attention to weigh",
                found="tokens, as transformers have",
                do="Turn it off (attention: false), or take a convolutional backbone.",
            )
        self.backbone_config, self.source, self.width, self._layout = backbone_config, source, layout.width, layout
        self.dropout = dropout
        self.backbone = _create(backbone_config.backbone, backbone_config.pad_type, drop_path)
        self.attention: nn.Module = SqueezeExcitation(layout.width) if backbone_config.attention else nn.Identity()
        # Not part of the state: they are the recipe's, and move with the network from device to device.
        self.register_buffer("mean", torch.tensor(backbone_config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone_config.std).view(1, 3, 1, 1), persistent=False)

    def on(self, device: str) -> Backbone:
        """Moved to "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" or "mps"; UsageError where there is none."""
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            # Channels last: half as fast again on a CPU, and the layout that images come in.
            return self.to(device=chosen).to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device '{device}' cannot be used", found=_reason(error), do="Take cpu.") from error

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        """float32 (N, 3, S, S) on the network's device, from uint8 (N, S, S, 3)."""
        return self.normalise(self.scale(images))

    def scale(self, images: NDArray[np.uint8]) -> Tensor:
        """float32 (N, 3, S, S) in [0, 1] on the network's device, from uint8 (N, S, S, 3)."""
        raw = torch.from_numpy(np.ascontiguousarray(images)).to(self.mean.device)
        return raw.permute(0, 3, 1, 2).float() / 255

    def normalise(self, x: Tensor) -> Tensor:
        """What the backbone takes, from images in [0, 1]."""
        return (x - self.mean) / self.std

    @property
    def has_map(self) -> bool:
        """Whether there is a feature map; a transformer has tokens instead."""
        return self._layout.is_map

    def feature_map(self, x: Tensor) -> Tensor:
        """(N, C, H, W): the last feature map after attention, whose mean over H and W is the embedding.

        Raises
        ------
        UsageError : the backbone gives tokens.
        """
        if not self._layout.is_map:
            raise UsageError(f"backbone '{self.backbone_config.backbone}' has no feature map", found="tokens")
        features = functional.dropout(self.backbone.forward_features(x), self.dropout, self.training)
        return self.attention(features.permute(0, 3, 1, 2) if self._layout.channels_last else features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) embedding of prepared images (N, 3, S, S)."""
        if self._layout.is_map:
            return self.feature_map(x).mean((2, 3))
        return self.backbone.forward_head(self.backbone.forward_features(x), pre_logits=True)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, C) of uint8 (N, S, S, 3), by the network as it is: call ``eval()`` after training it."""
        with torch.inference_mode(), _exact():
            return self(self.prepare(images)).float().cpu().numpy()

    def maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, C, H, W) of uint8 (N, S, S, 3): the feature maps whose means ``embed`` gives; raises as they do.

        Torch's, whatever runs the embedding: what is exported to ONNX gives the means alone.
        """
        with torch.inference_mode(), _exact():
            return self.feature_map(self.prepare(images)).float().cpu().numpy()


def _exact() -> Any:
    """TF32 and cuDNN's search for the fastest algorithm would part a GPU's numbers from a CPU's at the third digit, and
    both are stored under one fingerprint."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def load_backbone(
    backbone: str | None = None,
    weights: str = PRETRAINED,
    attention: bool = True,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pad_type: str | None = None,
    seed: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Backbone:
    """A backbone with its weights, on the CPU, in evaluation mode. The global random state is left as it was.

    Parameters
    ----------
    backbone : any timm model; None is the one a weights file names, else tf_efficientnetv2_b3.
    weights : "pretrained", "random", or the path of a .safetensors file: one with timm's names, or ``save_backbone``'s.
        A classifier in it is left out; an attention in it is used if ``attention`` is wanted.
    attention : squeeze and excitation on the last feature map.
    size, mean, std, pad_type : say otherwise than the weights' own configuration.
    seed : of random weights.
    dropout, drop_path : see ``Backbone``; they play no part until it is trained.

    Raises
    ------
    WeightsError : weights that cannot be had, read, or fitted to the backbone.
    UsageError : an unknown backbone, or one that cannot do what is asked.
    """
    given: dict[str, Any] = {"backbone": backbone, "attention": attention, "size": size}
    given |= {"mean": mean, "std": std, "pad_type": pad_type}
    if weights == RANDOM:
        warn_of_random_weights(seed)
        return untrained_backbone(resolve_backbone_config(None, **given), seed, dropout=dropout, drop_path=drop_path)
    if weights == PRETRAINED:
        backbone_config = resolve_backbone_config(None, **given)
        path, source = _fetched(backbone_config.backbone), ":".join(published_weights(backbone_config.backbone))
    else:
        file = read_weights_file(Path(weights))
        backbone_config, path, source = resolve_backbone_config(file, **given), file.path, file.source
    network = untrained_backbone(backbone_config, seed, source=source, dropout=dropout, drop_path=drop_path)
    content = path.read_bytes()
    if source.startswith("sha256:") and f"sha256:{sha256(content)}" != source:
        raise WeightsError(f"{printable(path)} changed while it was being read", do="Start again.")
    _fill(network, content, path)
    return network


def untrained_backbone(
    backbone_config: BackboneConfig,
    seed: int,
    *,
    source: str | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Backbone:
    """A backbone with random weights, to be filled or trained, on the CPU, in evaluation mode."""
    with _own_random_state(seed):
        return Backbone(
            backbone_config, f"{RANDOM}:{seed}" if source is None else source, dropout=dropout, drop_path=drop_path
        ).eval()


def save_backbone(
    network: Backbone,
    path: Path,
    provenance: Mapping[str, Any] | None = None,
    input_transform: InputTransform | None = None,
) -> None:
    """Write weights and recipe as safetensors, whole or not at all; the same backbone gives the same bytes.

    Parameters
    ----------
    network : what to save.
    path : ends in ``.safetensors``.
    provenance : plain values that say what it was trained on; kept as JSON under the metadata key ``provenance``.
    input_transform : how its images were taken, so that an embedding by these weights sees cells as the training did.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written.
    """
    backbone_config = network.backbone_config
    metadata = {
        "architecture": backbone_config.backbone,
        "attention": str(backbone_config.attention).lower(),
        "size": str(backbone_config.size),
        "mean": ",".join(repr(value) for value in backbone_config.mean),
        "std": ",".join(repr(value) for value in backbone_config.std),
        "interpolation": backbone_config.interpolation,
    }
    metadata |= {} if backbone_config.pad_type is None else {"pad_type": backbone_config.pad_type}
    if input_transform is not None:
        metadata |= {
            "view": "cell" if input_transform.view is None else str(input_transform.view),
            "background": input_transform.background,
        }
    metadata |= {} if provenance is None else {"provenance": json.dumps(provenance, sort_keys=True)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, _sorted_header(safetensors.torch.save(tensors, metadata)))


def _sorted_header(content: bytes) -> bytes:
    """safetensors writes metadata in an order that differs from run to run; the file's hash must not."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format wants tensors aligned to 8 bytes
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


# ---- what timm knows -------------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """What a backbone gives: its channels, whether they form a map, and whether they come last in it."""

    width: int
    is_map: bool
    channels_last: bool


def embedding_width(backbone_config: BackboneConfig) -> int:
    """Number of features, without any weights."""
    return _layout(backbone_config.backbone, backbone_config.size, backbone_config.pad_type).width


def gives_map(backbone_config: BackboneConfig) -> bool:
    """Whether the backbone has a feature map; a transformer has tokens instead. Needs no weights."""
    return _layout(backbone_config.backbone, backbone_config.size, backbone_config.pad_type).is_map


def _create(backbone: str, pad_type: str | None, drop_path: float = 0.0) -> Any:
    published_entry(backbone)
    options: dict[str, Any] = {} if pad_type is None else {"pad_type": pad_type}
    options |= {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(backbone, num_classes=0, **options)
    except TypeError as error:
        if not options:
            raise
        raise UsageError(
            f"backbone '{backbone}' takes no {' or no '.join(options)}",
            found=", ".join(repr(value) for value in options.values()),
        ) from error


@functools.lru_cache(maxsize=8)
def _layout(backbone: str, size: int, pad_type: str | None) -> _Layout:
    """Asked of the network itself, on torch's meta device: shapes without numbers, in a tenth of a second."""
    with _own_random_state(0), torch.device("meta"), torch.no_grad():
        network = _create(backbone, pad_type).eval()
        try:
            features = network.forward_features(torch.empty(1, 3, size, size))
            channels_last = getattr(network, "output_fmt", None) == "NHWC"
            if features.ndim == 4:
                return _Layout(features.shape[-1 if channels_last else 1], True, channels_last)
            return _Layout(network.forward_head(features, pre_logits=True).shape[1], False, False)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"backbone '{backbone}' cannot take images of {size} pixels",
                found=_reason(error),
                expected=f"{published_config(backbone)['size']}",
            ) from error


# ---- tensors into the network ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Random numbers from ``seed``, the caller's own stream untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        yield


def _fill(network: Backbone, content: bytes, path: Path) -> None:
    """Load every tensor of the file, or none: timm itself would leave missing ones random without a word."""
    try:
        given = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{printable(path)} is no whole safetensors file", found=str(error)) from error
    own = network.state_dict()
    given = _named_as_ours(given, own, network.backbone_config)
    faults = list(misfits(given, own))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{printable(path)} does not hold the weights of {network.backbone_config.backbone}",
            found=f"{', '.join(faults[:3])}{more} (of {len(own)} tensors)",
            do="Name the backbone it was made for (--backbone), and save it whole, with timm's own tensor names.",
        )
    network.load_state_dict(given)


def _named_as_ours(given: Mapping[str, Tensor], own: Mapping[str, Tensor], config: BackboneConfig) -> dict[str, Tensor]:
    """Tensors of timm's or our own names by ours, without a published classifier; attention as ``config`` has it."""
    if not all(name.startswith(("backbone.", "attention.")) for name in given):
        given = {f"backbone.{name}": tensor for name, tensor in given.items()}
    names = published_entry(config.backbone).classifier or ()
    classifiers = tuple(f"backbone.{name}." for name in ([names] if isinstance(names, str) else names))
    given = {name: tensor for name, tensor in given.items() if name in own or not name.startswith(classifiers)}
    if not config.attention:
        return {name: tensor for name, tensor in given.items() if not name.startswith("attention.")}
    if not any(name.startswith("attention.") for name in given):
        given |= {name: tensor for name, tensor in own.items() if name.startswith("attention.")}
    return given


def misfits(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps ``given`` from being loaded in place of ``own``: missing, unknown, of another shape or kind."""
    for name in [*own, *(name for name in given if name not in own)]:
        shown = printable(name.removeprefix("backbone."))
        if name not in given:
            yield f"missing {shown}"
        elif name not in own:
            yield f"unknown {shown}"
        elif given[name].shape != own[name].shape:
            yield f"{shown} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        elif given[name].is_floating_point() != own[name].is_floating_point():
            yield f"{shown} {given[name].dtype} instead of {own[name].dtype}"
        elif given[name].is_floating_point() and not given[name].isfinite().all():
            yield f"{shown} not finite"


# ---- pretrained weights ----------------------------------------------------------------------------------------------


def _fetched(backbone: str) -> Path:
    """The pretrained weights in the hub's local cache, downloaded if they are not there yet."""
    import huggingface_hub

    repository, name = published_weights(backbone)
    with _hub_is_silent():
        cached = huggingface_hub.try_to_load_from_cache(repository, name)
        try:
            if not isinstance(cached, str):
                _ask_hub(repository, name)
                _log.info("fetching %s from the hub, once", repository)
                cached = huggingface_hub.hf_hub_download(repository, name)
        except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's
            raise WeightsError(
                f"pretrained weights of {backbone} could not be fetched",
                found=_reason(error),
                do="Go online once, give a file with --weights FILE.safetensors, "
                "or try the machinery with --weights random.",
            ) from error
    path = Path(cached)
    # The cache names content by its sha256; where links are not to be had the name says nothing.
    digest = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", digest) and sha256(path.read_bytes()) != digest:
        raise WeightsError(f"{printable(path)} was damaged after its download", do="Delete it and go online once.")
    return path


def _ask_hub(repository: str, name: str) -> None:
    """Return if the hub answers for this file, raise what is wrong otherwise, within ``PATIENCE``.

    The download itself would try six times over, half a minute in all. In a thread, because looking up a name knows no
    time limit.
    """
    import huggingface_hub

    failures: list[Exception] = []

    def ask() -> None:
        try:
            url = huggingface_hub.hf_hub_url(repository, name)
            huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
        except Exception as error:  # handed to the caller
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        raise TimeoutError(f"no answer from {huggingface_hub.constants.ENDPOINT} within {PATIENCE:.0f} s")
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _hub_is_silent() -> Iterator[None]:
    """Neither bars nor warnings of the hub's client reach the terminal: what goes wrong we say ourselves."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, had_bars = logger.level, not utils.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.disable_progress_bars()
        try:
            yield
        finally:
            if had_bars:
                utils.enable_progress_bars()
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """One line of what first went wrong."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return textwrap.shorten(text, 160, placeholder=" ...") or type(error).__name__
