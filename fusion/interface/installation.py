"""What this installation has: versions, processors, weights, store, extras; and what it lacks, with the remedy."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fusion.compute.platform_calls import usable_cores
from fusion.dependencies import NETWORK_PACKAGES, is_installed
from fusion.io.cache_folder import default_store
from fusion.versions import versions

#: Extra -> the package by which one sees that it is there.
EXTRAS = {
    "onnx": "onnxruntime",
    "serve": "fastapi",
    "anndata": "anndata",
    "optuna": "optuna",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "dask": "distributed",
    "s3": "s3fs",
    "gs": "gcsfs",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name, found : what, and what there is.
    remedy : what to do about it; "" where nothing is amiss.
    facts : plain values for a machine.
    """

    name: str
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "found": self.found, "remedy": self.remedy, **self.facts}


def check_installation() -> list[Check]:
    """Look at everything that a run may depend on; nothing is changed, nothing is fetched.

    Examples
    --------
    >>> any(check.name == "feature store" for check in check_installation())
    True
    """
    return [_versions(), _machine(), _networks(), _gpu(), _weights(), _store(), *_extras()]


def _versions() -> Check:
    found = versions()
    return Check("versions", ", ".join(f"{name} {number}" for name, number in found.items()), facts={"versions": found})


def _machine() -> Check:
    cores = usable_cores()
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ}
    said = "".join(f", {name}={value}" for name, value in limits.items())
    return Check("machine", f"{platform.platform()}, {cores} cores{said}", facts={"cores": cores})


def _networks() -> Check:
    lacking = [name for name in NETWORK_PACKAGES if not is_installed(name)]
    if not lacking:
        return Check("networks", f"torch {version('torch')}, timm {version('timm')}", facts={"networks": True})
    return Check(
        "networks",
        f"without {', '.join(lacking)}: handcrafted blocks, svm, xgb and logreg work, neural and cnn do not",
        f"pip install {' '.join(lacking)}, if you want them",
        {"networks": False},
    )


def _gpu() -> Check:
    if not is_installed("torch"):
        return Check("GPU", "not asked for, without torch", facts={"gpus": []})
    import torch

    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    found = ", ".join(names) if names else "none that torch can use: networks run on the processor"
    return Check("GPU", found, facts={"gpus": names})


def _weights() -> Check:
    folder = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    folder = folder.expanduser()
    known = sorted(each.name.removeprefix("models--").replace("--", "/") for each in folder.glob("models--*"))
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    found = f"{len(known)} models in {folder}" + (", and no other is fetched (HF_HUB_OFFLINE=1)" if offline else "")
    return Check("weights", found, facts={"weights": known, "folder": str(folder)})


def _store() -> Check:
    folder = default_store()
    at = folder
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if not os.access(at, os.W_OK):
        return Check("feature store", f"{folder} cannot be written", "Set FUSION_CACHE to a folder that can.")
    low = free < 1 << 30
    return Check(
        "feature store",
        f"{folder}, {free / 1e9:.1f} GB free",
        "Below 1 GB: fusion cache gc makes room, FUSION_CACHE names another place." if low else "",
        {"folder": str(folder), "free_bytes": free},
    )


def _extras() -> list[Check]:
    found = []
    for extra, package in EXTRAS.items():
        is_there = is_installed(package)
        words = f"{package} {_version(package)}".strip() if is_there else f"pip install 'fusion-cells[{extra}]'"
        found.append(Check(f"extra {extra}", words if is_there else f"no: {words}", facts={"installed": is_there}))
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # there, under the name of another build
        return ""
