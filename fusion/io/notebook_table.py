"""What a notebook shows of a table: its first rows below a line that says what it is."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: Rows and columns that are shown: what fits below a cell of a notebook.
_ROWS, _COLUMNS = 8, 12


def notebook_table(title: str, frame: Callable[[], pd.DataFrame]) -> str:
    """HTML of a table's first rows and columns.

    Parameters
    ----------
    title : what it is; escaped.
    frame : makes the table.

    Examples
    --------
    >>> import pandas as pd
    >>> "<table" in notebook_table("two rows", lambda: pd.DataFrame({"a": [1, 2]}))
    True
    """
    table = frame()
    shown = table.head(_ROWS).to_html(max_cols=_COLUMNS, index=False, border=0, show_dimensions=False)
    more = f"<p>and {len(table) - _ROWS:,} more rows</p>" if len(table) > _ROWS else ""
    return f"<p><strong>{escape(title)}</strong></p>{shown}{more}"
