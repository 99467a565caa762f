"""``fusion explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import IMAGES, MASK_LEVELS, MODEL, OUTPUT, OWN, READING, SITE_CLASSES, SOURCE, command, option
from fusion.settings.commands import ExplainConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    ExplainConfig,
    MODEL,
    IMAGES,
    OUTPUT,
    option("data", metavar="DATA"),
    "top",
    *READING,
    MASK_LEVELS,
    SOURCE,
    SITE_CLASSES,
    OWN,
    "jobs",
    "store",
)
def explain(screen: Screen, config: ExplainConfig) -> tuple[Fault, ...]:
    """Explain what a MODEL predicts for each cell in IMAGES.

    A figure a cell (SVG and PNG), and one page: contours, where a network looks, the features that speak for and
    against, with the training cells' values, and what each block adds. Of a model of patients, one page: the cells
    that each patient's class rests on, and those the model looked at most.
    """
    from fusion.workflows.explain import explain

    explained = explain(config, screen.progress)
    screen.notes(explained.predictions.notes)
    for each in explained.shown:
        screen.line(f"{each.found.name}: {each.found.verdict}")
    for patient in explained.patients:
        screen.line(f"{patient.name}: {patient.verdict}")
    screen.line(f"page {explained.page}" + ("" if explained.patients else ", and a figure a cell beside it"))
    rows = [each.to_json() for each in explained.shown] + [each.to_json() for each in explained.patients]
    screen.json({"page": str(explained.page), "explanations": rows})
    return explained.faults
