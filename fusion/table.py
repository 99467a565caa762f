"""A feature table: float32 numbers, named columns in blocks, and who each row is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError
from fusion.files import replacing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The features of n cells.

    Attributes
    ----------
    X : float32 (n, d); NaN where a feature is undefined for a cell.
    columns : d names ``block.feature``; the columns of a block lie side by side.
    names : n picture names, relative to the data set.
    keys, image_keys : n content hashes, of picture and mask, and of the picture alone.
    y, subjects, folds : n values, None where unknown.
    groups : intp (n,), what must stay on one side of a split.
    subjects_known : False where every content group stands for a subject of its own.
    """

    X: NDArray[np.float32]
    columns: tuple[str, ...]
    names: tuple[str, ...]
    keys: tuple[str, ...]
    image_keys: tuple[str, ...]
    y: tuple[str | None, ...]
    subjects: tuple[str | None, ...]
    folds: tuple[str | None, ...]
    groups: NDArray[np.intp]
    subjects_known: bool

    def __post_init__(self) -> None:
        rows = {len(part) for part in (self.X, self.names, self.keys, self.y, self.subjects, self.folds, self.groups)}
        if len(rows) != 1 or self.X.shape[1] != len(self.columns):
            raise ValueError(f"parts of a feature table disagree: rows {sorted(rows)}, columns {self.X.shape[1:]}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def blocks(self) -> dict[str, slice]:
        """Block name -> its columns."""
        starts: dict[str, list[int]] = {}
        for at, column in enumerate(self.columns):
            starts.setdefault(column.partition(".")[0], []).append(at)
        return {name: slice(at[0], at[-1] + 1) for name, at in starts.items()}

    def select(self, blocks: Sequence[str]) -> FeatureTable:
        """The same cells with these blocks only, in this order.

        Raises
        ------
        UsageError : a block that the table does not have.
        """
        if unknown := [name for name in blocks if name not in self.blocks]:
            raise UsageError("unknown feature block", found=", ".join(unknown), expected=", ".join(self.blocks))
        at = np.concatenate([np.arange(len(self.columns))[self.blocks[name]] for name in blocks])
        return replace(self, X=self.X[:, at], columns=tuple(self.columns[i] for i in at))

    def take(self, rows: NDArray[np.intp]) -> FeatureTable:
        """These rows, in this order; groups keep their numbers."""

        def pick(values: tuple) -> tuple:
            return tuple(values[row] for row in rows)

        return replace(
            self,
            X=self.X[rows],
            groups=self.groups[rows],
            names=pick(self.names),
            keys=pick(self.keys),
            image_keys=pick(self.image_keys),
            y=pick(self.y),
            subjects=pick(self.subjects),
            folds=pick(self.folds),
        )

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame: name, key, label, subject, group, fold, then the features."""
        import pandas as pd

        head = pd.DataFrame(
            {
                "name": self.names,
                "key": self.keys,
                "label": self.y,
                "subject": self.subjects,
                "group": self.groups,
                "fold": self.folds,
            }
        )
        return pd.concat([head, pd.DataFrame(self.X, columns=list(self.columns))], axis=1)

    def save(self, path: Path) -> None:
        """Write the table as ``.parquet`` or ``.csv``, by the name's ending.

        Raises
        ------
        UsageError : another ending.
        """
        export(path, [self])


def export(path: Path, parts: Iterable[FeatureTable]) -> None:
    """Write tables with the same columns below each other, whole or not at all, holding one at a time.

    Raises
    ------
    UsageError : the name ends in neither .parquet nor .csv.
    """
    check_export(path)
    with replacing(path) as stream:
        if path.suffix.lower() == ".parquet":
            _write_parquet(stream, parts)
        else:
            for at, part in enumerate(parts):
                part.to_frame().to_csv(stream, index=False, header=at == 0)


def _write_parquet(stream: BinaryIO, parts: Iterable[FeatureTable]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for part in parts:
        if writer is None:
            # Said once for all parts: one that knows no subject would otherwise have a column of another type.
            texts = [(name, pa.string()) for name in ("name", "key", "label", "subject")]
            numbers = [(name, pa.float32()) for name in part.columns]
            schema = pa.schema([*texts, ("group", pa.int64()), ("fold", pa.string()), *numbers])
            writer = pq.ParquetWriter(stream, schema)
        writer.write_table(pa.Table.from_pandas(part.to_frame(), writer.schema, preserve_index=False))
    if writer is not None:
        writer.close()


def check_export(path: Path) -> None:
    """Refuse an export file that could not be written, before any work is done."""
    if path.suffix.lower() not in {".parquet", ".csv"}:
        raise UsageError(f"cannot export to {path}", expected="a name ending in .parquet or .csv")
