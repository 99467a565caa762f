"""The attention network: a timm backbone without its classifier, squeeze and excitation, and where weights come from.

Only safetensors is ever read: a checkpoint that is a pickle runs code when it is opened.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from extractors.cnn._architecture import Layout, create, layout, own_random_state
from extractors.cnn._hub import reason_of
from extractors.cnn._published_models import published_entry, published_file, published_weights
from extractors.cnn._weights_file import WeightsError, read_weights_file
from extractors.cnn.input_transform import InputTransform
from extractors.cnn.network_config import (
    MAP,
    PRETRAINED,
    RANDOM,
    BackboneConfig,
    resolve_backbone_config,
    warn_of_random_weights,
    weights_path,
)
from fusion.errors import UsageError
from fusion.io.files import printable, sha256, write_atomically

_log = logging.getLogger("fusion")

#: Channels to one hidden unit of the attention: the ratio of Hu et al., table 10, best in accuracy for its size.
REDUCTION = 16


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

    A backbone of tokens (a vision transformer) has no feature map: its tokens are pooled as ``backbone_config.pool``
    says, without attention. The mean of the patches' tokens has a map all the same, of these tokens by their places.

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
    UsageError : unknown backbone, or a size or padding it cannot take.
    """

    backbone: Any  # timm's models have no type in common
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone_config: BackboneConfig, source: str = "", *, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        found = _layout(backbone_config)
        self.backbone_config, self.source, self._layout = backbone_config, source, found
        self.width = embedding_width(backbone_config)
        self.dropout = dropout
        size, pad_type = backbone_config.size, backbone_config.pad_type
        self.backbone = create(backbone_config.backbone, size, pad_type, backbone_config.model_args, drop_path)
        self.attention: nn.Module = SqueezeExcitation(found.width) if backbone_config.attention else nn.Identity()
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
            raise UsageError(f"device '{device}' cannot be used", found=reason_of(error), do="Take cpu.") from error

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

    @property
    def images_a_pass(self) -> int:
        """How many images are embedded at a time where nobody says: past 16 a CPU gains nothing, and past 4 tokens of
        a transformer leave its caches (docs/neural.md); a GPU wants what its memory holds."""
        if next(self.parameters()).device.type != "cpu":
            return 256
        return 16 if self.has_map else 4

    @property
    def prefix_tokens(self) -> int:
        """How many tokens come before those of the patches: class token and registers."""
        return self._layout.prefix

    @property
    def has_places(self) -> bool:
        """Whether its embedding is a mean over places: of a feature map, or of the patches' tokens."""
        norm = getattr(self.backbone, "fc_norm", None)
        is_mean = self.backbone_config.pool == "mean" and self._layout.patch > 0
        return self._layout.is_map or (is_mean and (norm is None or isinstance(norm, nn.Identity)))

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
        return self.pool(self.backbone.forward_features(x))

    def pool(self, tokens: Tensor) -> Tensor:
        """(N, C) embedding of a transformer's tokens (N, T, C)."""
        pool, network = self.backbone_config.pool, self.backbone
        if pool == "head":
            return network.forward_head(tokens, pre_logits=True)
        # Where the last norm comes after pooling, it is here; elsewhere it is no more than the identity.
        norm = getattr(network, "fc_norm", None)
        norm = nn.Identity() if norm is None else norm
        parts = {"cls": lambda: tokens[:, 0], "mean": lambda: tokens[:, self._layout.prefix :].mean(1)}
        return torch.cat([norm(parts[name]()) for name in pool.split("+")], 1)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, C) of uint8 (N, S, S, 3), by the network as it is: call ``eval()`` after training it."""
        with torch.inference_mode(), _exact():
            return self(self.prepare(images)).float().cpu().numpy()

    def maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, C, H, W) of uint8 (N, S, S, 3): the places whose means ``embed`` gives, of a feature map or of
        the patches' tokens; raises as ``feature_map`` does where there are none.

        Torch's, whatever runs the embedding: what is exported to ONNX gives the means alone.
        """
        with torch.inference_mode(), _exact():
            x = self.prepare(images)
            if self._layout.is_map or not self.has_places:
                return self.feature_map(x).float().cpu().numpy()
            tokens = self.backbone.forward_features(x)[:, self._layout.prefix :]
            side = self.backbone_config.size // self._layout.patch
            return tokens.transpose(1, 2).reshape(len(x), -1, side, side).float().cpu().numpy()


