"""A feature table: float32 numbers, named columns in blocks, and who each row is."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusion.data.patients.bags import Bags
from fusion.data.units import Units
from fusion.errors import UsageError
from fusion.feature_transforms.block_columns import block_slices
from fusion.io.csv_text import csv_frame
from fusion.io.notebook_table import notebook_table
from fusion.io.output_files import writing_output

_Value = TypeVar("_Value")

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class AugmentedCells:
    """Augmented cells of n cells, to learn from beside them; see ``fusion.learning.augmented_cells``.

    In a table of subjects these are of their cells.

    Attributes
    ----------
    X : float32 (K, n, d), the columns of the cells' table.
    there : bool (K, n), the augmented cells that could be measured.
    are_sources : whether the augmented cells of each number stand for sites of their own.
    """

    X: NDArray[np.float32]
    there: NDArray[np.bool_]
    are_sources: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTable(Units):
    """The features of n cells, or of the cells of n subjects, beside who they are.

    Attributes
    ----------
    X : float32 (n, d); NaN where a feature is undefined for a cell. Of subjects it is ``Bags`` of their cells.
    columns : d names ``block.feature``; the columns of a block lie side by side.
    augmented : of the same cells, to learn from; None for none. Nothing but a fit looks at them.

    Examples
    --------
    >>> import numpy as np
    >>> FeatureTable.of_cells(np.ones((2, 1), np.float32), ["morphology.cell_area"], ["one", "other"])
    FeatureTable(2 cells; morphology 1)
    """

    X: Any
    columns: tuple[str, ...]
    augmented: AugmentedCells | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.X) != len(self) or self.X.shape[1] != len(self.columns):
            raise ValueError(
                f"parts of a feature table disagree: {len(self)} cells and {len(self.columns)} columns, features "
                f"{self.X.shape}"
            )
        cells = self.X.cells if isinstance(self.X, Bags) else self.X
        if self.augmented is not None and self.augmented.X.shape[1:] != cells.shape:
            raise ValueError(
                f"augmented cells of a feature table are {self.augmented.X.shape[1:]}, and its cells {cells.shape}"
            )

    def __repr__(self) -> str:
        widths = ", ".join(f"{name} {part.stop - part.start}" for name, part in self.blocks.items())
        what = f"{sum(map(len, self.cells))} cells of {len(self)} subjects" if self.cells else f"{len(self)} cells"
        return f"FeatureTable({what}; {widths or 'no features'})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.to_frame)

    @classmethod
    def of_cells(
        cls, X: NDArray[np.float32], columns: Sequence[str], names: Sequence[str], source: str | None = None
    ) -> Self:
        """Cells of one source in memory, of whom nothing else is known: each is its own group, called by its name."""
        own, unknown = tuple(names), (None,) * len(names)
        return cls(
            X=X,
            columns=tuple(columns),
            names=own,
            keys=own,
            image_keys=own,
            y=unknown,
            subjects=unknown,
            folds=unknown,
            groups=np.arange(len(own)),
            subjects_known=False,
            sources=(source,) * len(own),
        )

    @property
    def blocks(self) -> dict[str, slice]:
        """Block name -> its columns."""
        return block_slices(self.columns)

    def select(self, blocks: Sequence[str]) -> FeatureTable:
        """The same cells with these blocks only, in this order.

        Raises
        ------
        UsageError : a block that the table does not have.
        """
        if unknown := [name for name in blocks if name not in self.blocks]:
            raise UsageError("unknown feature block", found=", ".join(unknown), expected=", ".join(self.blocks))
        at = np.concatenate([np.arange(len(self.columns))[self.blocks[name]] for name in blocks])
        augmented = None if self.augmented is None else replace(self.augmented, X=self.augmented.X[:, :, at])
        return replace(self, X=self.X[:, at], columns=tuple(self.columns[i] for i in at), augmented=augmented)

    def without_features(self) -> FeatureTable:
        """The same cells, of which nothing is measured."""
        return replace(self, X=np.empty((len(self), 0), np.float32), columns=(), augmented=None)

    def take(self, rows: NDArray[np.intp]) -> FeatureTable:
        """These rows, in this order; groups keep their numbers."""

        def pick(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
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
            sources=pick(self.sources),
            group_ids=pick(self.group_ids),
            share_images=pick(self.share_images),
            subject_labels=pick(self.subject_labels) if self.subject_labels else (),
            cells=pick(self.cells) if self.cells else (),
            augmented=self.augmented
            if self.augmented is None or self.are_subjects  # which take their cells by number, all of which stay
            else replace(self.augmented, X=self.augmented.X[:, rows], there=self.augmented.there[:, rows]),
        )

    def by_subject(self, labels: Sequence[str | None] = ()) -> FeatureTable:
        """The subjects of these cells, of each the bag of its cells; see ``Units.of_subjects``.

        Parameters
        ----------
        labels : n classes of the cells themselves, None where unknown; () where nothing is known of any.
        """
        fields = self.of_subjects()
        known = np.array(labels, object) if any(label is not None for label in labels) else None
        bags = Bags(self.X, fields["cells"], known)
        return FeatureTable(X=bags, columns=self.columns, augmented=self.augmented, **fields)

    def averaged(self) -> FeatureTable:
        """Each subject by the mean of its cells, where units are subjects; else the table itself."""
        if not isinstance(self.X, Bags):
            return self
        means = np.concatenate([_known_means(some) for some in self.X.batches()]).astype(np.float32)
        return replace(self, X=means, augmented=None)

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame: name, key, label, subject, source, group, fold, then the features; of subjects, the number of
        their cells."""
        import pandas as pd

        head = pd.DataFrame(
            {
                "name": self.names,
                "key": self.keys,
                "label": self.y,
                "subject": self.subjects,
                "source": self.sources,
                "group": self.groups,
                "fold": self.folds,
            }
        )
        if self.are_subjects:
            return head.assign(cells=[len(own) for own in self.cells])
        return pd.concat([head, pd.DataFrame(self.X, columns=list(self.columns))], axis=1)

    def save(self, path: Path) -> None:
        """Write the table as ``.parquet`` or ``.csv``, by the name's ending.

        Raises
        ------
        UsageError : another ending.
        """
        export(path, [self])


