"""Explanations of judged cells, written as figures and as one page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.mixed_sources import with_mixed_sources
from fusion.bundles.inference import ask
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.data.dataset import Dataset, Fault
from fusion.errors import UsageError
from fusion.explanation.explanation import TOP, Explanation, explain_measured
from fusion.explanation.nearest_training_cells import Gallery, Neighbour, open_gallery
from fusion.explanation.patient_explanation import PatientExplanation, explain_patients
from fusion.images.cell import CellError
from fusion.io.files import is_partial
from fusion.io.output_files import write_output
from fusion.learning.predictions import Predictions
from fusion.progress import Progress
from fusion.reports import result_figures
from fusion.reports.explanation_figure import explanation_figure
from fusion.reports.explanation_page import Shown, explanation_page, fitted
from fusion.reports.patient_page import LikeCell, cells_shown, patient_page
from fusion.settings.commands import ExplainConfig, MapBy
from fusion.settings.outputs import one_run_of

#: The page.
PAGE = "explanations.html"

_FIGURE = re.compile(r"\d{4,}-.+\.(?:svg|png)")


@dataclass(frozen=True)
class Explained:
    """What was written, and the images that were skipped; of a model of patients, ``patients`` and no cells."""

    shown: tuple[Shown, ...]
    page: Path
    faults: tuple[Fault, ...]
    predictions: Predictions
    patients: tuple[PatientExplanation, ...] = ()

    def __repr__(self) -> str:
        what = f"{len(self.patients)} patients" if self.patients else f"{len(self.shown)} cells"
        return f"Explained({what}, page {self.page}; {len(self.faults)} skipped)"


@one_run_of
def explain(config: ExplainConfig, progress: Progress | None = None) -> Explained:
    """Judge images, folders or tables, and explain every cell in files.

    Raises
    ------
    BundleError : the model cannot be read.
    DatasetError : a path that is nothing Fusion can read.
    UsageError : the folder cannot be written, or ``data`` has none of the model's training cells.
    PredictionError : no cell could be judged.
    """
    check_folder(config.output)
    bundle = load_model(config.model).with_own(config.own)
    dataset, predictions = ask(bundle, config, progress)
    predictions.check()
    predictions = with_mixed_sources(bundle, dataset, predictions)
    gallery = None
    if config.data is not None:
        gallery = open_gallery(bundle, config.data, config.store, config.jobs, progress, config.mask_levels, config)
    return write_explanations(
        bundle,
        dataset,
        predictions,
        config.output,
        top=config.top,
        map_by=config.map,
        gallery=gallery,
        progress=progress,
    )


def check_folder(folder: Path, option: str = "-o") -> None:
    """UsageError where figures cannot be written, or would lie among files that are no explanations; before anything
    is measured. Those of an earlier run, finished or not, are replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"cannot write into {folder}", found=str(error.strerror or error).lower()) from error
    strange = sorted(name for name in names - {PAGE} if not (_FIGURE.fullmatch(name) or is_partial(name)))
    if not strange and PAGE not in names and not any(name.endswith(".svg") for name in names):
        strange = sorted(names)  # photographs may be called like figures
    if strange:
        raise UsageError(
            f"{folder} holds other files than explanations",
            found=", ".join(map(repr, strange[:3])) + (f" and {len(strange) - 3} more" if len(strange) > 3 else ""),
            do=f"Choose a new folder, or an empty one, with {option}.",
        )


def _remove_older(folder: Path, written: set[Path]) -> None:
    """Take away the figures of an earlier run; ``check_folder`` has seen that nothing else is there."""
    for path in folder.iterdir():
        if _FIGURE.fullmatch(path.name) and path not in written:
            path.unlink()


