"""A million records held as columns: a sequence that makes each record when it is asked for.

A record of paths and texts takes a kilobyte and more as an object of Python; as a row of columns it takes its letters.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, overload

Row = TypeVar("Row")

#: Stands for None among texts: no path and no key has a zero byte in it.
_NONE = b"\0"


class _Column(Protocol):
    def add(self, value: Any) -> None: ...

    def get(self, at: int) -> Any: ...


class Columns(Sequence[Row], Generic[Row]):
    """Records of one frozen dataclass, read-only once made. Equal to any sequence of equal records.

    Parameters
    ----------
    kind : the dataclass.
    rows : consumed one by one, so that they need never be all there.
    paths, texts : fields that differ from row to row, Path or None, and str or None. All others are kept as numbers of
        their distinct values, which must be hashable.
    """

    def __init__(
        self, kind: type[Row], rows: Iterable[Row], paths: Sequence[str] = (), texts: Sequence[str] = ()
    ) -> None:
        self._kind = kind
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass, as said
        self._columns: dict[str, _Column] = {
            name: _Paths() if name in paths else _Texts() if name in texts else _Coded() for name in names
        }
        self._count = 0
        adders = [(name, column.add) for name, column in self._columns.items()]
        for row in rows:
            for name, add in adders:
                add(getattr(row, name))
            self._count += 1

    def column(self, name: str) -> Iterator[Any]:
        """The values of one field, in order; cheaper than making every record."""
        return map(self._columns[name].get, range(self._count))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return map(self._kind, *map(self.column, self._columns))

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...

    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(self._count)))
        place = range(self._count)[at]  # counts from the end where negative, and raises IndexError beyond
        return self._kind(*(column.get(place) for column in self._columns.values()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((self._kind, self._count))


class _Texts:
    """Strings end to end in one piece of memory."""

    def __init__(self) -> None:
        self._letters = bytearray()
        self._ends = array("q", [0])

    def add(self, value: Any) -> None:
        self._letters += _NONE if value is None else self.encode(value)
        self._ends.append(len(self._letters))

    def get(self, at: int) -> Any:
        letters = bytes(self._letters[self._ends[at] : self._ends[at + 1]])
        return None if letters == _NONE else self.decode(letters)

    def encode(self, value: Any) -> bytes:
        return str(value).encode("utf-8", "surrogatepass")

    def decode(self, letters: bytes) -> Any:
        return letters.decode("utf-8", "surrogatepass")


class _Paths(_Texts):
    def encode(self, value: Any) -> bytes:
        return os.fsencode(value)

    def decode(self, letters: bytes) -> Any:
        return Path(os.fsdecode(letters))


class _Coded:
    """Numbers of the distinct values."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._numbers: dict[Any, int] = {}
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        self._codes.append(number)

    def get(self, at: int) -> Any:
        return self._values[self._codes[at]]