#: Endings of the files that a table can be written to.
ENDINGS = (".parquet", ".csv", ".h5ad")


def _known_means(bags: Bags) -> NDArray[np.float64]:
    """float64 (n, d): of each bag the mean of what is known of its cells, NaN where that is nothing."""
    cells = bags.stacked
    with np.errstate(invalid="ignore"):
        return np.asarray(bags.mean(np.nan_to_num(cells)) / bags.mean(~np.isnan(cells)))


def export(path: Path, parts: Iterable[FeatureTable], units: Mapping[str, str] | None = None) -> None:
    """Write tables with the same columns below each other, whole or not at all.

    Parquet and CSV hold one part at a time in memory. AnnData's ``.h5ad`` holds all: its ``X`` are the features, its
    ``obs`` what a cell is (key, label, subject, source, group, fold, by name), its ``var`` what a feature is (block,
    unit).

    Parameters
    ----------
    units : column -> unit, for ``.h5ad``.

    Raises
    ------
    UsageError : the name has none of these endings, or the package that ``.h5ad`` needs is missing.
    """
    check_export(path)
    ending = path.suffix.lower()
    with writing_output(path) as stream:
        if ending == ".parquet":
            _write_parquet(stream, parts)
        elif ending == ".h5ad":
            _write_h5ad(stream, parts, units or {})
        else:
            for at, part in enumerate(parts):
                csv_frame(part.to_frame()).to_csv(stream, index=False, header=at == 0)


def _write_parquet(stream: BinaryIO, parts: Iterable[FeatureTable]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for part in parts:
        if writer is None:
            # Said once for all parts: one that knows no subject would otherwise have a column of another type.
            texts = [(name, pa.string()) for name in ("name", "key", "label", "subject", "source")]
            numbers = [(name, pa.float32()) for name in part.columns]
            schema = pa.schema([*texts, ("group", pa.int64()), ("fold", pa.string()), *numbers])
            writer = pq.ParquetWriter(stream, schema)
        writer.write_table(pa.Table.from_pandas(part.to_frame(), writer.schema, preserve_index=False))
    if writer is not None:
        writer.close()


#: Names of text columns, and the table's attributes that fill them.
_TEXTS = (("key", "keys"), ("label", "y"), ("subject", "subjects"), ("source", "sources"), ("fold", "folds"))


def _write_h5ad(stream: BinaryIO, parts: Iterable[FeatureTable], units: Mapping[str, str]) -> None:
    import anndata
    import pandas as pd

    tables = list(parts)
    columns = list(tables[0].columns)

    # Plain objects: the Arrow strings that pandas makes of text cannot be written by every AnnData.
    def plain(values: Iterable[str | None]) -> pd.Categorical:
        texts = list(values)
        known = pd.Index(sorted({text for text in texts if text is not None}), dtype=object)
        return pd.Categorical(texts, categories=known)

    cells = anndata.AnnData(
        np.concatenate([part.X for part in tables]),
        obs=pd.DataFrame(
            {name: plain(value for part in tables for value in getattr(part, of)) for name, of in _TEXTS}
            | {"group": np.concatenate([part.groups for part in tables])},
            index=pd.Index([name for part in tables for name in part.names], dtype=object),
        ),
        var=pd.DataFrame(
            {
                "block": plain(column.rpartition(".")[0] for column in columns),
                "unit": plain(units.get(column, "") for column in columns),
            },
            index=pd.Index(columns, dtype=object),
        ),
    )
    with tempfile.TemporaryDirectory() as folder:  # HDF5 wants a file of its own
        cells.write_h5ad(Path(folder) / "table.h5ad")
        with (Path(folder) / "table.h5ad").open("rb") as written:
            shutil.copyfileobj(written, stream)


def check_export(path: Path) -> None:
    """Refuse an export file that could not be written, before any work is done."""
    if path.suffix.lower() not in ENDINGS:
        *others, last = ENDINGS
        raise UsageError(f"cannot export to {path}", expected=f"a name ending in {', '.join(others)} or {last}")
    if path.suffix.lower() == ".h5ad" and importlib.util.find_spec("anndata") is None:
        raise UsageError(
            f"cannot export to {path}", found="no package anndata", do="pip install 'fusion-cells[anndata]'"
        )
