"""Networks and unfinished trainings as files: safetensors for tensors, JSON for the rest, checked before use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from classifiers.neural._trainer import State, Trainer
from extractors.cnn.backbone import misfits
from fusion.bundles.bundle_files import BundleError
from fusion.errors import FusionError
from fusion.io.files import printable, write_atomically


class CheckpointError(FusionError):
    """An unfinished training cannot be gone on with."""


#: The file of an unfinished training, inside its folder.
CHECKPOINT = "checkpoint.safetensors"

#: Raised whenever a training could go on to other numbers than when its checkpoint was written.
FORMAT = "2"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises
    ------
    BundleError : missing, cut short, or no safetensors: a pickle for example, which is never opened.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{printable(path)} cannot be read", found=(error.strerror or str(error)).lower()) from error
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        return tensors, json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        pickled = content[:1] == b"\x80" or content[:2] == b"PK"
        raise BundleError(
            f"{printable(path)} is no whole safetensors file",
            found="a pickle or torch checkpoint, which could run code when opened" if pickled else str(error)[:200],
        ) from error


def fill(network: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load every tensor into its place, or none.

    Raises
    ------
    BundleError : a tensor is missing, unknown, of another shape or kind, or not finite.
    """
    own = network.state_dict()
    if faults := list(misfits(tensors, own)):
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BundleError(
            f"{printable(path)} does not hold this network",
            found=f"{', '.join(faults[:3])}{more} (of {len(own)} tensors)",
        )
    network.load_state_dict(dict(tensors))


def write_checkpoint(folder: Path, trainer: Trainer, identity: str) -> None:
    """Write all that a training needs to go on, in one file, whole or not at all."""
    state = trainer.state
    tensors = {f"network.{name}": tensor for name, tensor in trainer.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in state.mean.items()}
    for name, memory in _memories(trainer).items():
        tensors |= {f"optimiser.{part}.{name}": value for part, value in memory.items()}
    stored = {
        "epoch": state.epoch,
        "stale": state.stale,
        "best_score": state.best_score,
        "history": state.history,
        "scaler": trainer.scaler.state_dict(),
    }
    metadata = {"format": FORMAT, "identity": identity, "state": json.dumps(stored)}
    # A clone each: safetensors refuses tensors that share memory, as a running mean may just after it began.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(folder / CHECKPOINT, safetensors.torch.save(whole, metadata))


def read_checkpoint(folder: Path, trainer: Trainer, identity: str) -> bool:
    """Put a trainer where its checkpoint stands; False where there is none.

    Raises
    ------
    CheckpointError : damaged, or the checkpoint of a training with other settings or cells.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    try:
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != FORMAT or metadata.get("identity") != identity:
            raise CheckpointError(
                f"{printable(path)} belongs to another training",
                found="other settings, cells or version",
                do="Repeat the command as it was, or leave --resume out to start afresh.",
            )
        stored = json.loads(metadata["state"])
        parts = {
            part: {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
            for part in ("network.", "best.", "mean.")
        }
        fill(trainer.network, parts["network."], path)
        for part in ("best.", "mean."):
            if parts[part] and (faults := list(misfits(parts[part], trainer.network.state_dict()))):
                raise BundleError(f"{printable(path)} does not hold this network", found=", ".join(faults[:3]))
        _remember(trainer, tensors)
        if stored["scaler"]:
            trainer.scaler.load_state_dict(stored["scaler"])
        device = next(trainer.network.parameters()).device
        trainer.state = State(
            epoch=int(stored["epoch"]),
            stale=int(stored["stale"]),
            best_score=stored["best_score"],
            best={name: tensor.to(device) for name, tensor in parts["best."].items()},
            mean={name: tensor.to(device) for name, tensor in parts["mean."].items()},
            history=list(stored["history"]),
        )
    except (BundleError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{printable(path)} cannot be gone on with", found=reason, do="Leave --resume out to start afresh."
        ) from error
    return True


#: What AdamW remembers of a parameter.
_MEMORY = ("step", "exp_avg", "exp_avg_sq")


def _memories(trainer: Trainer) -> dict[str, Mapping[str, Any]]:
    """Parameter name -> what the optimiser remembers of it; nothing yet of those that were frozen so far."""
    found: dict[str, Mapping[str, Any]] = {}
    for group in trainer.optimiser.param_groups:
        memory = trainer.optimiser.state.get(group["params"][0])
        if memory:
            found[group["name"]] = {part: memory[part] for part in _MEMORY}
    return found


def _remember(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    for group in trainer.optimiser.param_groups:
        parameter, name = group["params"][0], group["name"]
        memory = {part: tensors.get(f"optimiser.{part}.{name}") for part in _MEMORY}
        if all(value is None for value in memory.values()):
            continue
        for part, value in memory.items():
            shape = torch.Size() if part == "step" else parameter.shape
            if value is None or value.shape != shape or not value.isfinite().all():
                raise ValueError(f"the optimiser's memory of {name} is damaged")
        trainer.optimiser.state[parameter] = {
            part: value if part == "step" else value.to(parameter.device)  # type: ignore[union-attr]
            for part, value in memory.items()
        }
