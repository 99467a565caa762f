"""``fusion extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusion.cli.options import DATA, FEATURES, command, option
from fusion.settings.commands import ExtractConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault
    from fusion.features.extraction import Extraction


@command(
    ExtractConfig,
    *DATA,
    *FEATURES,
    "export",
    option("faults", metavar="CSV"),
    option("scheduler", metavar="ADDR"),
    option("log", metavar="JSONL"),
    "jobs",
    "store",
)
def extract(screen: Screen, config: ExtractConfig) -> tuple[Fault, ...]:
    """Measure every cell once and keep the features in the store.

    Stopped by Ctrl-C, killed, or out of disk, it goes on where it was: run the same command again.
    """
    from fusion.features.store import FeatureStore
    from fusion.workflows.extract import run_extract

    found = run_extract(config, screen.progress, screen.note)
    screen.table(
        ["block", "features", "measured now", "from the store"],
        [[name, *map(str, (width, found.computed[name], found.reused[name]))] for name, width in found.widths.items()],
    )
    root = FeatureStore(config.store).root
    screen.line(f"{len(found)} cells, {len(found.faults) or 'none'} skipped; store {root}")
    if config.export is not None:
        screen.line(f"table written to {config.export}")
    screen.json({**_plain(found), "store": str(root), "export": str(config.export) if config.export else None})
    return found.faults


def _plain(found: Extraction) -> dict[str, Any]:
    from fusion.data.dataset import fault_row

    return {
        "cells": len(found),
        "blocks": found.widths,
        "computed": found.computed,
        "reused": found.reused,
        "faults": [fault_row(fault, found.dataset.root) for fault in found.faults],
    }
