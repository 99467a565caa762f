"""What is in which file, remembered: path and stamp -> content hashes and whether it decodes.

A hundred thousand unchanged images are then known again in seconds. A stamp is size, mtime, ctime, inode and device:
size and mtime alone survive ``mv``, ``cp -p``, ``rsync -t``, ``tar`` and ``unzip``, ctime changes with whatever is done
to a file. The index is a cache and nothing more: a damaged or missing one, or one of another preparation of cells, is
made anew, and two processes writing it at once only lose each other's news.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import RawIOBase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fusion.images.cell import PREPARATION
from fusion.images.decoding import MAX_BYTES, CellError, pixel_key, read_bytes, too_large
from fusion.io import arrow_arrays
from fusion.io.content_hash import hash_content, positions
from fusion.io.files import replacing
from fusion.io.record_columns import Columns
from fusion.io.remote_path import THREADS, as_path, is_url
from fusion.io.remote_path import stamps as stamps_elsewhere

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("fusion")

#: What tells one state of a file from another, in the order of the columns.
_STAMP = ("size", "mtime_ns", "ctime_ns", "inode", "device")

#: A file changed this shortly before it was read may change again within one tick of its clock: it is not remembered.
_SETTLED_NS = 2_000_000_000

#: Reading and hashing let go of the interpreter lock; beyond eight threads a disk gains nothing.
_THREADS = min(8, 2 * (os.cpu_count() or 1))

#: Files that are read between two looks at the clock, and seconds after which what is known so far is written down.
_PORTION, _REMEMBER_SECONDS = 1024, 60.0


@dataclass(frozen=True, slots=True)
class Content:
    """What one file holds: ``bytes_hash`` of its bytes ("" where unreadable) and ``fault``, why it cannot be used.

    ``pixels``: the hash of its decoded pixels, "" where there is none; see ``fusion.images.decoding.pixel_key``.
    ``is_passing``: the fault is of reading, and not of what was read: the next run tries again.
    """

    bytes_hash: str
    pixels: str = ""
    fault: str = ""
    is_passing: bool = False


class FileIndex:
    """Content hashes of files, kept in one file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = _read(path)
        self.files_read = 0

    def look_up(
        self,
        paths: Iterable[Path | str],
        check: Callable[[bytes], str] = pixel_key,
        progress: Callable[[int, int], None] | None = None,
    ) -> Sequence[Content]:
        """The content of every file; those unknown or changed are read, hashed and checked once.

        Parameters
        ----------
        check : bytes -> hash of the pixels, "" for none; raises CellError for what cannot be used.

        Raises nothing for a bad file: its ``fault`` says what is wrong with it.
        """
        names = _absolute(paths)
        stamps, changed = _stamps(names)
        at, known, sizes = self._find(names, stamps), self._known, stamps[:, 0]
        stale = int((at < 0).sum())
        self.files_read += stale
        contents = Columns(Content, texts=["bytes_hash", "pixels"])
        news: list[pa.Table] = []
        done, started = 0, time.monotonic()
        try:
            with ThreadPoolExecutor(THREADS if _is_any_elsewhere(names) else _THREADS) as pool:
                for start in range(0, len(names), _PORTION):
                    part = names[start : start + _PORTION].to_pylist()
                    of_part = stamps[start : start + _PORTION]
                    is_settled = _settled(of_part, changed[start : start + _PORTION])
                    found = _remembered(known, at[start : start + _PORTION])
                    unknown = [i for i, content in enumerate(found) if content is None]
                    read = pool.map(
                        lambda i, part=part, first=start: _inspect(part[i], sizes[first + i], check), unknown
                    )
                    try:
                        for i, content in zip(unknown, read, strict=True):
                            found[i] = content
                            done += 1
                            if progress is not None:
                                progress(done, stale)
                    finally:
                        news.append(_news(part, of_part, is_settled, found, unknown))
                    contents.extend(content for content in found if content is not None)
                    if unknown and time.monotonic() - started > _REMEMBER_SECONDS:
                        self._remember(news)
                        started, news = time.monotonic(), []
        finally:  # also on an interrupt: what has been read is not read again
            self._remember(news)
        return contents

    def remembered(self) -> Iterator[tuple[bytes, str, str]]:
        """Name, hash of the bytes and hash of the pixels of every file without a fault."""
        columns = (self._known[name].to_pylist() for name in ("path", "bytes_hash", "pixels", "fault"))
        for name, digest, pixels, fault in zip(*columns, strict=True):
            if not fault:
                yield name, digest, pixels

    def forget(self, paths: Iterable[Path | str]) -> None:
        """Let these be read again, whatever their stamps say: they did not hold what is remembered of them."""
        import pyarrow.compute as pc

        is_wrong = pc.is_in(self._known["path"], value_set=_absolute(paths))
        if pc.any(is_wrong).as_py():
            self._known = self._known.filter(pc.invert(is_wrong))
            self._write()

    def _find(self, names: pa.ChunkedArray, stamps: NDArray[np.int64]) -> NDArray[np.intp]:
        """In which row every file is remembered as it is now, -1 where it is not."""
        at = positions(names, self._known["path"])
        known = np.stack([arrow_arrays.values(self._known[name]) for name in _STAMP], axis=1)
        is_current = (at >= 0) & (stamps[:, 0] >= 0)
        is_current[is_current] = (known[at[is_current]] == stamps[is_current]).all(axis=1)
        return np.where(is_current, at, -1)

    def _remember(self, news: Sequence[pa.Table]) -> None:
        import pyarrow as pa

        new = pa.concat_tables([arrow_arrays.empty(_schema()), *news])
        if len(new):
            self._known = _updated(self._known, new)
            self._write()

    def _write(self) -> None:
        try:
            _write(self.path, self._known)
        except OSError as error:  # a read-only store serves well for reading features
            reason = error.strerror or error
            _log.warning("cannot remember file contents in %s: %s; they are read again", self.path, reason)


