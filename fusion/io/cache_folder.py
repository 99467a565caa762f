"""Where features and other costly things are kept."""

from __future__ import annotations

import os
from pathlib import Path

from fusion.io.remote_path import Remote, as_path


def default_store() -> Path:
    """``$FUSION_CACHE`` where it is set, which may be a URL, else the platform's cache folder."""
    if folder := os.environ.get("FUSION_CACHE"):
        return as_path(folder).expanduser() if folder.startswith("~") else as_path(folder)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fusion-cells", appauthor=False))


def local_store() -> Path:
    """``$FUSION_CACHE`` where it is a folder of this machine, else the platform's cache folder."""
    folder = default_store()
    if not isinstance(folder, Remote):
        return folder
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fusion-cells", appauthor=False))
