"""The backbone by ONNX Runtime: on a CPU it embeds 1.4 to 2.3 times as fast as by torch. Exported once, and checked.

What is exported lies in the cache, under a name made of all that its numbers depend on, beside a note of its hash, of
how far it was from torch, and of which of the two was faster here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.compute.platform_calls import processor_name
from fusion.features.store_manifest import list_files
from fusion.io.files import file_sha256, printable, write_atomically

if TYPE_CHECKING:
    from extractors.cnn.backbone import Backbone

#: Folder inside the cache.
EXPORTED = "onnx"

#: Largest difference of any value from torch's at which the export may stand in for it.
TOLERANCE = 1e-4

#: Turns of a trial of engines, and how much less time torch must take to be taken: less is noise.
_TURNS, _CLEARLY = 3, 0.95

#: Operators that every ONNX Runtime since 1.14 knows.
_OPSET = 17

_PACKAGES = ("onnx", "onnxruntime")

_log = logging.getLogger("fusion")

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def is_installed() -> bool:
    """Whether the extra ``onnx`` is there."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES)


def embedder(network: Backbone, cache: Path) -> Embed | None:
    """``network.embed`` by ONNX Runtime, on as many threads as torch has; None, and said why, where torch must do it.

    Parameters
    ----------
    network : as it was loaded, on the CPU; one that has been trained since is not what its source says.
    cache : folder in which exports are kept.
    """
    path = cache / EXPORTED / f"{_name(network)}.onnx"
    difference = _remembered(path)
    if difference is None:
        try:
            difference = _export(network, path)
        except Exception as error:  # torch's exporter and ONNX Runtime raise whatever an odd operator trips
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            _log.warning(
                "embedding by torch: %s cannot be exported to ONNX (%s)", network.backbone_config.backbone, reason
            )
            return None
    if not difference < TOLERANCE:
        _log.warning(
            "embedding by torch: by ONNX Runtime, %s differs by up to %.2g, and %g is allowed",
            network.backbone_config.backbone,
            difference,
            TOLERANCE,
        )
        return None
    return _embed(network, _session(path))


def faster(network: Backbone, cache: Path, clock: Callable[[], float] = time.perf_counter) -> Embed | None:
    """``embedder``, or None where torch is faster on this machine, by a trial that is made once and remembered.

    Both give the same numbers to ``TOLERANCE``, or there is nothing to choose; the choice stays with the export, by
    processor and threads, so that a cache does not go from one to the other by the load of the machine.
    """
    by_onnx = embedder(network, cache)
    if by_onnx is None:
        return None
    path, machine = cache / EXPORTED / f"{_name(network)}.json", _machine()
    note = json.loads(path.read_bytes())
    tried = note.get("trials", {})
    if machine not in tried:
        images = _trial(network.backbone_config.size)
        tried[machine] = _seconds({"torch": network.embed, "onnx": by_onnx}, images, clock)
        write_atomically(path, json.dumps({**note, "trials": tried}).encode())
        taken = "torch" if _prefers_torch(tried[machine]) else "onnx"
        _log.info("%s is embedded by %s on this machine: %s", network.backbone_config.backbone, taken, tried[machine])
    return None if _prefers_torch(tried[machine]) else by_onnx


def _prefers_torch(seconds: Mapping[str, float]) -> bool:
    return seconds["torch"] < _CLEARLY * seconds["onnx"]


def _seconds(engines: Mapping[str, Embed], images: NDArray[np.uint8], clock: Callable[[], float]) -> dict[str, float]:
    """The least seconds of each engine, which take turns so that other work on the machine meets both."""
    found = dict.fromkeys(engines, np.inf)
    for turn in range(1 + _TURNS):
        for name, embed in engines.items():
            begun = clock()
            embed(images)
            if turn:  # the first one warms up
                found[name] = min(found[name], clock() - begun)
    return found


def _machine() -> str:
    """What the speed of an engine depends on beside the network: processor and threads."""
    import torch

    return f"{processor_name()}, {torch.get_num_threads()} threads"


def _name(network: Backbone) -> str:
    """Of what the numbers depend on: weights, recipe, and who exports and runs."""
    about = [network.source, repr(network.backbone_config), _OPSET, _versions()]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "timm", *_PACKAGES)}


def _remembered(path: Path) -> float | None:
    """How far a whole export was from torch; None where there is none to be trusted."""
    try:
        stored = json.loads(path.with_suffix(".json").read_bytes())
        return float(stored["difference"]) if file_sha256(path) == stored["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _export(network: Backbone, path: Path) -> float:
    """Write the network, run it beside torch on images of all kinds, and note the largest difference."""
    import torch

    _log.info("exporting %s to ONNX, once", network.backbone_config.backbone)
    images = _trial(network.backbone_config.size)
    sink: Any = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The older of torch's two exporters: it needs a tenth of the time, and no further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (network.prepare(images[:2]).contiguous(),),
            sink,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["x"],
            output_names=["embedding"],
            dynamic_axes={"x": {0: "n"}, "embedding": {0: "n"}},
        )
    content = sink.getvalue()
    list_files(path.parent.parent, path, path.with_suffix(".json"))
    write_atomically(path, content)
    found, expected = _embed(network, _session(path))(images), network.embed(images)
    difference = float(np.abs(found - expected).max())
    difference = difference if np.isfinite(difference) else 1e30  # JSON has no infinity
    note = {"sha256": hashlib.sha256(content).hexdigest(), "difference": difference, "versions": _versions()}
    write_atomically(path.with_suffix(".json"), json.dumps(note).encode())
    return difference


def _trial(size: int) -> NDArray[np.uint8]:
    """uint8 (5, size, size, 3): black, white, noise, and two discs on black as cells are."""
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    discs = [noise // 2 * (np.hypot(y, x) < radius)[..., None].astype(np.uint8) for radius in (0.2, 0.4)]
    return np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise, *discs])


def _session(path: Path) -> Any:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: what it would have liked better is of no use to anyone here
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RuntimeError(f"{printable(path)}: {error}") from error


def _embed(network: Backbone, session: Any) -> Embed:
    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = network.prepare(images).contiguous().numpy()
        return np.asarray(session.run(None, {"x": x})[0], np.float32)

    return embed
