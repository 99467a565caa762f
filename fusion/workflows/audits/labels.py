"""Labels that may be wrong, drawn, and listed in a table to correct by."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.analysis.label_audit import NEAR_BITS, LabelAudit, Suspect, audit_labels
from fusion.data.cell_rows import table_rows
from fusion.data.dataset import Dataset, Sample
from fusion.errors import UsageError
from fusion.evaluation.results import Result
from fusion.images.cell import CellError, decode_image, make_cell, read_bytes
from fusion.io.csv_text import csv_rows, harmless
from fusion.io.output_files import write_output
from fusion.leakage.near_duplicates import hash_images, near_pairs
from fusion.progress import Progress
from fusion.reports.contact_sheets import Tile, with_contours, write_sheets

#: The table to correct by.
TABLE = "labels.csv"

#: Suspects that are drawn: nobody looks at more in one go, and all of them are in the table.
_DRAWN = 240


@dataclass(frozen=True, eq=False)
class AuditedLabels:
    """What was found, and where it was written."""

    audit: LabelAudit
    table: Path
    sheets: tuple[Path, ...]

    def lines(self) -> list[str]:
        """What a person should know."""
        drawn = f"; drawn in {self.sheets[0].parent}" if self.sheets else ""
        return [*self.audit.lines(), f"  to correct by: the column label of {self.table}, which is read as DATA{drawn}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.audit.to_json(),
            "table": str(self.table),
            "sheets": [str(path) for path in self.sheets],
        }


def audit_result(
    result_folder: Path, dataset: Dataset, folder: Path, progress: Progress | None = None
) -> AuditedLabels:
    """Look for wrong labels of a data set by a result on its cells; write ``labels.csv`` and contact sheets.

    Parameters
    ----------
    folder : where they are written.
    progress : informed of every image that is hashed or drawn.

    Raises
    ------
    UsageError : the result is of other cells, or of patients; or the table that lies there has been corrected.
    """
    _check_uncorrected(folder / TABLE, dataset)
    result = Result.load(result_folder)
    # Of anybody's scores with a row a subject nobody knows whether they are of its one cell; names will tell.
    if result.judged == "subject" and result.command != "judge":
        raise UsageError(
            f"{result_folder} judges patients, and labels are looked for cell by cell",
            do="Give a result on their cells (--unit cell); each has the label of its patient.",
        )
    samples = {dataset.name_of(sample): sample for sample in dataset.samples}
    if missing := [name for name in result.cells.names if name not in samples]:
        raise UsageError(
            f"{result_folder} is a result on other cells",
            found=f"{len(missing)} of its {len(result.cells.names)} cells, such as {missing[0]}, are not in the data",
            expected="the data that it was made from, by the same path",
        )
    audit = audit_labels(result, two_labels(dataset, progress))
    write_output(folder / TABLE, csv_rows(_rows(dataset, audit, folder)))
    shown = audit.suspects[:_DRAWN]
    sheets = write_sheets(folder, _tiles(shown, samples, progress), len(shown)) if shown else []
    return AuditedLabels(audit, folder / TABLE, tuple(sheets))


def _check_uncorrected(table: Path, dataset: Dataset) -> None:
    """Refuse to write over labels that somebody has corrected by hand."""
    if not table.exists():
        return
    place = table.parent.absolute()
    paths = (harmless(os.path.relpath(each.path.absolute(), place)) for each in dataset.samples)
    own = Counter(zip(paths, (harmless(each.label or "") for each in dataset.samples), strict=True))
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            kept = Counter((row["path"], row["label"]) for row in csv.DictReader(stream))
    except (OSError, ValueError, KeyError, csv.Error):
        kept = Counter([("", "")])  # a table that a spreadsheet has written anew
    if changed := (kept - own).total():
        raise UsageError(
            f"{table} is another table than would be written over it",
            found=f"{changed} rows whose label is not that of the data",
            do="If you have corrected it, give it as DATA; else choose another folder with -o, or remove it.",
        )


def two_labels(dataset: Dataset, progress: Progress | None = None) -> list[tuple[str, str, int]]:
    """Pairs of names with different labels on identical or nearly identical images, and the bits that differ.

    Cells of one image that have a mask each are no pairs.
    """
    of_image: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.label is not None and not sample.shares_image:
            of_image.setdefault(sample.image_id, []).append(sample)
    hashed = hash_images([dataset], progress)
    alike = [(first, second, bits) for first, second, bits in near_pairs(hashed.hashes, NEAR_BITS)]
    pairs = [(one, other, 0) for same in of_image.values() for at, one in enumerate(same) for other in same[at + 1 :]]
    pairs += [
        (one, other, bits)
        for first, second, bits in alike
        for one in of_image.get(hashed.keys[first], ())
        for other in of_image.get(hashed.keys[second], ())
    ]
    return [
        (dataset.name_of(one), dataset.name_of(other), bits) for one, other, bits in pairs if one.label != other.label
    ]


def _rows(dataset: Dataset, audit: LabelAudit, folder: Path) -> list[list[object]]:
    """The data set as a table that Fusion reads, suspects first."""
    suspects = {one.name: (rank, one) for rank, one in enumerate(audit.suspects)}
    last = (len(suspects), Suspect("", "", "", float("nan"), ()))
    named = [(suspects.get(dataset.name_of(sample), last), sample) for sample in dataset.samples]
    named.sort(key=lambda pair: pair[0][0])
    told = {
        "suggestion": [one.suggestion for (_, one), _ in named],
        "doubt": ["" if np.isnan(one.doubt) else f"{one.doubt:.3f}" for (_, one), _ in named],
        "reason": ["; ".join(one.reasons) for (_, one), _ in named],
    }
    return table_rows([sample for _, sample in named], folder, told)


def _tiles(suspects: tuple[Suspect, ...], samples: dict[str, Sample], progress: Progress | None) -> Iterator[Tile]:
    for done, one in enumerate(suspects, 1):
        title = f"{one.label}, or {one.suggestion}?" if one.suggestion else f"{one.label}: {one.reasons[0]}"
        try:
            rgb = decode_image(read_bytes(samples[one.name].path))
            image = with_contours(rgb, make_cell(rgb, samples[one.name].read_mask()))
        except CellError as error:
            image, title = None, error.what
        yield Tile(image, title, one.name)
        if progress is not None:
            progress("drawing", done, len(suspects), 0)
