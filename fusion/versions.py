"""The versions of what could change a number."""

from __future__ import annotations

import platform


def versions() -> dict[str, str]:
    """Versions of what could change a number."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("fusion-cells", "numpy", "opencv-python-headless", "scikit-image", "scikit-learn", "xgboost", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # another build of the same library, opencv-python for one
            found[name] = "unknown"
    return found
