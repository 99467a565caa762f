"""``fusion segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import DATA, OUTPUT, command, option
from fusion.settings.commands import SegmentConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(SegmentConfig, *DATA, OUTPUT, option("segmenter", metavar="NAME"))
def segment(screen: Screen, config: SegmentConfig) -> tuple[Fault, ...]:
    """Find the cells of every image, and write them as masks.

    Writes OUTPUT/masks and OUTPUT/cells.csv, a row a cell, which every command takes as DATA: masks that are given are
    used as they are. --segmenter names any plug-in, such as a network's; without it masks are what Fusion finds by
    itself, to be looked at and corrected by hand.
    """
    from fusion.workflows.segment import segment_data

    found = segment_data(config, screen.progress)
    screen.notes(found.notes)
    for line in found.lines():
        screen.line(line)
    screen.json(
        {
            "table": str(found.table),
            "segmenter": found.segmenter,
            "images": found.images,
            "cells": found.cells,
            "kept": found.kept,
            "unclear": found.unclear,
        }
    )
    return found.faults
