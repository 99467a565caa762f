"""The feature store: what was measured once is never measured again.

Layout. ``<root>/features/<extractor>/<fingerprint>/<sha256>.arrow``: immutable Arrow IPC files ("shards"), each named
by the hash of its own bytes, so that a damaged one is known when it is opened. There is no index that could be torn:
the folder is the index. Writers never meet, since every shard is a new file; the same cell written twice holds the
same numbers, and the first one read wins.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError
from fusion.files import sha256, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("fusion")

#: Written into every shard; a reader leaves shards of another format alone.
FORMAT = "fusion-shard-1"


class StoreError(FusionError):
    """The store cannot be written or holds something that cannot be trusted."""


@dataclass(frozen=True)
class Held:
    """What the store holds of one extractor version."""

    extractor: str
    fingerprint: str
    shards: int
    size_bytes: int


def default_store() -> Path:
    """``$FUSION_CACHE`` where it is set, else the platform's cache folder."""
    if folder := os.environ.get("FUSION_CACHE"):
        return Path(folder)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fusion-cells", appauthor=False))


class FeatureStore:
    """Rows of features by content key, one folder for each extractor and fingerprint.

    Parameters
    ----------
    root : the store's folder; made when first written to.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else default_store()

    def write(
        self,
        extractor: str,
        fingerprint: str,
        names: Sequence[str],
        rows: Mapping[str, NDArray[np.float32]],
        faults: Mapping[str, str] | None = None,
    ) -> None:
        """Add one shard.

        Parameters
        ----------
        names : the d feature names, kept in the shard.
        rows : content key -> float32 (d,).
        faults : content key -> why that cell cannot be measured, so that it is not tried again.

        Raises
        ------
        StoreError : the folder cannot be written or the disk is full; nothing half-written is left.
        """
        faults = faults or {}
        if not rows and not faults:
            return
        content = _to_arrow(names, rows, faults)
        try:
            write_atomically(self._folder(extractor, fingerprint) / f"{sha256(content)}.arrow", content)
        except OSError as error:
            raise StoreError(
                f"cannot write to the feature store {self.root}",
                found=str(error.strerror or error).lower(),
                do="Free some space, or choose another folder with --store or FUSION_CACHE.",
            ) from error

    def read(
        self, extractor: str, fingerprint: str, keys: Sequence[str], names: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """The rows and the faults held for these keys; what is in neither has never been measured.

        Damaged shards are left out, and so their cells are measured again.

        Returns
        -------
        rows : key -> float32 (d,) in the order of ``names``.
        faults : key -> reason.
        """
        wanted = set(keys)
        rows: dict[str, NDArray[np.float32]] = {}
        faults: dict[str, str] = {}
        for path in self.shards(extractor, fingerprint):
            table = _open(path)
            if table is None:
                _log.warning("%s is damaged: its cells are measured again", path)
                continue
            if json.loads(table.schema.metadata[b"features"]) != list(names):
                continue
            values = table["features"].combine_chunks().flatten().to_numpy().reshape(-1, len(names))
            reasons = table["fault"].to_pylist()
            for at, key in enumerate(table["key"].to_pylist()):
                if key not in wanted:
                    continue
                if reasons[at]:
                    faults.setdefault(key, reasons[at])
                else:
                    rows.setdefault(key, values[at])
        return rows, {key: reason for key, reason in faults.items() if key not in rows}

    def shards(self, extractor: str, fingerprint: str) -> list[Path]:
        """Shard files in a fixed order."""
        return sorted(self._folder(extractor, fingerprint).glob("*.arrow"))

    def held(self) -> Iterator[Held]:
        """Everything the store holds, by extractor and fingerprint."""
        for folder in sorted((self.root / "features").glob("*/*")):
            shards = list(folder.glob("*.arrow"))
            size = sum(shard.stat().st_size for shard in shards)
            yield Held(folder.parent.name, folder.name, len(shards), size)

    def damaged(self) -> Iterator[Path]:
        """Shards whose bytes are no longer what their name says."""
        yield from (path for path in sorted((self.root / "features").glob("*/*/*.arrow")) if _open(path) is None)

    def _folder(self, extractor: str, fingerprint: str) -> Path:
        return self.root / "features" / extractor / fingerprint


def _to_arrow(names: Sequence[str], rows: Mapping[str, NDArray[np.float32]], faults: Mapping[str, str]) -> bytes:
    import pyarrow as pa

    values = np.full((len(rows) + len(faults), len(names)), np.nan, np.float32)
    if rows:
        values[: len(rows)] = np.stack(list(rows.values()))
    columns = {
        "key": pa.array([*rows, *faults], pa.string()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), len(names)),
        "fault": pa.array([None] * len(rows) + list(faults.values()), pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({"features": json.dumps(list(names)), "format": FORMAT})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _open(path: Path) -> pa.Table | None:
    """The shard's table, or None where its bytes are not those it was named after."""
    import pyarrow as pa

    try:
        content = path.read_bytes()
    except FileNotFoundError:  # another process tidied it away since it was listed
        return None
    if sha256(content) != path.stem:
        return None
    table = pa.ipc.open_file(content).read_all()
    return table if table.schema.metadata.get(b"format") == FORMAT.encode() else None
