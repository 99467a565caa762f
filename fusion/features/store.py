"""The feature store: what was measured once is never measured again.

Layout. ``<root>/features/<extractor>/<fingerprint>/<checksum>.arrow``: immutable Arrow IPC files ("shards"), each named
by the checksum of its own bytes, so that a damaged one is known when it is opened. There is no index that could be
torn: the folder is the index. Readers and writers never meet and need no locks, since every shard is a new file; the
same cell written twice holds the same numbers, and the first one read wins.

The root may be a URL (see ``remote_path``): a shard is then put as one object, listed with the others, and fetched once
by every machine that reads it, which maps its copy as it would map the file. A shard never changes, nor does the copy.

A shard has a row for each cell: its content key, its features (a fixed-size list of float32, or of float16 where the
extractor's numbers are such, memory-mapped when read), and why it has none (null where it has). Cells with features
come first. Whatever a shard holds, rows are read as float32.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import stat
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.compute.platform_calls import forget_pages
from fusion.errors import FusionError
from fusion.io import arrow_arrays
from fusion.io.cache_folder import default_store, local_store
from fusion.io.content_hash import as_arrow, positions
from fusion.io.files import checksum, file_checksum, write_atomically
from fusion.io.remote_path import THREADS, Remote, as_path

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("fusion")

_Numbers = NDArray[np.float32] | NDArray[np.float16]

#: Written into every shard; a reader leaves shards of another format alone.
FORMAT = "fusion-shard-2"

#: Folder of the shards under the store's root, and of those found damaged.
FEATURES, QUARANTINE = "features", "quarantine"

#: Folder on this machine for copies of shards whose store is in an object store.
FETCHED = "fetched"

#: How a shard is called before its ending: by its checksum.
_NAME = re.compile(r"[0-9a-f]{32}\Z")

#: Shards may be merged and taken away while they are listed; the folder is then listed again. Each time means that a
#: whole merge was finished in between, so a few are enough.
_LISTINGS = 8

#: Hashing lets go of the interpreter lock; more threads than this gain nothing on one disk.
_THREADS = min(8, os.cpu_count() or 1)


class StoreError(FusionError):
    """The store cannot be written or holds something that cannot be trusted."""


class ShardDamaged(Exception):
    """What lies there is no shard that was written here, and why. Caught where shards are opened."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One opened and checked file of the store.

    Attributes
    ----------
    names : the d feature names.
    about : what the writer says of the extractor: version, parameters and the like.
    keys, values : the n measured cells, Arrow strings in memory, and float32 or float16 (n, d) mapped from the file.
    fault_keys, reasons : the cells that cannot be measured.
    mapped : the file's bytes, as Arrow has mapped them.
    """

    path: Path
    names: list[str]
    about: dict[str, Any]
    keys: pa.StringArray
    values: _Numbers
    fault_keys: pa.StringArray
    reasons: pa.StringArray
    mapped: pa.Buffer

    def release_pages(self) -> None:
        """Count no page of the file as memory of this process, until it is read again: a large store would fill it."""
        # A mapping begins with a page; should Arrow ever hand out a copy instead, it must not be emptied.
        if self.mapped.size and self.mapped.address % mmap.PAGESIZE == 0:
            # Not by ``mmap``, which would hold a file open for each of thousands of shards.
            forget_pages(self.mapped.address, self.mapped.size)


class Block:
    """What the store held of one extractor version when it was opened.

    A fixed view: whatever is written, merged or deleted meanwhile, the rows stay those they were. ``width`` is the
    number of features.
    """

    def __init__(self, shards: Sequence[Shard], width: int) -> None:
        import pyarrow as pa

        self._shards = list(shards)
        self._values = [shard.values for shard in shards]
        self._starts = np.cumsum([0, *(len(values) for values in self._values)])
        self.width = width
        self._keys = pa.chunked_array([shard.keys for shard in shards], pa.string())
        self._fault_keys = pa.chunked_array([shard.fault_keys for shard in shards], pa.string())
        self._reasons = pa.chunked_array([shard.reasons for shard in shards], pa.string())

    def find(self, keys: Sequence[str] | pa.ChunkedArray) -> NDArray[np.intp]:
        """Row number of every key, -1 for what has not been measured. The first of several rows counts."""
        return positions(as_arrow(keys), self._keys)

    def lacks(self, keys: Sequence[str] | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Of which cells there are neither features nor a reason why there are none."""
        wanted = as_arrow(keys)
        return (self.find(wanted) < 0) & (positions(wanted, self._fault_keys) < 0)

    def faults(self, keys: Sequence[str] | pa.ChunkedArray) -> dict[str, str]:
        """Key -> why that cell cannot be measured. A cell that has been measured after all may be among them."""
        wanted = as_arrow(keys)
        at = positions(wanted, self._fault_keys)
        hit = np.flatnonzero(at >= 0)
        return dict(
            zip(
                wanted.take(arrow_arrays.numbers(hit)).to_pylist(),
                self._reasons.take(arrow_arrays.numbers(at[hit])).to_pylist(),
                strict=True,
            )
        )

    def release_pages(self) -> None:
        """Take no memory for what has been read so far; it can be read again."""
        for shard in self._shards:
            shard.release_pages()

    def rows(self, at: NDArray[np.intp], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """float32 (len(at), d): the rows of these numbers, all of them >= 0; written into ``out`` where it is given."""
        out = np.empty((len(at), self.width), np.float32) if out is None else out
        shard_of = np.searchsorted(self._starts, at, side="right") - 1
        # Rows that lie side by side in one shard and are wanted side by side, as is the rule, are copied in one stroke.
        breaks = np.flatnonzero((np.diff(at) != 1) | (np.diff(shard_of) != 0)) + 1
        begins, ends = np.r_[0, breaks][: len(at)], np.r_[breaks, len(at)]
        if len(begins) <= len(at) // 4 + 1:
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=False):
                first = at[begin] - self._starts[shard_of[begin]]
                out[begin:end] = self._values[shard_of[begin]][first : first + end - begin]
            return out
        for shard in np.unique(shard_of):
            here = np.flatnonzero(shard_of == shard)
            out[here] = self._values[shard][at[here] - self._starts[shard]]
        return out


