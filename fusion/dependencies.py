"""What is said of a package of others that is not there; a light installation leaves those of networks out."""

from __future__ import annotations

import importlib.util

from fusion.errors import UsageError

#: What the light installation leaves out: docs/install.md.
NETWORK_PACKAGES = ("accelerate", "timm", "torch", "torchvision")

_OURS = ("", "fusion", "extractors", "classifiers")


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a finder's own way of saying so
        return False


def is_dependency(error: ModuleNotFoundError) -> bool:
    """Whether what is missing is a package of others, and not a module of ours."""
    return (error.name or "").partition(".")[0] not in _OURS


def missing_package(error: ModuleNotFoundError) -> UsageError:
    """What to tell a user whose installation lacks a package.

    Examples
    --------
    >>> print(missing_package(ModuleNotFoundError("No module named 'timm'", name="timm")).found)
    no package 'timm'
    """
    name = (error.name or "").partition(".")[0]
    if name in NETWORK_PACKAGES:
        return UsageError(
            "networks need PyTorch and timm, which this installation does not have",
            found=f"no package '{name}'",
            do=f"pip install {' '.join(NETWORK_PACKAGES)}, or choose --features and a classifier without a network.",
        )
    return UsageError(f"the package '{name}' is not installed", do=f"pip install {name}.")