def _remembered(known: pa.Table, at: NDArray[np.intp]) -> list[Content | None]:
    """What these rows of the index say; None for those of -1."""
    found: list[Content | None] = [None] * len(at)
    here = np.flatnonzero(at >= 0).tolist()
    rows = known.select(["bytes_hash", "pixels", "fault"]).take(arrow_arrays.numbers(at[here]))
    for i, *content in zip(here, *(column.to_pylist() for column in rows.columns), strict=True):
        found[i] = Content(*content)
    return found


def _settled(stamps: NDArray[np.int64], changed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool (n,): whether the stamp tells the content of a file that is read from now on."""
    return (stamps[:, 0] >= 0) & (time.time_ns() - changed > _SETTLED_NS)


def _absolute(paths: Iterable[Path | str]) -> pa.ChunkedArray:
    """Absolute names, so that the same file is known again from another working folder. Bytes, as names are on most
    systems: text would refuse some of them."""
    import pyarrow as pa

    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118  # pathlib takes ten times as long
    rest, pieces = (os.fspath(path) for path in paths), []
    while piece := list(islice(rest, _PORTION)):
        absolute = [
            os.fsencode(name if os.path.isabs(name) or is_url(name) else here + name)  # noqa: PTH117
            for name in piece
        ]
        pieces.append(arrow_arrays.blobs(absolute))
    return pa.chunked_array(pieces, pa.binary())


def _stamps(names: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 (n, 5), the ``_STAMP`` of every file, -1 where it cannot be determined; and int64 (n,), when it was last
    changed, in ns. An object store has a number that changes with the content in the place of ctime, and no inode."""
    stamps = np.full((len(names), len(_STAMP)), -1, np.int64)
    changed = np.full(len(names), -1, np.int64)
    elsewhere: list[tuple[int, str]] = []
    for at, name in enumerate(name for piece in names.chunks for name in piece.to_pylist()):
        if b"://" in name:
            elsewhere.append((at, os.fsdecode(name)))
            continue
        try:
            status = os.stat(name)  # noqa: PTH116
        except (OSError, ValueError):  # not there, or a name that no file can have: reading it will tell
            continue
        mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
        stamps[at] = status.st_size, mtime, ctime, _signed(status.st_ino), _signed(status.st_dev)
        changed[at] = max(mtime, ctime)  # where ctime is the time of making (Windows, FAT), mtime is the later one
    if elsewhere:
        for (at, _), stamp in zip(elsewhere, stamps_elsewhere([url for _, url in elsewhere]), strict=True):
            if stamp is not None:
                size, version, changed[at] = stamp
                stamps[at, :3] = size, changed[at], version
    return stamps, changed


def _signed(number: int) -> int:
    """The same 64 bits with a sign, as Arrow's int64 has it."""
    return (number & ((1 << 64) - 1)) - ((number & (1 << 63)) << 1)


def _is_any_elsewhere(names: pa.ChunkedArray) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring(names, b"://")).as_py())