class FeatureStore:
    """Rows of features by content key, one folder for each extractor and fingerprint.

    Parameters
    ----------
    root : the store's folder; made when first written to. None takes ``$FUSION_CACHE`` or the platform's cache folder.

    Examples
    --------
    >>> FeatureStore("features").root.name
    'features'
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = as_path(root) if root is not None else default_store()
        # Every shard is checked once, when this store first opens it; None marks one that is not to be used.
        self._opened: dict[Path, Shard | None] = {}

    def write(
        self,
        extractor: str,
        fingerprint: str,
        names: Sequence[str],
        rows: Mapping[str, NDArray[np.float32]],
        faults: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
        kept_as: type[np.floating[Any]] = np.float32,
    ) -> None:
        """Add one shard.

        Parameters
        ----------
        names : the d feature names, kept in the shard.
        rows : content key -> float32 (d,).
        faults : content key -> why that cell cannot be measured, so that it is not tried again.
        about : plain values that describe the extractor, for whoever looks at the store later.
        kept_as : numpy.float32, or numpy.float16 for an extractor whose fingerprint says that its numbers are such.

        Raises
        ------
        StoreError : the folder cannot be written or the disk is full; nothing half-written is left.
        """
        faults = faults or {}
        if not rows and not faults:
            return
        values = np.stack(list(rows.values())) if rows else np.empty((0, len(names)))
        self.write_shard(
            extractor, fingerprint, names, (list(rows), values.astype(kept_as, copy=False)), dict(faults), about or {}
        )

    def write_shard(
        self,
        extractor: str,
        fingerprint: str,
        names: Sequence[str],
        measured: tuple[Sequence[str], _Numbers],
        faults: Mapping[str, str],
        about: Mapping[str, Any],
    ) -> Path:
        """``write`` for n keys and their float32 or float16 (n, d) as they are.

        Returns the shard's path; the shard is durable then.
        """
        facts = {"extractor": extractor, "fingerprint": fingerprint, "features": list(names), "about": dict(about)}
        content = _to_arrow(facts, *measured, faults)
        path = self.folder(extractor, fingerprint) / f"{checksum(content)}.arrow"
        try:
            write_atomically(path, content)
        except OSError as error:
            elsewhere = "Check the network and your credentials" if isinstance(path, Remote) else "Free some space"
            raise StoreError(
                f"cannot write to the feature store {self.root}",
                found=str(error.strerror or error).lower(),
                do=f"{elsewhere}, or choose another folder with --store or FUSION_CACHE.",
            ) from error
        if self._opened.get(path, path) is None:  # it was damaged; the same cells have made the same bytes again
            del self._opened[path]
        if isinstance(path, Remote):  # it is read again when the run ends, and need not be fetched for that
            _keep(path, content)
        return path

    def open(self, extractor: str, fingerprint: str, names: Sequence[str]) -> Block:
        """What is held now of one extractor version.

        Damaged shards are left out with a warning, and so their cells are measured again.
        """
        wanted = list(names)
        usable = [shard for shard in self._open_all(extractor, fingerprint) if shard.names == wanted]
        return Block(usable, len(wanted))

    def read(
        self, extractor: str, fingerprint: str, keys: Sequence[str], names: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """The rows and the faults held for these keys; what is in neither has never been measured.

        Returns
        -------
        rows : key -> float32 (d,) in the order of ``names``.
        faults : key -> reason.
        """
        block = self.open(extractor, fingerprint, names)
        at = block.find(keys)
        known = np.flatnonzero(at >= 0)
        rows = dict(zip((keys[i] for i in known.tolist()), block.rows(at[known]), strict=True))
        return rows, {key: reason for key, reason in block.faults(keys).items() if key not in rows}

    def keys(self, extractor: str, fingerprint: str) -> set[str]:
        """Keys of all cells that one extractor version has measured."""
        return {key for shard in self._open_all(extractor, fingerprint) for key in shard.keys.to_pylist()}

    def shards(self, extractor: str, fingerprint: str) -> list[Path]:
        """Shard files in a fixed order; files of other names are not the store's."""
        return sorted(path for path in self.folder(extractor, fingerprint).glob("*.arrow") if _NAME.match(path.stem))

    def folder(self, extractor: str, fingerprint: str) -> Path:
        """Where the shards of one extractor version lie."""
        return self.root / FEATURES / extractor / fingerprint

    @property
    def local(self) -> Path:
        """A folder of this machine for what is mapped and not worth sharing: the root, where that is one."""
        return local_store() if isinstance(self.root, Remote) else self.root

    def _open_all(self, extractor: str, fingerprint: str) -> list[Shard]:
        for _ in range(_LISTINGS):
            paths = self.shards(extractor, fingerprint)
            new = [path for path in paths if path not in self._opened]
            with ThreadPoolExecutor(THREADS if isinstance(self.root, Remote) else _THREADS) as pool:
                opened = list(pool.map(_open_or_vanished, new))
            gone = {path for path, (_, is_gone) in zip(new, opened, strict=True) if is_gone}
            for path, (shard, is_gone) in zip(new, opened, strict=True):
                if not is_gone:
                    self._opened[path] = shard
            if not gone:  # else another process has merged them into a new shard, which a second listing shows
                break
        folder, listed = self.folder(extractor, fingerprint), set(paths)
        for path in [path for path in self._opened if path.parent == folder and path not in listed]:
            del self._opened[path]  # merged away: lets go of the mapping
            drop_copy(path)
        return [shard for path in paths if (shard := self._opened.get(path)) is not None]


