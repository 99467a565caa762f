"""Cells as rows of a table that Fusion reads back, with columns beside it that a person is told by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion.data.dataset import Sample

#: Columns of a table, and what they are of a sample, beside path and label.
_FIELDS = {
    "subject": "subject",
    "subject_label": "subject_label",
    "group": "group",
    "source": "source",
    "fold": "fold",
    "mask": "mask_path",
    "um_per_px": "um_per_px",
}


def table_rows(samples: Sequence[Sample], folder: Path, told: Mapping[str, Sequence[object]]) -> list[list[object]]:
    """A header and a row for each sample: path, label, the columns of ``told``, and what else is known of any sample.

    Parameters
    ----------
    folder : of the table; paths are relative to it.
    told : further columns, a value for each sample.
    """
    known = {
        name: field for name, field in _FIELDS.items() if any(getattr(each, field) is not None for each in samples)
    }
    rows: list[list[object]] = [["path", "label", *told, *known]]
    for at, sample in enumerate(samples):
        values = [getattr(sample, field) for field in known.values()]
        own = [
            os.path.relpath(each.absolute(), folder.absolute()) if isinstance(each, Path) else each for each in values
        ]
        path = os.path.relpath(sample.path.absolute(), folder.absolute())
        row = [path, sample.label, *(column[at] for column in told.values()), *own]
        rows.append(["" if value is None else value for value in row])
    return rows
