"""``fusion synthesize``: synthetic cells with known truth, or patients put together of real ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.data.dataset import Dataset, load_dataset
from fusion.errors import UsageError
from fusion.io.csv_text import csv_bytes
from fusion.io.output_files import write_output
from fusion.settings.commands import SynthesizeConfig
from fusion.synthetic.cells import HEALTHY, TRUTH_FILE, SyntheticDesign, check_vacant, synthesize
from fusion.synthetic.constructed_patients import ConstructedPatients, construct_patients

if TYPE_CHECKING:
    import pandas as pd

#: The table that is written of real cells.
PATIENTS_FILE = "patients.csv"

#: Settings that only what is painted has.
_OF_PAINTING = ("classes", "class_effect", "laboratories", "age_gap", "age_effect")


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes
    ----------
    path : what a command takes as DATA: the folder of images, or the table of patients of real cells.
    cells, subjects : how many.
    witnesses : how many cells are of an ill subject's own class.
    """

    path: Path
    cells: int
    subjects: int
    witnesses: int


def make_data_set(config: SynthesizeConfig, progress: Callable[[int, int], None] | None = None) -> Made:
    """Paint cells, or write the table of patients of real cells.

    Parameters
    ----------
    progress : called with (cells done, cells in all).

    Raises
    ------
    UsageError : settings that do not go together, too few cells, or a folder that is taken.
    """
    design = _design(config)
    if config.real_cells is not None:
        return _of_real_cells(config, config.real_cells, design)
    if config.witnesses or config.normal:
        raise UsageError("witnesses are for patients of real cells", do="Name these cells: --real-cells DATA.")
    synthesize(config.output, design, progress, jobs=config.jobs)
    with (config.output / TRUTH_FILE).open(newline="", encoding="utf-8") as file:
        truth = [(row["label"], row["subject_label"]) for row in csv.DictReader(file)]
    witnesses = sum(own == label != HEALTHY for label, own in truth)
    return Made(config.output, len(truth), design.subjects * max(1, design.laboratories), witnesses)


def _of_real_cells(config: SynthesizeConfig, data: Path, design: SyntheticDesign) -> Made:
    default = SyntheticDesign()
    if strange := [name for name in _OF_PAINTING if getattr(design, name) != getattr(default, name)]:
        raise UsageError(f"{strange[0]} is for painted cells, and these are real", do=f"Leave {strange[0]} out.")
    check_vacant(config.output)
    dataset = load_dataset(data).labelled()
    found = construct_patients(
        [str(label) for label in dataset.each("label")],
        dataset.groups(),
        config.witnesses,
        design,
        normal=config.normal,
    )
    table = config.output / PATIENTS_FILE
    write_output(table, csv_bytes(patient_frame(dataset, found, config.output)))
    samples = dataset.samples
    witnesses = sum(
        samples[row].label == found.subjects[at].label
        for row, at in zip(found.cells.tolist(), found.patients.tolist(), strict=True)
    )
    return Made(table, len(found.cells), len(found.subjects), witnesses)


def patient_frame(dataset: Dataset, found: ConstructedPatients, folder: Path) -> pd.DataFrame:
    """DataFrame, a row a cell: path (relative to ``folder``), label, subject, fold, subject_label,
    subject_witness_rate, and source, group, mask and um_per_px where the real cells have any."""
    import pandas as pd

    rows = []
    for row, at in zip(found.cells.tolist(), found.patients.tolist(), strict=True):
        sample, subject = dataset.samples[row], found.subjects[at]
        rows.append(
            {
                "path": _relative(sample.path, folder),
                "label": sample.label,
                "subject": subject.name,
                "fold": subject.fold,
                "subject_label": subject.label,
                "subject_witness_rate": round(subject.witness_rate, 6),
                "source": sample.source,
                # A subject of the real cells is a group here: a person stays on one side of every split.
                "group": sample.group if sample.subject is None else f"{sample.subject} {sample.group or ''}".strip(),
                "mask": None if sample.mask_path is None else _relative(sample.mask_path, folder),
                "um_per_px": sample.um_per_px,
            }
        )
    frame = pd.DataFrame(rows)
    empty = [name for name in ("source", "group", "mask", "um_per_px") if frame[name].isna().all()]
    return frame.drop(columns=empty)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _design(config: SynthesizeConfig) -> SyntheticDesign:
    same = ("subjects", "seed", "class_effect", "subject_effect", "folds", "laboratories", "classes", "witness_rate")
    of_people = ("witness_spread", "cells_spread", "age_gap", "age_effect")
    return SyntheticDesign(
        cells_per_subject=config.cells, **{name: getattr(config, name) for name in (*same, *of_people)}
    )
