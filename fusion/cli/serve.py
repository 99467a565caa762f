"""``fusion serve``."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from fusion.cli.options import MODEL, command, option
from fusion.errors import UsageError
from fusion.settings.commands import ServeConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen


@command(ServeConfig, MODEL, option("host", metavar="ADDRESS"), "port")
def serve(screen: Screen, config: ServeConfig) -> None:
    """Show what a MODEL says of images, on a page and by an API.

    Both are of this machine. Nothing that is sent is stored. Runs until interrupted; needs the extra 'serve'.
    """
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "python_multipart", "prometheus_client"))):
        raise UsageError(
            "fusion serve needs FastAPI, uvicorn and prometheus-client", do="pip install 'fusion-cells[serve]'."
        )
    from fusion.serve.app import serve

    serve(config, lambda address: screen.line(f"{address}  (stop with Ctrl+C)"))
