"""A million records held as columns: a sequence that makes each record when it is asked for.

A record of paths and texts takes a kilobyte and more as an object of Python; as a row of columns it takes its letters.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise, repeat
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar, overload

from fusion.io.remote_path import as_path

Row = TypeVar("Row")

#: First byte of a text, and of one of hexadecimal digits alone, such as a content key, kept in half as many bytes.
_TEXT, _DIGITS = b"t", b"x"


#: Records that are taken in at once.
_PORTION = 1024


class _Column(Protocol):
    def extend(self, values: list[Any]) -> None: ...

    def get(self, at: int) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Columns(Sequence[Row], Generic[Row]):
    """Records of one frozen dataclass, to which others can be added. Equal to any sequence of equal records.

    Parameters
    ----------
    kind : the dataclass.
    rows : the first records; consumed one by one, so that they need never be all there.
    paths, texts, numbers : fields that differ from row to row, Path or None, str or None, and int of 64 bits. All
        others are kept as numbers of their distinct values, which must be hashable.
    """

    def __init__(
        self,
        kind: type[Row],
        rows: Iterable[Row] = (),
        paths: Sequence[str] = (),
        texts: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> None:
        self._kind = kind
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass, as said
        kinds = dict.fromkeys(paths, _Paths) | dict.fromkeys(texts, _Texts) | dict.fromkeys(numbers, _Numbers)
        self._columns: dict[str, _Column] = {name: kinds.get(name, _Coded)() for name in names}
        self._count = 0
        self.extend(rows)

    def extend(self, rows: Iterable[Row]) -> None:
        """Add records below the others, some at a time."""
        rest = iter(rows)
        while portion := list(islice(rest, _PORTION)):
            for name, column in self._columns.items():
                column.extend(list(map(attrgetter(name), portion)))
            self._count += len(portion)

    def column(self, name: str) -> Iterator[Any]:
        """The values of one field, in order; cheaper than making every record."""
        return iter(self._columns[name])

    def written(self, name: str) -> Iterator[str]:
        """``column`` of paths as text, "" for None; a path costs ten times as much."""
        column = self._columns[name]
        assert isinstance(column, _Paths)
        return map(os.fsdecode, column.kept())

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


class _Numbers:
    """Whole numbers as they are."""

    def __init__(self) -> None:
        self._values = array("q")

    def extend(self, values: list[Any]) -> None:
        self._values.extend(values)

    def get(self, at: int) -> Any:
        return self._values[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


class _Texts:
    """Strings end to end in one piece of memory."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def extend(self, values: list[Any]) -> None:
        encode = self.encode
        kept = [b"" if value is None else encode(value) for value in values]
        self._ends.extend(islice(accumulate(map(len, kept), initial=len(self._bytes)), 1, None))
        self._bytes += b"".join(kept)

    def get(self, at: int) -> Any:
        kept = bytes(self._bytes[self._ends[at] : self._ends[at + 1]])
        return self.decode(kept) if kept else None

    def __iter__(self) -> Iterator[Any]:
        return (self.decode(kept) if kept else None for kept in self.kept())

    def kept(self) -> Iterator[bytes]:
        """The bytes that stand for every string, none for None."""
        return (bytes(self._bytes[start:end]) for start, end in pairwise(self._ends))

    def encode(self, value: Any) -> bytes:
        try:
            digits = bytes.fromhex(value)
        except ValueError:
            digits = b""
        is_digits = digits.hex() == value  # not so in capitals, or with blanks between
        return _DIGITS + digits if is_digits else _TEXT + value.encode("utf-8", "surrogatepass")

    def decode(self, kept: bytes) -> Any:
        return kept[1:].hex() if kept[:1] == _DIGITS else kept[1:].decode("utf-8", "surrogatepass")


class _Paths(_Texts):
    def encode(self, value: Any) -> bytes:
        return os.fsencode(value)  # never empty: that path is "."

    def decode(self, kept: bytes) -> Any:
        return as_path(os.fsdecode(kept))


class _Coded:
    """Numbers of the distinct values; none are kept as long as there is but one."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._count = 0
        self._numbers: dict[Any, int] = {}
        self._values: list[Any] = []

    def extend(self, values: list[Any]) -> None:
        for value in dict.fromkeys(values):
            if value not in self._numbers:
                self._numbers[value] = len(self._values)
                self._values.append(value)
                if len(self._values) == 2:
                    self._codes = array("i", [0]) * self._count
        if len(self._values) > 1:
            self._codes.extend(map(self._numbers.__getitem__, values))
        self._count += len(values)

    def get(self, at: int) -> Any:
        return self._values[self._codes[at] if len(self._values) > 1 else 0]

    def __iter__(self) -> Iterator[Any]:
        if len(self._values) > 1:
            return map(self._values.__getitem__, self._codes)
        return chain.from_iterable(repeat(value, self._count) for value in self._values)
