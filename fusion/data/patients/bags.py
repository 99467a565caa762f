"""Bags of cells, which stand in a table of patients for its matrix: a bag a row, and every cell a row of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusion.data.patients.cells_elsewhere import BATCH_CELLS, ChangedCells, ExchangedCells, OrderedCells, join_cells

_Value = TypeVar("_Value")
_Change = Callable[[NDArray[Any]], NDArray[Any]]

_NOBODY = np.empty(0, np.intp)


@dataclass(frozen=True, eq=False)
class Bags:
    """n bags of cells. What a matrix does by its rows, a slice of it or a choice of columns, these do by bags.

    Attributes
    ----------
    cells : float (m, d), the cells of these bags and perhaps of others; NaN where a feature is undefined. An array, or
        what gives rows by their numbers and leaves the others where they lie: rows of the store, and those of
        ``cells_elsewhere``.
    rows : n times intp, which of ``cells`` each bag holds; one at least.
    labels : object (m,), what each cell itself is, None where nobody says; or None for all. To learn from alone.

    Raises
    ------
    ValueError : an empty bag.

    Examples
    --------
    >>> import numpy as np
    >>> bags = Bags(np.eye(3, dtype=np.float32), (np.array([0, 2]), np.array([1])))
    >>> len(bags), bags.shape, bags.mean(bags.stacked).tolist()
    (2, (2, 3), [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    """

    cells: Any
    rows: tuple[NDArray[np.intp], ...]
    labels: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not all(len(own) for own in self.rows):
            raise ValueError("a bag without cells")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.rows), int(self.cells.shape[1])

    @property
    def sizes(self) -> NDArray[np.intp]:
        """intp (n,): how many cells each bag has."""
        return np.array([len(own) for own in self.rows], np.intp)

    def __getitem__(self, which: Any) -> Self:
        """These bags, or with ``[:, columns]`` all bags with these columns."""
        if isinstance(which, tuple):
            bags, columns = which
            return replace(self[bags], cells=_pick(self.cells, columns))
        if isinstance(which, slice):
            return replace(self, rows=self.rows[which])
        return replace(self, rows=tuple(self.rows[at] for at in np.arange(len(self))[which]))

    @cached_property
    def _all(self) -> NDArray[np.intp]:
        return np.concatenate([_NOBODY, *self.rows])

    @property
    def stacked(self) -> NDArray[Any]:
        """float (k, d): the cells bag after bag."""
        every = self._all
        if not isinstance(self.cells, np.ndarray):
            return np.asarray(self.cells[every])
        is_whole = len(every) == len(self.cells) and bool((every == np.arange(len(every))).all())
        return np.asarray(self.cells) if is_whole else np.asarray(self.cells[every])

    @property
    def ordered(self) -> OrderedCells:
        """The rows of ``stacked``, none of which is read before it is asked for."""
        return OrderedCells(self.cells, self._all)

    def stacked_rows(self, which: NDArray[Any]) -> NDArray[Any]:
        """float (j, d): those of ``stacked`` that these numbers or truth values choose; no other is read."""
        return np.asarray(self.cells[self._all[which]])

    @property
    def stacked_labels(self) -> NDArray[Any]:
        """object (k,): what each of ``stacked`` itself is, None where nobody says."""
        return np.full(len(self._all), None, object) if self.labels is None else self.labels[self._all]

    @property
    def owners(self) -> NDArray[np.intp]:
        """intp (k,): the bag of each of ``stacked``."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def spread(self, values: Sequence[_Value]) -> list[_Value]:
        """The value of its bag for each of ``stacked``, of n values."""
        return [value for value, size in zip(values, self.sizes.tolist(), strict=True) for _ in range(size)]

    def mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """float64 (n, c): for each bag the mean of (k, c) values of its cells, as they are ``stacked``."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)
        sums = np.add.reduceat(np.asarray(values, np.float64), starts, axis=0)
        return np.asarray(sums / self.sizes[:, None], np.float64)

    def medians(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """float64 (n,): for each bag the median of (k,) values of its cells, as they are ``stacked``."""
        ends = np.cumsum(self.sizes)[:-1]
        return np.array([np.median(own) for own in np.split(np.asarray(values, np.float64), ends)], np.float64)

    def with_columns(self, columns: slice, donors: Self) -> Self:
        """The same bags, whose cells have these columns from the cells of as many other bags, one after the other, and
        from the first again where those are fewer."""
        sizes = self.sizes.tolist()
        given = [np.resize(others, size) for size, others in zip(sizes, donors.rows, strict=True)]
        exchanged = ExchangedCells(self.cells, self._all, donors.cells, np.concatenate([_NOBODY, *given]), columns)
        is_held = isinstance(self.cells, np.ndarray)
        cells = exchanged[np.arange(len(exchanged))] if is_held else exchanged
        return replace(self, cells=cells, rows=split_rows(self.sizes), labels=None)

    def batches(self) -> Iterator[Self]:
        """The bags in order, as many at a time as have ``BATCH_CELLS`` cells; a larger bag by itself."""
        start, count = 0, 0
        for at, size in enumerate(self.sizes.tolist()):
            if count and count + size > BATCH_CELLS:
                yield self[start:at]
                start, count = at, 0
            count += size
        if count:
            yield self[start:]

    def changed(self, change: Callable[[Self], NDArray[Any]]) -> Self:
        """Bags of the same cells, changed: ``change`` makes (k, d') of some of the bags, batch by batch.

        What comes out is float32, and belongs to these bags alone.
        """
        parts = [np.asarray(change(some), np.float32) for some in self.batches()]
        width = parts[0].shape[1] if parts else 0
        cells = np.concatenate(parts) if parts else np.empty((0, width), np.float32)
        return type(self)(cells, split_rows(self.sizes), None if self.labels is None else self.stacked_labels)

    def fused(self, change: _Change) -> Self:
        """Bags of the same cells, changed row by row; those outside the memory whenever some are asked for."""
        if isinstance(self.cells, np.ndarray):
            return self.changed(lambda some: change(some.stacked))
        return replace(self, cells=ChangedCells.of(self.cells, change))

    def held(self) -> Self:
        """Bags of the same cells, in memory."""
        if isinstance(self.cells, np.ndarray):
            return self
        return type(self)(self.stacked, split_rows(self.sizes), None if self.labels is None else self.stacked_labels)

    def followed_by(self, other: Bags) -> Bags:
        """These bags, and then the others."""
        moved = tuple(own + len(self.cells) for own in other.rows)
        labels = None
        if self.labels is not None or other.labels is not None:
            each = [
                np.full(len(one.cells), None, object) if one.labels is None else one.labels for one in (self, other)
            ]
            labels = np.concatenate(each)
        return Bags(join_cells(self.cells, other.cells), (*self.rows, *moved), labels)

    def drawn(self, most: int, seed: int) -> NDArray[np.intp]:
        """intp: rows of ``cells``, at most so many, of every bag alike as far as it has them; all where there are no
        more, bag after bag."""
        if len(self._all) <= most or not len(self):
            return self._all
        rng, each = np.random.default_rng(seed), max(1, most // len(self))
        return np.concatenate([own if len(own) <= each else rng.choice(own, each, replace=False) for own in self.rows])


def _pick(cells: Any, columns: Any) -> Any:
    """The same cells with these columns."""
    return cells[:, columns] if isinstance(cells, np.ndarray) else cells.pick(np.arange(cells.shape[1])[columns])


def split_rows(sizes: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    """The rows of bags of these sizes that stand one after the other."""
    ends = np.cumsum(sizes)
    return tuple(np.arange(end - size, end, dtype=np.intp) for end, size in zip(ends, sizes, strict=True))
