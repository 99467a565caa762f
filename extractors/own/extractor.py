"""The extractor ``own``: what is in a file, and which images it was learnt from."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset
from fusion.features import own_features
from fusion.features.own_features import OwnFeaturesError
from fusion.images.cell import Cell

_log = logging.getLogger("fusion")

#: Words that stand where a file of hashes could.
UNKNOWN, NOTHING = "unknown", "nothing"


@dataclass(frozen=True)
class Own:
    """Features that were computed elsewhere: an embedding, CellProfiler's columns, a colleague's table.

    Attributes
    ----------
    file : a .parquet, .csv, .tsv, .h5ad or .npz with a row a cell and a column of keys: paths or file names of the
        images, sha256 or BLAKE3 of their files, or the ``key`` of ``fusion extract --export``.
    learnt_from : what the numbers have learnt from: "nothing" (measurements by rules), "unknown", or a file of BLAKE3
        hashes of images, one a line (``b3sum``). Judging on these images is refused, and what is unknown is stamped.
    columns, content : of the file, as a model that is saved keeps them: a model does not take the file along, and is
        given another for other cells.

    Raises
    ------
    OwnFeaturesError : the file cannot be read, or is not as it must be.
    """

    name: ClassVar[str] = "own"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = True

    # "stays": a model does not take the table along, which may be of people.
    file: str | None = field(default=None, metadata={"stays": True})
    learnt_from: str = field(default=UNKNOWN, metadata={"file": True})
    columns: tuple[str, ...] | None = None
    content: str | None = None

    def __post_init__(self) -> None:
        if self.file is None and self.columns is None:
            raise ValueError("file must be given: a .parquet, .csv, .tsv, .h5ad or .npz with a row a cell")
        if self.columns is None:
            object.__setattr__(self, "columns", self._read.names)
            object.__setattr__(self, "content", own_features.content_of(self._path))

    @property
    def _path(self) -> Path:
        assert self.file is not None
        return Path(self.file).expanduser()

    @functools.cached_property
    def _read(self) -> own_features.OwnFeatures:
        if self.file is None:
            raise OwnFeaturesError(
                "a block of one's own has no file",
                found="a model keeps the names of its features, not the table they came from",
                do="Give one with a row for each of these cells: --own NAME=FILE.",
            )
        return own_features.read_own_features(self._path)

    def __getstate__(self) -> dict[str, Any]:
        """The parameters alone."""
        return {f: getattr(self, f) for f in ("file", "learnt_from", "columns", "content")}

    def identity(self) -> dict[str, Any]:
        """What the numbers depend on: the file's content, wherever it lies."""
        return {"columns": list(self.columns or ()), "content": self.content}

    def feature_names(self) -> list[str]:
        """As the file names its columns of numbers."""
        return list(self.columns or ())

    def rows_of(self, dataset: Dataset) -> NDArray[np.float32]:
        """float32 (n, d) of all cells of a data set, by key.

        Raises
        ------
        OwnFeaturesError : see ``fusion.features.own_features.join``; or other columns than the model's.
        """
        own = self._read
        wanted = list(self.columns or ())
        if missing := [name for name in wanted if name not in own.names]:
            raise OwnFeaturesError(
                f"{own.path} has not the features that are asked for",
                found=f"no {', '.join(missing[:3])}",
                expected=f"{len(wanted)} columns, such as {', '.join(wanted[:3])}",
            )
        joined = self._joined(own, dataset)
        for why, left in own_features.left_out(own, joined.key).items():
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            _log.warning("%s: %s, and left out: %s%s", own.path.name, why, ", ".join(left[:8]), more)
        return joined.X[:, [own.names.index(name) for name in wanted]]

    @functools.cached_property
    def _last(self) -> list[Any]:
        return []

    def _joined(self, own: own_features.OwnFeatures, dataset: Dataset) -> own_features.Joined:
        """Of the last data set they are kept: to be found by sha256, every image is read."""
        if not self._last or self._last[0]() is not dataset:
            self._last[:] = [weakref.ref(dataset), own_features.join(own, dataset)]
        joined: own_features.Joined = self._last[1]
        return joined

    def extract(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """Nothing can be measured: raises ``OwnFeaturesError``."""
        raise OwnFeaturesError(
            "features of one's own cannot be measured from an image",
            found=f"{len(cells)} cell(s) without a row",
            do="Give them with --own NAME=FILE.",
        )

    def with_file(self, file: str) -> Own:
        """The same block for other cells: these columns, out of another file."""
        return Own(file, self.learnt_from, self.columns, own_features.content_of(Path(file).expanduser()))

    def provenance(self) -> Mapping[str, Sequence[str]] | None:
        """Hashes of the images that the numbers have learnt from; None where nothing is known, or there are none."""
        if self.learnt_from in (UNKNOWN, NOTHING):
            return None
        return own_features.provenance_of(Path(self.learnt_from).expanduser())

    def doubts(self, dataset: Dataset) -> str:
        """What must be read with figures of this block on these cells; "" where nothing is in doubt."""
        doubts = ["what it has learnt from is unknown, perhaps these cells: say learnt_from"]
        doubts = doubts if self.learnt_from == UNKNOWN else []
        if self.file is not None:
            found = own_features.labels_among(self._read.names, self._joined(self._read, dataset).X, dataset)
            doubts += [f"leaky: {', '.join(found[:3])} says the label of every cell"] if found else []
        return "; ".join(doubts)