def open_shard(path: Path) -> Shard | None:
    """The shard, mapped into memory, or None where it is of another format or was written for another folder.

    Raises
    ------
    ShardDamaged : its bytes are not those it was named after, or not laid out as a shard is.
    OSError : it cannot be read, or is no longer there.
    """
    import pyarrow as pa

    here = _checked(path)
    with pa.memory_map(str(here)) as source:
        mapped = source.read_buffer()
    # The name shows that the bytes are whole, not who wrote them: whoever can write here can make the name fit. What
    # follows goes by addresses, and a negative one would end the process.
    try:
        read = _batch(mapped)
    except (pa.ArrowException, OSError, *_MISLAID) as error:
        raise ShardDamaged(f"not laid out as a shard is: {' '.join(str(error).split())[:100]}") from error
    if read is None or (read.extractor, read.fingerprint) != (path.parent.parent.name, path.parent.name):
        return None  # of another format, or copied here from elsewhere: numbers of another extractor
    count, names, about = read.count, read.names, read.about
    keys, features, reasons = read.columns
    values = arrow_arrays.values(features.flatten()).reshape(-1, len(names))
    # Keys are looked up often, and would bring the pages around them into memory: six times as much as they are.
    texts = (pa.concat_arrays([text, text[:0]]) for text in (keys[:count], keys[count:], reasons[count:]))
    keys, fault_keys, reasons = texts
    shard = Shard(path, names, about, keys, values[:count], fault_keys, reasons, mapped)
    shard.release_pages()
    return shard


