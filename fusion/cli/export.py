"""``fusion export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import MODEL, READING, command, option
from fusion.settings.commands import ExportConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(ExportConfig, MODEL, option("onnx", metavar="F"), option("check", metavar="DATA"), *READING, "jobs", "store")
def export(screen: Screen, config: ExportConfig) -> tuple[Fault, ...]:
    """Write MODEL as one ONNX file.

    From the feature table to the probability; for neural, from the image that the network is shown; of a model of
    patients, from the rows of one patient's cells, however many. The file is run beside the model and is not written
    where their probabilities differ. docs/export.md tells inputs and outputs.
    """
    from fusion.bundles.onnx_export import export_onnx
    from fusion.cli.console import size_in_words

    found = export_onnx(config, screen.progress)
    for check in found.differences:
        units = "cells" if check.unit == "cell" else "patients"
        screen.line(
            f"{check.rows} {units} of {check.on}: probabilities differ by up to {check.probability:.1e}, "
            f"{check.labels} predicted otherwise"
        )
    for way, values in (("in", found.inputs), ("out", found.outputs)):
        for name, kind in values.items():
            screen.line(f"  {way}  {name}: {kind}")
    screen.line(f"{size_in_words(found.size_bytes)} written to {found.path}")
    screen.json(found.to_json())
    return found.faults
