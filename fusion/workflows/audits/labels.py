"""Labels that may be wrong, drawn, and listed in a table to correct by."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """What was found, and where it was written.

    Attributes
    ----------
    table : to correct by.
    sheets : drawings of those to look at.
    how : what is to be corrected, and how the table is read then; in words.
    """

    audit: LabelAudit
    table: Path
    sheets: tuple[Path, ...]
    how: str

    def lines(self) -> list[str]:
        """What a person should know."""
        drawn = f"; drawn in {self.sheets[0].parent}" if self.sheets else ""
        return [*self.audit.lines(), f"  to correct by: {self.how}{drawn}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.audit.to_json(),
            "table": str(self.table),
            "sheets": [str(path) for path in self.sheets],
        }


def audit_cells(
    result: Result, result_folder: Path, dataset: Dataset, folder: Path, progress: Progress | None = None
) -> AuditedLabels:
    """Look for wrong labels of a data set by a result on its cells; write ``labels.csv`` and contact sheets.

    Parameters
    ----------
    result_folder : where the result is from.
    folder : where they are written.
    progress : informed of every image that is hashed or drawn.

    Raises
    ------
    UsageError : the result is of other cells; or the table that lies there has been corrected.
    """
    paths = (os.path.relpath(each.path.absolute(), folder.absolute()) for each in dataset.samples)
    own = zip(paths, (each.label or "" for each in dataset.samples), strict=True)
    check_uncorrected(folder / TABLE, own, ("path", "label"), "give it as DATA")
    samples = {dataset.name_of(sample): sample for sample in dataset.samples}
    if missing := [name for name in result.cells.names if name not in samples]:
        raise UsageError(
            f"{result_folder} is a result on other cells",
            found=f"{len(missing)} of its {len(result.cells.names)} cells, such as {missing[0]}, are not in the data",
            expected="the data that it was made from, by the same path",
        )
    audit = audit_labels(result, _reasons(two_labels(dataset, progress), samples))
    write_output(folder / TABLE, csv_rows(_rows(dataset, audit, folder)))
    shown = audit.suspects[:_DRAWN]
    sheets = write_sheets(folder, _tiles(shown, samples, progress), len(shown)) if shown else []
    how = f"the column label of {folder / TABLE}, which is read as DATA"
    return AuditedLabels(audit, folder / TABLE, tuple(sheets), how)


def check_uncorrected(table: Path, rows: Iterable[tuple[str, ...]], columns: Sequence[str], how: str) -> None:
    """Refuse to write over labels that somebody has corrected by hand.

    Parameters
    ----------
    rows : what would be written in these columns, of which the last is the label.
    how : what is to be done with a corrected table, in words.
    """
    if not table.exists():
        return
    own = Counter(tuple(harmless(each) for each in row) for row in rows)
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            kept = Counter(tuple(row[column] for column in columns) for row in csv.DictReader(stream))
    except (OSError, ValueError, KeyError, csv.Error):
        kept = Counter([tuple("" for _ in columns)])  # a table that a spreadsheet has written anew
    if changed := (kept - own).total():
        raise UsageError(
            f"{table} is another table than would be written over it",
            found=f"{changed} rows whose label is not that of the data",
            do=f"If you have corrected it, {how}; else choose another folder with -o, or remove it.",
        )


def _reasons(twins: Sequence[tuple[str, str, int]], samples: Mapping[str, Sample]) -> dict[str, list[str]]:
    """By name, what contradicts a label."""
    found: dict[str, list[str]] = {}
    for first, second, bits in twins:
        alike = "identical" if bits == 0 else f"nearly identical ({bits} bits of 256)"
        for name, other in ((first, second), (second, first)):
            found.setdefault(name, []).append(f"two labels: {alike} to {other}, which is {samples[other].label}")
    return found


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
