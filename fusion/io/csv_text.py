"""CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: What makes a spreadsheet take a cell for a formula: OWASP, "CSV Injection". The last four are their full-width forms.
_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def harmless(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it; numbers stay as they are.

    Examples
    --------
    >>> harmless("=HYPERLINK(1).bmp"), harmless("-0.5"), harmless("cell.bmp")
    ("'=HYPERLINK(1).bmp", '-0.5', 'cell.bmp')
    """
    if not text.startswith(_BEGINS) or (text[0] in "+-" and _is_number(text)):
        return text
    return f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text[-1:].isdigit()  # float() takes 1_000, inf and nan


def csv_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with harmless texts, its own where there is nothing to change."""
    changed = {
        at: values
        for at, name in enumerate(frame.columns)
        if frame.dtypes.iloc[at].kind == "O" and (values := _changed(frame.iloc[:, at])) is not None
    }
    names = [harmless(str(name)) for name in frame.columns]
    if not changed and names == [str(name) for name in frame.columns]:
        return frame
    made = frame.copy()
    for at, values in changed.items():
        made.isetitem(at, values)
    return made.set_axis(names, axis=1)


def _changed(column: pd.Series[Any]) -> list[Any] | None:
    values = column.tolist()
    safe = [harmless(value) if isinstance(value, str) else value for value in values]
    return None if all(new is old for new, old in zip(safe, values, strict=True)) else safe


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """UTF-8, a header and a line a row."""
    return bytes(csv_frame(frame).to_csv(index=False).encode("utf-8", "backslashreplace"))


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """UTF-8, a line a row."""
    lines = StringIO(newline="")
    csv.writer(lines).writerows([harmless(each) if isinstance(each, str) else each for each in row] for row in rows)
    return lines.getvalue().encode("utf-8", "backslashreplace")
