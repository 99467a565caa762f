"""What is in which file, remembered: (path, size, mtime) -> content hash and whether it decodes.

A hundred thousand unchanged pictures are then known again in seconds. The index is a cache and nothing more: a damaged
or missing one is made anew, and two processes writing it at once only lose each other's news.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.files import replacing, sha256
from fusion.pictures import CellError, check_picture, read_bytes

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("fusion")

#: A file changed this shortly before it was read may change again within one tick of its clock: it is not remembered.
_SETTLED_NS = 2_000_000_000

#: Reading and hashing let go of the interpreter lock; beyond eight threads a disk gains nothing.
_THREADS = min(8, 2 * (os.cpu_count() or 1))

#: Files that are read between two looks at the clock, and seconds after which what is known so far is written down.
_PORTION, _REMEMBER_SECONDS = 1024, 60.0


@dataclass(frozen=True, slots=True)
class Content:
    """What one file holds: ``sha256`` of its bytes ("" where unreadable) and ``fault``, why it cannot be used."""

    sha256: str
    fault: str = ""


class FileIndex:
    """Content hashes of files, kept in one file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = _read(path)
        self.files_read = 0

    def look_up(
        self,
        paths: Sequence[Path],
        check: Callable[[bytes], object] = check_picture,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Content]:
        """The content of every file; those unknown or changed are read, hashed and checked once.

        Raises nothing for a bad file: its ``fault`` says what is wrong with it.
        """
        names = _absolute(paths)
        stamps = _stamps(names)
        contents, is_current = self._find(names, stamps)
        stale = np.flatnonzero(~is_current).tolist()
        self.files_read += len(stale)
        fresh: dict[int, Content] = {}
        started = time.monotonic()
        try:
            for done, at, content in _inspect_all(paths, stale, check):
                contents[at] = fresh[at] = content
                if progress is not None:
                    progress(done, len(stale))
                if done % _PORTION == 0 and time.monotonic() - started > _REMEMBER_SECONDS:
                    self._remember(names, stamps, fresh)
                    started, fresh = time.monotonic(), {}
        finally:  # also on an interrupt: what has been read is not read again
            self._remember(names, stamps, fresh)
        return contents

    def _find(self, names: Sequence[bytes], stamps: NDArray[np.int64]) -> tuple[list[Content], NDArray[np.bool_]]:
        """What is remembered of every file, and whether the file is still the same."""
        import pyarrow as pa
        import pyarrow.compute as pc

        at = pc.index_in(pa.array(names, pa.binary()), value_set=self._known["path"])
        if not len(self._known):
            return [Content("")] * len(names), np.zeros(len(names), bool)
        rows = self._known.drop_columns(["path"]).take(pc.fill_null(at, 0))
        remembered = np.stack([rows["size"].to_numpy(), rows["mtime_ns"].to_numpy()], axis=1)
        is_known = at.is_valid().to_numpy(zero_copy_only=False)
        contents = list(map(Content, rows["sha256"].to_pylist(), rows["fault"].to_pylist()))
        return contents, is_known & (remembered == stamps).all(axis=1) & (stamps[:, 0] >= 0)

    def _remember(self, names: Sequence[bytes], stamps: NDArray[np.int64], fresh: dict[int, Content]) -> None:
        now = time.time_ns()
        settled = {i: content for i, content in fresh.items() if stamps[i, 0] >= 0 and now - stamps[i, 1] > _SETTLED_NS}
        if settled:
            self._known = _updated(self._known, names, stamps, settled)
            try:
                _write(self.path, self._known)
            except OSError as error:  # a read-only store serves well for reading features
                reason = error.strerror or error
                _log.warning("cannot remember file contents in %s: %s; they are read again", self.path, reason)


def _absolute(paths: Sequence[Path]) -> list[bytes]:
    """Absolute names, so that the same file is known again from another working folder. Bytes, as names are on most
    systems: text would refuse some of them."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118  # pathlib takes ten times as long
    return [os.fsencode(name if os.path.isabs(name) else here + name) for name in map(os.fspath, paths)]  # noqa: PTH117


def _stamps(names: Sequence[bytes]) -> NDArray[np.int64]:
    """int64 (n, 2): size and time of change in ns of every file, -1 where it cannot be told."""
    stamps = np.full((len(names), 2), -1, np.int64)
    for at, name in enumerate(names):
        try:
            status = os.stat(name)  # noqa: PTH116
        except (OSError, ValueError):  # not there, or a name that no file can have: reading it will tell
            continue
        stamps[at] = status.st_size, status.st_mtime_ns
    return stamps


def _inspect_all(
    paths: Sequence[Path], stale: Sequence[int], check: Callable[[bytes], object]
) -> Iterator[tuple[int, int, Content]]:
    """How many are done, which one this is, and what it holds."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(stale), _PORTION):  # a million tasks waiting in the pool would fill the memory
            part = stale[start : start + _PORTION]
            found = pool.map(lambda at: _inspect(paths[at], check), part)
            for done, (at, content) in enumerate(zip(part, found, strict=True), start + 1):
                yield done, at, content


def _inspect(path: Path, check: Callable[[bytes], object]) -> Content:
    try:
        content = read_bytes(path)
        check(content)
    except CellError as error:
        return Content("", error.what + (f" ({error.found})" if error.found else ""))
    except MemoryError:
        return Content("", "needs more memory than there is")
    return Content(sha256(content))


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("path", pa.binary()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("sha256", pa.string()),
            ("fault", pa.string()),
        ]
    )


def _updated(known: pa.Table, names: Sequence[bytes], stamps: NDArray[np.int64], fresh: dict[int, Content]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    at = list(fresh)
    new = pa.table(
        [
            pa.array([names[i] for i in at], pa.binary()),
            pa.array(stamps[at, 0]),
            pa.array(stamps[at, 1]),
            pa.array([content.sha256 for content in fresh.values()], pa.string()),
            pa.array([content.fault for content in fresh.values()], pa.string()),
        ],
        schema=_schema(),
    )
    kept = known.filter(pc.invert(pc.is_in(known["path"], value_set=new["path"])))
    return pa.concat_tables([kept, new]).combine_chunks()


def _read(path: Path) -> pa.Table:
    """The stored index, or an empty one where there is none or its checksum is off."""
    import pyarrow as pa

    try:
        stored = path.read_bytes()
    except OSError:
        return _schema().empty_table()
    content = pa.py_buffer(stored).slice(64)
    if hashlib.sha256(content).hexdigest().encode() != stored[:64]:
        return _schema().empty_table()
    return pa.ipc.open_stream(content).read_all()


def _write(path: Path, known: pa.Table) -> None:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, known.schema) as writer:
        writer.write_table(known)
    body = sink.getvalue()
    with replacing(path) as stream:
        stream.write(hashlib.sha256(body).hexdigest().encode())
        stream.write(body)