def embed_in_batches(
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    images: Callable[[slice], NDArray[np.uint8]],
    count: int,
    most: int,
) -> tuple[NDArray[np.float32], int]:
    """float32 (count, d), embedded ``most`` at a time; where a GPU's memory has no room for so many, by halves.

    Returns
    -------
    the rows, and how many there was room for in the end.
    """
    found: list[NDArray[np.float32]] = []
    at = 0
    while at < count:
        batch = images(slice(at, min(at + most, count)))
        try:
            found.append(embed(batch))
        except torch.cuda.OutOfMemoryError:
            if most == 1:
                raise
            most = most // 2
            torch.cuda.empty_cache()
            continue
        at += len(batch)
    return np.concatenate(found), most


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
    interpolation: str | None = None,
    pool: str | None = None,
    model_args: str | None = None,
    seed: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Backbone:
    """A backbone with its weights, on the CPU, in evaluation mode. The global random state is left as it was.

    Parameters
    ----------
    backbone : any timm model, ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``; None is the one a weights file names,
        else tf_efficientnetv2_b3.
    weights : "pretrained", "random", or the path of a .safetensors file: one with timm's names, or ``save_backbone``'s.
        A classifier in it is left out; an attention in it is used if ``attention`` is wanted.
    attention : squeeze and excitation on the last feature map, where there is one.
    size, mean, std, pad_type, interpolation, pool, model_args : say otherwise than the weights' own configuration; see
        ``BackboneConfig``.
    seed : of random weights.
    dropout, drop_path : see ``Backbone``; they play no part until it is trained.

    Raises
    ------
    WeightsError : weights that cannot be had, read, or fitted to the backbone.
    UsageError : an unknown backbone, or one that cannot do what is asked.
    """
    given: dict[str, Any] = {"backbone": backbone, "attention": attention, "size": size}
    given |= {"mean": mean, "std": std, "pad_type": pad_type}
    given |= {"interpolation": interpolation, "pool": pool, "model_args": model_args}
    if weights == RANDOM:
        warn_of_random_weights(seed)
        return untrained_backbone(resolve_backbone_config(None, **given), seed, dropout=dropout, drop_path=drop_path)
    found = weights_path(backbone, weights)
    if found is None:
        backbone_config = resolve_backbone_config(None, **given)
        path, source = published_file(backbone_config.backbone), ":".join(published_weights(backbone_config.backbone))
    else:
        file = read_weights_file(found)
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
    with own_random_state(seed):
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
    metadata |= {"pool": backbone_config.pool or MAP}
    metadata |= {"model_args": backbone_config.model_args} if backbone_config.model_args else {}
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


def embedding_width(backbone_config: BackboneConfig) -> int:
    """Number of features, without any weights."""
    width = _layout(backbone_config).width
    return 2 * width if backbone_config.pool == "cls+mean" else width


def gives_map(backbone_config: BackboneConfig) -> bool:
    """Whether the backbone has a feature map; a transformer has tokens instead. Needs no weights."""
    return _layout(backbone_config).is_map


def _layout(config: BackboneConfig) -> Layout:
    return layout(config.backbone, config.size, config.pad_type, config.model_args)


# ---- tensors into the network ----------------------------------------------------------------------------------------


def _fill(network: Backbone, content: bytes, path: Path) -> None:
    """Load every tensor of the file, or none: timm itself would leave missing ones random without a word."""
    try:
        given = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{printable(path)} is no whole safetensors file", found=str(error)) from error
    own = network.state_dict()
    given = _resampled(_named_as_ours(given, own, network.backbone_config), own, network)
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
    # DINO's own files hold the token that stood for hidden patches in pretraining, and that nothing is embedded with.
    unused = (*classifiers, "backbone.mask_token")
    given = {name: tensor for name, tensor in given.items() if name in own or not name.startswith(unused)}
    if not config.attention:
        return {name: tensor for name, tensor in given.items() if not name.startswith("attention.")}
    if not any(name.startswith("attention.") for name in given):
        given |= {name: tensor for name, tensor in own.items() if name.startswith("attention.")}
    return given


def _resampled(given: dict[str, Tensor], own: Mapping[str, Tensor], network: Backbone) -> dict[str, Tensor]:
    """Position embeddings of another size by those of this one, as timm itself resamples them."""
    moved = [name for name in given if name.endswith("pos_embed") and given[name].ndim == 3]
    moved = [name for name in moved if name in own and given[name].shape[1] != own[name].shape[1]]
    if not moved or given[moved[0]].shape[2] != own[moved[0]].shape[2]:
        return given
    from timm.layers import resample_abs_pos_embed

    patches = network.backbone.patch_embed.grid_size
    for name in moved:
        beside = own[name].shape[1] - patches[0] * patches[1]
        side = math.isqrt(max(0, given[name].shape[1] - beside))
        if side * side == given[name].shape[1] - beside:
            given[name] = resample_abs_pos_embed(given[name], list(patches), num_prefix_tokens=beside)
            _log.info("position embeddings of %d x %d patches resampled to %d x %d", side, side, *patches)
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