#: Beside Arrow's own: what reading a shard that is none may raise. Arrow's OSErrors tell of the layout, too.
_MISLAID = (ValueError, KeyError, TypeError, RecursionError, StopIteration, struct.error)


@dataclass(frozen=True, eq=False)
class _Batch:
    """What a shard's file holds, once all of it has been looked at: see ``Shard`` and ``_to_arrow``."""

    extractor: str
    fingerprint: str
    names: list[str]
    about: dict[str, Any]
    count: int
    columns: tuple[pa.Array, pa.Array, pa.Array]


def _batch(mapped: pa.Buffer) -> _Batch | None:
    """The content of a shard's file; None where it is of another format.

    Raises
    ------
    pyarrow.ArrowException, ValueError, KeyError, TypeError, RecursionError : it is not laid out as ``_to_arrow`` does.
    """
    import pyarrow as pa

    # Message by message, as Arrow's own way would unpack what is compressed, to any size, before it can be looked at.
    messages = pa.ipc.MessageReader.open_stream(mapped.slice(_MAGIC_BYTES))
    first = messages.read_next_message()
    if first.type != "schema":  # Arrow follows what is none wherever it leads
        raise ValueError(f"it begins with a message of type {first.type}")
    schema = pa.ipc.read_schema(first)
    metadata = schema.metadata or {}
    if metadata.get(b"format") != FORMAT.encode():
        return None
    facts = json.loads(metadata[b"facts"])
    names, about, count = facts["features"], facts["about"], int(metadata[b"measured"])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(about, dict)):
        raise ValueError("names or facts of another kind")
    kinds = [pa.list_(pa.field("item", kind), len(names)) for kind in (pa.float32(), pa.float16())]
    if schema.names != ["key", "features", "fault"] or schema.types not in (
        [pa.string(), kind, pa.string()] for kind in kinds
    ):
        raise ValueError("columns of other names or types")
    message, *more = messages
    if more or message.type != "record batch" or _is_compressed(message.metadata):
        raise ValueError("more than one batch, or a compressed one")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)  # every offset, every length, every letter
    keys, features, faults = batch.columns
    if not 0 <= count <= len(batch) or keys.null_count or features.null_count or features.flatten().null_count:
        raise ValueError("values that are missing")
    if faults[:count].null_count != count or faults[count:].null_count:
        raise ValueError("faults of measured cells")
    return _Batch(facts["extractor"], facts["fingerprint"], names, about, count, (keys, features, faults))


