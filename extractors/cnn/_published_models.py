"""What is published of a network: which architecture, how its images are prepared, and where its weights lie.

A network is named as timm names it (``tf_efficientnetv2_b3.in21k_ft_in1k``), by a repository of the hub that holds a
model of timm's (``hf-hub:OWNER/NAME``), or by a folder that is laid out as such a repository is (``local-dir:FOLDER``:
a config.json beside the weights).
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm

from extractors.cnn import _hub
from extractors.cnn._weights_file import (
    FOLDER,
    HUB,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    WeightsError,
    is_per_channel,
)
from fusion.errors import UsageError
from fusion.io.files import printable

#: The file that says what a repository or a folder holds, and the one with its weights.
CONFIG, WEIGHTS = "config.json", "model.safetensors"

#: Blocks above which a number is a slip: the deepest network of timm's has some two hundred.
DEEPEST = 1000


@dataclass(frozen=True)
class Published:
    """What is known of a network without its weights.

    Attributes
    ----------
    name : as it was asked for.
    architecture : name of the timm model, with the tag of its weights where timm publishes them.
    config : as timm prepares images by: ``input_size``, ``mean``, ``std``, ``interpolation``.
    model_args : parameters of the architecture that these weights were trained with.
    repository, file : on the hub; "" where there are none.
    folder : of a network in a local folder.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    model_args: Mapping[str, Any] = field(default_factory=dict)
    repository: str = ""
    file: str = ""
    folder: Path | None = None


def published(backbone: str) -> Published:
    """What is published under a name. A folder is read each time: what lies in it may have changed.

    Raises
    ------
    UsageError : an unknown backbone, or a config.json that is not of a timm model.
    WeightsError : a repository or folder that cannot be had.
    """
    if backbone.startswith(FOLDER):
        folder = Path(backbone.removeprefix(FOLDER)).expanduser()
        return _from_config(backbone, folder / CONFIG, folder=folder)
    return _published(backbone)


@functools.lru_cache(maxsize=32)
def _published(backbone: str) -> Published:
    if backbone.startswith(HUB):
        repository = backbone.removeprefix(HUB)
        path = _hub.fetch(repository, CONFIG, f"the configuration of {repository}")
        return _from_config(backbone, path, repository=repository, file=WEIGHTS)
    entry = published_entry(backbone)
    file = entry.hf_hub_filename or WEIGHTS
    is_held = bool(entry.hf_hub_id) and file.endswith(".safetensors")
    return Published(
        backbone, backbone, entry.to_dict(), repository=entry.hf_hub_id if is_held else "", file=file if is_held else ""
    )


def published_config(backbone: str) -> dict[str, Any]:
    """``size, mean, std, interpolation`` that a backbone's published weights are evaluated with."""
    found = published(backbone)
    # timm gives a size for tests beside one for training: the former where weights were trained to bear it.
    config = timm.data.resolve_data_config(pretrained_cfg=dict(found.config), use_test_size=True)
    size = found.model_args.get("img_size")
    # timm says bicubic or bilinear; should it ever say more, bicubic is what it means by default.
    interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    return {
        "size": int(config["input_size"][-1] if size is None else size if isinstance(size, int) else size[-1]),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": interpolation,
    }


def published_weights(backbone: str) -> tuple[str, str]:
    """(repository, file) on the hub; the repository's name holds the tag that tells one training from another.

    Raises
    ------
    UsageError : unknown backbone.
    WeightsError : timm has no weights of it, or none as safetensors.
    """
    found = published(backbone)
    if not found.repository:
        raise WeightsError(
            f"timm has no pretrained weights of '{backbone}' as safetensors",
            do="Give a file with --weights FILE.safetensors, or take another backbone.",
        )
    return found.repository, found.file


def published_file(backbone: str) -> Path:
    """The published weights, out of a folder or the hub's cache, fetched once if they are not there yet.

    Raises
    ------
    UsageError : unknown backbone.
    WeightsError : they cannot be had.
    """
    folder = published(backbone).folder
    if folder is not None:
        return weights_in(folder)
    repository, file = published_weights(backbone)
    return _hub.fetch(repository, file, f"pretrained weights of {backbone}")


def parameters_of_folder(backbone: str, with_weights: bool) -> dict[str, Any]:
    """Parameters of the extractor ``cnn`` that say what a folder's config.json says, and where its weights lie.

    Raises
    ------
    UsageError, WeightsError : a folder that cannot be understood.
    """
    found = published(backbone)
    assert found.folder is not None
    params: dict[str, Any] = {"backbone": found.architecture, **published_config(backbone)}
    if found.model_args:
        params["model_args"] = json.dumps(dict(found.model_args), sort_keys=True)
    return params | ({"weights": str(weights_in(found.folder))} if with_weights else {})


