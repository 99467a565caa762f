"""Tables of scores that other programs have written, read as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusion.data.table_files import read_rows
from fusion.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

#: Name of the column that tells where in the file a row stands, for messages.
LINE = "line of the file"


def read_score_table(file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A DataFrame of a CSV, TSV or Parquet file, and notes on how it was read.

    Numbers of a text file keep their spelling, so that subject 007 is not subject 7. The last column, ``LINE``, is the
    line of the file that each row ends in, or its number in a Parquet file.

    Raises
    ------
    UsageError : there is no such file.
    DatasetError : it is no table.
    """
    import pandas as pd

    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        inside = file / "scores.parquet"
        do = f"A result's scores are in {inside}." if file.is_dir() and inside.is_file() else ""
        raise UsageError(f"{file} holds no scores", found=found, expected="a .csv, .tsv or .parquet table", do=do)
    rows = read_rows(file)
    if file.suffix.lower() == ".parquet":
        frame = pd.read_parquet(file)
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        frame.columns = pd.Index([str(name).strip() for name in frame.columns])
        return frame.assign(**{LINE: rows.lines}), rows.notes
    frame = pd.DataFrame(rows.fields, columns=list(rows.columns), dtype=object)
    return frame.assign(**{LINE: rows.lines}), rows.notes
