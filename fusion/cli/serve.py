"""``fusion serve``."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from fusion.cli.options import MODEL, SITE_CLASSES, SOURCE, command, option
from fusion.errors import UsageError
from fusion.settings.commands import ServeConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(ServeConfig, MODEL, option("host", metavar="ADDRESS"), "port", SOURCE, SITE_CLASSES)
def serve(screen: Screen, config: ServeConfig) -> None:
    """Show what a MODEL says of images, on a page and by an API.

    Both are of this machine. Nothing that is sent is stored. Runs until interrupted; needs the extra 'serve'.
    """
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "python_multipart", "prometheus_client"))):
        raise UsageError(
            "fusion serve needs FastAPI, uvicorn and prometheus-client", do="pip install 'fusion-cells[serve]'."
        )
    # OpenCV reads its own limit when it is imported, which nothing has done yet.
    known = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "")
    limit = config.megapixels * 1_000_000
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(min(limit, int(known)) if known.isdecimal() else limit)
    from fusion.serve.app import serve

    serve(config, lambda address: screen.line(f"{address}  (stop with Ctrl+C)"))