def weights_in(folder: Path) -> Path:
    """The weights in a folder that is laid out as a repository of the hub.

    Raises
    ------
    WeightsError : there are none, or several files that could be meant.
    """
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise WeightsError(
            f"the weights in {printable(folder)} cannot be told",
            found=", ".join(printable(Path(each.name)) for each in files[:5]) or "no .safetensors file",
            expected=WEIGHTS,
        )
    return files[0]


def published_entry(backbone: str) -> Any:
    """timm's entry; UsageError for a name it does not know."""
    if not timm.is_model(backbone):
        close = difflib.get_close_matches(backbone.split(".")[0], timm.list_models(), 3)
        raise UsageError(
            f"unknown backbone '{backbone}'",
            expected=f"a timm model{', perhaps ' + ', '.join(close) if close else ''}, {HUB}OWNER/NAME, "
            f"{FOLDER}FOLDER, or a name of fusion encoders",
        )
    try:
        return timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        known = timm.list_pretrained(backbone.split(".")[0] + "*")
        raise UsageError(f"unknown weights '{backbone}'", expected=", ".join(known[:5]) or "no tag") from error


def _from_config(name: str, path: Path, **where: Any) -> Published:
    """What a config.json says: as timm writes it, now and before it had ``pretrained_cfg``."""
    try:
        stated = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"'{name}' cannot be read",
            found=f"{printable(path)}: {(error.strerror or str(error)).lower()}",
            expected=f"a folder with {CONFIG} and {WEIGHTS}",
        ) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{printable(path)} is no JSON", found=str(error)[:160]) from error
    architecture = stated.get("architecture") if isinstance(stated, dict) else None
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        other = stated.get("model_type") if isinstance(stated, dict) else None
        raise UsageError(
            f"'{name}' holds no model of timm",
            found=f"a {other} of transformers" if other else f"architecture {architecture!r}",
            expected=f"a {CONFIG} that names a timm architecture",
            do="Take the same network as timm publishes it: most are at hf-hub:timm/NAME.",
        )
    own = stated.get("pretrained_cfg", stated)
    _check_config(path, own, stated.get("model_args"))
    usual: Any = timm.get_pretrained_cfg(architecture.split(".")[0])
    config = {**usual.to_dict(), **own}
    # The sizes are those of this training, and not of what timm publishes by the architecture's name.
    config = {key: value for key, value in config.items() if key != "test_input_size" or key in own}
    args = dict(stated.get("model_args") or {})
    pool = stated.get("global_pool")
    if pool and "global_pool" not in args:
        args["global_pool"] = pool
    return Published(name, architecture, config, args, **where)


def _check_config(path: Path, own: Any, model_args: Any) -> None:
    """WeightsError where a config.json states what would prepare images silently otherwise, or not at all."""
    is_whole = isinstance(own, dict)
    size, mean, std = (own.get(key) if is_whole else None for key in ("input_size", "mean", "std"))
    checks = {
        "pretrained_cfg": (is_whole, own, "a mapping"),
        "model_args": (
            model_args is None or _are_bounded(model_args),
            model_args,
            "a mapping, of a network that exists",
        ),
        "input_size": (size is None or _is_square(size), size, "[3, SIDE, SIDE]"),
        "mean": (mean is None or _are_three(mean, positive=False), mean, "three numbers"),
        "std": (std is None or _are_three(std, positive=True), std, "three numbers above 0"),
    }
    for key, (is_right, value, expected) in checks.items():
        if not is_right:
            raise WeightsError(
                f"{printable(path)} cannot be understood", found=f"{key} {value!r}"[:160], expected=expected
            )


def _are_bounded(model_args: Any) -> bool:
    """Whether no network is asked for whose making would not end."""
    if not isinstance(model_args, dict):
        return False
    for key, value in model_args.items():
        numbers = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int | float)]
        if any(abs(each) > LARGEST_SIDE for each in numbers) or ("depth" in key and sum(numbers) > DEEPEST):
            return False
    return True


def _is_square(size: Any) -> bool:
    return (
        isinstance(size, list)
        and len(size) == 3
        and all(isinstance(side, int) for side in size)
        and size[0] == 3
        and SMALLEST_SIDE <= size[1] == size[2] <= LARGEST_SIDE
    )


def _are_three(values: Any, *, positive: bool) -> bool:
    is_list = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
    return is_list and len(values) == 3 and is_per_channel(values, positive=positive)
