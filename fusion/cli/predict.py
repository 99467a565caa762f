"""``fusion predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import (
    IMAGES,
    MASK_LEVELS,
    MODEL,
    OWN,
    READING,
    RISK,
    SETS,
    SITE_CLASSES,
    SOURCE,
    command,
    option,
)
from fusion.settings.commands import PredictConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    PredictConfig,
    MODEL,
    IMAGES,
    "csv",
    "parquet",
    SETS,
    RISK,
    option("explain", metavar="DIR"),
    *READING,
    MASK_LEVELS,
    SOURCE,
    SITE_CLASSES,
    OWN,
    "jobs",
    "store",
)
def predict(screen: Screen, config: PredictConfig) -> tuple[Fault, ...]:
    """Class and probability of every cell in IMAGES.

    IMAGES are images, folders of images, C-NMC trees or tables, in any number. Where subjects are known, each is
    also predicted as a whole: by the mean probability of its cells, and by their majority.
    """
    from fusion.compute.lazy_libraries import load_libraries_when_asked

    load_libraries_when_asked()
    from fusion.workflows.predict import predict

    found = predict(config, screen.progress)
    screen.predictions(found, {"csv": config.csv, "parquet": config.parquet})
    if config.explain is not None:
        screen.note(f"page {config.explain / 'explanations.html'}, and a figure a cell beside it")
    return found.faults
