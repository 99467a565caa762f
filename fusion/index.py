"""What is in which file, remembered: (path, size, mtime) -> content hash and whether it decodes.

Ten thousand unchanged pictures are then not read again. The index is a cache and nothing more: a damaged or missing
one is made anew, and two processes writing it at once only lose each other's news.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fusion.cells import CellError, decode_mask, decode_picture, read_bytes
from fusion.files import sha256, write_atomically

_log = logging.getLogger("fusion")

#: A file changed this shortly before it was read may change again within one tick of its clock: it is not remembered.
_SETTLED_NS = 2_000_000_000

#: Reading and hashing let go of the interpreter lock; beyond eight threads a disk gains nothing.
_THREADS = min(8, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
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
        pictures: Sequence[Path],
        masks: Sequence[Path] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[Path, Content]:
        """The content of every file; those unknown or changed are read, hashed and decoded once.

        Raises nothing for a bad file: its ``fault`` says what is wrong with it.
        """
        # Absolute names: the same file is known again from another working folder.
        names = {path: path.absolute() for path in (*pictures, *masks)}
        wanted = {names[path]: decode_picture for path in pictures}
        wanted |= {names[path]: decode_mask for path in masks}
        stamps = {path: _stamp(path) for path in wanted}
        stale = [path for path in wanted if self._known.get(path, (None,))[0] != stamps[path] or stamps[path] is None]
        fresh: dict[Path, Content] = {}
        with ThreadPoolExecutor(_THREADS) as pool:
            for path, content in zip(stale, pool.map(lambda path: _inspect(path, wanted[path]), stale), strict=True):
                fresh[path] = content
                if progress is not None:
                    progress(len(fresh), len(stale))
        self.files_read += len(stale)
        self._remember(fresh, stamps)
        return {path: fresh[name] if name in fresh else self._known[name][1] for path, name in names.items()}

    def _remember(self, fresh: dict[Path, Content], stamps: dict[Path, tuple[int, int] | None]) -> None:
        now = time.time_ns()
        settled = {
            path: (stamp, content)
            for path, content in fresh.items()
            if (stamp := stamps[path]) is not None and now - stamp[1] > _SETTLED_NS
        }
        if settled:
            self._known |= settled
            try:
                _write(self.path, self._known)
            except OSError as error:  # a read-only store serves well for reading features
                reason = error.strerror or error
                _log.warning("cannot remember file contents in %s: %s; they are read again", self.path, reason)


_Known = dict[Path, tuple[tuple[int, int], Content]]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _inspect(path: Path, decode: Callable) -> Content:
    try:
        content = read_bytes(path)
        decode(content)
    except CellError as error:
        return Content("", error.what + (f" ({error.found})" if error.found else ""))
    return Content(sha256(content))


def _read(path: Path) -> _Known:
    """The stored index, or an empty one where there is none or its checksum is off."""
    import pyarrow as pa

    try:
        stored = path.read_bytes()
    except OSError:
        return {}
    if sha256(stored[64:]).encode() != stored[:64]:
        return {}
    columns = pa.ipc.open_stream(stored[64:]).read_all().to_pydict()
    rows = zip(*(columns[name] for name in ("path", "size", "mtime_ns", "sha256", "fault")), strict=True)
    return {Path(os.fsdecode(name)): ((size, mtime), Content(sha, fault)) for name, size, mtime, sha, fault in rows}


def _write(path: Path, known: _Known) -> None:
    import pyarrow as pa

    table = pa.table(
        {
            # Names are bytes on most systems: text would refuse some of them.
            "path": pa.array([os.fsencode(name) for name in known], pa.binary()),
            "size": pa.array([stamp[0] for stamp, _ in known.values()], pa.int64()),
            "mtime_ns": pa.array([stamp[1] for stamp, _ in known.values()], pa.int64()),
            "sha256": pa.array([content.sha256 for _, content in known.values()], pa.string()),
            "fault": pa.array([content.fault for _, content in known.values()], pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    write_atomically(path, sha256(body).encode() + body)