def write_explanations(
    bundle: ModelBundle,
    dataset: Dataset,
    predictions: Predictions,
    folder: Path,
    *,
    top: int = TOP,
    map_by: MapBy = "shapley",
    gallery: Gallery | None = None,
    progress: Progress | None = None,
) -> Explained:
    """Write a figure for every judged cell, and the page, into a folder.

    ``dataset`` is what was judged. An image that is no longer as it was measured is a fault. Of a model of patients the
    page alone is written; see ``write_patients``.
    """
    if bundle.unit == "subject":
        return write_patients(bundle, dataset, predictions, folder, gallery)
    samples = dict(zip(dataset.names, dataset.samples, strict=True))
    table, predicted = predictions.table, predictions.predicted
    # Folders may be called by slides: their names are classes where a table says so, or where the model knows one.
    has_labels = dataset.layout == "table" or not set(bundle.classes).isdisjoint(dataset.classes)
    shown: list[Shown] = []
    faults = list(predictions.faults)
    for at, name in enumerate(table.names):
        sample = samples[name]
        try:
            cell = sample.read_cell()
        except CellError as error:
            faults.append(Fault(sample.path, "read", error.what))
            continue
        if sample.adjustment is not None:
            cell = sample.adjustment.apply(cell)
        distance = None if predictions.distance is None else float(predictions.distance[at])
        found = explain_measured(
            bundle,
            cell,
            name,
            table.X[at],
            predictions.proba[at],
            predicted[at],
            distance,
            top=top,
            map_by=map_by,
            label=sample.label if has_labels else None,
        )
        like = () if gallery is None else gallery.nearest(table.X[at], table.image_keys[at])
        shown.append(_written(found, folder, at + 1, like))
        if progress is not None:
            progress("explaining", at + 1, len(table), len(faults))
    page = folder / PAGE
    write_output(page, explanation_page(shown).encode())
    _remove_older(folder, {path for each in shown for path in (each.svg, each.png)})
    return Explained(tuple(shown), page, tuple(faults), predictions)


def write_patients(
    bundle: ModelBundle, dataset: Dataset, predictions: Predictions, folder: Path, gallery: Gallery | None = None
) -> Explained:
    """Write the page of patients: of each the cells that its class rests on, beside each the training cell most like it
    of another patient, where there is a gallery."""
    found = explain_patients(bundle, predictions)
    samples = dict(zip(dataset.names, dataset.samples, strict=True))
    faults = list(predictions.faults)
    images: list[dict[int, NDArray[np.uint8]]] = []
    likes: list[dict[int, LikeCell]] = []
    for each in found:
        own: dict[int, NDArray[np.uint8]] = {}
        like: dict[int, LikeCell] = {}
        for at in sorted({place for places in cells_shown(each).values() for place in places}):
            sample = samples[each.names[at]]
            try:
                cell = sample.read_cell()
            except CellError as error:
                faults.append(Fault(sample.path, "read", error.what))
                continue
            own[at] = fitted(cell.rgb if sample.adjustment is None else sample.adjustment.apply(cell).rgb)
            if gallery is not None:
                features = predictions.table.X.cells[each.rows[[at]]][0]
                for near in gallery.nearest(features, sample.image_id, count=1, not_of=sample.subject):
                    like[at] = LikeCell(fitted(near.cell.rgb), near.label, near.subject)
        images.append(own)
        likes.append(like)
    page = folder / PAGE
    write_output(page, patient_page(found, images, likes).encode())
    _remove_older(folder, set())
    return Explained((), page, tuple(faults), predictions, tuple(found))


def _written(found: Explanation, folder: Path, number: int, like: tuple[Neighbour, ...]) -> Shown:
    # A number in front: images of two folders may have one name. Letters that any file system takes.
    stem = re.sub(r"[^\w.-]", "_", Path(found.name).stem)[:80]
    figure = explanation_figure(found)
    svg, png = (folder / f"{number:04d}-{stem}.{kind}" for kind in ("svg", "png"))
    for path in (svg, png):
        write_output(path, result_figures.render(figure, path.suffix[1:]))
    return Shown(found, svg, png, like)