#: ARROW1 and two zeros, before the first message.
_MAGIC_BYTES = 8


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Whether a message of Arrow's, a flatbuffer that Arrow has verified, is a batch that says how it is compressed."""
    content = metadata.to_pybytes()

    def place(table: int, number: int) -> int:
        """Where a field of a table is; 0 where it has none."""
        slots = table - struct.unpack_from("<i", content, table)[0]
        (length,) = struct.unpack_from("<H", content, slots)
        at = 4 + 2 * number
        offset = struct.unpack_from("<H", content, slots + at)[0] if at < length else 0
        return table + offset if offset else 0

    (message,) = struct.unpack_from("<I", content, 0)
    header = place(message, 2)
    return bool(place(header + struct.unpack_from("<I", content, header)[0], 3))


def _checked(path: Path) -> Path:
    """The file to be mapped, whose bytes are those it was named after: the shard itself, or its copy on this machine.

    Raises
    ------
    ShardDamaged, OSError : as for ``open_shard``.
    """
    if not isinstance(path, Remote):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise ShardDamaged("not a regular file")
        if not is_whole(path):
            raise ShardDamaged("not as it was written")
        return path
    copy = _copy_of(path)
    try:
        if file_checksum(copy) == path.stem:
            return copy
    except FileNotFoundError:  # not fetched yet
        pass
    content = path.read_bytes()
    if checksum(content) != path.stem:
        raise ShardDamaged("not as it was written")
    return _keep(path, content)


def is_whole(path: Path) -> bool:
    """Whether the bytes of a shard are those that it is named after."""
    return file_checksum(path) == path.stem


def _keep(path: Remote, content: bytes) -> Path:
    """The copy on this machine of a shard whose bytes these are.

    Raises
    ------
    StoreError : there is no room for it.
    """
    copy = _copy_of(path)
    try:
        write_atomically(copy, content)
    except OSError as error:
        raise StoreError(
            f"cannot keep a copy of a shard in {copy.parents[2]}",
            found=str(error.strerror or error).lower(),
            do="Free some space, or choose another folder with FUSION_CACHE.",
        ) from error
    return copy


def _copy_of(path: Remote) -> Path:
    """Where this machine keeps what it has fetched of a shard; of the same name and bytes whatever store it is in."""
    return local_store() / FETCHED / path.parent.parent.name / path.parent.name / path.name


def drop_copy(path: Path) -> None:
    """Forget what has been fetched of a shard; it may be mapped still, and its pages stay until it is let go."""
    if isinstance(path, Remote):
        try:
            _copy_of(path).unlink(missing_ok=True)
        except PermissionError:  # Windows keeps files that someone has mapped
            return


def _open_or_vanished(path: Path) -> tuple[Shard | None, bool]:
    """The shard, None where it is not to be used; and whether it has gone since it was listed."""
    try:
        return open_shard(path), False
    except FileNotFoundError:
        return None, True
    except ShardDamaged as error:
        _log.warning("%s is damaged (%s): its cells are measured again; fusion cache verify sets it aside", path, error)
    except OSError as error:
        _log.warning("%s cannot be read (%s): its cells are measured again", path, error.strerror or error)
    return None, False


def _to_arrow(facts: Mapping[str, Any], keys: Sequence[str], values: _Numbers, faults: Mapping[str, str]) -> bytes:
    import pyarrow as pa

    width = len(facts["features"])
    padded = np.concatenate([values, np.full((len(faults), width), np.nan, values.dtype)])
    columns = {
        "key": arrow_arrays.texts([*keys, *faults]),
        "features": pa.FixedSizeListArray.from_arrays(arrow_arrays.numbers(padded.ravel()), width),
        "fault": arrow_arrays.texts([None] * len(keys) + list(faults.values())),
    }
    metadata = {"facts": json.dumps(facts, sort_keys=True, default=list), "measured": str(len(keys)), "format": FORMAT}
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)  # as one batch: its values then lie in one piece, and are mapped without a copy
    content: bytes = sink.getvalue().to_pybytes()
    return content
