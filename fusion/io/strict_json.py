"""JSON that can be read in one way only: what a library in C may make of it is what was checked here."""

from __future__ import annotations

import json
from typing import Any

#: Lists and mappings, and values, of a document: each takes up to a hundred times its bytes once it is read.
_MAX_LISTS, _MAX_VALUES = 2_000_000, 8_000_000


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises
    ------
    ValueError : no JSON, a key twice in one object (whichever way it is spelt), NaN or infinity, nested too deep, or
        more than two million lists or eight million values.

    Examples
    --------
    >>> parse_json(b'{"a": 1}')
    {'a': 1}
    """
    if content.count(b"[") + content.count(b"{") > _MAX_LISTS or content.count(b",") > _MAX_VALUES:
        raise ValueError("more values than any file of ours holds")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)[:60]!r} stands there twice")
    return made


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
