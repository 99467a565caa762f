"""``fusion segment``: the cells of every image as masks, and the table that measures them by these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.analysis.cell_columns import unused_columns
from fusion.data.cell_rows import table_rows
from fusion.data.dataset import Fault, Sample, check_usable
from fusion.errors import UsageError
from fusion.images.cell import CellError, decode_image, read_bytes
from fusion.images.masks import CYTOPLASM_VALUE, NUCLEUS_VALUE, given_mask
from fusion.io.csv_text import csv_rows
from fusion.io.output_files import write_output
from fusion.io.remote_path import Remote, as_path
from fusion.plugins.registry import PluginError, build_segmenter
from fusion.plugins.segmenters import Segmenter
from fusion.progress import Progress
from fusion.settings.commands import SegmentConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.loading import read_dataset

#: The table's name in the output folder, and the folder of masks beside it.
TABLE, MASKS = "cells.csv", "masks"

#: What the values of the masks mean, where a mask is one that could be read in two ways.
LEVELS = f"background=0,cell={CYTOPLASM_VALUE},nucleus={NUCLEUS_VALUE}"

_VALUES = (0, CYTOPLASM_VALUE, NUCLEUS_VALUE)


@dataclass(frozen=True)
class Segmented:
    """What was written.

    Attributes
    ----------
    table : the table of cells, a row a mask.
    segmenter : its name and version.
    images, cells : how many were looked at, and how many cells they hold.
    kept : cells whose own mask was given, and stays.
    unclear : masks that need ``LEVELS`` to be said when they are read.
    faults : images that could not be read, or hold no cell.
    """

    table: Path
    segmenter: str
    images: int
    cells: int
    kept: int
    unclear: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a person should know."""
        kept = f", {self.kept} of them by masks that were given" if self.kept else ""
        lines = [f"{self.cells} cells in {self.images} images by {self.segmenter}{kept}; table {self.table}"]
        if self.unclear:
            lines.append(
                f"{self.unclear} masks have a rim of cytoplasm only: say --mask-levels {LEVELS} with the table"
            )
        return lines


@one_run_of
def segment_data(config: SegmentConfig, progress: Progress | None = None) -> Segmented:
    """Find the cells of every image and write masks and a table that every command reads.

    A mask that the data set has already stays as it is, and so do columns of its table that Fusion makes nothing of.

    Raises
    ------
    UsageError : an unknown segmenter or parameter, images that lie in an object store, masks in the folder that may
        have been corrected since, or no cell at all.
    PluginError : the segmenter fails, or gives something that is no mask of the image.
    """
    table = config.output / TABLE
    if table.exists():
        raise UsageError(
            f"{config.output} holds masks already, which may have been corrected by hand", do="Choose another folder."
        )
    segmenter = build_segmenter(config.segmenter, config.segmenters.get(config.segmenter))
    dataset = read_dataset(config, progress).select(config.classes, config.folds, config.sources)
    check_usable(len(dataset), dataset.faults)
    if isinstance(dataset.root, Remote):
        raise UsageError("segment reads images of this machine", found=str(dataset.root), do="Copy them here first.")
    further = unused_columns(as_path(config.data), config.columns, dataset)
    rows: list[tuple[int, Sample]] = []
    faults = list(dataset.faults)
    kept = unclear = 0
    samples = dataset.samples
    for done, sample in enumerate(samples):
        if progress is not None:
            progress("segmenting", done, len(samples), len(faults))
        if sample.mask_path is not None:
            rows.append((done, sample))
            kept += 1
            continue
        try:
            masks = masks_of(segmenter, decode_image(read_bytes(sample.path)), sample.path)
        except CellError as error:
            faults.append(Fault(sample.path, "cell", str(error)))
            continue
        for number, mask in enumerate(masks):
            path = config.output / MASKS / _mask_name(dataset.name_of(sample), number)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_output(path, cv2.imencode(".png", mask)[1].tobytes())
            unclear += not _is_clear(mask)
            rows.append((done, replace(sample, mask_path=path)))
    if progress is not None:
        progress("segmenting", len(samples), len(samples), len(faults))
    check_usable(len(rows), tuple(faults))
    told = {name: [values[at] for at, _ in rows] for name, values in further.items()}
    write_output(table, csv_rows(table_rows([sample for _, sample in rows], table.parent, told)))
    about = f"{segmenter.name} {segmenter.version}"
    return Segmented(table, about, len(samples), len(rows), kept, unclear, tuple(faults), dataset.notes)


def masks_of(segmenter: Segmenter, rgb: NDArray[np.uint8], path: Path) -> list[NDArray[np.uint8]]:
    """What a segmenter finds in an image, held against what a mask has to be.

    Raises
    ------
    CellError : it finds no cell.
    PluginError : it raises, or gives something else than masks of this image.
    """
    try:
        found = list(segmenter.segment(rgb))
    except CellError:
        raise
    except Exception as error:  # a stranger's network can fail in any way; its name must be in the message
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"segmenter '{segmenter.name}' failed at {path}", found=reason) from error
    if not found:
        raise CellError("no cell found in the image", do="Give a mask for it, or leave it out.")
    wanted = f"uint8 {rgb.shape[:2]} of 0, {CYTOPLASM_VALUE} and {NUCLEUS_VALUE}, with a cell"
    for mask in found:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != rgb.shape[:2]:
            told = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise PluginError(f"segmenter '{segmenter.name}' gives no mask of {path}", found=told, expected=wanted)
        values = np.unique(mask)
        if not np.isin(values, _VALUES).all() or not values.any():
            told = "values " + ", ".join(map(str, values[:6].tolist()))
            raise PluginError(f"segmenter '{segmenter.name}' gives no mask of {path}", found=told, expected=wanted)
    return found


def _mask_name(name: str, number: int) -> PurePosixPath:
    """``benign/a.jpg`` -> ``benign/a.jpg.png``, further cells ``benign/a.jpg.2.png``: no two images share one."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*parts[:-1], f"{parts[-1]}{f'.{number + 1}' if number else ''}.png")


def _is_clear(mask: NDArray[np.uint8]) -> bool:
    """Whether what reads masks reads this one as it is meant, without being told."""
    try:
        found = given_mask(mask)
    except CellError:
        return False
    return found.nucleus is None or bool((found.nucleus == (mask == NUCLEUS_VALUE)).all())