def _inspect(name: bytes, size: int, check: Callable[[bytes], str]) -> Content:
    try:
        if size > MAX_BYTES:
            raise too_large(size)
        content = read_bytes(as_path(os.fsdecode(name)))
        pixels = check(content)
    except CellError as error:
        reason = error.what + (f" ({error.found})" if error.found else "")
        return Content("", "", reason, is_passing=isinstance(error.__cause__, OSError))
    except MemoryError:
        return Content("", "", "needs more memory than there is", is_passing=True)
    return Content(hash_content(content), pixels)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("path", pa.binary()),
            *((name, pa.int64()) for name in _STAMP),
            ("bytes_hash", pa.string()),
            ("pixels", pa.string()),
            ("fault", pa.string()),
        ],
        # What decodes, and to which pixels, is part of how cells are prepared.
        {"preparation": PREPARATION},
    )


def _news(
    names: Sequence[bytes],
    stamps: NDArray[np.int64],
    is_settled: NDArray[np.bool_],
    found: Sequence[Content | None],
    read: Sequence[int],
) -> pa.Table:
    """Rows for what has been read just now, as far as it is settled."""
    import pyarrow as pa

    at = [i for i in read if is_settled[i] and (content := found[i]) is not None and not content.is_passing]
    contents = [content for i in at if (content := found[i]) is not None]
    return pa.table(
        [
            arrow_arrays.blobs([names[i] for i in at]),
            *(arrow_arrays.numbers(stamps[at, column]) for column in range(len(_STAMP))),
            arrow_arrays.texts([content.bytes_hash for content in contents]),
            arrow_arrays.texts([content.pixels for content in contents]),
            arrow_arrays.texts([content.fault for content in contents]),
        ],
        schema=_schema(),
    )


def _updated(known: pa.Table, new: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = known.filter(pc.invert(pc.is_in(known["path"], value_set=new["path"])))
    return pa.concat_tables([kept, new])


def _read(path: Path) -> pa.Table:
    """The stored index, or an empty one where there is none, its checksum is off, or it is of another preparation."""
    import pyarrow as pa

    try:
        stored = path.read_bytes()
    except OSError:
        return arrow_arrays.empty(_schema())
    content = pa.py_buffer(memoryview(stored)[64:])
    if hashlib.sha256(content).hexdigest().encode() != stored[:64]:
        return arrow_arrays.empty(_schema())
    known = pa.ipc.open_stream(content).read_all()
    return known if known.schema.equals(_schema(), check_metadata=True) else arrow_arrays.empty(_schema())


def _write(path: Path, known: pa.Table) -> None:
    import pyarrow as pa

    with replacing(path) as stream:
        stream.write(b"0" * 64)  # room for the sum, which is known when the last byte is
        summed = _Summed(stream)
        with pa.ipc.new_stream(pa.PythonFile(summed, "w"), known.schema) as writer:
            writer.write_table(known)
        stream.seek(0)
        stream.write(summed.sum.hexdigest().encode())


class _Summed(RawIOBase):
    """A stream that adds up what passes through it on its way to another."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.sum = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.sum.update(content)
        return self._stream.write(content)
