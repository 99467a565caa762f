"""Explanations as files: a figure a cell as SVG and PNG, and one self-contained page of all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion import figures
from fusion.cells import Cell, CellError, read_cell
from fusion.config import ExplainConfig
from fusion.datasets import Dataset, Fault
from fusion.errors import UsageError
from fusion.explain import TOP, Explanation, explain_measured
from fusion.explanation_figures import explanation_figure, map_overlay, picture_with_outlines
from fusion.extraction import Progress
from fusion.files import write_atomically
from fusion.neighbours import Gallery, Neighbour, open_gallery
from fusion.pictured import PicturedBundle, load_model
from fusion.png import png_data_uri
from fusion.prediction import ask
from fusion.predictions import Predictions

#: The page.
PAGE = "explanations.html"

#: Side in pixels of a cell's picture on the page, and of a neighbour's.
_SIDE, _SMALL = 240, 112


@dataclass(frozen=True)
class Shown:
    """One explained cell: what was found, its figures, and the training cells most like it."""

    found: Explanation
    svg: Path
    png: Path
    neighbours: tuple[Neighbour, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the explanation, its figures, and the names of the cells most like it."""
        like = [{"name": one.name, "label": one.label, "distance": one.distance} for one in self.neighbours]
        return {**self.found.to_json(), "figures": [str(self.svg), str(self.png)], "nearest": like}


@dataclass(frozen=True)
class Explained:
    """What was written, and the pictures that were skipped."""

    shown: tuple[Shown, ...]
    page: Path
    faults: tuple[Fault, ...]
    predictions: Predictions


def explain(config: ExplainConfig, progress: Progress | None = None) -> Explained:
    """Judge pictures, folders or tables, and explain every cell in files.

    Raises
    ------
    BundleError : the model cannot be read.
    DatasetError : a path that is nothing Fusion can read.
    UsageError : the folder cannot be written, or ``data`` has none of the model's training cells.
    PredictionError : no cell could be judged.
    """
    check_folder(config.output)
    bundle = load_model(config.model)
    dataset, predictions = ask(bundle, config, progress)
    predictions.check()
    gallery = None
    if config.data is not None:
        gallery = open_gallery(bundle, config.data, config.store, config.jobs, progress)
    return write_explanations(
        bundle, dataset, predictions, config.output, top=config.top, gallery=gallery, progress=progress
    )


def check_folder(folder: Path) -> None:
    """UsageError where figures cannot be written, before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}", found=str(error.strerror or error).lower()) from error


def write_explanations(
    bundle: PicturedBundle,
    dataset: Dataset,
    predictions: Predictions,
    folder: Path,
    *,
    top: int = TOP,
    gallery: Gallery | None = None,
    progress: Progress | None = None,
) -> Explained:
    """Write a figure for every judged cell, and the page, into a folder.

    ``dataset`` is what was judged. A picture that is no longer as it was measured is a fault.
    """
    samples = dict(zip(dataset.names, dataset.samples, strict=True))
    table, called = predictions.table, predictions.predicted
    shown: list[Shown] = []
    faults = list(predictions.faults)
    for at, name in enumerate(table.names):
        sample = samples[name]
        try:
            cell = read_cell(sample.path, sample.mask_path, sample.um_per_px)
        except CellError as error:
            faults.append(Fault(sample.path, "read", error.what))
            continue
        if sample.adjustment is not None:
            cell = sample.adjustment.apply(cell)
        distance = None if predictions.distance is None else float(predictions.distance[at])
        found = explain_measured(
            bundle, cell, name, table.X[at], predictions.proba[at], called[at], distance, top=top
        )  # fmt: skip
        like = () if gallery is None else gallery.nearest(table.X[at], table.image_keys[at])
        shown.append(_written(found, folder, at + 1, like))
        if progress is not None:
            progress("explaining", at + 1, len(table), len(faults))
    page = folder / PAGE
    write_atomically(page, explanation_page(shown).encode())
    return Explained(tuple(shown), page, tuple(faults), predictions)


def _written(found: Explanation, folder: Path, number: int, like: tuple[Neighbour, ...]) -> Shown:
    # A number in front: pictures of two folders may have one name. Letters that any file system takes.
    stem = re.sub(r"[^\w.-]", "_", Path(found.name).stem)[:80]
    figure = explanation_figure(found)
    svg, png = (folder / f"{number:04d}-{stem}.{kind}" for kind in ("svg", "png"))
    for path in (svg, png):
        write_atomically(path, figures.render(figure, path.suffix[1:]))
    return Shown(found, svg, png, like)


# ---- the page -------------------------------------------------------------------------------------------------------


def explanation_page(shown: Sequence[Shown]) -> str:
    """The page as HTML text, with everything it shows inside it; figures are linked beside it."""
    return page_text([(each.found, each.svg.name, each.neighbours) for each in shown])


def page_text(explanations: Sequence[tuple[Explanation, str, Sequence[Neighbour]]]) -> str:
    """The page for explanations, each with the address of its figure ("" for none) and the training cells like it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("explanations.html").render(
        rows=[
            {
                "found": found,
                "picture": png_data_uri(picture_with_outlines(found, _SIDE)),
                "map": png_data_uri(map_square(found)) if found.map_caption else None,
                "svg": figure,
                "reach": max((abs(reason.contribution) for reason in found.reasons), default=1.0),
                "block_reach": max((abs(value) for value in found.attribution.blocks.values()), default=1.0) or 1,
                "neighbours": [(one, thumbnail(one.cell)) for one in neighbours],
            }
            for found, figure, neighbours in explanations
        ]
    )


def map_square(found: Explanation) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), the longer side as on the page: where a network looks, or a deep block has what it adds."""
    return _fitted(map_overlay(found), _SIDE)


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of a small picture of a cell."""
    return png_data_uri(_fitted(cell.rgb, _SMALL))


def _fitted(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(rgb.shape[:2])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)
